"""What a server may do on the wire, and that no request outlives its deadline or grows beyond its bounds."""

import gc
import gzip
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import fakeredis
import httpx
import pytest

import worker.provider.client
from models.api_response import Failed, Page, Throttled
from models.crypto.secrets import Secret
from models.oauth.client import OAuthClient
from models.oauth.refresh_policy import Patience
from models.oauth.token_response import OutcomeUnknown, TokensGranted
from models.paging.page_format import PageAsked
from models.provider import Provider, Resource
from tests.raw_http import drip, read_request
from worker.deadlines import deadlines, few
from worker.provider.client import ProviderClient, largest_page
from worker.provider.rate_limit import Budgets
from worker.provider.transport import Meanwhile, Wire, unpack_body

Speak = Callable[[socket.socket], None]
page = json.dumps({"data": [{"id": 1}], "current_page": 1, "last_page": 1, "total": 1}).encode()
who = OAuthClient(provider="p", client_id="c", client_secret=Secret("s"), redirect_uri="https://a/b")
pair = json.dumps({"access_token": "a", "refresh_token": "r", "token_type": "Bearer", "expires_in": 60}).encode()


@contextmanager
def serving(speak: Speak, heard: list[bytes] | None = None) -> Iterator[str]:
    """A server that answers each connection's requests so, until the block ends; `heard` gets what is sent to it."""
    ended = threading.Event()
    opened: list[socket.socket] = []

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while not ended.is_set() and (request := read_request(connection)) is not None:
                if heard is not None:
                    heard.append(request)
                speak(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                opened.append(connection)
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        ended.set()
        for connection in opened:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        server.shutdown(socket.SHUT_RDWR)


def client_of(url: str) -> ProviderClient:
    profile = Provider(name="p", authorize_url=f"{url}/authorize", token_url=f"{url}/token", api_url=url)
    budgets = Budgets(fakeredis.FakeRedis(server=fakeredis.FakeServer()), lambda: datetime.now(UTC).timestamp())
    return ProviderClient(profile, lambda: datetime.now(UTC), budgets)


def read(client: ProviderClient) -> object:
    called = client.read_page(
        Resource(name="document", path="/documents"), "/documents", PageAsked(), Secret("t"), client.allow("1")
    )
    return called.outcome  # type: ignore[union-attr]  # there is room in a new budget


@pytest.mark.parametrize(("late", "acted"), [(0.0, 0), (0.3, 1)])
def test_what_is_to_be_done_meanwhile_is_done_once_if_the_answer_takes_its_time(late: float, acted: int) -> None:
    def answer(connection: socket.socket) -> None:
        threading.Event().wait(late)
        answer_with(page)(connection)

    threads: list[int] = []
    meanwhile = Meanwhile(0.15, lambda: threads.append(threading.get_ident()))
    with serving(answer) as url:
        client = client_of(url)
        called = client.read_page(
            Resource(name="document", path="/documents"),
            "/documents",
            PageAsked(),
            Secret("t"),
            client.allow("1"),
            meanwhile,
        )
        assert isinstance(called.outcome, Page)  # type: ignore[union-attr]  # there is room in a new budget
        client.close()
    assert threads == [threading.get_ident()] * acted


class OurFault(RuntimeError):
    """What `Wire` would take for a failure of the request, if it came from there."""


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_done_meanwhile_is_no_part_of_the_request(fails: bool) -> None:
    begun = threading.Event()

    def answer(connection: socket.socket) -> None:
        begun.wait()
        answer_with(page)(connection)

    def act() -> str:
        begun.set()
        threading.Event().wait(1.2)  # longer than the whole request may take
        if fails:
            raise OurFault
        return "done"

    meanwhile = Meanwhile(0.01, act)
    with serving(answer) as url:
        client = client_of(url)
        called = client.read_page(
            Resource(name="document", path="/documents", timeout_seconds=1),
            "/documents",
            PageAsked(),
            Secret("t"),
            client.allow("1"),
            meanwhile,
        )
        client.close()
    assert isinstance(called.outcome, Page)  # type: ignore[union-attr]  # there is room in a new budget
    assert called.duration_ms < 1000  # type: ignore[union-attr]
    with pytest.raises(OurFault) if fails else nullcontext():
        assert meanwhile.outcome() == "done"


def answer_with(body: bytes, **headers: str) -> Speak:
    named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 200 OK\r\n{named}Content-Length: {len(body)}\r\n\r\n".encode()
    return lambda connection: connection.sendall(head + body)


def in_turn(*speaks: Speak) -> Speak:
    """The first request is answered by the first of them, and so on."""
    left = list(speaks)

    def speak(connection: socket.socket) -> None:
        left.pop(0)(connection)

    return speak


def hint_for_ever(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        threading.Event().wait(0.01)


@pytest.mark.parametrize("speak", [drip, hint_for_ever])
@pytest.mark.parametrize("kept_open", [False, True])
def test_headers_that_never_end_are_cut_off(monkeypatch: pytest.MonkeyPatch, speak: Speak, kept_open: bool) -> None:
    monkeypatch.setattr(worker.provider.client, "api_deadline", timedelta(seconds=0.3))
    with serving(in_turn(*([answer_with(page)] if kept_open else []), speak)) as url:
        client = client_of(url)
        if kept_open:
            assert isinstance(read(client), Page)
        assert isinstance(read(client), Failed)
        client.close()


def test_a_connection_is_cut_that_was_kept_open_behind_a_request_to_another_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker.provider.client, "api_deadline", timedelta(seconds=0.3))
    with serving(in_turn(answer_with(page), drip)) as url, serving(answer_with(page)) as other_url:
        client = client_of(url)
        other = Resource(name="event", path="/events", api_url=other_url)
        assert isinstance(read(client), Page)
        called = client.read_page(other, "/events", PageAsked(), Secret("t"), client.allow("1"))
        assert isinstance(called.outcome, Page)  # type: ignore[union-attr]  # there is room in a new budget
        assert isinstance(read(client), Failed)
        client.close()


def test_a_thread_goes_on_after_its_connection_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.provider.client, "api_deadline", timedelta(seconds=0.3))
    with serving(in_turn(drip, answer_with(page))) as url:
        client = client_of(url)
        assert isinstance(read(client), Failed)
        assert isinstance(read(client), Page)
        client.close()


packed: dict[str, tuple[bytes, str, type]] = {
    "gzip": (gzip.compress(page), "gzip", Page),
    "zlib": (zlib.compress(page), "deflate", Page),
    "plain": (page, "identity", Page),
    "a bomb": (gzip.compress(b" " * (200 << 20)), "gzip", Failed),
    "packed twice": (gzip.compress(gzip.compress(page)), "gzip, gzip", Failed),
    "no gzip at all": (page, "gzip", Failed),
    "something else": (page, "br", Failed),
}


@pytest.mark.parametrize("case", packed)
def test_a_body_is_unpacked_within_bounds(case: str) -> None:
    body, encoding, expected = packed[case]
    with serving(answer_with(body, content_encoding=encoding)) as url:
        client = client_of(url)
        assert isinstance(read(client), expected)
        client.close()


def test_a_bomb_is_not_unpacked_beyond_its_bound() -> None:
    assert unpack_body(gzip.compress(b"x" * (largest_page + 1)), "gzip", largest_page) is None
    assert unpack_body(gzip.compress(b"x" * largest_page), "gzip", largest_page) == b"x" * largest_page


def ask_for_tokens(client: ProviderClient) -> object:
    return client.refresh(who, Secret("r"), "", datetime.now(UTC) + timedelta(minutes=1)).outcome


def refresh(url: str) -> object:
    client = client_of(url)
    client.usual_patience = Patience(deadline=timedelta(seconds=1))
    return ask_for_tokens(client)


def test_a_pair_is_taken_whatever_else_the_answer_says() -> None:
    no_time = "Mon, 01 Jan 99999999999 00:00:00 GMT"
    with serving(answer_with(gzip.compress(pair), content_encoding="gzip", retry_after=no_time)) as url:
        assert isinstance(refresh(url), TokensGranted)


def test_a_token_answer_that_drips_is_cut_off_and_unknown() -> None:
    with serving(drip) as url:
        assert isinstance(refresh(url), OutcomeUnknown)


def test_a_429_for_the_account_pauses_it_for_everybody() -> None:
    def throttle(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n")

    with serving(throttle) as url:
        client = client_of(url)
        assert isinstance(client.read_account(Secret("t"), "1").outcome, Throttled)
        waits = client.read_page(
            Resource(name="document", path="/documents"), "/documents", PageAsked(), Secret("t"), client.allow("1")
        )
        assert not hasattr(waits, "outcome"), "nothing was sent"
        client.close()


@pytest.mark.parametrize(
    ("said", "expected"),
    [({}, "read write"), ({"scope": None}, "read write"), ({"scope": "read"}, "read"), ({"scope": ["a", "b"]}, "a b")],
)
def test_a_code_exchange_without_a_scope_in_its_answer_grants_the_one_asked_for(
    said: dict[str, object], expected: str
) -> None:
    with serving(answer_with(json.dumps(json.loads(pair) | said).encode())) as url:
        client = client_of(url)
        client.provider = replace(client.provider, scope="read write")
        soon = datetime.now(UTC) + timedelta(minutes=1)
        exchanged = client.exchange_code(who, Secret("c"), None, "https://a/b", soon).outcome
        refreshed = client.refresh(who, Secret("r"), "", soon).outcome
    assert isinstance(exchanged, TokensGranted)
    assert exchanged.scope == expected
    assert isinstance(refreshed, TokensGranted)
    assert refreshed.scope == (None if expected == "read write" else expected)


def test_every_token_request_has_a_connection_of_its_own() -> None:
    used: set[object] = set()

    def speak(connection: socket.socket) -> None:
        used.add(connection.getpeername())
        answer_with(pair)(connection)

    with serving(speak) as url:
        client = client_of(url)
        for _ in range(5):
            assert isinstance(ask_for_tokens(client), TokensGranted)
        client.close()
    assert len(used) == 5


def test_a_token_request_after_one_that_was_cut_is_answered() -> None:
    with serving(in_turn(drip, answer_with(pair))) as url:
        client = client_of(url)
        client.usual_patience = Patience(deadline=timedelta(seconds=0.3))
        assert isinstance(ask_for_tokens(client), OutcomeUnknown)
        assert isinstance(ask_for_tokens(client), TokensGranted)
        client.close()


def test_a_provider_gets_none_of_its_cookies_back() -> None:
    heard: list[bytes] = []
    with serving(answer_with(page, Set_Cookie="session=1"), heard) as url:
        client = client_of(url)
        assert isinstance(read(client), Page)
        assert isinstance(read(client), Page)
        client.close()
    assert len(heard) == 2
    assert not any(b"session=1" in request for request in heard)


def count_watchers() -> int:
    return [thread.name for thread in threading.enumerate()].count("deadlines")


@pytest.mark.no_cover  # runs the same few lines very often
def test_a_thousand_requests_leave_nothing_behind() -> None:
    def count_left() -> int:
        gc.collect()
        return sum(isinstance(each, Wire | httpx.Request | httpx.Response) for each in gc.get_objects())

    with serving(answer_with(pair)) as url:
        client = client_of(url)
        assert isinstance(ask_for_tokens(client), TokensGranted)
        before, threads = count_left(), count_watchers()
        for _ in range(1000):
            assert isinstance(ask_for_tokens(client), TokensGranted)
        assert count_left() <= before
        assert len(deadlines.watch) <= 2 * few + 2
        assert count_watchers() == threads
        client.close()
