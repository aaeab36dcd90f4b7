"""Connect links that must open nothing: 400, a page with advice, and nothing is different afterwards."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import jwt
import pytest

from tests.hostile_input.conftest import Web
from tests.processes import APPLICATION


def claims(**changes: Any) -> dict[str, Any]:
    """A link's claims as they should be, but for the changes; None takes one out."""
    now = int(time.time())
    usual: dict[str, Any] = {"sub": "ada", "iat": now, "exp": now + 300, "jti": uuid4().hex}
    return {name: value for name, value in (usual | changes).items() if value is not ...}


def encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def sign(header: bytes, payload: bytes, secret: str) -> str:
    """A JWT of these very bytes, signed with HS256 whatever the header says."""
    text = f"{encode(header)}.{encode(payload)}"
    return f"{text}.{encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest())}"


def minutes(number: float) -> int:
    return int(time.time() + 60 * number)


PLAIN: dict[str, Callable[[], dict[str, Any]]] = {
    "expired": lambda: claims(iat=minutes(-10), exp=minutes(-1)),
    "lives longer than 15 minutes": lambda: claims(exp=minutes(16)),
    "issued in the future": lambda: claims(iat=minutes(5), exp=minutes(10)),
    "not yet valid": lambda: claims(nbf=minutes(5)),
    "without exp": lambda: claims(exp=...),
    "without iat": lambda: claims(iat=...),
    "without sub": lambda: claims(sub=...),
    "without jti": lambda: claims(jti=...),
    "exp a text": lambda: claims(exp=str(minutes(5))),
    "exp true": lambda: claims(exp=True),
    "exp endless": lambda: claims(exp=1e308),
    "exp negative": lambda: claims(iat=-100, exp=-1),
    "sub a number": lambda: claims(sub=7),
    "sub empty": lambda: claims(sub=""),
    "sub blank": lambda: claims(sub="   "),
    "sub too long": lambda: claims(sub="a" * 256),
    "sub a list": lambda: claims(sub=["ada"]),
    "sub with a NUL": lambda: claims(sub="a\x00da"),
    "sub with a line break": lambda: claims(sub="a\nda"),
    "sub half a character": lambda: claims(sub="\ud800"),
    "jti empty": lambda: claims(jti=""),
    "jti an object": lambda: claims(jti={"a": 1}),
    "jti too long": lambda: claims(jti="j" * 256),
    "team_ids a text": lambda: claims(team_ids="7"),
    "team_ids of texts": lambda: claims(team_ids=["7"]),
    "team_ids of nothing above 0": lambda: claims(team_ids=[0, -1]),
    "team_ids true": lambda: claims(team_ids=[True]),
    "team_ids beyond 64 bits": lambda: claims(team_ids=[2**63]),
    "too many team_ids": lambda: claims(team_ids=list(range(1, 102))),
    "connection_id a number": lambda: claims(connection_id=7),
    "connection_id no one has": lambda: claims(connection_id="f" * 32),
    "connection_id too long": lambda: claims(connection_id="f" * 65),
    "return_to elsewhere": lambda: claims(return_to="https://evil.example/"),
    "return_to over http": lambda: claims(return_to="http://app.example/"),
    "return_to another port": lambda: claims(return_to=f"{APPLICATION}:8443/"),
    "return_to below": lambda: claims(return_to=f"{APPLICATION}.evil.example/"),
    "return_to with a user": lambda: claims(return_to="https://app.example@evil.example/"),
    "return_to with a backslash": lambda: claims(return_to="https://evil.example\\@app.example/"),
    "return_to without a scheme": lambda: claims(return_to="//app.example/"),
    "return_to a path": lambda: claims(return_to="/back"),
    "return_to a script": lambda: claims(return_to="javascript:alert(1)//https://app.example"),
    "return_to data": lambda: claims(return_to="data:text/html,hi"),
    "return_to with a line break": lambda: claims(return_to=f"{APPLICATION}/\r\nSet-Cookie: a=b"),
    "return_to with a NUL": lambda: claims(return_to=f"{APPLICATION}/\x00"),
    "return_to in capitals of another alphabet": lambda: claims(return_to="https://\u0430pp.example/"),
    "return_to too long": lambda: claims(return_to=f"{APPLICATION}/{'a' * 2048}"),
    "return_to empty": lambda: claims(return_to=""),
    "return_to a list": lambda: claims(return_to=[APPLICATION]),
}

FORGED: dict[str, Callable[[str], str]] = {
    "nothing": lambda secret: "",
    "no JWT": lambda secret: "hello",
    "two dots": lambda secret: "..",
    "binary": lambda secret: "\x00\x01\x02.\xff.\xfe",
    "not ASCII": lambda secret: "ü.ü.ü",
    "wrong signature": lambda secret: jwt.encode(claims(), "another secret of 32 bytes or more", algorithm="HS256"),
    "no signature": lambda secret: jwt.encode(claims(), secret, algorithm="HS256").rsplit(".", 1)[0] + ".",
    "alg none": lambda secret: jwt.encode(claims(), "", algorithm="none"),
    "HS512": lambda secret: jwt.encode(claims(), secret * 2, algorithm="HS512"),
    "alg none, yet signed": lambda secret: sign(b'{"alg":"none"}', json.dumps(claims()).encode(), secret),
    "alg a list": lambda secret: sign(b'{"alg":["HS256"]}', json.dumps(claims()).encode(), secret),
    "no alg": lambda secret: sign(b"{}", json.dumps(claims()).encode(), secret),
    "header a list": lambda secret: sign(b'["HS256"]', json.dumps(claims()).encode(), secret),
    "header nested": lambda secret: sign(b'{"alg":' + b"[" * 2500 + b"]" * 2500 + b"}", b"{}", secret),
    "payload nested": lambda secret: sign(b'{"alg":"HS256"}', b'{"sub":' + b"[" * 2500 + b"]" * 2500 + b"}", secret),
    "payload a list": lambda secret: sign(b'{"alg":"HS256"}', b"[1]", secret),
    "payload no JSON": lambda secret: sign(b'{"alg":"HS256"}', b"hello", secret),
    "payload not UTF-8": lambda secret: sign(b'{"alg":"HS256"}', b'{"sub":"\xff"}', secret),
    "a number without end": lambda secret: sign(b'{"alg":"HS256"}', b'{"exp":' + b"9" * 5000 + b"}", secret),
    "exp not a number": lambda secret: sign(b'{"alg":"HS256"}', b'{"sub":"a","jti":"b","iat":NaN,"exp":NaN}', secret),
    "unknown critical header": lambda secret: sign(
        b'{"alg":"HS256","crit":["x"],"x":1}', json.dumps(claims()).encode(), secret
    ),
    "8 KiB": lambda secret: jwt.encode(claims(pad="x" * 8192), secret, algorithm="HS256"),
    "a header as a JWS key": lambda secret: jwt.encode(
        claims(), secret, algorithm="HS256", headers={"jku": "https://evil.example"}
    )[:-3],
}


def assert_refused_without_a_trace(web: Web, token: str) -> None:
    before = web.contents()
    answer = web.get("/auth/breezedoc", params={"token": token})
    assert (answer.status_code, 'id="refused"' in answer.text) == (400, True), answer.text
    assert "set-cookie" not in answer.headers
    assert web.contents() == before


@pytest.mark.parametrize("name", PLAIN)
def test_a_signed_link_that_says_something_wrong_opens_nothing(web: Web, name: str) -> None:
    secret = web.fleet.environment["CONNECT_SECRET"]
    payload = json.dumps(PLAIN[name]()).encode()
    assert_refused_without_a_trace(web, sign(b'{"alg":"HS256","typ":"JWT"}', payload, secret))


@pytest.mark.parametrize("name", FORGED)
def test_a_link_that_nobody_signed_so_opens_nothing(web: Web, name: str) -> None:
    assert_refused_without_a_trace(web, FORGED[name](web.fleet.environment["CONNECT_SECRET"]))


def test_the_same_claims_unharmed_do_open(web: Web) -> None:
    secret = web.fleet.environment["CONNECT_SECRET"]
    more = claims(team_ids=[7], return_to=f"{APPLICATION}/back", unknown={"a": [1]}, connection_id=None)
    token = sign(b'{"alg":"HS256","typ":"JWT"}', json.dumps(more).encode(), secret)
    assert web.get("/auth/breezedoc", params={"token": token}).status_code == 302


def test_a_link_opens_once_also_for_two_at_once(web: Web) -> None:
    link = web.fleet.link("twice")
    assert web.get(link).status_code == 302
    before = web.contents()
    again = web.get(link)
    assert (again.status_code, "already used" in again.text) == (400, True)
    assert web.contents() == before


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_only_get_uses_a_link(web: Web, method: str) -> None:
    link = web.fleet.link("ada")
    before = web.contents()
    answer = web.get(link, method)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert web.contents() == before
    assert web.get(link).status_code == 302


def test_a_token_that_comes_twice_opens_nothing(web: Web) -> None:
    before = web.contents()
    answer = web.get(f"{web.fleet.link('ada')}&token=again")
    assert answer.status_code == 400
    assert web.contents() == before


@pytest.mark.parametrize("name", ["nowhere", "BREEZEDOC", "breezedoc%00", "..%2fbreezedoc", "%F0%9F%92%A9", "a" * 5000])
def test_an_unknown_provider_is_not_found(web: Web, name: str) -> None:
    link = web.fleet.link("ada").replace("/auth/breezedoc", f"/auth/{name}")
    before = web.contents()
    assert web.get(link).status_code == 404
    assert web.contents() == before


def test_no_link_that_was_refused_stands_in_the_log(web: Web) -> None:
    token = FORGED["wrong signature"]("")
    assert_refused_without_a_trace(web, token)
    assert token not in web.log()
    assert "Traceback" not in web.log()
