"""Keep what came of a call's request while the database is away: sealed, in Redis, where any worker finds it."""

from dataclasses import dataclass

import structlog
from redis import Redis
from redis.exceptions import NoPermissionError, RedisError

from models.crypto.sealed_text import Place
from models.crypto.secrets import Sealed, Secret
from models.crypto.vault import Vault, VaultError
from models.errors import RedisUnavailable
from models.gateway.arrived import Arrived, pack_arrived, unpack_arrived
from models.gateway.call import StoredCall, bodies_kept
from worker.tokens.data_keys import fetching_keys


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """One value for each request, by its call and the job that made it. It goes by itself when bodies are erased.

    There is one at most for each call that was on its way when the database went, so they are few.
    """

    vault: Vault
    redis: Redis

    def keep(self, call: StoredCall, arrived: Arrived) -> bool:
        """Keep it; return False if Redis does not take it."""
        sealed = self.vault.seal_whatever_happens(Secret(pack_arrived(arrived)), _place(call)).text
        try:
            self.redis.set(_key(call), sealed, ex=bodies_kept)
        except RedisError:
            return False
        return True

    def find(self, call: StoredCall) -> Arrived | None:
        """Return what came of the request of the job that has the call; None if nothing is kept that opens.

        Raises `RedisUnavailable` if that can't be known, and `KeyServiceUnavailable`.
        """
        try:
            stored = self.redis.get(_key(call))
        except NoPermissionError:
            # A Redis user from before answers were kept: no worker could have kept one.
            return None
        except RedisError as error:
            raise RedisUnavailable(f"it is not known whether an answer is kept ({type(error).__name__})") from error
        if stored is None:
            return None
        text = stored.decode(errors="replace") if isinstance(stored, bytes) else str(stored)
        try:
            return unpack_arrived(self._unseal(Sealed(text), call).reveal())
        except VaultError as error:
            structlog.get_logger("calls").error("answer.unreadable", call_id=call.id, error=str(error))
            return None

    @fetching_keys
    def _unseal(self, sealed: Sealed, call: StoredCall) -> Secret:
        return self.vault.open(sealed, _place(call))

    def drop(self, call: StoredCall) -> None:
        """Delete it after it was saved; if that fails it goes by itself."""
        try:
            self.redis.delete(_key(call))
        except RedisError:
            structlog.get_logger("calls").info("answer.left", call_id=call.id)


def _key(call: StoredCall) -> str:
    return f"breezesync:answers:{call.id}:{call.lease_owner}"


def _place(call: StoredCall) -> Place:
    return Place("kept_answer", call.id, str(call.lease_owner))
