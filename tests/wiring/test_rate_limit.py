"""The rules of an account's rate limit, in a real Valkey: never over it in any minute, nearly all of it used."""

import heapq
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Literal

import pytest
import redis
from redis import Redis

from config.wiring import open_hasty_redis
from models.crypto.secrets import Secret
from models.provider import Provider, Resource
from models.rate_limit import Wait
from tests.servers import absent_redis
from worker.provider.rate_limit import (
    Allowance,
    Budgets,
    Granted,
    Reservation,
    Settlement,
    kept_for_calls,
    kept_for_probes,
    key_of,
    longest_held,
)

start = 1_800_000_000.25
second = int(start)
key = "breezesync:budget:breeze:7:requests"
document = Resource(name="document", path="/documents")
search = Resource(name="search", path="/search", requests_per_minute=20)


def profile_with(per_minute: int = 60) -> Provider:
    return Provider(name="breeze", authorize_url="", token_url="", api_url="", api_requests_per_minute=per_minute)


@dataclass
class Account:
    """One account's budget, by a clock that a test turns."""

    redis: Redis
    now: float = start
    budgets: Budgets = field(init=False)

    def __post_init__(self) -> None:
        self.budgets = Budgets(self.redis, lambda: self.now)

    def allow(self, wanted: int = 1, per_minute: int = 60) -> Allowance:
        return Allowance(profile_with(per_minute), "7", Reservation(self.budgets, key, per_minute), wanted=wanted)

    def reserve(self, wanted: int = 1, per_minute: int = 60) -> int | float:
        """How many requests are reserved, or the seconds to wait."""
        granted = self.budgets.change(key, per_minute, Settlement(), wanted)
        return granted.seconds if isinstance(granted, Wait) else granted.number

    def store(self, *answered: tuple[int, int], left: str = "0 0", paused_until: float = 0, reserved: int = 0) -> None:
        """Requests answered, by how many seconds ago; `reserved` ones are of this second."""
        seconds = {second - ago: f"{number} 0" for ago, number in answered}
        if reserved:
            seconds[second] = f"{seconds.get(second, '0 0').split()[0]} {reserved}"
        rows = [f"{at} {counts}" for at, counts in sorted(seconds.items())]
        self.redis.set(key, " ".join([left, str(paused_until), *rows]))

    @property
    def answered(self) -> dict[int, int]:
        """Requests answered, by how many seconds after the start."""
        numbers = [float(word) for word in str(self.redis.get(key)).split()][3:]
        return {int(at) - second: int(many) for at, many in zip(numbers[::3], numbers[1::3], strict=True) if many}

    @property
    def reserved(self) -> int:
        return sum(int(float(word)) for word in str(self.redis.get(key)).split()[5::3])


@pytest.fixture
def account(redis_url: str) -> Iterator[Account]:
    with Redis.from_url(redis_url, decode_responses=True) as client:
        yield Account(client)


Case = tuple[dict[str, object], tuple[tuple[int, int], ...], int | float]
cases: dict[str, Case] = {
    "nothing known": ({}, (), 5),
    "room for all": ({}, ((1, 54),), 5),
    "room for some": ({}, ((1, 56),), 3),
    "a sixtieth is left to requests that can't wait": ({}, ((0, 59),), 60.75),
    "overdrawn by those": ({}, ((0, 70),), 60.75),
    "an answer of a minute and a second ago does not count": ({}, ((61, 60),), 5),
    "and not a second earlier": ({}, ((60, 60),), 0.75),
    "room comes bit by bit": ({}, ((50, 1), (20, 58)), 10.75),
    "others reserved some": ({"reserved": 8}, ((1, 48),), 3),
    "what is missing is only reserved and may be given back": ({"reserved": 8}, ((20, 51),), 5.0),
    "what is missing is reserved, and spent": ({"reserved": 8}, ((20, 60),), 40.75),
    "others used it up": ({"left": f"0 {start + 20}"}, (), 20.0),
    "others used most": ({"left": f"1 {start + 20}"}, (), 1),
    "others used it up, and so did we": ({"left": f"0 {start + 20}"}, ((20, 59),), 40.75),
    "what others left is reserved": ({"left": f"4 {start + 20}", "reserved": 4}, (), 5.0),
    "what was said of an old window": ({"left": f"0 {start - 1}"}, (), 5),
    "paused": ({"paused_until": start + 300}, (), 300.0),
    "paused long ago": ({"paused_until": start - 1}, (), 5),
}


@pytest.mark.parametrize("case", cases)
def test_requests_are_reserved_if_there_is_room_and_otherwise_the_wait_is_known(account: Account, case: str) -> None:
    known, answered, expected = cases[case]
    account.store(*answered, **known)  # type: ignore[arg-type]
    assert account.reserve(5) == expected


@pytest.mark.parametrize("per_minute", [1, 5, 59, 60, 120])
def test_a_whole_minute_of_one_account_is_the_limit_without_its_sixtieth(account: Account, per_minute: int) -> None:
    granted = 0
    while isinstance(number := account.reserve(8, per_minute), int):
        granted += number
    assert granted == max(per_minute - per_minute // 60, 1)


@pytest.mark.parametrize(("per_minute", "by_syncs", "in_all"), [(5, 5, 5), (20, 19, 20), (60, 56, 59), (120, 112, 118)])
def test_syncs_leave_a_share_that_calls_may_use(account: Account, per_minute: int, by_syncs: int, in_all: int) -> None:
    provider = profile_with(per_minute)
    allowance, taken, called = account.budgets.allow(provider, "7"), 0, 0
    while allowance.take(document) is None:
        taken += 1
    while isinstance(account.budgets.reserve(provider, "7"), Granted):
        called += 1
    assert (taken, taken + called) == (by_syncs, in_all)
    assert taken >= 0.9 * per_minute


def test_a_minute_begins_with_the_answer(account: Account) -> None:
    allowance = account.allow(3)
    for latency in (2, 5):
        assert allowance.take(document) is None
        account.now += latency
        allowance.note(document, None)
    allowance.settle()
    assert (account.answered, account.reserved) == ({2: 1, 7: 1}, 0), "and what was not used is given back"


def test_a_request_that_no_one_noted_counts_as_answered_when_it_is_settled(account: Account) -> None:
    allowance = account.allow(3)
    assert allowance.take(document) is None
    account.now += 4
    allowance.settle()
    assert (account.answered, account.reserved) == ({4: 1}, 0)


def test_nothing_is_sent_to_redis_while_a_reservation_lasts_and_nothing_to_settle_nothing(account: Account) -> None:
    allowance = account.allow(3)
    assert allowance.take(document) is None
    stored = account.redis.get(key)
    for _ in range(2):
        allowance.note(document, 40)
        assert allowance.take(document) is None
    assert account.redis.get(key) == stored
    allowance.settle()
    account.redis.delete(key)
    allowance.settle()
    assert account.redis.get(key) is None


def test_no_request_leaves_on_an_old_reservation(account: Account) -> None:
    allowance = account.allow(5)
    assert allowance.take(document) is None
    account.now += longest_held.total_seconds() + 0.1
    assert allowance.take(document) is None
    assert (account.answered, account.reserved) == ({10: 1}, 8), "it was settled, and another made"
    assert allowance.account.second == int(account.now)


def test_a_reservation_of_a_killed_job_counts_until_its_last_request_would_no_longer(account: Account) -> None:
    assert account.reserve(59) == 59
    account.now = second + longest_held.total_seconds() + 30 + 60.5
    assert account.reserve(59) == 5.0
    account.now += 0.5
    assert account.reserve(59) == 59


def test_the_provider_is_believed_if_it_says_that_less_remains(account: Account) -> None:
    allowance = account.allow(8)
    assert allowance.take(document) is None
    allowance.note(document, 3)
    for left in (2, 1, 0):
        assert allowance.take(document) is None
        allowance.note(document, left)
    assert allowance.take(document) == Wait(60.75), "until that window is surely over"
    assert account.answered == {0: 4}


def test_an_answer_that_does_not_say_what_remains_counts_itself(account: Account) -> None:
    allowance = account.allow(8)
    for remaining in (3, None, None, None):
        assert allowance.take(document) is None
        allowance.note(document, remaining)
    assert isinstance(allowance.take(document), Wait)


def test_the_provider_is_not_believed_if_it_says_that_more_remains(account: Account) -> None:
    account.store((0, 58))
    allowance = account.allow()
    assert allowance.take(document) is None
    allowance.note(document, 40)
    assert isinstance(allowance.take(document), Wait)


def test_what_two_jobs_of_one_account_answer_is_subtracted_once_from_what_remains(account: Account) -> None:
    one, other = account.allow(4), account.allow(4)
    for remaining in (9, 7):
        for allowance in (one, other):
            assert allowance.take(document) is None
            account.now += 0.1
        one.note(document, remaining)
        other.note(document, remaining - 1)
    other.settle()
    one.settle()
    account.now += 1
    assert account.reserve(20) == 6


def test_a_request_that_could_not_wait_is_counted(account: Account) -> None:
    provider = profile_with()
    account.budgets.count(provider, "7", document, 2)
    assert (account.answered, account.reserve(5)) == ({0: 1}, 2)
    account.budgets.count(provider, "7", document, None, pause=30)
    assert account.reserve(5) == 30


def test_a_clock_that_is_set_back_parks_no_account_for_longer_than_a_minute(account: Account) -> None:
    """Redis's clock, after a failover for example: what was counted later than now may be of this moment."""
    account.store((0, 60), left=f"0 {second + 61}")
    account.now -= 3_600
    assert account.reserve() == 60.75
    account.now += 61
    assert account.reserve(20) == 20


def test_a_429_gives_back_and_pauses_at_once_and_a_pause_is_never_shortened(account: Account) -> None:
    allowance = account.allow(5)
    assert allowance.take(document) is None
    allowance.note(document, None)
    allowance.settle(pause=60)
    account.allow().settle(pause=5)
    assert (account.answered, account.reserved, account.reserve()) == ({0: 1}, 0, 60)
    assert account.redis.ttl(key) > 60, "longer than its usual life"


garbage = {
    "words": "no numbers",
    "JSON": '[[["a"]],1,2,3]',
    "an object": "{}",
    "one number": "1",
    "four": "1 2 3 4",
    "two points": "0 0 0 1.2.3 1 1",
    "a number that is none": "nan nan inf",
}


@pytest.mark.parametrize("case", garbage)
def test_a_value_that_can_t_be_read_counts_as_empty(account: Account, case: str) -> None:
    account.redis.set(key, garbage[case])
    assert account.reserve(5) == 5
    assert account.reserved == 5


def test_a_redis_that_was_restarted_is_given_the_rules_again(account: Account) -> None:
    assert account.reserve(5) == 5
    account.redis.script_flush()
    assert account.reserve(5) == 5


def most_in_a_minute(times: list[float]) -> int:
    """The most that arrived in any window of 60 seconds, wherever it begins."""
    ordered, most, first = sorted(times), 0, 0
    for number, at in enumerate(ordered):
        while ordered[first] <= at - 60:
            first += 1
        most = max(most, number - first + 1)
    return most


@dataclass
class Fleet:
    """Jobs that read one account at the same time, each whenever it may; some are killed, some are slow to settle.

    says: whether the provider's answers say how many requests are left, by a window that slides, or a fixed one.

    A job asks, and is answered after some of `latencies`; the request arrives anywhere between. After a slice of four
    seconds it settles. If it must wait it is back up to `delay` seconds too late. Job by job the `plans` say what it
    asks for.
    """

    account: Account
    dice: Random
    per_minute: int
    latencies: list[float]
    delay: float = 1.2
    killed: float = 0.0
    stalled: float = 0.0
    says: Literal["nothing", "sliding", "fixed"] = "nothing"
    kept: int | None = None
    plans: Sequence[Sequence[Resource]] = ((document,),)
    arrived: list[float] = field(default_factory=list)
    searches: list[float] = field(default_factory=list)
    turns: list[tuple[float, int, Iterator[float]]] = field(default_factory=list)

    def run(self, jobs: int, minutes: float) -> None:
        numbers = count()
        for job in range(jobs):
            plan = self.plans[job % len(self.plans)]
            heapq.heappush(self.turns, (start + self.dice.random(), next(numbers), self.job(plan)))
        while self.turns[0][0] < start + 60 * minutes:
            at, number, turns = heapq.heappop(self.turns)
            self.account.now = at
            heapq.heappush(self.turns, (at + next(turns), number, turns))

    def job(self, plan: Sequence[Resource]) -> Iterator[float]:
        """Read slice after slice; yield how long each part takes."""
        while True:
            allowance = self.account.allow(per_minute=self.per_minute)
            allowance.account.kept = self.kept
            end, wait = self.account.now + 4, None
            while self.account.now < end and wait is None:
                allowance.wanted = self.dice.choice((1, 2, 5, 8))
                resource = self.dice.choice(plan)
                wait = allowance.take(resource)
                if wait is None:
                    yield from self.request(allowance, resource)
            if self.dice.random() < self.stalled:
                yield 100 * self.dice.random()
            if self.dice.random() >= self.killed:
                allowance.settle()
            yield wait.seconds + self.delay * self.dice.random() if wait else 0.01

    def request(self, allowance: Allowance, resource: Resource) -> Iterator[float]:
        latency = self.dice.choice(self.latencies)
        at = self.account.now + latency * self.dice.random()
        self.arrived.append(at)
        if resource is search:
            self.searches.append(at)
        yield latency
        allowance.note(resource, self.remaining(resource))
        if self.dice.random() < self.stalled:
            yield 100 * self.dice.random()

    def remaining(self, resource: Resource) -> int | None:
        """Return how many requests are left in the provider's minute, of the resource's own limit if it has one."""
        if self.says == "nothing":
            return None
        now = self.account.now
        own = resource.requests_per_minute
        limit, arrived = (own, self.searches) if own else (self.per_minute, self.arrived)
        since = now - 60 if self.says == "sliding" else now - now % 60
        return max(limit - sum(since < at <= now for at in arrived[-200:]), 0)


@pytest.mark.parametrize("seed", range(20))
def test_never_more_than_the_limit_in_any_minute_however_slow_or_deadly_the_way(account: Account, seed: int) -> None:
    dice = Random(seed)
    latencies = [dice.choice((0.001, 0.2, 3, 30)) * dice.random() for _ in range(4)]
    per_minute = dice.choice((1, 7, 30, 60, 90))
    fleet = Fleet(account, dice, per_minute, latencies, killed=0.1, stalled=dice.choice((0, 0.02, 0.2)))
    fleet.says = dice.choice(("nothing", "sliding", "fixed"))
    fleet.run(jobs=dice.choice((1, 2, 5, 12)), minutes=10)
    assert 0 < most_in_a_minute(fleet.arrived) <= per_minute


@pytest.mark.parametrize("says", ["nothing", "sliding", "fixed"])
@pytest.mark.parametrize("jobs", [1, 3, 8])
def test_nine_tenths_of_the_limit_are_used_by_a_busy_account(
    account: Account, jobs: int, says: Literal["nothing", "sliding", "fixed"]
) -> None:
    """Though syncs leave a share of it to others."""
    kept = kept_for_probes(60) + kept_for_calls(60)
    fleet = Fleet(account, Random(jobs), 60, [0.1, 0.2, 0.3], says=says, kept=kept)
    fleet.run(jobs, minutes=30)
    assert most_in_a_minute(fleet.arrived) <= 60
    assert len(fleet.arrived) / 30 >= 0.9 * 60


@pytest.mark.parametrize("seed", range(8))
def test_neither_an_account_s_limit_nor_a_resource_s_own_is_passed_in_any_minute(account: Account, seed: int) -> None:
    dice = Random(seed)
    latencies = [dice.choice((0.001, 0.2, 3, 30)) * dice.random() for _ in range(4)]
    per_minute = dice.choice((15, 30, 60))
    fleet = Fleet(account, dice, per_minute, latencies, killed=0.1, stalled=dice.choice((0, 0.02, 0.2)))
    fleet.says = dice.choice(("nothing", "sliding", "fixed"))
    fleet.plans = dice.choice((((document, search),), ((document,), (search,)), ((search,),)))
    fleet.run(jobs=dice.choice((2, 5, 12)), minutes=10)
    assert 0 < most_in_a_minute(fleet.searches) <= 20
    assert most_in_a_minute(fleet.arrived) <= per_minute


@pytest.mark.parametrize("says", ["nothing", "sliding", "fixed"])
@pytest.mark.parametrize("jobs", [1, 4])
def test_nine_tenths_of_a_resource_s_own_limit_are_used(
    account: Account, jobs: int, says: Literal["nothing", "sliding", "fixed"]
) -> None:
    fleet = Fleet(account, Random(jobs), 60, [0.1, 0.2, 0.3], says=says, plans=((search,),))
    fleet.run(jobs, minutes=20)
    assert most_in_a_minute(fleet.searches) <= 20
    assert len(fleet.searches) / 20 >= 0.9 * 20


def test_a_resource_without_room_holds_up_no_other_and_reserves_nothing_of_the_account_s_limit(
    account: Account,
) -> None:
    allowance = account.allow()
    for _ in range(20):
        assert allowance.take(search) is None
    allowance.settle()
    assert isinstance(account.allow().take(search), Wait)
    assert account.reserved == 0
    assert account.allow().take(document) is None


def test_an_account_without_room_gives_back_what_was_reserved_of_a_resource_s_own_limit(account: Account) -> None:
    account.store((0, 59))
    allowance = account.allow()
    assert isinstance(allowance.take(search), Wait)
    allowance.settle()
    own = str(account.redis.get(key_of(profile_with(), "7", search)))
    assert own.split()[3:] == [], "no second with anything answered or reserved"


def test_what_an_answer_says_is_left_is_of_the_resource_s_own_limit(account: Account) -> None:
    allowance = account.allow(8)
    assert allowance.take(search) is None
    allowance.note(search, 0)
    assert isinstance(allowance.take(search), Wait)
    assert allowance.take(document) is None
    allowance.note(document, 0)
    assert isinstance(allowance.take(document), Wait)


def test_a_429_for_a_resource_pauses_the_account(account: Account) -> None:
    allowance = account.allow()
    assert allowance.take(search) is None
    allowance.note(search, None)
    allowance.settle(pause=60)
    for resource in (search, document):
        assert account.allow().take(resource) == Wait(60)


def test_a_request_that_could_not_wait_is_counted_for_its_resource_too(account: Account) -> None:
    account.budgets.count(profile_with(), "7", search, 0)
    allowance = account.allow()
    assert isinstance(allowance.take(search), Wait)
    assert allowance.take(document) is None
    assert account.answered == {0: 1}


def test_no_request_leaves_on_a_reservation_that_became_too_old_while_another_was_made(account: Account) -> None:
    class Slow(Budgets):
        def time(self) -> float:
            """Each look at the clock is four seconds after the one before."""
            account.now += 4
            return super().time()

    allowance = account.allow()
    assert allowance.take(search) is None
    allowance.account.left = 0
    account.now += longest_held.total_seconds() - 5
    slow = Slow(account.redis, lambda: account.now)
    allowance.account.budgets = allowance.resources["search"].budgets = slow
    assert allowance.take(search) == Wait(5)
    assert allowance.account.used == 0


def test_a_job_is_not_starved_by_another_one_that_has_reserved_the_rest(account: Account) -> None:
    account.store((1, 51))
    holder, waiter = account.allow(8), account.allow(1)
    assert holder.take(document) is None
    assert waiter.take(document) == Wait(5)
    holder.note(document, None)
    holder.settle()
    account.now += 5
    assert waiter.take(document) is None


def test_the_call_that_settles_reserves_as_well(account: Account) -> None:
    granted = account.budgets.change(key, 60, Settlement(), 2)
    assert granted == Granted(2, second)
    assert account.budgets.change(key, 60, Settlement(second, 2, ages=(0.5, 0.25)), 3) == Granted(3, second)
    assert (account.answered, account.reserved) == ({-1: 1, 0: 1}, 3)


@pytest.mark.parametrize(("repeats", "sent"), [(True, 2), (False, 1)])
def test_what_may_not_be_done_twice_is_not_sent_again_after_a_timeout(repeats: bool, sent: int) -> None:
    heard: list[bytes] = []

    def stay_silent(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while command := connection.recv(65_536):
                heard.append(command)
                if b"HELLO" in command:
                    connection.sendall(b"%1\r\n+proto\r\n:3\r\n")
                elif b"CLIENT" in command:
                    connection.sendall(b"+OK\r\n" * command.count(b"CLIENT\r\n"))

    def accept(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=stay_silent, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        client = open_hasty_redis(Secret(f"redis://127.0.0.1:{server.getsockname()[1]}/0"), repeats)
        with pytest.raises(redis.TimeoutError):
            client.evalsha("0" * 40, 1, "key")
        client.close()
        server.shutdown(socket.SHUT_RDWR)
    assert sum(b"EVALSHA" in command for command in heard) == sent


@pytest.mark.parametrize("is_forgotten", [False, True], ids=["usual", "after Redis was emptied of scripts"])
def test_many_accounts_are_counted_in_one_round_trip_as_each_alone(account: Account, is_forgotten: bool) -> None:
    provider = profile_with(2)
    account.reserve()
    if is_forgotten:
        account.redis.script_flush()
    granted = account.budgets.reserve_all([(provider, "8"), (provider, "9"), (provider, "8"), (provider, "8")])
    assert granted == [Granted(1, second), Granted(1, second), Granted(1, second), Wait(5.0)]
    account.budgets.settle_all([(provider, "8", Settlement(second, 1)), (provider, "9", Settlement(second, 1, (0,)))])
    stored = [str(account.redis.get(key_of(provider, id_))).split()[4:] for id_ in ("8", "9")]
    assert stored == [["0", "1"], ["1", "0"]]
    assert account.budgets.reserve_all([]) == []


def test_without_redis_none_of_many_accounts_is_granted_a_request() -> None:
    provider = profile_with()
    assert Budgets(absent_redis()).reserve_all([(provider, "7"), (provider, "8")]) == [Wait(5.0)] * 2
