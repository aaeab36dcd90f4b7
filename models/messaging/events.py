"""Every type of event with its data, and the CloudEvents document around it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal

from models import exact_json

type_prefix = "dev.breezesync."
schema_version = 1

Stream = Literal["events", "records"]
FailureReason = Literal[
    "denied",
    "code_rejected",
    "client_rejected",
    "account_mismatch",
    "answer_lost",
    "expired",
    "not_confirmed",
    "provider_unavailable",
]
RevokedReason = Literal["access_revoked", "refresh_rejected", "refresh_expired", "rotation_lost"]
Detector = Literal["api", "refresh"]
CallFailure = Literal[
    "reauthorization_required",
    "plan_required",
    "connection_unknown",
    "rate_limited",
    "provider_unavailable",
    "token_refused",
    "refresh_pending",
    "held",
    "unreadable",
    "erased",
    "expired",
]


@dataclass(frozen=True, slots=True)
class ConnectionAuthorized:
    """`also_connected_by` names other users of the application whose connection of the same account is active."""

    type: ClassVar[str] = "connection.authorized"
    account_id: str
    email: str | None
    scope: str | None
    expires_at: datetime | None
    reauthorized: bool
    also_connected_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AuthorizationFailed:
    type: ClassVar[str] = "connection.authorization_failed"
    authorization_id: str
    reason: FailureReason
    description: str


@dataclass(frozen=True, slots=True)
class ConnectionRefreshed:
    type: ClassVar[str] = "connection.refreshed"
    generation: int
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class ReauthorizationRequired:
    type: ClassVar[str] = "connection.reauthorization_required"
    reason: RevokedReason
    detected_by: Detector
    connect_path: str


@dataclass(frozen=True, slots=True)
class ConnectionDisconnected:
    type: ClassVar[str] = "connection.disconnected"
    revoked_upstream: bool


@dataclass(frozen=True, slots=True)
class AccessLimited:
    type: ClassVar[str] = "connection.access_limited"
    reason: Literal["plan_required"] = "plan_required"


@dataclass(frozen=True, slots=True)
class AccessRestored:
    type: ClassVar[str] = "connection.access_restored"
    reason: Literal["plan_required"] = "plan_required"


@dataclass(frozen=True, slots=True)
class SyncCompleted:
    """`resources` maps a resource's name to its counts of created, updated, deleted and unchanged records."""

    type: ClassVar[str] = "sync.completed"
    run_id: str
    resources: Mapping[str, Mapping[str, int]]
    duration_ms: int


@dataclass(frozen=True, slots=True)
class SyncFailed:
    type: ClassVar[str] = "sync.failed"
    run_id: str
    reason: str
    description: str


@dataclass(frozen=True, slots=True)
class RecordChanged:
    """One record's change; `changed` names top-level fields, `initial` marks the first read of its resource."""

    kind: Literal["created", "updated", "deleted"]
    resource: str
    external_id: str
    changed: tuple[str, ...]
    initial: bool

    @property
    def type(self) -> str:
        return f"record.{self.kind}"


@dataclass(frozen=True, slots=True)
class ClientRejected:
    type: ClassVar[str] = "provider.client_rejected"
    client_id: str
    error: str
    description: str


@dataclass(frozen=True, slots=True)
class ClientRecovered:
    type: ClassVar[str] = "provider.client_recovered"
    client_id: str
    error: str
    description: str


@dataclass(frozen=True, slots=True)
class ProviderUnavailable:
    """`status` is the HTTP status of the last answer; None if none came."""

    type: ClassVar[str] = "provider.unavailable"
    client_id: str
    endpoint: str
    status: int | None
    since: datetime


@dataclass(frozen=True, slots=True)
class ProviderAvailable:
    """`status` and `since` are those of the outage that has ended."""

    type: ClassVar[str] = "provider.available"
    client_id: str
    endpoint: str
    status: int | None
    since: datetime


@dataclass(frozen=True, slots=True)
class MassRefusal:
    """`refused` connections of a client were refused within its window, and `held` of them wait for a decision."""

    type: ClassVar[str] = "provider.mass_refusal"
    client_id: str
    held: int
    refused: int
    decision: Literal["held", "held_by_operator"]


@dataclass(frozen=True, slots=True)
class MassRefusalEnded:
    """`held` connections were held until then; `recovered` means that one of them turned out good."""

    type: ClassVar[str] = "provider.mass_refusal_ended"
    client_id: str
    held: int
    refused: int
    decision: Literal["recovered", "released", "accepted"]


@dataclass(frozen=True, slots=True)
class CallCompleted:
    type: ClassVar[str] = "call.completed"
    call_id: str
    status: int


@dataclass(frozen=True, slots=True)
class CallFailed:
    """The call was surely not carried out; `status` is that of the provider's last answer, None if none came."""

    type: ClassVar[str] = "call.failed"
    call_id: str
    status: int | None
    reason: CallFailure


@dataclass(frozen=True, slots=True)
class CallUnknown:
    """The call may have been carried out: its answer was lost, and so there is no `status`."""

    type: ClassVar[str] = "call.unknown"
    call_id: str
    status: int | None
    reason: Literal["answer_lost"]


Fact = (
    ConnectionAuthorized
    | AuthorizationFailed
    | ConnectionRefreshed
    | ReauthorizationRequired
    | ConnectionDisconnected
    | AccessLimited
    | AccessRestored
    | SyncCompleted
    | SyncFailed
    | RecordChanged
    | CallCompleted
    | CallFailed
    | CallUnknown
    | ClientRejected
    | ClientRecovered
    | ProviderUnavailable
    | ProviderAvailable
    | MassRefusal
    | MassRefusalEnded
)


@dataclass(frozen=True, slots=True)
class About:
    """What an event is about; without a connection, `other_subject` names an authorization or a client."""

    provider: str
    user_id: str = ""
    connection_id: str = ""
    other_subject: str = ""

    @property
    def subject(self) -> str:
        return self.connection_id or self.other_subject


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event as it is published: the fields of its stream entry; `document` is the CloudEvents JSON."""

    id: str
    stream: Stream
    type: str
    provider: str
    user_id: str
    connection_id: str
    sequence: int
    document: str

    @property
    def subject(self) -> str:
        """What its sequence counts for (see `About.subject`)."""
        return self.connection_id or str(json.loads(self.document)["subject"])


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """A stream's key in Redis, and roughly how many entries it keeps."""

    key: str
    maxlen: int


def stream_of(fact: Fact) -> Stream:
    """Return the event's stream; records have their own, so that many of them never push a revocation out."""
    return "records" if isinstance(fact, RecordChanged) else "events"


def data_of(fact: Fact) -> dict[str, object]:
    """Return the event's own data as JSON values, with times in ISO 8601."""
    own = ((name, getattr(fact, name)) for name in field_names(type(fact)))
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in own}


def field_names(fact: type[Fact]) -> tuple[str, ...]:
    return tuple(name for name in fact.__slots__ if name != "kind")


def describe(fact: Fact, about: About, event_id: str, sequence: int, at: datetime) -> StoredEvent:
    """Return the fact as a CloudEvents 1.0 document with its stream entry's fields (structured JSON mode, spec §3)."""
    document = {
        "specversion": "1.0",
        "id": event_id,
        "source": f"/breezesync/{about.provider}",
        "type": type_prefix + fact.type,
        "subject": about.subject,
        "time": at.isoformat(),
        "datacontenttype": "application/json",
        "dataschema": f"urn:breezesync:schema:{fact.type}:{schema_version}",
        "sequence": str(sequence),
        "data": {
            "provider": about.provider,
            "user_id": about.user_id,
            "connection_id": about.connection_id,
            **data_of(fact),
        },
    }
    return StoredEvent(
        id=event_id,
        stream=stream_of(fact),
        type=fact.type,
        provider=about.provider,
        user_id=about.user_id,
        connection_id=about.connection_id,
        sequence=sequence,
        document=exact_json.dumps(document),
    )
