"""What spans are called and what they may say; and the traces of a process that has none."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Final, Literal

prefix: Final = "breezesync."
_id_pattern: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class SpanName(StrEnum):
    """Every span there is."""

    web = "web.request"
    gateway = "gateway.request"
    message = "message"
    token_request = "token.request"  # noqa: S105 - a name
    api_request = "api.request"


Fact = Literal[
    "operation",
    "actor",
    "provider",
    "grant",
    "resource",
    "method",
    "outcome",
    "status",
    "message_id",
    "authorization_id",
    "connection_id",
    "revocation_id",
]
"""What a span may say: ids and words of ours, and an HTTP status. A user's id may be an e-mail address, and a URL may
have anything in it, so neither is here."""
Facts = Mapping[Fact, str | int]


def name_attribute(fact: Fact) -> str:
    """Return the attribute that carries a fact; an HTTP status has OpenTelemetry's own."""
    return "http.response.status_code" if fact == "status" else prefix + fact


def find_ids(given: Mapping[str, object]) -> Facts:
    """Return the ids among what came with a message, without what only calls itself one."""
    known: tuple[Fact, ...] = ("message_id", "authorization_id", "connection_id", "revocation_id")
    found = {name: given.get(name) for name in known}
    return {name: value for name, value in found.items() if isinstance(value, str) and _id_pattern.fullmatch(value)}


class Span:
    """One that no one records."""

    def end(self, facts: Facts, *, failed: bool = False) -> None:
        """End it with what came of it; on the thread, or in the task, that began it."""


class Traces:
    """What a process traces with. This one traces nothing; every method takes microseconds and raises nothing."""

    is_on: ClassVar[bool] = False

    def begin(self, name: SpanName, facts: Facts, parent: str | None = None) -> Span:
        """Begin a span that others of this thread or task belong to until it ends.

        `parent` is the `traceparent` that it continues; without one, or with one that can't be read, it begins a trace.
        """
        return Span()

    def note(self, name: SpanName, facts: Facts, seconds: float) -> None:
        """Note a request that has just ended, as a part of what this thread or task is doing."""

    def traceparent(self) -> str | None:
        """Return what a message that is sent now has to carry; None outside of every span."""
        return None

    def exemplar(self) -> Mapping[str, str] | None:
        """Return the labels that lead from a measurement made now to its trace; None if that is not recorded."""
        return None

    def close(self) -> None:
        """Send what was recorded, within two seconds or not at all."""
