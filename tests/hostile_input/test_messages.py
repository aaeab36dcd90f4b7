"""Messages that no worker can do anything with: a dead letter or a line in the log, and the worker works on."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis

from tests.hostile_input.conftest import Web
from tests.processes import Program
from tests.servers import wait_until


@pytest.fixture(scope="module")
def worker(web: Web) -> Iterator[Program]:
    """One worker with two threads, for all of these tests: if one of them harms it, the next ones fail."""
    web.fleet.environment = {**web.fleet.environment, "dramatiq_worker_timeout": "100"}
    started = web.fleet.start_worker(threads=2)
    yield started
    started.stop()


@pytest.fixture
def client(web: Web) -> Iterator[Any]:
    with redis.Redis.from_url(web.valkey.url, decode_responses=True) as opened:
        yield opened


def fields(queue: str = "sync", actor: str = "sync_connection", **changes: Any) -> dict[str, Any]:
    """A message as Dramatiq writes it, but for the changes; ... takes a field out."""
    message_id = str(uuid4())
    usual = {
        "queue_name": queue,
        "actor_name": actor,
        "args": [],
        "kwargs": {},
        "options": {"redis_message_id": message_id},
        "message_id": message_id,
        "message_timestamp": int(time.time() * 1000),
    }
    return {name: value for name, value in (usual | changes).items() if value is not ...}


def put(client: Any, queue: str, text: str, key: str | None = None) -> str:
    """Lays a text into a queue, as Dramatiq's script would: the id that it lies under."""
    key = key or str(uuid4())
    with client.pipeline() as pipeline:
        pipeline.hset(f"dramatiq:{queue}.msgs", key, text)
        pipeline.rpush(f"dramatiq:{queue}", key)
        pipeline.execute()
    return key


def is_dead(client: Any, queue: str, key: str) -> bool:
    return client.zscore(f"dramatiq:{queue}.XQ", key) is not None


def is_gone(client: Any, queue: str, key: str) -> bool:
    return not client.hexists(f"dramatiq:{queue}.msgs", key)


def assert_works(web: Web, worker: Program, client: Any) -> None:
    """A good message behind all the others is still done, and by every thread there was."""
    good = [fields("sync", kwargs={"connection_id": uuid4().hex}) for _ in range(4)]
    keys = [put(client, "sync", json.dumps(one), one["message_id"]) for one in good]
    wait_until(lambda: all(is_gone(client, "sync", key) for key in keys), "good messages are done", 30)
    assert worker.runs
    assert not any(is_dead(client, "sync", key) for key in keys)
    threads = [line for line in worker.tail(2000).splitlines() if "Exception in thread" in line]
    assert threads == []


UNREADABLE = {
    "nothing": "",
    "no JSON": "hello",
    "half a message": json.dumps(fields())[:40],
    "nested": "[" * 5000 + "]" * 5000,
    "a list": "[]",
    "null": "null",
    "a number": "7",
    "an empty object": "{}",
    "no actor": json.dumps(fields(actor_name=...)),
    "an actor that is a list": json.dumps(fields(actor_name=["sync_connection"])),
    "args that are an object": json.dumps(fields(args={})),
    "kwargs that are a list": json.dumps(fields(kwargs=["c1"])),
    "options that are null": json.dumps(fields(options=None)),
    "options without the id": json.dumps(fields(options={})),
    "no message id": json.dumps(fields(message_id=...)),
    "a time that is a text": json.dumps(fields(message_timestamp="now")),
    "a field too many": json.dumps(fields(more=1)),
    "another queue": json.dumps(fields(queue="refresh")),
    "a queue that is not": json.dumps(fields(queue="coffee")),
    "a megabyte": json.dumps(fields(pad="x" * 1_000_000)),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_message_becomes_a_dead_letter(web: Web, worker: Program, client: Any, name: str) -> None:
    good = fields(kwargs={"connection_id": uuid4().hex})
    bad_key = put(client, "sync", UNREADABLE[name])
    put(client, "sync", json.dumps(good), good["message_id"])
    wait_until(lambda: is_dead(client, "sync", bad_key), "the bad one is a dead letter", 30)
    wait_until(lambda: is_gone(client, "sync", good["message_id"]), "the good one beside it is done", 30)
    assert_works(web, worker, client)


MISFITS: dict[str, dict[str, Any]] = {
    "an actor that is not": {"actor": "make_coffee", "kwargs": {"connection_id": "c1"}},
    "an actor of another queue": {"actor": "refresh_token", "kwargs": {}},
    "no argument": {"kwargs": {}},
    "an argument too many": {"kwargs": {"connection_id": "c1", "force": True}},
    "another argument": {"kwargs": {"user_id": "ada"}},
    "arguments that log lines have": {"kwargs": {"event": "x", "actor": "y", "message_id": "z"}},
    "a number": {"kwargs": {"connection_id": 7}},
    "null": {"kwargs": {"connection_id": None}},
    "a list": {"kwargs": {"connection_id": ["c1"]}},
    "an object": {"kwargs": {"connection_id": {"$gt": ""}}},
    "an empty text": {"kwargs": {"connection_id": ""}},
    "a NUL": {"kwargs": {"connection_id": "c\x00"}},
    "half a character": {"kwargs": {"connection_id": "\ud800"}},
    "a long text": {"kwargs": {"connection_id": "c" * 256}},
    "two in order": {"args": ["c1", "c2"]},
    "erase as a text": {"queue": "control", "actor": "disconnect", "kwargs": {"connection_id": "c1", "erase": "no"}},
    "a disconnect of no time": {
        "queue": "control",
        "actor": "disconnect",
        "kwargs": {"connection_id": "c1"},
        "message_timestamp": 10**30,
    },
    "a provider that is a number": {"actor": "sync_user", "kwargs": {"user_id": "ada", "provider": 1}},
    "events with an argument": {"queue": "events", "actor": "publish_events", "kwargs": {"now": True}},
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_message_that_fits_no_actor_is_a_dead_letter_at_once(
    web: Web, worker: Program, client: Any, name: str
) -> None:
    before = web.contents()[:3]
    message = fields(**MISFITS[name])
    key = put(client, message["queue_name"], json.dumps(message), message["message_id"])
    wait_until(lambda: is_dead(client, message["queue_name"], key), "it is a dead letter", 30)
    kept = json.loads(client.hget(f"dramatiq:{message['queue_name']}.XQ.msgs", key))
    assert kept["options"].get("retries", 0) == 0
    assert web.contents()[:3] == before
    assert_works(web, worker, client)


UNKNOWN = {
    "exchange": ("exchange_code", {"authorization_id": uuid4().hex}, "authorization.unknown"),
    "refresh": ("refresh_token", {"connection_id": uuid4().hex}, "connection.unknown"),
    "sync": ("sync_connection", {"connection_id": "' OR 1=1 --"}, "connection.unknown"),
    "control": ("disconnect", {"connection_id": uuid4().hex, "erase": True}, "connection.unknown"),
}


@pytest.mark.parametrize("queue", UNKNOWN)
def test_an_id_that_nobody_has_is_a_line_in_the_log(web: Web, worker: Program, client: Any, queue: str) -> None:
    actor, kwargs, line = UNKNOWN[queue]
    before = web.contents()[:3]
    message = fields(queue, actor, kwargs=kwargs)
    key = put(client, queue, json.dumps(message), message["message_id"])
    wait_until(lambda: is_gone(client, queue, key), "it is done with", 30)
    assert not is_dead(client, queue, key)
    assert web.contents()[:3] == before
    [told] = [json.loads(text) for text in worker.tail(5000).splitlines() if key in text and '"event": "' in text]
    assert (told["event"], told["level"]) == (line, "warning")


def test_a_user_that_nobody_knows_is_a_line_in_the_log(web: Web, worker: Program, client: Any) -> None:
    message = fields("sync", "sync_user", kwargs={"user_id": "nobody"})
    key = put(client, "sync", json.dumps(message), message["message_id"])
    wait_until(lambda: is_gone(client, "sync", key), "it is done with", 30)
    assert any(key in line and "user.without_connection" in line for line in worker.tail(5000).splitlines())


OPTIONS: tuple[dict[str, Any], ...] = (
    {"redis_message_id": "another message's"},
    {"eta": "soon"},
    {"eta": None},
    {"retries": "none"},
)


def test_options_that_dramatiq_does_not_write_like_that_are_dead_letters_and_end_no_thread(
    web: Web, worker: Program, client: Any
) -> None:
    keys = []
    for options in OPTIONS:
        message = fields(kwargs={"connection_id": "c" * 256})  # one that fails, which is when they are looked at
        message["options"] |= options
        keys.append(put(client, "sync", json.dumps(message), message["message_id"]))
    wait_until(lambda: all(is_dead(client, "sync", key) for key in keys), "all are dead letters", 30)
    reasons = {letter["id"]: letter["error"] for letter in type_command(web, "dead-letters")}
    assert [reasons[key] for key in keys if not reasons[key].startswith("MessageRefused: its option")] == []
    assert_works(web, worker, client)


def type_command(web: Web, *words: str) -> Any:
    """What a command prints with `--json`."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", *words, "--json"],
        cwd=web.fleet.directory,
        env=dict(web.fleet.environment),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_an_operator_sees_the_dead_letters_and_drops_them(web: Web, worker: Program, client: Any) -> None:
    misfit, unreadable = fields(kwargs={"connection_id": 7}), "no message at all"
    key = put(client, "sync", json.dumps(misfit), misfit["message_id"])
    odd = put(client, "sync", unreadable)
    wait_until(lambda: is_dead(client, "sync", key) and is_dead(client, "sync", odd), "both are dead letters", 30)
    letters = {letter["id"]: letter for letter in type_command(web, "dead-letters")}
    assert (letters[key]["actor"], letters[key]["kwargs"]) == ("sync_connection", {"connection_id": 7})
    assert letters[key]["error"] == "MessageRefused: sync_connection: connection_id is of the wrong type"
    assert letters[odd]["error"] == "the message can't be read"
    assert type_command(web, "dead-letters", "drop", odd) == {"dropped": [odd]}
    assert type_command(web, "dead-letters", "retry", key) == {"sent": [key]}
    assert not is_dead(client, "sync", key)
    assert_works(web, worker, client)


def test_after_all_of_this_the_worker_does_real_work(web: Web, worker: Program, client: Any) -> None:
    connection_id = web.fleet.connect("last", web.fleet.control.add_user("Last", documents=2))
    query = "SELECT count(*) AS records FROM record WHERE connection_id = :id AND resource = 'document'"
    wait_until(lambda: web.fleet.rows(query, id=connection_id)[0].records == 2, "its documents are read", 30)
    assert_works(web, worker, client)
