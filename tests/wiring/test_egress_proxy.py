"""An egress proxy between us and the provider: what it refuses never left, and what it lets through did."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import worker.provider.client
import worker.provider.transport
from config.proxies import find_proxies
from models.api_response import Failed, Page
from models.crypto.secrets import Secret
from models.oauth.client import OAuthClient
from models.oauth.refresh_policy import Patience
from models.oauth.token_response import NotNow, OutcomeUnknown, TokensGranted
from models.paging.page_format import PageAsked
from models.provider import Provider, Resource
from models.proxies import Proxies
from tests.raw_http import drip, read_request
from worker.deadlines import Deadlines
from worker.provider.client import ProviderClient
from worker.provider.rate_limit import Budgets

who = OAuthClient(provider="p", client_id="c", client_secret=Secret("s"), redirect_uri="https://a/b")
pair = b'{"access_token": "a", "refresh_token": "r", "token_type": "Bearer", "expires_in": 60}'
page = b'{"data": [{"id": 1}], "current_page": 1, "last_page": 1, "total": 1}'


@dataclass
class Trust:
    """A certificate for 127.0.0.1, for a server that shows it and a client that believes it."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("trust") / "both.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Trust(server_context(path), ssl.create_default_context(cafile=str(path)))


def server_context(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that treats each connection so on a thread of its own, until the block ends; its port."""
    opened: list[socket.socket] = []

    def treat(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            serve(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                opened.append(connection)
                threading.Thread(target=treat, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            for connection in opened:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            server.shutdown(socket.SHUT_RDWR)


@dataclass
class Site:
    """A provider over TLS that answers everything with `body`, and keeps what it was sent."""

    trust: Trust
    body: bytes = pair
    drips: bool = False
    received: list[bytes] = field(default_factory=list)

    def serve(self, connection: socket.socket) -> None:
        with self.trust.server.wrap_socket(connection, server_side=True) as secure:
            while (request := read_request(secure)) is not None:
                self.received.append(request)
                if self.drips:
                    drip(secure)
                secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self.body) + self.body)


@dataclass
class EgressProxy:
    """What a proxy does with a CONNECT: `answer` it with a refusal, or `tunnel` it."""

    treat: Callable[[socket.socket, str], None]
    asked: list[str] = field(default_factory=list)

    def serve(self, connection: socket.socket) -> None:
        request = read_request(connection)
        if request is not None:
            first, *_ = request.decode().split("\r\n")
            self.asked.append(first)
            self.treat(connection, first.split(" ")[1])


def refusing(line: str) -> Callable[[socket.socket, str], None]:
    def treat(connection: socket.socket, _: str) -> None:
        connection.sendall(f"HTTP/1.1 {line}\r\nContent-Length: 3\r\n\r\nno\n".encode())

    return treat


def hang_up(connection: socket.socket, _: str) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def hang_up_in_the_tunnel(connection: socket.socket, _: str) -> None:
    connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    connection.recv(65536)
    connection.shutdown(socket.SHUT_RDWR)


def speak_no_tls(connection: socket.socket, _: str) -> None:
    connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    connection.recv(65536)
    connection.sendall(b"<html>This site is blocked</html>")
    connection.recv(65536)


def say_nothing(connection: socket.socket, _: str) -> None:
    connection.recv(65536)


def say_nothing_in_the_tunnel(connection: socket.socket, _: str) -> None:
    connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    while connection.recv(65536):
        pass


def tunnel(connection: socket.socket, target: str) -> None:
    host, _, port = target.rpartition(":")
    with socket.create_connection((host, int(port))) as onward:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=pump, args=(onward, connection), daemon=True)
        back.start()
        pump(connection, onward)
        back.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def client_of(port: int, proxies: Proxies, trust: Trust | None = None) -> ProviderClient:
    url = f"https://127.0.0.1:{port}"
    profile = Provider(name="p", authorize_url=f"{url}/authorize", token_url=f"{url}/token", api_url=url)
    budgets = Budgets(fakeredis.FakeRedis(server=fakeredis.FakeServer()), lambda: datetime.now(UTC).timestamp())
    context = ssl.create_default_context() if trust is None else trust.client
    client = ProviderClient(profile, lambda: datetime.now(UTC), budgets, context, proxies=proxies)
    client.usual_patience = Patience(deadline=timedelta(seconds=1))
    return client


def through(port: int) -> Proxies:
    return find_proxies({"HTTPS_PROXY": f"http://user:word@127.0.0.1:{port}"})


def in_a_minute() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)


nothing_left: dict[str, Callable[[socket.socket, str], None]] = {
    "407": refusing("407 Proxy Authentication Required"),
    "502": refusing("502 Bad Gateway"),
    "403": refusing("403 Forbidden"),
    "a redirect": refusing("302 Found"),
    "hangs up": hang_up,
    "says nothing": say_nothing,
    "hangs up in the tunnel": hang_up_in_the_tunnel,
    "speaks no TLS in the tunnel": speak_no_tls,
    "says nothing in the tunnel": say_nothing_in_the_tunnel,
}


@pytest.mark.parametrize("case", nothing_left)
def test_what_a_proxy_keeps_back_is_unspent(trust: Trust, case: str) -> None:
    site, proxy = Site(trust), EgressProxy(nothing_left[case])
    with listening(site.serve) as port, listening(proxy.serve) as egress:
        client = client_of(port, through(egress), trust)
        refreshed = client.refresh(who, Secret("r"), "", in_a_minute())
        exchanged = client.exchange_code(who, Secret("c"), None, "https://a/b", in_a_minute())
    for called in (refreshed, exchanged):
        assert isinstance(called.outcome, NotNow)
        assert (called.outcome.sure, called.outcome.throttled, called.sent) == (True, False, False)
        assert called.log_for("connection") == []
    assert site.received == []
    assert proxy.asked == [f"CONNECT 127.0.0.1:{port} HTTP/1.1"] * 2


def test_a_certificate_that_is_not_believed_in_the_tunnel_leaves_the_token_unspent(trust: Trust) -> None:
    site, proxy = Site(trust), EgressProxy(tunnel)
    with listening(site.serve) as port, listening(proxy.serve) as egress:
        called = client_of(port, through(egress)).refresh(who, Secret("r"), "", in_a_minute())
    assert isinstance(called.outcome, NotNow)
    assert site.received == []


def test_a_refusal_says_what_the_proxy_said_and_not_its_password(trust: Trust) -> None:
    proxy = EgressProxy(refusing("407 Proxy Authentication Required"))
    with listening(proxy.serve) as egress:
        called = client_of(1, through(egress), trust).refresh(who, Secret("r"), "", in_a_minute())
    assert isinstance(called.outcome, NotNow)
    assert called.outcome.evidence.description == "ProxyError: 407 Proxy Authentication Required"


def test_a_tunnel_that_works_carries_the_token_once(trust: Trust) -> None:
    site, proxy = Site(trust), EgressProxy(tunnel)
    with listening(site.serve) as port, listening(proxy.serve) as egress:
        called = client_of(port, through(egress), trust).refresh(who, Secret("the-token"), "", in_a_minute())
    assert isinstance(called.outcome, TokensGranted)
    assert called.sent
    [request] = site.received
    assert b"the-token" in request
    assert b"proxy-authorization" not in request.lower()


def test_the_lease_is_looked_at_when_the_body_goes_and_not_when_the_tunnel_is_asked_for(trust: Trust) -> None:
    site, begun, late = Site(trust), datetime.now(UTC), threading.Event()

    def slowly(connection: socket.socket, target: str) -> None:
        late.set()
        tunnel(connection, target)

    proxy = EgressProxy(slowly)
    with listening(site.serve) as port, listening(proxy.serve) as egress:
        client = client_of(port, through(egress), trust)
        client.now = lambda: begun + timedelta(minutes=2) if late.is_set() else begun
        called = client.refresh(who, Secret("r"), "", begun + timedelta(minutes=1))
    assert isinstance(called.outcome, NotNow)
    assert called.outcome.evidence.description == "the lease ran out before the request was sent"
    assert site.received == []


def test_an_answer_that_drips_through_a_tunnel_is_cut_off_and_unknown(trust: Trust) -> None:
    site, proxy = Site(trust, drips=True), EgressProxy(tunnel)
    with listening(site.serve) as port, listening(proxy.serve) as egress:
        begun = datetime.now(UTC)
        called = client_of(port, through(egress), trust).refresh(who, Secret("r"), "", in_a_minute())
        took = datetime.now(UTC) - begun
    assert isinstance(called.outcome, OutcomeUnknown)
    assert took < timedelta(seconds=10)


def test_reading_goes_on_after_more_broken_tunnels_than_a_pool_holds(
    trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.provider.client, "api_pool", 2)
    site, broken = Site(trust, page), EgressProxy(hang_up_in_the_tunnel)
    documents = Resource(name="document", path="/documents", paging="laravel")
    with listening(site.serve) as port, listening(broken.serve) as egress:
        client = client_of(port, through(egress), trust)
        for _ in range(4):
            called: Any = client.read_page(documents, "/documents", PageAsked(), Secret("t"), client.allow("1"))
            assert called.outcome == Failed("ConnectError")
        broken.treat = tunnel
        for _ in range(2):
            called = client.read_page(documents, "/documents", PageAsked(), Secret("t"), client.allow("1"))
            assert isinstance(called.outcome, Page)
        assert len(broken.asked) == 5, "the second reading has used the first one's tunnel"
        client.close()


def test_an_exception_goes_past_the_proxy(trust: Trust) -> None:
    site, proxy = Site(trust), EgressProxy(tunnel)
    with listening(site.serve) as port, listening(proxy.serve) as egress:
        environ = {"ALL_PROXY": f"http://127.0.0.1:{egress}", "NO_PROXY": "fd00::/8,127.0.0.0/8"}
        called = client_of(port, find_proxies(environ), trust).refresh(who, Secret("r"), "", in_a_minute())
    assert isinstance(called.outcome, TokensGranted)
    assert proxy.asked == []


def test_a_proxy_that_asks_for_a_password_without_a_tunnel_has_kept_the_token_back(trust: Trust) -> None:
    proxy = EgressProxy(refusing("407 Proxy Authentication Required"))
    with listening(proxy.serve) as egress:
        client = client_of(1, find_proxies({"HTTP_PROXY": f"http://127.0.0.1:{egress}"}), trust)
        client.provider = replace(client.provider, token_url="http://provider.example/token")
        called = client.refresh(who, Secret("r"), "", in_a_minute())
    assert isinstance(called.outcome, NotNow)
    assert proxy.asked == ["POST http://provider.example/token HTTP/1.1"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NO_PROXY", "localhost,fd00::/129"),
        ("ALL_PROXY", "socks4://proxy"),
        ("HTTP_PROXY", "foo://"),
        ("https_proxy", "http://:1"),
    ],
)
def test_bad_proxies_are_found_when_a_client_is_made_and_never_later(
    trust: Trust, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    profile = Provider(name="p", authorize_url="https://a/b", token_url="https://a/c", api_url="https://a")
    budgets = Budgets(fakeredis.FakeRedis(server=fakeredis.FakeServer()), lambda: 0.0)
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        ProviderClient(profile, lambda: datetime.now(UTC), budgets)


def test_proxies_that_come_into_the_environment_later_change_nothing(
    trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(trust)
    with listening(site.serve) as port:
        client = client_of(port, Proxies(), trust)
        for name in ("NO_PROXY", "ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, "foo://,fd00::/8")
        called = client.refresh(who, Secret("r"), "", in_a_minute())
    assert isinstance(called.outcome, TokensGranted)


def test_a_machine_without_a_thread_to_spare_sends_nothing(trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    site = Site(trust)
    with listening(site.serve) as port:
        client = client_of(port, Proxies(), trust)
        with monkeypatch.context() as patched:
            patched.setattr(worker.provider.transport, "deadlines", Deadlines())
            patched.setattr(threading.Thread, "start", refuse)
            called = client.refresh(who, Secret("r"), "", in_a_minute())
    assert isinstance(called.outcome, NotNow)
    assert site.received == []
