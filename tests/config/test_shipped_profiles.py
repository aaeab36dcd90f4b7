"""The profiles that are shipped, against answers as their providers document them."""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from config.profiles import profile_directories, read_profile
from models.account import Account, read_account
from models.api_response import Location, Page, read_api_answer
from models.http import HttpAnswer
from models.paging.page_format import PageAsked
from models.provider import Provider
from models.sync.page import parse_page

now = datetime(2026, 11, 24, 12, tzinfo=UTC)


def shipped(name: str) -> Provider:
    return read_profile(name, {}, profile_directories()[1:])


def read(provider: Provider, name: str, body: Any, url: str = "", **headers: str) -> Page:
    resource = provider.resource(name)
    assert resource is not None
    answer = HttpAnswer(200, headers, json.dumps(body).encode())
    location = Location(url, provider.api_url_of(resource))
    page = read_api_answer(answer, resource, PageAsked(), now, location)
    assert isinstance(page, Page), page
    return page


lists: dict[str, tuple[str, str, Any, dict[str, str], tuple[str, ...], str | None]] = {
    "repositories of GitHub": (
        "github",
        "repository",
        [{"id": 1296269, "full_name": "octocat/Hello-World", "private": False}],
        {
            "link": '<https://api.github.com/user/repos?per_page=100&page=2>; rel="next", '
            '<https://api.github.com/user/repos?per_page=100&page=5>; rel="last"'
        },
        ("1296269",),
        "/user/repos?per_page=100&page=2",
    ),
    "the last issues of GitHub": (
        "github",
        "issue",
        [{"id": 1, "number": 1347, "repository": {"full_name": "octocat/Hello-World"}}],
        {"link": '<https://api.github.com/issues?page=1>; rel="first"'},
        ("1",),
        None,
    ),
    "events of Google": (
        "google_calendar",
        "event",
        {
            "kind": "calendar#events",
            "items": [{"id": "e1", "etag": '"1"', "start": {"date": "2026-11-24"}}, {"id": "e2"}],
            "nextPageToken": "CiAKGjBpNDd2Nmp2Zml2cXRwYjBpOXA=",
        },
        {},
        ("e1", "e2"),
        "CiAKGjBpNDd2Nmp2Zml2cXRwYjBpOXA=",
    ),
    "the last calendars of Google": (
        "google_calendar",
        "calendar",
        {"kind": "calendar#calendarList", "items": [{"id": "ada@example.com"}], "nextSyncToken": "CPDAlvWDx70CEPD="},
        {},
        ("ada@example.com",),
        None,
    ),
    "bases of Airtable": (
        "airtable",
        "base",
        {
            "bases": [{"id": "appLkNDICXNqxSDhG", "name": "Apartment Hunting", "permissionLevel": "create"}],
            "offset": "itr23sEjsdfEr3282/appSW9R5uCNmRmfl6",
        },
        {},
        ("appLkNDICXNqxSDhG",),
        "itr23sEjsdfEr3282/appSW9R5uCNmRmfl6",
    ),
}


@pytest.mark.parametrize("case", lists)
def test_a_documented_list_is_understood(case: str) -> None:
    name, resource_name, body, headers, ids, cursor = lists[case]
    provider = shipped(name)
    page = read(provider, resource_name, body, provider.api_url, **headers)
    resource = provider.resource(resource_name)
    assert resource is not None
    answer = parse_page(page, resource, provider)
    assert (answer.seen.ids, answer.seen.nameless, answer.cursor) == (ids, 0, cursor)


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("github", {"login": "octocat", "id": 1, "email": None}, Account("1", None)),
        (
            "google_calendar",
            {"sub": "110169484474386276334", "email": "a@b.c"},
            Account("110169484474386276334", "a@b.c"),
        ),
        ("airtable", {"id": "usr1", "scopes": [], "email": "a@b.c"}, Account("usr1", "a@b.c")),
    ],
)
def test_a_documented_account_is_understood(name: str, body: Any, expected: Account) -> None:
    provider = shipped(name)
    assert read_account(provider, read(provider, "account", body)) == expected


def test_google_is_asked_for_offline_access_and_keeps_its_refresh_tokens() -> None:
    google = shipped("google_calendar")
    query = parse_qs(urlsplit(google.authorize_url_for("id", "https://a/b", "s", "c")).query)
    assert (query["access_type"], query["prompt"], query["state"]) == (["offline"], ["consent"], ["s"])
    assert (google.refresh_reuse, google.rotation_ends_access) == ("harmless", False)
    assert google.api_url_of(google.account_resource) == "https://openidconnect.googleapis.com"
