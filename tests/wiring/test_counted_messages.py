"""What becomes of a message is counted, by its actor."""

from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import AgeLimit, Retries

from models.messaging.messages import QUEUES
from worker.metrics.counters import Metrics
from worker.metrics.messages import CountMessages


@pytest.mark.parametrize(
    ("error", "retries", "counted"),
    [
        (None, 1, {"done": 1.0}),
        (ValueError("no"), 1, {"retried": 1.0, "failed": 1.0}),
        (ValueError("no"), 0, {"failed": 1.0}),
    ],
)
def test_a_failure_that_is_tried_again_is_not_one_for_good(
    error: Exception | None, retries: int, counted: dict[str, float]
) -> None:
    metrics = Metrics()
    broker = StubBroker(middleware=[AgeLimit(), Retries(max_retries=retries, min_backoff=1, max_backoff=2)])
    broker.add_middleware(CountMessages(metrics), before=AgeLimit)

    @dramatiq.actor(broker=broker, actor_name="sync_connection", queue_name=QUEUES["sync_connection"])
    def act(**ids: Any) -> None:
        if error is not None:
            raise error

    worker = dramatiq.Worker(broker, worker_timeout=10)
    worker.start()
    try:
        act.send(connection_id="c")
        broker.join(act.queue_name, fail_fast=False)
        worker.join()
    finally:
        worker.stop()

    def shown(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"breezesync_{name}", {"actor": "sync_connection", **labels})

    outcomes = ("done", "retried", "failed", "skipped")
    found = {outcome: shown("messages_total", outcome=outcome) for outcome in outcomes}
    assert {outcome: number for outcome, number in found.items() if number} == counted
    assert shown("message_seconds_count") == sum(counted.values())
