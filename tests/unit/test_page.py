"""What an API answer means: both page formats, statuses, and pages that make no sense."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.api_response import (
    ApiOutcome,
    Failed,
    Forbidden,
    Missing,
    Page,
    Throttled,
    Unauthorized,
    read_api_answer,
)
from models.http import HttpAnswer, NoAnswer
from models.paging.page_format import PageAsked, PageFormat, Paging

now = datetime(2026, 11, 24, 12, tzinfo=UTC)
elements = [{"id": 1}, {"id": 2}]
flat = {"current_page": 2, "data": elements, "last_page": 3, "per_page": 2, "total": 6, "next_page_url": None}
numbers = {"current_page": 2, "last_page": 3, "total": 6}
nested = {"data": elements, "links": {"next": None}, "meta": numbers}


def read(body: object, paging: Paging, page: int = 2, status: int = 200, **headers: str) -> ApiOutcome:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = PageAsked(page)
    return read_api_answer(HttpAnswer(status, named, raw), PageFormat(paging=paging), asked, now)


def test_both_page_formats_read_the_same() -> None:
    expected = Page(({"id": 1}, {"id": 2}), 2, 3, 6)
    assert [read(flat, "laravel"), read(nested, "laravel_resource")] == [expected, expected]


def test_a_page_knows_how_long_its_body_was() -> None:
    page = read(json.dumps(flat).encode() + b" " * 1000, "laravel")
    assert isinstance(page, Page)
    assert page.size == len(json.dumps(flat)) + 1000


def test_neither_format_is_taken_for_the_other() -> None:
    assert isinstance(read(flat, "laravel_resource"), Failed)
    assert isinstance(read(nested, "laravel"), Failed)


def test_what_comes_without_pages_is_one_element_wrapped_in_data_or_not() -> None:
    expected = Page(({"id": 7},), 1, 1, 1)
    assert [read({"id": 7}, "none", 1), read({"data": {"id": 7}}, "none", 1)] == [expected, expected]


def test_a_field_that_is_called_data_and_is_no_object_belongs_to_the_element() -> None:
    assert read({"id": 7, "data": "x"}, "none", 1) == Page(({"id": 7, "data": "x"},), 1, 1, 1)


def test_an_empty_list_has_one_page() -> None:
    empty = {"current_page": 1, "data": [], "last_page": 0, "total": 0}
    assert read(empty, "laravel", 1) == Page((), 1, 1, 0)


senseless: dict[str, dict[str, Any]] = {
    "a number as a text": {"current_page": "2"},
    "a number as a fraction": {"total": 6.5},
    "a number as a truth": {"last_page": True},
    "a negative total": {"total": -1},
    "a null": {"last_page": None},
    "another page than the one asked for": {"current_page": 1},
    "elements keyed by name": {"data": {"0": {"id": 1}, "first": {"id": 2}}},
    "a total in words": {"total": "six"},
    "a total of another script": {"total": "٦"},
    "no elements": {"data": None},
}


@pytest.mark.parametrize("case", senseless)
def test_a_page_that_makes_no_sense_proves_nothing(case: str) -> None:
    inner = senseless[case]
    assert isinstance(read(flat | inner, "laravel"), Failed)
    resource = nested | {"meta": numbers | inner} | ({"data": inner["data"]} if "data" in inner else {})
    assert isinstance(read(resource, "laravel_resource"), Failed)


bodies: dict[str, bytes] = {
    "HTML": b"<!doctype html><title>Be right back</title>",
    "nothing": b"",
    "a list": b"[]",
    "half of it": json.dumps(flat).encode()[:40],
    "not UTF-8": b"\xff\xfe{}",
    "brackets without end": b"[" * 100_000,
}


@pytest.mark.parametrize("paging", ["laravel", "laravel_resource", "none"])
@pytest.mark.parametrize("case", bodies)
def test_a_body_that_is_no_object_proves_nothing(case: str, paging: Paging) -> None:
    assert isinstance(read(bodies[case], paging), Failed)


def nested_lists(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def test_a_body_nested_too_deeply_to_be_walked_proves_nothing() -> None:
    assert isinstance(read(flat | {"data": [{"id": 1, "x": nested_lists(97)}]}, "laravel"), Page)
    assert isinstance(read(flat | {"data": [{"id": 1, "x": nested_lists(98)}]}, "laravel"), Failed)
    assert isinstance(read({"id": 1, "x": nested_lists(800)}, "none", 1), Failed)


def test_a_body_that_was_cut_off_proves_nothing_even_where_it_can_be_read() -> None:
    cut = HttpAnswer(200, {}, json.dumps(flat).encode(), complete=False)
    assert isinstance(read_api_answer(cut, PageFormat(paging="laravel"), PageAsked(2), now), Failed)


statuses: dict[str, tuple[int, dict[str, str], ApiOutcome]] = {
    "unauthenticated": (401, {}, Unauthorized()),
    "not there": (404, {}, Missing()),
    "forbidden": (403, {}, Forbidden()),
    "forbidden until so long": (403, {"retry_after": "7"}, Throttled(timedelta(seconds=7))),
    "forbidden as nothing is left": (403, {"x_ratelimit_remaining": "0"}, Throttled(timedelta(seconds=60))),
    "throttled for so long": (429, {"retry_after": "7"}, Throttled(timedelta(seconds=7))),
    "throttled": (429, {}, Throttled(timedelta(seconds=60))),
    "throttled for a senseless time": (429, {"retry_after": "soon"}, Throttled(timedelta(seconds=60))),
    "maintenance": (503, {"retry_after": "30"}, Failed("HTTP 503", timedelta(seconds=30))),
    "broken": (500, {}, Failed("HTTP 500")),
    "redirected to the login page": (302, {}, Failed("HTTP 302")),
    "nothing in it": (204, {}, Failed("HTTP 204")),
}


@pytest.mark.parametrize("case", statuses)
def test_a_status_means_what_it_means_whatever_the_body(case: str) -> None:
    status, headers, expected = statuses[case]
    assert read(b"no JSON", "laravel", 2, status, **headers) == expected
    assert read(flat, "laravel", 2, status, **headers) == expected


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_page_for_people_is_a_firewall_s_and_says_nothing_of_the_user(status: int) -> None:
    assert isinstance(read(b" \n<!doctype html><title>Blocked</title>", "laravel", 2, status), Failed)
    assert isinstance(read(b"Blocked", "laravel", 2, status, content_type="text/html; charset=utf-8"), Failed)


def test_a_403_that_says_too_many_requests_is_no_refusal() -> None:
    said = {"error": {"code": 403, "errors": [{"reason": "userRateLimitExceeded"}]}}
    assert read(said, "none", 1, 403) == Throttled(timedelta(seconds=60))
    assert read({"error": "the plan has no rate limit exceeded"}, "none", 1, 403) == Forbidden()


resets = {
    "a unix time": (now.timestamp() + 20, 20),
    "a unix time in milliseconds": ((now.timestamp() + 20) * 1000, 20),
    "seconds": (20, 20),
    "a time that has passed": (now.timestamp() - 20, 60),
    "a time of another year": (now.timestamp() + 400 * 86_400, 60),
    "none": (0, 60),
}


@pytest.mark.parametrize("case", resets)
def test_the_end_of_a_window_is_read_and_nonsense_pauses_no_account_for_a_day(case: str) -> None:
    reset, seconds = resets[case]
    throttled = read(flat, "laravel", 2, 429, x_ratelimit_reset=str(int(reset)))
    assert throttled == Throttled(timedelta(seconds=seconds))


def test_no_answer_proves_nothing() -> None:
    assert read_api_answer(NoAnswer(True, "timeout"), PageFormat(), PageAsked(), now) == Failed("timeout")
