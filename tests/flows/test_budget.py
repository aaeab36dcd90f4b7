"""An account's budget in a real Valkey: shared by everybody, taught by answers, never a reason to wait for a probe."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
from redis import Redis

from config.wiring import open_hasty_redis
from models.crypto.secrets import Secret
from models.provider import Provider, Resource
from models.rate_limit import Wait
from tests.harness import House
from tests.servers import absent_redis
from worker.provider.rate_limit import Budgets

breeze = Provider(name="breeze", authorize_url="", token_url="", api_url="", api_requests_per_minute=30)
document = Resource(name="document", path="/documents")


def test_twenty_workers_take_no_more_than_there_is(redis_url: str) -> None:
    clients = [Redis.from_url(redis_url, decode_responses=True) for _ in range(20)]

    def take_ten(client: Redis) -> int:
        budgets = Budgets(client)
        return sum(budgets.allow(breeze, "7").take(document) is None for _ in range(10))

    with ThreadPoolExecutor(20) as workers:
        taken = sum(workers.map(take_ten, clients))
    assert taken == 29, "and one stays free for an application's calls"
    assert Budgets(clients[0]).allow(breeze, "8").take(document) is None, "another account has a budget of its own"
    for client in clients:
        client.close()


def test_a_redis_that_never_answers_holds_nobody_up_for_long() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = Secret(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        started = time.monotonic()
        Budgets(open_hasty_redis(url)).count(breeze, "7", document, None)
        assert time.monotonic() - started < 20


def test_a_pause_holds_for_everybody_and_outlives_its_key_s_usual_life(redis_url: str) -> None:
    one, other = (Redis.from_url(redis_url, decode_responses=True) for _ in range(2))
    Budgets(one).pause(breeze, "7", 600)
    waiting = Budgets(other).allow(breeze, "7").take(document)
    assert isinstance(waiting, Wait)
    assert 590 < waiting.seconds <= 600
    assert Budgets(one).redis.ttl("breezesync:budget:breeze:7:requests") > 600
    one.close()
    other.close()


def test_while_redis_is_away_there_is_no_room_and_a_probe_is_not_held_up() -> None:
    away = Budgets(absent_redis())
    allowance = away.allow(breeze, "7")
    assert isinstance(allowance.take(document), Wait)
    allowance.settle(pause=5)
    away.count(breeze, "7", document, 5)
    away.pause(breeze, "7", 5)


def asked(house: House, account: int) -> int:
    """How often the provider was asked for this account."""
    return sum(house.control.counters(tokens=False)["api_requests"].get(str(account), {}).values())


def refused(house: House) -> int:
    totals = house.control.counters(tokens=False)["totals"]
    return sum(statuses.get("429", 0) for statuses in totals.values())


def test_two_users_of_one_account_share_its_budget(house: House) -> None:
    house.connect("ada", 3)
    house.connect("grace", 3)
    house.work()
    assert asked(house, 3) <= 60
    assert refused(house) == 0


def test_what_another_app_of_the_user_draws_is_left_to_it(house: House) -> None:
    token = house.control.personal_token(3)
    house.connect("linus", 3)
    with httpx.Client(trust_env=False, headers={"Authorization": f"Bearer {token}"}) as other:
        for _ in range(30):
            assert other.get(f"{house.provider.url}/api/me", headers={"Accept": "application/json"}).status_code == 200
    house.work()
    assert refused(house) == 0
    assert asked(house, 3) == 60, "and the rest is used"


retry_forms: dict[str, dict[str, Any]] = {"seconds": {"retry_after": 300}, "none": {}}


@pytest.mark.parametrize("form", retry_forms)
def test_a_429_stops_every_connection_of_that_account_until_its_time(house: House, form: str) -> None:
    first, second = house.connect("ada", 1), house.connect("grace", 1)
    house.control.inject("api", status=429, **retry_forms[form])
    house.flows.sync(first.id)
    before = asked(house, 1)
    house.work()
    house.sweep()
    assert asked(house, 1) == before
    assert house.types().count("sync.completed") == 0
    house.turn(seconds=retry_forms[form].get("retry_after", 60) + 2)
    house.sweep()
    assert [len(house.told("sync.completed", c.id)) for c in (first, second)] == [1, 1]


def test_a_redis_emptied_in_the_middle_is_taught_again_by_the_next_answer(house: House) -> None:
    house.connect("linus", 3)
    house.control.reset_counters()
    house.flows.sync.providers["breezedoc"].budgets.redis.flushall()
    house.work()
    assert refused(house) == 0


def test_without_redis_nothing_is_read_and_the_run_waits_as_a_row(house: House) -> None:
    connection = house.connect("ada", 1)
    client = house.flows.sync.providers["breezedoc"]
    shared, before = client.budgets, asked(house, 1)
    client.budgets = Budgets(absent_redis())
    house.work()
    assert asked(house, 1) == before
    with house.store.reading() as tx:
        run = tx.runs.running(connection.id)
    assert run is not None
    assert run.resume_at is not None
    client.budgets = shared
    house.clock.turn(timedelta(seconds=6))
    house.sweep()
    assert house.types().count("sync.completed") == 1


def test_connecting_is_not_held_up_by_an_empty_budget(house: House) -> None:
    client = house.flows.exchange.providers["breezedoc"]
    client.budgets.pause(house.profile, "1", 300)
    assert house.connect("ada", 1).status == "active"
