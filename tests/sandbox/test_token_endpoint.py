"""What the token endpoint answers to each case, on both Passport generations."""

import base64
import hashlib
import re
from typing import Any

import httpx
import pytest

from tests.sandbox.conftest import Application

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


def summary(answer: httpx.Response) -> tuple[int, Any, Any]:
    body = answer.json()
    return answer.status_code, body.get("error"), body.get("hint")


def generation(app: Application) -> int:
    return int(app.control.state()["settings"]["passport"])


def dead_refresh(app: Application, hint: str) -> tuple[int, str, str]:
    return (401, "invalid_request", hint) if generation(app) == 12 else (400, "invalid_grant", hint)


def dead_code(app: Application, hint: str) -> tuple[int, str, str]:
    return 400, "invalid_request" if generation(app) == 12 else "invalid_grant", hint


def test_a_code_is_exchanged_for_a_bearer_pair_without_scope(either: Application) -> None:
    answer = either.exchange(either.obtain_code())

    tokens = answer.json()
    assert answer.status_code == 200
    assert set(tokens) == {"token_type", "expires_in", "access_token", "refresh_token"}
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] in (31_535_999, 31_536_000)
    assert re.fullmatch(r"def50200[0-9a-f]{692}", tokens["refresh_token"])
    assert 900 < len(tokens["access_token"]) < 1100
    assert tokens["access_token"].count(".") == 2


def test_form_body_and_basic_authentication_work_too(either: Application) -> None:
    fields = {
        "grant_type": "authorization_code",
        "code": either.obtain_code(),
        "redirect_uri": either.redirect_uri,
    }
    basic = (either.credentials["client_id"], either.credentials["client_secret"])
    answer = either.http.post("/oauth/token", data=fields, auth=basic)
    assert answer.status_code == 200


def test_a_rotated_refresh_token_is_refused(either: Application) -> None:
    token = either.connect()["refresh_token"]
    either.refresh(token)
    assert summary(either.refresh(token)) == dead_refresh(either, "Token has been revoked")


def test_a_refresh_token_the_user_revoked_is_refused(either: Application) -> None:
    token = either.connect()["refresh_token"]
    either.control.revoke_user(1)
    assert summary(either.refresh(token)) == dead_refresh(either, "Token has been revoked")


def test_revoked_rotated_and_lost_look_the_same_byte_for_byte(either: Application) -> None:
    revoked, rotated, lost = (either.connect(user_id)["refresh_token"] for user_id in (1, 2, 3))
    either.control.revoke_user(1)
    either.refresh(rotated)
    either.control.inject("token", "middle", "status")
    either.refresh(lost)
    assert len({either.refresh(token).content for token in (revoked, rotated, lost)}) == 1


def test_an_expired_refresh_token_is_refused(either: Application) -> None:
    token = either.connect()["refresh_token"]
    either.control.advance(31_536_001)
    assert summary(either.refresh(token)) == dead_refresh(either, "Token has expired")


def test_a_refresh_token_of_another_client_is_refused(either: Application) -> None:
    token = either.connect()["refresh_token"]
    either.control.add_client("second", "secret")
    answer = either.refresh(token, client_id="second", client_secret="secret")
    assert summary(answer) == dead_refresh(either, "Token is not linked to client")


def test_an_unreadable_refresh_token_is_refused(either: Application) -> None:
    assert summary(either.refresh("garbage")) == dead_refresh(either, "Cannot decrypt the refresh token")


@pytest.mark.parametrize("token", [None, "", "  "], ids=["missing", "empty", "blank"])
def test_a_refresh_without_its_token_is_malformed(either: Application, token: str | None) -> None:
    expected = (400, "invalid_request", "Check the `refresh_token` parameter")
    assert summary(either.refresh(token)) == expected


def test_a_code_works_once(either: Application) -> None:
    code = either.obtain_code()
    either.exchange(code)
    assert summary(either.exchange(code)) == dead_code(either, "Authorization code has been revoked")


def test_a_code_lives_ten_minutes(either: Application) -> None:
    young, old = either.obtain_code(), either.obtain_code()
    either.control.advance(599)
    assert either.exchange(young).status_code == 200
    either.control.advance(2)
    assert summary(either.exchange(old)) == dead_code(either, "Authorization code has expired")


def test_an_unreadable_code_is_refused(either: Application) -> None:
    hints = {12: "Cannot decrypt the authorization code", 13: "Cannot validate the provided authorization code"}
    assert summary(either.exchange("garbage")) == dead_code(either, hints[generation(either)])


@pytest.mark.parametrize(
    "changes",
    [{"client_secret": "wrong"}, {"client_secret": None}, {"client_id": "unknown"}],
    ids=["wrong secret", "no secret", "unknown client"],
)
def test_a_client_that_fails_to_authenticate_burns_nothing(either: Application, changes: dict[str, Any]) -> None:
    code, token = either.obtain_code(), either.connect()["refresh_token"]

    refused: tuple[int, str, str | None] = (401, "invalid_client", None)
    if "client_secret" in changes and changes["client_secret"] is None and generation(either) == 13:
        refused = (400, "invalid_request", "Check the `client_secret` parameter")
    assert summary(either.refresh(token, **changes)) == refused
    assert summary(either.exchange(code, **changes)) == refused

    assert either.refresh(token).status_code == 200
    assert either.exchange(code).status_code == 200


def test_a_deleted_client_is_rejected_and_its_tokens_are_dead(either: Application) -> None:
    tokens = either.connect()
    either.control.delete_client("sandbox-client")
    assert summary(either.refresh(tokens["refresh_token"])) == (401, "invalid_client", None)
    assert either.get("/api/me", tokens["access_token"]).status_code == 401


def test_a_failed_basic_authentication_is_challenged(either: Application) -> None:
    answer = either.http.post("/oauth/token", data={"grant_type": "refresh_token"}, auth=("unknown", "x"))
    assert answer.headers["www-authenticate"] == 'Basic realm="OAuth"'


def test_another_registered_redirect_uri_is_malformed(either: Application) -> None:
    answer = either.exchange(either.obtain_code(), redirect_uri=either.provider.settings.redirect_uris[1])
    assert summary(answer) == (400, "invalid_request", "Invalid redirect URI")


def test_an_unregistered_redirect_uri_is_refused_by_generation(either: Application) -> None:
    answer = either.exchange(either.obtain_code(), redirect_uri="https://elsewhere.example/")
    expected = {12: (401, "invalid_client", None), 13: (400, "invalid_request", "Invalid redirect URI")}
    assert summary(answer) == expected[generation(either)]


def test_asking_the_star_scope_back_is_refused_and_burns_nothing(either: Application) -> None:
    token = either.connect()["refresh_token"]
    assert summary(either.refresh(token, scope="*")) == (400, "invalid_scope", "Check the `*` scope")
    assert either.refresh(token).status_code == 200


def test_a_scope_that_was_granted_can_be_asked_back(either: Application) -> None:
    code = either.obtain_code(scope="documents.read templates.read")
    token = either.exchange(code).json()["refresh_token"]
    assert either.refresh(token, scope="invoices.read").status_code == 400
    assert either.refresh(token, scope="documents.read").status_code == 200


def test_an_unknown_grant_type_is_refused(either: Application) -> None:
    assert summary(either.ask(grant_type="password"))[:2] == (400, "unsupported_grant_type")


def test_only_the_older_generation_repeats_the_description_as_message(either: Application) -> None:
    body = either.refresh("garbage").json()
    assert body["error_description"] == "The refresh token is invalid."
    assert body.get("message") == {12: body["error_description"], 13: None}[generation(either)]


def test_a_verifier_must_follow_its_challenge(either: Application) -> None:
    asked = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    missing, wrong, right = (either.obtain_code(1, **asked) for _ in range(3))
    assert summary(either.exchange(missing)) == (400, "invalid_request", "Check the `code_verifier` parameter")
    refused = summary(either.exchange(wrong, code_verifier="w" * 43))
    assert refused == (400, "invalid_grant", "Failed to verify `code_verifier`.")
    assert either.exchange(right, code_verifier=VERIFIER).status_code == 200


def test_a_verifier_without_a_challenge_is_refused(either: Application) -> None:
    answer = either.exchange(either.obtain_code(), code_verifier=VERIFIER)
    assert summary(answer)[:2] == (400, "invalid_request")


def test_the_endpoint_is_throttled_per_address_and_a_throttled_token_is_not_burnt(either: Application) -> None:
    token = either.connect()["refresh_token"]
    for _ in range(59):
        either.refresh("garbage")

    throttled = either.refresh(token)
    assert throttled.status_code == 429
    assert throttled.json() == {"message": "Too Many Attempts."}
    assert 0 < int(throttled.headers["retry-after"]) <= 60

    either.control.advance(61)
    assert either.refresh(token).status_code == 200


def test_a_revocation_endpoint_exists_only_where_it_is_switched_on(either: Application) -> None:
    tokens = either.connect()
    request = {"token": tokens["refresh_token"]} | either.credentials
    assert either.http.post("/oauth/revoke", data=request).status_code == 404
    assert either.is_alive(tokens)

    either.control.set(revocation_endpoint=True)
    assert either.http.post("/oauth/revoke", data=request).status_code == 200
    assert not either.is_alive(tokens)
    assert either.http.post("/oauth/revoke", data=request | {"token": "unknown"}).status_code == 200
    assert either.http.post("/oauth/revoke", data=request | {"client_secret": "x"}).status_code == 401
