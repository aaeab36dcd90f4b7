"""One connection's or authorization's story: its state, what happened as a timeline, and what happens next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from worker.operator.views.sources import Sources

Kind = Literal["decision", "call", "event", "run", "step"]
ConnectionAction = Literal["refresh", "sync", "disconnect"]


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happened.

    kind: a decision of ours, a call to the provider, an event for the application, a sync, or an authorization's step.
    name: the word for it: a decision's verb, an event's type, a call's method, a run's status.
    title: a sentence, or a call's method and path.
    detail: more of it on one line; empty for nothing.
    is_bad: whether it is a failure.
    evidence: the same as names and values.
    """

    at: datetime
    kind: Kind
    name: str
    title: str
    detail: str
    is_bad: bool
    evidence: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Resource:
    """What is stored of one kind of record; `problem` says why its list could not be read last, None if it could."""

    name: str
    records: int
    problem: str | None


@dataclass(frozen=True, slots=True)
class Story:
    """A connection's story, or an authorization's.

    kind: which of them.
    id, user_id, provider: whose it is.
    state: one sentence.
    is_bad: whether someone has to do something.
    facts: names and values of its row, for a table; no secret.
    next_steps: what happens next, a sentence each.
    moments: the newest first.
    resources, progress: what is stored, and how far a running sync is; of a connection only.
    actions: what an operator can do now.
    disconnect_due: whether a disconnect was asked for and is not carried out yet.
    related: ids of the connection that an authorization became, or of authorizations of the same connection.
    """

    now: datetime
    kind: Literal["connection", "authorization"]
    id: str
    user_id: str
    provider: str
    state: str
    is_bad: bool
    facts: Mapping[str, object]
    next_steps: Sequence[str]
    moments: Sequence[Moment]
    resources: Sequence[Resource]
    progress: str | None
    actions: Sequence[ConnectionAction]
    disconnect_due: bool
    related: Sequence[str]


def load_story(sources: Sources, subject_id: str) -> Story | None:
    """Load the story of the connection or authorization with exactly this id; None if there is none."""
    raise NotImplementedError
