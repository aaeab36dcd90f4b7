"""What kind of value each field of a profile takes, and what to call one of another kind.

A variable is a text, whatever it stands for. In the file a number is a number: a text in its place is a mistake, as it
is to the schema for editors.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any

from pydantic_core import ErrorDetails

from config.profiles.faults import Fault
from models.hook import Hook
from models.provider import Column, Provider, Resource, View

Table = Provider | Resource | View | Column | Hook
given = ("name", "path_prefix")
"""Fields of a provider that no profile sets."""
tables: Mapping[str, type[Table]] = {"resources": Resource, "views": View, "columns": Column}
"""What each table in a list of tables is."""

whole, number, boolean, text, table = (
    *("expected a whole number", "expected a number", "expected true or false"),
    *("expected a text", "expected a table"),
)
length = "expected a length of time like 30s, 15m or 2h, more than none and up to a year"
_by_kind: Mapping[object, str] = {int: whole, float: number, bool: boolean, timedelta: length}
_by_error: Mapping[str, str] = {
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), whole),
    **dict.fromkeys(("float_type", "float_parsing"), number),
    **dict.fromkeys(("bool_type", "bool_parsing"), boolean),
    **dict.fromkeys(("dict_type", "mapping_type", "dataclass_type"), table),
    "missing": "missing",
    "string_type": text,
    "time_delta_type": length,
}


def describe_error(error: ErrorDetails) -> Fault:
    """Return the place of an error of pydantic, and what is expected there."""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).removeprefix(".")
    match error["type"]:
        case "literal_error":
            return place, f"expected {error['ctx']['expected']}"
        case "tuple_type":
            is_of_tables = place.rpartition(".")[2] in tables
            return place, f"expected a list of {'tables' if is_of_tables else 'texts'}"
        case kind:
            return place, _by_error.get(kind, error["msg"])


def find_unknown(written: Mapping[str, object]) -> Iterator[str]:
    """Yield the place of each field that no profile has."""
    yield from (place for place, kind, _ in _walk(written, Provider, "") if kind is None)


def find_mistyped(written: Mapping[str, object]) -> Iterator[Fault]:
    """Yield what is no number, or not true or false, where that is expected."""
    for place, kind, value in _walk(written, Provider, ""):
        if kind in _by_kind and not _is_of(kind, value):
            yield place, _by_kind[kind]


def _is_of(kind: object, value: object) -> bool:
    if kind is bool:
        return isinstance(value, bool)
    if kind is timedelta:
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return kind is float or isinstance(value, int) or value.is_integer()


def _walk(written: object, kind: type[Table], where: str) -> Iterator[tuple[str, Any, object]]:
    """Yield the place of each field of a table and of those in it, the type that it takes, None if it is not known, and
    its value."""
    known = {field.name: field.type for field in fields(kind) if kind is not Provider or field.name not in given}
    for key, value in written.items() if isinstance(written, Mapping) else ():
        yield f"{where}{key}", known.get(key), value
        if key == "webhook":
            yield from _walk(value, Hook, "webhook.")
        for position, element in enumerate(value if key in tables and isinstance(value, list) else ()):
            yield from _walk(element, tables[key], f"{where}{key}[{position}].")
