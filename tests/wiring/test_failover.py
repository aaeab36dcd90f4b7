"""A primary that becomes a replica while its sockets stay open: its connections end, and readiness says what it is."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from config.wiring import build_broker, open_hasty_redis, open_redis
from models.crypto.secrets import Secret
from models.errors import RedisUnavailable
from models.queue import WritableRedis
from tests.processes import running_fleet
from tests.servers import Valkey, running_valkey, wait_until


@dataclass
class Address:
    """An address that moves: new connections lead to `target`, and those that are open stay where they are."""

    target: str
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.listener.getsockname()[1]}/0"

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                url = urlsplit(self.target)
                try:
                    server = socket.create_connection((url.hostname, url.port))
                except OSError:
                    client.close()
                    continue
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=forward, args=(source, sink), daemon=True).start()


def forward(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextmanager
def moving_address(target: str) -> Iterator[Address]:
    address = Address(target)
    threading.Thread(target=address.serve, daemon=True).start()
    yield address
    address.listener.shutdown(socket.SHUT_RDWR)
    address.listener.close()


@dataclass
class Pair:
    """Two servers, the first of them the primary; the address leads to it."""

    first: Valkey
    second: Valkey
    address: Address

    def admin(self, valkey: Valkey, *command: str) -> Any:
        with redis.Redis.from_url(valkey.url) as client:
            return client.execute_command(*command)

    def demote(self) -> None:
        """The first becomes a replica of the second, and keeps its clients."""
        port = str(urlsplit(self.second.url).port)
        self.admin(self.second, "REPLICAOF", "NO", "ONE")
        self.admin(self.first, "REPLICAOF", "127.0.0.1", port)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        first, second = (stack.enter_context(running_valkey()) for _ in range(2))
        address = stack.enter_context(moving_address(first.url))
        made = Pair(first, second, address)
        made.admin(second, "REPLICAOF", "127.0.0.1", str(urlsplit(first.url).port))
        wait_until(lambda: b"master_link_status:up" in raw_info(second), "the replica follows")
        yield made


def raw_info(valkey: Valkey) -> bytes:
    with redis.Redis.from_url(valkey.url) as client:
        status = client.info("replication").get("master_link_status", "")
    return f"master_link_status:{status}".encode()


def write(client: Any) -> bool:
    try:
        return bool(client.set("key", "value"))
    except redis.RedisError:
        return False


def add_in_transaction(client: Any) -> bool:
    try:
        with client.pipeline(transaction=True) as pipeline:
            pipeline.xadd("stream", {"a": "b"})
            return bool(pipeline.execute())
    except redis.RedisError:
        return False


@pytest.mark.parametrize("use", [write, add_in_transaction])
def test_a_refused_write_ends_the_connection_and_the_next_one_reaches_the_new_primary(pair: Pair, use: Any) -> None:
    with open_redis(Secret(pair.address.url)) as client:
        assert use(client)
        pair.demote()
        pair.address.target = pair.second.url
        assert [use(client) for _ in range(3)] == [False, True, True]


def test_a_script_of_the_queue_ends_it_as_well(pair: Pair) -> None:
    class Settings:
        redis_url = Secret(pair.address.url)

    broker: Any = build_broker(Settings())  # type: ignore[arg-type]
    broker.do_fetch("refresh", 1)
    pair.demote()
    pair.address.target = pair.second.url
    with pytest.raises(redis.ConnectionError):
        broker.do_fetch("refresh", 1)
    assert broker.do_fetch("refresh", 1) == []
    broker.client.close()


def test_a_replica_is_not_ready(pair: Pair) -> None:
    with open_hasty_redis(Secret(pair.address.url)) as client:
        check = WritableRedis(client)
        check()
        pair.demote()
        with pytest.raises(RedisUnavailable):
            check()
        pair.address.target = pair.second.url
        wait_until(lambda: passes(check), "the new primary is ready")


def test_a_replica_that_takes_writes_is_not_ready_either(pair: Pair) -> None:
    pair.demote()
    pair.admin(pair.first, "CONFIG", "SET", "replica-read-only", "no")
    with open_hasty_redis(Secret(pair.first.url)) as client, pytest.raises(RedisUnavailable, match="slave"):
        WritableRedis(client)()


def test_a_full_redis_is_not_ready(pair: Pair) -> None:
    pair.admin(pair.first, "CONFIG", "SET", "maxmemory", "1")
    with open_hasty_redis(Secret(pair.first.url)) as client, pytest.raises(RedisUnavailable):
        WritableRedis(client)()


def passes(check: WritableRedis) -> bool:
    try:
        check()
    except RedisUnavailable:
        return False
    return True


def test_a_fleet_works_on_after_a_failover_without_a_restart(pair: Pair, tmp_path: Path) -> None:
    with running_fleet(f"sqlite:///{tmp_path}/breezesync.db", pair.address.url, tmp_path) as fleet:
        fleet.connect("ada", 1)
        pair.demote()
        fleet.wait_until(lambda: not fleet.is_ready(), "the web process is not ready at a replica")
        pair.address.target = pair.second.url
        fleet.wait_until(fleet.is_ready, "the web process is ready at the new primary", 30)
        before = sum(program.log.stat().st_size for program in fleet.programs)
        fleet.connect("grace", 2)
        assert sum(program.log.stat().st_size for program in fleet.programs) - before < 200_000
