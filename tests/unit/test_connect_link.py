import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.crypto.secrets import Secret
from models.oauth.connect_link import ConnectLink, LinkRefused, read_link, sign_link
from models.origins import origin_of

now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
at = int(now.timestamp())
secret, retired, foreign = Secret("s" * 32), Secret("r" * 32), Secret("f" * 32)
origins = frozenset({"https://app.example", "http://localhost:3000"})
good = {"sub": "user-1", "iat": at, "exp": at + 600, "jti": "j1"}


def sign(claims: dict[str, Any], key: Secret = secret, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key.reveal(), algorithm=algorithm)


def raw_token(header: bytes, payload: bytes) -> str:
    """Signed with our key whatever stands in it, as a JWT library would not."""
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload)]
    signature = hmac.new(secret.reveal().encode(), b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def read(token: str) -> ConnectLink:
    return read_link(token, [secret, retired], now, origins, "breezedoc")


def refusal(token: str) -> str:
    with pytest.raises(LinkRefused) as refused:
        read(token)
    return refused.value.reason


texts = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64)
links = st.builds(
    ConnectLink,
    user_id=texts,
    issued_at=st.just(now),
    expires_at=st.integers(1, 900).map(lambda s: now + timedelta(seconds=s)),
    jti=texts,
    return_to=st.none() | st.just("https://app.example/done?x=1#y"),
    team_ids=st.lists(st.integers(1, 2**63 - 1), max_size=100, unique=True).map(tuple),
    connection_id=st.none() | texts,
    provider=st.none() | st.just("breezedoc"),
    name=st.none() | texts,
)


@given(links)
def test_what_was_signed_is_read(link: ConnectLink) -> None:
    assert read(sign_link(link, secret)) == link


def test_a_plain_link_has_only_what_it_needs() -> None:
    link = ConnectLink(user_id="u", issued_at=now, expires_at=now + timedelta(minutes=5), jti="j")
    claims = jwt.decode(sign_link(link, secret), options={"verify_signature": False})
    assert claims == {"sub": "u", "iat": at, "exp": at + 300, "jti": "j"}


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"return_to": None, "team_ids": None, "connection_id": None}, "team_ids", ()),
        ({"aud": "breezedoc", "iss": "x", "more": 1}, "provider", "breezedoc"),
        ({"aud": ["other", "breezedoc"]}, "provider", "breezedoc"),
        ({"aud": None, "name": None}, "provider", None),
        ({"name": "Ada Lovelace"}, "name", "Ada Lovelace"),
        ({"name": "\u0645\u06cc\u200c\u0646\u0627"}, "name", "\u0645\u06cc\u200c\u0646\u0627"),
        ({"name": "n" * 255}, "name", "n" * 255),
        ({"iat": at + 30, "exp": at + 60}, "issued_at", now + timedelta(seconds=30)),
        ({"iat": at - 899, "exp": at + 1}, "expires_at", now + timedelta(seconds=1)),
        ({"iat": at - 0.5, "exp": at + 10.9}, "expires_at", now + timedelta(seconds=10)),
        ({"exp": at + 900}, "expires_at", now + timedelta(minutes=15)),
        ({"nbf": at + 30}, "user_id", "user-1"),
        ({"sub": "ü" * 255}, "user_id", "ü" * 255),
        ({"team_ids": [3, 1, 3]}, "team_ids", (3, 1)),
        ({"return_to": "HTTPS://APP.example:443/x"}, "return_to", "HTTPS://APP.example:443/x"),
        ({"return_to": "http://localhost:3000"}, "return_to", "http://localhost:3000"),
        ({"connection_id": "c1"}, "connection_id", "c1"),
    ],
)
def test_a_good_link_is_read(change: dict[str, Any], field: str, value: datetime | str | tuple[Any, ...]) -> None:
    assert getattr(read(sign(good | change)), field) == value


def test_either_secret_may_have_signed_during_a_change() -> None:
    assert read(sign(good, retired)).user_id == "user-1"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"exp": at}, "expired"),
        ({"exp": at - 1}, "expired"),
        ({"exp": at + 901}, "lives_too_long"),
        ({"iat": at - 901, "exp": at + 1}, "lives_too_long"),
        ({"iat": at + 31, "exp": at + 60}, "issued_in_future"),
        ({"nbf": at + 31}, "not_yet_valid"),
        ({"nbf": "soon"}, "bad_times"),
        ({"iat": None}, "bad_times"),
        ({"exp": None}, "bad_times"),
        ({"iat": True}, "bad_times"),
        ({"iat": str(at)}, "bad_times"),
        ({"exp": "tomorrow"}, "bad_times"),
        ({"exp": 10**30}, "bad_times"),
        ({"exp": float("nan")}, "bad_times"),
        ({"exp": float("inf")}, "bad_times"),
        ({"iat": -1}, "bad_times"),
        ({"sub": None}, "bad_user"),
        ({"sub": ""}, "bad_user"),
        ({"sub": "  "}, "bad_user"),
        ({"sub": "x" * 256}, "bad_user"),
        ({"sub": "a\x00b"}, "bad_user"),
        ({"sub": "a\nb"}, "bad_user"),
        ({"sub": "\ud800"}, "bad_user"),
        ({"sub": 7}, "bad_user"),
        ({"aud": "other"}, "bad_audience"),
        ({"aud": ["other"]}, "bad_audience"),
        ({"aud": []}, "bad_audience"),
        ({"aud": 7}, "bad_audience"),
        ({"aud": ""}, "bad_audience"),
        ({"name": ""}, "bad_name"),
        ({"name": "  "}, "bad_name"),
        ({"name": "\u200c"}, "bad_name"),
        ({"name": "n" * 256}, "bad_name"),
        ({"name": "a\nb"}, "bad_name"),
        ({"name": "\u202eevil"}, "bad_name"),
        ({"name": 7}, "bad_name"),
        ({"name": ["Ada"]}, "bad_name"),
        ({"jti": None}, "bad_jti"),
        ({"jti": ""}, "bad_jti"),
        ({"jti": 7}, "bad_jti"),
        ({"jti": "x" * 256}, "bad_jti"),
        ({"team_ids": 7}, "bad_team_ids"),
        ({"team_ids": "7"}, "bad_team_ids"),
        ({"team_ids": {"7": 7}}, "bad_team_ids"),
        ({"team_ids": [0]}, "bad_team_ids"),
        ({"team_ids": [-7]}, "bad_team_ids"),
        ({"team_ids": [True]}, "bad_team_ids"),
        ({"team_ids": [1.0]}, "bad_team_ids"),
        ({"team_ids": ["7"]}, "bad_team_ids"),
        ({"team_ids": [2**63]}, "bad_team_ids"),
        ({"team_ids": list(range(1, 102))}, "bad_team_ids"),
        ({"connection_id": 7}, "bad_connection_id"),
        ({"connection_id": ""}, "bad_connection_id"),
        ({"connection_id": "x" * 65}, "bad_connection_id"),
        ({"return_to": 7}, "bad_return_to"),
        ({"return_to": ["https://app.example"]}, "bad_return_to"),
        ({"return_to": ""}, "bad_return_to"),
        ({"return_to": "/done"}, "bad_return_to"),
        ({"return_to": "//app.example/"}, "bad_return_to"),
        ({"return_to": "javascript:alert(1)"}, "bad_return_to"),
        ({"return_to": "http://app.example/"}, "bad_return_to"),
        ({"return_to": "https://app.example:8443/"}, "bad_return_to"),
        ({"return_to": "https://app.example.evil.example/"}, "bad_return_to"),
        ({"return_to": "https://evil.example/https://app.example"}, "bad_return_to"),
        ({"return_to": "https://app.example@evil.example/"}, "bad_return_to"),
        ({"return_to": "https://user:pw@app.example/"}, "bad_return_to"),
        ({"return_to": "https://evil.example\\@app.example/"}, "bad_return_to"),
        ({"return_to": "https://app.example\\.evil.example/"}, "bad_return_to"),
        ({"return_to": "https://app.example/\r\nSet-Cookie: a=b"}, "bad_return_to"),
        ({"return_to": " https://app.example/"}, "bad_return_to"),
        ({"return_to": "https://app.example\t/"}, "bad_return_to"),
        ({"return_to": "https://app%2eexample/"}, "bad_return_to"),
        ({"return_to": "https://аpp.example/"}, "bad_return_to"),  # noqa: RUF001 - a Cyrillic letter is the point
        ({"return_to": "https://app.example/" + "x" * 2048}, "bad_return_to"),
    ],
    ids=repr,
)
def test_a_link_that_says_something_unfit_is_refused(change: dict[str, Any], reason: str) -> None:
    claims = good | change
    payload = json.dumps({name: value for name, value in claims.items() if value is not None}).encode()
    assert refusal(raw_token(b'{"alg":"HS256"}', payload)) == reason


@pytest.mark.parametrize(
    "missing", [("iat", "bad_times"), ("exp", "bad_times"), ("sub", "bad_user"), ("jti", "bad_jti")]
)
def test_a_link_that_lacks_a_claim_is_refused(missing: tuple[str, ...]) -> None:
    name, reason = missing
    assert refusal(sign({key: value for key, value in good.items() if key != name})) == reason


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (sign(good, foreign), "bad_signature"),
        (sign(good)[:-4], "bad_signature"),
        (sign(good).rsplit(".", 1)[0] + ".", "bad_signature"),
        (jwt.encode(good, "", algorithm="none"), "unreadable"),
        (sign(good, Secret("s" * 64), "HS512"), "unreadable"),
        ("", "unreadable"),
        ("a.b.c", "unreadable"),
        ("é.ü.ä", "unreadable"),
        ("\ud800.a.b", "unreadable"),
        (sign(good) + ".x", "unreadable"),
        ("x" * 8193, "unreadable"),
        (raw_token(b"[" * 6000, b"{}"), "unreadable"),
        (raw_token(b'{"alg":"HS256"}', b"[" * 5000), "unreadable"),
        (raw_token(b'{"alg":"HS256"}', b"[]"), "unreadable"),
        (raw_token(b'{"alg":"HS256"}', b"\xff"), "unreadable"),
        (raw_token(b'{"alg":["HS256"]}', b"{}"), "unreadable"),
        (raw_token(b'{"alg":"HS256","crit":["x"],"x":1}', json.dumps(good).encode()), "unreadable"),
        (raw_token(b'{"alg":"HS256","b64":false}', json.dumps(good).encode()), "unreadable"),
    ],
    ids=[
        "foreign key",
        "cut signature",
        "no signature",
        "alg none",
        "other alg",
        "empty",
        "three letters",
        "not ASCII",
        "surrogate",
        "four parts",
        "too long",
        "deep header",
        "deep claims",
        "claims a list",
        "claims not UTF-8",
        "alg a list",
        "unknown crit",
        "b64 false",
    ],
)
def test_what_is_no_link_of_ours_is_refused(token: str, reason: str) -> None:
    assert refusal(token) == reason


def test_without_secrets_no_link_is_good() -> None:
    with pytest.raises(LinkRefused):
        read_link(sign(good), [], now, origins, "breezedoc")


@given(st.text(max_size=200))
def test_no_text_at_all_makes_the_reader_fail_otherwise(text: str) -> None:
    assert refusal(text) in ("unreadable", "bad_signature")


def test_the_message_is_for_the_person_who_followed_the_link() -> None:
    with pytest.raises(LinkRefused, match="has expired") as refused:
        read(sign(good | {"exp": at - 1}))
    assert "user-1" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://app.example", "https://app.example"),
        ("HTTPS://App.Example:443/x?y#z", "https://app.example"),
        ("http://app.example:80/", "http://app.example"),
        ("http://app.example:443/", "http://app.example:443"),
        ("http://my_box:8080/", "http://my_box:8080"),
        ("http://[::1]:3000/", "http://[::1]:3000"),
        ("https://app.example:", None),
        ("https://app.example:99999", None),
        ("https://app.example:x", None),
        ("https://[::1", None),
        ("https://[v1.x]/", None),
        ("https://::1/", None),
        ("https:///x", None),
        ("https:app.example", None),
        ("ftp://app.example", None),
        ("https://?x", None),
        ("null", None),
        ("*", None),
        ("", None),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: str | None) -> None:
    assert origin_of(url) == origin
