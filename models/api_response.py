"""What an API answer means, and what stands on a page in any of the provider's page formats."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, cast

from models import exact_json
from models.exact_json import TooLarge
from models.http import HttpAnswer, NoAnswer, read_pause, read_retry_after

Paging = Literal["laravel", "laravel_resource", "none"]
deepest = 100
longest_page = 1000
html_page = "a page of HTML, not JSON"
largest_number = 10**9
page_memory = 16 << 20
"""Bytes that reading one page may take: eight threads of a worker do so at the same time, in 384 MB with all else."""


@dataclass(frozen=True, slots=True)
class Page:
    """The elements of one page and where it stands; `total` is the provider's count over all pages.

    is_clean: whether every text of the elements can be stored as it is.
    """

    elements: tuple[object, ...]
    number: int
    last: int
    total: int
    is_clean: bool = field(default=False, compare=False)


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
    """Anything else: no answer, a server error, HTML, a redirect, a cut or senseless body."""

    why: str
    retry_after: timedelta | None = None


ApiOutcome = Page | Unauthorized | Forbidden | Missing | Throttled | Failed


def read_api_answer(answer: HttpAnswer | NoAnswer, paging: Paging, page: int, now: datetime) -> ApiOutcome:
    """Decides what the answer to a GET of page `page` proves."""
    if isinstance(answer, NoAnswer):
        return Failed(answer.why)
    retry_after = read_retry_after(answer.headers, now)
    match answer.status:
        case 200 if not answer.complete:
            return Failed("the body was cut off or too large")
        case 200:
            return _read_body(answer, paging, page)
        case (401 | 403 | 404) as status if is_html(answer):
            return Failed(f"HTTP {status} with a page of HTML: a firewall's, not the API's", retry_after)
        case 401:
            return Unauthorized()
        case 403:
            return Forbidden()
        case 404:
            return Missing()
        case 429:
            return Throttled(retry_after or _read_reset(answer.headers, now) or timedelta(seconds=60))
        case status:
            return Failed(f"HTTP {status}", retry_after)


def _read_body(answer: HttpAnswer, paging: Paging, page: int) -> Page | Failed:
    if is_html(answer):
        return Failed(html_page)
    try:
        body, is_clean = _read_object(answer.body)
        return _read_page(body, paging, page, is_clean)
    except TooLarge:
        return Failed("the body has more values or text than fit into memory")


def read_remaining(headers: Mapping[str, str]) -> int | None:
    """How many more requests the provider takes before its window closes (`X-RateLimit-Remaining`), if it says so."""
    value = headers.get("x-ratelimit-remaining", "").strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None


def is_html(answer: HttpAnswer) -> bool:
    """Whether the body is a page for people, which an API does not send: something in front of it did."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in ("text/html", "application/xhtml+xml") or answer.body.lstrip()[:1] == b"<"


def _read_object(body: bytes) -> tuple[dict[str, object] | None, bool]:
    """Return the body as a JSON object whose numbers keep every digit, else None, and whether all its texts can be
    stored. Raises `TooLarge`."""
    try:
        value, is_clean = exact_json.read(exact_json.decode(body, page_memory))
    except TooLarge:
        raise
    except (ValueError, RecursionError):
        return None, False
    return (value if isinstance(value, dict) else None), is_clean


def _read_reset(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """How long until the window closes (`X-RateLimit-Reset`, usually a unix time), for a 429 that names no length."""
    return read_pause(headers.get("x-ratelimit-reset", "").strip(), now) or None


def _read_page(body: dict[str, object] | None, paging: Paging, page: int, is_clean: bool) -> Page | Failed:
    if body is None:
        return Failed("the body is no JSON object")
    if _depth_exceeds(body, deepest):
        return Failed("the body is nested too deeply")
    if paging == "none":
        inner = body.get("data")
        return Page((inner if isinstance(inner, dict) else body,), 1, 1, 1, is_clean)
    numbers = body if paging == "laravel" else body.get("meta")
    elements = _read_elements(body.get("data"))
    if not isinstance(numbers, dict) or elements is None:
        return Failed("the body is no page")
    current, last = (_read_count(numbers.get(name)) for name in ("current_page", "last_page"))
    total = _read_count(_read_text(numbers.get("total")))
    if len(elements) > longest_page:
        return Failed(f"the page has more than {longest_page} elements")
    if current is None or last is None or total is None:
        return Failed("the page's numbers are missing or senseless")
    if current != page:
        return Failed(f"page {page} was asked for, page {current} came")
    return Page(tuple(elements), page, max(last, 1), total, is_clean)


def _read_elements(data: object) -> list[object] | None:
    """Return a page's elements; Laravel sends a collection that it filtered as an object with numbers as its keys."""
    if isinstance(data, dict) and all(key.isascii() and key.isdigit() and len(key) < 10 for key in data):
        return [data[key] for key in sorted(data, key=int)]
    return data if isinstance(data, list) else None


def _read_text(value: object) -> object:
    """Return the number that a text is: some databases count in texts, and Laravel passes their total on."""
    is_number = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 11
    return int(cast(str, value)) if is_number else value


def _read_count(value: object) -> int | None:
    """Return a number of pages or records; None if it makes no sense."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest_number
    return cast(int, value) if is_count else None


def _depth_exceeds(value: object, most: int) -> bool:
    """Whether lists and objects stand in each other more than `most` deep; what walks records recurses."""
    level: list[object] = [value]
    for _ in range(most):
        below: list[object] = []
        for each in level:
            inside = each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
            below += [inner for inner in inside if type(inner) is dict or type(inner) is list]
        level = below
        if not level:
            return False
    return True
