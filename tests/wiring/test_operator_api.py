"""The operator's API: who may use it, what it shows, what it does, and what it does with bad input."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from config.wiring import now
from models.crypto.secrets import Sealed
from models.gateway.call import CallStatus, StoredCall
from models.messaging.events import About, ConnectionRefreshed
from models.messaging.messages import Message
from models.oauth.authorization import Authorization, Step
from models.oauth.connection import Connection, Status
from models.oauth.credential import Credential
from models.oauth.hold import Refusal
from models.queue import MessageQueue
from models.store import Store
from models.webhooks.delivery import Delivery, letter_key
from models.webhooks.endpoint import Endpoint
from tests.databases import both_databases, create_sqlite, open_fast_engine
from tests.operator_site import Operator, operator_token, running_operator
from tests.statements import counting_statements
from tests.store.conftest import a_connection, an_authorization, noon
from worker.operator.views.connections import Search, load_connections
from worker.operator.views.overview import load_overview
from worker.operator.views.story import load_story
from worker.operator.views.webhooks import load_webhooks

views = (
    "overview",
    "connections",
    "authorizations",
    "dead-letters",
    "groups",
    "events",
    "providers",
    "queues",
    "webhooks",
)
strange = (
    "\0",
    "%00",
    "x" * 5_000,
    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    "' OR 1=1 --",
    "%",
    "_",
    "../../etc",
)


@pytest.fixture
def operator(migrated_url: str, redis_url: str) -> Iterator[Operator]:
    store = Store(open_fast_engine(migrated_url))
    with running_operator(store, redis_url) as running:
        yield running
    store.close()


def add(store: Store, **fields: Any) -> Connection:
    """A stored connection with a refresh token that opens nothing."""
    connection = a_connection(**fields)
    with store.writing() as tx:
        tx.connections.add(connection)
        tx.credentials.put(Credential(connection.id, Sealed("v1:a"), Sealed("v1:b")))
    return connection


def add_endpoint(store: Store, name: str = "app.example.com", **fields: Any) -> Endpoint:
    """A stored endpoint whose secret opens nothing, with one dead letter."""
    url = f"https://{name}/w"
    made = Endpoint(
        id=f"id-of-{name.partition('.')[0]}",
        name=name,
        url=url,
        types=("sync",),
        secret=Sealed("v1:a"),
        created_at=noon,
        **fields,
    )
    dead = Delivery(
        webhook_id=made.id,
        key=letter_key("e1"),
        published_from=noon,
        waits_since=noon,
        due_at=None,
        events_from=1,
        attempts=12,
        error="HTTP 500",
        dead_at=noon,
    )
    with store.writing() as tx:
        tx.webhooks.add(made)
        tx.webhooks.put_delivery(dead)
    return made


def bury(operator: Operator, message: Message) -> tuple[str, str]:
    """Leave a dead letter in Redis as Dramatiq does; return its queue and key."""
    queues = operator.sources.queues
    MessageQueue(queues.broker, queues.client).send(message)
    name = f"dramatiq:{message.queue}"
    client: Any = queues.client
    key = client.rpop(name)
    client.hset(f"{name}.XQ.msgs", key, client.hget(f"{name}.msgs", key))
    client.hdel(f"{name}.msgs", key)
    client.zadd(f"{name}.XQ", {key: time.time() * 1000})
    return message.queue, key


def test_without_the_token_nothing_is_shown_and_a_cookie_does_not_count(operator: Operator) -> None:
    browser = operator.signed_in()
    for answer in (
        httpx.get(f"{operator.url}/operator/api/overview", trust_env=False),
        httpx.get(f"{operator.url}/operator/api/overview", headers={"Authorization": "Bearer wrong"}, trust_env=False),
        httpx.get(f"{operator.url}/operator/api/nothing", trust_env=False),
        httpx.get(f"{operator.url}/operator/api", trust_env=False),
        browser.get("api/overview"),
        browser.post("api/providers/breezedoc/pause", json={}),
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert [action for _, action, _ in operator.audit()][:2] == ["operator.signed_in", "operator.refused"]


@both_databases
def test_an_empty_fleet_says_what_to_do_next(operator: Operator) -> None:
    overview = operator.get("overview")
    assert overview["is_empty"]
    assert overview["first_steps"][0].startswith("Make a link")
    assert {each["code"] for each in overview["attention"]} == {"no_scheduler", "no_worker"}
    assert (len(overview["refreshes_due"]), len(overview["activity"])) == (28, 36)
    for view in views:
        operator.get(view)
    bare = operator.client.get(
        f"{operator.url}/operator/api", headers={"Authorization": f"Bearer {operator_token.reveal()}"}
    )
    assert bare.json().keys() == overview.keys() == operator.get("").keys()


@both_databases
def test_connections_are_found_by_all_that_names_them(operator: Operator) -> None:
    store = operator.store
    ada = add(store, user="ada", account="77", email="Ada@Example.org")
    bob = add(store, user="bob", account="78", email="bob@example.org", created_at=noon + timedelta(hours=1))
    add(store, user="cleo", account="79", status=Status.revoked, revoked_reason="access_revoked")
    add(store, user="dan", account="80", problem="sync_failing")

    def find(**parameters: str) -> set[str]:
        return {row["connection"]["user_id"] for row in operator.get("connections", **parameters)["rows"]}

    everyone = {"ada", "bob", "cleo", "dan"}
    found = {
        "nothing": (find(), everyone),
        "a user": (find(q="ada"), {"ada"}),
        "an account": (find(q="78"), {"bob"}),
        "an address in another case": (find(q="ADA@ex"), {"ada"}),
        "the beginning of an address": (find(email="b"), {"bob"}),
        "the beginning of an id": (find(q=bob.id[:9]), {"bob"}),
        "an id in capitals": (find(q=ada.id.upper()), {"ada"}),
        "a status": (find(status="revoked"), {"cleo"}),
        "a problem": (find(problem="sync_failing"), {"dan"}),
        "any problem": (find(problem="any"), {"dan"}),
        "a provider": (find(provider="breezedoc"), everyone),
        "another provider": (find(provider="other"), set()),
        "two conditions": (find(q="ada", status="revoked"), set()),
        "an unknown status": (find(status="gone"), set()),
        "part of an address": (find(q="example"), set()),
        "a wildcard": (find(q="%"), set()),
    }
    assert {name: got for name, (got, wanted) in found.items() if got != wanted} == {}


@both_databases
def test_a_list_is_turned_in_both_directions(operator: Operator) -> None:
    made = [
        add(
            operator.store,
            user=f"u{n}",
            account=str(n),
            created_at=noon + timedelta(minutes=n // 2),
            problem="held" if n % 3 else "sync_failing",
        )
        for n in range(120)
    ]
    expected = [each.id for each in sorted(made, key=lambda each: (each.created_at, each.id), reverse=True)]
    for wanted in ({}, {"problem": "any"}, {"problem": "any", "provider": "breezedoc"}):
        pages = [operator.get("connections", **wanted)]
        while pages[-1]["older"]:
            pages.append(operator.get("connections", **wanted, older_than=pages[-1]["older"]))
        assert [row["connection"]["id"] for page in pages for row in page["rows"]] == expected
        assert [len(page["rows"]) for page in pages] == [50, 50, 20]
        back = operator.get("connections", **wanted, newer_than=pages[2]["newer"])
        assert back["rows"] == pages[1]["rows"]
        first = operator.get("connections", **wanted, newer_than=back["newer"])
        assert (first["rows"], first["newer"]) == (pages[0]["rows"], None)


@both_databases
def test_a_page_looks_at_so_many_connections_and_the_next_goes_on(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked for is rare among very many that are half like it."""
    monkeypatch.setattr("models.store.search.most_looked_at", 6)
    for n in range(21):
        add(
            operator.store,
            user=f"u{n}",
            account=str(n),
            provider="breezedoc" if n % 10 else "other",
            created_at=noon + timedelta(minutes=n // 2),
            problem="held" if n % 3 else "sync_failing",
        )

    def find_all(**wanted: str) -> tuple[list[str], int]:
        pages = [operator.get("connections", **wanted)]
        while pages[-1]["older"]:
            pages.append(operator.get("connections", **wanted, older_than=pages[-1]["older"]))
        assert [page["is_cut"] for page in pages] == [True] * (len(pages) - 1) + [False]
        return [row["connection"]["user_id"] for page in pages for row in page["rows"]], len(pages)

    assert find_all(provider="other", problem="any") == (["u20", "u10", "u0"], 4)
    assert find_all(provider="other", problem="sync_failing") == (["u0"], 2)
    assert find_all(status="active", problem="held", provider="other") == (["u20", "u10"], 3)
    assert find_all(problem="held")[1] == find_all(provider="other")[1] == 1
    shown = operator.get("connections", provider="none", problem="any")
    assert (shown["rows"], shown["newer"], shown["is_cut"]) == ([], None, True)


@both_databases
def test_a_story_has_what_happened_and_what_happens_next(operator: Operator) -> None:
    connection = add(operator.store, email="<script>alert(1)</script>@example.org")
    with operator.store.writing() as tx:
        tx.journal.decide(connection.id, noon, "sync.failed", reason="unreadable")
        tx.outbox.append(About("breezedoc", "ada", connection.id), [ConnectionRefreshed(2, None)], noon)
    story = operator.get(f"connections/{connection.id}")
    assert {moment["kind"] for moment in story["moments"]} == {"decision", "event"}
    assert [moment["is_bad"] for moment in story["moments"]] == [False, True]
    assert story["actions"] == ["refresh", "sync", "disconnect"]
    assert story["next_steps"]
    assert operator.ask("GET", f"authorizations/{connection.id}").status_code == 404


@both_databases
def test_authorizations_are_listed_by_how_they_ended(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"a": Step.started, "b": Step.failed, "c": Step.connected, "d": Step.denied}
    with operator.store.writing() as tx:
        for user, step in steps.items():
            made: Authorization = an_authorization(f"state {user}", user, step=step, reason="expired")
            tx.authorizations.add(made, f"link {user}")

    def users(**parameters: str) -> set[str]:
        return {row["user_id"] for row in operator.get("authorizations", **parameters)["rows"]}

    assert (users(), users(which="under_way"), users(which="failed")) == ({"a", "b", "d"}, {"a"}, {"b", "d"})
    assert users(user_id="b") == {"b"}
    assert operator.ask("GET", "authorizations", params={"which": "all"}).status_code == 400
    monkeypatch.setattr("models.store.search.most_looked_at", 1)
    pages = [operator.get("authorizations", which="under_way")]
    while pages[-1]["older"]:
        pages.append(operator.get("authorizations", which="under_way", older_than=pages[-1]["older"]))
    assert [row["user_id"] for page in pages for row in page["rows"]] == ["a"]
    assert [page["is_cut"] for page in pages] == [True, True, True, False]


@both_databases
def test_events_are_read_by_type_and_connection(operator: Operator) -> None:
    with operator.store.writing() as tx:
        for number in range(120):
            fact = [ConnectionRefreshed(number, None)]
            tx.outbox.append(About("breezedoc", "ada", f"c{number % 2}"), fact, noon)
    first = operator.get("events")
    second = operator.get("events", older_than=first["older"])
    assert (first["rows"][0]["data"]["generation"], second["rows"][0]["data"]["generation"]) == (119, 69)
    of_one = operator.get("events", connection_id="c1")
    assert {row["connection_id"] for row in of_one["rows"]} == {"c1"}
    assert len(operator.get("events", connection_id="c1", older_than=of_one["older"])["rows"]) == 10
    assert (operator.get("events", type="sync.failed")["rows"], operator.get("events", type="no")["rows"]) == ([], [])


@both_databases
def test_a_sync_and_a_refresh_are_asked_for_once_and_audited(operator: Operator) -> None:
    connection = add(operator.store)
    answers = [operator.post(f"connections/{connection.id}/{verb}") for verb in ("sync", "refresh", "refresh")]
    assert [answer.status_code for answer in answers] == [202, 202, 409]
    assert [message.actor for message in operator.sent] == ["carry_out_sync", "carry_out_refresh"]
    command = {"channel": "operator api"}
    assert operator.audit() == [
        ("operator:api", "command.received", command | {"command": "sync"}),
        ("operator:api", "command.received", command | {"command": "refresh"}),
    ]


@both_databases
def test_a_disconnect_needs_the_user_s_id(operator: Operator) -> None:
    connection = add(operator.store, user="<b>ada</b>")
    path = f"connections/{connection.id}/disconnect"
    assert [operator.post(path, confirmation=text).status_code for text in ("", "ada", connection.id)] == [422] * 3
    assert operator.audit() == []
    assert operator.post(path, erase=True, confirmation="<b>ada</b>").json()["done"] == "erase"
    with operator.store.reading() as tx:
        assert tx.connections.pending_disconnect(connection.id) is not None
    assert operator.audit()[0][2] == {"command": "disconnect", "channel": "operator api", "erase": True}


@both_databases
def test_a_provider_is_paused_held_released_and_accepted(operator: Operator) -> None:
    connection = add(operator.store)
    assert operator.post("providers/breezedoc/release").status_code == 409
    for verb, state in (("pause", "paused"), ("resume", "closed"), ("hold", "closed")):
        assert operator.post(f"providers/breezedoc/{verb}").status_code == 202
        assert operator.get("providers")["providers"][0]["clients"][0]["state"] == state
    refusal = Refusal(connection.id, "breezedoc", "client-1", 0, "refresh_rejected", "refresh", {}, noon, is_held=True)
    with operator.store.writing() as tx:
        tx.refusals.put(refusal)
    overview = operator.get("overview")
    assert [each["code"] for each in overview["attention"] if each["code"] == "held"] == ["held"]
    assert operator.post("providers/breezedoc/accept", confirmation="yes").status_code == 422
    assert operator.post("providers/breezedoc/accept", confirmation="breezedoc").status_code == 202
    for work in operator.aside:
        work()
    with operator.store.reading() as tx:
        ended = tx.connections.get(connection.id)
    assert ended is not None
    assert ended.status is Status.revoked
    by = {action: actor for actor, action, _ in operator.audit()}
    verbs = ("provider.paused", "provider.resumed", "provider.held", "provider.accepted", "connection.revoked")
    assert by == dict.fromkeys(verbs, "operator:api")


@both_databases
def test_dead_letters_are_retried_and_dropped(operator: Operator) -> None:
    places = [bury(operator, Message("carry_out_sync", {"connection_id": f"c{number}"})) for number in range(4)]
    shown = operator.get("dead-letters")
    assert (shown["total"], {letter["subject_id"] for letter in shown["letters"]}) == (4, {"c0", "c1", "c2", "c3"})
    first, second = (f"dead-letters/{queue}/{key}" for queue, key in places[:2])
    assert [operator.post(f"{first}/retry").status_code for _ in range(2)] == [202, 404]
    assert operator.post(f"{second}/drop").status_code == 422
    assert operator.post(f"{second}/drop", confirmation="drop").json()["dropped"] == 1
    assert operator.post("dead-letters/retry-all").json()["retried"] == 2
    assert operator.get("dead-letters")["total"] == 0
    actions = [action for _, action, _ in operator.audit()]
    assert actions == ["dead_letter.retried", "dead_letter.dropped", "dead_letter.retried", "dead_letter.retried"]


@both_databases
def test_an_endpoint_is_tested_retried_paused_and_resumed(operator: Operator) -> None:
    away_until = noon + timedelta(days=10_000)
    made = add_endpoint(operator.store, failures=3, failing_since=noon, error="ReadTimeout", retry_at=away_until)
    path = f"webhooks/{made.name}"

    def shown() -> Any:
        [endpoint] = operator.get("webhooks")["endpoints"]
        return endpoint

    assert (shown()["state"], shown()["error"], shown()["dead"]) == ("failing", "ReadTimeout", 1)
    codes = {each["code"] for each in operator.get("overview")["attention"]}
    assert codes >= {"webhook_failing", "webhook_dead_letters"}
    assert [operator.post(f"{path}/test").status_code for _ in range(2)] == [202, 202]
    assert (shown()["test"]["is_under_way"], shown()["retry_at"]) == (True, None)
    answers = [operator.post(f"{path}/{verb}").status_code for verb in ("resume", "retry", "pause", "test", "resume")]
    assert answers == [409, 202, 202, 409, 202]
    assert (shown()["state"], shown()["actions"]) == ("active", ["retry", "test", "pause"])
    assert (shown()["test"], shown()["waiting"]) == (None, 0)
    assert {(each.actor, each.kwargs["webhook_id"]) for each in operator.sent} == {("deliver_webhooks", made.id)}
    verbs = ("tested", "tested", "retried", "paused", "resumed")
    assert operator.audit() == [("operator:api", f"webhook.{verb}", {"webhook": made.name}) for verb in verbs]
    assert operator.post("webhooks/nothing/test").status_code == 404


@both_databases
def test_events_that_were_given_up_are_sent_again_and_dropped(operator: Operator) -> None:
    names = {"one", "other", "third"}
    for name in names:
        add_endpoint(operator.store, name)
    shown = operator.get("dead-letters")
    assert (shown["total"], {each["endpoint"] for each in shown["letters"]}) == (3, names)
    first, second, _ = (f"dead-letters/{each['queue']}/{each['key']}" for each in operator.get("webhooks")["letters"])
    assert [operator.post(f"{first}/retry").status_code for _ in range(2)] == [202, 404]
    assert operator.post(f"{second}/drop").status_code == 422
    assert operator.post(f"{second}/drop", confirmation="drop").json()["dropped"] == 1
    assert operator.post("dead-letters/retry-all").json()["retried"] == 1
    actions = [action for _, action, _ in operator.audit()]
    assert actions == ["dead_letter.retried", "dead_letter.dropped", "dead_letter.retried"]
    endpoints = operator.get("webhooks")["endpoints"]
    assert [sum(each[what] for each in endpoints) for what in ("waiting", "dead")] == [2, 0]


@both_databases
def test_calls_of_the_last_day_that_got_no_answer_are_pointed_out(operator: Operator) -> None:
    at = now()
    unknown = {"today": at, "two days ago": at - timedelta(days=2)}
    with operator.store.writing() as tx:
        for key, created_at in unknown.items():
            lost = StoredCall(
                id=key,
                connection_id="c1",
                idempotency_key=key,
                method="POST",
                path="/documents",
                actor="app",
                status=CallStatus.unknown,
                created_at=created_at,
                request=None,
                bodies_until=None,
                due_at=None,
            )
            tx.calls.add(lost)
            tx.calls.add(replace(lost, id=f"{key}, sent", idempotency_key="sent", status=CallStatus.completed))
    overview = operator.get("overview")
    [found] = [each for each in overview["attention"] if each["code"] == "calls_unknown"]
    assert (overview["calls_unknown"], found["path"]) == (1, "events?type=call.unknown")


@both_databases
def test_bad_input_changes_nothing_and_fails_nothing(operator: Operator) -> None:
    add(operator.store)
    statuses: dict[int, list[str]] = {}

    def note(what: str, answer: httpx.Response) -> None:
        statuses.setdefault(answer.status_code, []).append(what)

    for text in strange:
        for name in ("q", "user_id", "email", "id_prefix", "account_id", "provider", "status", "problem"):
            note(f"{name}={text[:9]!r}", operator.ask("GET", "connections", params={name: text}))
        for name in ("older_than", "newer_than"):
            assert operator.ask("GET", "connections", params={name: text}).status_code == 400
        for verb in ("pause", "test"):
            note(f"webhook {text[:9]!r}", operator.post(f"webhooks/{quote(text[:100], safe='')}/{verb}"))
        note("letter", operator.post(f"dead-letters/webhooks/{quote(text[:100], safe='')}.x/retry"))
        note("events", operator.ask("GET", "events", params={"connection_id": text, "type": text}))
        path = f"connections/{quote(text[:100], safe='')}"
        note(f"path {path[:30]}", operator.ask("GET", path))
        for verb in ("sync", "disconnect"):
            note(
                f"post {path[:30]}",
                operator.post(f"{path}/{verb}", confirmation=text[:500].encode("utf-8", "replace").decode()),
            )
    assert set(statuses) <= {200, 400, 404}, {status: what for status, what in statuses.items() if status >= 500}
    for body in (b"{", b"[]", b'{"erase": 1}', b'{"confirmation": 3}', b'{"other": 1}', b"[" * 5_000, b'"\xff"'):
        sent = operator.ask(
            "POST", "dead-letters/retry-all", content=body, headers={"Content-Type": "application/json"}
        )
        assert sent.status_code == 400, body
    assert operator.ask("POST", "dead-letters/retry-all", content=b"{}").status_code == 400
    too_long = operator.ask("POST", "dead-letters/retry-all", content=b" " * 20_000)
    assert (too_long.status_code, too_long.json()["type"]) == (413, "too_large")
    assert operator.ask("DELETE", "connections/x").status_code == 404
    for view, known in (("connections", "known are account_id, email, "), ("overview", "it takes none")):
        ignored = operator.ask("GET", view, params={"stauts": "revoked"})
        assert (ignored.status_code, f"stauts is no parameter of this view: {known}" in ignored.json()["detail"]) == (
            400,
            True,
        )
    assert (operator.audit(), operator.sent) == ([], [])


def test_without_redis_the_rest_is_shown_and_the_trouble_named(tmp_path: Path) -> None:
    store = Store(open_fast_engine(create_sqlite(tmp_path / "b.db")))
    with running_operator(store, "redis://127.0.0.1:1/0") as operator:
        overview = operator.get("overview")
        assert (overview["queues"], overview["attention"][0]["code"]) == (None, "redis")
        assert operator.get("dead-letters")["letters"] is None
        assert operator.get("groups")["streams"] is None
        assert operator.ask("POST", "dead-letters/retry-all").status_code == 503
    store.close()


@pytest.mark.parametrize("database", ["postgresql"])
def test_each_view_takes_a_bounded_number_of_statements(operator: Operator) -> None:
    store, sources = operator.store, operator.sources
    ids = [add(store, user=f"u{number}", account=str(number)).id for number in range(60)]

    def count(load: Any) -> int:
        with counting_statements(store.engine) as sent:
            load()
        return len(sent.statements)

    few, many = count(lambda: load_overview(sources)), 0
    with store.writing() as tx:
        for number in range(60):
            tx.journal.decide(ids[0], noon + timedelta(minutes=number), "sync.failed")
    many = count(lambda: load_overview(sources))
    assert few == many <= 29
    assert count(lambda: load_connections(sources, Search(text="u1"))) <= 5
    assert count(lambda: load_story(sources, ids[0])) <= 16
    for number in range(20):
        add_endpoint(store, f"app-{number}")
    assert count(lambda: load_webhooks(sources)) <= 8
    assert count(lambda: load_overview(sources)) == many
