"""Judge how far clocks are apart."""

from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

from models.health.finding import Finding, State
from models.http import HttpAnswer, NoAnswer

noticeable = timedelta(seconds=2)
harmful = timedelta(seconds=20)


def judge_clock(whose: str, theirs: datetime, ours: datetime, precision: timedelta = timedelta()) -> Finding:
    """Judge how far a clock is from ours: links are signed and logs written by it, though no lease depends on it."""
    distance = abs(theirs - ours)
    said = f"{whose} and this machine are {distance.total_seconds():.1f} s apart"
    if distance <= noticeable + precision:
        return Finding("clock", "ok", said)
    state: State = "warn" if distance <= harmful else "failed"
    return Finding("clock", state, said, "Synchronize every machine's clock by NTP; see timedatectl.")


def judge_process_clock(process: str, ahead: float) -> Finding:
    """Judge what a process measured of its own machine's clock, in seconds; not 0."""
    said = f"the machine of {process} is {describe_offset(ahead)} the database"
    state: State = "warn" if abs(ahead) <= harmful.total_seconds() else "failed"
    return Finding("clock", state, said, "Synchronize that machine's clock by NTP; see timedatectl.")


def describe_offset(ahead: float) -> str:
    """Return how many seconds a clock is ahead of another, or behind it, as words that the other's name follows."""
    return f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'}"


def read_date(answer: HttpAnswer | NoAnswer) -> datetime | None:
    """Return the answer's `Date`, which has whole seconds (RFC 9110 §6.6.1); None if there is none."""
    try:
        at = parsedate_to_datetime(answer.headers["date"]) if isinstance(answer, HttpAnswer) else None
    except (KeyError, ValueError):
        return None
    return at if at is not None and at.tzinfo is not None else None
