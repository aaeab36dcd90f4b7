"""The gateway's door: lets in who has a key, and counts and records the rest in a way that no flood can fill a disk."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import structlog
from limits import RateLimitItemPerMinute
from limits.strategies import FixedWindowRateLimiter
from starlette.types import Scope

from models.audit.entry import Action, Entry, is_recorded
from models.clock import is_over
from models.gateway.keys import GatewayKey, find_key
from models.gateway.problems import Problem, ProblemType, Refusal, refuse
from worker.gateway.office import Office
from worker.metrics.counters import Metrics
from worker.web.guard import BoundedStorage
from worker.web.protocol import block_of

wrong_keys_per_minute: Final = 60
most_sources: Final = 16_384


class KeyFault(StrEnum):
    """What is wrong with a request at the gateway's door."""

    missing = "missing"
    wrong = "wrong"


@dataclass(slots=True)
class RefusedKeys:
    """The refusals of one process.

    A source gets one line a minute at most. Of the sources of one minute the first ten get theirs, then the 20th, the
    50th, the 100th and so on: a flood may come from many addresses. A minute begins with the first refusal after the
    last one.

    began_at: when the present minute began.
    sources: which were refused in it, up to `most_sources`.
    left_out: how many refusals have got no line since the last line.
    """

    began_at: datetime | None = None
    sources: set[str] = field(default_factory=set)
    left_out: int = 0

    def count(self, source: str, now: datetime) -> int | None:
        """Count a refusal; return how many were left out before it if it gets a line, else None."""
        if is_over(self.began_at, timedelta(minutes=1), now):
            self.began_at, self.sources = now, set()
        is_first = source not in self.sources and len(self.sources) < most_sources
        if is_first:
            self.sources.add(source)
        if not is_first or not is_recorded(len(self.sources)):
            self.left_out += 1
            return None
        left_out, self.left_out = self.left_out, 0
        return left_out


@dataclass(slots=True, eq=False)
class Door:
    """Lets in who has a key. A wrong one is answered a number of times a minute for each address."""

    keys: tuple[GatewayKey, ...]
    office: Office
    metrics: Metrics
    per_minute: int = wrong_keys_per_minute
    limiter: FixedWindowRateLimiter = field(
        default_factory=lambda: FixedWindowRateLimiter(BoundedStorage(most_sources))
    )
    refused: RefusedKeys = field(default_factory=RefusedKeys)

    def admit(self, scope: Scope) -> GatewayKey:
        """Return the key that was given. Raises `Refusal`."""
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, key = given[0].decode("latin-1").partition(" ") if len(given) == 1 else ("", "", "")
        found = find_key(self.keys, key.strip()) if scheme.lower() == "bearer" else None
        if found is not None:
            return found
        address = address_of(scope)
        block = block_of(address or "")
        self._note(KeyFault.wrong if given else KeyFault.missing, address, block)
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

    def _note(self, fault: KeyFault, address: str | None, block: str) -> None:
        """Count a refusal, and record it if it gets a line; its answer does not wait for that."""
        self.metrics.count_refused_key(fault)
        left_out = self.refused.count(block, self.office.desk.now())
        if left_out is None:
            return
        structlog.get_logger("gateway").warning(Action.gateway_key_refused.value, reason=fault.value, address=address)
        detail = {"reason": fault.value, "left_out": left_out or None}
        entry = Entry(action=Action.gateway_key_refused, address=address, detail=detail)

        def check(written: "asyncio.Future[None]") -> None:
            error = None if written.cancelled() else written.exception()
            if error is not None:
                # The next line says that this one is missing.
                self.refused.left_out += left_out + 1
                structlog.get_logger("audit").warning("refusal.not_recorded", error=type(error).__name__)

        self.office.ledger.add(entry).add_done_callback(check)


def address_of(scope: Scope) -> str | None:
    """Return the address that the request came from."""
    client = scope.get("client")
    return None if client is None else str(client[0])
