"""What an operator is told is wrong, and what is not worth a word."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from worker.operator.views.attention import Situation, find_attention
from worker.operator.views.groups import GroupLine, StreamView
from worker.operator.views.providers import ClientView
from worker.operator.views.queues import ProcessView, QueueDepth
from worker.operator.views.webhooks import EndpointView

noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
worker = ProcessView("worker a:1", "worker", "1.2", noon, 0.0, True)
scheduler = ProcessView("scheduler a:2", "scheduler", "1.2", noon, 0.0, True)
client = ClientView(
    provider="breezedoc",
    client_id="c",
    state="closed",
    is_configured=True,
    since=None,
    error=None,
    status=None,
    endpoint=None,
    next_probe_at=None,
    probes=0,
    held=0,
    held_since=None,
    held_by_operator=False,
    next_trial_at=None,
    sentences=[],
    actions=[],
)
well = Situation(
    now=noon,
    redis_trouble=None,
    queues=[QueueDepth("sync", 3, 1, 0)],
    streams=[],
    clients=[client],
    processes=[worker, scheduler],
    overdue=timedelta(seconds=5),
    lag=timedelta(seconds=1),
    active=100,
    problems=[("plan_required", 90), ("sync_failing", 4), ("throttled", 50), ("held", 60)],
)
group = GroupLine("breezesync:events", "app", 1, 0, 4, 400.0, "1-0", is_stuck=True)


endpoint = EndpointView(
    name="app",
    url="https://app.example/w",
    types=("*",),
    state="active",
    since=None,
    delivered_at=noon,
    error=None,
    retry_at=None,
    waiting=2,
    waits_since=noon - timedelta(seconds=20),
    dead=0,
    test=None,
    actions=("retry", "test", "pause"),
)


def of_endpoint(**fields: object) -> Situation:
    return replace(well, endpoints=[replace(endpoint, **fields)])  # type: ignore[arg-type]


def of_client(state: str, **fields: object) -> Situation:
    return replace(well, clients=[replace(client, state=state, sentences=["why, and until when"], **fields)])  # type: ignore[arg-type]


situations = {
    "all is well": (well, []),
    "Redis takes no writes": (replace(well, redis_trouble="Redis takes no writes (OOM)"), ["redis"]),
    "no scheduler": (replace(well, processes=[worker, replace(scheduler, is_alive=False)]), ["no_scheduler"]),
    "no process at all": (replace(well, processes=[]), ["no_scheduler", "no_worker"]),
    "a clock that is off": (replace(well, processes=[replace(worker, ahead_seconds=-3.0), scheduler]), ["clock"]),
    "an old process's clock": (
        replace(well, processes=[worker, scheduler, replace(worker, ahead_seconds=90.0, is_alive=False)]),
        [],
    ),
    "two versions": (replace(well, processes=[worker, replace(scheduler, version="1.3")]), ["versions"]),
    "a rejected client": (of_client("rejected"), ["client_rejected"]),
    "an endpoint that is away": (of_client("unavailable"), ["provider_unavailable"]),
    "a paused provider": (of_client("paused"), ["paused"]),
    "held connections": (of_client("closed", held=7, held_since=noon), ["held"]),
    "dead letters": (replace(well, queues=[QueueDepth("sync", 0, 0, 2)]), ["dead_letters"]),
    "late work": (replace(well, overdue=timedelta(minutes=2)), ["overdue"]),
    "events that wait": (replace(well, lag=timedelta(minutes=9)), ["event_lag"]),
    "a stuck consumer": (replace(well, streams=[StreamView("breezesync:events", 4, [group])]), ["group_stuck"]),
    "many that fail": (replace(well, problems=[("sync_failing", 6)]), ["many_problems"]),
    "a key that is missing": (replace(well, problems=[("token_unreadable", 1)]), ["token_unreadable"]),
    "a problem of a newer version": (replace(well, problems=[("something_new", 80)]), ["many_problems"]),
    "an endpoint that works": (of_endpoint(), []),
    "an endpoint that fails": (of_endpoint(state="failing", since=noon, error="HTTP 500"), ["webhook_failing"]),
    "an endpoint that is paused": (of_endpoint(state="paused", since=noon), ["webhook_paused"]),
    "an endpoint that is gone": (of_endpoint(state="gone", since=noon, error="HTTP 410"), ["webhook_gone"]),
    "events that an endpoint refuses": (of_endpoint(waits_since=noon - timedelta(hours=1)), ["webhook_late"]),
    "events that were given up": (of_endpoint(dead=1), ["webhook_dead_letters"]),
    "a call without an answer": (replace(well, calls_unknown=1), ["calls_unknown"]),
    "Redis is away": (replace(well, queues=None, streams=None, redis_trouble="Redis is away"), ["redis"]),
    "failures first": (
        replace(well, queues=[QueueDepth("sync", 0, 0, 1)], lag=timedelta(hours=1)),
        ["event_lag", "dead_letters"],
    ),
}


@pytest.mark.parametrize(("situation", "codes"), situations.values(), ids=situations.keys())
def test_what_is_wrong_is_named_with_its_remedy(situation: Situation, codes: list[str]) -> None:
    found = find_attention(situation)
    assert [each.code for each in found] == codes
    assert all(each.said and each.remedy and not each.said.endswith(".") for each in found)
