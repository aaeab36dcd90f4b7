"""Every event as the outside reads it: through the CloudEvents SDK, with the data that is promised."""

import json
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from cloudevents.core.formats.json import JSONFormat

from models.messaging.events import (
    About,
    AccessLimited,
    AccessRestored,
    AuthorizationFailed,
    CallCompleted,
    CallFailed,
    CallUnknown,
    ClientRecovered,
    ClientRejected,
    ConnectionAuthorized,
    ConnectionDisconnected,
    ConnectionRefreshed,
    Fact,
    MassRefusal,
    MassRefusalEnded,
    ProviderAvailable,
    ProviderUnavailable,
    ReauthorizationRequired,
    RecordChanged,
    StoredEvent,
    SyncCompleted,
    SyncFailed,
    describe,
)

at = datetime(2026, 11, 24, 12, 30, 15, 250_000, tzinfo=UTC)
expires_at = datetime(2027, 11, 24, tzinfo=UTC)
about = About("breezedoc", "ada", "c1")
counts = {"created": 1, "updated": 0, "deleted": 0, "unchanged": 2}

promised: dict[str, tuple[Fact, dict[str, Any]]] = {
    "connection.authorized": (
        ConnectionAuthorized("7", "ada@example.com", "*", expires_at, reauthorized=False, also_connected_by=("eve",)),
        {
            "account_id": "7",
            "email": "ada@example.com",
            "scope": "*",
            "expires_at": "2027-11-24T00:00:00+00:00",
            "reauthorized": False,
            "also_connected_by": ["eve"],
        },
    ),
    "connection.authorization_failed": (
        AuthorizationFailed("a1", "denied", "the user said no"),
        {"authorization_id": "a1", "reason": "denied", "description": "the user said no"},
    ),
    "connection.refreshed": (ConnectionRefreshed(4, None), {"generation": 4, "expires_at": None}),
    "connection.reauthorization_required": (
        ReauthorizationRequired("access_revoked", "api", "/auth/breezedoc"),
        {"reason": "access_revoked", "detected_by": "api", "connect_path": "/auth/breezedoc"},
    ),
    "connection.disconnected": (ConnectionDisconnected(revoked_upstream=False), {"revoked_upstream": False}),
    "connection.access_limited": (AccessLimited(), {"reason": "plan_required"}),
    "connection.access_restored": (AccessRestored(), {"reason": "plan_required"}),
    "sync.completed": (
        SyncCompleted("r1", {"document": counts}, 1200),
        {"run_id": "r1", "resources": {"document": counts}, "duration_ms": 1200},
    ),
    "sync.failed": (
        SyncFailed("r1", "provider_unavailable", "HTTP 500"),
        {"run_id": "r1", "reason": "provider_unavailable", "description": "HTTP 500"},
    ),
    "record.created": (
        RecordChanged("created", "document", "12", ("id", "title"), initial=True),
        {"resource": "document", "external_id": "12", "changed": ["id", "title"], "initial": True},
    ),
    "record.updated": (
        RecordChanged("updated", "document", "12", ("title",), initial=False),
        {"resource": "document", "external_id": "12", "changed": ["title"], "initial": False},
    ),
    "record.deleted": (
        RecordChanged("deleted", "document", "12", (), initial=False),
        {"resource": "document", "external_id": "12", "changed": [], "initial": False},
    ),
    "call.completed": (CallCompleted("k1", 201), {"call_id": "k1", "status": 201}),
    "call.failed": (
        CallFailed("k1", None, "rate_limited"),
        {"call_id": "k1", "status": None, "reason": "rate_limited"},
    ),
    "call.unknown": (
        CallUnknown("k1", None, "answer_lost"),
        {"call_id": "k1", "status": None, "reason": "answer_lost"},
    ),
    "provider.client_rejected": (
        ClientRejected("client", "invalid_client", "wrong secret"),
        {"client_id": "client", "error": "invalid_client", "description": "wrong secret"},
    ),
    "provider.client_recovered": (
        ClientRecovered("client", "", "it answers again"),
        {"client_id": "client", "error": "", "description": "it answers again"},
    ),
    **{
        fact.type: (
            fact("client", "https://p/t", None, at),
            {"client_id": "client", "endpoint": "https://p/t", "status": None, "since": at.isoformat()},
        )
        for fact in (ProviderUnavailable, ProviderAvailable)
    },
    "provider.mass_refusal": (
        MassRefusal("client", 260, 270, "held"),
        {"client_id": "client", "held": 260, "refused": 270, "decision": "held"},
    ),
    "provider.mass_refusal_ended": (
        MassRefusalEnded("client", 260, 270, "recovered"),
        {"client_id": "client", "held": 260, "refused": 270, "decision": "recovered"},
    ),
}


@pytest.mark.parametrize("type_", promised)
def test_the_cloudevents_sdk_reads_each_event_as_promised(type_: str) -> None:
    fact, data = promised[type_]
    event = JSONFormat().read(None, describe(fact, about, "e1", 3, at).document)
    assert event.get_attributes() == {
        "specversion": "1.0",
        "id": "e1",
        "source": "/breezesync/breezedoc",
        "type": f"dev.breezesync.{type_}",
        "subject": "c1",
        "time": at,
        "datacontenttype": "application/json",
        "dataschema": f"urn:breezesync:schema:{type_}:1",
        "sequence": "3",
    }
    assert event.get_data() == {"provider": "breezedoc", "user_id": "ada", "connection_id": "c1", **data}


@pytest.mark.parametrize("type_", promised)
def test_an_entry_repeats_what_its_document_says(type_: str) -> None:
    stored = describe(promised[type_][0], about, "e1", 3, at)
    stream = "records" if type_.startswith("record.") else "events"
    assert stored == StoredEvent("e1", stream, type_, "breezedoc", "ada", "c1", 3, stored.document)  # type: ignore[arg-type]


def test_every_kind_of_fact_is_promised_and_every_promise_has_its_fact() -> None:
    assert {type(fact) for fact, _ in promised.values()} == set(get_args(Fact))
    assert {fact.type for fact, _ in promised.values()} == set(promised)


def test_an_event_before_there_is_a_connection_names_its_own_subject() -> None:
    without = About("breezedoc", "ada", other_subject="authorization/a1")
    event = JSONFormat().read(None, describe(AuthorizationFailed("a1", "denied", ""), without, "e1", 1, at).document)
    assert event.get_subject() == "authorization/a1"
    data = event.get_data()
    assert isinstance(data, dict)
    assert data["connection_id"] == ""


def test_a_document_holds_any_text_as_it_is() -> None:
    name = 'Grüße "an" \u2028 alle 🙂'
    stored = describe(SyncFailed("r", "x", name), about, "e", 1, at)
    assert json.loads(stored.document)["data"]["description"] == name
