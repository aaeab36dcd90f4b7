"""JSON whose numbers keep every digit: read, written, and brought to one canonical form."""

import json
from decimal import Decimal, InvalidOperation

largest_exponent = 4000
longest_number = 4000
"""PostgreSQL's `numeric`, and with it `jsonb`, takes four times as much before and after the point."""


class Number(Decimal):
    """A number with a fraction or an exponent, written as it came."""

    text: str

    def __new__(cls, text: str) -> "Number":
        """Build the number from its JSON text."""
        number = super().__new__(cls, text)
        number.text = text
        return number


def loads(text: str | bytes) -> object:
    """Parse JSON as `json.loads` does, but for its numbers; one that no database can hold becomes null."""
    return json.loads(text, parse_float=_read_number, parse_int=_read_integer)


def dumps(value: object) -> str:
    """Return the value as JSON."""
    try:
        return json.dumps(value)
    except TypeError:
        return _write(value, ensure_ascii=True)


def canonical(value: object) -> str:
    """Return one text for equal values: keys sorted, 1.0, 1 and 1e0 the same number."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except TypeError:
        return _write(_sort(value), ensure_ascii=False)


def _read_number(text: str) -> Number | None:
    try:
        number = Number(text)
    except (InvalidOperation, ValueError):
        return None
    holds = len(text) <= longest_number and abs(number.adjusted()) <= largest_exponent
    return number if number.is_finite() and holds else None


def _read_integer(text: str) -> int | None:
    return int(text) if len(text) <= longest_number else None


def _sort(value: object) -> object:
    if isinstance(value, dict):
        return {key: _sort(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sort(inner) for inner in value]
    return Number(_plain(value)) if isinstance(value, Number) else value


def _plain(number: Number) -> str:
    """Return the number without an exponent and without zeros that mean nothing."""
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _write(value: object, ensure_ascii: bool) -> str:
    """Write what `json.dumps` cannot: a value with such numbers in it."""
    if isinstance(value, Number):
        return value.text
    if isinstance(value, dict):
        fields = (f"{json.dumps(key, ensure_ascii=ensure_ascii)}:{_write(v, ensure_ascii)}" for key, v in value.items())
        return "{" + ",".join(fields) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_write(inner, ensure_ascii) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=ensure_ascii)
