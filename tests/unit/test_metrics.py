"""What a worker counts, from decisions and answers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from models.crypto.secrets import Secret
from models.oauth.connection import Connection, Status
from models.oauth.refresh_decision import RefreshDecision
from models.oauth.token_response import (
    ClientRefused,
    Evidence,
    GrantRefused,
    NotNow,
    OutcomeUnknown,
    RequestRefused,
    ScopeRefused,
    TokenOutcome,
    TokensGranted,
)
from models.sync.decision import Deletion, StepDecision
from models.sync.records import Item, RecordChanges
from models.sync.sync_run import RunStatus, SyncRun
from worker.metrics.counters import BudgetUse, Metrics, name_outcome, name_status

noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
granted = TokensGranted(Secret("a"), Secret("r"), timedelta(hours=1), "*")
connection = Connection("c", "ada", "p", "client", "1", Status.active, noon)


def shown(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"breezesync_{name}", labels)


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (granted, "granted"),
        (GrantRefused(Evidence(), expired=False), "refused"),
        (ClientRefused(Evidence()), "client_rejected"),
        (ScopeRefused(Evidence()), "scope_refused"),
        (RequestRefused(Evidence()), "malformed"),
        (NotNow(Evidence(), None, throttled=True), "throttled"),
        (NotNow(Evidence(), None, throttled=False), "unavailable"),
        (OutcomeUnknown(Evidence()), "unknown"),
        (None, "unread"),
    ],
)
def test_each_outcome_of_a_token_request_has_a_word(outcome: TokenOutcome | None, word: str) -> None:
    assert name_outcome(outcome) == word


@pytest.mark.parametrize(("status", "label"), [(0, "none"), (200, "200"), (599, "599"), (99, "other"), (9999, "other")])
def test_a_server_cannot_make_up_labels(status: int, label: str) -> None:
    assert name_status(status) == label


def test_a_refresh_is_late_from_when_it_was_due_until_it_was_saved() -> None:
    metrics = Metrics()
    due = replace(connection, refresh_due_at=noon - timedelta(seconds=30))
    metrics.note_refresh(due, None, RefreshDecision(subject=due, at=noon, granted=granted))
    assert shown(metrics, "refresh_lateness_seconds_sum") == 30
    assert shown(metrics, "revocation_detection_seconds_count") == 0


@pytest.mark.parametrize(("reason", "seen"), [("access_revoked", 600.0), ("rotation_lost", 0.0)])
def test_a_dead_grant_went_unnoticed_since_the_last_proof_that_it_was_alive(reason: str, seen: float) -> None:
    metrics = Metrics()
    alive = replace(connection, last_synced_at=noon - timedelta(minutes=10))
    decision = RefreshDecision(subject=alive, at=noon, connection=alive, runs_end=reason)  # type: ignore[arg-type]
    metrics.note_refresh(alive, noon - timedelta(hours=1), decision)
    assert shown(metrics, "revocation_detection_seconds_sum") == seen


def test_a_step_counts_its_records_and_its_runs_end() -> None:
    metrics = Metrics()
    run = SyncRun("r", "c", RunStatus.running, noon - timedelta(seconds=40))
    item = Item("1", {}, "h")
    changes = RecordChanges("document", "document", (item, item), (item,))
    step = StepDecision(subject=connection, at=noon, run=run, changes=changes)
    metrics.note_step(run, None, step)
    assert shown(metrics, "sync_runs_total", provider="p", depth="full", outcome="completed") is None
    done = replace(run, status=RunStatus.completed)
    metrics.note_step(
        run, None, StepDecision(subject=connection, at=noon, run=done, deletion=Deletion("document", ("9",)))
    )
    found = {
        change: shown(metrics, "records_changed_total", provider="p", resource="document", change=change)
        for change in ("created", "updated", "deleted")
    }
    assert found == {"created": 2, "updated": 1, "deleted": 1}
    metrics.count_changes("p", (changes, changes))
    assert shown(metrics, "records_changed_total", provider="p", resource="document", change="created") == 6
    assert shown(metrics, "sync_runs_total", provider="p", depth="full", outcome="completed") == 1
    assert shown(metrics, "sync_duration_seconds_sum") == 40


def test_the_use_of_a_budget_is_its_largest_one_of_late() -> None:
    use = BudgetUse()
    assert [use.note(ratio, at) for ratio, at in [(0.9, 100), (0.2, 110), (0.1, 131), (0.0, 162), (0.0, 500)]] == [
        0.9,
        0.9,
        0.9,
        0.1,
        0.0,
    ]
