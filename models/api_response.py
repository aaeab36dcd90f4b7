"""What an API answer means."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from models import exact_json
from models.exact_json import TooLarge
from models.http import HttpAnswer, NoAnswer, read_pause, read_retry_after
from models.paging.page import NoPage, Page, PageAnswer, read_page
from models.paging.page_format import PageAsked, PageFormat

__all__ = [
    "ApiOutcome",
    "Failed",
    "Forbidden",
    "Location",
    "Missing",
    "Page",
    "Throttled",
    "Unauthorized",
    "is_html",
    "read_api_answer",
    "read_remaining",
]

deepest = 100
html_page = "a page of HTML, not JSON"
longest_refusal = 4096
"""Bytes of a 403 that are searched for its reason."""
_too_many = re.compile(rb'"(user)?_?rate_?limit_?exceeded"', re.IGNORECASE)
page_memory = 16 << 20
"""Bytes that reading one page may take: eight threads of a worker do so at the same time, in 384 MB with all else."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where an answer came from: the URL that was asked, and the API's URL, which links on a page must not leave."""

    url: str = ""
    api_url: str = ""


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """401: this access token is not (or no longer) good."""


@dataclass(frozen=True, slots=True)
class Forbidden:
    """403: the account's plan or rights, never its token."""


@dataclass(frozen=True, slots=True)
class Missing:
    """404: the account has no such resource."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """429: the account's budget is used up."""

    retry_after: timedelta


@dataclass(frozen=True, slots=True)
class Failed:
    """Anything else: no answer, a server error, HTML, a redirect, a cut or senseless body.

    `is_lasting` if asking again would not help: the list is not as the provider's profile describes it.
    """

    why: str
    retry_after: timedelta | None = None
    is_lasting: bool = False


ApiOutcome = Page | Unauthorized | Forbidden | Missing | Throttled | Failed


def read_api_answer(
    answer: HttpAnswer | NoAnswer,
    form: PageFormat,
    asked: PageAsked,
    now: datetime,
    location: Location = Location(),
) -> ApiOutcome:
    """Decide what the answer to a GET of a page proves."""
    if isinstance(answer, NoAnswer):
        return Failed(answer.why)
    retry_after = read_retry_after(answer.headers, now)
    match answer.status:
        case 200 if not answer.complete:
            return Failed("the body was cut off or too large")
        case 200:
            return _read_body(answer, form, asked, location)
        case (401 | 403 | 404) as status if is_html(answer):
            return Failed(f"HTTP {status} with a page of HTML: a firewall's, not the API's", retry_after)
        case 401:
            return Unauthorized()
        case 403 if not _throttles(answer):
            return Forbidden()
        case 404:
            return Missing()
        case 403 | 429:
            return Throttled(retry_after or _read_reset(answer.headers, now) or timedelta(seconds=60))
        case status:
            return Failed(f"HTTP {status}", retry_after)


def _read_body(answer: HttpAnswer, form: PageFormat, asked: PageAsked, location: Location) -> Page | Failed:
    if is_html(answer):
        return Failed(html_page)
    try:
        body, is_clean = _read_json(answer.body)
    except TooLarge:
        return Failed("the body has more values or text than fit into memory")
    if not isinstance(body, dict | list):
        return Failed("the body is no JSON object")
    if exact_json.depth_exceeds(body, deepest):
        return Failed("the body is nested too deeply")
    found = read_page(PageAnswer(body, answer.headers, location.url, location.api_url, is_clean), form, asked)
    if isinstance(found, NoPage):
        return Failed(found.why, is_lasting=found.is_lasting)
    return replace(found, size=len(answer.body))


def read_remaining(headers: Mapping[str, str]) -> int | None:
    """How many more requests the provider takes before its window closes (`X-RateLimit-Remaining`), if it says so."""
    value = headers.get("x-ratelimit-remaining", "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


def is_html(answer: HttpAnswer) -> bool:
    """Whether the body is a page for people, which an API does not send: something in front of it did."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in ("text/html", "application/xhtml+xml") or answer.body.lstrip()[:1] == b"<"


def _read_json(body: bytes) -> tuple[object, bool]:
    """Return the body as JSON whose numbers keep every digit, else None, and whether all its texts can be stored.

    Raises `TooLarge`.
    """
    try:
        return exact_json.read(exact_json.decode(body, page_memory))
    except TooLarge:
        raise
    except (ValueError, RecursionError):
        return None, False


def _read_reset(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """How long until the window closes (`X-RateLimit-Reset`, usually a unix time), for a 429 that names no length."""
    return read_pause(headers.get("x-ratelimit-reset", "").strip(), now) or None


def _throttles(answer: HttpAnswer) -> bool:
    """Whether a 403 is about too many requests, as with GitHub and Google, and not about plan or rights."""
    spent = answer.headers.get("x-ratelimit-remaining", "").strip() == "0"
    return spent or "retry-after" in answer.headers or _too_many.search(answer.body[:longest_refusal]) is not None
