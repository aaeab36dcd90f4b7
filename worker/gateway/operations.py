"""What the gateway answers, as a table: each operation, its parameters, and what every status means.

docs and tests read it as OpenAPI (`openapi.py`); the routes are made from it, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from models.gateway.call import CallReason, CallStatus
from models.gateway.call_request import known_headers, longest_header
from models.gateway.keys import known_methods
from models.gateway.problems import ProblemType

Kind = Literal["list", "connection", "token", "call", "make_call", "show_call"]
longest_page: Final = 200
usual_page: Final = 50
longest_ttl: Final = 3_600
usual_ttl: Final = 60


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the path or the query."""

    name: str
    place: Literal["path", "query"]
    text: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    answer: the schema of its good answer, which has `status`; None if that is the provider's.
    """

    kind: Kind
    path: str
    methods: tuple[str, ...]
    summary: str
    text: str
    parameters: tuple[Parameter, ...]
    problems: tuple[ProblemType, ...]
    answer: str | None = None
    body: str | None = None
    status: int = 200

    @property
    def route(self) -> str:
        """Return the path as Starlette matches it."""
        return self.path.replace("{path}", "{path:path}")


always = (
    ProblemType.bad_request,
    ProblemType.unauthorized,
    ProblemType.rate_limited,
    ProblemType.failed,
    ProblemType.unavailable,
)
of_one = (*always, ProblemType.connection_unknown)
of_token = (
    *of_one,
    ProblemType.not_allowed,
    ProblemType.reauthorization_required,
    ProblemType.too_large,
    ProblemType.held,
    ProblemType.provider_unavailable,
)
identity = Parameter("connection_id", "path", "The connection's id.", {"type": "string"})
operations: Final = (
    Operation(
        "list",
        "/v1/connections",
        ("GET",),
        "List connections",
        "In the order of their ids, a page at a time: while there is a `next_cursor`, ask again with it as `cursor`. "
        "A page of one status at one provider may have fewer connections than `limit`, or none, and others follow.",
        (
            Parameter("user_id", "query", "Only this user's.", {"type": "string", "minLength": 1, "maxLength": 255}),
            Parameter("provider", "query", "Only those at this provider.", {"type": "string", "minLength": 1}),
            Parameter(
                "status", "query", "Only these.", {"type": "string", "enum": ["active", "revoked", "disconnected"]}
            ),
            Parameter(
                "limit",
                "query",
                "How many at most.",
                {"type": "integer", "minimum": 1, "maximum": longest_page, "default": usual_page},
            ),
            Parameter("cursor", "query", "The `next_cursor` of the page before.", {"type": "string"}),
        ),
        always,
        answer="Connections",
    ),
    Operation(
        "connection",
        "/v1/connections/{connection_id}",
        ("GET",),
        "Show a connection",
        "With `connect_path` if its user has to authorize again.",
        (identity,),
        of_one,
        answer="Connection",
    ),
    Operation(
        "token",
        "/v1/connections/{connection_id}/token",
        ("POST",),
        "Get an access token",
        "One that lives for `min_ttl` seconds more. If the stored one does not, it is refreshed first, and the request "
        "waits for that for up to ten seconds. A token that was refreshed just now is given however long it lives, and "
        "so is one whose refresh was asked for less than a minute ago.",
        (identity,),
        of_token,
        answer="Token",
        body="TokenRequest",
    ),
    Operation(
        "call",
        "/v1/connections/{connection_id}/proxy/{path}",
        ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"),
        "Call the provider's API",
        "The request is sent to `api_url` with the connection's access token, and the provider's answer comes back as "
        "it is, with the header `Breezesync-Source: provider`. Redirects are not followed.",
        (identity, Parameter("path", "path", "What follows `api_url`, as the provider knows it.", {"type": "string"})),
        (*of_token, ProblemType.answer_unusable),
    ),
    Operation(
        "make_call",
        "/v1/connections/{connection_id}/calls",
        ("POST",),
        "Make a call as a job",
        "The call is stored, and a worker sends it: at most once if its method is not GET or HEAD, and again while it "
        "was surely not carried out, for an hour. The same `idempotency_key` of the same connection is the same call.",
        (identity,),
        (
            *of_one,
            ProblemType.not_allowed,
            ProblemType.reauthorization_required,
            ProblemType.idempotency_conflict,
            ProblemType.too_large,
        ),
        answer="Call",
        body="CallRequest",
        status=202,
    ),
    Operation(
        "show_call",
        "/v1/calls/{call_id}",
        ("GET",),
        "Show a call",
        "With the provider's answer once there is one. Bodies are kept for a day, the rest for 30 days.",
        (Parameter("call_id", "path", "The call's id.", {"type": "string"}),),
        (*always, ProblemType.call_unknown, ProblemType.not_allowed),
        answer="Call",
    ),
)

time_or_none = {"type": ["string", "null"], "format": "date-time"}
text_or_none = {"type": ["string", "null"]}
schemas: Final[Mapping[str, Mapping[str, Any]]] = {
    "Connection": {
        "type": "object",
        "additionalProperties": False,
        "required": ["id", "user_id", "provider", "account_id", "status", "generation", "created_at"],
        "properties": {
            "id": {"type": "string"},
            "user_id": {"type": "string"},
            "provider": {"type": "string"},
            "client_id": {"type": "string"},
            "account_id": {"type": "string"},
            "email": text_or_none,
            "status": {"enum": ["active", "revoked", "disconnected"]},
            "problem": text_or_none,
            "scope": text_or_none,
            "generation": {"type": "integer"},
            "expires_at": time_or_none,
            "refresh_due_at": time_or_none,
            "last_synced_at": time_or_none,
            "revoked_at": time_or_none,
            "revoked_reason": text_or_none,
            "access_limited": {"type": "boolean"},
            "created_at": {"type": "string", "format": "date-time"},
            "connect_path": {
                "type": "string",
                "description": "Where the user authorizes again, with the token of a connect link; only if they have "
                "to.",
            },
        },
    },
    "Connections": {
        "type": "object",
        "additionalProperties": False,
        "required": ["connections", "next_cursor"],
        "properties": {
            "connections": {"type": "array", "items": {"$ref": "#/components/schemas/Connection"}},
            "next_cursor": text_or_none,
        },
    },
    "TokenRequest": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "min_ttl": {
                "type": "integer",
                "minimum": 0,
                "maximum": longest_ttl,
                "default": usual_ttl,
                "description": "Seconds that the token has to live.",
            }
        },
    },
    "Token": {
        "type": "object",
        "additionalProperties": False,
        "required": ["access_token", "token_type", "expires_at", "generation"],
        "properties": {
            "access_token": {"type": "string"},
            "token_type": {"type": "string", "description": "What comes before the token in Authorization."},
            "expires_at": time_or_none,
            "generation": {"type": "integer", "description": "Counts the connection's tokens."},
        },
    },
    "CallRequest": {
        "type": "object",
        "additionalProperties": False,
        "required": ["method", "path", "idempotency_key"],
        "properties": {
            "method": {"enum": sorted(known_methods)},
            "path": {"type": "string", "description": "What follows `api_url`, with its query, percent-encoded."},
            "body": {
                "description": "JSON, which is sent as `application/json`; with another `Content-Type` in `headers` a "
                "text, which is sent as it is. Without it, or with null, no body is sent."
            },
            "headers": {
                "type": "object",
                "description": f"Out of {', '.join(sorted(known_headers))}.",
                "additionalProperties": {"type": "string", "minLength": 1, "maxLength": longest_header},
            },
            "idempotency_key": {
                "type": "string",
                "minLength": 1,
                "maxLength": longest_header,
                "description": "Yours, one for each call: who asks again with it gets the same call.",
            },
        },
    },
    "Call": {
        "type": "object",
        "additionalProperties": False,
        "required": [
            *("call_id", "connection_id", "method", "path", "status", "answer", "reason", "description", "attempts"),
            *("created_at", "due_at", "ended_at"),
        ],
        "properties": {
            "call_id": {"type": "string"},
            "connection_id": {"type": "string"},
            "method": {"type": "string"},
            "path": {"type": "string", "description": "Without its query."},
            "status": {
                "enum": [each.value for each in CallStatus],
                "description": "`completed` if the provider answered, whatever it answered; `failed` if the call was "
                "not carried out; `unknown` if it may have been and no answer came.",
            },
            "answer": {
                "type": ["object", "null"],
                "additionalProperties": False,
                "required": ["status", "headers", "body", "encoding"],
                "properties": {
                    "status": {"type": "integer", "description": "The provider's HTTP status."},
                    "headers": {"type": "object", "additionalProperties": {"type": "string"}},
                    "body": {"description": "JSON if the provider sent some, else a text."},
                    "encoding": {
                        "enum": ["json", "text", "base64", None],
                        "description": "How `body` is written; null if there is none, or none any more.",
                    },
                },
            },
            "reason": {"enum": [*(each.value for each in CallReason), None]},
            "description": text_or_none | {"description": "The reason in words, for a log."},
            "attempts": {"type": "integer", "minimum": 0},
            "created_at": {"type": "string", "format": "date-time"},
            "due_at": time_or_none | {"description": "When it is looked at next; null once it has ended."},
            "ended_at": time_or_none,
        },
    },
    "Problem": {
        "type": "object",
        "additionalProperties": False,
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"enum": [each.value for each in ProblemType]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "connect_path": {"type": "string", "description": "Where the user authorizes again."},
            "carried_out": {
                "enum": ["no", "unknown"],
                "description": "Of a call: whether the provider may have carried it out although no answer came.",
            },
        },
    },
}
