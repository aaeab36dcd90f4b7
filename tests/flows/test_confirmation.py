"""Whose browser is it? Each mode from the link to the connection, and each answer that must connect nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import fakeredis
import httpx
import pytest

from models.audit.entry import Channel
from models.crypto.secrets import Secret
from models.messaging.commands import Confirm
from models.messaging.messages import Message
from models.oauth.authorization import Authorization, Confirmation, state_of
from models.store.confirming import confirm
from scheduler.command_stream import Commands
from tests.browsing import answer_page, fields_of, serving
from tests.harness import House
from worker.web.app import build_app

APPLICATION = "https://app.example/settings?tab=accounts"


@contextmanager
def browser_of(house: House, mode: Confirmation, app_name: str = "Papertrail") -> Iterator[httpx.Client]:
    """Serve the house in this mode to a browser of its own."""
    callback = replace(house.callback, confirmation=mode, app_name=app_name)
    with serving(build_app(callback)) as url, httpx.Client(base_url=url, trust_env=False) as browser:
        yield browser


@pytest.fixture
def page(house: House) -> Iterator[httpx.Client]:
    """A browser, and a web process whose page asks."""
    with browser_of(house, Confirmation.page) as opened:
        yield opened


@pytest.fixture
def browser(house: House) -> Iterator[httpx.Client]:
    """A browser, and a web process that leaves it to the application."""
    with browser_of(house, Confirmation.application) as opened:
        yield opened


def open_link(browser: httpx.Client, house: House, user: str = "ada", **claims: Any) -> httpx.Response:
    return browser.get(f"/auth/breezedoc?token={house.link(user, **claims)}")


def come_back(browser: httpx.Client, url: str) -> httpx.Response:
    """Follow the provider's redirect; here the callback is served at another port than the client's."""
    return browser.get(urlsplit(url)._replace(scheme="", netloc="").geturl())


def bring_code(browser: httpx.Client, house: House, user: str = "ada", account: int = 1) -> dict[str, str]:
    """Go from an application's link to the application: what the browser brings it."""
    asked = open_link(browser, house, user, return_to=APPLICATION)
    assert asked.status_code == 302, asked.text
    back = come_back(browser, house.control.authorize(asked.headers["location"], account))
    assert (back.status_code, back.headers["location"].split("&")[0]) == (303, APPLICATION), back.text
    brought = {name: values[0] for name, values in parse_qs(urlsplit(back.headers["location"]).query).items()}
    assert brought.keys() == {"tab", "authorization_id", "confirmation"}
    return brought


def found(house: House, authorization_id: str) -> Authorization:
    with house.store.reading() as tx:
        authorization = tx.authorizations.get(authorization_id)
    assert authorization is not None
    return authorization


def newest(house: House) -> Authorization:
    with house.store.reading() as tx:
        return tx.authorizations.find(None, None, 1)[0]


def token_requests(house: House) -> int:
    return sum(house.control.counters()["totals"].get("/oauth/token", {}).values())


def assert_not_confirmed(house: House, authorization_id: str) -> None:
    """It has ended with its event, and its code has never left."""
    ended = found(house, authorization_id)
    assert (ended.step, ended.reason, ended.code, ended.verifier) == ("failed", "not_confirmed", None, None)
    house.turn(minutes=11)
    house.sweep()
    reasons = {event["authorization_id"]: event["reason"] for event in house.told("connection.authorization_failed")}
    assert reasons[authorization_id] == "not_confirmed"
    assert token_requests(house) == 0
    with house.store.reading() as tx:
        assert tx.connections.find() == []


# page


def test_a_click_leads_on_to_the_provider_and_connects(house: House, page: httpx.Client) -> None:
    shown = open_link(page, house, name="Ada <Lovelace>")
    assert shown.status_code == 200
    for text in ("Papertrail", "Ada &lt;Lovelace&gt;", "BreezeDoc"):
        assert text in shown.text
    assert "style=" not in shown.text
    assert "<script" not in shown.text
    assert "form-action 'self' https: http:;" in shown.headers["content-security-policy"]
    asked = answer_page(page, shown)
    assert asked.status_code == 303
    arrived = come_back(page, house.control.authorize(asked.headers["location"], 1))
    assert arrived.status_code == 303
    house.work()
    assert [event["user_id"] for event in house.told("connection.authorized")] == ["ada"]


def test_without_names_the_page_shows_the_user_id_and_the_client(house: House) -> None:
    with browser_of(house, Confirmation.page, app_name="") as page:
        shown = open_link(page, house, "user-4711")
    assert '<strong id="person">user-4711</strong>' in shown.text
    assert house.provider.client_id in shown.text


def test_this_is_not_me_ends_the_flow(house: House, page: httpx.Client) -> None:
    shown = open_link(page, house, return_to=APPLICATION)
    said = answer_page(page, shown, "not_me")
    assert (said.status_code, 'id="not-me-said"' in said.text) == (200, True)
    again = answer_page(page, shown, "not_me")
    assert again.status_code == 200, "the browser is still known"
    ended = newest(house)
    page.get(f"/auth/breezedoc/done/{ended.id}")
    assert page.get(shown.url.raw_path.decode()).status_code == 400, "the link can't be used any more"
    assert_not_confirmed(house, ended.id)


def test_no_answer_to_the_page_expires(house: House, page: httpx.Client) -> None:
    shown = open_link(page, house)
    house.turn(minutes=10.1)
    late = answer_page(page, shown)
    assert (late.status_code, "It took too long" in late.text) == (403, True)
    house.sweep()
    assert (newest(house).step, newest(house).reason) == ("failed", "expired")


FORGED: dict[str, tuple[int, dict[str, Any]]] = {
    "no form token": (403, {"form_token": ""}),
    "another form token": (403, {"form_token": "x" * 43}),
    "a form token that is no ASCII": (403, {"form_token": "ü" * 43}),
    "no flow": (403, {"flow": ""}),
    "another flow": (403, {"flow": "f" * 32}),
    "no answer": (400, {"answer": ""}),
    "another answer": (400, {"answer": "yes"}),
    "two answers": (400, {"answer": ["continue", "not_me"]}),
    "too long": (413, {"more": "x" * 5000}),
    "too many fields": (400, {str(n): "x" for n in range(20)}),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_form_changes_nothing_and_the_right_one_still_works(
    house: House, page: httpx.Client, case: str
) -> None:
    status, changes = FORGED[case]
    shown = open_link(page, house)
    before = newest(house)
    form = {**fields_of(shown.text), "answer": "continue", **changes}
    refused = page.post("/auth/breezedoc/start", data=form)
    assert (refused.status_code, 'id="refused"' in refused.text) == (status, True)
    assert newest(house) == before
    assert answer_page(page, shown).status_code == 303


def test_another_site_another_browser_and_no_form_get_nowhere(house: House, page: httpx.Client) -> None:
    shown = open_link(page, house)
    before = newest(house)
    form = {**fields_of(shown.text), "answer": "continue"}
    for site in ("cross-site", "same-site"):
        foreign = page.post("/auth/breezedoc/start", data=form, headers={"Sec-Fetch-Site": site})
        assert foreign.status_code == 403
    assert page.post("/auth/breezedoc/start", json=form).status_code == 415
    assert page.post("/auth/other/start", data=form).status_code == 404
    with browser_of(house, Confirmation.page) as another:
        assert another.post("/auth/breezedoc/start", data=form).status_code == 403
        assert another.get(shown.url.raw_path.decode()).status_code == 400, "the link is the first browser's"
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        answer = page.request(method, "/auth/breezedoc/start")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert newest(house) == before


def test_reload_and_back_are_harmless_with_the_page(house: House, page: httpx.Client) -> None:
    link = f"/auth/breezedoc?token={house.link()}"
    first, again = page.get(link), page.get(link)
    assert (again.status_code, fields_of(again.text)) == (200, fields_of(first.text))
    asked = answer_page(page, first)
    twice = answer_page(page, first)
    assert twice.headers["location"] == asked.headers["location"]
    assert page.get(link).status_code == 200, "back at the page, and forward again"
    arrived = come_back(page, house.control.authorize(asked.headers["location"], 1))
    for answer in (answer_page(page, first), answer_page(page, first, "not_me")):
        assert (answer.status_code, answer.headers["location"]) == (303, arrived.headers["location"])
    assert page.get(link).headers["location"] == f"breezedoc/{arrived.headers['location']}"
    consented_again = come_back(page, house.control.authorize(asked.headers["location"], 1))
    assert consented_again.headers["location"] == arrived.headers["location"]
    house.work()
    assert len(house.told("connection.authorized")) == 1
    assert page.get(f"/auth/breezedoc/{arrived.headers['location']}").status_code == 200


def test_a_state_that_no_click_led_to_is_refused(house: House, page: httpx.Client) -> None:
    shown = open_link(page, house)
    [binding] = [value for name, value in page.cookies.items() if name.startswith("breezesync-")]
    for query in ({"state": state_of(binding), "code": "c"}, {"state": state_of(binding), "error": "access_denied"}):
        assert page.get("/auth/breezedoc/callback", params=query).status_code == 403
    assert page.get("/auth/breezedoc/callback", params={"error": "invalid_scope"}).status_code == 403
    assert newest(house).step == "started"
    assert answer_page(page, shown).status_code == 303


def test_a_link_without_return_to_asks_the_person_also_where_the_application_confirms(
    house: House, browser: httpx.Client
) -> None:
    shown = open_link(browser, house)
    assert (shown.status_code, 'id="confirm"' in shown.text) == (200, True)
    asked = answer_page(browser, shown)
    come_back(browser, house.control.authorize(asked.headers["location"], 1))
    house.work()
    assert len(house.told("connection.authorized")) == 1


# application


def test_a_code_waits_for_the_application_and_then_connects(house: House, browser: httpx.Client) -> None:
    brought = bring_code(browser, house)
    assert house.queue.held == []
    house.flows.exchange(brought["authorization_id"])
    assert token_requests(house) == 0
    done = f"/auth/breezedoc/done/{brought['authorization_id']}"
    assert browser.get(done, headers={"Accept": "application/json"}).json()["status"] == "pending"
    assert "has to confirm" in browser.get(done).text
    house.queue.held = [Message("confirm", give(brought, "ada"))]
    house.work()
    assert [event["user_id"] for event in house.told("connection.authorized")] == ["ada"]
    led = browser.get(done)
    assert (led.status_code, "status=connected" in led.headers["location"]) == (303, True)
    assert "confirmation" not in led.headers["location"]


def give(brought: dict[str, str], user: str, **changes: str) -> dict[str, str]:
    """The arguments of an application's `confirm`."""
    ids = {name: brought[name] for name in ("authorization_id", "confirmation")}
    return {**ids, "user_id": user, **changes}


@pytest.mark.parametrize(
    ("user", "changes"),
    [("eve", {}), ("ada", {"confirmation": "x" * 43}), ("ada ", {}), ("ada", {"confirmation": "x"})],
    ids=["another user", "a wrong value", "nearly the user", "a short value"],
)
def test_a_wrong_confirmation_ends_it_and_the_code_never_leaves(
    house: House, browser: httpx.Client, user: str, changes: dict[str, str]
) -> None:
    brought = bring_code(browser, house)
    house.flows.confirm(**give(brought, user, **changes))
    house.flows.confirm(**give(brought, "ada"))
    assert_not_confirmed(house, brought["authorization_id"])
    led = browser.get(f"/auth/breezedoc/done/{brought['authorization_id']}")
    assert led.headers["location"].endswith("status=failed&reason=not_confirmed")


def test_anothers_value_confirms_nothing(house: House, browser: httpx.Client) -> None:
    mine, another = bring_code(browser, house), bring_code(browser, house)
    house.flows.confirm(**give(mine, "ada", confirmation=another["confirmation"]))
    assert_not_confirmed(house, mine["authorization_id"])


def test_a_late_confirmation_ends_it(house: House, browser: httpx.Client) -> None:
    brought = bring_code(browser, house)
    house.turn(minutes=10.1)
    house.flows.confirm(**give(brought, "ada"))
    assert_not_confirmed(house, brought["authorization_id"])


def test_the_sweep_ends_what_no_one_confirms_when_the_code_is_too_old(house: House, browser: httpx.Client) -> None:
    brought = bring_code(browser, house)
    house.turn(minutes=9.9)
    house.sweep()
    assert found(house, brought["authorization_id"]).step == "received"
    house.turn(minutes=0.2)
    house.sweep()
    assert_not_confirmed(house, brought["authorization_id"])


def test_a_confirmation_that_comes_twice_connects_once(house: House, browser: httpx.Client) -> None:
    brought = bring_code(browser, house)
    for _ in range(2):
        house.flows.confirm(**give(brought, "ada"))
    house.flows.confirm(**give(brought, "eve"))
    house.work()
    house.flows.confirm(**give(brought, "ada"))
    assert len(house.told("connection.authorized")) == 1
    assert token_requests(house) == 1


def test_a_browser_whose_way_back_was_lost_brings_the_same_value_again(house: House, browser: httpx.Client) -> None:
    link = f"/auth/breezedoc?token={house.link(return_to=APPLICATION)}"
    asked = browser.get(link)
    back = house.control.authorize(asked.headers["location"], 1)
    first, reloaded, reopened = come_back(browser, back), come_back(browser, back), browser.get(link)
    assert reloaded.headers["location"] == reopened.headers["location"] == first.headers["location"]
    with browser_of(house, Confirmation.application) as another:
        assert come_back(another, back).status_code == 403
        assert "confirmation=" not in another.get(f"/auth/breezedoc/done/{newest(house).id}").text
    assert house.queue.held == []


def test_saying_no_at_the_provider_needs_no_confirmation(house: House, browser: httpx.Client) -> None:
    asked = open_link(browser, house, return_to=APPLICATION)
    denied = come_back(browser, house.control.authorize(asked.headers["location"], 1, allow=False))
    led = browser.get(f"/auth/breezedoc/{denied.headers['location']}")
    assert led.headers["location"].startswith(f"{APPLICATION}&status=denied")


def test_only_what_is_stored_is_a_hash(house: House, browser: httpx.Client) -> None:
    brought = bring_code(browser, house)
    stored = str(found(house, brought["authorization_id"]))
    assert brought["confirmation"] not in stored
    house.flows.confirm(**give(brought, "ada"))
    house.work()
    assert brought["confirmation"] not in str(house.told())
    assert brought["confirmation"] not in str(house.decisions(house.told("connection.authorized")[0]["connection_id"]))


def test_a_command_confirms(house: House, browser: httpx.Client) -> None:
    brought, wrong = bring_code(browser, house), bring_code(browser, house)
    redis = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    commands = Commands(house.store, redis, "commands", house.sweep, house.clock)
    for fields in (
        give(brought, "ada"),
        give(wrong, "eve"),
        give(brought, "ada", authorization_id="nobody"),
        give(wrong, "ada"),
    ):
        entry: dict[Any, Any] = {"type": "confirm", **fields}
        redis.xadd("commands", entry)
        commands()
    assert [event["user_id"] for event in house.told("connection.authorized")] == ["ada"]
    assert found(house, wrong["authorization_id"]).reason == "not_confirmed"
    entries: Any = redis.xrange("commands:rejected")
    rejected = [fields for _, fields in entries]
    assert [entry[b"authorization_id"].decode() for entry in rejected] == ["nobody", wrong["authorization_id"]]
    assert {entry[b"confirmation"] for entry in rejected} == {b"***"}
    assert redis.xlen("commands") == 0


def test_two_answers_at_once_are_decided_one_after_the_other(house: House, browser: httpx.Client) -> None:
    brought = bring_code(browser, house)
    given = Confirm(brought["authorization_id"], "ada", Secret(brought["confirmation"]))
    verdicts = []
    for each in (given, replace(given, user_id="eve"), given):
        with house.store.writing() as tx:
            verdicts.append(confirm(tx, each, house.clock(), Channel.message))
    assert verdicts == ["accepted", "not_awaited", "repeated"]


# others of the same account


def test_the_event_names_others_with_the_same_account(house: House) -> None:
    house.connect("ada", 1)
    other, gone = house.connect("bob", 1), house.connect("carol", 1)
    house.flows.disconnect(gone.id)
    house.connect("dora", 2)
    house.connect("eve", 1)
    house.connect("ada", 1)
    told = [(event["user_id"], event["also_connected_by"]) for event in house.told("connection.authorized")]
    assert told == [
        ("ada", []),
        ("bob", ["ada"]),
        ("carol", ["ada", "bob"]),
        ("dora", []),
        ("eve", ["ada", "bob"]),
        ("ada", ["bob", "eve"]),
    ]
    assert house.connection(other.id).status == "active"
