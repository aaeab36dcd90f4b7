"""The trace that a message belongs to, as its option `traceparent` says it (W3C Trace Context)."""

import re
from typing import Final

option: Final = "traceparent"
_pattern: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def is_traceparent(value: object) -> bool:
    """Return whether this is a version, the ids of a trace and of a span, and flags; anyone can write a message."""
    return isinstance(value, str) and _pattern.fullmatch(value) is not None
