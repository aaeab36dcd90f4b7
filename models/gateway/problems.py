"""Every reason for which the gateway does not do what it was asked for: its type, its status and a title (RFC 9457)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Self


class ProblemType(StrEnum):
    """The `type` of an answer, with its HTTP status and its title."""

    status: int
    heading: str

    def __new__(cls, word: str, status: int, heading: str) -> Self:
        """Build a member whose value is `word` alone."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.status, member.heading = status, heading
        return member

    bad_request = "bad_request", 400, "The request can't be read"
    unauthorized = "unauthorized", 401, "The key is missing or unknown"
    not_allowed = "not_allowed", 403, "The key may not do this"
    connection_unknown = "connection_unknown", 404, "There is no such connection"
    call_unknown = "call_unknown", 404, "There is no such call"
    not_found = "not_found", 404, "There is nothing at this address"
    method_not_allowed = "method_not_allowed", 405, "This address does not know the method"
    reauthorization_required = "reauthorization_required", 409, "The user has to authorize again"
    idempotency_conflict = "idempotency_conflict", 409, "The idempotency key belongs to another call"
    too_large = "too_large", 413, "The body is too large"
    rate_limited = "rate_limited", 429, "No request is left for now"
    failed = "failed", 500, "Something went wrong here"
    answer_unusable = "answer_unusable", 502, "The provider's answer can't be passed on"
    held = "held", 503, "The connection is held"
    provider_unavailable = "provider_unavailable", 503, "The provider gives no answer"
    unavailable = "unavailable", 503, "The gateway can't work at the moment"


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem as it is answered.

    detail: what happened to this request, for the application's developer.
    retry_after: when to try again, if that may help.
    connect_path: where the user authorizes again.
    is_unsent: whether the call surely was not carried out; None if that is no question.
    """

    type: ProblemType
    detail: str
    retry_after: timedelta | None = None
    connect_path: str | None = None
    is_unsent: bool | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, object]:
        """Return the answer's JSON."""
        carried_out = {None: None, True: "no", False: "unknown"}[self.is_unsent]
        known = {"connect_path": self.connect_path, "carried_out": carried_out}
        own = {"type": self.type.value, "title": self.type.heading, "status": self.type.status, "detail": self.detail}
        return own | {name: value for name, value in known.items() if value is not None}

    def all_headers(self) -> dict[str, str]:
        """Return the headers that go with it."""
        if self.retry_after is None:
            return dict(self.headers)
        seconds = max(-(-self.retry_after // timedelta(seconds=1)), 1)
        return {**self.headers, "Retry-After": str(seconds)}


class Refusal(Exception):
    """Ends a request with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.type.value)
        self.problem = problem


def refuse(type_: ProblemType, detail: str, retry_after: float | None = None) -> Refusal:
    """Return the refusal of a request; `retry_after` in seconds."""
    return Refusal(Problem(type_, detail, None if retry_after is None else timedelta(seconds=retry_after)))
