"""Where a new pair of tokens waits while the database can't take it: a local spool and Redis, both sealed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from threading import Timer
from typing import Literal

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
class Parking:
    """A pair is parked in both places, so that either may be lost."""

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
        for read in (self._read_spool, self._read_redis):
            try:
                pair = self._open(ticket, read(ticket))
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
        """Every ticket parked in Redis or on this machine; what stands in a Redis that is away comes later."""
        names = {path.stem for path in self.spool.glob("*.pair")} if self.spool.is_dir() else set()
        with suppress(RedisError):
            names |= {text for field in self.redis.hkeys(parked_key) if (text := _text(field)) is not None}
        return [ticket for name in sorted(names) if (ticket := _read_ticket(name)) is not None]

    def seals(self) -> list[tuple[Ticket, Sealed]]:
        """Every parked pair as it is sealed, in Redis and on this machine. Raises `ParkingUnavailable`."""
        try:
            in_redis = self.redis.hgetall(parked_key)
        except RedisError as error:
            raise ParkingUnavailable("Redis, where pairs may be parked, does not answer") from error
        found = [(_text(name), _text(sealed)) for name, sealed in in_redis.items()]
        found += [(path.stem, _read(path)) for path in self.spool.glob("*.pair")]
        named = [(_read_ticket(name or ""), sealed) for name, sealed in found]
        return [(ticket, Sealed(sealed)) for ticket, sealed in named if ticket is not None and sealed is not None]

    def reseal(self, ticket: Ticket) -> None:
        """Seals a parked pair anew with the first key, wherever it still stands. Raises `VaultError` where it does not
        open, `ParkingUnavailable` where Redis is away.

        One that is dropped meanwhile and comes back so is found superseded by whoever takes it in.
        """

        def anew(sealed: str) -> str:
            return self.vault.seal(self.vault.open(Sealed(sealed), _place(ticket)), _place(ticket)).text

        in_spool = _read(self._path(ticket))
        if in_spool is not None and not self._park_in_spool(ticket, anew(in_spool)):
            raise ParkingUnavailable(f"{self._path(ticket)} can't be written")
        try:
            in_redis = _text(self.redis.hget(parked_key, ticket.name))
            if in_redis is not None:
                self.redis.hset(parked_key, ticket.name, anew(in_redis))
        except RedisError as error:
            raise ParkingUnavailable("Redis, where pairs may be parked, does not answer") from error

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
            beside = self._path(ticket).with_suffix(".new")
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(sealed)
                file.flush()
                os.fsync(file.fileno())
            beside.rename(self._path(ticket))
            _force_to_disk(self.spool)
        except OSError:
            return False
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


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


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
