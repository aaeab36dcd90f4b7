"""Messages of any shape on the real broker: no thread ends, nothing comes back for ever, and each refusal is kept."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import dramatiq
import redis
from dramatiq import Worker
from dramatiq.middleware import AgeLimit, Callbacks, CurrentMessage, Retries

from models.errors import Permanent
from tests.servers import wait_until
from worker.queue.broker import Broker, KeepReason

often = 0.05


@dataclass
class Line:
    """A worker on a queue whose messages fail for good unless they are called `good`, and a way past its broker."""

    broker: Broker
    worker: Worker
    client: Any
    done: list[str] = field(default_factory=list)

    def put(self, text: bytes, key: bytes) -> None:
        self.client.hset("dramatiq:sync.msgs", key, text)
        self.client.rpush("dramatiq:sync", key)

    def put_message(self, key: str | None = None, **changes: Any) -> str:
        message = message_of(**changes)
        key = key or message["message_id"]
        self.put(json.dumps(message).encode(), key.encode())
        return key

    def dead(self) -> dict[str, str]:
        """Return the dead letters' reasons by their keys."""
        letters: dict[bytes, bytes] = self.client.hgetall("dramatiq:sync.XQ.msgs")
        return {
            key.decode("latin-1"): json.loads(text)["options"].get("traceback", "") for key, text in letters.items()
        }

    def assert_works(self) -> None:
        before = len(self.done)
        for _ in self.worker.workers:
            self.put_message(args=["good"])
        wait_until(lambda: len(self.done) == before + len(self.worker.workers), "the good ones are done")
        assert all(thread.is_alive() for thread in (*self.worker.workers, *self.worker.consumers.values()))


def message_of(**changes: Any) -> dict[str, Any]:
    message_id = str(uuid4())
    options = {"redis_message_id": message_id} | changes.pop("options", {})
    usual = {"queue_name": "sync", "actor_name": "do", "args": ["bad"], "kwargs": {}, "message_id": message_id}
    return {**usual, "message_timestamp": 1_800_000_000_000, "options": options, **changes}


@contextmanager
def working(redis_url: str) -> Iterator[Line]:
    middleware = [AgeLimit(), Callbacks(), CurrentMessage(), Retries(), KeepReason()]
    broker = Broker(url=redis_url, middleware=middleware, reclaim_every=often)
    line = Line(broker, Worker(broker, worker_timeout=20, worker_threads=4), redis.Redis.from_url(redis_url))

    def do(name: str) -> None:
        if name != "good":
            raise Permanent(name)
        line.done.append(name)

    dramatiq.actor(broker=broker, queue_name="sync", actor_name="do", throws=Permanent)(do)
    broker.emit_after("process_boot")
    line.worker.start()
    try:
        yield line
    finally:
        line.worker.stop(timeout=5_000)
        broker.close()
        line.client.close()


refused: dict[str, dict[str, Any]] = {
    "another key": {"redis_message_id": "elsewhere"},
    "a key that is a number": {"redis_message_id": 7},
    "a time that is none": {"eta": float("nan")},
    "a time without end": {"eta": float("inf")},
    "retries without number": {"retries": 10**400},
    "retries that are true": {"retries": True},
}

foreign: dict[str, dict[str, Any]] = {
    "what counts as a failure": {"throws": "x"},
    "a list of it": {"throws": ["x"]},
    "who is called after it": {"on_success": "do"},
    "who is called after a failure": {"on_failure": "do"},
    "how long it waits": {"min_backoff": "x"},
    "how long it is good for": {"max_age": -1},
    "a name with an escape": {"\x1b]0;x\x07": 1},
    "a tracer's": {"_sentry_headers": {"sentry-trace": "1"}},
}


def test_what_options_ask_for_is_refused_with_its_reason_and_ends_no_thread(redis_url: str) -> None:
    with working(redis_url) as line:
        keys = {line.put_message(options=options): case for case, options in refused.items()}
        wait_until(lambda: len(line.dead()) == len(refused), "all are dead letters")
        reasons = {keys[key]: reason for key, reason in line.dead().items()}
        assert [case for case, reason in reasons.items() if not reason.startswith("MessageRefused: its option")] == []
        assert all(reason.isprintable() for reason in reasons.values())
        line.assert_works()


def test_options_of_an_applications_middleware_are_taken_away(redis_url: str) -> None:
    with working(redis_url) as line:
        for options in foreign.values():
            line.put_message(args=["good"], options=options)
        wait_until(lambda: len(line.done) == len(foreign), "all are done, once")
        keys = {line.put_message(options=options) for options in foreign.values()}
        wait_until(lambda: line.dead().keys() == keys, "what fails is a dead letter, as ever")
        assert len(line.done) == len(foreign)
        line.assert_works()


def test_a_message_under_another_key_than_it_says_does_not_come_back(redis_url: str) -> None:
    with working(redis_url) as line:
        good = line.put_message(args=["good"])
        text = json.dumps(message_of(args=["good"], options={"redis_message_id": good})).encode()
        line.put(text, b"mine")
        line.put(json.dumps(message_of(options={"redis_message_id": "\udcff"})).encode(), b"\xff")
        wait_until(lambda: line.dead().keys() == {"mine", "\xff"}, "both are dead letters")
        wait_until(lambda: line.done == ["good"], "the message whose key it is is done, once")
        line.assert_works()
        acks = f"dramatiq:__acks__.{line.broker.broker_id}.sync"
        wait_until(lambda: line.client.scard(acks) == 0, "each is acknowledged, none for ever in hand")


shapes: dict[str, dict[str, Any]] = {
    "an argument named self": {"kwargs": {"self": 1}, "args": []},
    "arguments in arguments": {"args": [[["bad"]]]},
    "arguments so deep that reading them needs luck": {"kwargs": {"name": json.loads("[" * 900 + "]" * 900)}},
    "a long text": {"args": ["x" * 300_000]},
    "a time that is none": {"message_timestamp": float("nan")},
    "a time without end": {"message_timestamp": 10**400},
    "an actor that is not": {"actor_name": "\x00"},
    "one more": {"args": ["bad", "bad"]},
}


def test_any_shape_ends_as_a_dead_letter(redis_url: str) -> None:
    with working(redis_url) as line:
        for actor in line.broker.actors.values():
            actor.options |= {"max_retries": 0}
        for changes in shapes.values():
            line.put_message(**changes)
        wait_until(lambda: len(line.dead()) == len(shapes), "all are dead letters")
        line.assert_works()
