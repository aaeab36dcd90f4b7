"""A worker's pulse: it beats while the process can work, Redis or no Redis, and stops when it can't."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import dramatiq
import pytest
import redis
from dramatiq import Worker
from dramatiq.middleware import Retries

from tests.servers import Valkey, wait_until
from worker.queue.broker import Broker
from worker.queue.liveness import Pulse, Signs, can_work, silent_seconds, stuck_seconds

NOW = 10_000.0
FRESH, SILENT = NOW - 1, NOW - silent_seconds - 1
RECENT, STUCK = NOW - 10, NOW - stuck_seconds - 1


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        pytest.param(Signs({"sync": FRESH}, [], 2), True, id="idle"),
        pytest.param(Signs({"sync": FRESH, "refresh": SILENT}, [], 2), False, id="one consumer silent"),
        pytest.param(Signs({"sync": FRESH}, [STUCK], 2), True, id="a thread is free"),
        pytest.param(Signs({"sync": FRESH}, [STUCK, RECENT], 2), True, id="a thread will be free"),
        pytest.param(Signs({"sync": FRESH}, [STUCK, STUCK], 2), False, id="every thread stuck"),
        pytest.param(Signs({"sync": FRESH}, [], 0), False, id="no thread lives"),
    ],
)
def test_a_process_can_work_while_consumers_come_round_and_a_thread_is_or_will_be_free(
    signs: Signs, expected: bool
) -> None:
    assert can_work(signs, NOW) is expected


@dataclass
class Watched:
    """A worker on a real Valkey, with a clock that the test moves and a count of its beats."""

    beats: int = 0
    ahead: float = 0
    rounds: Counter[str] = field(default_factory=Counter)
    broker: Broker = field(init=False)

    def beat(self) -> None:
        self.beats += 1

    def is_silent_after(self, seconds: float) -> bool:
        """Whether no beat comes when so much time has passed once more."""
        self.ahead += seconds
        return not self.goes_on()

    def goes_on(self) -> bool:
        """Whether two more beats come: the first may have been on its way already."""
        before = self.beats
        try:
            wait_until(lambda: self.beats > before + 1, "two beats", 1)
        except TimeoutError:
            return False
        return True


@contextmanager
def watched(url: str, hold: Callable[[], object] = lambda: None) -> Iterator[Watched]:
    """Its clock stands still unless `ahead` moves: what came round stays fresh until then."""
    seen = Watched()
    pulse = Pulse(seen.beat, clock=lambda: seen.ahead, every=0.01)

    class Held(Broker):
        def do_fetch(self, queue_name: str, count: int) -> Sequence[bytes]:
            hold()
            return super().do_fetch(queue_name, count)

        def wait(self, queue_name: str, seconds: float) -> bool | None:
            hold()
            return super().wait(queue_name, seconds)

    def note_round(queue: str) -> None:
        pulse.note_round(queue)
        seen.rounds[queue] += 1

    middleware = [Retries(), pulse]
    seen.broker = Held(on_round=note_round, url=url, middleware=middleware, heartbeat_timeout=1_000)
    seen.broker.emit_after("process_boot")
    worker = Worker(seen.broker, worker_timeout=20, worker_threads=2)
    worker.start()
    try:
        yield seen
    finally:
        worker.stop(timeout=5_000)
        seen.broker.close()


def test_an_idle_worker_beats(redis_url: str) -> None:
    with watched(redis_url) as seen:
        seen.broker.declare_queue("sync")
        assert seen.goes_on()
        seen.ahead += 2 * silent_seconds
        assert seen.goes_on()


def test_a_consumer_that_hangs_ends_the_beat_and_one_that_goes_on_brings_it_back(redis_url: str) -> None:
    free = threading.Event()
    free.set()
    with watched(redis_url, hold=free.wait) as seen:
        seen.broker.declare_queue("sync")
        assert seen.goes_on()
        free.clear()
        wait_until(lambda: seen.is_silent_after(2 * silent_seconds), "no more beats")
        free.set()
        wait_until(seen.goes_on, "beats again")


def test_a_worker_beats_on_while_redis_is_away(own_valkey: Valkey) -> None:
    with watched(own_valkey.url) as seen:
        seen.broker.declare_queue("sync")
        assert seen.goes_on()
        own_valkey.kill()
        seen.ahead += 2 * silent_seconds
        seen.rounds.clear()
        wait_until(lambda: set(seen.rounds) == {"sync", "sync.DQ"}, "both consumers tried again")
        assert seen.goes_on()
        own_valkey.start()


def test_a_worker_whose_threads_are_all_stuck_stops_beating(redis_url: str) -> None:
    free = threading.Event()
    with watched(redis_url) as seen:
        began = threading.Semaphore(0)

        def work() -> None:
            began.release()
            free.wait(30)

        actor = dramatiq.actor(broker=seen.broker, queue_name="sync", actor_name="work")(work)
        for _ in range(2):
            actor.send()
        for _ in range(2):
            assert began.acquire(timeout=20)
        assert seen.goes_on()
        wait_until(lambda: seen.is_silent_after(2 * stuck_seconds), "no more beats")
        free.set()
        wait_until(seen.goes_on, "beats again")
        with redis.Redis.from_url(redis_url) as client:
            wait_until(lambda: client.llen("dramatiq:sync") == 0, "both messages done")
