import io
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest
import structlog

from config.logs import configure_logging, mask_text
from models.crypto.secrets import Sealed, Secret

jwt = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOiIxIiwianRpIjoiYWJjIn0.c2lnbmF0dXJl-_x"
secret = "hunter2"
refresh = "def50200" + "0a1b2c3d" * 20


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """What was logged, as JSON lines; the test's own logging comes back afterwards."""
    root = logging.getLogger()
    kept = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging(stream)
    yield stream
    root.handlers[:], root.level = kept
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def fail(text: str) -> NoReturn:
    raise ValueError(text)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


@dataclass
class Holder:
    refresh_token: str


@pytest.mark.parametrize(
    "values",
    [
        {"token": "hunter2"},
        {"access_token": "hunter2"},
        {"refresh_tokens": ["hunter2"]},
        {"client_secret": "hunter2"},
        {"secret": {"inner": "hunter2"}},
        {"code": "hunter2"},
        {"authorization_code": "hunter2"},
        {"code_verifier": "hunter2"},
        {"state": "hunter2"},
        {"password": "hunter2"},
        {"Authorization": "hunter2"},
        {"headers": {"authorization": "hunter2", "set-cookie": "hunter2"}},
        {"body": [{"refresh_token": "hunter2"}]},
        {"value": Secret("hunter2")},
        {"value": Sealed("hunter2")},
        {"value": [Secret("hunter2"), (Sealed("hunter2"),)]},
        {"value": Holder("hunter2")},
        {"value": b"token=hunter2"},
        {"value": ValueError("client_secret=hunter2")},
        {"header": "Bearer hunter2"},
        {"header": "authorization: bearer hunter2"},
        {"header": "Basic aHVudGVyMjpodW50ZXIy hunter"[:-7]},
        {"url": "https://a.example/cb?code=hunter2&state=hunter2"},
        {"url": "/cb?x=1&state=hunter2#y"},
        {"url": "https://a.example/x?next=https%3A%2F%2Fb%2F%3Fcode%3Dhunter2%26y%3D1"},
        {"url": "postgresql+psycopg://user:hunter2@host/db"},
        {"url": "rediss://:hunter2@host:6380/0"},
        {"text": '{"access_token": "hunter2", "code":"hunter2"}'},
        {"text": "{'client_secret': 'hunter2', 'code': 'hunter2'}"},
        {"text": "grant_type=refresh_token&refresh_token=hunter2&client_id=1"},
        {"confirmation": "hunter2"},
        {"text": "exchange.confirm(authorization_id='a1', user_id='ada', confirmation='hunter2-hunter2')"},
        {"text": "{'user_id': 'ada', 'confirmation': 'hunter2-hunter2'}"},
        {"text": "{b'type': b'confirm', b'confirmation': b'hunter2-hunter2'}"},
        {"url": "https://app.example/?authorization_id=a1&confirmation=hunter2-hunter2"},
        {"text": f"the token was {refresh}"},
        {"text": f"cut off: {refresh[:20]}"},
        {"text": f"got {jwt}!"},
        {"text": "sealed v1.k1." + "A" * 60},
    ],
    ids=repr,
)
def test_each_kind_of_secret_is_masked(out: io.StringIO, values: dict[str, Any]) -> None:
    structlog.get_logger("test").info("something.happened", **values)
    structlog.get_logger("test").info("again", nested=[{"deep": values}])
    logged = out.getvalue()
    assert "***" in logged
    for hidden in (secret, "aHVudGVy", refresh[:20], jwt[:20], jwt[-8:], "A" * 20):
        assert hidden not in logged


@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("token=%s", ("hunter2",)),
        ("answer: %s", ({"refresh_token": "hunter2", "code": "hunter2"},)),
        ('%s - "%s %s HTTP/%s" %d', ("127.0.0.1:1", "GET", "/cb?code=hunter2&state=hunter2", "1.1", 303)),
        ("%(url)s", ({"url": "https://x/?token=hunter2"},)),
        ("%s", (Secret("hunter2"),)),
    ],
)
def test_positional_arguments_of_other_libraries_are_masked(
    out: io.StringIO, message: str, args: tuple[Any, ...]
) -> None:
    logging.getLogger("uvicorn.error").info(message, *args)
    logging.getLogger("dramatiq.worker.WorkerThread").error(message, *args)
    assert "***" in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_an_exceptions_text_is_masked_and_its_traceback_kept(out: io.StringIO) -> None:
    for logger in (structlog.get_logger("a"), logging.getLogger("b")):
        try:
            try:
                fail("refused: Authorization: Bearer " + secret)
            except ValueError:
                fail("client_secret=" + secret)
        except ValueError:
            logger.exception("flow.failed")
    for line in lines(out):
        assert "hunter2" not in line["exception"]
        assert "ValueError: client_secret=***" in line["exception"]
        assert "ValueError: refused: Authorization: ***" in line["exception"]


def test_what_is_no_secret_stays(out: io.StringIO) -> None:
    values = {
        "connection_id": "c1",
        "status_code": 401,
        "token_url": "https://breezedoc.com/oauth/token",
        "error": "invalid_grant",
        "generation": 3,
        "code": 7,
        "ratio": 0.5,
        "done": True,
        "nothing": None,
        "path": "/documents?page=2&order_by=id",
        "key_id": "k1",
        "message_id": "5f0c1d3e-91c4-4f0e-8d1c-2f2f2f2f2f2f",
    }
    structlog.get_logger("test").info("connection.refreshed", **values)
    (line,) = lines(out)
    assert {key: line[key] for key in values} == values
    assert (line["event"], line["level"], line["logger"]) == ("connection.refreshed", "info", "test")


def test_times_and_lengths_are_texts(out: io.StringIO) -> None:
    structlog.get_logger("t").info("x", at=datetime(2026, 1, 2, tzinfo=UTC), length=timedelta(seconds=3))
    (line,) = lines(out)
    assert (line["at"], line["length"]) == ("2026-01-02 00:00:00+00:00", "0:00:03")


def test_bound_ids_stand_in_every_line_of_either_kind(out: io.StringIO) -> None:
    structlog.contextvars.bind_contextvars(message_id="m1")
    structlog.get_logger("a").info("one")
    logging.getLogger("b").warning("two")
    assert [line["message_id"] for line in lines(out)] == ["m1", "m1"]


def test_a_url_fetched_or_served_is_not_logged(out: io.StringIO) -> None:
    logging.getLogger("httpx").info("HTTP Request: GET https://breezedoc.com")
    logging.getLogger("httpcore.http11").info("send_request_headers")
    logging.getLogger("uvicorn.access").info("GET /auth/breezedoc HTTP/1.1")
    logging.getLogger("httpx").warning("trouble")
    assert [line["event"] for line in lines(out)] == ["trouble"]


def test_a_library_with_handlers_of_its_own_speaks_through_ours_once(out: io.StringIO) -> None:
    elsewhere = io.StringIO()
    theirs = logging.getLogger("uvicorn.error")
    theirs.addHandler(logging.StreamHandler(elsewhere))
    theirs.propagate = False
    configure_logging(out)
    configure_logging(out)
    theirs.info("started")
    assert [line["event"] for line in lines(out)] == ["started"]
    assert elsewhere.getvalue() == ""


def test_a_terminal_gets_lines_for_people_masked_all_the_same(out: io.StringIO) -> None:
    stream = io.StringIO()
    configure_logging(stream, readable=True)
    try:
        fail("password=" + secret)
    except ValueError:
        structlog.get_logger("a").exception("flow.failed", refresh_token=secret, connection_id="c1")
    shown = stream.getvalue()
    assert "flow.failed" in shown
    assert "ValueError: password=***" in shown
    assert secret not in shown
    assert not shown.startswith("{")


def test_a_very_long_text_is_masked_in_no_time() -> None:
    started = time.process_time()
    for text in ("a" * 200_000, "a-" * 100_000, "?a" * 100_000, "a=" * 100_000, "a:" * 100_000, "eyJ" * 70_000):
        mask_text(text)
    assert time.process_time() - started < 5
