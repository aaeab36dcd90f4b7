"""Count an account's requests before they are sent, for all workers, in Redis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import structlog
from redis import Redis, RedisError
from redis.exceptions import NoScriptError

from models.provider import Provider, Resource
from models.rate_limit import Wait

api_deadline = timedelta(seconds=30)
"""An API request is answered within this time, or given up."""
longest_held = timedelta(seconds=10)
"""No request of a reservation leaves later."""
most_reserved = 8
"""How many requests a job reserves at once, at most: others may need what it does not use."""
wait_without_redis = 5.0
probes_share, calls_share = 60, 20
"""A 60th of a limit is for requests that cannot wait, a 20th for the calls of an application: a sync leaves both."""
held_seconds = (longest_held + api_deadline).total_seconds()


@dataclass(frozen=True, slots=True)
class Granted:
    """What a call reserved: how many requests, and under which second they count."""

    number: int
    second: int


@dataclass(slots=True)
class Settlement:
    """What became of a reservation, or of a request that could not wait.

    second, reserved: the reservation; how many requests it is of.
    ages: for each answer, in order, how many seconds ago it came.
    remaining: what the last one's headers say is left.
    pause: for how many seconds a 429 stops the account.
    """

    second: int = 0
    reserved: int = 0
    ages: Sequence[float] = ()
    remaining: int | None = None
    pause: float = 0


Account = tuple[Provider, str]
"""An account by its provider and its id there."""
Change = tuple[Provider, str, Settlement]
"""What became of requests of an account."""


class Budgets:
    """The budgets of all accounts, and of the resources with a limit of their own: one small value each, changed by one
    script that has all the rules.

    Limiter libraries count, too, but cannot take the provider's headers into account. `clock` is Redis's own if none is
    given: the same for every machine.
    """

    def __init__(self, redis: Redis, clock: Callable[[], float] | None = None) -> None:
        self.redis = redis
        self.clock = clock
        rules = Path(__file__).with_suffix(".lua").read_text(encoding="utf-8")
        self._script: Any = redis.register_script(rules)

    def allow(self, provider: Provider, account_id: str) -> "Allowance":
        """Return an allowance for a job that reads this account; nothing is reserved yet."""
        per_minute = provider.api_requests_per_minute
        kept = kept_for_probes(per_minute) + kept_for_calls(per_minute)
        account = Reservation(self, key_of(provider, account_id), per_minute, kept=kept)
        return Allowance(provider, account_id, account)

    def reserve(self, provider: Provider, account_id: str) -> Granted | Wait:
        """Reserve a request of an application, which leaves nothing free but what cannot wait; `settle` ends it."""
        return self.reserve_all([(provider, account_id)])[0]

    def reserve_all(self, accounts: Sequence[Account]) -> list[Granted | Wait]:
        """Reserve a request for each of these in one round trip."""
        return self._change_all([(*account, Settlement()) for account in accounts], wanted=1)

    def settle(self, provider: Provider, account_id: str, settled: Settlement) -> None:
        """Settle a request of an application."""
        self.settle_all([(provider, account_id, settled)])

    def settle_all(self, settled: Sequence[Change]) -> None:
        """Settle requests in one round trip."""
        self._change_all(settled, wanted=0)

    def count(
        self, provider: Provider, account_id: str, resource: Resource, remaining: int | None, pause: float = 0
    ) -> None:
        """Note a request that could not wait, after its answer; `remaining` is what its headers say is left.

        After a 429 no request is sent for this account for `pause` seconds.
        """
        own = resource.requests_per_minute
        settled = Settlement(ages=(0,), remaining=None if own else remaining, pause=pause)
        self.change(key_of(provider, account_id), provider.api_requests_per_minute, settled)
        if own:
            self.change(key_of(provider, account_id, resource), own, Settlement(ages=(0,), remaining=remaining))

    def pause(self, provider: Provider, account_id: str, seconds: float) -> None:
        """Send no request for this account for so long."""
        self.change(key_of(provider, account_id), provider.api_requests_per_minute, Settlement(pause=seconds))

    def change(
        self, key: str, per_minute: int, settled: Settlement, wanted: int = 0, kept: int | None = None
    ) -> Granted | Wait:
        """Settle, and reserve up to `wanted` requests; return how long to wait if there is no room for one.

        So many as `kept` stay free; by default those for requests that cannot wait.
        If Redis is down no request is granted. What was to be settled then counts as reserved for as long as it has to,
        and the next answer's headers make up for what Redis forgot.
        """
        kept = kept_for_probes(per_minute) if kept is None else kept
        values = self._values(per_minute, settled, wanted, kept)
        try:
            return _read(self._script((key,), values), wanted)
        except RedisError as error:
            return _wait_without_redis(error)

    def _change_all(self, changes: Sequence[Change], wanted: int) -> list[Granted | Wait]:
        """Like `change`, of many accounts in one round trip."""
        if not changes:
            return []
        if len(changes) == 1:
            [(provider, account_id, settled)] = changes
            return [self.change(key_of(provider, account_id), provider.api_requests_per_minute, settled, wanted)]
        with self.redis.pipeline(transaction=False) as pipeline:
            for provider, account_id, settled in changes:
                per_minute = provider.api_requests_per_minute
                values = self._values(per_minute, settled, wanted, kept_for_probes(per_minute))
                pipeline.evalsha(self._script.sha, 1, key_of(provider, account_id), *values)
            try:
                replies = pipeline.execute(raise_on_error=False)
            except RedisError as error:
                return [_wait_without_redis(error)] * len(changes)
        return [self._read_part(*each, wanted) for each in zip(changes, replies, strict=True)]

    def _read_part(self, change: Change, reply: Any, wanted: int) -> Granted | Wait:
        """Return what a part of a round trip led to."""
        if isinstance(reply, NoScriptError):
            # Redis was started again since it loaded the script: this part changed nothing, and loads it.
            return self._change_all([change], wanted)[0]
        return _wait_without_redis(reply) if isinstance(reply, RedisError) else _read(reply, wanted)

    def _values(self, per_minute: int, settled: Settlement, wanted: int, kept: int) -> tuple[float | str, ...]:
        """Return the script's arguments."""
        now = "" if self.clock is None else repr(self.clock())
        remaining = "" if settled.remaining is None else settled.remaining
        own = (settled.second, settled.reserved, remaining, settled.pause)
        return (now, per_minute, *own, wanted, held_seconds, kept, *settled.ages)

    def time(self) -> float:
        """Return a time to measure ages with."""
        return monotonic() if self.clock is None else self.clock()


@dataclass(slots=True)
class Reservation:
    """The requests that one job reserved of one limit, handed out without asking Redis for each.

    A job settles at the end of its slice, a few seconds after it reserved. If it takes longer, no request leaves on a
    reservation older than `longest_held`: that one is settled, and another made. So all requests are answered before
    the reservation stops to count, whether the job lives to settle it or not (see `rate_limit.lua`).

    second, reserved: the reservation, and of how many requests it is.
    left: how many of them may still be sent; fewer than are unused if the provider says that less remains.
    used: how many were sent.
    reserved_at: when it was made.
    answered: when each answer came.
    remaining: what the last answer said is left, less those after it that did not say.
    kept: how many requests of the limit it leaves free; None for those that cannot wait alone.
    """

    budgets: Budgets
    key: str
    per_minute: int
    second: int = 0
    reserved: int = 0
    left: int = 0
    used: int = 0
    reserved_at: float = 0
    answered: list[float] = field(default_factory=list)
    remaining: int | None = None
    kept: int | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a request may leave on it now."""
        return self.left > 0 and self.budgets.time() - self.reserved_at <= longest_held.total_seconds()

    def renew(self, wanted: int) -> Wait | None:
        """Settle it and make another, of up to `wanted` requests; return how long to wait if there is no room."""
        now = self.budgets.time()
        # A job that used what it reserved has longer lists than it knew.
        wanted = most_reserved if self.used else min(wanted, most_reserved)
        granted = self.budgets.change(self.key, self.per_minute, self._end(), wanted, self.kept)
        if isinstance(granted, Wait):
            return granted
        self.second, self.reserved, self.left, self.reserved_at = (granted.second, granted.number, granted.number, now)
        return None

    def use(self) -> None:
        """Count a request, which leaves now."""
        self.left -= 1
        self.used += 1

    def note(self, remaining: int | None) -> None:
        """Note an answer; `remaining` is what its headers say is left."""
        self.answered.append(self.budgets.time())
        if remaining is not None:
            self.remaining = remaining
        elif self.remaining is not None:
            self.remaining = max(self.remaining - 1, 0)
        if self.remaining is not None:
            self.left = min(self.left, self.remaining)

    def settle(self, pause: float = 0) -> None:
        """Say what was used and give the rest back, if there is anything to say; no request leaves for `pause`
        seconds."""
        settled = self._end(pause)
        if settled.reserved or settled.pause:
            self.budgets.change(self.key, self.per_minute, settled)

    def _end(self, pause: float = 0) -> Settlement:
        """Return what became of it, and forget it. A request that no one noted counts as answered now."""
        now = self.budgets.time()
        ages = [max(now - at, 0) for at in self.answered] + [0] * (self.used - len(self.answered))
        settled = Settlement(self.second, self.reserved, ages, self.remaining, pause)
        self.reserved = self.left = self.used = 0
        self.answered, self.remaining = [], None
        return settled


@dataclass(slots=True)
class Allowance:
    """The requests that one job may make for its account.

    provider, account_id: whose limits they are.
    account: what it reserved of the account's limit.
    resources: what it reserved of the limits that resources have of their own, by name.
    wanted: how many requests the job knows of, at least one.
    """

    provider: Provider
    account_id: str
    account: Reservation
    resources: dict[str, Reservation] = field(default_factory=dict)
    wanted: int = 1

    def take(self, resource: Resource) -> Wait | None:
        """Count one request for a page of this resource, which must leave now.

        If the account's limit has no room for it, or the resource's own, return how long that has none.
        """
        own = self._own(resource)
        # The resource's first: if it has no room, nothing of the account's is reserved in vain.
        needed = [(self.account, self.wanted)] if own is None else [(own, 1), (self.account, self.wanted)]
        for reservation, wanted in needed:
            wait = None if reservation.is_ready else reservation.renew(wanted)
            if wait is not None:
                return wait
        # Race: while Redis took its time over the second, the first one became too old.
        if not all(reservation.is_ready for reservation, _ in needed):
            return Wait(wait_without_redis)
        for reservation, _ in needed:
            reservation.use()
        return None

    def note(self, resource: Resource, remaining: int | None) -> None:
        """Note an answer; `remaining` is what its headers say is left: of the resource's own limit, if it has one."""
        own = self._own(resource)
        self.account.note(remaining if own is None else None)
        if own is not None:
            own.note(remaining)

    def settle(self, pause: float = 0) -> None:
        """Say what was used and give the rest back.

        After a 429 the account is paused for `pause` seconds, for all workers.
        """
        self.account.settle(pause)
        for own in self.resources.values():
            own.settle()

    def _own(self, resource: Resource) -> Reservation | None:
        """Return what was reserved of the resource's own limit; None if it has none."""
        per_minute = resource.requests_per_minute
        if per_minute and resource.name not in self.resources:
            key = key_of(self.provider, self.account_id, resource)
            self.resources[resource.name] = Reservation(self.account.budgets, key, per_minute)
        return self.resources.get(resource.name)


def _read(reply: Sequence[int], wanted: int) -> Granted | Wait:
    number, second, milliseconds = reply
    return Wait(milliseconds / 1000) if wanted and not number else Granted(number, second)


def _wait_without_redis(error: RedisError) -> Wait:
    structlog.get_logger("budget").warning("budget.away", error=type(error).__name__)
    return Wait(wait_without_redis)


def kept_for_probes(per_minute: int) -> int:
    """Return how many requests of a limit are for those that cannot wait."""
    return per_minute // probes_share


def kept_for_calls(per_minute: int) -> int:
    """Return how many requests of a limit a sync leaves to an application's calls."""
    return per_minute // calls_share


def key_of(provider: Provider, account_id: str, resource: Resource | None = None) -> str:
    """Return the key of an account's budget, or of the one that a resource of it has of its own.

    No name of a provider or a resource has a slash or a colon in it, whatever an account's id has.
    """
    whose = provider.name if resource is None else f"{provider.name}/{resource.name}"
    return f"breezesync:budget:{whose}:{account_id}:requests"
