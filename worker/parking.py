"""Where a new pair of tokens waits while the database can't take it: Redis and a local spool, both sealed."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from redis import Redis
from redis.exceptions import RedisError

from models.secrets import Sealed
from models.token_pair import TokenPair, pack, unpack
from models.vault import Place, Vault, VaultError

parked_key = "breezesync:parked"


@dataclass(frozen=True, slots=True)
class Parking:
    """A pair is parked in both, so that either may be lost. `ticket` names what it is for, `refresh-ID-GENERATION`."""

    vault: Vault
    redis: Redis
    spool: Path

    def park(self, ticket: str, pair: TokenPair) -> bool:
        """Keeps the pair; False, and a line for the operator, where neither place took it."""
        sealed = self.vault.seal(pack(pair), _place(ticket)).text
        kept = [self._park_in_redis(ticket, sealed), self._park_in_spool(ticket, sealed)]
        log = structlog.get_logger("parking")
        (log.warning if any(kept) else log.critical)("pair.parked", ticket=ticket, redis=kept[0], spool=kept[1])
        return any(kept)

    def find(self, ticket: str) -> TokenPair | None:
        """The pair parked under this ticket, if one is."""
        sealed = self._read_spool(ticket)
        if sealed is None:
            try:
                sealed = _text(self.redis.hget(parked_key, ticket))
            except RedisError:
                return None
        if sealed is None:
            return None
        try:
            return unpack(self.vault.open(Sealed(sealed), _place(ticket)))
        except VaultError as error:
            structlog.get_logger("parking").error("pair.unreadable", ticket=ticket, error=str(error))
            return None

    def drop(self, ticket: str) -> None:
        """Forgets a pair that was saved, or that nobody needs any more."""
        with suppress(OSError):
            self._path(ticket).unlink()
        try:
            self.redis.hdel(parked_key, ticket)
        except RedisError as error:
            structlog.get_logger("parking").warning("pair.left_in_redis", ticket=ticket, error=type(error).__name__)

    def tickets(self) -> Iterator[str]:
        """Every ticket parked in Redis or on this machine."""
        found = {path.stem for path in self.spool.glob("*.pair")} if self.spool.is_dir() else set()
        try:
            found |= {text for field in self.redis.hkeys(parked_key) if (text := _text(field)) is not None}
        except RedisError as error:
            structlog.get_logger("parking").warning("redis.away", error=type(error).__name__)
        yield from sorted(found)

    def _park_in_redis(self, ticket: str, sealed: str) -> bool:
        try:
            self.redis.hset(parked_key, ticket, sealed)
        except RedisError:
            return False
        return True

    def _park_in_spool(self, ticket: str, sealed: str) -> bool:
        """Whole or not at all: written beside its place, forced to the disk, then moved there."""
        try:
            self.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside = self._path(ticket).with_suffix(".new")
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(sealed)
                file.flush()
                os.fsync(file.fileno())
            beside.rename(self._path(ticket))
        except OSError:
            return False
        return True

    def _read_spool(self, ticket: str) -> str | None:
        try:
            return self._path(ticket).read_text()
        except OSError:
            return None

    def _path(self, ticket: str) -> Path:
        return self.spool / f"{ticket}.pair"


def refresh_ticket(connection_id: str, generation: int) -> str:
    return f"refresh-{connection_id}-{generation}"


def exchange_ticket(authorization_id: str) -> str:
    return f"exchange-{authorization_id}"


def _place(ticket: str) -> Place:
    return Place("parking", ticket, "pair")


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, str) else None
