"""JSON whose numbers keep every digit: bounded before it is read, read, written, and brought to one canonical form."""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

largest_exponent = 4000
longest_number = 4000
"""PostgreSQL's `numeric`, and with it `jsonb`, takes four times as much before and after the point."""
bytes_per_value = 200
bytes_per_object = 320
"""What a number or list, and an object, costs at most once it is parsed, its place and the copy of it included."""
copies = 4
"""How often a text is in memory at the same time while a page is read: as bytes or text, parsed, cleaned, hashed."""
bytes_per_byte = 4 * copies + bytes_per_object
"""What a byte of JSON costs at most, whatever stands in it: so a short text need not be looked through."""

longest_integer = 4300
"""Digits of an integer; Python reads no longer one, so that msgspec passes such a text on to the slower reader."""
longest_at_once = 40
"""Digits of a number before or after its point that are written out with all around it."""
_containers = frozenset({dict, list})
_astral_escape = re.compile(r"\\u[dD][89abAB]")


class Number(Decimal):
    """A number that keeps its text, because a decimal would be written another way, or not in its canonical form."""

    __slots__ = ("text",)

    text: str

    def __new__(cls, text: str) -> "Number":
        """Build the number from its JSON text."""
        number = super().__new__(cls, text)
        number.text = text
        return number


class _TooLong(Exception):
    """A number that becomes much longer when it is written out."""


class NumberTooLong(ValueError):
    """A number that no database can hold."""


class TooLarge(ValueError):
    """JSON that would take more memory than its reader allows."""


def decode(body: bytes, most_memory: int) -> str:
    """Return the text of a JSON body. Raises `TooLarge` before anything is parsed, ValueError if it is no text."""
    text = body.decode(json.detect_encoding(body), "surrogatepass")
    if len(body) * bytes_per_byte > most_memory and estimate_memory(text) > most_memory:
        raise TooLarge
    return text


def estimate_memory(text: str) -> int:
    """Return about how many bytes are in use at most while this JSON is read.

    It counts what can begin a value, in strings as well: a few kilobytes of `[]` or `1.5` become megabytes. One
    character that needs more bytes than others makes its whole string as wide, and an escape may stand for such a one.
    """
    size = sys.getsizeof(text)
    if "\\u" in text:
        size = max(size, (4 if _astral_escape.search(text) else 2) * len(text))
    return copies * size + bytes_per_value * (text.count(",") + text.count("[")) + bytes_per_object * text.count("{")


def loads(text: str) -> object:
    """Parse JSON as `json.loads` does, but for its numbers; one that no database can hold becomes null."""
    return read(text)[0]


def read(text: str) -> tuple[object, bool]:
    """Return what `loads` does, and whether all its texts can be stored: no NUL in them, and no half of a character.

    What msgspec does not take goes to the slower reader of the standard library: half a character, NaN, an integer
    with thousands of digits. Both refuse what is no JSON with a ValueError.
    """
    try:
        value = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return json.loads(text, parse_float=_read_number, parse_int=_read_integer), False
    return value, "\\u0000" not in text


def read_exactly(text: str) -> tuple[object, bool]:
    """Return what `read` does, but nothing in place of something else: raise `NumberTooLong` for a number that would
    become null, and ValueError for NaN and its kind, which are no JSON."""
    try:
        value = _exact_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError):
        return _slow_decoder.decode(text), False
    return value, "\\u0000" not in text


def depth_exceeds(value: object, most: int) -> bool:
    """Return whether lists and objects stand in each other more than `most` deep; what walks a value recurses."""
    level: list[Any] = [value] if type(value) in _containers else []
    for _ in range(most):
        inside = (each.values() if type(each) is dict else each for each in level)
        level = [inner for values in inside for inner in values if type(inner) in _containers]
        if not level:
            return False
    return True


def dumps(value: object) -> str:
    """Return the value as JSON. Raises TypeError for what is none: a secret, for example."""
    try:
        return _encoder.encode(value).decode()
    except UnicodeError:
        return "".join(_write(value, ensure_ascii=True))


def canonical(value: object) -> str:
    """Return one text for equal values: keys sorted, 1.0, 1 and 1e0 the same number."""
    return b"".join(canonical_pieces(value)).decode()


def canonical_pieces(value: object) -> Iterable[bytes]:
    """Return the canonical form, in pieces if it may be much longer than what it came from."""
    try:
        return [_canonical_encoder.encode(value)]
    except (_TooLong, UnicodeError):
        return (piece.encode() for piece in _write(value, ensure_ascii=False, canonically=True))


def _read_number(text: str) -> Decimal | None:
    """Return a number with a fraction or an exponent. Most are written as they came by the encoder itself, which takes
    a tenth of the time: decimals whose text is the canonical one."""
    try:
        if len(text) <= longest_at_once and text[-1] != "0":
            plain = Decimal(text)
            if "E" not in text and str(plain) == text:
                return plain
        number = Number(text)
    except (InvalidOperation, ValueError):
        return None
    holds = len(text) <= longest_number and abs(number.adjusted()) <= largest_exponent
    return number if number.is_finite() and holds else None


def _read_integer(text: str) -> int | None:
    return int(text) if len(text.removeprefix("-")) <= longest_integer else None


def _require_number(text: str) -> Decimal:
    number = _read_number(text)
    if number is None:
        raise NumberTooLong
    return number


def _require_integer(text: str) -> int:
    number = _read_integer(text)
    if number is None:
        raise NumberTooLong
    return number


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _as_it_came(value: object) -> msgspec.Raw:
    if not isinstance(value, Number):
        raise TypeError(f"{type(value).__name__} is not JSON")
    return msgspec.Raw(value.text.encode())


def _in_one_form(value: object) -> msgspec.Raw:
    if not isinstance(value, Number):
        raise TypeError(f"{type(value).__name__} is not JSON")
    if len(value.text) > longest_at_once or abs(value.adjusted()) > longest_at_once:
        raise _TooLong
    return msgspec.Raw(_plain(value).encode())


def _plain(number: Decimal) -> str:
    """Return the number without an exponent and without zeros that mean nothing."""
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _write(value: object, ensure_ascii: bool, canonically: bool = False) -> Iterator[str]:
    """Write what msgspec does not, or not piece by piece: a few bytes may stand for thousands of digits."""
    if isinstance(value, Decimal):
        as_it_came = value.text if isinstance(value, Number) else str(value)
        yield _plain(value) if canonically else as_it_came
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


_decoder = msgspec.json.Decoder(float_hook=_read_number)
_exact_decoder = msgspec.json.Decoder(float_hook=_require_number)
_slow_decoder = json.JSONDecoder(
    parse_float=_require_number, parse_int=_require_integer, parse_constant=_refuse_constant
)
_encoder = msgspec.json.Encoder(enc_hook=_as_it_came, decimal_format="number")
_canonical_encoder = msgspec.json.Encoder(enc_hook=_in_one_form, decimal_format="number", order="sorted")
