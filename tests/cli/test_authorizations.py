"""`breezesync authorizations`: what is under way and failed, with the reason."""

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from models.oauth.authorization import AuthorizationChange, Step, hold_up
from models.store import Store
from models.store.authorization_change import apply_change
from tests.databases import create_sqlite, open_fast_engine
from tests.store.conftest import an_authorization, noon
from worker.web.metrics import build_registry


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(open_fast_engine(create_sqlite(tmp_path / "b.db")))


def test_what_made_no_connection_is_found_by_user_and_step(store: Store) -> None:
    with store.writing() as tx:
        for number, step in enumerate((Step.started, Step.received, Step.granted, Step.failed, Step.connected)):
            made = an_authorization(str(number), "ada" if number % 2 else "bob", step=step, id=step.value)
            assert tx.authorizations.add(replace(made, browser_hash=str(number), due_at=noon), str(number))
    with store.reading() as tx:
        every = {each.id for each in tx.authorizations.find(None, None, 10)}
        assert every == {"started", "received", "granted", "failed"}
        assert {each.id for each in tx.authorizations.find("ada", None, 10)} == {"received", "failed"}
        assert [each.id for each in tx.authorizations.find(None, Step.connected, 10)] == ["connected"]
    assert b"breezesync_authorizations_waiting 2.0" in generate_latest(build_registry(store, lambda: noon))


def test_only_a_change_of_state_is_logged(store: Store) -> None:
    made = an_authorization(step=Step.received)
    with store.writing() as tx, capture_logs() as logs:
        tx.authorizations.add(made, "link")
        for why in ("HTTP 503", "HTTP 503", "HTTP 503", "no answer"):
            apply_change(tx, AuthorizationChange(hold_up(made, why)), noon)
    assert [line["description"] for line in logs] == ["HTTP 503", "no answer"]
