"""How the operator's page writes times, numbers and sentences."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from markupsafe import Markup, escape

_time = r"at (?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC, (?:in \d+ [a-z]+|\d+ s ago)"
_commands = (
    r"breezesync (?:doctor|status|dead-letters|explain (?:ID|[0-9a-f-]{8,36})|connections --problem \w+"
    r"|provider (?:pause|resume|hold|release|accept) [\w-]+"
    r"|webhooks (?:resume|test) [\w.-]*\w"
    r"|connect-(?:link|token) [^\s,;]+(?: --(?:provider|connection) [^\s,;]+)*)"
    r"|python -m scheduler|dramatiq worker\.main:boot|timedatectl|\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b"
)
_repeated = re.compile(r"; breezesync provider release [\w.-]+, or accept [\w.-]+$")
"""What a sentence about a hold ends with; the page has buttons for it."""
_iso_time = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_long_id = re.compile(r"[0-9a-f]{32}")
_special = re.compile(rf"{_time}|(?P<code>{_commands})")
units = (
    (timedelta(days=1), "d"),
    (timedelta(hours=1), "h"),
    (timedelta(minutes=1), "min"),
    (timedelta(seconds=1), "s"),
)
nothing = "\N{EN DASH}"
longest_relative = timedelta(days=60)


def format_number(number: int) -> str:
    """Return a number with commas between its thousands."""
    return f"{number:,}"


def format_length(seconds: float) -> str:
    """Return a length of time in one unit, the largest of which it has at least two: "90 s", "45 min", "3 d"."""
    length = timedelta(seconds=max(seconds, 0))
    for unit, name in units:
        if length >= 2 * unit:
            return f"{length // unit} {name}"
    return f"{length // units[-1][0]} s"


def format_relative(at: datetime, now: datetime) -> str:
    """Return how far away a time is: "now", "in 12 min", "3 d ago"; of what is months away its day."""
    if abs(at - now) > longest_relative:
        return f"{at.day} {at:%b %Y}"
    length = format_length(abs((at - now).total_seconds()))
    if length == "0 s":
        return "now"
    return f"in {length}" if at > now else f"{length} ago"


def format_day(day: date) -> str:
    """Return a day as people write it: "Sat 28 Nov"."""
    return f"{day:%a} {day.day} {day:%b}"


def show_time(at: datetime | None, now: datetime, otherwise: str = nothing) -> Markup:
    """Return a time element: relative, with the time in UTC as its title; `otherwise` if there is no time."""
    if at is None:
        return escape(otherwise)
    utc = at.astimezone(UTC)
    element = Markup('<time datetime="{}" title="{}">{}</time>')
    return element.format(f"{utc:%Y-%m-%dT%H:%M:%SZ}", f"{utc:%Y-%m-%d %H:%M:%S} UTC", format_relative(utc, now))


def show_sentence(text: str, now: datetime) -> Markup:
    """Return a sentence with a capital letter and a full stop, its times relative, and what to type as code."""
    text = _repeated.sub("", text)
    parts, end = [], 0
    for match in _special.finditer(text):
        parts.append(escape(text[end : match.start()]))
        if match["at"] is not None:
            at = datetime.fromisoformat(match["at"]).replace(tzinfo=UTC)
            parts.append(show_time(at, now))
        else:
            parts.append(Markup("<code>{}</code>").format(match["code"]))
        end = match.end()
    parts.append(escape(text[end:]))
    if not parts[0] and len(parts) > 1:
        return _finish(Markup("").join(parts), text)
    return _finish(parts[0][:1].upper() + Markup("").join([parts[0][1:], *parts[1:]]), text)


def show_due(at: datetime | None, now: datetime) -> Markup:
    """Return when something is due, or for how long it has been."""
    if at is None or at > now:
        return show_time(at, now)
    element = Markup('<time datetime="{}" title="{}">{}</time>')
    since = format_length((now - at).total_seconds())
    said = "now" if now - at < timedelta(minutes=1) else f"due for {since}"
    return element.format(f"{at:%Y-%m-%dT%H:%M:%SZ}", f"{at:%Y-%m-%d %H:%M:%S} UTC", said)


def list_facts(values: Mapping[str, object]) -> Sequence[tuple[str, str]]:
    """Return names and values for people: times without a "T", ids as they begin, counts without the zeros."""
    found = [(_name_of(name), _value_of(name, value)) for name, value in values.items()]
    return [(name, value) for name, value in found if value]


def _name_of(name: str) -> str:
    return name.removesuffix("_id").removesuffix("_at").removesuffix("_ms").removesuffix("_seconds").replace("_", " ")


def _value_of(name: str, value: object) -> str:
    match value:
        case None | "":
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        case int() | float() if name.endswith("_ms"):
            return f"{value:,} ms" if value < 10_000 else format_length(value / 1000)
        case int() | float() if name.endswith("seconds"):
            return f"{value:,} s"
        case str() if _iso_time.fullmatch(value):
            return _value_of(name, datetime.fromisoformat(value))
        case str() if _long_id.fullmatch(value):
            return value[:8]
        case Mapping():
            return _counts_of(value)
        case list() | tuple():
            return ", ".join(str(each) for each in value)
        case _:
            return str(value)


def _counts_of(counts: Mapping[str, object]) -> str:
    """Return a mapping as "document: 37 created; recipient: 2 deleted", or "nothing changed"."""
    if not all(isinstance(each, Mapping) for each in counts.values()):
        return ", ".join(f"{name} {number}" for name, number in counts.items() if number)
    parts = []
    for name, changes in counts.items():
        assert isinstance(changes, Mapping)  # noqa: S101 - all of them are
        changed = [f"{number} {change}" for change, number in changes.items() if number and change != "unchanged"]
        parts += [f"{name}: {', '.join(changed)}"] if changed else []
    return "; ".join(parts) or "nothing changed"


def _finish(sentence: Markup, text: str) -> Markup:
    return sentence + ("" if text.endswith((".", "!", "?", ":")) or not text else ".")
