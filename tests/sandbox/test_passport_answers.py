"""The answers of Passport 12 and 13, case by case, as they were measured at real servers."""

import json
from typing import Any

import httpx
import pytest

from tests.sandbox.conftest import Application, read_query

Row = tuple[int, str | None, str | None]
CHECK = "Check the `{}` parameter"

TOKEN: dict[str, tuple[dict[str, Any], Row, Row]] = {
    "no secret": (
        {"client_secret": None, "refresh_token": "x"},
        (401, "invalid_client", None),
        (400, "invalid_request", CHECK.format("client_secret")),
    ),
    "no client id": (
        {"client_id": None, "refresh_token": "x"},
        (400, "invalid_request", CHECK.format("client_id")),
        (400, "invalid_request", CHECK.format("client_id")),
    ),
    "a secret that is a number": (
        {"client_secret": 5, "refresh_token": "x"},
        (400, "invalid_request", CHECK.format("client_secret")),
        (401, "invalid_client", None),
    ),
    "a client id that is a number": (
        {"client_id": 5, "refresh_token": "x"},
        (401, "invalid_client", None),
        (401, "invalid_client", None),
    ),
    "a refresh token that is a list": (
        {"refresh_token": ["x"]},
        (400, "invalid_request", CHECK.format("refresh_token")),
        (400, "invalid_request", CHECK.format("refresh_token")),
    ),
    "a refresh token that can't be read": (
        {"refresh_token": "x"},
        (401, "invalid_request", "Cannot decrypt the refresh token"),
        (400, "invalid_grant", "Cannot decrypt the refresh token"),
    ),
    "a code that can't be read": (
        {"grant_type": "authorization_code", "code": "x"},
        (400, "invalid_request", "Cannot decrypt the authorization code"),
        (400, "invalid_grant", "Cannot validate the provided authorization code"),
    ),
    "client credentials": (
        {"grant_type": "client_credentials"},
        (200, None, None),
        (400, "unauthorized_client", None),
    ),
}


@pytest.mark.parametrize("case", TOKEN)
def test_a_token_request_is_answered_as_measured(either: Application, case: str) -> None:
    fields, *rows = TOKEN[case]
    answer = either.ask(**{"grant_type": "refresh_token", "redirect_uri": either.redirect_uri} | fields)
    body = answer.json()
    passport = either.control.state()["settings"]["passport"]
    assert (answer.status_code, body.get("error"), body.get("hint")) == rows[passport - 12]
    if answer.status_code != 200:
        assert answer.headers["cache-control"] == "no-cache, private"


def test_a_code_and_a_refresh_token_are_told_apart(either: Application) -> None:
    for answer in (either.refresh(either.obtain_code()), either.exchange(either.connect()["refresh_token"])):
        body = answer.json()
        assert (answer.status_code, body["error"], body["hint"]) == (
            400,
            "invalid_request",
            "Authorization code malformed",
        )


@pytest.mark.parametrize("text", ['{"grant_type":', "nonsense", '"text"'])
def test_broken_json_is_a_bad_request_without_an_error(either: Application, text: str) -> None:
    answer = either.http.post("/oauth/token", content=text, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()) == (400, {"message": "Bad request."})


def test_a_token_answer_is_not_stored_and_names_its_charset(either: Application) -> None:
    answer = either.exchange(either.obtain_code())
    assert answer.headers["cache-control"] == "no-store, private"
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"


def test_the_token_endpoint_takes_posts_only(either: Application) -> None:
    answer = either.http.get("/oauth/token")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert "x-ratelimit-limit" not in answer.headers


def test_a_500_in_mid_rotation_says_what_is_left_and_maintenance_does_not(either: Application) -> None:
    token = either.connect()["refresh_token"]
    either.control.inject("token", "before", "status", status=503)
    assert "x-ratelimit-limit" not in either.refresh(token).headers
    either.control.inject("token", "middle", "status", status=500)
    answer = either.refresh(token)
    assert (answer.status_code, answer.headers["x-ratelimit-limit"]) == (500, "60")


def test_a_denial_has_a_message_on_the_older_generation_only(either: Application) -> None:
    denied = read_query(either.control.authorize(either.authorize_url(), allow=False))
    older = either.control.state()["settings"]["passport"] == 12
    assert set(denied) == {"error", "error_description", "hint", "state"} | ({"message"} if older else set())


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_id": "unknown"}, 401, "invalid_client"),
        ({"redirect_uri": "https://elsewhere.example/"}, 401, "invalid_client"),
        ({"response_type": "token"}, 400, "unsupported_grant_type"),
        ({"client_id": ""}, 400, "unsupported_grant_type"),
        ({"code_challenge": "short", "code_challenge_method": "S256"}, 400, "invalid_request"),
    ],
)
def test_authorize_errors_are_json(either: Application, changes: dict[str, str], status: int, error: str) -> None:
    answer = httpx.get(either.authorize_url(**changes), headers={"Accept": "text/html"}, trust_env=False)
    assert (answer.status_code, answer.json()["error"]) == (status, error)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/api/me", 200), ("GET", "/api/nothing", 404), ("GET", "/api/documents/9", 404), ("POST", "/api/me", 405)],
)
def test_api_answers_say_what_is_left_except_404_and_405(app: Application, method: str, path: str, status: int) -> None:
    token = app.control.personal_token(1)
    answer = app.http.request(method, path, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == status
    assert ("x-ratelimit-limit" in answer.headers) == (status == 200)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"] == "no-cache, private"
    assert answer.headers.get("allow") == ("GET, HEAD" if status == 405 else None)
    assert answer.text.startswith("{\n    ") == (status != 200)


def test_without_json_asked_for_a_dead_token_is_sent_to_an_absolute_login(app: Application) -> None:
    answer = app.get("/api/me", "dead", Accept="text/html")
    assert (answer.status_code, answer.headers["location"]) == (302, f"{app.provider.url}/login")


def test_a_page_has_laravels_order_and_escaped_slashes(app: Application) -> None:
    token = app.control.personal_token(1)
    flat, collection = (app.get(path, token) for path in ("/api/documents", "/api/invoices"))
    fields = "current_page data first_page_url from last_page last_page_url links next_page_url path per_page"
    assert list(flat.json()) == [*fields.split(), "prev_page_url", "to", "total"]
    assert list(collection.json()["meta"]) == [
        "current_page",
        "from",
        "last_page",
        "links",
        "path",
        "per_page",
        "to",
        "total",
    ]
    assert r"http:\/\/" in flat.text
    assert "://" not in flat.text


def test_beyond_the_end_the_previous_page_is_the_page_before(app: Application) -> None:
    page = app.get("/api/documents?page=7", app.control.personal_token(1)).json()
    assert page["prev_page_url"].endswith("?page=6")
    assert page["next_page_url"] is None
    assert json.dumps(page["data"]) == "[]"


def test_a_client_token_reads_nothing(app: Application) -> None:
    token = app.ask(grant_type="client_credentials").json()
    assert set(token) == {"token_type", "expires_in", "access_token"}
    assert app.get("/api/me", token["access_token"]).status_code == 401
