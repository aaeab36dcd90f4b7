"""Callbacks that must change nothing: another browser, another provider, a state twice, too much, too odd."""

import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode, urlsplit

import pytest
from sqlalchemy import update

from models.oauth.authorization import hash_of
from models.store.rows import table_of
from models.store.tables import AuthorizationRow
from tests.hostile_input.conftest import Web

Answered = tuple[int, str]
authorizations = table_of(AuthorizationRow)


def test_a_state_is_used_once(web: Web) -> None:
    state, cookies = web.begin()
    first = web.call_back(cookies, state=state, code="first")
    assert first.status_code == 303
    before = web.contents()
    for query in ({"code": "second"}, {"error": "access_denied"}):
        again = web.call_back(cookies, state=state, **query)
        assert (again.status_code, again.headers["location"]) == (303, first.headers["location"])
        assert web.call_back({}, state=state, **query).status_code == 403
    assert web.contents() == before


ODD: dict[str, tuple[int, Callable[[str], list[tuple[str, str]]]]] = {
    "neither code nor error": (400, lambda state: [("state", state)]),
    "nothing at all": (400, lambda state: []),
    "an empty code": (400, lambda state: [("state", state), ("code", "")]),
    "code and error": (400, lambda state: [("state", state), ("code", "c"), ("error", "access_denied")]),
    "a code of 8193 characters": (400, lambda state: [("state", state), ("code", "c" * 8193)]),
    "the code twice": (400, lambda state: [("state", state), ("code", "a"), ("code", "b")]),
    "the state twice": (400, lambda state: [("state", state), ("state", state), ("code", "a")]),
    "no state": (403, lambda state: [("code", "c")]),
    "an empty state": (403, lambda state: [("state", ""), ("code", "c")]),
    "a wrong state": (403, lambda state: [("state", state[:-1]), ("code", "c")]),
    "the state's hash": (403, lambda state: [("state", hash_of(state)), ("code", "c")]),
    "a state with a NUL": (403, lambda state: [("state", f"{state}\x00"), ("code", "c")]),
    "half a character in the state": (403, lambda state: [("state", "\udcff"), ("code", "c")]),
    "a long state": (403, lambda state: [("state", "s" * 8_000), ("code", "c")]),
    "an error with a wrong state": (403, lambda state: [("state", "no"), ("error", "access_denied")]),
    "a denial without a state": (403, lambda state: [("error", "access_denied")]),
    "an outage without a state": (403, lambda state: [("error", "server_error")]),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_callback_changes_nothing_and_the_flow_goes_on(web: Web, name: str) -> None:
    status, build = ODD[name]
    state, cookies = web.begin()
    before = web.contents()
    query = urlencode(build(state), errors="surrogateescape")
    answer = web.get(f"/auth/breezedoc/callback?{query}", cookies=cookies)
    assert (answer.status_code, 'id="refused"' in answer.text) == (status, True), answer.text
    assert web.contents() == before
    assert web.call_back(cookies, state=state, code="good").status_code == 303


def test_another_browser_gets_nowhere_with_a_state(web: Web) -> None:
    state, cookies = web.begin()
    _, others = web.begin("mallory")
    before = web.contents()
    [name], [secret] = cookies.keys(), others.values()
    stolen_name = {name: secret}
    for wrong in ({}, others, stolen_name, {name: "x" * 43}, {name: "short"}, {name: "ü" * 43}, {"breezesync": secret}):
        raw = "; ".join(f"{name}={value}" for name, value in wrong.items()).encode()
        headers = {b"cookie": raw} if raw else {}
        answer = web.get("/auth/breezedoc/callback", params={"state": state, "code": "c"}, headers=headers)
        assert answer.status_code == 403, wrong
    assert web.contents() == before
    assert web.call_back(cookies, state=state, code="good").status_code == 303


def test_a_state_of_another_provider_gets_nowhere(web: Web) -> None:
    state, cookies = web.begin()
    change = update(authorizations).where(authorizations.c.state_hash == hash_of(state))
    web.fleet.change(change.values(provider="other"))
    before = web.contents()
    assert web.call_back(cookies, state=state, code="c").status_code == 403
    assert web.call_back(cookies, error="access_denied").status_code == 403
    assert web.contents() == before


def test_a_state_that_came_too_late_gets_nowhere(web: Web) -> None:
    state, cookies = web.begin()
    change = update(authorizations).where(authorizations.c.state_hash == hash_of(state))
    web.fleet.change(change.values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    before = web.contents()
    assert web.call_back(cookies, state=state, code="c").status_code == 403
    assert web.call_back(cookies, error="access_denied").status_code == 403
    assert web.contents() == before


def test_what_the_provider_says_of_an_error_reaches_no_page_as_markup(web: Web) -> None:
    state, cookies = web.begin()
    words = {
        "error": "<script>alert(1)</script>",
        "error_description": "<img src=x onerror=alert(1)>\x00\r\n" + "y" * 900,
    }
    answer = web.call_back(cookies, state=state, **words)
    assert answer.status_code == 303
    page = web.follow(answer)
    assert page.status_code == 200
    assert "alert(1)" not in page.text
    identity = answer.headers["location"].rsplit("/", 1)[1]
    [row] = web.fleet.rows("SELECT reason, description FROM authorization WHERE id = :id", id=identity)
    assert (row.reason, len(row.description)) == ("client_rejected", 200)
    assert row.description.isprintable()


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_only_get_brings_a_code(web: Web, method: str) -> None:
    state, cookies = web.begin()
    before = web.contents()
    answer = web.get("/auth/breezedoc/callback", method, params={"state": state, "code": "c"}, cookies=cookies)
    assert answer.status_code == 405
    assert web.contents() == before
    assert web.call_back(cookies, state=state, code="good").status_code == 303


def speak(web: Web, request: bytes) -> bytes:
    """Sends bytes as they are; what comes back until the server closes, which it may do before it has read them all."""
    address = urlsplit(web.url)
    received = b""
    with (
        socket.create_connection((address.hostname or "", address.port or 0), timeout=20) as wire,
        suppress(ConnectionError),
    ):
        wire.sendall(request)
        wire.shutdown(socket.SHUT_WR)
        while chunk := wire.recv(65_536):
            received += chunk
    return received


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /auth/breezedoc/callback?code=" + b"c" * 65_536 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /auth/breezedoc/callback?" + b"&".join(b"a%d=1" % n for n in range(8_000)) + b" HTTP/1.1\r\n"
        b"Host: a\r\nConnection: close\r\n\r\n",
        b"GET /auth/breezedoc/callback?code=\x00 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /auth/breezedoc/callback?code=%ZZ&state=%00 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /auth/breezedoc/callback HTTP/1.1\r\nHost: a\r\nCookie: " + b"c=1; " * 12_000 + b"\r\n\r\n",
        b"GET http://evil.example/auth/breezedoc HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
    ],
    ids=[
        "64 KiB of code",
        "8000 parameters",
        "a raw NUL",
        "bad escapes",
        "60 KB of cookies",
        "a proxy's line",
        "TLS",
        "no HTTP",
    ],
)
def test_what_is_hardly_a_request_is_refused_and_the_process_lives(web: Web, request_line: bytes) -> None:
    before = web.contents()
    received = speak(web, request_line)
    assert received == b"" or received.split()[1].startswith(b"4"), received[:200]
    assert web.contents() == before
    assert web.operator("/healthz").status_code == 200
    assert web.get("/").status_code == 404
    assert "Traceback" not in web.log()


@pytest.mark.parametrize(
    "identity",
    ["f" * 32, "F" * 32, "%00", "a%00b", "a" * 33, "' OR 1=1 --", "%2e%2e%2f", "\N{PILE OF POO}", "a" * 10_000],
)
def test_a_result_page_that_nobody_has_is_not_found(web: Web, identity: str) -> None:
    answer = web.get(f"/auth/breezedoc/done/{identity}")
    assert (answer.status_code, 'id="refused"' in answer.text) == (404, True)
    assert "Traceback" not in web.log()
