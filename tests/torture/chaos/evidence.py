"""What a chaos run leaves behind, as values that a verdict is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Published:
    """An event of the outbox; `at` in seconds since 1970."""

    position: int
    id: str
    type: str
    connection_id: str
    subject: str
    stream: str
    sequence: int
    data: Mapping[str, Any]
    at: float


@dataclass(frozen=True, slots=True)
class Decided:
    subject: str
    verb: str
    generation: int | None


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection at the end; `account` is its user's number at the provider."""

    id: str
    account: int
    status: str
    generation: int
    at_rest: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """A failed authorization, by its account.

    at: when its code arrived.
    over_at: when the life of its code was over, as we know it.
    presentations: those of its code, as `sandbox.counters` returns them.
    """

    id: str
    account: int
    reason: str
    at: float
    over_at: float
    presentations: Sequence[Mapping[str, Any]] = ()


@dataclass
class Evidence:
    """Everything that is known once the fleet is at rest."""

    connections: Sequence[Connected]
    decisions: Sequence[Decided]
    events: Sequence[Published]
    delivered: Sequence[tuple[str, str, int, str]]
    """Entries of the streams in the order of their delivery: stream, subject, sequence, id."""
    refresh_tokens: Sequence[Mapping[str, Any]]
    """As `sandbox.counters` returns them."""
    traces: Sequence[Mapping[str, Any]]
    killed: frozenset[int] = frozenset()
    """Processes that were killed; what they had not saved may be lost."""
    revocations: Sequence[tuple[int, float]] = ()
    """When the user of an account revoked."""
    failures: Sequence[Failed] = ()
    parked: int = 0
    unpublished: int = 0
    reuse: str = "harmless"
    """What the provider does with a refresh token that is presented again."""
