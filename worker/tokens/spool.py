"""Where a new pair of tokens waits while the database can't take it: a local spool and Redis, both sealed."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from threading import Timer
from typing import Literal

import structlog
from redis import Redis

from models.crypto.secrets import Sealed
from models.crypto.vault import KeyMissing, Place, Vault, VaultError
from models.oauth.token_pair import TokenPair, pack, unpack
from models.oauth.token_response import TokenOutcome, TokensGranted
from worker.tokens.spool_backends import ParkingUnavailable, RedisHash, Shelf, Spool

parked_key = "breezesync:parked"
longest_save = timedelta(seconds=3)
Kind = Literal["refresh", "exchange"]
Where = Literal["spool", "redis"]
places: tuple[Where, ...] = ("spool", "redis")


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
    """A pair is parked in both places, so that either may be lost; `redis` gives bytes (see `RedisHash`)."""

    vault: Vault
    redis: Redis
    spool: Path

    def park(self, ticket: Ticket, pair: TokenPair) -> bool:
        """Keeps the pair; False, and a line for the operator, where neither place took it.

        The spool comes first: it does not wait for anybody.
        """
        sealed = self.vault.seal(pack(pair), _place(ticket)).text
        kept = {where: self._shelf(where).keep(ticket.name, sealed) for where in places}
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
                pair = self._open(ticket, self._shelf(where).read(ticket.name))
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
        for where in places:
            self._shelf(where).drop(ticket.name)

    def tickets(self) -> list[Ticket]:
        """Every ticket parked in Redis or on this machine; what stands in a place that is away comes later."""
        found: set[Ticket] = set()
        for where in places:
            with suppress(ParkingUnavailable):
                found |= set(self._tickets_in(where))
        return sorted(found, key=lambda ticket: ticket.name)

    def seals(self, where: Where) -> list[ParkedSeal]:
        """Every pair that is parked there, sealed as it is. Raises `ParkingUnavailable`."""
        found = [(ticket, self._shelf(where).read(ticket.name)) for ticket in self._tickets_in(where)]
        return [ParkedSeal(ticket, where, Sealed(sealed)) for ticket, sealed in found if sealed is not None]

    def reseal(self, found: ParkedSeal) -> bool:
        """Puts a seal of the first key where this one still stands; False where it was dropped, or parked anew, since.

        Raises `VaultError` where it does not open, `ParkingUnavailable` where it can't be written. Should one
        come back that was dropped meanwhile (see `Spool`), whoever takes it in finds it superseded.
        """
        place = _place(found.ticket)
        sealed = self.vault.seal(self.vault.open(found.sealed, place), place)
        return self._shelf(found.where).replace(found.ticket.name, found.sealed.text, sealed.text)

    def _tickets_in(self, where: Where) -> list[Ticket]:
        names = self._shelf(where).names()
        return [ticket for name in sorted(names) if (ticket := _read_ticket(name)) is not None]

    def _shelf(self, where: Where) -> Shelf:
        return Spool(self.spool) if where == "spool" else RedisHash(self.redis, parked_key)


def _read_ticket(name: str) -> Ticket | None:
    match name.split("-"):
        case ["refresh", id_, generation] if generation.isdecimal():
            return Ticket("refresh", id_, int(generation))
        case ["exchange", id_, "0"]:
            return Ticket("exchange", id_)
        case _:
            return None


def _place(ticket: Ticket) -> Place:
    return Place("parking", ticket.name, "pair")
