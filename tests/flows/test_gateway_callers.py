"""The gateway and its callers: who has no key, who leaves before the answer has come, and who meets one dead token."""

import http.client
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text

from models.oauth.connection import Connection
from tests.browsing import serving
from tests.gateway import Counter, open_counter, reserved
from tests.harness import House
from tests.servers import wait_until


@pytest.fixture
def ada(house: House) -> Connection:
    connection = house.connect("ada", 1)
    house.queue.held.clear()
    with house.store.engine.begin() as sql:
        sql.execute(text("UPDATE client SET omit_refresh_scope = (1 = 1)"))
    return connection


@dataclass
class Slow:
    """An API that begins an answer, or not even that, and has no end of it before its caller has left."""

    begins: bool
    arrived: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        while (await receive()).get("more_body"):
            pass
        self.arrived.set()
        if self.begins:
            await send({"type": "http.response.start", "status": 201, "headers": []})
            await send({"type": "http.response.body", "body": b"a part", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()


@contextmanager
def slow_api(house: House, *, begins: bool) -> Iterator[tuple[Slow, Counter]]:
    api = Slow(begins)
    with serving(api) as url, open_counter(house, api_url=url) as counter:
        counter.courier.is_idle = True
        yield api, counter


@pytest.mark.parametrize(
    ("begins", "size", "status"), [(True, 4, 201), (False, 4, 0), (True, 2 << 20, 201)], ids=["answer", "none", "long"]
)
def test_a_call_ends_with_its_caller(house: House, ada: Connection, begins: bool, size: int, status: int) -> None:
    with slow_api(house, begins=begins) as (api, counter):
        address = urlsplit(counter.url)
        client = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        path = f"/v1/connections/{ada.id}/proxy/documents"
        client.request("POST", path, bytes(size), {"Authorization": "Bearer all"})
        if begins:
            answer = client.getresponse()
            assert (answer.status, answer.read(6)) == (201, b"a part")
            answer.close()
        assert api.arrived.wait(20)
        client.close()
        assert api.left.wait(20), "the connection to the provider is closed"
        counter.flush()
        assert reserved(counter, house) == {"0"}
        assert len(counter.audited("call.made")) == 1
        with house.store.reading() as tx:
            logged = tx.journal.calls_of(ada.id)[-1]
        assert (logged.method, logged.path, logged.status) == ("POST", "/documents", status)
        assert [message.actor for message in counter.courier.seen] == ["carry_out_sync"]
        outcomes = counter.shell.metrics.registry.get_sample_value
        labels = {"operation": "call", "outcome": "caller_gone"}
        assert outcomes("breezesync_gateway_requests_total", labels) == 1


def be_refused_before(counter: Counter, house: House, ada: Connection) -> None:
    """Another call has met this token, and forced a refresh."""
    counter.office.desk.refuse(ada.id, ada.generation)


def be_due(counter: Counter, house: House, ada: Connection) -> None:
    """The token before was refused, too, so that none is forced; but the refresh is due anyway."""
    counter.office.desk.refuse(ada.id, ada.generation)
    house.flows.refresh(ada.id)
    house.control.reset_counters()
    house.make_refresh_due(ada.id)


@pytest.mark.parametrize("prepare", [be_refused_before, be_due])
def test_calls_that_meet_one_dead_token_wait_for_one_refresh(
    house: House, ada: Connection, prepare: Callable[[Counter, House, Connection], None]
) -> None:
    with open_counter(house) as counter, ThreadPoolExecutor(1) as threads:
        counter.courier.is_idle = True
        prepare(counter, house, ada)
        house.control.expire(1)
        second = threads.submit(counter.call, ada.id, "me", headers={"Accept": "application/json"})
        wait_until(lambda: second.done() or len(counter.office.waiting) == 1, "the call waits")
        house.flows.refresh(ada.id)
        assert (second.result().status_code, house.presentations()) == (200, 1)


def test_who_has_no_key_is_counted_and_recorded_once_a_minute(house: House) -> None:
    with open_counter(house) as counter:
        for key in ("c4n4ry", "c4n4ry", None):
            counter.ask("GET", "/v1/connections", key)
        wait_until(lambda: len(counter.audited("gateway_key.refused")) == 1, "the first is recorded")
        house.clock.turn(timedelta(minutes=1))
        counter.ask("GET", "/v1/connections", None)
        wait_until(lambda: len(counter.audited("gateway_key.refused")) == 2, "the first of the next minute, too")
        oldest, newest = counter.audited("gateway_key.refused")
        assert (oldest.detail, newest.detail) == ({"reason": "wrong"}, {"reason": "missing", "left_out": 2})
        assert {line.address for line in (newest, oldest)} == {"127.0.0.1"}
        counted = counter.shell.metrics.registry.get_sample_value
        name = "breezesync_gateway_refused_keys_total"
        assert [counted(name, {"reason": reason}) for reason in ("wrong", "missing")] == [2, 2]
        assert "c4n4ry" not in str([newest, oldest])


def test_a_wrong_key_is_refused_while_the_audit_is_away_and_counted_as_left_out(house: House) -> None:
    with open_counter(house) as counter:
        with house.store.engine.begin() as sql:
            sql.execute(text("ALTER TABLE audit RENAME TO gone"))
        try:
            assert counter.ask("GET", "/v1/connections", "wrong").status_code == 401
            wait_until(lambda: counter.shell.door.refused.left_out == 1, "the missing line is counted")
        finally:
            with house.store.engine.begin() as sql:
                sql.execute(text("ALTER TABLE gone RENAME TO audit"))
        house.clock.turn(timedelta(minutes=1))
        counter.ask("GET", "/v1/connections", "wrong")
        wait_until(lambda: len(counter.audited("gateway_key.refused")) == 1, "the next is recorded")
        [line] = counter.audited("gateway_key.refused")
        assert line.detail == {"reason": "wrong", "left_out": 1}
