"""Every metric by name: its kind, its labels and its meaning. `docs/metrics.md` is generated from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

prefix: Final = "breezesync_"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric. A counter's name ends in `_total`; buckets are upper bounds in seconds."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        return prefix + self.name


short = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
long = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
very_long = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 21600.0, 86400.0, 604800.0)

token_requests = Family(
    "token_requests_total",
    "counter",
    "Requests that were sent to a token endpoint. `grant` is `authorization_code`, `refresh_token`, or `probe` for a "
    "request that presents nothing. `outcome` is `granted`, `refused` (the grant is dead), `client_rejected`, "
    "`scope_refused`, `malformed`, `throttled`, `unavailable`, `unknown` or, of a check by hand, `unread`.",
    ("provider", "grant", "outcome"),
)
refresh_lateness = Family(
    "refresh_lateness_seconds",
    "histogram",
    "From when a refresh was due until its tokens were saved; after a failure, from when its retry was due.",
    buckets=very_long,
)
api_requests = Family(
    "api_requests_total",
    "counter",
    "Requests to a provider's API. `status` is the HTTP status, or `none` if no answer came.",
    ("provider", "resource", "status"),
)
api_seconds = Family(
    "api_request_seconds", "histogram", "From a request to a provider's API to the end of its answer.", buckets=short
)
sync_runs = Family(
    "sync_runs_total",
    "counter",
    "Syncs that finished. `outcome` is `completed`, `failed`, or `ended` if the connection's grant was found dead.",
    ("provider", "depth", "outcome"),
)
sync_seconds = Family(
    "sync_duration_seconds", "histogram", "From the start of a sync to its end, pauses included.", buckets=long
)
records_changed = Family(
    "records_changed_total",
    "counter",
    "Records that were `created`, `updated` or `deleted`, first reads included.",
    ("provider", "resource", "change"),
)
calls_ended = Family(
    "calls_total",
    "counter",
    "Calls that were made as jobs, by how they ended: `completed`, `failed` or `unknown`.",
    ("provider", "outcome"),
)
revocation_seconds = Family(
    "revocation_detection_seconds",
    "histogram",
    "At most how long a dead grant went unnoticed: from the last proof that it was alive to the proof of its end.",
    buckets=very_long,
)
events_published = Family("events_published_total", "counter", "Events added to a stream.", ("stream",))
messages_done = Family(
    "messages_total",
    "counter",
    "Messages by what became of them: `done`, `retried`, `failed` (a dead letter) or `skipped`.",
    ("actor", "outcome"),
)
message_seconds = Family("message_seconds", "histogram", "How long an actor worked on a message.", ("actor",), short)
budget_used = Family(
    "budget_used_ratio",
    "gauge",
    "The largest share of an account's requests a minute that was used within the last minute, by what the provider "
    "says is left. Resources with a limit of their own are left out.",
    ("provider",),
)
webhook_deliveries = Family(
    "webhook_deliveries_total",
    "counter",
    "Attempts to send an event to an endpoint. `outcome` is `delivered`, `refused` (an answer that is not 2xx), `away` "
    "(no answer, or 429, 502, 503 or 504), `gone` (410); and `dead` for an event that was given up.",
    ("endpoint", "outcome"),
)
in_worker: Sequence[Family] = (
    token_requests,
    refresh_lateness,
    api_requests,
    api_seconds,
    sync_runs,
    sync_seconds,
    records_changed,
    calls_ended,
    revocation_seconds,
    events_published,
    messages_done,
    message_seconds,
    budget_used,
    webhook_deliveries,
)

gateway_requests = Family(
    "gateway_requests_total",
    "counter",
    "Requests to the gateway. `operation` is `list`, `connection`, `token`, `call`, "
    "`make_call` or `show_call`. `outcome` is `answered`, the "
    "type of the problem that was answered, or why an answer was cut: `timed_out`, `broken_off`, `too_large`, "
    "`caller_gone`.",
    ("operation", "outcome"),
)
gateway_seconds = Family(
    "gateway_request_seconds",
    "histogram",
    "From a request to the gateway to the end of its answer.",
    ("operation",),
    short,
)
gateway_refused_keys = Family(
    "gateway_refused_keys_total",
    "counter",
    "Requests to the gateway without a known key. `reason` is `missing` or `wrong`.",
    ("reason",),
)
in_gateway: Sequence[Family] = (gateway_requests, gateway_seconds, gateway_refused_keys)

connections = Family(
    "connections",
    "gauge",
    "Connections. `problem` is empty for one that works; one that ended has no problem any more. Counting ten million "
    "takes a database a while, so these may be a few minutes old.",
    ("provider", "status", "problem"),
)
due = Family("due", "gauge", "Work that is due, by kind; counted up to 100,000.", ("kind",))
oldest_due = Family("oldest_due_age_seconds", "gauge", "For how long the oldest of it has been due.")
client_rejected = Family(
    "client_rejected", "gauge", "Whether the provider rejects our OAuth client.", ("provider", "client_id")
)
authorizations_waiting = Family(
    "authorizations_waiting", "gauge", "Users who came back with a code and are not connected yet."
)
provider_unavailable = Family(
    "provider_unavailable",
    "gauge",
    "Whether tokens and codes are kept back: the token endpoint is unavailable, or an operator paused it.",
    ("provider",),
)
held_connections = Family("held_connections", "gauge", "Refused connections that are held.", ("provider",))
events_unpublished = Family("events_unpublished", "gauge", "Unpublished events; counted up to 100,000.")
event_lag = Family("event_lag_seconds", "gauge", "For how long the oldest unpublished event has waited.")
processes = Family("processes", "gauge", "Processes that reported within the last two minutes.", ("role", "version"))
queue_messages = Family(
    "queue_messages",
    "gauge",
    "Messages by queue. `state` is `waiting`, `under_way` (in work or delayed) or `dead`.",
    ("queue", "state"),
)
clock_offset = Family(
    "clock_offset_seconds", "gauge", "How far the clock of this process's machine is ahead of the database's."
)
webhook_waiting = Family("webhook_waiting", "gauge", "Subjects with events that wait for an endpoint.", ("endpoint",))
webhook_lag = Family(
    "webhook_lag_seconds", "gauge", "For how long the oldest event that waits for an endpoint has.", ("endpoint",)
)
webhook_dead_letters = Family(
    "webhook_dead_letters", "gauge", "Events that an endpoint did not take for three days.", ("endpoint",)
)
of_fleet: Sequence[Family] = (
    connections,
    due,
    oldest_due,
    client_rejected,
    authorizations_waiting,
    provider_unavailable,
    held_connections,
    events_unpublished,
    event_lag,
    processes,
    queue_messages,
    webhook_waiting,
    webhook_lag,
    webhook_dead_letters,
    clock_offset,
)
