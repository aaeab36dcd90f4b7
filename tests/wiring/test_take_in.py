"""Parked pairs are taken in for as long as a worker runs, whoever else waits, and whatever is away."""

import threading
from datetime import timedelta

from dramatiq import Worker
from dramatiq.brokers.stub import StubBroker

from models.store.transaction import StoreUnavailable
from tests.servers import wait_until
from worker.take_in import TakesIn


def test_parked_pairs_are_taken_in_without_any_message_until_the_worker_stops() -> None:
    asked = threading.Semaphore(0)
    times = 0

    def take_in() -> int:
        nonlocal times
        times += 1
        asked.release()
        if times < 3:
            raise StoreUnavailable("the database is away")
        return 1

    broker = StubBroker(middleware=[])
    takes_in = TakesIn(take_in, timedelta(milliseconds=5))
    broker.add_middleware(takes_in)
    worker = Worker(broker, worker_threads=1, worker_timeout=50)
    worker.start()
    for _ in range(4):
        assert asked.acquire(timeout=20)
    worker.stop()
    wait_until(lambda: not takes_in.thread.is_alive(), "the thread has ended")
    broker.close()
