"""Parked pairs are taken in for as long as a worker runs, whoever else waits, and whatever is away."""

import threading
from datetime import timedelta
from pathlib import Path

import redis
from dramatiq import Worker
from dramatiq.brokers.stub import StubBroker

from config.settings import read_settings
from config.wiring import open_services
from models.crypto.vault import new_key
from models.errors import StoreUnavailable
from tests.servers import wait_until
from worker.oauth.recover_tokens import RecoveryThread
from worker.processes.parts import build_flows, build_parts
from worker.tokens.spool import Ticket, parked_key


def test_parked_pairs_are_taken_in_without_any_message_until_the_worker_stops() -> None:
    troubles = (StoreUnavailable("the database is away"), ValueError("a defect"), UnicodeError("no UTF-8"))
    asked = threading.Semaphore(0)
    times = 0

    def take_in() -> int:
        nonlocal times
        times += 1
        asked.release()
        if times <= len(troubles):
            raise troubles[times - 1]
        return 1

    broker = StubBroker(middleware=[])
    takes_in = RecoveryThread(take_in, timedelta(milliseconds=5))
    broker.add_middleware(takes_in)
    worker = Worker(broker, worker_threads=1, worker_timeout=50)
    worker.start()
    for _ in range(len(troubles) + 2):
        assert asked.acquire(timeout=20)
    worker.stop()
    wait_until(lambda: not takes_in.thread.is_alive(), "the thread has ended")
    broker.close()


def test_a_text_in_redis_that_is_no_utf_8_keeps_no_pair_from_being_looked_at(redis_url: str, tmp_path: Path) -> None:
    settings = read_settings(
        {
            "DATABASE_URL": f"sqlite:///{tmp_path}/breezesync.db",
            "REDIS_URL": redis_url,
            "SPOOL_DIRECTORY": str(tmp_path / "spool"),
            "ENCRYPTION_KEYS": new_key("k1").line().reveal(),
        },
        needs=frozenset({"keys"}),
    )
    with redis.Redis.from_url(redis_url) as client:
        for name in (b"\xff", "refresh-c1-7"):
            client.hset(parked_key, name, b"\xff")
    services = open_services(settings, "worker")
    flows = build_flows(build_parts(settings, services))
    assert flows.recover_tokens.parking.tickets() == [Ticket("refresh", "c1", 7)]
    assert flows.recover_tokens() == 0
    services.close()
