"""What is wrong with a fleet, each as a sentence with the next step; pure, and nothing if all is well."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from models.health.clocks import describe_offset, harmful, noticeable
from models.journal import Problem
from worker.operations.texts import format_length
from worker.operator.views.groups import StreamView
from worker.operator.views.providers import ClientView
from worker.operator.views.queues import ProcessView, QueueDepth
from worker.operator.views.webhooks import EndpointView

Severity = Literal["failed", "warn"]
late = timedelta(minutes=1)
very_late = timedelta(minutes=5)
many_with_problems = 0.05
"""The share of the active connections whose trouble is no longer that of a few."""
of_each_account = frozenset({Problem.plan_required, Problem.throttled, Problem.refused})
"""What is wrong with an account and not with the fleet, and passes or is its user's to mend."""
of_settings = frozenset({Problem.client_unknown, Problem.token_unreadable})


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that is wrong: a sentence, what to do about it, and the page that shows more.

    code: what kind of trouble, for a test or a style: "dead_letters", "held", "client_rejected", "no_worker" …
    said: one sentence, without a full stop.
    remedy: the next step, with the command to type.
    path: a page below /operator that shows it, such as "dead-letters"; None if there is none.
    """

    code: str
    severity: Severity
    said: str
    remedy: str
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """What is judged.

    redis_trouble: why Redis can't be used; None if it takes writes.
    queues, streams: None if Redis does not answer.
    overdue: for how long the oldest due work has been due.
    lag: for how long the oldest unpublished event has waited.
    problems: how many active connections have which problem.
    endpoints: those of webhooks.
    calls_unknown: how many calls of the last day ended without an answer.
    """

    now: datetime
    redis_trouble: str | None
    queues: Sequence[QueueDepth] | None
    streams: Sequence[StreamView] | None
    clients: Sequence[ClientView]
    processes: Sequence[ProcessView]
    overdue: timedelta
    lag: timedelta
    active: int
    problems: Sequence[tuple[str, int]]
    endpoints: Sequence[EndpointView] = ()
    calls_unknown: int = 0


def find_attention(situation: Situation) -> Sequence[Attention]:
    """Return what is wrong, failures first; nothing if all is well."""
    found = [
        *_of_redis(situation),
        *_of_processes(situation.processes),
        *_of_clients(situation.clients),
        *_of_queues(situation),
        *_of_groups(situation.streams or ()),
        *_of_connections(situation),
        *_of_endpoints(situation),
        *_of_calls(situation.calls_unknown),
    ]
    return sorted(found, key=lambda each: each.severity != "failed")


def _of_redis(situation: Situation) -> Iterator[Attention]:
    if situation.redis_trouble is not None:
        remedy = "Start it, or check REDIS_URL, its memory and its disk; breezesync doctor says more."
        yield Attention("redis", "failed", situation.redis_trouble, f"Nothing is lost, and nothing is done. {remedy}")


def _of_processes(processes: Sequence[ProcessView]) -> Iterator[Attention]:
    alive = [each for each in processes if each.is_alive]
    commands = {"scheduler": "python -m scheduler", "worker": "dramatiq worker.main:boot"}
    harm = {"scheduler": "what is due is not sent", "worker": "nothing is refreshed or synced"}
    for role, command in commands.items():
        if all(each.role != role for each in alive):
            said = f"no {role} has reported for two minutes: {harm[role]}"
            remedy = f"Start one ({command}), or read its log: one that can't reach the database can't report."
            yield Attention(f"no_{role}", "failed", said, remedy, "queues")
    for each in alive:
        ahead = timedelta(seconds=abs(each.ahead_seconds))
        if ahead > noticeable:
            said = f"the machine of {each.name} is {describe_offset(each.ahead_seconds)} the database"
            severity: Severity = "failed" if ahead > harmful else "warn"
            remedy = "Synchronize that machine's clock by NTP; see timedatectl."
            yield Attention("clock", severity, said, remedy, "queues")
    versions = sorted({each.version for each in alive})
    if len(versions) > 1:
        said = f"processes of several versions run: {', '.join(versions)}"
        remedy = "During an upgrade that is as it should be. Otherwise start the older ones again with the new version."
        yield Attention("versions", "warn", said, remedy, "queues")


def _of_clients(clients: Sequence[ClientView]) -> Iterator[Attention]:
    for each in clients:
        name, prefix = each.provider, each.provider.upper()
        breaker, *_ = [*each.sentences, ""]
        if each.state == "paused":
            yield Attention("paused", "warn", breaker, f"breezesync provider resume {name}", "providers")
        elif each.state == "rejected":
            remedy = f"Check {prefix}_CLIENT_ID and {prefix}_CLIENT_SECRET; a probe closes the breaker by itself."
            yield Attention("client_rejected", "failed", breaker, remedy, "providers")
        elif each.state == "unavailable":
            remedy = "Nothing; it closes by itself when the token endpoint is back."
            yield Attention("provider_unavailable", "failed", breaker, remedy, "providers")
        if each.held_since is not None:
            remedy = (
                f"Ask the provider what happened. If it is mended, breezesync provider release {name}; "
                f"if the grants are gone for good, breezesync provider accept {name}."
            )
            yield Attention("held", "failed", each.sentences[-1], remedy, "providers")


def _of_queues(situation: Situation) -> Iterator[Attention]:
    dead = sum(queue.dead for queue in situation.queues or ())
    if dead:
        said = f"{dead} {'message has' if dead == 1 else 'messages have'} failed for good"
        remedy = "Read their causes, then retry or drop them: breezesync dead-letters."
        yield Attention("dead_letters", "warn", said, remedy, "dead-letters")
    if situation.overdue > late:
        said = f"work has been due for {format_length(situation.overdue)}"
        remedy = "Check that workers and a scheduler run; if all are busy, start more workers."
        yield Attention("overdue", "failed" if situation.overdue > very_late else "warn", said, remedy, "queues")
    if situation.lag > late:
        said = f"events have waited for {format_length(situation.lag)} to be published"
        remedy = "Check that workers run, and that Redis takes writes: breezesync doctor."
        yield Attention("event_lag", "failed" if situation.lag > very_late else "warn", said, remedy, "events")


def _of_groups(streams: Sequence[StreamView]) -> Iterator[Attention]:
    for group in (group for stream in streams for group in stream.groups if group.is_stuck):
        length = format_length(timedelta(seconds=group.oldest_pending_seconds or 0))
        said = f"the consumer group {group.group} has not acknowledged an entry of {group.stream} for {length}"
        yield Attention("group_stuck", "warn", said, "Check that the application's consumers run.", "groups")


def _of_connections(situation: Situation) -> Iterator[Attention]:
    for word, number in situation.problems:
        if word in of_settings:
            said = f"{number} active connections can't be used: {Problem(word).sentence}"
            remedy = "breezesync doctor names the keys or the client that are missing."
            yield Attention(word, "failed", said, remedy, f"connections?problem={word}")
        elif word not in of_each_account and word != Problem.held and number > situation.active * many_with_problems:
            share = f"{number} of {situation.active} active connections"
            sentence = Problem(word).sentence if word in set(Problem) else word
            remedy = f"Look at one of them: breezesync connections --problem {word}, then breezesync explain ID."
            yield Attention("many_problems", "warn", f"{share}: {sentence}", remedy, f"connections?problem={word}")


def _of_endpoints(situation: Situation) -> Iterator[Attention]:
    for each in situation.endpoints:
        waited = timedelta() if each.waits_since is None else situation.now - each.waits_since
        severity: Severity = "failed" if waited > very_late else "warn"
        if each.state == "gone":
            said = f"the endpoint {each.name} answered 410, so nothing is sent to it"
            remedy = f"Mend the application, then breezesync webhooks resume {each.name}."
            yield Attention("webhook_gone", "failed", said, remedy, "webhooks")
        elif each.state == "paused":
            said = f"the endpoint {each.name} is paused"
            waits = f", and events have waited for {format_length(waited)}" if waited > late else ""
            yield Attention(
                "webhook_paused", "warn", said + waits, f"breezesync webhooks resume {each.name}", "webhooks"
            )
        elif each.state == "failing":
            length = format_length(situation.now - (each.since or situation.now))
            said = f"the endpoint {each.name} has failed for {length} ({each.error})"
            remedy = f"Mend the application, then breezesync webhooks test {each.name}."
            yield Attention("webhook_failing", severity, said, remedy, "webhooks")
        elif waited > late:
            said = f"events have waited for {format_length(waited)} to be sent to the endpoint {each.name}"
            remedy = "The endpoint refuses some of them, or workers are too few; it says how it answered last."
            yield Attention("webhook_late", severity, said, remedy, "webhooks")
        if each.dead:
            events, them = ("event was", "it") if each.dead == 1 else ("events were", "them")
            said = f"{each.dead} {events} given up after three days: the endpoint {each.name} did not take {them}"
            remedy = "Read their causes, then retry or drop them: breezesync dead-letters."
            yield Attention("webhook_dead_letters", "warn", said, remedy, "webhooks")


def _of_calls(unknown: int) -> Iterator[Attention]:
    if unknown:
        said = f"{unknown} {'call' if unknown == 1 else 'calls'} of the last day got no answer"
        remedy = "Each may have been carried out: the application has to look before it makes one again."
        yield Attention("calls_unknown", "warn", said, remedy, "events?type=call.unknown")
