"""The gateway beside real flows and the sandbox: what its keys may do, tokens, calls, and what is recorded of them."""

import asyncio
import http.client
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import fakeredis
import httpx
import pytest
from sqlalchemy import text

from models.audit.entry import Action
from models.gateway.access import usable
from models.gateway.problems import Problem
from models.oauth.connection import Connection, Status
from models.oauth.credential import place_of_token
from models.rate_limit import Wait
from tests.browsing import serving
from tests.databases import both_databases
from tests.gateway import KEYS, Counter, open_counter, reserved
from tests.harness import House
from worker.gateway.desk import Admission, Desk, Noted, Wish
from worker.provider.rate_limit import Account, Budgets, Change, Granted


@pytest.fixture
def counter(house: House) -> Iterator[Counter]:
    with open_counter(house) as opened:
        yield opened


@pytest.fixture
def ada(house: House) -> Connection:
    connection = house.connect("ada", 1)
    house.queue.held.clear()
    house.control.reset_counters()
    with house.store.engine.begin() as sql:
        sql.execute(text("UPDATE client SET omit_refresh_scope = (1 = 1)"))
    return connection


def expire(house: House, connection_id: str, seconds: float) -> None:
    """Have the stored token of an hour end in so many seconds; the provider still takes it."""
    with house.store.writing() as tx:
        found, credential = tx.connections.lock_pair(connection_id)
        assert found is not None
        assert credential is not None
        expires_at = house.clock() + timedelta(seconds=seconds)
        tx.connections.save(replace(found, expires_at=expires_at), found.generation)
        tx.credentials.put(replace(credential, issued_at=expires_at - timedelta(hours=1)))


def newest_token(house: House, connection_id: str) -> str:
    connection, sealed = house.connection(connection_id), house.credential(connection_id).access_token
    assert sealed is not None
    return house.vault.open(sealed, place_of_token(connection, "access_token")).reveal()


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"]


# Who may do what.


@pytest.mark.parametrize("given", [None, "", "wrong", "all all"])
def test_without_a_key_nothing_is_answered(counter: Counter, given: str | None) -> None:
    answers = [
        counter.ask("GET", "/v1/connections", given),
        counter.token("c", given or ""),
        counter.call("c", "me", key=given or ""),
    ]
    assert [problem(answer) for answer in answers] == [(401, "unauthorized")] * 3
    assert {answer.headers["www-authenticate"] for answer in answers} == {'Bearer realm="breezesync"'}


def test_wrong_keys_are_answered_so_often_and_right_ones_always(counter: Counter) -> None:
    counter.shell.door.per_minute = 3
    statuses = [counter.ask("GET", "/v1/connections", "wrong").status_code for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    assert counter.ask("GET", "/v1/connections").status_code == 200


def test_a_key_sees_the_connections_of_its_providers_only(counter: Counter, ada: Connection) -> None:
    assert counter.ask("GET", "/v1/connections", "elsewhere").json() == {"connections": [], "next_cursor": None}
    hidden = [
        counter.ask("GET", f"/v1/connections/{ada.id}", "elsewhere"),
        counter.token(ada.id, "elsewhere"),
        counter.call(ada.id, "me", key="elsewhere"),
        counter.ask("GET", "/v1/connections/nothing"),
        counter.token("%00"),
        counter.call("a" * 100, "me"),
    ]
    assert [problem(answer) for answer in hidden] == [(404, "connection_unknown")] * 6


def test_a_key_does_what_its_entry_says_and_no_more(counter: Counter, ada: Connection) -> None:
    refused = [
        counter.token(ada.id, "reads"),
        counter.call(ada.id, "documents", "POST", "reads"),
        counter.call(ada.id, "me", "GET", "tokens"),
    ]
    assert [problem(answer) for answer in refused] == [(403, "not_allowed")] * 3
    assert counter.call(ada.id, "me", key="reads").status_code == 200
    assert counter.token(ada.id, "tokens").status_code == 200


def test_an_unknown_address_or_method_is_a_problem_too(counter: Counter) -> None:
    assert problem(counter.ask("GET", "/v2/connections")) == (404, "not_found")
    assert problem(counter.ask("DELETE", "/v1/connections")) == (405, "method_not_allowed")
    assert counter.ask("GET", "/healthz", None).text == "ok\n"
    assert counter.ask("GET", "/readyz", None).text == "ready\n"
    assert counter.ask("GET", "/openapi.json", None).json()["openapi"] == "3.1.0"


# Connections.


def test_pages_that_look_at_few_connections_miss_none(
    counter: Counter, house: House, ada: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = sorted([ada.id, *(house.connect(user, 1).id for user in ("bob", "carol", "dora", "emil"))])
    active, ended = every[:3], every[3:]
    with house.store.engine.begin() as sql:
        for each in ended:
            sql.execute(text("UPDATE connection SET status = 'revoked' WHERE id = :id"), {"id": each})
    for looked_at in (1, 2, 3, 5):
        monkeypatch.setattr("models.store.gateway.most_looked_at", looked_at)
        assert walk(counter, "status=revoked&limit=1") == ended
        assert walk(counter, "status=active&provider=breezedoc") == active
        assert walk(counter, "limit=2") == every
        assert walk(counter, "user_id=ada&status=active") == [ada.id] * (ada.id in active)
        assert (
            walk(counter, "status=active&limit=1", "elsewhere")
            == walk(counter, "provider=breezedoc", "elsewhere")
            == []
        )


def walk(counter: Counter, query: str, key: str = "all") -> list[str]:
    """Return the ids of all pages of a list."""
    found, cursor = list[str](), ""
    while True:
        page = counter.ask("GET", f"/v1/connections?{query}{cursor}", key).json()
        found += [each["id"] for each in page["connections"]]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def test_connections_are_listed_page_by_page(counter: Counter, house: House, ada: Connection) -> None:
    others = [house.connect(user, 1).id for user in ("bob", "carol", "dora")]
    house.control.revoke_user(1)
    assert walk(counter, "limit=2") == sorted([ada.id, *others])
    [own] = counter.ask("GET", "/v1/connections?user_id=ada&provider=breezedoc&status=active").json()["connections"]
    assert (own["id"], own["account_id"], own["generation"], "connect_path" in own) == (ada.id, "1", 1, False)
    assert own == counter.ask("GET", f"/v1/connections/{ada.id}").json()


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=x", "limit=201", "status=gone", "user=ada", "user_id=a&user_id=b", "cursor=%00", "user_id="],
)
def test_a_query_that_can_t_be_read_is_refused(counter: Counter, query: str) -> None:
    assert problem(counter.ask("GET", f"/v1/connections?{query}")) == (400, "bad_request")


# Tokens.


def test_a_token_that_lives_long_enough_is_given_and_recorded(counter: Counter, house: House, ada: Connection) -> None:
    answer = counter.token(ada.id, min_ttl=600)
    given = answer.json()
    assert given["access_token"] == newest_token(house, ada.id)
    assert (given["token_type"], given["generation"]) == ("Bearer", 1)
    assert answer.headers["cache-control"] == "no-store"
    [line] = counter.audited("token.given")
    assert (line.actor, line.connection_id, line.user_id) == ("gateway:billing", ada.id, "ada")
    assert line.detail == {"generation": 1, "min_ttl": 600}
    assert counter.courier.seen == []


@pytest.mark.parametrize(
    "body", ["[]", "{", '{"min_ttl": "60"}', '{"min_ttl": 3601}', '{"min_ttl": -1}', '{"ttl": 1}', '{"min_ttl": true}']
)
def test_a_request_for_a_token_that_can_t_be_read_is_refused(counter: Counter, ada: Connection, body: str) -> None:
    answer = counter.ask("POST", f"/v1/connections/{ada.id}/token", content=body)
    assert problem(answer) == (400, "bad_request")
    assert counter.ask("POST", f"/v1/connections/{ada.id}/token").status_code == 200


@both_databases
def test_twenty_that_ask_at_once_join_one_refresh(counter: Counter, house: House, ada: Connection) -> None:
    expire(house, ada.id, 30)
    house.control.set(latency_ms=200)
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: counter.token(ada.id), range(20)))
    house.control.set(latency_ms=0)
    assert [answer.status_code for answer in answers] == [200] * 20
    assert {answer.json()["generation"] for answer in answers} == {2}
    assert house.presentations() == 1
    assert len(counter.audited("token.given")) == 20
    assert len(counter.audited("command.received")) == 1
    assert len(counter.office.waiting) == 0


def test_a_token_refreshed_just_now_is_given_however_long_it_lives(
    counter: Counter, house: House, ada: Connection
) -> None:
    house.control.set(access_ttl=30)
    expire(house, ada.id, 1)
    given = counter.token(ada.id, min_ttl=60).json()
    again = counter.token(ada.id, min_ttl=60).json()
    assert (given["generation"], again["generation"], house.presentations()) == (2, 2, 1)


def test_a_wait_is_bounded(house: House, ada: Connection) -> None:
    with open_counter(house, wait_seconds=0.3) as counter:
        counter.courier.is_idle = True
        expire(house, ada.id, 1)
        answer = counter.token(ada.id)
        assert problem(answer) == (503, "provider_unavailable")
        assert int(answer.headers["retry-after"]) > 0


def test_who_revoked_or_disconnected_has_to_authorize_again(counter: Counter, house: House, ada: Connection) -> None:
    bob = house.connect("bob", 2)
    house.queue.held.clear()
    house.flows.disconnect(bob.id)
    house.control.revoke_user(1)
    expire(house, ada.id, 1)
    for connection in (ada, bob):
        for answer in (counter.token(connection.id), counter.call(connection.id, "me")):
            assert problem(answer) == (409, "reauthorization_required")
            assert answer.json()["connect_path"] == "/auth/breezedoc"
        assert counter.ask("GET", f"/v1/connections/{connection.id}").json()["connect_path"] == "/auth/breezedoc"


@dataclass
class Slow:
    """The budgets of a Redis that takes a second, in which something happens."""

    house: House
    meanwhile: Callable[[], object]
    budgets: Budgets = field(default_factory=lambda: Budgets(fakeredis.FakeRedis(server=fakeredis.FakeServer())))
    settled: list[Change] = field(default_factory=list)

    def reserve_all(self, accounts: Sequence[Account]) -> list[Granted | Wait]:
        self.house.turn(seconds=1)
        self.meanwhile()
        return self.budgets.reserve_all(accounts)

    def settle_all(self, settled: Sequence[Change]) -> None:
        self.settled.extend(settled)


def admit_slowly(
    house: House, ada: Connection, reserves: bool, meanwhile: Callable[[], object]
) -> tuple[Admission, Slow]:
    """Return what a wish comes to if `meanwhile` happens while Redis is waited for."""
    slow = Slow(house, meanwhile)
    desk = Desk(house.store, house.vault, {house.profile.name: house.profile}, slow, house.queue.send, house.clock)  # type: ignore[arg-type]  # they act as budgets
    noted = Noted(Action.token_given, {}, says_generation=True)
    [admitted] = desk.admit([Wish(KEYS["all"], ada.id, usable, reserves, noted)])
    assert isinstance(admitted, Admission)
    return admitted, slow


def given(house: House) -> list[object]:
    """Return the generations of which the audit says that their token was given."""
    with house.store.reading() as tx:
        return [line.detail["generation"] for line in tx.audit.newest({}, None, 100) if line.action == "token.given"]


@pytest.mark.parametrize("reserves", [True, False], ids=["a call", "a token"])
def test_who_disconnects_while_redis_is_waited_for_ends_what_was_admitted(
    house: House, ada: Connection, reserves: bool
) -> None:
    admitted, slow = admit_slowly(house, ada, reserves, lambda: house.flows.disconnect(ada.id))
    assert isinstance(admitted.plan, Problem)
    assert (admitted.plan.type, admitted.token, admitted.granted) == ("reauthorization_required", None, None)
    assert (len(slow.settled), given(house)) == (reserves, [])


def test_a_token_that_is_replaced_while_redis_is_waited_for_is_given_as_it_is_then(
    house: House, ada: Connection
) -> None:
    def refresh() -> None:
        house.make_refresh_due(ada.id)
        house.flows.refresh(ada.id)

    admitted, slow = admit_slowly(house, ada, True, refresh)
    assert admitted.token is not None
    assert admitted.token.reveal() == newest_token(house, ada.id)
    assert isinstance(admitted.granted, Granted)
    assert (slow.settled, given(house)) == ([], [ada.generation + 1])


def test_behind_an_open_breaker_or_held_no_one_waits(counter: Counter, house: House, ada: Connection) -> None:
    expire(house, ada.id, 1)
    with house.store.engine.begin() as sql:
        sql.execute(text("UPDATE connection SET problem = 'held', refresh_due_at = NULL"))
    started = time.monotonic()
    assert problem(counter.token(ada.id)) == (503, "held")
    with house.store.engine.begin() as sql:
        sql.execute(text("UPDATE connection SET problem = NULL"))
        sql.execute(text("UPDATE client SET paused_at = '2026-01-01 00:00:00'"))
    answers = [counter.token(ada.id), counter.call(ada.id, "me")]
    assert [problem(answer) for answer in answers] == [(503, "provider_unavailable")] * 2
    assert time.monotonic() - started < 5
    assert house.presentations() == 0


# Calls.


def test_a_call_is_answered_by_the_provider_and_recorded(counter: Counter, house: House, ada: Connection) -> None:
    answer = counter.call(ada.id, "documents?page=1", key="reads", headers={"Accept": "application/json"})
    assert (answer.status_code, answer.headers["breezesync-source"]) == (200, "provider")
    assert len(answer.json()["data"]) > 0
    counter.flush()
    [line] = counter.audited("call.made")
    assert (line.actor, line.user_id, line.detail) == (
        "gateway:reports",
        "ada",
        {"method": "GET", "path": "/documents"},
    )
    with house.store.reading() as tx:
        logged = tx.journal.calls_of(ada.id)[-1]
    assert (logged.method, logged.path, logged.status) == ("GET", "/documents", 200)
    assert [message.actor for message in counter.courier.seen] == []


@dataclass
class Api:
    """A provider's API that a test makes up. `seen` are the requests that came whole."""

    url: str = ""
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=lambda: [b"{}"])
    pause: float = 0
    reads_body: bool = True
    statuses: list[int] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body, more = b"", self.reads_body
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        target = scope["raw_path"].decode() + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
        self.seen.append((scope["method"], target, headers, body))
        status = self.statuses.pop(0) if self.statuses else self.status
        await send({"type": "http.response.start", "status": status, "headers": self.headers})
        for chunk in self.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if self.pause:
                await asyncio.sleep(self.pause)
        await send({"type": "http.response.body", "body": b""})


@contextmanager
def made_up(house: House, **options: Any) -> Iterator[tuple[Api, Counter]]:
    api = Api()
    with serving(api) as url:
        api.url = url
        with open_counter(house, api_url=f"{url}/base/v1", **options) as counter:
            yield api, counter


def raw(counter: Counter, target: str, method: str = "GET", **headers: str) -> int:
    """Return the status for a request that is sent as it is, without a body."""
    address = urlsplit(counter.url)
    client = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    client.putrequest(method, target)
    for name, value in {"Authorization": "Bearer all", **headers}.items():
        client.putheader(name.replace("_", "-"), value)
    client.endheaders()
    status = client.getresponse().status
    client.close()
    return status


def test_only_what_is_below_the_api_is_called(house: House, ada: Connection) -> None:
    with made_up(house) as (api, counter):
        base = f"/v1/connections/{ada.id}/proxy"
        for path in (
            "../admin",
            "%2e%2e/x",
            "%252e%252e/x",
            "/evil.example/x",
            "a//b",
            "a%5cb",
            "http://evil/",
            "a%00",
            "..;/a",
        ):
            assert raw(counter, f"{base}/{path}") == 400, path
        assert raw(counter, f"/v1/connections/{ada.id}%2Fproxy/me") == 400
        assert raw(counter, f"/v1/connections/{ada.id}/%70roxy/me") == 400
        assert api.seen == []
        assert raw(counter, f"{base}/a%2Fb/@c?x=%2e%2e/&y=//z") == 200
        assert api.seen[0][1] == "/base/v1/a%2Fb/@c?x=%2e%2e/&y=//z"


def test_headers_of_the_hop_and_of_the_caller_stay_behind(house: House, ada: Connection) -> None:
    with made_up(house) as (api, counter):
        api.headers = [(b"set-cookie", b"a=b"), (b"strict-transport-security", b"max-age=9"), (b"x-ok", b"1")]
        answer = counter.call(
            ada.id,
            "a",
            "POST",
            headers={"Cookie": "c=1", "X-Forwarded-For": "1.2.3.4", "X-Ok": "2", "X-HTTP-Method-Override": "DELETE"},
            content=b"body",
        )
        [(method, _, headers, body)] = api.seen
    assert (method, body) == ("POST", b"body")
    token = newest_token(house, ada.id)
    assert (headers["authorization"], headers["host"]) == (f"Bearer {token}", urlsplit(api.url).netloc)
    assert (headers["x-ok"], headers["content-length"]) == ("2", "4")
    assert not headers.keys() & {"cookie", "x-forwarded-for", "x-http-method-override"}
    assert answer.headers["x-ok"] == "1"
    assert not {"set-cookie", "strict-transport-security"} & set(answer.headers)


def test_redirects_are_passed_on(house: House, ada: Connection) -> None:
    with made_up(house) as (api, counter):
        api.status, api.headers = 302, [(b"location", b"https://evil.example/")]
        answer = counter.call(ada.id, "a")
        assert (answer.status_code, answer.headers["location"], len(api.seen)) == (302, "https://evil.example/", 1)


def test_long_bodies_stream_in_both_directions(house: House, ada: Connection) -> None:
    with made_up(house) as (api, counter):
        sent = bytes(4 << 20)
        api.chunks = [bytes(1 << 20)] * 8
        answer = counter.call(ada.id, "a", "PUT", content=sent)
        assert (answer.status_code, len(answer.content), len(api.seen[0][3])) == (200, 8 << 20, 4 << 20)
        assert api.seen[0][2]["content-length"] == str(4 << 20)
        answer = counter.call(ada.id, "a", "PUT", content=iter([bytes(1 << 20)] * 2))
        assert (len(api.seen[1][3]), api.seen[1][2].get("transfer-encoding")) == (2 << 20, "chunked")


def test_a_body_that_is_too_long_is_refused(house: House, ada: Connection) -> None:
    with made_up(house) as (api, counter):
        assert raw(counter, f"/v1/connections/{ada.id}/proxy/a", "PUT", Content_Length=str(11 << 20)) == 413
        with suppress(httpx.TransportError):
            assert problem(counter.call(ada.id, "a", "PUT", content=iter([bytes(1 << 20)] * 11))) == (413, "too_large")
        assert api.seen == []


def test_an_answer_that_is_too_long_is_refused_or_cut(
    house: House, ada: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.gateway.call.longest_answer", 1000)
    with made_up(house) as (api, counter):
        api.headers, api.chunks = [(b"content-length", b"1001")], [bytes(1001)]
        assert problem(counter.call(ada.id, "a")) == (502, "answer_unusable")
        api.headers = []
        with pytest.raises(httpx.RemoteProtocolError):
            counter.call(ada.id, "a")


def test_a_provider_that_does_not_answer_is_given_up(
    house: House, ada: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.gateway.call.longest_call", 0.5)
    with made_up(house) as (api, counter):
        api.chunks, api.pause = [b"."] * 12, 0.1
        with pytest.raises(httpx.RemoteProtocolError):
            counter.call(ada.id, "drips")
        counter.flush()
    with open_counter(house, api_url="http://127.0.0.1:1") as away:
        answer = away.call(ada.id, "a", "POST")
        assert problem(answer) == (503, "provider_unavailable")
        assert answer.json()["carried_out"] == "no"
        away.flush()
        assert "carry_out_sync" not in [message.actor for message in away.courier.seen]


def test_a_token_that_was_rotated_meanwhile_is_replaced(house: House, ada: Connection) -> None:
    with made_up(house) as (api, counter):
        api.statuses = [401]
        before = newest_token(house, ada.id)
        admit = counter.office.desk.refuse

        def refresh_first(connection_id: str, generation: int) -> Any:
            house.make_refresh_due(connection_id)
            house.flows.refresh(connection_id)
            return admit(connection_id, generation)

        object.__setattr__(counter.office, "desk", Wrapped(counter.office.desk, refresh_first))
        answer = counter.call(ada.id, "a", "POST", content=b"again")
        assert (answer.status_code, [each[3] for each in api.seen]) == (200, [b"again", b"again"])
        assert [each[2]["authorization"] for each in api.seen] == [
            f"Bearer {before}",
            f"Bearer {newest_token(house, ada.id)}",
        ]
    assert house.presentations() == 1


class Wrapped:
    """A desk with another way to report a 401."""

    def __init__(self, desk: Any, refuse: Any) -> None:
        self.desk, self.refuse = desk, refuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self.desk, name)


@both_databases
def test_a_401_of_the_current_token_forces_a_refresh_once(counter: Counter, house: House, ada: Connection) -> None:
    house.control.expire(1)
    answer = counter.call(ada.id, "me")
    assert (answer.status_code, house.connection(ada.id).generation, house.presentations()) == (200, 2, 1)
    counter.flush()
    with house.store.reading() as tx:
        assert [each.status for each in tx.journal.calls_of(ada.id)[-2:]] == [401, 200]
        assert "access.refused" in [each.verb for each in tx.journal.decisions_of(ada.id)]
    assert len(counter.audited("call.made")) == 1


def test_an_api_that_refuses_every_token_is_believed_after_one_refresh(house: House, ada: Connection) -> None:
    with made_up(house) as (api, counter):
        api.status, api.headers = 401, [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
        answers = [counter.call(ada.id, "a") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [401] * 3
        assert {answer.headers["breezesync-source"] for answer in answers} == {"provider"}
    assert (house.presentations(), house.connection(ada.id).status) == (1, Status.active)


def test_a_grant_that_is_dead_is_found_by_a_call(counter: Counter, house: House, ada: Connection) -> None:
    house.control.revoke_user(1)
    answer = counter.call(ada.id, "me")
    assert problem(answer) == (409, "reauthorization_required")
    assert (house.connection(ada.id).status, house.types().count("connection.reauthorization_required")) == (
        Status.revoked,
        1,
    )


def test_a_firewall_s_401_proves_nothing(house: House, ada: Connection) -> None:
    with made_up(house) as (api, counter):
        api.status, api.headers, api.chunks = 401, [(b"content-type", b"text/html")], [b"<html>"]
        answer = counter.call(ada.id, "a")
        assert (answer.status_code, answer.text, counter.courier.seen) == (401, "<html>", [])


def test_what_is_written_is_read_soon(house: House, ada: Connection) -> None:
    with made_up(house) as (api, counter):
        counter.courier.is_idle = True
        with house.store.engine.begin() as sql:
            sql.execute(text("UPDATE connection SET sync_due_at = NULL, sync_requested = false"))
        counter.call(ada.id, "a", "GET")
        counter.flush()
        assert house.connection(ada.id).sync_due_at is None
        api.status = 422
        counter.call(ada.id, "a", "POST")
        counter.flush()
        assert house.connection(ada.id).sync_due_at is None
        api.status = 201
        counter.call(ada.id, "a", "POST")
        counter.flush()
        after = house.connection(ada.id)
        assert (after.sync_requested, after.sync_due_at is not None) == (True, True)
        assert [message.actor for message in counter.courier.seen] == ["carry_out_sync"]


def test_the_account_s_limit_is_kept_with_syncs_beside(house: House, ada: Connection) -> None:
    with made_up(house, api_requests_per_minute=20) as (api, counter):
        statuses = [counter.call(ada.id, "a").status_code for _ in range(22)]
        assert (statuses, len(api.seen)) == ([200] * 20 + [429] * 2, 20)
        answer = counter.call(ada.id, "a")
        assert problem(answer) == (429, "rate_limited")
        assert 1 <= int(answer.headers["retry-after"]) <= 61


def test_no_call_and_no_sync_is_over_the_limit_when_both_go_on_at_once(house: House) -> None:
    linus = house.connect("linus", 3)
    house.queue.held.clear()
    redis = house.flows.refresh.providers["breezedoc"].budgets.redis
    with open_counter(house, redis) as counter, ThreadPoolExecutor(5) as threads:
        syncing = threads.submit(house.flows.sync, linus.id)
        statuses = list(threads.map(lambda _: counter.call(linus.id, "me").status_code, range(40)))
        syncing.result()
        counter.flush()
    counted = house.control.counters(tokens=False)
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) >= 3, "a sync leaves a share"
    assert sum(each.get("429", 0) for each in counted["totals"].values()) == 0
    assert sum(counted["api_requests"]["3"].values()) <= 60


def test_a_429_of_the_provider_stops_everyone_for_as_long_as_it_says(house: House, ada: Connection) -> None:
    with made_up(house) as (api, counter):
        api.status, api.headers = 429, [(b"retry-after", b"30")]
        answer = counter.call(ada.id, "a")
        assert (answer.status_code, answer.headers["breezesync-source"]) == (429, "provider")
        counter.flush()
        answer = counter.call(ada.id, "a")
        assert problem(answer) == (429, "rate_limited")
        assert (25 <= int(answer.headers["retry-after"]) <= 30, len(api.seen)) == (True, 1)


def test_no_call_leaves_that_the_audit_does_not_have(house: House, ada: Connection) -> None:
    with made_up(house) as (api, counter):
        with house.store.engine.begin() as sql:
            sql.execute(text("ALTER TABLE audit RENAME TO gone"))
        try:
            answers = [counter.call(ada.id, "a"), counter.token(ada.id)]
        finally:
            with house.store.engine.begin() as sql:
                sql.execute(text("ALTER TABLE gone RENAME TO audit"))
        assert [problem(answer) for answer in answers] == [(503, "unavailable")] * 2
        assert (api.seen, reserved(counter, house)) == ([], set())
        assert counter.call(ada.id, "a").status_code == 200
