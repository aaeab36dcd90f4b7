"""Outages of an endpoint, and a server whose keys were replaced."""

import httpx
import pytest

from tests.sandbox.conftest import Application

REFUSED_KEYS = {
    12: (401, "invalid_request", "Cannot decrypt the refresh token"),
    13: (400, "invalid_grant", "Cannot decrypt the refresh token"),
}


@pytest.mark.parametrize(
    ("kind", "status", "content_type", "location"),
    [
        ("502", 502, "text/html", None),
        ("503", 503, "application/json", None),
        ("301", 301, "text/html", "/maintenance"),
        ("302", 302, "text/html", "/maintenance"),
        ("firewall", 403, "text/html", None),
        ("html", 200, "text/html", None),
    ],
)
def test_an_outage_answers_everyone_and_uses_nothing_up(
    app: Application, kind: str, status: int, content_type: str, location: str | None
) -> None:
    first, second = app.connect(1)["refresh_token"], app.connect(2)["refresh_token"]
    app.control.start_outage(kind)

    answers = [app.refresh(first), app.refresh(second), app.ask(grant_type="refresh_token")]

    assert {answer.status_code for answer in answers} == {status}
    assert all(answer.headers["content-type"].startswith(content_type) for answer in answers)
    assert {answer.headers.get("location") for answer in answers} == {location}
    assert app.control.state()["outages"] == {"token": {"kind": kind, "hits": 3}}
    assert app.control.end_outage() == 3
    assert app.refresh(first).status_code == app.refresh(second).status_code == 200


def test_a_reset_and_a_silence_send_not_a_byte(app: Application) -> None:
    token = app.connect()["refresh_token"]
    app.control.start_outage("reset")
    with pytest.raises(httpx.ReadError):
        app.refresh(token)
    app.control.start_outage("silence")
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{app.provider.url}/oauth/token", json={"grant_type": "x"}, timeout=0.2, trust_env=False)
    assert app.control.end_outage() == 1
    assert app.refresh(token).status_code == 200


def test_a_silence_can_be_short_and_ends_in_a_reset(app: Application) -> None:
    app.control.start_outage("silence", delay_ms=50)
    with pytest.raises(httpx.ReadError):
        app.refresh("garbage")


def test_an_outage_comes_before_other_faults_and_takes_one_endpoint_only(app: Application) -> None:
    tokens = app.connect()
    app.control.inject("token", "before", "status", status=500)
    app.control.start_outage("503", retry_after=7)
    answer = app.refresh(tokens["refresh_token"])
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert app.is_alive(tokens)
    app.control.start_outage("firewall", on="api")
    assert app.get("/api/me", tokens["access_token"]).status_code == 403


def test_a_removed_fault_ends_its_outage(app: Application) -> None:
    app.control.start_outage("502")
    app.control.clear_faults()
    assert app.control.state()["outages"] == {}
    assert app.control.end_outage() == 0


def test_an_unknown_outage_is_refused(app: Application) -> None:
    wrongs: list[dict[str, str]] = [{"kind": "tired"}, {"kind": "502", "on": "moon"}]
    for wrong in wrongs:
        answer = app.http.post("/_sandbox/outage", json=wrong)
        assert answer.status_code == 400


def test_replaced_keys_refuse_what_came_before_and_can_be_undone(either: Application) -> None:
    passport = either.control.state()["settings"]["passport"]
    before, code = either.connect(1), either.obtain_code(2)
    either.control.replace_keys()

    refused = either.refresh(before["refresh_token"])
    body = refused.json()
    assert (refused.status_code, body["error"], body["hint"]) == REFUSED_KEYS[passport]
    assert either.get("/api/me", before["access_token"]).status_code == 401
    assert either.exchange(code).status_code == 400
    since = either.connect(3)
    assert either.is_alive(since)

    either.control.restore_keys()
    assert either.is_alive(before)
    assert either.refresh(before["refresh_token"]).status_code == 200
    assert either.exchange(code).status_code == 200
    assert not either.is_alive(since)


def test_a_token_that_cannot_be_read_is_still_counted_as_presented(app: Application) -> None:
    token = app.connect()["refresh_token"]
    app.control.replace_keys()
    app.refresh(token)
    assert app.control.counters()["refresh_tokens"][0]["presentations"][0]["outcome"] == "unreadable"
    assert app.control.state()["keys"] == "replaced"
