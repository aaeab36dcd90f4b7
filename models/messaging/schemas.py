"""The JSON Schema of every event document, made from the fact classes, with a description of each field."""

import types
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from models.messaging.events import Fact, RecordChanged, field_names, schema_version, type_prefix

draft = "http://json-schema.org/draft-07/schema#"
count = {"type": "integer", "minimum": 0}
kinds_of_change = ("created", "updated", "deleted", "unchanged")

summaries: Mapping[str, str] = {
    "connection.authorized": "A user authorized access, for the first time or again. A first sync follows.",
    "connection.authorization_failed": "A user tried to connect an account, and it failed.",
    "connection.refreshed": "The tokens were rotated before they expired.",
    "connection.reauthorization_required": "The grant has ended; the user has to authorize again.",
    "connection.disconnected": "The application disconnected the account; its tokens are erased.",
    "connection.access_limited": "The account's plan has no API access (403); the tokens still work.",
    "connection.access_restored": "The account has API access again.",
    "sync.completed": "A sync completed, with counts for each resource: one that was asked for, the first one of a "
    "connection, or one that found a change. A scheduled sync that found nothing only moves `last_synced_at`.",
    "sync.failed": "A sync failed. What it had read is kept, and the next sync runs as planned.",
    "record.created": "A record was read for the first time, or exists again.",
    "record.updated": "A record changed.",
    "record.deleted": "A record was proven to be deleted at the provider.",
    "call.completed": "The provider answered a call that was made as a job; the gateway has the answer for a day.",
    "call.failed": "A call that was made as a job was surely not carried out, and is not tried any more.",
    "call.unknown": "A call that was made as a job may have been carried out: its answer was lost. It is not repeated.",
    "provider.client_rejected": "The provider rejects the OAuth client. For the operator; no user is at fault.",
    "provider.client_recovered": "The provider accepts the OAuth client again.",
    "provider.unavailable": "The token endpoint gives no certain answer; tokens and codes are kept back.",
    "provider.available": "The token endpoint answers again.",
    "provider.mass_refusal": "More of a client's connections were refused than people revoke: the rest is held.",
    "provider.mass_refusal_ended": "Held connections are tried again, or were accepted as ended.",
}

words: Mapping[str, str] = {
    "provider": "The name of the provider's profile.",
    "user_id": "The application's own id of the user; empty if no user is concerned.",
    "connection_id": "The connection's id; empty if there is none yet.",
    "account_id": "The provider's id of the account.",
    "email": "The account's email address, if the provider returns it.",
    "scope": "The granted scope, if the provider returns it.",
    "expires_at": "When the access token expires; null if the provider does not say.",
    "reauthorized": "Whether the connection existed before.",
    "also_connected_by": "Other users of the application who have the same account of the provider connected.",
    "call_id": "The id of the call, by which the gateway shows it.",
    "authorization_id": "The authorization's id, as in the result page's URL.",
    "reason": "The reason, as a word for programs.",
    "description": "The reason in words, for a log.",
    "generation": "How many pairs of tokens the connection has had.",
    "detected_by": "Whether an API request or a refresh detected it.",
    "connect_path": "The path of a new connect link, without its token; it begins with the redirect URI's path prefix.",
    "revoked_upstream": "Whether the provider confirmed that it revoked the grant.",
    "run_id": "The sync's id in the table sync_run.",
    "resources": "The counts for each resource.",
    "duration_ms": "The duration of the sync in milliseconds, pauses included.",
    "resource": "The resource's name in the provider's profile.",
    "external_id": "The provider's id of the record.",
    "changed": "The names of the top-level fields that differ from before.",
    "initial": "Whether the resource was read for the first time, so that this is no news to the user.",
    "client_id": "The OAuth client at the provider.",
    "error": "The provider's error code; empty if it sent none.",
    "held": "How many connections are held, or were.",
    "refused": "How many connections of the client were refused within the profile's window.",
    "decision": "Who or what began or ended the hold.",
    "endpoint": "The URL of the token endpoint.",
    "status": "The HTTP status of the last answer, of a token endpoint the last that was no certain one; null if none "
    "came.",
    "since": "Since when the endpoint is, or was, unavailable.",
}


def fact_types() -> dict[str, type[Fact]]:
    """Return every event type with its fact class."""
    found: dict[str, type[Fact]] = {}
    for fact in get_args(Fact):
        if fact is RecordChanged:
            found |= {f"record.{kind}": fact for kind in get_args(get_type_hints(fact)["kind"])}
        else:
            found[fact.type] = fact
    return found


def schema_of(type_: str, *, strict: bool = False) -> dict[str, Any]:
    """Return the schema of one type's CloudEvents document.

    `strict` forbids fields that are not described here, for our own tests; consumers have to allow new fields.
    """
    text = {"type": "string", "minLength": 1}
    closed = {"additionalProperties": False} if strict else {}
    attributes: dict[str, Any] = {
        "specversion": {"const": "1.0"},
        "id": text | {"description": "Never changes; an id that was seen before is a repeat."},
        "source": {"type": "string", "pattern": "^/breezesync/[^/]+$", "description": "/breezesync/ and the provider."},
        "type": {"const": type_prefix + type_},
        "subject": {
            "type": "string",
            "description": "The connection's id, or what else the event is about if there is no connection.",
        },
        "time": {"type": "string", "format": "date-time", "description": "When it happened, in UTC."},
        "datacontenttype": {"const": "application/json"},
        "dataschema": {"const": schema_id(type_)},
        "sequence": {
            "type": "string",
            "pattern": "^[1-9][0-9]*$",
            "description": "Counts 1, 2, 3 … for each subject and stream.",
        },
        "data": _data_of(type_) | closed,
    }
    return {
        "$schema": draft,
        "$id": schema_id(type_),
        "title": type_,
        "description": summaries[type_],
        "type": "object",
        "required": list(attributes),
        "properties": attributes,
        **closed,
    }


def schema_id(type_: str) -> str:
    return f"urn:breezesync:schema:{type_}:{schema_version}"


def _data_of(type_: str) -> dict[str, Any]:
    fact = fact_types()[type_]
    hints = get_type_hints(fact)
    envelope = {
        name: {"type": "string", "description": words[name]} for name in ("provider", "user_id", "connection_id")
    }
    own = {name: _schema_for(name, hints[name]) | {"description": words[name]} for name in field_names(fact)}
    properties = envelope | own
    return {"type": "object", "required": list(properties), "properties": properties}


def _schema_for(name: str, hint: Any) -> dict[str, Any]:
    """Return the JSON Schema of a field's type. Raises TypeError for a type that no fact has used so far."""
    simple = {str: "string", bool: "boolean", int: "integer"}
    if name == "resources":
        counts = {
            "type": "object",
            "required": list(kinds_of_change),
            "properties": dict.fromkeys(kinds_of_change, count),
        }
        return {"type": "object", "additionalProperties": counts}
    if hint is datetime:
        return {"type": "string", "format": "date-time"}
    if hint in simple:
        return {"type": simple[hint]}
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"type": "string", "enum": list(inner)}
    if origin is tuple:
        return {"type": "array", "items": _schema_for(name, inner[0])}
    if origin in (Union, types.UnionType) and inner[1:] == (types.NoneType,):
        schema = _schema_for(name, inner[0])
        return schema | {"type": [schema["type"], "null"]}
    raise TypeError(f"{name}: no JSON Schema is known for {hint}")
