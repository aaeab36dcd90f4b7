"""Read typed values from a control request, sent as JSON or as a form."""

from collections.abc import Mapping, Sequence
from typing import Any

_TRUE = ("true", "1", "on", "yes")
_FALSE = ("false", "0", "off", "no", "")
_ABSENT: Any = object()


class InputError(ValueError):
    """A value is missing or of the wrong kind."""


class MissingError(Exception):
    """A thing with this id or name does not exist."""


class Inputs:
    """Each reader raises InputError, naming the field and what it expects; without a default it is required.

    A form's empty text counts as absent.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = {name: value for name, value in fields.items() if value not in (None, "")}

    def names(self) -> list[str]:
        return [name for name in self._fields if not name.startswith("_")]

    def text(self, name: str, default: str = _ABSENT) -> str:
        value = self._take(name, default)
        if not isinstance(value, str | int | float):
            raise InputError(f"{name} is text")
        return str(value)

    def optional_text(self, name: str) -> str | None:
        return self.text(name) if name in self._fields else None

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list, or one text split at spaces and commas; empty if absent."""
        value = self._fields.get(name, [])
        if isinstance(value, str):
            value = value.replace(",", " ").split()
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise InputError(f"{name} is a list of texts")
        return tuple(value)

    def choice(self, name: str, choices: Sequence[str], default: str = _ABSENT) -> Any:
        value = self.text(name, default)
        if value not in choices:
            raise InputError(f"{name} is one of {', '.join(choices)}")
        return value

    def integer(self, name: str, default: int = _ABSENT) -> int:
        value = self.number(name, default)
        if value != int(value):
            raise InputError(f"{name} is a whole number")
        return int(value)

    def optional_integer(self, name: str) -> int | None:
        return self.integer(name) if name in self._fields else None

    def number(self, name: str, default: float = _ABSENT) -> float:
        value = self._take(name, default)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise InputError(f"{name} is a number") from None

    def flag(self, name: str, default: bool = _ABSENT) -> bool:
        word = str(self._take(name, default)).lower()
        if word not in _TRUE + _FALSE:
            raise InputError(f"{name} is true or false")
        return word in _TRUE

    def mapping(self, name: str) -> dict[str, Any]:
        """Return a JSON object, or the form fields named `name.key`."""
        value = self._fields.get(name, {})
        if not isinstance(value, dict):
            raise InputError(f"{name} is an object")
        prefix = f"{name}."
        flat = {key[len(prefix) :]: one for key, one in self._fields.items() if key.startswith(prefix)}
        return {**value, **flat}

    def _take(self, name: str, default: Any) -> Any:
        if name in self._fields:
            return self._fields[name]
        if default is _ABSENT:
            raise InputError(f"{name} is missing")
        return default
