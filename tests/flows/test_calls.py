"""Calls as jobs beside real flows and the sandbox: at most once, whatever dies, and with one event in the end."""

import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from redis.exceptions import NoPermissionError
from sqlalchemy import text

import worker.deadlines
from models.crypto.rotation import reseal
from models.crypto.vault import Vault, new_key
from models.errors import RedisUnavailable, StoreUnavailable
from models.gateway.call import CallStatus, StoredCall, longest_life
from models.gateway.call_request import read_call
from models.gateway.keys import GatewayKey
from models.gateway.problems import Refusal
from models.messaging import messages
from models.oauth.connection import Connection, Status, disconnect
from models.store.sealed_fields import fields
from scheduler.command_stream import Commands
from scheduler.prune import Prune
from scheduler.sweep import Sweep
from tests.databases import both_databases
from tests.gateway import KEYS, open_counter
from tests.harness import House
from tests.key_server import KeyServer
from tests.made_up_api import MadeUpApi, all_at_once, serving_api
from tests.servers import absent_redis, wait_until
from worker.calls.kept_answers import KeptAnswers
from worker.gateway.calls import Calls
from worker.gateway.desk import Desk
from worker.provider.rate_limit import Budgets
from worker.tokens.data_keys import DataKeys
from worker.tokens.end_connection import end_connection

pytestmark = pytest.mark.usefixtures("everything_is_told")
title = "Contract 4711"


@pytest.fixture
def ada(house: House) -> Connection:
    connection = house.connect("ada", 1)
    house.work()
    house.control.reset_counters()
    return connection


def calls_of(house: House, send: Callable[[messages.Message], None] | None = None) -> Calls:
    budgets = Budgets(fakeredis.FakeRedis(server=fakeredis.FakeServer()))
    providers = {house.profile.name: house.profile}
    return Calls(Desk(house.store, house.vault, providers, budgets, send or house.queue.send, house.clock))


def ask(
    house: House, connection: Connection, key: GatewayKey = KEYS["all"], calls: Calls | None = None, **more: Any
) -> StoredCall:
    """Leave a call with the gateway: a new document, unless `more` says something else."""
    asked = {"method": "POST", "path": "documents", "body": {"title": title}, "idempotency_key": "one"} | more
    given = {name: value for name, value in asked.items() if value is not None}
    return (calls or calls_of(house)).accept(key, connection.id, read_call(json.dumps(given).encode()), "10.0.0.1")


def read(house: House, connection: Connection, **more: Any) -> StoredCall:
    return ask(house, connection, method="GET", path="me", body=None, **more)


def stored(house: House, call: StoredCall) -> StoredCall:
    with house.store.reading() as tx:
        found = tx.calls.get(call.id)
    assert found is not None
    return found


def made(house: House) -> int:
    """Return how many documents the provider has of those that were asked for."""
    return sum(document["title"] == title for document in house.control.documents(1))


def published(house: House) -> list[tuple[str, int | None]]:
    return [(event["type"], event["status"]) for event in house.told() if event["type"].startswith("call.")]


def come_back(house: House, **length: float) -> None:
    """Lose every message, wait, and let the scheduler find what is due."""
    house.queue.held.clear()
    house.turn(**(length or {"seconds": 61}))
    house.sweep()


# A call's way.


def test_a_call_is_carried_out_once_and_its_effect_is_read(house: House, ada: Connection) -> None:
    call = ask(house, ada)
    assert (call.status, house.queue.held) == (CallStatus.pending, [messages.call(call.id)])
    house.work()
    done = stored(house, call)
    shown = calls_of(house).show(done)
    assert (shown["status"], shown["attempts"], shown["reason"], made(house)) == ("completed", 1, None, 1)
    answer: Any = shown["answer"]
    assert (answer["status"], answer["encoding"], answer["body"]["title"]) == (201, "json", title)
    assert published(house) == [("call.completed", 201)]
    with house.store.reading() as tx:
        assert str(answer["body"]["id"]) in tx.records.living_ids(ada.id, "document", "document")
        [line] = [line for line in tx.audit.newest({}, None, 1000) if line.action == "call.made"]
        logged = [(each.method, each.path, each.status) for each in tx.journal.calls_of(ada.id)]
    assert (line.actor, line.user_id, line.address) == ("gateway:billing", "ada", "10.0.0.1")
    assert line.detail == {"method": "POST", "path": "/documents", "call_id": call.id}
    assert ("POST", "/documents", 201) in logged


def test_a_message_that_comes_again_changes_nothing(house: House, ada: Connection) -> None:
    call = ask(house, ada)
    house.work()
    for _ in range(2):
        house.perform(messages.call(call.id))
    house.perform(messages.call("unknown"))
    assert (made(house), published(house)) == (1, [("call.completed", 201)])


def test_an_answer_of_4xx_is_an_answer(house: House, ada: Connection) -> None:
    call = ask(house, ada, body={})
    house.work()
    answer: Any = calls_of(house).show(stored(house, call))["answer"]
    assert (answer["status"], list(answer["body"]["errors"])) == (422, ["title"])
    assert published(house) == [("call.completed", 422)]


# The same call.


def test_one_idempotency_key_is_one_call(house: House, ada: Connection) -> None:
    first = ask(house, ada)
    house.work()
    assert ask(house, ada) == stored(house, first)
    assert house.work() == 0
    differing: list[dict[str, Any]] = [
        {"body": {"title": "another"}},
        {"path": "documents?page=2"},
        {"method": "PUT"},
        {"headers": {"Prefer": "x"}},
    ]
    for more in differing:
        with pytest.raises(Refusal) as refused:
            ask(house, ada, **more)
        assert refused.value.problem.type == "idempotency_conflict"
    assert ask(house, ada, idempotency_key="two").id != first.id


@both_databases
def test_two_that_ask_at_once_with_one_key_get_one_call(house: House, ada: Connection) -> None:
    with ThreadPoolExecutor(4) as threads:
        ids = {call.id for call in threads.map(lambda _: ask(house, ada), range(4))}
    assert len(ids) == 1


@both_databases
def test_two_jobs_that_have_read_one_call_send_it_once(house: House, ada: Connection) -> None:
    call = ask(house, ada)
    both = threading.Barrier(2, timeout=20)
    watch(house, before_reserve=both.wait)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(house.flows.call, [call.id] * 2))
    assert (made(house), stored(house, call).attempts) == (1, 1)
    house.work()


# Its connection ends, or gets another token, meanwhile.


def test_a_call_whose_connection_is_disconnected_while_redis_is_waited_for_does_not_leave(
    house: House, ada: Connection
) -> None:
    call = ask(house, ada)
    watch(house, before_reserve=lambda: house.flows.disconnect(ada.id))
    house.flows.call(call.id)
    ended = stored(house, call)
    assert (ended.status, ended.reason, ended.attempts) == (CallStatus.failed, "reauthorization_required", 0)
    assert (made(house), published(house)) == (0, [("call.failed", None)])


def test_a_call_whose_token_is_replaced_while_redis_is_waited_for_leaves_with_the_new_one(
    house: House,
) -> None:
    ada, alive = house.refreshable(), house.flows
    call = ask(house, ada)
    watch(house, before_reserve=lambda: alive.refresh(ada.id))
    house.flows.call(call.id)
    house.flows = alive
    assert (stored(house, call).attempts, house.connection(ada.id).generation) == (0, ada.generation + 1)
    house.work()
    assert (stored(house, call).status, stored(house, call).attempts, made(house)) == ("completed", 1, 1)


def test_a_call_whose_connection_is_erased_while_a_key_server_is_waited_for_is_not_stored(
    house: House, ada: Connection
) -> None:
    class Slow(KeyServer):
        """It takes as long as an erasure does."""

        def note(self, what: str) -> None:
            house.flows.disconnect(ada.id, erase=True)

    calls = calls_of(house)
    calls = Calls(replace(calls.desk, vault=Vault(house.keys, DataKeys(Slow()))))
    with pytest.raises(Refusal) as refused:
        ask(house, ada, calls=calls)
    assert refused.value.problem.type == "reauthorization_required"
    with house.store.reading() as tx:
        assert tx.calls.by_key(ada.id, "one") is None


@pytest.mark.parametrize("database", ["postgresql"])
@pytest.mark.parametrize("step", ["it is accepted", "it leaves"])
def test_a_disconnect_that_is_not_yet_committed_is_waited_for_before_a_call(
    house: House, ada: Connection, step: str
) -> None:
    waiting = ask(house, ada) if step == "it leaves" else None

    def act() -> None:
        if waiting is not None:
            house.flows.call(waiting.id)
        else:
            with pytest.raises(Refusal):
                ask(house, ada)

    with ThreadPoolExecutor(1) as pool:
        with house.store.writing() as tx:
            connection, credential = tx.connections.lock_pair(ada.id)
            assert connection is not None
            transition = disconnect(connection, house.clock(), told_later=False)
            end_connection(tx, transition, credential, "disconnected", house.clock())
            acting = pool.submit(act)
            wait_until(lambda: waits_for_lock(house), "the connection's lock to be waited for")
        acting.result()
    with house.store.reading() as tx:
        call = tx.calls.by_key(ada.id, "one")
    assert made(house) == 0
    assert (None if call is None else call.reason) == (None if waiting is None else "reauthorization_required")


def waits_for_lock(house: House) -> bool:
    """Return whether a session of the house's database waits for a lock."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with house.store.engine.connect() as sql:
        return bool(sql.execute(text(waits)).scalar_one())


# Who dies when.


class Killed(BaseException):
    """The process has gone: nothing of it runs any more."""


def kill(*_: object) -> None:
    raise Killed


def do_nothing(*_: object) -> None:
    """Let it live."""


@dataclass
class Watched:
    """A provider client at whose steps something happens."""

    client: Any
    before_reserve: Callable[[], object] = do_nothing
    before_call: Callable[[], object] = do_nothing
    after_call: Callable[[], object] = do_nothing
    budgets: Any = field(init=False)

    def __post_init__(self) -> None:
        self.budgets = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def reserve(self, *given: Any) -> Any:
        self.before_reserve()
        return self.client.budgets.reserve(*given)

    def settle(self, *given: Any) -> None:
        self.client.budgets.settle(*given)

    def call(self, *given: Any) -> Any:
        self.before_call()
        called = self.client.call(*given)
        self.after_call()
        return called


def watch(house: House, **acts: Callable[[], object]) -> None:
    providers: dict[str, Any] = {name: Watched(client, **acts) for name, client in house.flows.call.providers.items()}
    house.flows = replace(house.flows, call=replace(house.flows.call, providers=providers))


POINTS: dict[str, tuple[str, str, int]] = {
    "before_reserve": ("the call is due as it was", "completed", 1),
    "before_call": ("the intent is committed, nothing has left", "unknown", 0),
    "after_call": ("the provider has answered, nothing is saved", "unknown", 1),
    "send": ("the answer is saved, no message has left", "completed", 1),
}


@pytest.mark.parametrize("is_safe", [False, True], ids=["unsafe", "safe"])
@pytest.mark.parametrize("point", POINTS)
def test_who_is_killed_at_any_point_sends_a_write_once_at_most(
    house: House, ada: Connection, point: str, is_safe: bool
) -> None:
    _, unsafe_end, documents = POINTS[point]
    synced_at = house.connection(ada.id).last_synced_at
    call = read(house, ada) if is_safe else ask(house, ada)
    alive = house.flows
    if point == "send":
        house.flows = replace(alive, call=replace(alive.call, send=kill))
    else:
        watch(house, **{point: kill})
    with pytest.raises(Killed):
        house.flows.call(call.id)
    house.flows = alive
    come_back(house)
    end = "completed" if is_safe else unsafe_end
    assert (stored(house, call).status, made(house)) == (end, 0 if is_safe else documents)
    assert [type_ for type_, _ in published(house)] == [f"call.{end}"]
    assert stored(house, call).due_at is None
    if end == "unknown":
        [verdict] = [each for each in house.decisions(ada.id) if each.verb == "call.unknown"]
        assert verdict.evidence["call_id"] == call.id
        assert house.connection(ada.id).last_synced_at != synced_at


def test_a_late_answer_overwrites_no_verdict(house: House, ada: Connection) -> None:
    call = ask(house, ada)

    def sleep_past_the_lease() -> None:
        house.turn(seconds=61)
        house.perform(messages.call(call.id))

    watch(house, after_call=sleep_past_the_lease)
    house.flows.call(call.id)
    assert (stored(house, call).status, made(house)) == (CallStatus.unknown, 1)
    assert published(house) == [("call.unknown", None)]
    house.work()


class Unsteady:
    """A store that is away for its next `failures` writes."""

    def __init__(self, store: Any) -> None:
        self.store, self.failures = store, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def writing(self) -> Any:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("the database is too busy")
        return self.store.writing()


def lose_database(house: House, call: StoredCall, failures: int) -> None:
    """Carry the call out, and have that many writes after its answer fail; the job itself makes only one."""
    store, alive = Unsteady(house.store), house.flows
    flow = replace(alive.call, store=store)  # type: ignore[arg-type]  # it acts as one
    house.flows = replace(alive, call=flow)
    watch(house, after_call=lambda: setattr(store, "failures", failures))
    for _ in range(failures):
        with pytest.raises(StoreUnavailable):
            house.flows.call(call.id)
    house.flows = alive


def kept(house: House) -> Any:
    """The keys of what Redis keeps of calls."""
    return house.flows.call.answers.redis.keys("breezesync:answers:*")


@pytest.mark.parametrize("tries_again", ["its message", "the sweep"])
def test_an_answer_is_kept_while_the_database_is_away(house: House, ada: Connection, tries_again: str) -> None:
    call = ask(house, ada)
    lose_database(house, call, failures=3)
    [name] = kept(house)
    assert "status" not in str(house.flows.call.answers.redis.get(name))
    assert house.flows.call.answers.redis.ttl(name) > 0
    if tries_again == "its message":
        for _ in range(2):
            house.flows.call(call.id)
    else:
        house.turn(minutes=30)
        come_back(house)
    ended = stored(house, call)
    assert (ended.status, ended.answer_status, made(house)) == ("completed", 201, 1)
    assert ended.answer is not None
    assert published(house) == [("call.completed", 201)]
    assert kept(house) == []


def logged(house: House) -> Any:
    """How often the request log has the document that was asked for."""
    with house.store.reading() as tx:
        lines = tx.sql.execute(text("SELECT COUNT(*) FROM request_log WHERE path = '/documents' AND method = 'POST'"))
        return lines.scalar()


def test_two_jobs_that_find_one_kept_answer_save_it_once(house: House, ada: Connection) -> None:
    call = ask(house, ada)
    lose_database(house, call, failures=1)
    flow = house.flows.call

    class Late(type(flow.answers)):  # type: ignore[misc]
        """Another job saves it after this one has found it."""

        def find(self, wanted: StoredCall) -> Any:
            found = super().find(wanted)
            flow(call.id)
            return found

    replace(flow, answers=Late(flow.answers.vault, flow.answers.redis))(call.id)
    assert logged(house) == 1
    assert published(house) == [("call.completed", 201)]


def test_an_answer_that_neither_the_database_nor_redis_takes_is_lost_and_the_call_unknown(
    house: House, ada: Connection
) -> None:
    call, alive = ask(house, ada), house.flows
    house.flows = replace(alive, call=replace(alive.call, answers=KeptAnswers(house.vault, absent_redis())))
    lose_database(house, call, failures=1)
    with pytest.raises(RedisUnavailable):
        house.flows.call(call.id)
    house.flows = alive
    come_back(house)
    assert (stored(house, call).status, made(house)) == ("unknown", 1)


def test_a_redis_user_who_may_keep_no_answers_holds_up_no_verdict(house: House, ada: Connection) -> None:
    call = ask(house, ada)
    lose_database(house, call, failures=1)

    class Forbidding:
        def get(self, key: str) -> None:
            raise NoPermissionError

    answers = KeptAnswers(house.vault, Forbidding())  # type: ignore[arg-type]  # all that is asked of it
    house.flows = replace(house.flows, call=replace(house.flows.call, answers=answers))
    come_back(house)
    assert stored(house, call).status == "unknown"


def test_a_kept_answer_that_does_not_open_is_a_lost_one(house: House, ada: Connection) -> None:
    call = ask(house, ada)
    lose_database(house, call, failures=1)
    [name] = kept(house)
    house.flows.call.answers.redis.set(name, "nonsense")
    come_back(house)
    assert stored(house, call).status == "unknown"


def test_an_erasure_removes_what_redis_keeps_of_calls(house: House, ada: Connection) -> None:
    call, grace = ask(house, ada), house.connect("grace", 2)
    lose_database(house, call, failures=1)
    other = ask(house, grace)
    lose_database(house, other, failures=1)
    house.flows.disconnect(ada.id, erase=True)
    assert kept(house) == [f"breezesync:answers:{other.id}:1".encode()]
    come_back(house)
    assert (stored(house, call).status, stored(house, other).status) == ("unknown", "completed")


def test_an_answer_that_is_kept_after_the_erasure_goes_with_the_next_job(house: House, ada: Connection) -> None:
    call, alive = ask(house, ada), house.flows
    store = Unsteady(house.store)
    house.flows = replace(alive, call=replace(alive.call, store=store))  # type: ignore[arg-type]  # it acts as one

    def erase() -> None:
        alive.disconnect(ada.id, erase=True)
        store.failures = 1

    watch(house, after_call=erase)
    with pytest.raises(StoreUnavailable):
        house.flows.call(call.id)
    house.flows = alive
    assert len(kept(house)) == 1
    come_back(house)
    ended = stored(house, call)
    assert (ended.status, ended.answer_status, ended.answer, kept(house)) == ("completed", 201, None, [])


class Deaf(Unsteady):
    """A store that is away after each of its next `failures` commits: who wrote does not hear of it."""

    @contextmanager
    def writing(self) -> Any:
        with self.store.writing() as tx:
            yield tx
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("the connection was lost")


@pytest.mark.parametrize("what_comes", ["its message", "an erasure"])
def test_what_is_kept_of_an_answer_that_was_saved_goes(house: House, ada: Connection, what_comes: str) -> None:
    call, alive = ask(house, ada), house.flows
    store = Deaf(house.store)
    house.flows = replace(alive, call=replace(alive.call, store=store))  # type: ignore[arg-type]  # it acts as one
    watch(house, after_call=lambda: setattr(store, "failures", 1))
    with pytest.raises(StoreUnavailable):
        house.flows.call(call.id)
    house.flows = alive
    assert (stored(house, call).status, len(kept(house))) == ("completed", 1)
    if what_comes == "its message":
        house.perform(messages.call(call.id))
    else:
        house.flows.disconnect(ada.id, erase=True)
    assert kept(house) == []


def test_an_answer_whose_save_hangs_is_kept_meanwhile(
    house: House, ada: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.deadlines, "longest_save", timedelta(milliseconds=50))
    call, answered, locked = ask(house, ada), threading.Event(), threading.Event()

    def wait_for_the_lock() -> None:
        answered.set()
        locked.wait(60)

    watch(house, after_call=wait_for_the_lock)
    with ThreadPoolExecutor(1) as pool:
        saving = pool.submit(house.flows.call, call.id)
        assert answered.wait(60)
        with house.store.writing() as tx:
            tx.connections.lock(ada.id)
            locked.set()
            wait_until(lambda: bool(kept(house)), "the answer to be kept")
            was_saved = saving.done()
        saving.result()
    assert (was_saved, stored(house, call).status, made(house), kept(house)) == (False, "completed", 1, [])


def test_an_answer_that_another_job_saves_while_its_save_hangs_is_saved_once(
    house: House, ada: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.deadlines, "longest_save", timedelta(milliseconds=10))
    call, alive = ask(house, ada), house.flows

    class Slow(Unsteady):
        """A store whose next write waits until the answer is kept, and another job has found it."""

        def writing(self) -> Any:
            if self.failures:
                self.failures -= 1
                wait_until(lambda: bool(kept(house)), "the answer to be kept")
                alive.call(call.id)
            return self.store.writing()

    store = Slow(house.store)
    house.flows = replace(alive, call=replace(alive.call, store=store))  # type: ignore[arg-type]  # it acts as one
    watch(house, after_call=lambda: setattr(store, "failures", 1))
    house.flows.call(call.id)
    assert (stored(house, call).status, logged(house), kept(house)) == ("completed", 1, [])
    assert published(house) == [("call.completed", 201)]


# What the provider does.

FAULTS: dict[str, tuple[dict[str, Any], str, int, str]] = {
    "429": ({"status": 429, "retry_after": 30}, "pending rate_limited", 0, "completed"),
    "503 that says when": ({"status": 503, "retry_after": 30}, "pending provider_unavailable", 0, "completed"),
    "500": ({"status": 500}, "completed", 0, "completed"),
    "the answer is lost": ({"moment": "after", "kind": "drop"}, "unknown answer_lost", 1, "unknown"),
    "the answer is cut": ({"moment": "after", "kind": "cut"}, "completed answer_incomplete", 1, "completed"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_the_provider_does_to_a_write(house: House, ada: Connection, case: str) -> None:
    fault, first, documents, end = FAULTS[case]
    house.control.inject("api", **fault, match={"path": "/api/documents"})
    call = ask(house, ada)
    house.perform(messages.call(call.id))
    seen = stored(house, call)
    assert (" ".join(filter(None, (seen.status, seen.reason))), made(house)) == (first, documents)
    house.control.clear_faults()
    come_back(house)
    assert stored(house, call).status == end
    assert made(house) == (1 if first.startswith("pending") else documents)
    assert len(published(house)) == 1


def test_what_never_left_is_sent_later_and_fails_after_an_hour(house: House, ada: Connection) -> None:
    client = house.flows.call.providers["breezedoc"]
    away = {"breezedoc": replace(client, provider=replace(client.provider, api_url="http://127.0.0.1:1/api"))}
    alive, house.flows = house.flows, replace(house.flows, call=replace(house.flows.call, providers=away))
    calls = [ask(house, ada, idempotency_key=key) for key in ("one", "two")]
    for call in calls:
        house.perform(messages.call(call.id))
    assert [(stored(house, each).status, stored(house, each).reason) for each in calls] == [
        (CallStatus.pending, "provider_unavailable")
    ] * 2
    house.turn(seconds=3)
    alive.call(calls[0].id)
    come_back(house, seconds=longest_life.total_seconds())
    assert [stored(house, each).status for each in calls] == ["completed", "failed"]
    assert published(house) == [("call.completed", 201), ("call.failed", None)]
    assert house.decisions(ada.id)[-1].verb == "call.failed"
    house.flows = alive


def test_a_401_of_a_token_that_ended_is_answered_by_a_refresh(house: House, ada: Connection) -> None:
    house.control.expire(1)
    call = ask(house, ada)
    house.work()
    assert (stored(house, call).status, made(house)) == (CallStatus.pending, 0)
    come_back(house, seconds=3)
    assert (stored(house, call).status, stored(house, call).attempts, made(house)) == ("completed", 2, 1)


def test_a_call_of_a_connection_that_ended_fails(house: House, ada: Connection) -> None:
    call = ask(house, ada)
    house.control.revoke_user(1)
    house.work()
    come_back(house, seconds=3)
    assert house.connection(ada.id).status is Status.revoked
    assert (stored(house, call).status, stored(house, call).reason) == ("failed", "reauthorization_required")
    assert published(house) == [("call.failed", 401)]
    with pytest.raises(Refusal) as refused:
        ask(house, ada, idempotency_key="two")
    assert refused.value.problem.type == "reauthorization_required"
    assert ask(house, ada) == stored(house, call)


def test_a_call_has_the_headers_of_its_providers_profile_each_once(house: House, ada: Connection) -> None:
    client, call = house.flows.call.providers["breezedoc"], read(house, ada)
    with serving_api(MadeUpApi(all_at_once)) as api:
        own = {"accept": "application/vnd.example+json", "user-agent": "theirs/1"}
        profile = replace(client.provider, api_url=api.url, headers=own)
        replace(house.flows.call, providers={"breezedoc": replace(client, provider=profile)})(call.id)
    [asked] = api.asked
    assert {name: asked.headers[name] for name in own} == own
    house.work()


def test_an_account_without_room_waits_as_a_row(house: House, ada: Connection) -> None:
    client = house.flows.call.providers["breezedoc"]
    client.budgets.pause(client.provider, ada.account_id, 20)
    call = ask(house, ada)
    house.work()
    waiting = stored(house, call)
    assert (waiting.status, waiting.reason, waiting.attempts) == (CallStatus.pending, "rate_limited", 0)
    come_back(house, seconds=21)
    assert (stored(house, call).status, made(house)) == (CallStatus.completed, 1)


# Roads that break, keys, retention.


def test_a_call_is_accepted_while_redis_is_away(house: House, ada: Connection) -> None:
    def away(_: messages.Message) -> None:
        raise RedisUnavailable("Redis does not answer")

    asked = read_call(json.dumps({"method": "GET", "path": "me", "idempotency_key": "one"}).encode())
    call = calls_of(house, away).accept(KEYS["all"], ada.id, asked, None)
    house.sweep()
    assert stored(house, call).status is CallStatus.completed


def test_a_command_names_a_call_and_carries_no_body(house: House, ada: Connection) -> None:
    call = ask(house, ada)
    Sweep(house.store, house.queue, house.clock, {"breezedoc": 60})()
    house.queue.held.clear()
    client: Any = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    sweep = Sweep(house.store, house.queue, house.clock, {"breezedoc": 60})
    commands = Commands(house.store, client, "breezesync:commands", sweep, house.clock)
    commands(timedelta(milliseconds=1))
    for call_id in (call.id, "another"):
        client.xadd("breezesync:commands", {"type": "call", "call_id": call_id})
    assert commands(timedelta(milliseconds=1)) == 2
    assert messages.call(call.id) in house.queue.held
    [(_, rejected)] = client.xrange("breezesync:commands:rejected")
    assert rejected[b"reason"] == b"there is no such call"
    house.work()
    assert made(house) == 1


def test_bodies_are_sealed_and_gone_after_a_day_and_calls_after_thirty(house: House, ada: Connection) -> None:
    call = ask(house, ada)
    house.work()
    with house.store.engine.connect() as sql:
        rows = str(sql.exec_driver_sql("SELECT * FROM call").all())
    assert title not in rows
    with pytest.raises(Exception, match="cannot be opened"):
        house.vault.open(stored(house, call).answer, call.place_of("request"))  # type: ignore[arg-type]
    house.turn(days=1, seconds=1)
    assert calls_of(house).show(stored(house, call))["answer"] == {
        "status": 201,
        "headers": {},
        "body": None,
        "encoding": None,
    }
    Prune(house.store, house.clock)()
    erased = stored(house, call)
    assert (erased.request, erased.answer, erased.answer_status) == (None, None, 201)
    assert ask(house, ada, body={"title": "compared by path only"}) == erased
    house.turn(days=30)
    Prune(house.store, house.clock)()
    with house.store.reading() as tx:
        assert tx.calls.get(call.id) is None


def test_erasing_a_connection_erases_what_its_calls_said(house: House, ada: Connection) -> None:
    call, waiting = ask(house, ada), ask(house, ada, idempotency_key="two")
    house.perform(messages.call(call.id))
    house.flows.disconnect(ada.id, erase=True)
    house.work()
    assert (stored(house, call).request, stored(house, call).answer) == (None, None)
    assert (stored(house, waiting).status, made(house)) == (CallStatus.failed, 1)


def test_a_rotation_of_keys_brings_calls_along(house: House, ada: Connection) -> None:
    call = ask(house, ada)
    house.work()
    newer = Vault((new_key("k2"), *house.keys))
    names = {field.name for field in fields}
    assert {"call.request", "call.answer"} <= names
    with house.store.writing() as tx:
        for own in (each for each in fields if each.table.name == "call"):
            found = tx.seals.others(own, newer.current_prefixes, limit=10)
            sealed = reseal(newer, [(each.sealed, own.place(each)) for each in found])
            tx.seals.replace(own, dict(zip(found, sealed, strict=True)))  # type: ignore[arg-type]
    answer = stored(house, call).answer
    assert answer is not None
    assert title in newer.open(answer, call.place_of("answer")).reveal()


# Over HTTP.


def test_the_examples_of_the_documents_do_at_the_provider_what_they_say(house: House, ada: Connection) -> None:
    text = Path("docs/gateway.md").read_text("utf-8")
    examples = [json.loads(each) for each in re.findall(r"/calls\" -d '(\{.+?\})'\n", text, re.DOTALL)]
    create, send, from_template = examples
    assert [send["path"], from_template["path"]] == ["documents/1131/send", "templates/1013/create-document"]

    def carry_out(example: dict[str, Any], path: str = "") -> Any:
        call = ask(house, ada, **({"body": None} | example | ({"path": path} if path else {})))
        house.work()
        return calls_of(house).show(stored(house, call))["answer"]

    created = carry_out(create)
    assert (created["status"], created["body"]["title"]) == (201, "Offer 17")
    sent = carry_out(send, f"documents/{created['body']['id']}/send")
    assert (sent["status"], sent["body"]["recipients"][0]["sent_at"] is None) == (200, False)
    listed = carry_out({"idempotency_key": "templates", "method": "GET", "path": "templates"})
    template = listed["body"]["data"][0]
    filled = carry_out(from_template, f"templates/{template['id']}/create-document")
    assert (filled["status"], filled["body"]["title"]) == (201, template["title"])


def test_the_gateway_accepts_and_shows_calls(house: House, ada: Connection) -> None:
    asked = {"method": "POST", "path": "documents", "body": {"title": title}, "idempotency_key": "one"}
    path = f"/v1/connections/{ada.id}/calls"
    with open_counter(house) as counter:
        accepted = counter.ask("POST", path, json=asked)
        call_id = accepted.json()["call_id"]
        assert (accepted.status_code, accepted.json()["status"]) == (202, "pending")
        refused = [
            counter.ask("POST", path, json=asked | {"body": {}}),
            counter.ask("POST", path, json=asked | {"path": "../x"}),
            counter.ask("POST", path, content=b"x" * (1 << 20) + b"x"),
            counter.ask("POST", path, "reads", json=asked),
            counter.ask("POST", path, "elsewhere", json=asked),
            counter.ask("GET", f"/v1/calls/{call_id}", "elsewhere"),
            counter.ask("GET", f"/v1/calls/{call_id}", "reads"),
            counter.ask("GET", "/v1/calls/%00"),
        ]
    assert [(each.status_code, each.json()["type"]) for each in refused] == [
        (409, "idempotency_conflict"),
        (400, "bad_request"),
        (413, "too_large"),
        (403, "not_allowed"),
        (404, "connection_unknown"),
        (404, "call_unknown"),
        (403, "not_allowed"),
        (404, "call_unknown"),
    ]
    with open_counter(house) as counter:
        shown = counter.ask("GET", f"/v1/calls/{call_id}")
        assert (shown.status_code, shown.json()["answer"]["status"], made(house)) == (200, 201, 1)
