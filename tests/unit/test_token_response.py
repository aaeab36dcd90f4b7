"""What each answer of a token endpoint proves: the provider's behaviour as one table."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from models.http import HttpAnswer, NoAnswer, read_retry_after
from models.oauth.token_response import (
    ClientRefused,
    Evidence,
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
    "a 401 without a body": (answer(401, b""), OutcomeUnknown),
    "a dead grant inside a server error": (answer(500, refused("invalid_grant")), OutcomeUnknown),
    "an error no one has heard of": (answer(400, refused("no_such_thing")), RequestRefused),
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


# Whatever the status, shape and encoding of the body: what each of these refuses at a refresh.
refusals: dict[str, tuple[HttpAnswer, type]] = {
    "a dead grant with 200": (answer(200, {"error": "invalid_grant"}), GrantRefused),
    "a dead grant with 201": (answer(201, {"error": "invalid_grant"}), GrantRefused),
    "a dead grant with 403": (answer(403, refused("invalid_grant")), GrantRefused),
    "a dead grant with 404": (answer(404, refused("invalid_grant")), GrantRefused),
    "a dead grant with 422": (answer(422, refused("invalid_grant")), GrantRefused),
    "a dead grant with 429": (answer(429, refused("invalid_grant")), NotNow),
    "a dead grant with 503": (answer(503, refused("invalid_grant")), NotNow),
    "a dead grant with 302": (answer(302, refused("invalid_grant")), OutcomeUnknown),
    "a malformed request with 200": (answer(200, refused("invalid_request")), RequestRefused),
    "a malformed request with 422": (answer(422, refused("invalid_request")), RequestRefused),
    "too wide a scope with 403": (answer(403, refused("invalid_scope")), ScopeRefused),
    "too wide a scope with 200": (answer(200, refused("invalid_scope")), ScopeRefused),
    "a wrong secret with 200": (answer(200, refused("invalid_client")), ClientRefused),
    "a wrong secret with 422": (answer(422, refused("invalid_client")), ClientRefused),
    "not just now, with 200": (answer(200, refused("temporarily_unavailable")), NotNow),
    "too fast, with 420": (answer(420, refused("slow_down")), NotNow),
    "a server error with 200": (answer(200, refused("server_error")), OutcomeUnknown),
    "an unknown error with 200": (answer(200, refused("no_such_thing")), RequestRefused),
    "an unknown error with 422": (answer(422, refused("no_such_thing")), RequestRefused),
    "an unknown error with 401": (answer(401, {"error": "Unauthorized", "statusCode": 401}), OutcomeUnknown),
    "an unknown error with 403": (answer(403, {"error": "Forbidden", "status": 403}), OutcomeUnknown),
    "an unknown error with 404": (answer(404, {"error": "Not Found"}), ClientRefused),
    "no error with 422": (answer(422, {"message": "invalid", "errors": {"scope": ["too long"]}}), OutcomeUnknown),
    "a proxy's 407": (answer(407, b"<html>"), NotNow),
    "a byte that is not UTF-8": (
        answer(400, b'{"error": "invalid_grant", "error_description": "caf\xe9"}'),
        GrantRefused,
    ),
    "a byte that is not UTF-8 with 401": (answer(401, b'{"error": "invalid_client", "hint": "\xff"}'), ClientRefused),
    "a byte order mark": (answer(400, b'\xef\xbb\xbf{"error": "invalid_grant"}'), GrantRefused),
    "a line break in a text": (answer(400, b'{"error": "invalid_grant", "hint": "a\nb"}'), GrantRefused),
    "something after the object": (answer(400, b'{"error": "invalid_grant"}<!-- 12 ms -->'), GrantRefused),
    "an object as error": (
        answer(400, {"error": {"code": "invalid_grant", "message": "The token is dead"}}),
        GrantRefused,
    ),
    "an object with a number as code": (
        answer(400, {"error": {"code": 400, "type": "invalid_client", "message": "No"}}),
        ClientRefused,
    ),
    "an object with an error no one knows": (answer(400, {"error": {"code": "no_such_thing"}}), RequestRefused),
    "a list of errors": (
        answer(400, {"errors": [{"errorType": "invalid_grant", "message": "No"}], "success": False}),
        GrantRefused,
    ),
    "a list of texts": (answer(400, {"error": ["invalid_grant"]}), GrantRefused),
    "capitals": (answer(400, {"error": "INVALID_GRANT"}), GrantRefused),
    "hyphens": (answer(400, {"error": "invalid-grant"}), GrantRefused),
    "an error that is no text": (answer(400, {"error": True}), OutcomeUnknown),
    "GitHub's dead token": (answer(200, {"error": "bad_refresh_token"}), GrantRefused),
    "GitHub's wrong secret": (answer(200, {"error": "incorrect_client_credentials"}), ClientRefused),
    "GitHub's dead code": (answer(200, {"error": "bad_verification_code"}), GrantRefused),
    "HubSpot's dead token": (answer(400, {"status": "BAD_REFRESH_TOKEN", "message": "unknown"}), GrantRefused),
    "Slack's dead token": (answer(200, {"ok": False, "error": "invalid_refresh_token"}), GrantRefused),
}


@pytest.mark.parametrize("case", refusals)
def test_a_refusal_is_read_by_its_error_whatever_carries_it(case: str) -> None:
    given, expected = refusals[case]
    assert type(read_token_answer("refresh_token", given, now)) is expected


def test_a_profile_s_own_aliases_say_what_an_error_means() -> None:
    given = answer(400, {"error": "grant_gone", "error_description": "Gone since May"})
    outcome = read_token_answer("refresh_token", given, now, aliases={"grant_gone": "invalid_grant"})
    assert outcome == GrantRefused(Evidence(400, "grant_gone", "", "Gone since May"), expired=False)
    without = read_token_answer("refresh_token", answer(200, {"error": "bad_refresh_token"}), now, aliases={})
    assert isinstance(without, RequestRefused)


def test_what_an_error_s_object_says_is_kept_for_people() -> None:
    given = answer(400, {"error": {"code": "invalid_grant", "message": "It is dead", "hint": "Token has expired"}})
    outcome = read_token_answer("refresh_token", given, now)
    assert outcome == GrantRefused(Evidence(400, "invalid_grant", "Token has expired", "It is dead"), expired=True)


pair = {"access_token": "a", "refresh_token": "r", "token_type": "Bearer", "expires_in": 60}
grants: dict[str, HttpAnswer] = {
    "200": answer(200, pair),
    "201": answer(201, pair),
    "202": answer(202, pair),
    "206": answer(206, pair),
    "token_type null": answer(200, pair | {"token_type": None}),
    "token_type empty": answer(200, pair | {"token_type": ""}),
    "token_type with a blank": answer(200, pair | {"token_type": "bearer "}),
    "token_type in capitals": answer(200, pair | {"token_type": "BEARER"}),
    "token_type that is no scheme": answer(200, pair | {"token_type": "access_token"}),
    "token_type as a list": answer(200, pair | {"token_type": ["Bearer"]}),
    "token_type as a number": answer(200, pair | {"token_type": 1}),
    "no token_type": answer(200, {"access_token": "a", "refresh_token": "r"}),
    "tokens with a line break at their end": answer(200, {"access_token": "a\n", "refresh_token": " r"}),
    "an error that is null": answer(200, pair | {"error": None}),
    "an error beside the pair": answer(200, pair | {"error": "server_error"}),
    "wrapped in data": answer(200, {"data": pair}),
    "a byte that is not UTF-8": answer(200, b'{"access_token": "a", "refresh_token": "r", "user": "Ren\xe9"}'),
    "something after the object": answer(200, json.dumps(pair).encode() + b"\n<!-- 12 ms -->"),
    "a form by its type": answer(
        200, b"access_token=a&refresh_token=r", content_type="application/x-www-form-urlencoded; charset=utf-8"
    ),
    "a form without a type": answer(200, b"access_token=a&refresh_token=r&scope=&token_type=bearer"),
    "a form that says to be JSON": answer(200, b"access_token=a&refresh_token=r", content_type="application/json"),
    "a form that says to be HTML": answer(200, b"access_token=a&refresh_token=r\n", content_type="text/html"),
    "a form with 201": answer(201, b"refresh_token=r&access_token=a"),
}


@pytest.mark.parametrize("case", grants)
def test_a_pair_is_a_pair_however_it_comes(case: str) -> None:
    outcome = read_token_answer("refresh_token", grants[case], now)
    assert isinstance(outcome, TokensGranted)
    assert outcome.refresh_token is not None
    assert (outcome.access_token.reveal(), outcome.refresh_token.reveal()) == ("a", "r")


no_grants: dict[str, HttpAnswer] = {
    "another scheme": answer(200, pair | {"token_type": "MAC"}),
    "a token bound to a key": answer(200, pair | {"token_type": "DPoP "}),
    "no access token": answer(200, {"refresh_token": "r"}),
    "an empty access token": answer(200, pair | {"access_token": ""}),
    "an access token that is no text": answer(200, pair | {"access_token": 7}),
    "204": answer(204, b""),
    "a redirect with a pair": answer(302, pair),
    "a server error with a pair": answer(500, pair),
    "a form that was cut off": answer(200, b"access_token=a&refresh_tok", complete=False),
    "HTML with a form's words in it": answer(200, b"<a href='/?access_token=a&refresh_token=r'>"),
    "a text": answer(200, b"access_token = a"),
}


@pytest.mark.parametrize("case", no_grants)
def test_what_may_be_no_pair_leaves_the_outcome_open(case: str) -> None:
    assert isinstance(read_token_answer("refresh_token", no_grants[case], now), OutcomeUnknown)


form_errors: dict[str, tuple[HttpAnswer, type]] = {
    "GitHub's dead token": (
        answer(
            200,
            b"error=bad_refresh_token&error_description=The+refresh+token+passed+is+incorrect+or+expired.",
            content_type="application/x-www-form-urlencoded; charset=utf-8",
        ),
        GrantRefused,
    ),
    "a wrong secret": (answer(401, b"error=invalid_client"), ClientRefused),
    "with blanks, by its type": (
        answer(
            400, b"error=invalid_scope&error_description=too wide", content_type="application/x-www-form-urlencoded"
        ),
        ScopeRefused,
    ),
}


@pytest.mark.parametrize("case", form_errors)
def test_an_error_in_a_form_is_one(case: str) -> None:
    given, expected = form_errors[case]
    assert type(read_token_answer("refresh_token", given, now)) is expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("read write", "read write"),
        (["read", "write"], "read write"),
        (["read", 7, None, "write"], "read write"),
        ([], ""),
        ("", ""),
        (None, None),
        ({"read": True}, None),
    ],
)
def test_a_scope_is_a_text_or_a_list(given: object, expected: str | None) -> None:
    outcome = read_token_answer("refresh_token", answer(200, pair | {"scope": given}), now)
    assert isinstance(outcome, TokensGranted)
    assert outcome.scope == expected


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
        ("7.5", timedelta(seconds=7.5)),
        ("99999999", timedelta(days=1)),
        ("1795521630", timedelta(seconds=30)),
        ("1795521630000", timedelta(seconds=30)),
        ("1795521630.5", timedelta(seconds=30.5)),
        ("1795521000", timedelta(0)),
        ("1795770000", None),
        ("9" * 40, None),
        ("soon", None),
        ("", None),
        ("-3", None),
    ],
)
def test_retry_after_is_seconds_a_date_or_a_unix_time(value: str, expected: timedelta | None) -> None:
    outcome = read_token_answer("refresh_token", answer(429, {}, retry_after=value), now)
    assert isinstance(outcome, NotNow)
    assert outcome.retry_after == expected


standard = (
    "The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh token is "
    "invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to "
    "another client."
)
deaths: dict[str, tuple[dict[str, str], bool]] = {
    "expired, Passport 12": (refused("invalid_request", "Token has expired"), True),
    "a code expired, Passport 13": (
        {"error": "invalid_grant", "error_description": standard, "hint": "Authorization code has expired"},
        True,
    ),
    "a code used twice, Passport 13": (
        {"error": "invalid_grant", "error_description": standard, "hint": "Authorization code has been revoked"},
        False,
    ),
    "Doorkeeper, without a hint": ({"error": "invalid_grant", "error_description": standard}, False),
    "GitHub's sentence": (
        {"error": "bad_refresh_token", "error_description": "The refresh token is incorrect or expired."},
        False,
    ),
    "the standard sentence as a hint": ({"error": "invalid_grant", "hint": standard}, False),
    "the standard sentence as a message": ({"error": "invalid_grant", "message": standard}, False),
}


@pytest.mark.parametrize("case", deaths)
def test_only_a_hint_says_that_a_grant_has_expired(case: str) -> None:
    body, expired = deaths[case]
    outcome = read_token_answer("refresh_token", answer(401, body), now)
    assert isinstance(outcome, GrantRefused)
    assert outcome.expired is expired


client_hints: dict[str, tuple[dict[str, str], type]] = {
    "league, without the header": (refused("invalid_request", "Check the `client_id` parameter"), ClientRefused),
    "league, without a secret": (refused("invalid_request", "Check the `client_secret` parameter"), ClientRefused),
    "oauthlib": ({"error": "invalid_request", "error_description": "Missing client_id parameter."}, ClientRefused),
    "a description": (
        {"error": "invalid_request", "error_description": "Missing parameter: client_secret"},
        ClientRefused,
    ),
    "another description": ({"error": "invalid_request", "error_description": "client_id is required"}, ClientRefused),
    "the refresh token": (refused("invalid_request", "Check the `refresh_token` parameter"), RequestRefused),
    "the redirect URI": (refused("invalid_request", "Check the `redirect_uri` parameter"), RequestRefused),
    "another client": (refused("invalid_request", "Token is not linked to client"), RequestRefused),
    "an echo": (refused("invalid_request", 'bad: {"client_id": "us", "client_secret": "x"}'), RequestRefused),
}


@pytest.mark.parametrize("case", client_hints)
@pytest.mark.parametrize("status", [400, 422, 200])
def test_a_request_that_lost_its_client_is_no_user_s_fault(case: str, status: int) -> None:
    body, expected = client_hints[case]
    assert type(read_token_answer("refresh_token", answer(status, body), now)) is expected


def test_a_code_that_was_sent_without_a_client_is_not_dead() -> None:
    given = answer(400, refused("invalid_request", "Check the `client_secret` parameter"))
    assert isinstance(read_token_answer("authorization_code", given, now), ClientRefused)


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
