"""What browsers and people do on their way: two tabs, a reload, a link followed again, a proxy's path, too late."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import update

from models.oauth.authorization import hash_of
from models.store.rows import table_of
from models.store.tables import AuthorizationRow
from tests.browsing import serving
from tests.hostile_input.conftest import Web
from tests.processes import APPLICATION
from worker.web.app import build_app

authorizations = table_of(AuthorizationRow)


@pytest.fixture
def browser(web: Web) -> Iterator[httpx.Client]:
    """A browser: it keeps its cookies, and deletes those that it is told to."""
    with httpx.Client(base_url=web.url, trust_env=False, timeout=30) as opened:
        yield opened


def state_of(answer: httpx.Response) -> str:
    assert answer.status_code == 302, answer.text
    return parse_qs(urlsplit(answer.headers["location"]).query)["state"][0]


def call_back(browser: httpx.Client, **query: str) -> httpx.Response:
    return browser.get("/auth/breezedoc/callback", params=query)


def end_late(web: Web, state: str) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    web.fleet.change(
        update(authorizations).where(authorizations.c.state_hash == hash_of(state)).values(expires_at=past)
    )


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["the first first", "the second first"])
def test_two_links_in_two_tabs_opened_before_any_cookie_both_arrive(
    web: Web, browser: httpx.Client, order: tuple[int, int]
) -> None:
    opened = [web.get(web.fleet.link("ada")), web.get(web.fleet.link("ada"))]
    for answer in opened:
        browser.cookies.update(answer.cookies)
    states = [state_of(answer) for answer in opened]
    arrived = [call_back(browser, state=states[tab], code=f"code {tab}").status_code for tab in order]
    assert arrived == [303, 303]


def test_a_cookie_ends_with_its_flow_and_leaves_those_of_others(web: Web, browser: httpx.Client) -> None:
    state = state_of(browser.get(web.fleet.link("ada")))
    other = state_of(browser.get(web.fleet.link("ada")))
    ended = call_back(browser, state=state, error="access_denied")
    assert set(browser.cookies) == {f"breezesync-{hash_of(other)[:32]}", "breezesync-last"}
    assert call_back(browser, state=other, code="c").status_code == 303
    assert f"breezesync-{hash_of(other)[:32]}" in browser.cookies
    again = call_back(browser, state=state, code="c")
    assert (again.status_code, again.headers["location"]) == (303, ended.headers["location"])


def test_the_result_page_ends_the_cookie_of_a_flow_that_has_ended(web: Web, browser: httpx.Client) -> None:
    account = web.fleet.control.add_user("Ada", documents=1)
    asked = browser.get(web.fleet.link("ada"))
    back = web.fleet.control.authorize(asked.headers["location"], account)
    arrived = browser.get(back)
    done = f"/auth/breezedoc/{arrived.headers['location']}"
    flow = f"breezesync-{hash_of(state_of(asked))[:32]}"
    assert browser.get(done).status_code == 200
    assert flow in browser.cookies, "the flow is still open"
    web.house.flows.exchange(done.rsplit("/", 1)[1])
    assert 'id="connected"' in browser.get(done).text
    assert flow not in browser.cookies
    assert browser.get(back).headers["location"] == arrived.headers["location"], "one step back, and allowed again"
    assert web.get(back).status_code == 403, "another browser"


@pytest.mark.parametrize("first", [{"code": "first"}, {"error": "access_denied"}], ids=["allowed", "denied"])
@pytest.mark.parametrize("second", [{"code": "second"}, {"error": "access_denied"}], ids=["allows", "denies"])
def test_a_used_callback_leads_the_same_browser_to_its_result(
    web: Web, browser: httpx.Client, first: dict[str, str], second: dict[str, str]
) -> None:
    state = state_of(browser.get(web.fleet.link("ada")))
    arrived = call_back(browser, state=state, **first)
    before = web.contents()
    again = call_back(browser, state=state, **second)
    assert (again.status_code, again.headers["location"]) == (303, arrived.headers["location"])
    assert web.get("/auth/breezedoc/callback", params={"state": state, **second}).status_code == 403
    assert web.contents() == before


def test_a_link_leads_the_same_browser_on_while_its_flow_is_open(web: Web, browser: httpx.Client) -> None:
    link = web.fleet.link("ada")
    asked = browser.get(link)
    before = web.contents()
    again = browser.get(link)
    assert (again.status_code, again.headers["location"]) == (302, asked.headers["location"])
    assert web.get(link).status_code == 400, "another browser"
    assert web.get(link, cookies=dict.fromkeys(browser.cookies, "x" * 43)).status_code == 400
    assert web.contents() == before
    arrived = call_back(browser, state=state_of(again), code="c")
    waiting = browser.get(link)
    assert waiting.next_request is not None
    assert str(waiting.next_request.url) == f"{web.url}/auth/breezedoc/{arrived.headers['location']}"


def test_a_link_whose_flow_has_ended_opens_nothing(web: Web, browser: httpx.Client) -> None:
    denied, late = web.fleet.link("ada"), web.fleet.link("ada")
    call_back(browser, state=state_of(browser.get(denied)), error="access_denied")
    end_late(web, state_of(browser.get(late)))
    assert [browser.get(link).status_code for link in (denied, late)] == [400, 400]


@pytest.mark.parametrize("answer", [{"code": "c"}, {"error": "access_denied"}], ids=["allowed", "denied"])
@pytest.mark.parametrize("ended", [False, True], ids=["still open", "ended by the sweep"])
def test_a_user_who_comes_too_late_is_told_so_and_led_back(web: Web, answer: dict[str, str], ended: bool) -> None:
    state = state_of(web.get(web.fleet.link("ada", return_to=f"{APPLICATION}/settings?tab=1")))
    end_late(web, state)
    if ended:
        [row] = web.fleet.rows("SELECT id FROM authorization WHERE state_hash = :hash", hash=hash_of(state))
        web.house.flows.exchange(row.id)
    before = web.contents()
    page = web.get("/auth/breezedoc/callback", params={"state": state, **answer})
    assert (page.status_code, "It took too long" in page.text) == (403, True)
    assert f'href="{APPLICATION}/settings?tab=1&amp;status=failed&amp;reason=expired"' in page.text
    assert web.contents() == before


def test_without_return_to_a_late_page_leads_nowhere(web: Web) -> None:
    state = state_of(web.get(web.fleet.link("ada")))
    end_late(web, state)
    page = web.get("/auth/breezedoc/callback", params={"state": state, "code": "c"})
    assert (page.status_code, "It took too long" in page.text, "href" in page.text) == (403, True, False)


@pytest.mark.parametrize(
    ("error", "status", "reason", "words"),
    [
        ("access_denied", "denied", "denied", "You did not allow access"),
        ("user_cancelled_login", "denied", "denied", "You did not allow access"),
        ("consent_denied", "denied", "denied", "You did not allow access"),
        ("server_error", "failed", "provider_unavailable", "not your fault"),
        ("temporarily_unavailable", "failed", "provider_unavailable", "not your fault"),
        ("unauthorized_client", "failed", "client_rejected", "does not accept this application"),
    ],
)
def test_an_error_is_told_as_what_it_is(
    web: Web, browser: httpx.Client, error: str, status: str, reason: str, words: str
) -> None:
    arrived = call_back(browser, state=state_of(browser.get(web.fleet.link("ada"))), error=error)
    told = web.follow(arrived, headers={"Accept": "application/json"}).json()
    assert (told["status"], told["reason"]) == (status, reason)
    assert words in web.follow(arrived).text


def test_behind_a_path_prefix_every_redirect_keeps_it(web: Web, browser: httpx.Client) -> None:
    link = web.fleet.link("ada")
    arrived = call_back(browser, state=state_of(browser.get(link)), code="c")
    for answer in (arrived, browser.get(link)):
        assert not answer.headers["location"].startswith(("/", "http"))
        seen = urlsplit(str(answer.url))._replace(netloc="app.example", path=f"/sync{urlsplit(str(answer.url)).path}")
        there = httpx.URL(seen.geturl()).join(answer.headers["location"])
        assert there.path == f"/sync/auth/breezedoc/{arrived.headers['location'].removeprefix('breezedoc/')}"


@pytest.mark.parametrize(("host", "is_named"), [("localhost", True), ("127.0.0.1", True), ("sync.example", False)])
def test_a_link_opened_on_another_name_of_this_machine_gets_a_hint(web: Web, host: str, is_named: bool) -> None:
    [client] = web.house.callback.clients.values()
    served = replace(client, redirect_uri=f"http://{host}:8700/auth/breezedoc/callback")
    callback = replace(web.house.callback, clients={"breezedoc": served})
    with serving(build_app(callback)) as url:
        state = state_of(web.get(f"{url}/auth/breezedoc?token={web.house.link('ada')}"))
        page = web.get(f"{url}/auth/breezedoc/callback", params={"state": state, "code": "c"})
    assert (page.status_code, f"Open the link on {host}" in page.text) == (403, is_named)
