"""Each thing that is done with someone's tokens writes its one line, and no line holds a secret."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest
import redis
from sqlalchemy import text
from structlog.testing import capture_logs

from models.audit.chain import Line, as_json
from models.crypto.vault import Vault, new_key
from models.errors import StoreUnavailable
from models.messaging import messages
from models.oauth.credential import place_of_token
from scheduler.audit_chain import AuditChain
from tests.browsing import serving
from tests.flows.test_commands import read_all, reader, stream
from tests.flows.test_connect_token import connect_token
from tests.flows.test_disconnect import with_endpoint
from tests.harness import House
from worker.oauth.hold import HoldByOperator
from worker.web.app import build_app

PATH = "/auth/breezedoc/callback"


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def lines_of(house: House) -> Sequence[Line]:
    with house.store.reading() as tx:
        return tx.audit.newest({}, None, 10_000)


def actions(house: House) -> list[str]:
    return [line.action for line in lines_of(house)]


def newest(house: House) -> Line:
    return lines_of(house)[-1]


def test_a_connection_s_life_is_a_line_for_each_thing_that_was_done(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    house.make_refresh_due(connection.id)
    house.sweep()
    house.flows.disconnect(connection.id, erase=True)
    assert actions(house) == [
        "link.opened",
        "callback.accepted",
        "code.exchanged",
        "connection.authorized",
        "token.refreshed",
        "connection.disconnected",
        "connection.erased",
    ]
    assert {(line.provider, line.user_id) for line in lines_of(house)} == {("breezedoc", "ada")}
    of_connection = [line.action for line in lines_of(house) if line.connection_id == connection.id]
    assert of_connection == actions(house)[3:]
    [authorization] = {line.authorization_id for line in lines_of(house)[:4]}
    assert authorization is not None
    assert [line.detail.get("generation") for line in lines_of(house)[3:5]] == [1, 2]


def test_a_refusal_of_the_user_is_recorded(house: House) -> None:
    house.consent("ada", allow=False)
    accepted = newest(house)
    assert (accepted.action, accepted.user_id, accepted.detail) == ("callback.accepted", "ada", {"reason": "denied"})


def test_an_authorization_that_fails_is_recorded(house: House) -> None:
    authorization_id = house.consent("ada", 1)
    house.control.inject("token", kind="garbage", status=400, body='{"error": "invalid_grant"}')
    house.flows.exchange(authorization_id)
    failed = newest(house)
    assert (failed.action, failed.authorization_id, failed.user_id) == ("authorization.failed", authorization_id, "ada")
    assert failed.detail["reason"] == "code_rejected"


def test_a_revocation_by_the_user_is_recorded_with_its_reason(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    house.control.revoke_user(1)
    house.turn(minutes=16)
    house.sweep()
    house.sweep()
    [revoked] = [line for line in lines_of(house) if line.action == "connection.revoked"]
    assert (revoked.connection_id, revoked.detail["reason"]) == (connection.id, "access_revoked")


def test_a_revocation_at_the_provider_is_recorded(house: House) -> None:
    connection = with_endpoint(house).connect("ada", 1)
    house.work()
    house.flows.disconnect(connection.id)
    house.work()
    assert actions(house)[-2:] == ["connection.disconnected", "token.revoked_upstream"]
    assert newest(house).connection_id == connection.id


def test_the_revocation_of_a_grant_without_a_connection_is_recorded(house: House) -> None:
    first = with_endpoint(house).connect("ada", 1)
    house.work()
    house.consent("ada", account=2, connection_id=first.id)
    house.work()
    assert (newest(house).action, newest(house).provider) == ("token.revoked_upstream", "breezedoc")


def test_a_personal_token_is_recorded_as_one(house: House) -> None:
    connection = connect_token(house, 1)
    authorized = newest(house)
    assert (authorized.action, authorized.connection_id) == ("connection.authorized", connection.id)
    assert authorized.detail["by"] == "personal-access-token"


def test_a_key_that_is_missing_is_recorded(house: House) -> None:
    connection = house.refreshable()
    house.flows = replace(house.flows, refresh=replace(house.flows.refresh, vault=Vault((new_key("k2"),))))
    house.flows.refresh(connection.id)
    assert (newest(house).action, newest(house).connection_id) == ("key.missing", connection.id)


def test_a_message_that_asks_is_the_application_s(house: House) -> None:
    connection = house.connect("ada", 1)
    house.work()
    house.flows.refresh(connection.id, asked=True)
    house.flows.refresh(connection.id, asked=True)
    message = messages.Sent(uuid4().hex, house.clock())
    house.flows.disconnect(connection.id, sent=message)
    house.flows.disconnect(connection.id, sent=message)
    asked = [(line.actor, line.detail["command"]) for line in lines_of(house) if line.action == "command.received"]
    assert asked == [("application", "refresh"), ("application", "disconnect")]


def test_a_command_on_the_stream_is_the_application_s(house: House, redis_url: str) -> None:
    connection = house.connect("ada", 1)
    house.work()
    with redis.Redis.from_url(redis_url) as raw:
        raw.xadd(stream, {"type": "sync", "user_id": "ada"})
        read_all(reader(house, raw))
    received = newest(house)
    assert (received.actor, received.action) == ("application", "command.received")
    assert (received.connection_id, received.user_id, received.detail["command"]) == (connection.id, "ada", "sync")


def test_a_hold_and_its_end_are_recorded(house: House) -> None:
    house.connect("ada", 1)
    operator = HoldByOperator(house.store, house.profile)
    operator.hold("sandbox-client")
    operator.release("sandbox-client")
    operator.hold("sandbox-client")
    operator.accept("sandbox-client")
    assert [(line.action, line.detail["client_id"]) for line in lines_of(house)[-4:]] == [
        ("provider.held", "sandbox-client"),
        ("provider.released", "sandbox-client"),
        ("provider.held", "sandbox-client"),
        ("provider.accepted", "sandbox-client"),
    ]


@pytest.fixture
def browser(house: House) -> Iterator[httpx.Client]:
    """A browser that follows no redirect, in front of the web process; both are on this machine."""
    with serving(build_app(house.callback)) as url, httpx.Client(base_url=url, trust_env=False) as client:
        yield client


def test_links_and_callbacks_are_recorded_with_the_client_s_address(house: House, browser: httpx.Client) -> None:
    begun = browser.get("/auth/breezedoc", params={"token": house.link("ada")})
    browser.get(PATH, params=query_of(house.control.authorize(begun.headers["location"], 1)))
    assert [(line.action, line.user_id, line.address) for line in lines_of(house)] == [
        ("link.opened", "ada", "127.0.0.1"),
        ("callback.accepted", "ada", "127.0.0.1"),
    ]


def ask_for_what_is_refused(browser: httpx.Client, link: str) -> list[int]:
    return [
        browser.get("/auth/breezedoc", params={"token": link}).status_code,
        browser.get("/auth/breezedoc", params={"token": "c4n4ry-token"}).status_code,
        browser.get("/auth/c4n4ry-provider", params={"token": link}).status_code,
        browser.get(PATH, params={"code": "c4n4ry-code", "state": "c4n4ry-state"}).status_code,
        browser.get(PATH, params={"error": "c4n4ry-error", "error_description": "c4n4ry-text"}).status_code,
    ]


def test_a_stranger_s_requests_are_recorded_without_what_they_sent(house: House, browser: httpx.Client) -> None:
    link = house.link("ada")
    browser.get("/auth/breezedoc", params={"token": link})
    browser.cookies.clear()
    with capture_logs() as logged:
        statuses = ask_for_what_is_refused(browser, link)
    assert statuses == [400, 400, 404, 403, 403]
    refused = lines_of(house)[1:]
    assert [(line.action, line.detail["status"], line.detail["reason"]) for line in refused] == [
        ("link.refused", 400, "used"),
        ("link.refused", 400, "unreadable"),
        ("link.refused", 404, "There is no such provider"),
        ("callback.refused", 403, "another_browser"),
        ("callback.refused", 403, "another_browser"),
    ]
    assert [line.user_id for line in refused] == ["ada", None, None, None, None]
    assert {line.address for line in refused} == {"127.0.0.1"}
    assert "c4n4ry" not in str(refused)
    web = [(line["event"], line["status"], line["reason"]) for line in logged if line["event"].endswith(".refused")]
    assert web == [(line.action, line.detail["status"], line.detail["reason"]) for line in refused]
    assert "c4n4ry" not in str(logged)


def test_a_callback_in_another_browser_names_whose_authorization_it_was_for(
    house: House, browser: httpx.Client
) -> None:
    begun = browser.get("/auth/breezedoc", params={"token": house.link("ada")})
    back = house.control.authorize(begun.headers["location"], 1)
    browser.cookies.clear()
    browser.get(PATH, params=query_of(back))
    opened, refused = lines_of(house)
    assert (refused.action, refused.user_id) == ("callback.refused", "ada")
    assert refused.authorization_id == opened.authorization_id


def test_a_flood_of_refusals_writes_a_few_lines_and_says_how_many_are_missing(
    house: House, browser: httpx.Client
) -> None:
    for _ in range(60):
        browser.get("/auth/breezedoc", params={"token": "no link"})
    assert [line.detail.get("left_out") for line in lines_of(house)] == [*[None] * 10, 9, 29]
    house.turn(minutes=1)
    browser.get("/auth/breezedoc", params={"token": "no link"})
    assert newest(house).detail["left_out"] == 10


def test_a_refusal_stays_one_while_the_database_is_away(
    house: House, browser: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise StoreUnavailable("the database is away")

    with monkeypatch.context() as patched:
        patched.setattr("models.store.audit.Audit.add", fail)
        assert browser.get("/auth/breezedoc", params={"token": "no link"}).status_code == 400
    assert browser.get("/auth/breezedoc", params={"token": "no link"}).status_code == 400
    [line] = lines_of(house)
    assert line.detail["left_out"] == 1


def opened_tokens(house: House, connection_id: str) -> set[str]:
    credential = house.credential(connection_id)
    sealed = {"access_token": credential.access_token, "refresh_token": credential.refresh_token}
    return {
        house.vault.open(each, place_of_token(house.connection(connection_id), field)).reveal()
        for field, each in sealed.items()
        if each is not None
    }


def test_no_line_holds_a_secret(house: House) -> None:
    link = house.link("ada")
    begun = house.callback.begin("breezedoc", link, {}, "192.0.2.7")
    back = house.control.authorize(begun.location, 1)
    query = query_of(back)
    house.flows.exchange(house.callback.finish("breezedoc", query, {begun.flow: begun.binding}).id)
    secrets = {link, begun.binding, query["code"], query["state"], house.provider.client_secret}
    [connection] = [line.connection_id for line in lines_of(house) if line.action == "connection.authorized"]
    assert connection is not None
    for _ in range(2):
        secrets |= opened_tokens(house, connection)
        house.make_refresh_due(connection)
        house.sweep()
    house.flows.disconnect(connection, erase=True)
    AuditChain(house.store, house.clock)()
    with house.store.engine.connect() as sql:
        stored = str(sql.execute(text("SELECT * FROM audit")).all())
    exported = str([as_json(line) for line in lines_of(house)])
    assert len(secrets) == 9
    assert [secret for secret in secrets if secret in stored or secret in exported] == []
    assert all(line.number for line in lines_of(house))
