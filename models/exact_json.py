"""JSON whose numbers keep every digit: bounded before it is read, read, written, and brought to one canonical form."""

import json
import re
import sys
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

largest_exponent = 4000
longest_number = 4000
"""PostgreSQL's `numeric`, and with it `jsonb`, takes four times as much before and after the point."""
bytes_per_value = 200
bytes_per_object = 320
"""What a number or list, and an object, costs at most once it is parsed, its place and the copy of it included."""
copies = 4
"""How often a text is in memory at the same time while a page is read: as bytes or text, parsed, cleaned, hashed."""

_astral_escape = re.compile(r"\\u[dD][89abAB]")


class Number(Decimal):
    """A number with a fraction or an exponent, written as it came."""

    __slots__ = ("text",)

    text: str

    def __new__(cls, text: str) -> "Number":
        """Build the number from its JSON text."""
        number = super().__new__(cls, text)
        number.text = text
        return number


class TooLarge(ValueError):
    """JSON that would take more memory than its reader allows."""


def decode(body: bytes, most_memory: int) -> str:
    """Return the text of a JSON body. Raises `TooLarge` before anything is parsed, ValueError if it is no text."""
    text = body.decode(json.detect_encoding(body), "surrogatepass")
    if estimate_memory(text) > most_memory:
        raise TooLarge
    return text


def estimate_memory(text: str) -> int:
    """Return about how many bytes are in use at most while this JSON is read.

    It counts what can begin a value, in strings as well: a few kilobytes of `[]` or `1.5` become megabytes. One
    character that needs more bytes than others makes its whole string as wide, and an escape may stand for such a one.
    """
    size = sys.getsizeof(text)
    if _astral_escape.search(text):
        size = max(size, 4 * len(text))
    elif "\\u" in text:
        size = max(size, 2 * len(text))
    return copies * size + bytes_per_value * (text.count(",") + text.count("[")) + bytes_per_object * text.count("{")


def loads(text: str | bytes) -> object:
    """Parse JSON as `json.loads` does, but for its numbers; one that no database can hold becomes null."""
    return json.loads(text, parse_float=_read_number, parse_int=_read_integer)


def dumps(value: object) -> str:
    """Return the value as JSON."""
    try:
        return json.dumps(value)
    except TypeError:
        return "".join(_write(value, ensure_ascii=True))


def canonical(value: object) -> str:
    """Return one text for equal values: keys sorted, 1.0, 1 and 1e0 the same number."""
    return "".join(canonical_pieces(value))


def canonical_pieces(value: object) -> Iterator[str]:
    """Return the canonical form piece by piece: a few bytes may stand for a number with thousands of digits."""
    try:
        return iter([json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)])
    except TypeError:
        return _write(value, ensure_ascii=False, canonically=True)


def _read_number(text: str) -> Number | None:
    try:
        number = Number(text)
    except (InvalidOperation, ValueError):
        return None
    holds = len(text) <= longest_number and abs(number.adjusted()) <= largest_exponent
    return number if number.is_finite() and holds else None


def _read_integer(text: str) -> int | None:
    return int(text) if len(text) <= longest_number else None


def _plain(number: Number) -> str:
    """Return the number without an exponent and without zeros that mean nothing."""
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _write(value: object, ensure_ascii: bool, canonically: bool = False) -> Iterator[str]:
    """Write what `json.dumps` cannot, a value with such numbers in it, piece by piece: a copy of it costs too much."""
    if isinstance(value, Number):
        yield _plain(value) if canonically else value.text
    elif isinstance(value, dict):
        separator = "{"
        for key in sorted(value) if canonically else value:
            yield f"{separator}{json.dumps(key, ensure_ascii=ensure_ascii)}:"
            yield from _write(value[key], ensure_ascii, canonically)
            separator = ","
        yield "}" if value else "{}"
    elif isinstance(value, list | tuple):
        separator = "["
        for inner in value:
            yield separator
            yield from _write(inner, ensure_ascii, canonically)
            separator = ","
        yield "]" if value else "[]"
    else:
        yield json.dumps(value, ensure_ascii=ensure_ascii)
