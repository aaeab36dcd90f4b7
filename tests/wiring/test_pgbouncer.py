"""PgBouncer in transaction mode, as Debian packages it: each transaction may have another server connection."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL, text

from models.audit.entry import Action, Entry
from models.crypto.secrets import Secret
from models.migrations import migrate, newest_revision
from models.store import Store, open_engine
from models.store.trouble import trouble_of
from tests.processes import Listener, running_fleet
from tests.servers import (
    PostgresServer,
    ServerProcess,
    accepts_connections,
    own_postgres,
    postgres_user,
    reserved_port,
    temporary_directory,
)

program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")

configuration = """
[databases]
* = host=127.0.0.1 port={server_port} user=breezesync
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
"""


@dataclass(frozen=True, slots=True)
class Pooled:
    """A PostgreSQL, and the pooler in front of it."""

    server: PostgresServer
    url: URL

    def create_database(self, name: str) -> str:
        with psycopg.connect(self.server.url.set(drivername="postgresql").render_as_string(False)) as connection:
            connection.autocommit = True
            connection.execute(f"CREATE DATABASE {name}")
        return self.url.set(database=name).render_as_string(False)


@contextmanager
def running_pgbouncer(server: PostgresServer) -> Iterator[Pooled]:
    if program is None:
        pytest.skip("no PgBouncer on this machine: install Debian's pgbouncer")
    user = postgres_user()
    with reserved_port() as port, temporary_directory(user) as directory:
        path = directory / "pgbouncer.ini"
        path.write_text(configuration.format(server_port=server.url.port, port=port))
        path.chmod(0o644)
        pooled = Pooled(server, server.url.set(port=port))
        process = ServerProcess([program, path], directory, user=user)
        process.wait_until_ready(lambda: accepts_connections(pooled.url))
        yield pooled
        process.stop()


@pytest.fixture(scope="module")
def pooled() -> Iterator[Pooled]:
    with own_postgres(postgres_user()) as server, running_pgbouncer(server) as started:
        yield started


def test_a_fleet_connects_refreshes_and_syncs(pooled: Pooled, redis_url: str, tmp_path: Path) -> None:
    url = pooled.create_database("fleet")
    with running_fleet(url, redis_url, tmp_path) as fleet:
        listener = Listener(redis_url)
        connection = fleet.connect("ada", 1)
        fleet.has_synced(listener, connection)
        fleet.ask("refresh_token", "refresh", connection_id=connection)
        fleet.wait_until(lambda: len(listener.about(connection, "connection.refreshed")) == 1, "it is refreshed")
        assert fleet.is_ready()
        listener.close()
        assert "Traceback" not in "".join(each.log.read_text() for each in fleet.programs)


def test_no_prepared_statement_meets_another_server_connection(pooled: Pooled) -> None:
    engine = open_engine(Secret(pooled.create_database("prepared")))
    assert migrate(engine, []) == newest_revision()
    store, failures = Store(engine), list[Exception]()

    def read_on() -> None:
        try:
            for _ in range(40):
                with store.writing() as tx:
                    tx.connections.find(user_id="ada")
                    tx.outbox.is_waiting()
                with store.read_then_add(lambda tx: tx.gateway.find(["c"])) as (_, tx):
                    tx.audit.add(Entry(action=Action.call_made, actor="gateway:reports"), datetime.now(UTC))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=read_on) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    engine.dispose()


def test_each_transaction_has_its_limits_and_leaves_none_behind(pooled: Pooled) -> None:
    url = pooled.create_database("limits")
    engine = open_engine(Secret(url))
    names = ("lock_timeout", "idle_in_transaction_session_timeout", "timezone", "transaction_isolation")
    with Store(engine).reading() as tx:
        found = [tx.sql.execute(text(f"SHOW {name}")).scalar_one() for name in names]
    engine.dispose()
    assert found == ["5s", "10s", "UTC", "read committed"]
    with psycopg.connect(url.replace("+psycopg", ""), prepare_threshold=None) as other:
        assert other.execute("SHOW lock_timeout").fetchone() == ("0",)


def test_options_that_the_pooler_refuses_are_named(pooled: Pooled) -> None:
    url = pooled.create_database("refusing")
    engine = open_engine(Secret(f"{url}?options=-csearch_path%3Dtenant"))
    with pytest.raises(Exception, match="options") as refused, engine.connect():
        pass
    engine.dispose()
    trouble = trouble_of(refused.value)
    assert trouble.said == "is behind a pooler that takes no options"
    assert "ALTER ROLE" in trouble.remedy
