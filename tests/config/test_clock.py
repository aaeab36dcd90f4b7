"""The fleet's clock of one process: asked once, asked again after a step, silent while it can't be known."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from config.clock import FleetClock
from models.clock import Reading
from models.errors import StoreUnavailable
from worker.web.metrics import ClockGauge

noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
second = timedelta(seconds=1)


@dataclass
class World:
    """The true time, one machine's two clocks, and a database that counts how often it is asked."""

    passed: timedelta = timedelta()
    ahead: timedelta = timedelta()
    away: bool = False
    slow: timedelta = timedelta()
    asked: int = 0
    clock: FleetClock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = FleetClock(self.ask, self.read)

    def read(self) -> Reading:
        return Reading(noon + self.passed + self.ahead, 100 * second + self.passed)

    def ask(self) -> datetime:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("away")
        self.passed += self.slow
        return noon + self.passed


@pytest.mark.parametrize("days", [-1, 0, 1])
def test_a_machine_that_is_wrong_reads_the_fleet_s_time_and_asks_once(days: int) -> None:
    world = World(ahead=timedelta(days=days))
    assert [world.clock() for _ in range(3)] == [noon] * 3
    world.passed = 3600 * second
    assert world.clock() == noon + 3600 * second
    assert world.asked == 1


@pytest.mark.parametrize("step", [-86_400, -3600, -45, -2, 2, 20, 70, 3600, 86_400])
def test_a_step_is_noticed_by_the_next_reading(step: int) -> None:
    world = World()
    world.clock()
    world.passed, world.ahead = 5 * second, step * second
    assert world.clock.stepped()
    assert world.clock() == noon + 5 * second
    assert not world.clock.stepped()
    assert world.asked == 2


def test_without_a_measurement_no_time_is_told() -> None:
    world = World(away=True)
    with pytest.raises(StoreUnavailable):
        world.clock()
    world.away = False
    assert world.clock() == noon
    world.away, world.ahead = True, 70 * second
    with pytest.raises(StoreUnavailable):
        world.clock()


def test_an_outage_of_the_database_alone_stops_no_clock() -> None:
    world = World()
    world.clock()
    world.away, world.passed = True, 7200 * second
    assert world.clock() == noon + 7200 * second


def test_a_machine_that_goes_wrong_is_logged_once_and_so_is_its_recovery() -> None:
    world = World()
    with capture_logs() as lines:
        for ahead in (0, 70, 70, 71, 0, 0):
            world.ahead = ahead * second
            world.clock.measure()
    assert [(line["event"], line["ahead"]) for line in lines] == [("clock.off", 70.0), ("clock.right", 0.0)]


@pytest.mark.parametrize("ahead", [-70, 0, 120])
def test_its_offset_is_how_far_the_machine_is_ahead(ahead: int) -> None:
    world = World(ahead=ahead * second)
    assert world.clock.offset() == ahead * second
    assert f"breezesync_clock_offset_seconds {float(ahead)}" in generate_latest(registry_of(world)).decode()
    world.away, world.ahead = True, (ahead + 10) * second
    assert b"clock_offset" not in generate_latest(registry_of(world)), "after a step no time is certain without asking"


def registry_of(world: World) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(ClockGauge(world.clock.offset))
    return registry
