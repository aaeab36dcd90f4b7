"""A connection to PostgreSQL that is cut after some number of bytes: its transaction is stored whole, or not at all."""

import select
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from sqlalchemy import make_url, text

from models.errors import StoreUnavailable
from models.store import Store
from tests.databases import open_fast_engine
from tests.servers import Postgres
from tests.store.test_pipeline import add, count, echo, find, rename


@dataclass
class Relay:
    """It stands between a store and its server.

    to_server, to_client: after how many bytes in this direction it resets the connection, once; None to forward all.
    in_bytes: whether it gives the client each byte by itself.
    """

    server_port: int
    to_server: int | None = None
    to_client: int | None = None
    in_bytes: bool = False
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    def accept(self) -> None:
        """Serve each connection in a thread of its own until the listener is shut down."""
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.server_port)) as server:
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                while self.forward(client, server):
                    pass
            except OSError:
                return

    def forward(self, client: socket.socket, server: socket.socket) -> bool:
        """Forward what has come; return whether the connection goes on."""
        for source in select.select([client, server], [], [])[0]:
            received = source.recv(65536)
            if source is client:
                left = self.to_server = None if self.to_server is None else self.to_server - len(received)
            else:
                left = self.to_client = None if self.to_client is None else self.to_client - len(received)
            if left is not None and left <= 0:
                self.to_server = self.to_client = None
                (server if source is client else client).sendall(received[: len(received) + left])
                for each in (client, server):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            if not received:
                return False
            size = 1 if self.in_bytes and source is server else len(received)
            for start in range(0, len(received), size):
                (server if source is client else client).sendall(received[start : start + size])
        return True


@dataclass(frozen=True, slots=True)
class Relayed:
    """A store behind a relay, and one beside it that reaches the same database directly."""

    relay: Relay
    store: Store
    direct: Store

    def names(self, number: int) -> list[tuple[object, ...]]:
        return self.direct.read_once(lambda tx: find.all(tx.sql, own_id=number))

    def write(self, number: int) -> None:
        """Write a thing in one transaction of several round trips, as a flow does."""
        with self.store.writing() as tx:
            add.run(tx.sql, id=number, name=f"new {number}")
            found = find.put(tx.sql, own_id=number)
            rename.put(tx.sql, own_id=number, name=f"renamed {number}")
            count.scalar(tx.sql)
            assert found.all() == [(f"new {number}",)]
            again = find.put(tx.sql, own_id=number)
            tx.appends.write(rename, own_id=number, name=f"last {number}")
        assert again.all() == [(f"renamed {number}",)]


@pytest.fixture(scope="module")
def relayed(postgres: Postgres) -> Iterator[Relayed]:
    url = make_url(postgres.create_database())
    relay = Relay(url.port or 0)
    acceptor = threading.Thread(target=relay.accept)
    acceptor.start()
    behind = url.set(port=relay.listener.getsockname()[1])
    opened = [Store(open_fast_engine(each.render_as_string(False))) for each in (behind, url)]
    with opened[1].engine.begin() as sql:
        sql.execute(text("CREATE TABLE thing (id integer PRIMARY KEY, name text)"))
    yield Relayed(relay, *opened)
    for store in opened:
        store.close()
    relay.listener.shutdown(socket.SHUT_RDWR)
    acceptor.join()
    relay.listener.close()
    postgres.drop_database(url.render_as_string(False))


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
def test_a_transaction_whose_connection_is_cut_is_stored_as_a_whole_or_not_at_all(
    relayed: Relayed, direction: str
) -> None:
    first = 10_000 if direction == "to_server" else 20_000
    for number in range(first, first + 3):
        relayed.write(number)
    failed = 0
    for number in range(first + 100, first + 1000, 14):
        setattr(relayed.relay, direction, number - first - 99)
        try:
            relayed.write(number)
        except StoreUnavailable:
            failed += 1
            assert relayed.names(number) in ([], [(f"last {number}",)])
        else:
            assert relayed.names(number) == [(f"last {number}",)]
        relayed.relay.to_server = relayed.relay.to_client = None
        relayed.write(number + 1)
        assert relayed.names(number + 1) == [(f"last {number + 1}",)]
    assert failed > 20


def test_an_answer_that_comes_byte_by_byte_is_read(relayed: Relayed) -> None:
    relayed.relay.in_bytes = True
    relayed.write(1)
    found = relayed.store.read_once(lambda tx: echo.all(tx.sql, own_name="é" * 500))
    relayed.relay.in_bytes = False
    assert (found, relayed.names(1)) == ([("é" * 500, 500)], [("last 1",)])
