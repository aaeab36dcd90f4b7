"""What each answer of a token endpoint proves: the provider's behaviour as one table."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from models.http import HttpAnswer, NoAnswer, read_retry_after
from models.oauth.token_response import (
    ClientRefused,
    GrantRefused,
    NotNow,
    OutcomeUnknown,
    RequestRefused,
    ScopeRefused,
    TokensGranted,
    read_token_answer,
)

now = datetime(2026, 11, 24, 12, tzinfo=UTC)


def answer(status: int, body: object = None, complete: bool = True, **headers: str) -> HttpAnswer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpAnswer(status, named, raw, complete)


def refused(error: str, hint: str = "") -> dict[str, str]:
    return {"error": error, "hint": hint, "message": "…"}


refresh_table: dict[str, tuple[HttpAnswer | NoAnswer, type]] = {
    "revoked by the user, Passport 12": (
        answer(401, refused("invalid_request", "Token has been revoked")),
        GrantRefused,
    ),
    "revoked by the user, Passport 13": (answer(400, refused("invalid_grant", "Token has been revoked")), GrantRefused),
    "expired, Passport 12": (answer(401, refused("invalid_request", "Token has expired")), GrantRefused),
    "of another client, Passport 13": (
        answer(400, refused("invalid_grant", "Token is not linked to client")),
        GrantRefused,
    ),
    "unreadable, Passport 12": (
        answer(401, refused("invalid_request", "Cannot decrypt the refresh token")),
        GrantRefused,
    ),
    "no hint at all": (answer(400, {"error": "invalid_grant"}), GrantRefused),
    "our request malformed": (
        answer(400, refused("invalid_request", "Check the `refresh_token` parameter")),
        RequestRefused,
    ),
    "wrong secret": (answer(401, refused("invalid_client")), ClientRefused),
    "client may not refresh": (answer(400, refused("unauthorized_client")), ClientRefused),
    "no token endpoint there": (answer(404, b"<html>"), ClientRefused),
    "endpoint takes no POST": (answer(405, {"message": "Method Not Allowed"}), ClientRefused),
    "scope wider than granted": (answer(400, refused("invalid_scope")), ScopeRefused),
    "throttled": (answer(429, {"message": "Too Many Attempts."}, retry_after="7"), NotNow),
    "maintenance": (answer(503, b"<html>Be right back</html>"), NotNow),
    "maintenance as a redirect": (answer(302, b"", location="/maintenance"), OutcomeUnknown),
    "server error": (answer(500, {"message": "Server Error"}), OutcomeUnknown),
    "gateway timeout": (answer(504, b"<html>"), OutcomeUnknown),
    "a 401 that names no error": (answer(401, {"message": "Unauthenticated."}), OutcomeUnknown),
    "a 403 from a firewall": (answer(403, b"<html>Blocked</html>"), OutcomeUnknown),
    "a 400 of HTML": (answer(400, b"<html>"), OutcomeUnknown),
    "cut in the middle": (answer(200, b'{"access_token": "a', complete=False), OutcomeUnknown),
    "cut behind a whole pair": (answer(200, {"access_token": "a"}, complete=False), TokensGranted),
    "a refusal cut in the middle": (answer(400, b'{"error": "invalid_gr', complete=False), OutcomeUnknown),
    "200 with an error in it": (answer(200, {"error": "invalid_grant"}), OutcomeUnknown),
    "a 401 without a body": (answer(401, b""), OutcomeUnknown),
    "a dead grant inside a server error": (answer(500, refused("invalid_grant")), OutcomeUnknown),
    "a dead grant inside a 403": (answer(403, refused("invalid_grant")), OutcomeUnknown),
    "an error nobody has heard of": (answer(400, refused("no_such_thing")), RequestRefused),
    "not just now, said as a 400": (answer(400, refused("temporarily_unavailable")), NotNow),
    "too fast, said as a 400": (answer(400, refused("slow_down")), NotNow),
    "a server error said as a 400": (answer(400, refused("server_error")), OutcomeUnknown),
    "200 without a token": (answer(200, {"ok": True}), OutcomeUnknown),
    "200 of HTML": (answer(200, b"<html>Login</html>"), OutcomeUnknown),
    "200 of a list": (answer(200, [1]), OutcomeUnknown),
    "200 with another token type": (answer(200, {"access_token": "a", "token_type": "mac"}), OutcomeUnknown),
    "deeply nested": (answer(200, b"[" * 100_000), OutcomeUnknown),
    "never sent": (NoAnswer(False, "ConnectError"), NotNow),
    "sent, no answer": (NoAnswer(True, "ReadTimeout"), OutcomeUnknown),
    "a pair": (answer(200, {"access_token": "a", "refresh_token": "r", "expires_in": 60}), TokensGranted),
}


@pytest.mark.parametrize("case", refresh_table)
def test_a_refresh_answer_means_what_the_table_says(case: str) -> None:
    given, expected = refresh_table[case]
    assert type(read_token_answer("refresh_token", given, now)) is expected


code_table: dict[str, tuple[HttpAnswer | NoAnswer, type]] = {
    "used twice, Passport 12": (
        answer(400, refused("invalid_request", "Authorization code has been revoked")),
        GrantRefused,
    ),
    "used twice, Passport 13": (
        answer(400, refused("invalid_grant", "Authorization code has been revoked")),
        GrantRefused,
    ),
    "wrong redirect URI as a client error": (answer(401, refused("invalid_client")), ClientRefused),
    "lost": (NoAnswer(True, "ReadTimeout"), OutcomeUnknown),
}


@pytest.mark.parametrize("case", code_table)
def test_an_exchange_answer_means_what_the_table_says(case: str) -> None:
    given, expected = code_table[case]
    assert type(read_token_answer("authorization_code", given, now)) is expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (31_536_000, timedelta(days=365)),
        ("3600", timedelta(hours=1)),
        (59.5, timedelta(seconds=59.5)),
        (0, None),
        (-5, None),
        (None, None),
        (True, None),
        ("soon", None),
        ([], None),
        (float("inf"), timedelta(seconds=3.2e9)),
        (float("nan"), None),
    ],
)
def test_expires_in_is_read_generously_and_nonsense_counts_as_absent(given: object, expected: timedelta | None) -> None:
    outcome = read_token_answer("refresh_token", answer(200, {"access_token": "a", "expires_in": given}), now)
    assert isinstance(outcome, TokensGranted)
    assert outcome.expires_in == expected


def test_no_refresh_token_in_the_answer_means_that_the_old_one_stays() -> None:
    outcome = read_token_answer("refresh_token", answer(200, {"access_token": "a", "token_type": "bearer"}), now)
    assert isinstance(outcome, TokensGranted)
    assert outcome.refresh_token is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", timedelta(seconds=7)),
        ("Tue, 24 Nov 2026 12:00:30 GMT", timedelta(seconds=30)),
        ("Tue, 24 Nov 2026 11:00:00 GMT", timedelta(0)),
        ("99999999", timedelta(days=1)),
        ("soon", None),
        ("", None),
        ("-3", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str, expected: timedelta | None) -> None:
    outcome = read_token_answer("refresh_token", answer(429, {}, retry_after=value), now)
    assert isinstance(outcome, NotNow)
    assert outcome.retry_after == expected


def test_an_expired_token_is_told_apart_by_its_hint_for_people() -> None:
    given = answer(401, refused("invalid_request", "Token has expired"))
    outcome = read_token_answer("refresh_token", given, now)
    assert isinstance(outcome, GrantRefused)
    assert outcome.expired


def test_a_scope_that_no_database_holds_is_cleaned() -> None:
    body = {"access_token": "a", "refresh_token": "r", "scope": "read\x00 write\ud800", "token_type": "Bearer"}
    outcome = read_token_answer("refresh_token", answer(200, body), now)
    assert isinstance(outcome, TokensGranted)
    assert outcome.scope == "read write?"


@pytest.mark.parametrize("token", ["a\nb", "t\u00f6ken", "a\x00", "a\x7f", "\ud800"])
@pytest.mark.parametrize("name", ["access_token", "refresh_token"])
def test_a_token_that_no_header_holds_is_no_answer(name: str, token: str) -> None:
    body = {"access_token": "a", "refresh_token": "r", name: token}
    assert isinstance(read_token_answer("refresh_token", answer(200, body), now), OutcomeUnknown)


def test_no_secret_that_was_sent_stands_in_the_evidence() -> None:
    secret = "abc+def/ghi="
    said = f"{secret} is bad, and so is abc%2Bdef%2Fghi%3D; " + "x" * 280 + secret
    outcome = read_token_answer("refresh_token", answer(400, refused("invalid_grant", said)), now, [secret])
    assert isinstance(outcome, GrantRefused)
    assert outcome.evidence.hint.startswith("[secret] is bad, and so is [secret]; x")
    assert "abc" not in outcome.evidence.hint


@pytest.mark.parametrize(
    "value",
    [
        "Mon, 01 Jan 99999999999 00:00:00 GMT",
        "Mon, 01 Jan 2026 00:00:00 +999999999999999",
        "Mon, 99 Foo 2026",
        "0001-01-01",
        ",,,,",
        "\x00",
    ],
)
def test_a_time_that_no_clock_knows_is_no_time(value: str) -> None:
    assert read_retry_after({"retry-after": value}, now) is None


def test_a_secret_that_comes_back_in_lines_is_not_put_together_again() -> None:
    secret = "abcdefghijkl"
    outcome = read_token_answer(
        "refresh_token", answer(400, refused("invalid_grant", "abcdef\r\nghijkl")), now, [secret]
    )
    assert isinstance(outcome, GrantRefused)
    assert outcome.evidence.hint == "[secret]"


def test_a_secret_that_reads_like_an_error_changes_no_meaning() -> None:
    outcome = read_token_answer("refresh_token", answer(400, refused("invalid_grant", "")), now, ["invalid_grant"])
    assert isinstance(outcome, GrantRefused)


def test_a_secret_that_comes_back_as_an_error_is_hidden() -> None:
    outcome = read_token_answer("refresh_token", answer(400, refused("my-secret", "")), now, ["my-secret"])
    assert isinstance(outcome, RequestRefused)
    assert outcome.evidence.error == "[secret]"
