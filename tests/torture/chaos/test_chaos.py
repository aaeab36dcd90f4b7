"""A short chaos run on each database: no fault causes a violation."""

import pytest

from tests.servers import wait_until
from tests.torture.chaos.collect import collect
from tests.torture.chaos.points import kill_points
from tests.torture.chaos.run import run_chaos
from tests.torture.chaos.setup import ChaosFleet, Database, running_chaos_fleet
from tests.torture.chaos.verdict import judge


@pytest.mark.timeout(600)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_short_run_causes_no_violation(database: Database) -> None:
    result = run_chaos(database, seed=7, faults=40, minutes=0.12, subjects=12, workers=3)
    assert result.faults.total() > 0
    assert result.verdict.is_clean, result.table


def test_the_points_are_many() -> None:
    assert len(set(kill_points)) == len(kill_points) >= 12


def connect(fleet: ChaosFleet, account: int) -> str:
    fleet.consent(f"user-{account}", account)

    def connections() -> list[str]:
        return [row.id for row in fleet.rows("SELECT id FROM connection WHERE status = 'active'")]

    wait_until(lambda: bool(connections()), "the connection is active")
    return connections()[0]


def test_what_is_planted_into_a_real_database_is_found() -> None:
    with running_chaos_fleet("sqlite", workers=1, schedulers=1) as fleet:
        [account] = fleet.control.add_users(1, "Chaos", documents=1)
        connection = connect(fleet, account)
        published = "SELECT count(*) AS n FROM event WHERE published_at IS NULL"
        wait_until(lambda: fleet.rows(published)[0].n == 0, "every event has left")
        before = judge(collect(fleet, [], [], frozenset(), {connection}, 1_000_000))
        fleet.change("UPDATE connection SET status = 'revoked', generation = generation + 1")
        fleet.change("UPDATE \"authorization\" SET step = 'failed', reason = 'provider_unavailable'")
        after = judge(collect(fleet, [], [], frozenset(), {connection}, 1_000_000))
    assert before.violations["generations skipped or used twice"] == []
    assert after.violations["generations skipped or used twice"] == [f"{connection}: [1], 2"]
    assert [each for each in after.violations["events missing"] if f"{connection} is revoked" in each]
    [wrong] = after.violations["wrong reasons"]
    assert wrong.endswith("provider_unavailable, presented: exchanged (None)")
    assert not any(f"{connection} is" in each for each in before.violations["events missing"])
