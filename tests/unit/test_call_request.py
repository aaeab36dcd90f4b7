"""What an application asks to be called, as it is read, sealed, sent and shown."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models import exact_json
from models.gateway.arrived import Arrived, pack_arrived, unpack_arrived
from models.gateway.call_request import pack_answer, read_call, show_answer, unpack_request
from models.gateway.problems import Refusal
from models.http import HttpAnswer, NoAnswer

whole: dict[str, Any] = {"method": "POST", "path": "documents", "idempotency_key": "one"}

sent: dict[str, tuple[dict[str, Any], str, bytes | None, dict[bytes, bytes]]] = {
    "no body": ({}, "/documents", None, {}),
    "a path from the root": ({"path": "/documents"}, "/documents", None, {}),
    "a query": ({"path": "documents?page=2&a=%20"}, "/documents?page=2&a=%20", None, {}),
    "JSON": (
        {"body": {"title": "Vertrag für Ödön", "n": 10**25}},
        "/documents",
        '{"title":"Vertrag für Ödön","n":10000000000000000000000000}'.encode(),
        {b"content-type": b"application/json"},
    ),
    "a text as JSON": (
        {"body": "x", "headers": {"Content-Type": "application/vnd.api+json"}},
        "/documents",
        b'"x"',
        {b"content-type": b"application/vnd.api+json"},
    ),
    "a form": (
        {"body": "a=1&b=2", "headers": {"Content-Type": "application/x-www-form-urlencoded", "ACCEPT": "*/*"}},
        "/documents",
        b"a=1&b=2",
        {b"accept": b"*/*", b"content-type": b"application/x-www-form-urlencoded"},
    ),
    "an empty list": (
        {"body": []},
        "/documents",
        b"[]",
        {b"content-type": b"application/json"},
    ),
}


@pytest.mark.parametrize("case", sent)
def test_a_call_leaves_as_it_was_asked_for(case: str) -> None:
    more, target, body, headers = sent[case]
    request = read_call(json.dumps(whole | more).encode())
    left = unpack_request(request.pack())
    assert (left.target.decode(), left.body, dict(left.headers)) == (target, body, headers)
    assert (request.path, request.method) == ("/documents", "POST")


def test_numbers_of_a_body_keep_every_digit() -> None:
    request = read_call(b'{"method":"POST","path":"x","idempotency_key":"k","body":{"a":1.10,"b":1e2}}')
    assert request.body == '{"a":1.10,"b":1e2}'


bad: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b"[]",
    "an unknown field": json.dumps(whole | {"url": "https://elsewhere"}).encode(),
    "no method": json.dumps({**whole, "method": None}).encode(),
    "a method of its own": json.dumps({**whole, "method": "TRACE"}).encode(),
    "no key": json.dumps({**whole, "idempotency_key": ""}).encode(),
    "an endless key": json.dumps({**whole, "idempotency_key": "k" * 256}).encode(),
    "a key with a line break": json.dumps({**whole, "idempotency_key": "a\nb"}).encode(),
    "a path out of the API": json.dumps({**whole, "path": "../oauth/token"}).encode(),
    "another host": json.dumps({**whole, "path": "//elsewhere/x"}).encode(),
    "a path that is not encoded": json.dumps({**whole, "path": "ä"}).encode(),
    "a fragment": json.dumps({**whole, "path": "documents#x"}).encode(),
    "a question without a query": json.dumps({**whole, "path": "documents?"}).encode(),
    "a path that is none": json.dumps({**whole, "path": 7}).encode(),
    "a token of its own": json.dumps({**whole, "headers": {"Authorization": "Bearer x"}}).encode(),
    "a header twice": json.dumps({**whole, "headers": {"Accept": "a", "accept": "b"}}).encode(),
    "a header with a line break": json.dumps({**whole, "headers": {"Accept": "a\r\nX: y"}}).encode(),
    "an empty header": json.dumps({**whole, "headers": {"Accept": ""}}).encode(),
    "a form that is no text": json.dumps({**whole, "headers": {"Content-Type": "text/plain"}, "body": {}}).encode(),
    "half a character": b'{"method":"POST","path":"x","idempotency_key":"k","body":"\\ud83d"}',
    "a NUL": b'{"method":"POST","path":"x","idempotency_key":"k","body":"a\\u0000"}',
    "too deep": b"[" * 100_000,
    "a number that is too large": b'{"method":"POST","path":"x","idempotency_key":"k","body":[1e5000]}',
    "a number that is too small": b'{"method":"POST","path":"x","idempotency_key":"k","body":[1e-5000]}',
    "a number of many digits": b'{"method":"POST","path":"x","idempotency_key":"k","body":[%b]}' % (b"9" * 5000),
    "no number": b'{"method":"POST","path":"x","idempotency_key":"k","body":[NaN]}',
}


@pytest.mark.parametrize("case", bad)
def test_what_can_t_be_called_is_refused(case: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_call(bad[case])
    assert refused.value.problem.type == "bad_request"


json_headers = {"content-type": "application/json"}
nested = b"[" * 200 + b"]" * 200

answers: dict[str, tuple[HttpAnswer, object, str | None]] = {
    "JSON": (HttpAnswer(201, {"content-type": "application/json; charset=UTF-8"}, b'{"id":1.10}'), {"id": 1.1}, "json"),
    "JSON that is none": (HttpAnswer(200, {"content-type": "application/json"}, b"<html>"), "<html>", "text"),
    "JSON with a number that can't be kept": (HttpAnswer(200, json_headers, b"[1e5000]"), "[1e5000]", "text"),
    "JSON with no number": (HttpAnswer(200, json_headers, b"[NaN]"), "[NaN]", "text"),
    "JSON with half a character": (HttpAnswer(200, json_headers, b'["\\ud83d"]'), ["\ud83d"], "json"),
    "JSON that is nested deep": (HttpAnswer(200, json_headers, nested), nested.decode(), "text"),
    "HTML": (HttpAnswer(500, {"content-type": "text/html"}, b"<p>"), "<p>", "text"),
    "a picture": (HttpAnswer(200, {"content-type": "image/png"}, b"\x89PNG"), "iVBORw==", "base64"),
    "nothing": (HttpAnswer(204, {}, b""), None, None),
    "an answer that was cut": (HttpAnswer(200, {"content-type": "text/plain"}, b"half", complete=False), None, None),
}


@pytest.mark.parametrize("case", answers)
def test_an_answer_is_shown_as_what_it_is(case: str) -> None:
    answer, body, encoding = answers[case]
    shown = show_answer(answer.status, pack_answer(answer))
    written = json.loads(exact_json.dumps(shown))
    assert written == {"status": answer.status, "headers": answer.headers, "body": body, "encoding": encoding}


def test_of_an_erased_answer_the_status_is_left() -> None:
    assert show_answer(201, None) == {"status": 201, "headers": {}, "body": None, "encoding": None}


def test_no_cookie_of_an_answer_is_kept() -> None:
    answer = HttpAnswer(200, {"set-cookie": "s=1", "location": "/documents/7"}, b"{}")
    assert show_answer(200, pack_answer(answer))["headers"] == {"location": "/documents/7"}


outcomes: dict[str, HttpAnswer | NoAnswer] = {
    "an answer": HttpAnswer(201, {"content-type": "application/json", "retry-after": "3"}, b'{"id": 1}'),
    "bytes, cut off": HttpAnswer(500, {}, b"\xff\x00", complete=False),
    "no answer": NoAnswer(sent=True, why="ReadTimeout"),
    "nothing left": NoAnswer(sent=False, why="too late", retry_after=timedelta(seconds=1.5)),
}


@pytest.mark.parametrize("case", outcomes)
def test_what_came_of_a_request_is_kept_whole(case: str) -> None:
    at = datetime(2026, 11, 28, 12, 0, 0, 250_000, tzinfo=UTC)
    arrived = Arrived("job", 3, at, 120, outcomes[case])
    assert unpack_arrived(pack_arrived(arrived)) == arrived
