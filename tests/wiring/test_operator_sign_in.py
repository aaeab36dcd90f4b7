"""Signing in to the operator's page: what it takes, how long it lasts, and who can send a form."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from config.wiring import now
from models.store import Store
from tests.databases import create_sqlite, open_fast_engine
from tests.operator_site import Operator, form_token, operator_token, running_operator
from worker.operator.session import lifetime


class Turned:
    """The time, and as much of it ahead as a test turns it."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return now() + self.ahead


@pytest.fixture
def clock() -> Turned:
    return Turned()


@pytest.fixture
def operator(tmp_path: Path, redis_url: str, clock: Turned) -> Iterator[Operator]:
    store = Store(open_fast_engine(create_sqlite(tmp_path / "b.db")))
    with running_operator(store, redis_url, now=clock) as running:
        yield running
    store.close()


def test_a_page_is_shown_to_who_signs_in_until_they_sign_out(operator: Operator) -> None:
    browser = operator.browser()
    away = browser.get("./")
    assert (away.status_code, away.headers["location"]) == (303, "sign-in")
    wrong = browser.post("sign-in", data={"token": "wrong"})
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (403, False)
    right = browser.post("sign-in", data={"token": operator_token.reveal()})
    cookie = right.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Max-Age=43200", "Path=/"))
    assert operator_token.reveal() not in cookie
    page = browser.get("./")
    assert page.status_code == 200
    assert page.headers["referrer-policy"] == "same-origin"
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    out = browser.post("sign-out", data={"form_token": form_token(page.text)})
    assert (out.status_code, browser.get("./").status_code) == (303, 303)
    assert [action for _, action, _ in operator.audit()] == ["operator.refused", "operator.signed_in"]


def test_a_session_ends_by_itself(operator: Operator, clock: Turned) -> None:
    browser = operator.signed_in()
    clock.ahead = lifetime - timedelta(minutes=1)
    assert browser.get("./").status_code == 200
    clock.ahead = lifetime + timedelta(minutes=1)
    assert browser.get("./").status_code == 303


def test_over_https_the_cookie_is_no_other_host_s(operator: Operator) -> None:
    sent = {"token": operator_token.reveal()}
    of_proxy = {"X-Forwarded-Proto": "https"}  # uvicorn believes a proxy on this machine
    cookie = operator.browser().post("sign-in", data=sent, headers=of_proxy).headers["set-cookie"]
    assert cookie.startswith("__Host-breezesync-operator=")
    assert "; Secure" in cookie


def test_who_was_sent_away_comes_back_to_the_page_they_asked_for(operator: Operator) -> None:
    browser = operator.browser()
    away = browser.get("connections/abc", params={"problem": "any"})
    assert away.headers["location"] == "../sign-in?to=connections%2Fabc%3Fproblem%3Dany"
    shown = browser.get("sign-in", params={"to": "connections/abc"})
    assert 'value="connections/abc"' in shown.text
    sent = {"token": operator_token.reveal(), "to": "connections/abc?problem=any"}
    back = browser.post("sign-in", data=sent)
    assert back.headers["location"] == "connections/abc?problem=any&notice=signed_in"
    assert browser.get("sign-in", params={"to": "groups"}).headers["location"] == "groups"


@pytest.mark.parametrize(
    "to", ["https://evil.example/", "//evil.example", "javascript:alert(1)", "\\evil", "a/../../b", "x" * 900]
)
def test_no_one_is_sent_elsewhere(operator: Operator, to: str) -> None:
    sent = {"token": operator_token.reveal(), "to": to}
    assert operator.browser().post("sign-in", data=sent).headers["location"] == "./?notice=signed_in"


def test_tries_are_counted(operator: Operator) -> None:
    browser = operator.browser()
    statuses = [browser.post("sign-in", data={"token": f"wrong {n}"}).status_code for n in range(12)]
    assert statuses == [403] * 10 + [429] * 2
    assert browser.post("sign-in", data={"token": operator_token.reveal()}).status_code == 429
    assert operator.ask("GET", "queues").status_code == 200, "whoever has the token is not kept out of the API"


forgeries = {
    "another site": {"Sec-Fetch-Site": "cross-site"},
    "a site beside this one": {"Sec-Fetch-Site": "same-site"},
    "an origin that is not ours": {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
    "no origin": {"Sec-Fetch-Site": "", "Origin": "null"},
}


@pytest.mark.parametrize("headers", forgeries.values(), ids=forgeries.keys())
def test_a_form_of_another_site_does_nothing(operator: Operator, headers: dict[str, str]) -> None:
    browser = operator.signed_in()
    form = {"form_token": form_token(browser.get("./").text), "provider": "breezedoc"}
    assert browser.post("actions/pause", data=form, headers=headers).status_code in (400, 403)
    assert [action for _, action, _ in operator.audit()] == ["operator.signed_in"]


def test_a_form_needs_the_token_of_its_session(operator: Operator) -> None:
    browser, other = operator.signed_in(), operator.signed_in()
    foreign = form_token(other.get("./").text)
    for token in ("", "wrong", foreign, foreign + "ü"):
        sent = browser.post("actions/pause", data={"form_token": token, "provider": "breezedoc"})
        assert sent.status_code == 403
    own = {"form_token": form_token(browser.get("./").text), "provider": "breezedoc", "back": "providers"}
    done = browser.post("actions/pause", data=own)
    assert (done.status_code, done.headers["location"]) == (303, "../providers?notice=pause")
    assert [(actor, action) for actor, action, _ in operator.audit()][2:] == [("operator:page", "provider.paused")]


def test_without_a_session_no_action_is_done(operator: Operator) -> None:
    sent = operator.browser().post("actions/pause", data={"provider": "breezedoc"})
    assert (sent.status_code, sent.headers["location"]) == (303, "../sign-in")
    assert operator.audit() == []


def test_a_form_that_can_t_be_read_does_nothing(operator: Operator) -> None:
    browser = operator.signed_in()
    token = form_token(browser.get("./").text)
    assert browser.post("actions/pause", json={"form_token": token}).status_code == 400
    for action in ("webhook-test", "webhook-pause"):
        assert browser.post(f"actions/{action}", data={"form_token": token}).status_code == 404
    assert browser.post("actions/nothing", data={"form_token": token}).status_code == 404
    assert browser.post("actions/accept", data={"form_token": token, "provider": "breezedoc"}).status_code == 422
    refused = browser.post("actions/sync", data={"form_token": token, "connection_id": "<script>"})
    assert (refused.status_code, "<script>" in refused.text) == (404, False)
