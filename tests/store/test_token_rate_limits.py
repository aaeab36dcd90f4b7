"""The token endpoint's budget in the database: one statement that follows the pure rule, for however many at once."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, make_url

from models.oauth.token_rate_limit import Go, Pace, Purpose, WaitUntil, step, window
from models.store import Store
from models.store.token_rate_limits import table
from tests.store.conftest import Opened, noon

second = int(noon.timestamp())
purposes: tuple[Purpose, ...] = ("refresh", "exchange", "resolve")
counted = st.dictionaries(st.integers(-window - 3, 3), st.integers(0, 6), max_size=12)
paused = st.one_of(st.none(), st.floats(-5, 5))


@given(counted, paused, st.integers(0, 20), st.sampled_from(purposes), st.floats(0, 0.999))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_statement_follows_the_rule(
    opened: Opened, ages: Mapping[int, int], pause: float | None, per_minute: int, purpose: Purpose, fraction: float
) -> None:
    now = noon + timedelta(seconds=fraction)
    pace = Pace(
        {second + age: count for age, count in ages.items()},
        None if pause is None else noon + timedelta(seconds=pause),
    )
    expected = step(pace, per_minute, purpose, now)
    with opened.store.writing() as tx:
        tx.sql.execute(delete(table))
        counts = {str(at): count for at, count in pace.counts.items()}
        tx.sql.execute(insert(table).values(provider="breezedoc", counts=counts, paused_until=pace.paused_until))
        wait = tx.paces.take("breezedoc", per_minute, purpose, now)
        after = tx.paces.get("breezedoc")
    match expected:
        case Go(taken):
            assert (wait, after) == (None, taken)
        case WaitUntil(at):
            assert (wait, after) == (at, pace)


def test_the_first_request_to_a_provider_begins_its_count(opened: Opened) -> None:
    with opened.store.counting() as tx:
        assert tx.paces.take("another", 5, "exchange", noon) is None
    with opened.store.reading() as tx:
        assert tx.paces.get("another") == Pace({second: 1})
        assert tx.paces.get("breezedoc") == Pace()


@pytest.mark.parametrize("purpose", ["exchange", "refresh"])
def test_however_many_take_at_once_no_more_is_taken_than_is_allowed(opened: Opened, purpose: Purpose) -> None:
    ready = Barrier(8)

    def take(store: Store) -> int:
        ready.wait(timeout=30)
        taken = 0
        for number in range(20):
            with store.counting() if number % 2 else store.writing() as tx:
                at = noon + timedelta(seconds=number / 10)
                taken += tx.paces.take("breezedoc", 40, purpose, at) is None
        return taken

    with ThreadPoolExecutor(8) as pool:
        taken = sum(pool.map(take, [opened.store, opened.other] * 4))
    assert taken == (40 if purpose == "exchange" else 36)
    with opened.store.reading() as tx:
        assert sum(tx.paces.get("breezedoc").counts.values()) == taken


@pytest.mark.parametrize("database", ["postgresql"])
def test_a_count_alone_does_not_wait_for_the_disk(opened: Opened) -> None:
    def shown(name: str) -> list[str]:
        found = []
        for begun in (opened.store.counting(), opened.store.writing()):
            with begun as tx:
                found.append(str(tx.sql.exec_driver_sql(f"SHOW {name}").scalar()))
        return found

    with opened.other.writing() as tx:
        database = make_url(opened.url).database
        tx.sql.exec_driver_sql(f'ALTER DATABASE "{database}" SET synchronous_commit = on')
    assert shown("synchronous_commit") == ["off", "on"]
    assert shown("lock_timeout") == ["5s", "5s"]


@pytest.mark.parametrize("database", ["postgresql"])
def test_what_comes_after_a_count_that_stands_alone_does_not_run(opened: Opened) -> None:
    with opened.store.writing() as tx:
        assert tx.paces.take("breezedoc", 60, "refresh", noon) is None
        assert tx.paces.take("breezedoc", 60, "refresh", noon) is None
    with opened.store.counting() as tx:
        assert tx.paces.take("breezedoc", 60, "refresh", noon) is None
        with pytest.raises(AssertionError):
            tx.paces.get("breezedoc")
    with opened.store.reading() as tx:
        assert tx.paces.get("breezedoc") == Pace({second: 3})
