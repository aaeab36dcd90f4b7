"""Requests left to each account, shared by the fleet through Redis and taken before a request is made."""

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
    """One request that may leave now."""

    key: str
    second: int


@dataclass(frozen=True, slots=True)
class Budgets:
    """One small value per account, changed under WATCH: what counts is decided in `models/rate_limit.py`, where it is
    tried as a table, and hardly ever do two runs meet at one account. Ready-made limiters count as well, but can't be
    told what the provider's headers say. `clock` is Redis's own where none is given, the same for every machine.
    """

    redis: Redis
    clock: Callable[[], float] | None = None

    def take(self, provider: Provider, account_id: str) -> Ticket | Wait:
        """Room for one request, or how long there is none. While Redis is away there is none at all."""
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
        """The answer to a request that was taken, with what its headers say to remain."""
        self._note(ticket.key, lambda budget, now: settle(budget, ticket.second, remaining, now))

    def count(self, provider: Provider, account_id: str, remaining: int | None) -> None:
        """A request that could not wait was made and answered."""

        def counted(budget: Budget, now: float) -> Budget:
            return settle(count(budget, now), int(now), remaining, now)

        self._note(_key(provider, account_id), counted)

    def pause(self, provider: Provider, account_id: str, seconds: float) -> None:
        """A 429: the account is left alone by everybody."""
        self._note(_key(provider, account_id), lambda budget, now: pause(budget, seconds, now))

    def _note(self, key: str, change: Callable[[Budget, float], Budget]) -> None:
        """What is known afterwards; where Redis is away it is forgotten, and the next answer tells it again."""
        try:
            self._change(key, lambda budget, now: (change(budget, now), None))
        except RedisError as error:
            structlog.get_logger("budget").warning("budget.away", error=type(error).__name__)

    def _change(self, key: str, step: Callable[[Budget, float], tuple[Budget | None, T]]) -> T:
        """Decides on what is stored now, and again where somebody else was faster: one of those always gets through."""
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


def _read(held: str | bytes | None) -> Budget:
    """A budget as it was written; anything else there counts as none."""
    try:
        spent, left, left_until, paused_until = json.loads(held or "[]")
        return Budget(tuple((second, number) for second, number in spent), left, left_until, paused_until)
    except (ValueError, TypeError):
        return Budget()
