"""Keep a new pair of tokens while the database can't be written: sealed, in a local spool and in Redis."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import structlog
from redis import Redis

from models.crypto.rotation import reseal
from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import KeyMissing, KeyServiceUnavailable, Place, Vault, VaultError
from models.oauth.token_pair import TokenPair, pack, unpack
from models.oauth.token_response import TokenOutcome, TokensGranted
from models.store.sealed_fields import name_key
from worker.deadlines import shield
from worker.tokens.data_keys import fetching_keys
from worker.tokens.spool_backends import ParkingUnavailable, RedisHash, Shelf, Spool

parked_key = "breezesync:parked"
longest_request = timedelta(minutes=10)
"""No request takes that long from its reservation to its save."""
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
    """A parked pair as it is sealed in one of the two places."""

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
        """Keep the pair; return False, with a log line, if it could be kept in neither place.

        The spool comes first: it waits for no server.
        """
        sealed = self.vault.seal_whatever_happens(pack(pair), _place(ticket)).text
        kept = {where: self._shelf(where).keep(ticket.name, sealed) for where in places}
        log = structlog.get_logger("parking")
        (log.warning if any(kept.values()) else log.critical)("pair.parked", ticket=ticket.name, **kept)
        return any(kept.values())

    def reserve(self, ticket: Ticket) -> None:
        """Make sure, before a token leaves, that the pair which answers it could be parked.

        Raises `ParkingUnavailable` if it could not: the disk is full, and Redis takes no writes.
        """
        if not any(self._shelf(where).reserve(ticket.name) for where in places):
            raise ParkingUnavailable(f"no token leaves: neither {self.spool} nor Redis could keep the new pair")

    def release_forgotten(self) -> None:
        """Give back what was reserved on this machine by processes that died since."""
        Spool(self.spool).release_older_than(longest_request.total_seconds())

    @contextmanager
    def shielding(self, ticket: Ticket, outcome: TokenOutcome, at: datetime) -> Iterator[None]:
        """Park a pair granted `at` if the block that saves it fails, or takes so long that its process may end first.

        If the pair is saved after all, it stays parked until its recovery finds that. What `reserve` set apart for the
        pair is given back.
        """
        if not isinstance(outcome, TokensGranted):
            Spool(self.spool).release(ticket.name)
            yield
            return
        pair = TokenPair(outcome, at)
        try:
            with shield(lambda: self.park(ticket, pair), BaseException):
                yield
        finally:
            Spool(self.spool).release(ticket.name)

    def find(self, ticket: Ticket) -> TokenPair | None:
        """Return the pair parked under this ticket, if any. Raises `ParkingUnavailable` if that can't be known.

        Spool and Redis count the same: the first pair that opens is returned.
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
        """Open a sealed pair; return None, with a log line, if it is damaged."""
        if sealed is None:
            return None
        try:
            return unpack(self._unseal(Sealed(sealed), ticket))
        except (KeyMissing, KeyServiceUnavailable) as missing:
            structlog.get_logger("parking").error("pair.locked", ticket=ticket.name, error=str(missing))
            raise ParkingUnavailable(f"a pair is parked, and does not open: {missing}") from missing
        except VaultError as error:
            structlog.get_logger("parking").error("pair.unreadable", ticket=ticket.name, error=str(error))
            return None

    @fetching_keys
    def _unseal(self, sealed: Sealed, ticket: Ticket) -> Secret:
        return self.vault.open(sealed, _place(ticket))

    def drop(self, ticket: Ticket) -> None:
        """Delete a pair that was saved or is no longer needed; a copy that can't be deleted now is deleted later."""
        for where in places:
            self._shelf(where).drop(ticket.name)

    def tickets(self) -> list[Ticket]:
        """Return every ticket parked in Redis or on this machine, except in a place that does not answer."""
        found: set[Ticket] = set()
        for where in places:
            with suppress(ParkingUnavailable):
                found |= set(self._tickets_in(where))
        return sorted(found, key=lambda ticket: ticket.name)

    def seals(self, where: Where) -> list[ParkedSeal]:
        """Return every pair that is parked there, still sealed. Raises `ParkingUnavailable`."""
        found = [(ticket, self._shelf(where).read(ticket.name)) for ticket in self._tickets_in(where)]
        return [ParkedSeal(ticket, where, Sealed(sealed)) for ticket, sealed in found if sealed is not None]

    def reseal(self, found: ParkedSeal) -> bool:
        """Bring a parked pair under the key that seals now; return False if it was dropped or parked again since.

        Raises `VaultError` if its key does not open, `KeyServiceUnavailable`, and `ParkingUnavailable` if it can't be
        written. If a pair comes back that was dropped meanwhile (see `Spool`), its recovery finds it superseded.
        """
        [sealed] = reseal(self.vault, [(found.sealed, _place(found.ticket))])
        if isinstance(sealed, VaultError):
            raise sealed
        return self._shelf(found.where).replace(found.ticket.name, found.sealed.text, sealed.text)

    def count_locked(self, prefixes: Sequence[str]) -> dict[str, int]:
        """Count, by key, the parked pairs of which no copy begins with one of these prefixes; a place may be away."""
        keys_of, open_ones = defaultdict[str, set[str]](set), set[str]()
        for where in places:
            with suppress(ParkingUnavailable):
                for found in self.seals(where):
                    keys_of[found.ticket.name].add(name_key(found.sealed))
                    if found.sealed.text.startswith(tuple(prefixes)):
                        open_ones.add(found.ticket.name)
        locked = [name for pair, names in keys_of.items() if pair not in open_ones for name in names if name != "?"]
        return dict(Counter(locked))

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
