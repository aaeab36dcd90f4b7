"""A token endpoint that says again what it was sent: nothing of it is kept, told or logged."""

import json
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import pytest
from structlog.testing import capture_logs

from models.store.tables import metadata
from tests.harness import House


@dataclass
class Echo:
    """What came: the secrets of each request, as they were before anything encoded them."""

    status: int
    error: str
    secrets: list[str] = field(default_factory=list)

    def answer(self, body: str, authorization: str) -> dict[str, str]:
        fields = json.loads(body) if body.startswith("{") else dict(parse_qsl(body))
        names = ("code", "code_verifier", "refresh_token", "client_secret")
        self.secrets += [fields[name] for name in names if name in fields]
        if authorization:
            encoded = authorization.removeprefix("Basic ")
            self.secrets += [encoded, unquote_plus(b64decode(encoded).decode().split(":")[1])]
        said = " ".join([body, authorization, *self.secrets])
        return {"error": self.error or said, "error_description": said, "hint": said}


@contextmanager
def echoing(house: House, echo: Echo, **profile: Any) -> Iterator[None]:
    """The house's token endpoint is such a one until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            answer = json.dumps(echo.answer(body, self.headers.get("Authorization", "")))
            self.send_response(echo.status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_: Any) -> None:
            """Nothing: what came stands in the echo."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    client = house.flows.refresh.providers["breezedoc"]
    before = client.provider
    url = f"http://127.0.0.1:{server.server_port}/token"
    client.provider = replace(before, token_url=url, **profile)
    try:
        yield
    finally:
        client.provider = before
        server.shutdown()
        server.server_close()
        thread.join()


def everything_kept(house: House) -> str:
    """Every row of every table, sealed texts aside."""
    with house.store.engine.connect() as sql:
        return str([tuple(row) for table in metadata.sorted_tables for row in sql.execute(table.select())])


answers: dict[str, tuple[int, str]] = {
    "the grant is refused": (400, "invalid_grant"),
    "the client is refused": (401, "invalid_client"),
    "no one knows": (500, ""),
    "even the error is an echo": (400, ""),
    "a pair that can't be read": (200, ""),
}
ways: dict[str, dict[str, str]] = {
    "json": {"token_body": "json", "client_auth": "body"},
    "form": {"token_body": "form", "client_auth": "body"},
    "basic": {"token_body": "form", "client_auth": "basic"},
}


both = [*((case, "basic") for case in answers), ("the grant is refused", "json"), ("the grant is refused", "form")]


@pytest.mark.parametrize(("case", "way"), both)
def test_a_refresh_repeats_no_secret_that_a_server_echoes(house: House, case: str, way: str) -> None:
    connection, echo = house.refreshable(), Echo(*answers[case])
    with echoing(house, echo, **ways[way]), capture_logs() as lines:
        house.flows.refresh(connection.id)
    assert len(set(echo.secrets)) == (2 if way != "basic" else 3)
    assert "[secret]" in everything_kept(house)
    seen = everything_kept(house) + str(lines) + str(house.told()) + str(house.decisions(connection.id))
    assert [secret for secret in echo.secrets if secret in seen] == []


@pytest.mark.parametrize(("case", "way"), both)
def test_an_exchange_repeats_no_secret_that_a_server_echoes(house: House, case: str, way: str) -> None:
    authorization_id, echo = house.consent("ada", 1), Echo(*answers[case])
    with echoing(house, echo, **ways[way]), capture_logs() as lines:
        house.flows.exchange(authorization_id)
    assert len(set(echo.secrets)) == (3 if way != "basic" else 4)
    assert "[secret]" in everything_kept(house)
    seen = everything_kept(house) + str(lines) + str(house.told()) + str(house.decisions(authorization_id))
    assert [secret for secret in echo.secrets if secret in seen] == []
