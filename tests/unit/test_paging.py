"""How pages are asked for and what is on them, in each dialect that a profile can name; and links that lead away."""

from typing import Any

import pytest

from models.paging.json_path import look_up
from models.paging.link import find_next, resolve
from models.paging.page import NoPage, Page, PageAnswer, longest_cursor, read_page
from models.paging.page_format import PageAsked, PageFormat, parameters_of, target_of

api = "https://api.example/v1"
first = PageAsked()
two = [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize(
    ("value", "path", "expected"),
    [
        ({"a": {"b": 1}}, "a.b", 1),
        ({"a.b": 1}, r"a\.b", 1),
        ({"@odata.nextLink": "u"}, r"@odata\.nextLink", "u"),
        ({"a": [1]}, "a.0", None),
        ({"a": None}, "a.b", None),
        ([], "a", None),
        ("text", "a", None),
    ],
)
def test_a_dotted_path_leads_to_a_value_or_to_nothing(value: object, path: str, expected: object) -> None:
    assert look_up(value, path) == expected


requests: dict[str, tuple[dict[str, Any], PageAsked, dict[str, str]]] = {
    "laravel": ({"paging": "laravel"}, PageAsked(3), {"page": "3"}),
    "no pages": ({"paging": "none", "size_parameter": "limit"}, PageAsked(), {}),
    "the first by number": ({"paging": "page"}, PageAsked(), {"page": "1"}),
    "a later one from zero": (
        {"paging": "page", "first_page": 0, "page_parameter": "p", "size_parameter": "n", "size": 7},
        PageAsked(3, "14"),
        {"n": "7", "p": "2"},
    ),
    "the first by offset": ({"paging": "offset"}, PageAsked(), {"offset": "0"}),
    "a later offset counted from one": ({"paging": "offset", "first_offset": 1}, PageAsked(2, "20"), {"offset": "21"}),
    "an offset after the paging changed": ({"paging": "offset"}, PageAsked(2, "/x?page=2"), {"offset": "0"}),
    "a link after the paging changed": (
        {"paging": "link", "size_parameter": "n"},
        PageAsked(2, "CiAKGj"),
        {"n": "100"},
    ),
    "the first by cursor": ({"paging": "cursor", "cursor": "c", "size_parameter": "n"}, PageAsked(), {"n": "100"}),
    "a later cursor": (
        {"paging": "cursor", "cursor": "c", "cursor_parameter": "after"},
        PageAsked(2, "a b&c"),
        {"after": "a b&c"},
    ),
    "the first by link": ({"paging": "link", "size_parameter": "per_page"}, PageAsked(), {"per_page": "100"}),
    "a later link": ({"paging": "link", "size_parameter": "per_page"}, PageAsked(2, "/x?page=2"), {}),
}


@pytest.mark.parametrize("case", requests)
def test_a_request_names_its_page(case: str) -> None:
    form, asked, expected = requests[case]
    assert parameters_of(PageFormat(**form), asked) == expected


def test_a_linked_page_is_at_its_own_place() -> None:
    linked = PageFormat(paging="link")
    assert target_of(linked, PageAsked(2, "/else?page=2"), "/things") == "/else?page=2"
    assert target_of(linked, PageAsked(), "/things") == "/things"
    assert target_of(linked, PageAsked(2, ".evil.example/things"), "/things") == "/things"
    assert target_of(PageFormat(paging="cursor"), PageAsked(2, "x"), "/things") == "/things"


def read(
    body: object, form: dict[str, Any], asked: PageAsked = first, link: str = ""
) -> tuple[int, int, int | None, str | None] | str:
    """Return how many elements came, the last page, the total and the cursor; or why there is no page."""
    found = read_page(PageAnswer(body, {"link": link}, f"{api}/things", api), PageFormat(**form), asked)
    if isinstance(found, NoPage):
        return found.why
    assert isinstance(found, Page)
    return len(found.elements), found.last, found.total, found.cursor


by_page = {"paging": "page", "items": "values"}
by_offset = {"paging": "offset", "items": "values", "total": "total"}
by_cursor = {"paging": "cursor", "items": "values", "cursor": "paging.next.after"}
by_last = {"paging": "cursor", "items": "values", "cursor": "[-1].id", "more": "more"}
pages: dict[str, tuple[object, dict[str, Any], PageAsked, object]] = {
    "numbered": ({"values": two}, by_page, PageAsked(), (2, 2, None, "2")),
    "numbered, an empty one": ({"values": []}, by_page, PageAsked(2, "2"), (0, 2, None, None)),
    "numbered, with more": ({"values": two, "m": 5}, by_page | {"more": "m"}, PageAsked(2, "2"), (2, 3, None, "4")),
    "numbered, without more": ({"values": two, "m": False}, by_page | {"more": "m"}, PageAsked(), (2, 1, None, None)),
    "numbered, more is gone": ({"values": two}, by_page | {"more": "m"}, PageAsked(), (2, 1, None, None)),
    "offset": ({"values": two, "total": 3}, by_offset, PageAsked(), (2, 2, 3, "2")),
    "offset, the last": ({"values": two[:1], "total": 3}, by_offset, PageAsked(2, "2"), (1, 2, 3, None)),
    "offset, a total as a text": ({"values": two, "total": "2"}, by_offset, PageAsked(), (2, 1, 2, None)),
    "offset, fewer than it says": ({"values": [], "total": 3}, by_offset, PageAsked(2, "2"), (0, 2, 3, None)),
    "cursor": ({"values": two, "paging": {"next": {"after": "x"}}}, by_cursor, PageAsked(), (2, 2, None, "x")),
    "cursor, a number": ({"values": two, "paging": {"next": {"after": 7}}}, by_cursor, PageAsked(), (2, 2, None, "7")),
    "cursor, an empty page": (
        {"values": [], "paging": {"next": {"after": "x"}}},
        by_cursor,
        PageAsked(),
        (0, 2, None, "x"),
    ),
    "cursor, none": ({"values": two}, by_cursor, PageAsked(4, "w"), (2, 4, None, None)),
    "cursor, null": ({"values": two, "paging": {"next": None}}, by_cursor, PageAsked(), (2, 1, None, None)),
    "cursor, an empty one": (
        {"values": two, "paging": {"next": {"after": ""}}},
        by_cursor,
        PageAsked(),
        (2, 1, None, None),
    ),
    "the last record": ({"values": two, "more": True}, by_last, PageAsked(), (2, 2, None, "2")),
    "the last record, the end": ({"values": two, "more": False}, by_last, PageAsked(), (2, 1, None, None)),
    "the last record of none": ({"values": [], "more": True}, by_last, PageAsked(), (0, 1, None, None)),
    "one object": ({"id": 1}, {}, PageAsked(), (1, 1, 1, None)),
    "all at once": (two, {"items": "[]"}, PageAsked(), (2, 1, 2, None)),
    "all at once, inside": ({"a": {"b": two}}, {"items": "a.b"}, PageAsked(), (2, 1, 2, None)),
    "the body": (two, {"paging": "page"}, PageAsked(), (2, 2, None, "2")),
    "no list": ({"values": {}}, by_page, PageAsked(), "there is no list at values"),
    "nothing there": ({"items": two}, by_page, PageAsked(), "there is no list at values"),
    "an object for a list": ({"items": two}, {"paging": "page"}, PageAsked(), "the body is no list"),
    "a list for an object": (two, {}, PageAsked(), "the body is no JSON object"),
    "no total": ({"values": two}, by_offset, PageAsked(), "there is no number at total"),
    "a negative total": ({"values": two, "total": -1}, by_offset, PageAsked(), "there is no number at total"),
    "the same cursor": (
        {"values": two, "paging": {"next": {"after": "x"}}},
        by_cursor,
        PageAsked(2, "x"),
        "the next page's cursor is the one of this page",
    ),
    "an object for a cursor": (
        {"values": two, "paging": {"next": {"after": {}}}},
        by_cursor,
        PageAsked(),
        "the next page's cursor is neither a text nor a number",
    ),
    "a truth for a cursor": (
        {"values": two, "paging": {"next": {"after": True}}},
        by_cursor,
        PageAsked(),
        "the next page's cursor is neither a text nor a number",
    ),
    "too many": ({"values": [1] * 1001}, by_page, PageAsked(), "the page has more than 1000 elements"),
}


@pytest.mark.parametrize("case", pages)
def test_a_page_says_what_is_on_it_and_whether_there_is_another(case: str) -> None:
    body, form, asked, expected = pages[case]
    assert read(body, form, asked) == expected


@pytest.mark.parametrize("cursor", ["x" * (longest_cursor + 1), "a\x00b", "\ud800", "a\nb"], ids=repr)
def test_a_cursor_that_cannot_be_kept_is_none(cursor: str) -> None:
    assert "cursor has control characters" in str(
        read({"values": two, "paging": {"next": {"after": cursor}}}, by_cursor)
    )


def test_the_next_page_is_where_the_header_or_the_body_says() -> None:
    header = f'<{api}/things?page=2>; rel="next"'
    assert read(two, {"paging": "link"}, link=header) == (2, 2, None, "/things?page=2")
    assert read(two, {"paging": "link"}) == (2, 1, None, None)
    in_body = {"paging": "link", "items": "values", "cursor": "_links.next"}
    assert read({"values": two, "_links": {"next": "/v1/x?c=1"}}, in_body, link=header) == (2, 2, None, "/x?c=1")
    assert read({"values": two, "_links": {}}, in_body, link=header) == (2, 1, None, None)
    assert "leads out" in str(read({"values": two, "_links": {"next": 7}}, in_body))
    assert "is the one" in str(read(two, {"paging": "link"}, PageAsked(2, "/things?page=2"), link=header))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('<u>; rel="next"', "u"),
        ("<u>; rel=next", "u"),
        ('<a>; rel="prev", <u>; rel="next", <z>; rel="last"', "u"),
        ('<u>; title="a, b; c"; rel="Next"', "u"),
        ('<u>; rel="prefetch next"', "u"),
        ('<u>;rel="last";rel="next"', None),
        ('<u>; rel="nexts"', None),
        ('<u>; rel="next"; anchor="#x"', None),
        ("<u>", None),
        ("", None),
        ("<" * 5000, None),
        ("<u>" + "; a" * 5000, None),
    ],
)
def test_a_link_header_is_read_as_rfc_8288_says(header: str, expected: str | None) -> None:
    assert find_next(header) == expected


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("https://api.example/v1/x?page=2", "/x?page=2"),
        ("https://api.example:443/v1/x", "/x"),
        ("https://api.example:80/v1/x", None),
        ("https://API.example/v1/x", "/x"),
        ("/v1/x", "/x"),
        ("?page=2", "/things?page=2"),
        ("x#part", "/x"),
        ("//api.example/v1/x", "/x"),
        ("http://api.example/v1/x", None),
        ("https://api.example.evil.example/v1/x", None),
        ("https://api.example@evil.example/v1/x", None),
        ("https://u:p@api.example/v1/x", None),
        ("https://evil.example/v1/x", None),
        ("//evil.example/v1/x", None),
        ("https://api.example/v2/x", None),
        ("https://api.example/v10/x", None),
        ("https://api.example/v1", None),
        ("/v1/../admin", None),
        ("/v1/%2e%2e/admin", None),
        ("/v1/%252e%252e/admin", None),
        ("/v1/..;x/admin", None),
        ("/v1/x\\..\\admin", None),
        ("/v1/a b", None),
        ("/v1/a\n", None),
        ("https://[api.example/v1/x", None),
        ("https://api.example:port/v1/x", None),
        ("javascript:alert(1)", None),
    ],
)
def test_a_link_is_followed_below_the_api_only(link: str, expected: str | None) -> None:
    assert resolve(link, f"{api}/things", api) == expected


def test_an_api_at_the_root_of_its_host_has_everything_below_it() -> None:
    assert resolve("https://api.example/r/1?p=2", "https://api.example/x", "https://api.example") == "/r/1?p=2"
    assert resolve("https://api.example.evil/r", "https://api.example/x", "https://api.example") is None
