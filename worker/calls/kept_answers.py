"""Keep what came of a call's request while the database can't take it: sealed, in Redis, where any worker finds it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import structlog
from redis import Redis
from redis.exceptions import NoPermissionError, RedisError

from models.crypto.rotation import reseal
from models.crypto.sealed_text import Place
from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import Vault, VaultError
from models.errors import RedisUnavailable, Transient
from models.gateway.arrived import Arrived, pack_arrived, unpack_arrived
from models.gateway.call import StoredCall, bodies_kept
from worker.deadlines import shield
from worker.tokens.data_keys import fetching_keys

prefix: Final = "breezesync:answers:"
most_names: Final = 1000
"""So many keys are asked for, or deleted, at once."""


@dataclass(frozen=True, slots=True)
class KeptSeal:
    """A kept answer as it is sealed, by the call and the request that it came of."""

    call_id: str
    attempt: int
    sealed: Sealed


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """One value for each request, by its call and how many the call had made. It goes by itself when bodies are erased.

    There is one at most for each call that was on its way when the database went, so they are few. `redis` gives bytes.
    """

    vault: Vault
    redis: Redis

    @contextmanager
    def shielding(self, call: StoredCall, arrived: Arrived) -> Iterator[None]:
        """Keep it if the block that saves it finds no database, or takes so long that its process may end first.

        What was kept beside a save that works after all is dropped.
        """
        with shield(lambda: self.keep(call, arrived), Transient) as beside:
            yield
        if beside.ident is not None:
            # Race: it is saved while it is still being kept; what is kept after the drop would stay for a day.
            beside.join()
            self.drop({call.id: call.attempts})

    def keep(self, call: StoredCall, arrived: Arrived) -> bool:
        """Keep it; return False, with a log line, if Redis does not take it."""
        sealed = self.vault.seal_whatever_happens(Secret(pack_arrived(arrived)), _place(call.id, call.attempts)).text
        try:
            self.redis.set(_name(call.id, call.attempts), sealed, ex=bodies_kept)
        except RedisError as error:
            structlog.get_logger("calls").error("answer.not_kept", call_id=call.id, error=type(error).__name__)
            return False
        structlog.get_logger("calls").warning("answer.kept", call_id=call.id)
        return True

    def find(self, call: StoredCall) -> Arrived | None:
        """Return what came of the request of the job that has the call; None if nothing is kept that opens.

        Raises `RedisUnavailable` if that can't be known, and `KeyServiceUnavailable`.
        """
        try:
            stored = self._read(_name(call.id, call.attempts))
        except NoPermissionError:
            # A Redis user from before answers were kept: no worker could have kept one.
            return None
        except RedisError as error:
            raise RedisUnavailable(f"it is not known whether an answer is kept ({type(error).__name__})") from error
        if stored is None:
            return None
        try:
            return unpack_arrived(self._unseal(Sealed(stored), call).reveal())
        except VaultError as error:
            structlog.get_logger("calls").error("answer.unreadable", call_id=call.id, error=str(error))
            return None

    @fetching_keys
    def _unseal(self, sealed: Sealed, call: StoredCall) -> Secret:
        return self.vault.open(sealed, _place(call.id, call.attempts))

    def drop(self, calls: Mapping[str, int]) -> None:
        """Delete all that is kept of these calls, each given with the number of its requests.

        If that fails, it goes when a later job has seen the call, or by itself.
        """
        names = [_name(call_id, attempt + 1) for call_id, attempts in calls.items() for attempt in range(attempts)]
        try:
            for first in range(0, len(names), most_names):
                self.redis.delete(*names[first : first + most_names])
        except RedisError as error:
            structlog.get_logger("calls").warning("answers.left", calls=len(calls), error=type(error).__name__)

    def seals(self) -> list[KeptSeal]:
        """Return every answer that is kept, still sealed. Raises `RedisUnavailable`."""
        found = list[KeptSeal]()
        try:
            # A scan may return a key more than once.
            for name in set(self.redis.scan_iter(match=f"{prefix}*", count=most_names)):
                call_id, _, attempt = name.decode(errors="replace").removeprefix(prefix).partition(":")
                stored = self._read(name) if attempt.isdecimal() else None
                if stored is not None:
                    found.append(KeptSeal(call_id, int(attempt), Sealed(stored)))
        except RedisError as error:
            raise _away(error) from error
        return found

    def reseal(self, found: KeptSeal) -> bool:
        """Bring a kept answer under the key that seals now; return False if it was dropped or kept again since.

        Raises `VaultError` if its key does not open, `KeyServiceUnavailable`, and `RedisUnavailable`.
        """
        [sealed] = reseal(self.vault, [(found.sealed, _place(found.call_id, found.attempt))])
        if isinstance(sealed, VaultError):
            raise sealed
        name, after = _name(found.call_id, found.attempt), sealed.text

        def step(pipe: Any) -> bool:
            # Race: its job saves and drops it meanwhile; it must not come back.
            is_unchanged = _text(pipe.get(name)) == found.sealed.text
            pipe.multi()
            if is_unchanged:
                pipe.set(name, after, keepttl=True)
            return is_unchanged

        try:
            return bool(self.redis.transaction(cast(Any, step), name, value_from_callable=True))
        except RedisError as error:
            raise _away(error) from error

    def _read(self, name: str | bytes) -> str | None:
        return _text(self.redis.get(name))


def _away(error: RedisError) -> RedisUnavailable:
    return RedisUnavailable(f"it is not known which answers of calls Redis keeps ({type(error).__name__})")


def _text(stored: object) -> str | None:
    if stored is None:
        return None
    return stored.decode(errors="replace") if isinstance(stored, bytes) else str(stored)


def _name(call_id: str, attempt: int) -> str:
    return f"{prefix}{call_id}:{attempt}"


def _place(call_id: str, attempt: int) -> Place:
    return Place("kept_answer", call_id, str(attempt))
