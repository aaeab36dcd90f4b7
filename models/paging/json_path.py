"""Dotted paths into JSON, as profiles write them."""

import re
from functools import lru_cache

_separator = re.compile(r"(?<!\\)\.")


def look_up(value: object, path: str) -> object:
    r"""Return what is at a dotted path; None if there is nothing. A dot in a field's name is written `\.`."""
    for name in _split(path):
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


@lru_cache(maxsize=1024)
def _split(path: str) -> tuple[str, ...]:
    return tuple(part.replace("\\.", ".") for part in _separator.split(path))
