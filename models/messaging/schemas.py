"""The JSON Schema of every event document, read off the facts themselves, with words for each field."""

import types
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from models.messaging.events import Fact, RecordChanged, field_names, schema_version, type_prefix

draft = "http://json-schema.org/draft-07/schema#"
count = {"type": "integer", "minimum": 0}
kinds_of_change = ("created", "updated", "deleted", "unchanged")

summaries: Mapping[str, str] = {
    "connection.authorized": "A user authorized, for the first time or again: tokens are here, a first sync follows.",
    "connection.authorization_failed": "A user tried to connect, and it came to nothing.",
    "connection.refreshed": "The tokens were rotated before they expired.",
    "connection.reauthorization_required": "The grant is dead: only the user can bring the connection back.",
    "connection.disconnected": "The application let go of the account: its tokens are erased.",
    "connection.access_limited": "The account's plan has no API access (403); the tokens are good.",
    "connection.access_restored": "The API answers again after it was limited.",
    "sync.completed": "A reading has ended well; each resource with what of it was read.",
    "sync.failed": "A reading was given up; what it had read stays, the next one comes at its time.",
    "record.created": "Something of the user's was seen for the first time, or is back.",
    "record.updated": "Something of the user's changed.",
    "record.deleted": "A whole reading no longer found it.",
    "provider.client_rejected": "The provider refuses the OAuth client: for the operator, never a user's fault.",
    "provider.client_recovered": "The provider takes the OAuth client again.",
}

words: Mapping[str, str] = {
    "provider": "The name of the provider's profile.",
    "user_id": "The application's own id of the user; empty where no user is concerned.",
    "connection_id": "The connection; empty where there is none yet.",
    "account_id": "The provider's id of the account.",
    "email": "The account's address, where the provider tells it.",
    "scope": "The scope granted, where the provider tells it.",
    "expires_at": "When the access token expires; null where the provider does not tell.",
    "reauthorized": "Whether the connection existed before.",
    "authorization_id": "The try at connecting that this is about, as on the result page.",
    "reason": "Why, as a word that programs can go by.",
    "description": "Why, in words for a log.",
    "generation": "How many pairs of tokens the connection has held.",
    "detected_by": "Whether an API call or a refresh noticed.",
    "connect_path": "Where a new connect link leads, without its token.",
    "revoked_upstream": "Whether the provider confirmed that the grant has ended.",
    "run_id": "The reading, as in the table sync_run.",
    "resources": "What was counted, for each resource.",
    "duration_ms": "From the reading's beginning to its end, pauses included.",
    "resource": "The resource's name in the provider's profile.",
    "external_id": "The provider's id of the record.",
    "changed": "The names of the top-level fields that differ from before.",
    "initial": "Whether this was the first reading of the resource: no news to the user.",
    "client_id": "The OAuth client at the provider.",
    "error": "The provider's error code; empty where it gave none.",
}


def fact_types() -> dict[str, type[Fact]]:
    """Every event type there is, with the fact that it tells."""
    found: dict[str, type[Fact]] = {}
    for fact in get_args(Fact):
        if fact is RecordChanged:
            found |= {f"record.{kind}": fact for kind in get_args(get_type_hints(fact)["kind"])}
        else:
            found[fact.type] = fact
    return found


def schema_of(type_: str, *, strict: bool = False) -> dict[str, Any]:
    """The schema of one type's CloudEvents document. With `strict` nothing may be in it that is not described here;
    without, as for everybody else, fields may have been added."""
    text = {"type": "string", "minLength": 1}
    closed = {"additionalProperties": False} if strict else {}
    attributes: dict[str, Any] = {
        "specversion": {"const": "1.0"},
        "id": text | {"description": "Never changes: an id seen before is a repeat."},
        "source": {"type": "string", "pattern": "^/breezesync/[^/]+$", "description": "/breezesync/ and the provider."},
        "type": {"const": type_prefix + type_},
        "subject": {"type": "string", "description": "The connection, or what the event is about before there is one."},
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
    """What values of this type look like in JSON. Raises TypeError for a type that no fact has had so far."""
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
