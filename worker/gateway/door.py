"""Who may ask the gateway: those who have a key; and what they ask, as its endpoints are given it."""

import re
import time
from dataclasses import dataclass, field
from typing import Final

from limits import RateLimitItemPerMinute
from limits.strategies import FixedWindowRateLimiter
from starlette.types import Receive, Scope, Send

from models.gateway.keys import GatewayKey, find_key
from models.gateway.problems import Problem, ProblemType, Refusal, refuse
from worker.web.guard import BoundedStorage
from worker.web.protocol import block_of

wrong_keys_per_minute: Final = 60
id_pattern: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(slots=True, eq=False)
class Door:
    """Lets in who has a key. A wrong one is answered a number of times a minute for each address."""

    keys: tuple[GatewayKey, ...]
    per_minute: int = wrong_keys_per_minute
    limiter: FixedWindowRateLimiter = field(default_factory=lambda: FixedWindowRateLimiter(BoundedStorage(16_384)))

    def admit(self, scope: Scope) -> GatewayKey:
        """Return the key that was given. Raises `Refusal`."""
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, key = given[0].decode("latin-1").partition(" ") if len(given) == 1 else ("", "", "")
        found = find_key(self.keys, key.strip()) if scheme.lower() == "bearer" else None
        if found is not None:
            return found
        block = block_of(address_of(scope) or "")
        rate = RateLimitItemPerMinute(self.per_minute)
        if not self.limiter.hit(rate, block):
            wait = self.limiter.get_window_stats(rate, block).reset_time - time.time()
            raise refuse(ProblemType.rate_limited, "Too many requests with wrong keys came from this address.", wait)
        raise Refusal(
            Problem(
                ProblemType.unauthorized,
                "Send one of GATEWAY_KEYS: Authorization: Bearer KEY.",
                headers={"WWW-Authenticate": 'Bearer realm="breezesync"'},
            )
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of someone who has a key."""

    scope: Scope
    receive: Receive
    send: Send
    key: GatewayKey

    @property
    def connection_id(self) -> str:
        """Return the connection's id in the path. Raises `Refusal` if it can't be one."""
        given: str = self.scope["path_params"]["connection_id"]
        if not id_pattern.fullmatch(given):
            raise refuse(ProblemType.connection_unknown, "No connection has an id like this.")
        return given

    @property
    def call_id(self) -> str:
        """Return the call's id in the path. Raises `Refusal` if it can't be one."""
        given: str = self.scope["path_params"]["call_id"]
        if not id_pattern.fullmatch(given):
            raise refuse(ProblemType.call_unknown, "No call has an id like this.")
        return given

    @property
    def address(self) -> str | None:
        """Return the address that the request came from."""
        return address_of(self.scope)


def address_of(scope: Scope) -> str | None:
    """Return the address that the request came from."""
    client = scope.get("client")
    return None if client is None else str(client[0])
