"""What an endpoint's answer to a delivery means."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from models.http import HttpAnswer, NoAnswer, read_retry_after

_overloaded = frozenset({429, 502, 503, 504})
"""The endpoint, or a proxy before it, says that this is no time for any delivery."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A 2xx: the application has the event."""

    status: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The application answered this delivery, and not with 2xx; a redirect is not followed."""

    status: int


@dataclass(frozen=True, slots=True)
class Away:
    """No answer, or one that says that the endpoint can't take any delivery now; status 0 if none came."""

    why: str
    status: int = 0
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """A 410: the application wants no more deliveries."""


Outcome = Delivered | Refused | Away | Gone


def read_answer(answer: HttpAnswer | NoAnswer, now: datetime) -> Outcome:
    """Return what an answer means; its body means nothing."""
    if isinstance(answer, NoAnswer):
        return Away(answer.why, retry_after=answer.retry_after)
    status = answer.status
    if 200 <= status <= 299:
        return Delivered(status)
    if status == 410:
        return Gone()
    if status in _overloaded:
        return Away(f"HTTP {status}", status, read_retry_after(answer.headers, now))
    return Refused(status)


def describe(outcome: Refused | Away | Gone) -> str:
    """Return why a delivery failed, for an operator."""
    match outcome:
        case Refused(status) if 300 <= status <= 399:
            return f"HTTP {status}: redirects are not followed"
        case Refused(status):
            return f"HTTP {status}"
        case Away(why):
            return why
        case Gone():
            return "HTTP 410: the endpoint is gone"
        case _:
            assert_never(outcome)


def name_outcome(outcome: Outcome) -> str:
    """Return the label of a metric."""
    match outcome:
        case Delivered():
            return "delivered"
        case Refused():
            return "refused"
        case Away():
            return "away"
        case Gone():
            return "gone"
        case _:
            assert_never(outcome)
