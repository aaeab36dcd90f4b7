"""One clock for the whole fleet: the database's, carried on between two measurements by a clock that no one sets."""

from dataclasses import dataclass
from datetime import datetime, timedelta

rough = timedelta(milliseconds=100)
"""A measurement is no better than this if it took longer than a fifth of a second."""
noticeable = timedelta(seconds=1)
"""A machine's clock that is this far off is reported; what was set by less than this counts as drift."""


def is_due(due_at: datetime | None, now: datetime) -> bool:
    """Return whether it is time; None never comes.

    Race: a message takes a few milliseconds from the process that made the work due, or found it so, to the one that
    does it, and two clocks agree no better than that. What is due within `noticeable` is therefore due.
    """
    return due_at is not None and due_at - now < noticeable


def is_over(began_at: datetime | None, length: timedelta, now: datetime) -> bool:
    """Return whether that much time has passed since; it has, too, if there is no beginning, or it is yet to come
    because the clock was set back."""
    return began_at is None or not began_at <= now < began_at + length


@dataclass(frozen=True, slots=True)
class Reading:
    """This machine's two clocks, read together.

    wall: the time of day, which an operator, NTP or a resumed virtual machine may set.
    steady: time since some moment in the past, which no one can set.
    """

    wall: datetime
    steady: timedelta


@dataclass(frozen=True, slots=True)
class Anchor:
    """One measurement: the fleet's time at one reading, known to `precision`."""

    fleet: datetime
    reading: Reading
    precision: timedelta


def measure(before: Reading, fleet: datetime, after: Reading) -> Anchor:
    """Return the measurement of a question that was sent at `before` and answered with `fleet` by `after`."""
    half = (after.steady - before.steady) / 2
    middle = Reading(before.wall + half, before.steady + half)
    return Anchor(fleet, middle, half)


def advance(anchor: Anchor, reading: Reading) -> datetime:
    """Return the fleet's time at this reading."""
    return anchor.fleet + (reading.steady - anchor.reading.steady)


def has_stepped(anchor: Anchor, reading: Reading) -> bool:
    """Return whether a clock of this machine was set or stood still since the anchor: neither can be trusted then."""
    passed = reading.steady - anchor.reading.steady
    return passed < timedelta() or abs(reading.wall - anchor.reading.wall - passed) > noticeable


def choose(current: Anchor | None, measured: Anchor) -> Anchor:
    """Return the anchor to go by.

    A measurement that agrees with the current one within their precision moves no time: the fleet's time does not jump
    back and forth by a network's delays. Yet a rough one, made by a process that was stopped or starved meanwhile, goes
    for one that is twice as good.
    """
    if current is None or has_stepped(current, measured.reading):
        return measured
    if current.precision > rough and measured.precision < current.precision / 2:
        return measured
    expected = advance(current, measured.reading)
    agrees = abs(measured.fleet - expected) <= measured.precision + current.precision
    return Anchor(expected, measured.reading, current.precision) if agrees else measured


def certain_offset(anchor: Anchor) -> timedelta:
    """Return how far this machine's time of day is off; nothing if that is too little to say for certain."""
    found = offset(anchor)
    return found if abs(found) > noticeable + anchor.precision else timedelta()


def offset(anchor: Anchor) -> timedelta:
    """Return how far this machine's time of day is ahead of the fleet's."""
    return anchor.reading.wall - anchor.fleet
