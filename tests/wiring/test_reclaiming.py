"""Messages whose way to a worker broke off: each is worked on all the same, and none that is in hand a second time."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import dramatiq
import pytest
import redis
from dramatiq import Worker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Retries

from tests.servers import wait_until
from worker.queue.broker import Broker, InHand, find_lost

often = 0.05


@pytest.mark.parametrize(
    ("taken", "in_hand", "lost"),
    [
        pytest.param(set(), InHand(), set(), id="nothing taken"),
        pytest.param({"a", "b"}, InHand({"a"}, {"b"}), set(), id="all in hand"),
        pytest.param({"a", "b", "c"}, InHand({"a"}, {"b"}), {"c"}, id="one lost"),
        pytest.param({"a"}, InHand(set(), {"a", "b"}), set(), id="one acknowledged meanwhile"),
    ],
)
def test_lost_is_what_was_taken_and_is_not_in_hand(taken: set[str], in_hand: InHand, lost: set[str]) -> None:
    assert find_lost(taken, in_hand) == lost


class Forgetful(Broker):
    """Its first so many fetches take place, and their answers are lost; `breaks` is whether that is noticed."""

    losing = 0
    breaks = False

    def do_fetch(self, queue_name: str, count: int) -> Sequence[bytes]:
        if self.losing > 0 and queue_name == "sync":
            texts = self.fetch_readable(queue_name, count)
            if texts:
                self.losing -= 1
                if self.breaks:
                    raise redis.ConnectionError("the answer was lost")
                return []
        return super().do_fetch(queue_name, count)


@contextmanager
def working(broker: RedisBroker, do: Callable[[str], None], threads: int = 2) -> Iterator[Callable[..., object]]:
    """A worker that does this with what it is sent, and a way to send."""
    actor = dramatiq.actor(broker=broker, queue_name="sync", actor_name="do", max_retries=3, min_backoff=300)(do)
    broker.emit_after("process_boot")
    worker = Worker(broker, worker_timeout=20, worker_threads=threads)
    worker.start()
    try:
        yield actor.send_with_options
    finally:
        worker.stop(timeout=5_000)
        broker.close()


@pytest.mark.parametrize("breaks", [False, True], ids=["unnoticed", "noticed"])
def test_messages_whose_fetch_got_no_answer_are_worked_on_by_the_worker_that_lost_them(
    redis_url: str, breaks: bool
) -> None:
    done: Counter[str] = Counter()
    broker = Forgetful(url=redis_url, middleware=[Retries()], reclaim_every=often)
    broker.losing, broker.breaks = 2, breaks
    with working(broker, lambda name: done.update([name])) as send:
        for n in range(20):
            send(args=(f"m{n}",))
        wait_until(lambda: len(done) == 20, "every message was worked on")
    assert set(done.values()) == {1}


def test_what_is_in_hand_is_not_worked_on_a_second_time(redis_url: str) -> None:
    done: Counter[str] = Counter()
    free = threading.Event()
    looks: Counter[str] = Counter()

    class Counting(Broker):
        def reclaim(self, queue_name: str) -> None:
            super().reclaim(queue_name)
            looks[queue_name] += 1

    def do(name: str) -> None:
        done.update([name])
        free.wait(30)

    with working(Counting(url=redis_url, middleware=[Retries()], reclaim_every=often), do) as send:
        for n in range(5):
            send(args=(f"m{n}",))
        send(args=("later",), delay=600)
        wait_until(lambda: len(done) == 2, "both threads are busy")
        wait_until(lambda: min(looks["sync"], looks["sync.DQ"]) > 5, "it was looked for")
        free.set()
        wait_until(lambda: len(done) == 6, "every message was worked on")
    assert set(done.values()) == {1}


def test_a_retry_whose_consumer_forgot_it_comes_all_the_same(redis_url: str) -> None:
    tries: Counter[str] = Counter()

    class Breaking(Broker):
        """The connection of the consumer of delayed messages breaks once, while it holds one."""

        broken = False

        def do_fetch(self, queue_name: str, count: int) -> Sequence[bytes]:
            if queue_name == "sync.DQ" and self.in_hand[queue_name].passed_on and not self.broken:
                self.broken = True
                raise redis.ConnectionError("broken off")
            return super().do_fetch(queue_name, count)

    def do(name: str) -> None:
        tries.update([name])
        if tries[name] == 1:
            raise ValueError("the first try fails")

    broker = Breaking(url=redis_url, middleware=[Retries()], reclaim_every=often)
    with working(broker, do) as send:
        send(args=("m",))
        wait_until(lambda: tries["m"] == 2, "it was tried again")
    assert broker.broken
