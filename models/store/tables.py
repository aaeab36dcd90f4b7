"""The schema: every table as a SQLModel class, for Alembic and for the store's statements."""

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, Index, Integer, Text, UniqueConstraint, literal_column, text
from sqlalchemy import DateTime as SqlDateTime
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel
from sqlmodel._compat import SQLModelConfig

from models.crypto.secrets import Sealed


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time on every database; writing a naive one raises."""

    impl = SqlDateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class SealedText(TypeDecorator[Sealed]):
    """A ciphertext: takes and returns only `Sealed` values."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Sealed | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if not isinstance(value, Sealed):
            raise TypeError("only a sealed value may be stored here")
        return value.text

    def process_result_value(self, value: str | None, dialect: Dialect) -> Sealed | None:
        return None if value is None else Sealed(value)


class Stored(SQLModel):
    """The base of every table."""

    model_config = SQLModelConfig(arbitrary_types_allowed=True, defer_build=True)


json_type = JSON().with_variant(JSONB(), "postgresql")
big_id = BigInteger().with_variant(Integer, "sqlite")


def _time(**options: Any) -> Any:
    return Field(default=None, sa_type=UtcTime, **options)


def _sealed() -> Any:
    return Field(default=None, sa_type=SealedText)


def _index_where(name: str, *columns: str, where: str, on_sqlite: str = "", unique: bool = False) -> Index:
    """Return an index of some rows only; `on_sqlite` is the condition where SQLite needs another text."""
    return Index(name, *columns, unique=unique, postgresql_where=text(where), sqlite_where=text(on_sqlite or where))


_lower_email: Any = literal_column("lower(email)").label("address")


class ClientRow(Stored, table=True):
    """An OAuth client that we have or had at a provider, and the breaker of its token endpoint."""

    __tablename__ = "client"
    provider: str = Field(primary_key=True)
    client_id: str = Field(primary_key=True)
    secret: Sealed | None = _sealed()
    omit_refresh_scope: bool = False
    cause: str | None = None
    opened_at: datetime | None = _time()
    error: str | None = None
    status: int | None = None
    endpoint: str | None = None
    probes: int = 0
    next_probe_at: datetime | None = _time()
    probe_claimed_until: datetime | None = _time()
    closed_at: datetime | None = _time()
    suspects: list[str] = Field(sa_type=json_type)
    paused_at: datetime | None = _time()


class AuthorizationRow(Stored, table=True):
    """One attempt to connect an account, from the opened link to its outcome."""

    __tablename__ = "authorization"
    __table_args__ = (
        UniqueConstraint("link_hash", name="authorization_link"),
        _index_where("authorization_due", "due_at", where="due_at IS NOT NULL"),
        Index("authorization_browser", "browser_hash"),
        _index_where("authorization_open", "expires_at", where="step = 'started' AND due_at IS NULL"),
        Index("authorization_created", "created_at"),
        Index("authorization_connection", "connection_id"),
        _index_where("authorization_unconnected", "created_at", "id", where="step <> 'connected'"),
        _index_where("authorization_of_user", "user_id", "created_at", where="step <> 'connected'"),
    )
    id: str = Field(primary_key=True)
    provider: str
    client_id: str
    user_id: str
    redirect_uri: str
    step: str
    state_hash: str = Field(unique=True)
    browser_hash: str
    link_hash: str
    created_at: datetime = Field(sa_type=UtcTime)
    expires_at: datetime = Field(sa_type=UtcTime)
    verifier: Sealed | None = _sealed()
    challenge: str | None = None
    code: Sealed | None = _sealed()
    tokens: Sealed | None = _sealed()
    return_to: str | None = None
    team_ids: list[int] = Field(sa_type=json_type)
    target_connection_id: str | None = None
    code_received_at: datetime | None = _time()
    code_seconds: int = Field(default=600, sa_column_kwargs={"server_default": "600"})
    due_at: datetime | None = _time()
    claimed_until: datetime | None = _time()
    lease_owner: str | None = None
    lease_until: datetime | None = _time()
    presented_at: datetime | None = _time()
    attempts: int = 0
    reason: str | None = None
    description: str | None = None
    connection_id: str | None = None
    confirmation: str = Field(default="page", sa_column_kwargs={"server_default": "page"})
    confirmation_hash: str | None = None
    confirmed_at: datetime | None = _time()


class ConnectionRow(Stored, table=True):
    """One user's account at one provider.

    `sync_lease_owner` and `sync_lease_until` are the lease of a run that is under way and not stored (see `SyncLease`).
    """

    __tablename__ = "connection"
    __table_args__ = (
        # By its first column a list finds the connections of a provider that has few of them, and reads no others.
        UniqueConstraint("provider", "user_id", "account_id", name="connection_account"),
        Index("connection_user", "user_id"),
        Index("connection_of_account", "account_id"),
        Index("connection_created", "created_at", "id"),
        Index("connection_email", _lower_email, postgresql_ops={"address": "text_pattern_ops"}),
        _index_where("connection_not_active", "status", "created_at", "id", where="status <> 'active'"),
        _index_where("connection_problem", "problem", "created_at", "id", where="problem IS NOT NULL"),
        _index_where("connection_refresh_due", "refresh_due_at", where="refresh_due_at IS NOT NULL"),
        _index_where("connection_sync_due", "sync_due_at", where="sync_due_at IS NOT NULL"),
        _index_where("connection_disconnect_due", "disconnect_due_at", where="disconnect_due_at IS NOT NULL"),
    )
    id: str = Field(primary_key=True)
    user_id: str
    provider: str
    client_id: str
    account_id: str
    email: str | None = None
    status: str
    problem: str | None = None
    scope: str | None = None
    team_ids: list[int] = Field(sa_type=json_type)
    generation: int = 0
    expires_at: datetime | None = _time()
    refresh_due_at: datetime | None = _time()
    refresh_claimed_until: datetime | None = _time()
    refresh_asked_at: datetime | None = _time()
    sync_due_at: datetime | None = _time()
    sync_claimed_until: datetime | None = _time()
    sync_lease_owner: str | None = None
    sync_lease_until: datetime | None = _time()
    sync_requested: bool = False
    sync_pace: float = 1.0
    lists_due_at: datetime | None = _time()
    full_due_at: datetime | None = _time()
    disconnect_due_at: datetime | None = _time()
    disconnect_claimed_until: datetime | None = _time()
    erase_requested: bool = False
    last_synced_at: datetime | None = _time()
    revoked_at: datetime | None = _time()
    revoked_reason: str | None = None
    access_limited: bool = False
    created_at: datetime = Field(sa_type=UtcTime)


class CredentialRow(Stored, table=True):
    """A connection's sealed tokens, with the lease and the note of a refresh under way."""

    __tablename__ = "credential"
    connection_id: str = Field(primary_key=True, foreign_key="connection.id", ondelete="CASCADE")
    access_token: Sealed | None = _sealed()
    refresh_token: Sealed | None = _sealed()
    issued_at: datetime | None = _time()
    expires_at: datetime | None = _time()
    lease_owner: str | None = None
    lease_until: datetime | None = _time()
    presented_at: datetime | None = _time()
    presented_generation: int | None = None
    presentations: int = 0
    answered_at: datetime | None = _time()
    refused_generation: int | None = None
    refused_at: datetime | None = _time()
    failures: int = 0


class RefusalRow(Stored, table=True):
    """A connection whose refresh token was refused: it waits, is held, or ended not long ago."""

    __tablename__ = "refusal"
    __table_args__ = (
        Index("refusal_client", "provider", "client_id", "refused_at"),
        _index_where("refusal_held", "provider", "client_id", "refused_at", where="is_held", on_sqlite="is_held = 1"),
        _index_where("refusal_released", "connection_id", where="is_released", on_sqlite="is_released = 1"),
        _index_where("refusal_ended", "ended_at", where="ended_at IS NOT NULL"),
    )
    connection_id: str = Field(primary_key=True)
    provider: str
    client_id: str
    generation: int
    reason: str
    detected_by: str
    evidence: dict[str, Any] = Field(sa_type=json_type)
    refused_at: datetime = Field(sa_type=UtcTime)
    due_at: datetime | None = _time()
    ended_at: datetime | None = _time()
    is_held: bool = False
    is_released: bool = False


class HoldRow(Stored, table=True):
    """A client whose refused connections are held, and when one of them is tried next."""

    __tablename__ = "hold"
    provider: str = Field(primary_key=True)
    client_id: str = Field(primary_key=True)
    opened_at: datetime = Field(sa_type=UtcTime)
    by_operator: bool = False
    trials: int = 0
    next_trial_at: datetime = Field(sa_type=UtcTime)


class RevocationRow(Stored, table=True):
    """A grant to revoke at the provider: its sealed token, and when the next attempt is due."""

    __tablename__ = "revocation"
    __table_args__ = (Index("revocation_due", "due_at"), Index("revocation_connection", "connection_id"))
    id: str = Field(primary_key=True)
    provider: str
    client_id: str
    connection_id: str | None = None
    user_id: str | None = None
    account_id: str | None = None
    token: Sealed = Field(sa_type=SealedText)
    created_at: datetime = Field(sa_type=UtcTime)
    due_at: datetime = Field(sa_type=UtcTime)
    claimed_until: datetime | None = _time()
    attempts: int = 0
    tells: bool = False


class CallRow(Stored, table=True):
    """A call to the provider's API as a job, its request and its answer sealed (see `models/gateway/call.py`)."""

    __tablename__ = "call"
    __table_args__ = (
        UniqueConstraint("connection_id", "idempotency_key", name="call_idempotency"),
        _index_where("call_due", "due_at", where="due_at IS NOT NULL"),
        _index_where("call_bodies", "bodies_until", where="bodies_until IS NOT NULL"),
        Index("call_created", "created_at"),
    )
    id: str = Field(primary_key=True)
    connection_id: str
    idempotency_key: str
    method: str
    path: str
    actor: str
    address: str | None = None
    status: str
    created_at: datetime = Field(sa_type=UtcTime)
    request: Sealed | None = _sealed()
    answer: Sealed | None = _sealed()
    bodies_until: datetime | None = _time()
    due_at: datetime | None = _time()
    claimed_until: datetime | None = _time()
    lease_owner: str | None = None
    attempts: int = 0
    answer_status: int | None = None
    reason: str | None = None
    ended_at: datetime | None = _time()


class RecordRow(Stored, table=True):
    """One record of the user's at the provider, as last read, without the fields that change on every read."""

    __tablename__ = "record"
    connection_id: str = Field(primary_key=True, foreign_key="connection.id", ondelete="CASCADE")
    resource: str = Field(primary_key=True)
    external_id: str = Field(primary_key=True)
    source: str
    data: dict[str, Any] = Field(sa_type=json_type)
    content_hash: str
    first_seen_at: datetime = Field(sa_type=UtcTime)
    changed_at: datetime = Field(sa_type=UtcTime)
    deleted_at: datetime | None = _time()


class ResourceRow(Stored, table=True):
    """One list of a connection: when it was first read to its end, and why it could not be read last.

    `held_back` is how many missing records are kept until a second sync confirms that they are deleted. `since` is
    where its next incremental reading begins, `newest` the newest value of that field that was seen.
    """

    __tablename__ = "resource"
    connection_id: str = Field(primary_key=True, foreign_key="connection.id", ondelete="CASCADE")
    name: str = Field(primary_key=True)
    first_read_at: datetime | None = _time()
    problem: str | None = None
    held_back: int | None = None
    since: str | None = None
    newest: str | None = None


class SyncRunRow(Stored, table=True):
    """One sync of a connection: how far it is, and what it found; once it is over, `counts` has no zeros."""

    __tablename__ = "sync_run"
    __table_args__ = (
        _index_where("sync_run_one_running", "connection_id", where="status = 'running'", unique=True),
        Index("sync_run_connection", "connection_id", "started_at"),
        _index_where("sync_run_finished", "finished_at", where="finished_at IS NOT NULL"),
    )
    id: str = Field(primary_key=True)
    connection_id: str = Field(foreign_key="connection.id", ondelete="CASCADE")
    status: str
    depth: str
    requested: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    place: int = 0
    page: int = 1
    pass_number: int = 0
    counts: dict[str, Any] = Field(sa_type=json_type)
    started_at: datetime = Field(sa_type=UtcTime)
    finished_at: datetime | None = _time()
    resume_at: datetime | None = _time()
    lease_owner: str | None = None
    lease_until: datetime | None = _time()
    failures: int = 0
    reason: str | None = None
    description: str | None = None
    cursor: str | None = None
    since: dict[str, Any] = Field(sa_type=json_type, sa_column_kwargs={"server_default": text("'{}'")})
    parents: dict[str, Any] = Field(sa_type=json_type, sa_column_kwargs={"server_default": text("'{}'")})


class SyncPageRow(Stored, table=True):
    """The ids on one page of a running sync, the proof that a record was deleted; and the newest value on it."""

    __tablename__ = "sync_page"
    run_id: str = Field(primary_key=True, foreign_key="sync_run.id", ondelete="CASCADE")
    source: str = Field(primary_key=True)
    pass_number: int = Field(primary_key=True)
    page: int = Field(primary_key=True)
    total: int | None
    last_page: int
    ids: list[str] = Field(sa_type=json_type)
    nameless: int = 0
    newest: str | None = None


class EventRow(Stored, table=True):
    """The outbox: every event, in the order of publication."""

    __tablename__ = "event"
    __table_args__ = (
        UniqueConstraint("subject", "stream", "sequence", name="event_sequence"),
        _index_where("event_unpublished", "position", where="published_at IS NULL"),
        Index("event_created", "created_at"),
        {"sqlite_autoincrement": True},
    )
    position: int | None = Field(default=None, primary_key=True, sa_type=big_id)
    id: str = Field(unique=True)
    stream: str
    type: str
    provider: str
    user_id: str
    connection_id: str
    subject: str
    sequence: int
    document: str = Field(sa_type=Text)
    created_at: datetime = Field(sa_type=UtcTime)
    waits_since: datetime = Field(sa_type=UtcTime)
    published_at: datetime | None = _time()


class CounterRow(Stored, table=True):
    """The last sequence number of a subject on a stream; its row lock orders the subject's events."""

    __tablename__ = "counter"
    subject: str = Field(primary_key=True)
    stream: str = Field(primary_key=True)
    value: int


class LeaseRow(Stored, table=True):
    """Which process does a task that only one may do at a time, and until when."""

    __tablename__ = "lease"
    name: str = Field(primary_key=True)
    owner: str
    until: datetime = Field(sa_type=UtcTime)


class ProcessRow(Stored, table=True):
    """A process as it reported itself last; `ahead_seconds` is how far its machine's clock is ahead of the fleet's."""

    __tablename__ = "process"
    name: str = Field(primary_key=True)
    role: str
    version: str
    reported_at: datetime = Field(sa_type=UtcTime)
    ahead_seconds: float = 0.0


class PaceRow(Stored, table=True):
    """How many requests the whole fleet sent to a provider's token endpoint in each second of the last minute."""

    __tablename__ = "pace"
    provider: str = Field(primary_key=True)
    counts: dict[str, int] = Field(sa_type=json_type)
    paused_until: datetime | None = _time()


class DecisionRow(Stored, table=True):
    """A decision about a connection or an authorization, with its evidence; never a token."""

    __tablename__ = "decision"
    __table_args__ = (Index("decision_subject", "subject", "position"), Index("decision_at", "at"))
    position: int | None = Field(default=None, primary_key=True, sa_type=big_id)
    subject: str
    at: datetime = Field(sa_type=UtcTime)
    verb: str
    evidence: dict[str, Any] = Field(sa_type=json_type)


class RequestBatchRow(Stored, table=True):
    """The requests that one job made for a user, without any token; the view `request_log` shows each of them.

    at: when the first of them was made.
    calls: what `models/store/request_batch.py` makes of them.
    """

    __tablename__ = "request_batch"
    __table_args__ = (
        Index("request_batch_at", "at"),
        Index("request_batch_connection", "connection_id", "position"),
    )
    position: int | None = Field(default=None, primary_key=True, sa_type=big_id)
    at: datetime = Field(sa_type=UtcTime)
    connection_id: str
    calls: str = Field(sa_type=Text)


class AuditRow(Stored, table=True):
    """What was done with whose tokens, by whom. Only inserted; the last four columns are filled once, by the chain."""

    __tablename__ = "audit"
    __table_args__ = (
        UniqueConstraint("day", "number", name="audit_place"),
        _index_where("audit_unchained", "id", where="number IS NULL"),
        Index("audit_at", "at"),
        Index("audit_user", "user_id", "id"),
        Index("audit_connection", "connection_id", "id"),
        {"sqlite_autoincrement": True},
    )
    id: int | None = Field(default=None, primary_key=True, sa_type=big_id)
    at: datetime = Field(sa_type=UtcTime)
    actor: str
    action: str
    provider: str | None = None
    user_id: str | None = None
    connection_id: str | None = None
    authorization_id: str | None = None
    address: str | None = None
    detail: dict[str, Any] = Field(sa_type=json_type)
    day: date | None = None
    number: int | None = None
    previous: str | None = None
    hash: str | None = None


class AuditDayRow(Stored, table=True):
    """A day of the audit that is over: how many lines it has, and the hash of the last one."""

    __tablename__ = "audit_day"
    day: date = Field(primary_key=True)
    count: int
    head: str


class WebhookRow(Stored, table=True):
    """An endpoint of the application's that events are sent to over HTTP."""

    __tablename__ = "webhook"
    id: str = Field(primary_key=True)
    name: str = Field(unique=True)
    url: str
    types: list[str] = Field(sa_type=json_type)
    allow_private: bool = False
    secret: Sealed = Field(sa_type=SealedText)
    previous_secret: Sealed | None = _sealed()
    previous_until: datetime | None = _time()
    created_at: datetime = Field(sa_type=UtcTime)
    paused_at: datetime | None = _time()
    is_gone: bool = False
    failures: int = 0
    failing_since: datetime | None = _time()
    retry_at: datetime | None = _time()
    delivered_at: datetime | None = _time()
    error: str | None = None
    claimed_until: datetime | None = _time()
    lease_owner: str | None = None
    lease_until: datetime | None = _time()


class WebhookDeliveryRow(Stored, table=True):
    """What an endpoint has yet to be sent about one subject, or an event that it was sent in vain for three days.

    It has no foreign key: whoever publishes events must not wait for the row of an endpoint.
    """

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        _index_where("webhook_delivery_due", "webhook_id", "due_at", where="due_at IS NOT NULL"),
        _index_where("webhook_delivery_waiting", "webhook_id", "waits_since", where="due_at IS NOT NULL"),
        _index_where("webhook_delivery_dead", "dead_at", where="dead_at IS NOT NULL"),
    )
    webhook_id: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    published_from: datetime = Field(sa_type=UtcTime)
    waits_since: datetime = Field(sa_type=UtcTime)
    due_at: datetime | None = _time()
    events_from: int | None = None
    records_from: int | None = None
    attempts: int = 0
    error: str | None = None
    dead_at: datetime | None = _time()


metadata = SQLModel.metadata
