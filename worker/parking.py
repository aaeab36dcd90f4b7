"""Where a new pair of tokens waits while the database can't take it: a local spool and Redis, both sealed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import mkstemp
from threading import Timer
from typing import Any, Literal, cast

import structlog
from redis import Redis
from redis.exceptions import RedisError

from models.errors import Transient
from models.secrets import Sealed
from models.token_pair import TokenPair, pack, unpack
from models.token_response import TokenOutcome, TokensGranted
from models.vault import KeyMissing, Place, Vault, VaultError

parked_key = "breezesync:parked"
longest_save = timedelta(seconds=3)
redis_away = "Redis, where pairs may be parked, does not answer"
Kind = Literal["refresh", "exchange"]
Where = Literal["spool", "redis"]
places: tuple[Where, ...] = ("spool", "redis")


class ParkingUnavailable(Transient):
    """A place does not answer, or the key of a parked pair is missing: nobody can say that nothing is parked."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a parked pair is for: an exchange by its authorization, or a refresh by connection and generation."""

    kind: Kind
    id: str
    generation: int = 0

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.id}-{self.generation}"


@dataclass(frozen=True, slots=True)
class ParkedSeal:
    """A pair as it stands in one of the two places."""

    ticket: Ticket
    where: Where
    sealed: Sealed


@dataclass(frozen=True, slots=True)
class Parking:
    """A pair is parked in both places, so that either may be lost.

    `redis` gives bytes: a client that decodes would fail on all that is parked where one text is no UTF-8.
    """

    vault: Vault
    redis: Redis
    spool: Path

    def park(self, ticket: Ticket, pair: TokenPair) -> bool:
        """Keeps the pair; False, and a line for the operator, where neither place took it.

        The spool comes first: it does not wait for anybody.
        """
        sealed = self.vault.seal(pack(pair), _place(ticket)).text
        kept = {"spool": self._park_in_spool(ticket, sealed), "redis": self._park_in_redis(ticket, sealed)}
        log = structlog.get_logger("parking")
        (log.warning if any(kept.values()) else log.critical)("pair.parked", ticket=ticket.name, **kept)
        return any(kept.values())

    @contextmanager
    def shielding(self, ticket: Ticket, outcome: TokenOutcome, at: datetime) -> Iterator[None]:
        """Parks a pair that was won `at` where the block that saves it fails, or takes so long that its process may
        end first.

        A pair that was saved after all stands parked until whoever takes it in finds a newer truth.
        """
        if not isinstance(outcome, TokensGranted):
            yield
            return
        pair = TokenPair(outcome, at)
        timer = Timer(longest_save.total_seconds(), self.park, (ticket, pair))
        timer.daemon = True
        timer.start()
        try:
            yield
        except BaseException:
            self.park(ticket, pair)
            raise
        finally:
            timer.cancel()

    def find(self, ticket: Ticket) -> TokenPair | None:
        """The pair parked under this ticket, if one is. Raises `ParkingUnavailable` where that can't be known.

        What stands in the spool is as good as what stands in Redis: the first that opens counts.
        """
        unknown: ParkingUnavailable | None = None
        for where in places:
            try:
                pair = self._open(ticket, self._read(ticket, where))
            except ParkingUnavailable as error:
                unknown = unknown or error
                continue
            if pair is not None:
                return pair
        if unknown is not None:
            raise unknown
        return None

    def _open(self, ticket: Ticket, sealed: str | None) -> TokenPair | None:
        """None, and a line for the operator, where it is damaged: no key opens it any more."""
        if sealed is None:
            return None
        try:
            return unpack(self.vault.open(Sealed(sealed), _place(ticket)))
        except KeyMissing as missing:
            structlog.get_logger("parking").error("pair.locked", ticket=ticket.name, error=str(missing))
            raise ParkingUnavailable(f"a pair is parked, and does not open: {missing}") from missing
        except VaultError as error:
            structlog.get_logger("parking").error("pair.unreadable", ticket=ticket.name, error=str(error))
            return None

    def drop(self, ticket: Ticket) -> None:
        """Forgets a pair that was saved, or that nobody needs any more; what is left of it is dropped another time."""
        with suppress(OSError):
            self._path(ticket).unlink()
        with suppress(RedisError):
            self.redis.hdel(parked_key, ticket.name)

    def tickets(self) -> list[Ticket]:
        """Every ticket parked in Redis or on this machine; what stands in a place that is away comes later."""
        found: set[Ticket] = set()
        for where in places:
            with suppress(ParkingUnavailable):
                found |= set(self._tickets_in(where))
        return sorted(found, key=lambda ticket: ticket.name)

    def seals(self, where: Where) -> list[ParkedSeal]:
        """Every pair that is parked there, sealed as it is. Raises `ParkingUnavailable`."""
        found = [(ticket, self._read(ticket, where)) for ticket in self._tickets_in(where)]
        return [ParkedSeal(ticket, where, Sealed(sealed)) for ticket, sealed in found if sealed is not None]

    def reseal(self, found: ParkedSeal) -> bool:
        """Puts a seal of the first key where this one still stands; False where it was dropped, or parked anew, since.

        Raises `VaultError` where it does not open, `ParkingUnavailable` where it can't be written. Files have no
        lock: a pair dropped in the very instant of the renaming comes back, and whoever takes it in finds it
        superseded.
        """
        place = _place(found.ticket)
        sealed = self.vault.seal(self.vault.open(found.sealed, place), place)
        replace = self._replace_in_spool if found.where == "spool" else self._replace_in_redis
        return replace(found.ticket, found.sealed.text, sealed.text)

    def _tickets_in(self, where: Where) -> list[Ticket]:
        names = self._names_in_spool() if where == "spool" else self._names_in_redis()
        return [ticket for name in sorted(names) if (ticket := _read_ticket(name)) is not None]

    def _names_in_spool(self) -> set[str]:
        try:
            return {path.stem for path in self.spool.iterdir() if path.suffix == ".pair"}
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except OSError as error:
            raise ParkingUnavailable(f"{self.spool} can't be read ({type(error).__name__})") from error

    def _names_in_redis(self) -> set[str]:
        try:
            return {text for name in self.redis.hkeys(parked_key) if (text := _text(name)) is not None}
        except RedisError as error:
            raise ParkingUnavailable(redis_away) from error

    def _read(self, ticket: Ticket, where: Where) -> str | None:
        return self._read_spool(ticket) if where == "spool" else self._read_redis(ticket)

    def _read_spool(self, ticket: Ticket) -> str | None:
        path = self._path(ticket)
        try:
            return path.read_text(errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ParkingUnavailable(f"{path} can't be read ({type(error).__name__})") from error

    def _read_redis(self, ticket: Ticket) -> str | None:
        try:
            return _text(self.redis.hget(parked_key, ticket.name))
        except RedisError as error:
            raise ParkingUnavailable(redis_away) from error

    def _park_in_redis(self, ticket: Ticket, sealed: str) -> bool:
        try:
            self.redis.hset(parked_key, ticket.name, sealed)
        except RedisError:
            return False
        return True

    def _park_in_spool(self, ticket: Ticket, sealed: str) -> bool:
        """Whole or not at all: written beside its place, forced to the disk, then moved there."""
        try:
            self.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_beside(self._path(ticket), sealed).rename(self._path(ticket))
            _force_to_disk(self.spool)
        except OSError:
            return False
        return True

    def _replace_in_redis(self, ticket: Ticket, before: str, after: str) -> bool:
        def step(pipe: Any) -> bool:
            still_stands = _text(pipe.hget(parked_key, ticket.name)) == before
            pipe.multi()
            if still_stands:
                pipe.hset(parked_key, ticket.name, after)
            return still_stands

        try:
            return bool(self.redis.transaction(cast(Any, step), parked_key, value_from_callable=True))
        except RedisError as error:
            raise ParkingUnavailable(redis_away) from error

    def _replace_in_spool(self, ticket: Ticket, before: str, after: str) -> bool:
        path = self._path(ticket)
        try:
            beside = _write_beside(path, after)
            if self._read_spool(ticket) != before:
                beside.unlink()
                return False
            beside.rename(path)
            _force_to_disk(self.spool)
        except OSError as error:
            raise ParkingUnavailable(f"{path} can't be written ({type(error).__name__})") from error
        return True

    def _path(self, ticket: Ticket) -> Path:
        return self.spool / f"{ticket.name}.pair"


def _read_ticket(name: str) -> Ticket | None:
    match name.split("-"):
        case ["refresh", id_, generation] if generation.isdecimal():
            return Ticket("refresh", id_, int(generation))
        case ["exchange", id_, "0"]:
            return Ticket("exchange", id_)
        case _:
            return None


def _write_beside(path: Path, text: str) -> Path:
    """A file of its own, forced to the disk, that only its owner reads; gone again where that fails."""
    descriptor, name = mkstemp(dir=path.parent, prefix=f"{path.stem}-", suffix=".new")
    beside = Path(name)
    try:
        with open(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    return beside


def _force_to_disk(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _place(ticket: Ticket) -> Place:
    return Place("parking", ticket.name, "pair")


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else None
