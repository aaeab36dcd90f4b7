"""Misconfigurations, each made one by one: what `doctor` says, and what mends it. docs/doctor.md is made of them."""

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import redis
from sqlalchemy import text

from config import wiring
from config.profiles import profile_directories
from config.redis_url import connect
from config.version import read_version
from models.crypto.secrets import Secret
from models.process import Process
from tests.cli.conftest import Desk
from tests.servers import running_valkey
from worker.cli import probes

Arrange = Callable[[Desk, ExitStack], None]


@dataclass(frozen=True, slots=True)
class Misconfiguration:
    """One mistake.

    subject: the heading in the document.
    mistake: what was done, for people.
    check: the check that finds it.
    said, remedy: what `doctor` says; `…` stands for any text.
    """

    subject: str
    mistake: str
    arrange: Arrange
    check: str
    said: str
    remedy: str


def setting(**variables: str) -> Arrange:
    """Return what sets variables; a value may name `{url}` of the sandbox and the desk's own settings."""

    def arrange(desk: Desk, _: ExitStack) -> None:
        known = {
            **desk.environment,
            "redis": desk.environment["REDIS_URL"].split("//")[1].split("/")[0],
            "url": desk.house.provider.url,
            "here": str(desk.directory),
        }
        desk.set(**{name: value.format_map(known) for name, value in variables.items()})

    return arrange


def unset(*names: str) -> Arrange:
    def arrange(desk: Desk, _: ExitStack) -> None:
        for name in names:
            desk.monkeypatch.delenv(name)

    return arrange


def same_key(desk: Desk, _: ExitStack) -> None:
    desk.set(CONNECT_SECRET=desk.environment["ENCRYPTION_KEYS"].partition(":")[2])


def open_env_file(desk: Desk, _: ExitStack) -> None:
    path = desk.directory / ".env"
    path.write_text("SYNC_INTERVAL=15m\n")
    path.chmod(0o644)


def broken_profile(desk: Desk, _: ExitStack) -> None:
    text = (profile_directories()[1] / "breezedoc.toml").read_text()
    (desk.directory / "breezedoc.toml").write_text(text.replace("pkce = true", 'pkce = "yes"'))
    desk.set(PROVIDERS_DIRECTORY=str(desk.directory))


def damaged_file(desk: Desk, _: ExitStack) -> None:
    path = desk.directory / "notes.txt"
    path.write_text("these are notes" * 500)
    desk.set(DATABASE_URL=f"sqlite:///{path}")


def newer_schema(desk: Desk, _: ExitStack) -> None:
    with desk.house.store.writing() as tx:
        tx.sql.execute(text("UPDATE alembic_version SET version_num = '9999'"))


def read_only_file(desk: Desk, _: ExitStack) -> None:
    path = desk.environment["DATABASE_URL"].partition(":///")[2]
    desk.set(DATABASE_URL=f"sqlite:///file:{path}?mode=ro&uri=true")


def network_disk(desk: Desk, _: ExitStack) -> None:
    table = desk.directory / "mounts"
    table.write_text(f"/dev/vda / ext4 rw 0 0\nnas:/data {desk.directory} nfs4 rw 0 0\n")
    desk.monkeypatch.setattr(probes, "mounts", table)


def full_disk(desk: Desk, _: ExitStack) -> None:
    usage = shutil.disk_usage(desk.directory)._replace(free=1_000_000)
    desk.monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


def spool_is_a_file(desk: Desk, _: ExitStack) -> None:
    (desk.directory / "spool.txt").write_text("")
    desk.set(SPOOL_DIRECTORY=str(desk.directory / "spool.txt"))


def own_valkey(change: Callable[[Any], object], url: Callable[[str], str] = str) -> Arrange:
    """Return what starts a Valkey of its own, changes it, and sets REDIS_URL to what `url` makes of its own."""

    def arrange(desk: Desk, stack: ExitStack) -> None:
        valkey = stack.enter_context(running_valkey())
        with redis.Redis.from_url(valkey.url, decode_responses=True) as client:
            change(client)
        desk.set(REDIS_URL=url(valkey.url))

    return arrange


def with_password(client: Any) -> None:
    client.config_set("requirepass", "right")


def replica(client: Any) -> None:
    client.replicaof("127.0.0.1", "9")


@contextmanager
def one_answer(answer: bytes) -> Iterator[int]:
    """Listen, and answer whatever is asked with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    each, _ = listener.accept()
                except OSError:
                    return
                with each:
                    each.settimeout(2)
                    each.recv(1000)
                    each.sendall(answer)
                    each.shutdown(socket.SHUT_WR)
                    with suppress(OSError):
                        while each.recv(1000):  # until the client has read it and leaves
                            pass

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def tls_server(desk: Desk, stack: ExitStack) -> None:
    alert = bytes.fromhex("15030100020246")  # fatal, protocol_version: what OpenSSL answers to plain text
    desk.set(REDIS_URL=f"redis://127.0.0.1:{stack.enter_context(one_answer(alert))}/0")


def no_tls(desk: Desk, stack: ExitStack) -> None:
    """Ask for TLS from the desk's Valkey, which waits for more and says nothing: so wait for it briefly."""

    def connect_briefly(url: Secret, **options: Any) -> redis.Redis:
        return connect(url, **options | {"socket_timeout": 0.2, "socket_connect_timeout": 0.2})

    for module in (probes, wiring):
        desk.monkeypatch.setattr(module, "connect", connect_briefly)
    setting(REDIS_URL="rediss://{redis}")(desk, stack)


def not_redis(desk: Desk, stack: ExitStack) -> None:
    answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    desk.set(REDIS_URL=f"redis://127.0.0.1:{stack.enter_context(one_answer(answer))}/0")


@contextmanager
def http_server(status: int, body: bytes) -> Iterator[str]:
    """Answer each request so, as HTML."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - see above

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def served(status: int, **variables: str) -> Arrange:
    """Return what sets variables to a server that answers with this status and HTML; `{url}` is its URL."""

    def arrange(desk: Desk, stack: ExitStack) -> None:
        url = stack.enter_context(http_server(status, b"<html><body>Welcome</body></html>"))
        desk.set(**{name: value.format(url=url) for name, value in variables.items()})

    return arrange


def foreign_key(desk: Desk, _: ExitStack) -> None:
    desk.redis.set("breezesync:events", "something else")


def two_fleets(desk: Desk, _: ExitStack) -> None:
    with desk.house.store.reading() as tx:
        desk.redis.hset("breezesync:processes", "worker staging:7", tx.overview.time().isoformat())


def running(*processes: tuple[str, str, float]) -> Arrange:
    """Return what reports processes: role, version (empty for this one), and how far its clock is ahead."""

    def arrange(desk: Desk, _: ExitStack) -> None:
        with desk.house.store.writing() as tx:
            now = tx.overview.time()
            for role, version, ahead in processes:
                tx.processes.report(Process(f"{role} host:1", role, version or read_version(), now, ahead))
            gone = Process("worker host:2", "worker", read_version(), now - timedelta(minutes=5))
            tx.processes.report(gone)

    return arrange


def lost_key(desk: Desk, _: ExitStack) -> None:
    desk.house.connect("ada", 1)
    desk.set(ENCRYPTION_KEYS="k2:" + "q2RzY3JldHNlY3JldHNlY3JldHNlY3JldHNlY3JlAbc=")


def wrong_key(desk: Desk, _: ExitStack) -> None:
    desk.house.connect("ada", 1)
    desk.set(ENCRYPTION_KEYS="k1:" + "q2RzY3JldHNlY3JldHNlY3JldHNlY3JldHNlY3JlAbc=")


def paused(desk: Desk, _: ExitStack) -> None:
    assert desk.type("provider", "pause", "breezedoc").exit_code == 0


def unregistered(desk: Desk, _: ExitStack) -> None:
    desk.set(BREEZEDOC_REDIRECT_URI="https://elsewhere.example/auth/breezedoc/callback")


by_chance = "Zq8RkV2mX7pT4nWb9JcL6dYh3sGf5aQe"
_all: list[Misconfiguration] = []


def _about(subject: str, *rows: tuple[str, Arrange, str, str, str]) -> None:
    _all.extend(Misconfiguration(subject, *row) for row in rows)


_about(
    "Settings",
    (
        "`BREEZEDOC_REDIRECT_URI` has another path",
        setting(BREEZEDOC_REDIRECT_URI="https://app.example/callback"),
        "settings",
        "BREEZEDOC_REDIRECT_URI: expected a URL that ends in …",
        "Set it in the environment or in .env.",
    ),
    (
        "`BREEZEDOC_REDIRECT_URI` is http, and not on this machine",
        setting(BREEZEDOC_REDIRECT_URI="http://app.example/auth/breezedoc/callback"),
        "settings",
        "BREEZEDOC_REDIRECT_URI: expected an https URL, …",
        "Set it in the environment or in .env.",
    ),
    (
        "`BREEZEDOC_CLIENT_ID` is missing",
        unset("BREEZEDOC_CLIENT_ID"),
        "settings",
        "BREEZEDOC_CLIENT_ID: missing…",
        "Set it in the environment or in .env. Without a client, make run starts the sandbox.",
    ),
    (
        "`BREEZEDOC_CLIENT_SECRET` is missing",
        unset("BREEZEDOC_CLIENT_SECRET"),
        "settings",
        "BREEZEDOC_CLIENT_SECRET: missing…",
        "Set it in the environment or in .env.",
    ),
    (
        "`BREEZEDOC_CLIENT_SECRET_FILE` names no file",
        setting(BREEZEDOC_CLIENT_SECRET="", BREEZEDOC_CLIENT_SECRET_FILE="{here}/none"),
        "settings",
        "BREEZEDOC_CLIENT_SECRET_FILE: …",
        "Set it in the environment or in .env.",
    ),
    (
        "`ENCRYPTION_KEYS` is missing",
        unset("ENCRYPTION_KEYS"),
        "settings",
        "ENCRYPTION_KEYS: missing…",
        "Set it in the environment or in .env.",
    ),
    (
        "`ENCRYPTION_KEYS` has a key of another length",
        setting(ENCRYPTION_KEYS="k1:c2hvcnQ="),
        "settings",
        "ENCRYPTION_KEYS: …",
        "Set it in the environment or in .env.",
    ),
    (
        "`CONNECT_SECRET` is short",
        setting(CONNECT_SECRET="short"),
        "settings",
        "CONNECT_SECRET: secret 1: expected 32 bytes or more",
        "Set it in the environment or in .env.",
    ),
    (
        "`CONNECT_SECRET` was made up",
        setting(CONNECT_SECRET="a" * 40),
        "settings",
        "CONNECT_SECRET: secret 1: expected one made by chance…",
        "Set it in the environment or in .env.",
    ),
    (
        "`CONNECT_SECRET` is an encryption key",
        same_key,
        "settings",
        "CONNECT_SECRET: expected another value than that of ENCRYPTION_KEYS",
        "Set it in the environment or in .env.",
    ),
    (
        "`OPERATOR_TOKEN` is `CONNECT_SECRET`",
        setting(OPERATOR_TOKEN=by_chance, CONNECT_SECRET=by_chance),
        "settings",
        "OPERATOR_TOKEN: expected another value …",
        "Set it in the environment or in .env.",
    ),
    (
        "`RETURN_ORIGINS` has a path",
        setting(RETURN_ORIGINS="https://app.example/settings"),
        "settings",
        "RETURN_ORIGINS: expected origins …",
        "Set it in the environment or in .env.",
    ),
    (
        "`RETURN_ORIGINS` is http beside a redirect URI of https",
        setting(
            RETURN_ORIGINS="http://app.example", BREEZEDOC_REDIRECT_URI="https://app.example/auth/breezedoc/callback"
        ),
        "settings",
        "RETURN_ORIGINS: expected https, …",
        "Set it in the environment or in .env.",
    ),
    (
        "`SYNC_INTERVAL=15`, without a unit",
        setting(SYNC_INTERVAL="15"),
        "settings",
        "SYNC_INTERVAL=15 has no unit, and means 15 seconds",
        "Write SYNC_INTERVAL=15m for minutes, …",
    ),
    (
        "`SYNC_INTERVAL=soon`",
        setting(SYNC_INTERVAL="soon"),
        "settings",
        "SYNC_INTERVAL: expected a length of time …",
        "Set it in the environment or in .env.",
    ),
    (
        "`DATABASE_URL` is of MySQL",
        setting(DATABASE_URL="mysql://db/app"),
        "settings",
        "DATABASE_URL: expected sqlite:///FILE or postgresql+psycopg://…",
        "Set it in the environment or in .env.",
    ),
    (
        "`REDIS_URL` is of http",
        setting(REDIS_URL="http://redis"),
        "settings",
        "REDIS_URL: expected redis://…",
        "Set it in the environment or in .env.",
    ),
    (
        "Two streams have one name",
        setting(RECORDS_STREAM="breezesync:events"),
        "settings",
        "EVENTS_STREAM, RECORDS_STREAM, COMMANDS_STREAM: expected three different names",
        "Set it in the environment or in .env.",
    ),
    (
        "`PROVIDERS` names no profile",
        setting(PROVIDERS="nowhere"),
        "settings",
        "…nowhere…",
        "Set it in the environment or in .env.",
    ),
    (
        "A profile has a field of another kind",
        broken_profile,
        "settings",
        "…breezedoc.toml: pkce: expected true or false",
        "Correct the profile: breezesync profile check …breezedoc.toml",
    ),
    (
        "`OPERATOR_ADDRESS` has no port",
        setting(OPERATOR_ADDRESS="127.0.0.1"),
        "settings",
        "OPERATOR_ADDRESS: expected HOST:PORT…",
        "Set it in the environment or in .env.",
    ),
    (
        "`TRUSTED_PROXIES` is a name",
        setting(TRUSTED_PROXIES="proxy"),
        "settings",
        "TRUSTED_PROXIES: expected networks or addresses …",
        "Set it in the environment or in .env.",
    ),
    (
        "`TRUSTED_PROXIES` is everyone",
        setting(TRUSTED_PROXIES="10.0.0.0/8,0.0.0.0/0"),
        "settings",
        "TRUSTED_PROXIES has 0.0.0.0/0: …",
        "Name the networks of your proxies only.",
    ),
    (
        "`EVENTS_MAXLEN` is short",
        setting(EVENTS_MAXLEN="100"),
        "settings",
        "EVENTS_MAXLEN=100: an event leaves the stream after so many newer ones, …",
        "Leave EVENTS_MAXLEN out for a million, …",
    ),
    (
        "`HTTPS_PROXY` is no URL",
        setting(HTTPS_PROXY="ftp://proxy"),
        "settings",
        "HTTPS_PROXY: expected http://…",
        "Set it in the environment or in .env.",
    ),
    (
        "One name of this machine in the redirect URI, another in `RETURN_ORIGINS`",
        setting(
            BREEZEDOC_REDIRECT_URI="http://localhost:9/auth/breezedoc/callback", RETURN_ORIGINS="http://127.0.0.1:8710"
        ),
        "settings",
        "BREEZEDOC_REDIRECT_URI says localhost, and RETURN_ORIGINS says 127.0.0.1…",
        "Use one name in both…",
    ),
    (
        "`CONNECT_CONFIRMATION=off`",
        setting(CONNECT_CONFIRMATION="off"),
        "confirmation",
        "CONNECT_CONFIRMATION=off: …",
        "Set CONNECT_CONFIRMATION to application or page.",
    ),
    ("Other users may read `.env`", open_env_file, "settings", ".env has secrets in it, …", "chmod 600 .env"),
)
_about(
    "Database and disks",
    (
        "No schema yet",
        setting(DATABASE_URL="sqlite:///{here}/new.db"),
        "database",
        "… has no schema yet",
        "Run breezesync migrate.",
    ),
    (
        "A newer version has migrated it",
        newer_schema,
        "database",
        "… has schema 9999, which a newer version of breezesync made",
        "Run that version, …",
    ),
    (
        "The SQLite file is read-only",
        read_only_file,
        "database",
        "… can't be written",
        "Check the permissions of the file and of its directory.",
    ),
    (
        "The file is of something else",
        damaged_file,
        "database",
        "… is not a SQLite database",
        "Set DATABASE_URL to another file.",
    ),
    (
        "PostgreSQL is away",
        setting(DATABASE_URL="postgresql+psycopg://ada:pw@127.0.0.1:9/app"),
        "database",
        "… does not answer",
        "Start it, or set DATABASE_URL.",
    ),
    (
        "SQLite is on a network disk",
        network_disk,
        "database",
        "… is on a network disk (nfs4), where SQLite's locks do not hold",
        "Move it to a disk of this machine, or use PostgreSQL.",
    ),
    ("The disk is full", full_disk, "database", "only 1 MB are free on the disk of …", "Free some, …"),
    (
        "The spool can't be written",
        spool_is_a_file,
        "spool",
        "… can't be written (… is no directory): …",
        "Give this user the directory, or set SPOOL_DIRECTORY to another.",
    ),
    (
        "A key of stored tokens is missing",
        lost_key,
        "keys",
        "key k1 is not configured, and …",
        "Add it to ENCRYPTION_KEYS…",
    ),
    (
        "Another key has the id of the one that sealed",
        wrong_key,
        "keys",
        "key k1 is configured, but k1 is not the key that sealed what is stored, …",
        "Restore ENCRYPTION_KEYS …",
    ),
)
_about(
    "Redis",
    (
        "It is away",
        setting(REDIS_URL="redis://127.0.0.1:9/0"),
        "redis",
        "… does not answer (ConnectionError)",
        "Start it, or set REDIS_URL.",
    ),
    (
        "The password is wrong",
        own_valkey(with_password, lambda url: url.replace("redis://", "redis://:wrong@")),
        "redis",
        "… refuses the password",
        "Correct the password in REDIS_URL.",
    ),
    (
        "The password is missing",
        own_valkey(with_password),
        "redis",
        "… asks for a password",
        "Put it into REDIS_URL: …",
    ),
    (
        "The database number is too high",
        setting(REDIS_URL="redis://{redis}/99"),
        "redis",
        "… has no database of that number",
        "Correct the number at the end of REDIS_URL, …",
    ),
    (
        "`rediss://`, and the server speaks no TLS",
        no_tls,
        "redis",
        "… does not answer in TLS: …",
        "Write redis:// in place of rediss:// if it speaks none, …",
    ),
    (
        "`redis://`, and the server speaks TLS",
        tls_server,
        "redis",
        "… expects TLS",
        "Write rediss:// in place of redis://…",
    ),
    (
        "Another server is at that port",
        not_redis,
        "redis",
        "… answers, but is no Redis",
        "Correct host and port in REDIS_URL.",
    ),
    (
        "The host is not known",
        setting(REDIS_URL="redis://no-such-host.invalid/0"),
        "redis",
        "… has a host name that is not known",
        "Correct the host in REDIS_URL.",
    ),
    ("It is a replica", own_valkey(replica), "redis", "… is a read-only replica", "Set REDIS_URL to the primary."),
    (
        "It is full",
        own_valkey(lambda client: client.config_set("maxmemory", "1")),
        "redis",
        "… is full: maxmemory is reached",
        "Raise maxmemory, or trim the streams.",
    ),
    (
        "It evicts keys",
        own_valkey(lambda client: client.config_set("maxmemory-policy", "allkeys-lru")),
        "redis memory",
        "maxmemory-policy allkeys-lru",
        "Set maxmemory-policy noeviction, …",
    ),
    (
        "It keeps nothing on disk",
        own_valkey(lambda client: client.config_set("save", "")),
        "redis persistence",
        "nothing survives a restart",
        "Set appendonly yes. …",
    ),
    (
        "Something else uses a key of ours",
        foreign_key,
        "redis",
        "breezesync:events in … is a string, not a stream",
        "Something else uses this key. …",
    ),
    (
        "Two fleets share it",
        two_fleets,
        "redis",
        "worker staging:7 uses this Redis with another database: …",
        "Give each fleet a Redis, …",
    ),
)
_about(
    "Processes",
    ("Nothing runs", setting(), "processes", "no process of this fleet runs", "Start them: …"),
    (
        "No worker runs",
        running(("scheduler", "", 0.0), ("web", "", 0.0)),
        "processes",
        "no worker runs (only 1 scheduler, 1 web)",
        "Start one: dramatiq worker.main:boot",
    ),
    (
        "No scheduler runs",
        running(("worker", "", 0.0)),
        "processes",
        "no scheduler runs (only 1 worker)",
        "Start one: python -m scheduler",
    ),
    (
        "A process is of another version",
        running(("worker", "0.0.9", 0.0), ("scheduler", "", 0.0)),
        "processes",
        "worker host:1 runs version 0.0.9, and this is …",
        "Finish the rollout: …",
    ),
    (
        "A machine's clock is off",
        running(("worker", "", 65.0), ("scheduler", "", 0.0)),
        "clock",
        "the machine of worker host:1 is 65.0 s ahead of the database",
        "Synchronize that machine's clock by NTP; …",
    ),
)
_about(
    "Provider and network",
    (
        "The client's secret is wrong",
        setting(BREEZEDOC_CLIENT_SECRET="wrong"),
        "token endpoint",
        "… rejects client … (invalid_client)",
        "Check BREEZEDOC_CLIENT_ID and BREEZEDOC_CLIENT_SECRET.",
    ),
    (
        "`BREEZEDOC_TOKEN_URL` is another page",
        setting(BREEZEDOC_TOKEN_URL="{url}/nowhere"),
        "token endpoint",
        "… answers HTTP 404, not as a token endpoint",
        "Check BREEZEDOC_TOKEN_URL.",
    ),
    (
        "Nothing answers at `BREEZEDOC_TOKEN_URL`",
        setting(BREEZEDOC_TOKEN_URL="http://127.0.0.1:9/token"),
        "token endpoint",
        "… does not answer (…)",
        "Check the network and BREEZEDOC_TOKEN_URL.",
    ),
    (
        "`BREEZEDOC_AUTHORIZE_URL` is another page",
        setting(BREEZEDOC_AUTHORIZE_URL="{url}/nowhere"),
        "authorize page",
        "… answers 404: no user can connect",
        "Correct BREEZEDOC_AUTHORIZE_URL.",
    ),
    (
        "The redirect URI is not registered at the provider",
        unregistered,
        "authorize page",
        "… refuses this client and redirect URI (HTTP …)",
        "Compare BREEZEDOC_CLIENT_ID and BREEZEDOC_REDIRECT_URI with the provider's, …",
    ),
    (
        "Another server answers at the redirect URI",
        served(404, BREEZEDOC_REDIRECT_URI="{url}/auth/breezedoc/callback"),
        "redirect URI",
        "… is answered with HTTP 404, not by our web process",
        "Have the proxy pass /auth/breezedoc/callback on …",
    ),
    (
        "`BREEZEDOC_API_URL` is a website",
        served(200, BREEZEDOC_API_URL="{url}/api"),
        "api",
        "… answers a page of HTML, not JSON…",
        "That is a website, …",
    ),
    (
        "`BREEZEDOC_API_URL` is another path",
        setting(BREEZEDOC_API_URL="{url}/nowhere"),
        "api",
        "… answers 404…",
        "Check the network and BREEZEDOC_API_URL.",
    ),
    (
        "The proxy is away",
        setting(HTTP_PROXY="http://127.0.0.1:9"),
        "token endpoint",
        "… does not answer through the proxy 127.0.0.1:9 (…)",
        "Correct the proxy variable, or name the host in NO_PROXY.",
    ),
    (
        "The proxy asks for credentials",
        served(407, HTTP_PROXY="{url}"),
        "token endpoint",
        "the proxy on the way to … asks for credentials (HTTP 407)",
        "Put its user and password into the proxy variable's URL.",
    ),
    (
        "An operator paused the provider",
        paused,
        "breaker",
        "an operator paused OAuth client …",
        "breezesync provider resume breezedoc",
    ),
)
MISCONFIGURATIONS: tuple[Misconfiguration, ...] = tuple(_all)
