"""Count an account's requests before they are sent, for all workers, in Redis."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from redis import Redis, RedisError, WatchError

from models.provider import Provider
from models.rate_limit import Budget, Taken, Wait, count, pause, settle, take

T = TypeVar("T")
wait_without_redis = 5.0
kept_seconds = 120


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request that may be sent now, and the second under which it is counted."""

    key: str
    second: int


@dataclass(frozen=True, slots=True)
class Budgets:
    """The budgets of all accounts: one small value each, changed under WATCH by the rules of `models/rate_limit.py`.

    Limiter libraries count, too, but cannot take the provider's headers into account. `clock` is Redis's own if none is
    given: the same for every machine.
    """

    redis: Redis
    clock: Callable[[], float] | None = None

    def take(self, provider: Provider, account_id: str) -> Ticket | Wait:
        """Count one request; return how long to wait if there is no room, or if Redis does not answer."""
        key = _key(provider, account_id)

        def step(budget: Budget, now: float) -> tuple[Budget | None, Taken | Wait]:
            taken = take(budget, provider.api_requests_per_minute, now)
            return (taken.budget if isinstance(taken, Taken) else None), taken

        try:
            outcome = self._change(key, step)
        except RedisError as error:
            structlog.get_logger("budget").warning("budget.away", error=type(error).__name__)
            return Wait(wait_without_redis)
        return Ticket(key, outcome.second) if isinstance(outcome, Taken) else outcome

    def settle(self, ticket: Ticket, remaining: int | None) -> None:
        """Note the answer to a counted request; `remaining` is what its headers say is left."""
        self._note(ticket.key, lambda budget, now: settle(budget, ticket.second, remaining, now))

    def count(self, provider: Provider, account_id: str, remaining: int | None) -> None:
        """Note a request that could not wait, after its answer."""

        def counted(budget: Budget, now: float) -> Budget:
            return settle(count(budget, now), int(now), remaining, now)

        self._note(_key(provider, account_id), counted)

    def pause(self, provider: Provider, account_id: str, seconds: float) -> None:
        """Send no request for this account for so long, after a 429."""
        self._note(_key(provider, account_id), lambda budget, now: pause(budget, seconds, now))

    def _note(self, key: str, change: Callable[[Budget, float], Budget]) -> None:
        """Change the budget after an answer; if Redis is down, the next answer's headers make up for it."""
        try:
            self._change(key, lambda budget, now: (change(budget, now), None))
        except RedisError as error:
            structlog.get_logger("budget").warning("budget.away", error=type(error).__name__)

    def _change(self, key: str, step: Callable[[Budget, float], tuple[Budget | None, T]]) -> T:
        """Decide on the stored value, and again if another worker changed it meanwhile; one of them always succeeds."""
        pipe: Any
        with self.redis.pipeline() as pipe:
            while True:
                try:
                    pipe.watch(key)
                    now = self._now(pipe.time()) if self.clock is None else self.clock()
                    changed, outcome = step(_read(pipe.get(key)), now)
                    if changed is not None:
                        pipe.multi()
                        pipe.set(key, _write(changed), ex=kept_seconds + max(int(changed.paused_until - now), 0))
                        pipe.execute()
                    return outcome
                except WatchError:
                    continue

    @staticmethod
    def _now(answer: tuple[int, int]) -> float:
        seconds, microseconds = answer
        return seconds + microseconds / 1_000_000


def _key(provider: Provider, account_id: str) -> str:
    return f"breezesync:budget:{provider.name}:{account_id}"


def _write(budget: Budget) -> str:
    return json.dumps([budget.spent, budget.left, budget.left_until, budget.paused_until])


def _read(stored: str | bytes | None) -> Budget:
    """Return a budget as it was written; anything else counts as an empty one."""
    try:
        spent, left, left_until, paused_until = json.loads(stored or "[]")
        return Budget(tuple((second, number) for second, number in spent), left, left_until, paused_until)
    except (ValueError, TypeError):
        return Budget()
