"""A provider's webhook: whether it is signed, and whose account it is about."""

import hmac
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from models.crypto.secrets import Secret
from models.hook import Hook, find_account, is_signed, name_delivery, repeats_within

at = datetime(2026, 11, 28, 12, tzinfo=UTC)
key = Secret("the key of the signatures")
body = b'{"data": {"account": 7, "note": "{timestamp} {body}"}}'
plain = Hook(account="data.account", signature_header="X-Signature", prefix="sha256=")
timed = replace(plain, prefix="", encoding="base64", signed="v0:{timestamp}:{body}", timestamp_header="X-Time")


def digest(signed: bytes, algorithm: str = "sha256", by: Secret = key) -> bytes:
    return hmac.digest(by.reveal().encode(), signed, algorithm)


def timed_headers(timestamp: str, shift: int = 0) -> Mapping[str, str]:
    signed = f"v0:{timestamp}:".encode() + body
    return {"x-signature": b64encode(digest(signed)).decode(), "x-time": str(int(timestamp) + shift)}


now = str(int(at.timestamp()))
CASES: dict[str, tuple[Hook, Mapping[str, str], bool]] = {
    "right": (plain, {"x-signature": f"sha256={digest(body).hex()}"}, True),
    "right, in capitals": (plain, {"x-signature": f"sha256={digest(body).hex().upper()}"}, True),
    "of another body": (plain, {"x-signature": f"sha256={digest(body + b' ').hex()}"}, False),
    "by another key": (plain, {"x-signature": f"sha256={digest(body, by=Secret('another key')).hex()}"}, False),
    "without its prefix": (plain, {"x-signature": digest(body).hex()}, False),
    "of another algorithm": (plain, {"x-signature": f"sha256={digest(body, 'sha512').hex()}"}, False),
    "cut": (plain, {"x-signature": f"sha256={digest(body).hex()[:-2]}"}, False),
    "no hexadecimal": (plain, {"x-signature": "sha256=zz"}, False),
    "letters that are not ASCII": (plain, {"x-signature": "sha256=é"}, False),
    "missing": (plain, {}, False),
    "sha1": (replace(plain, algorithm="sha1", prefix=""), {"x-signature": digest(body, "sha1").hex()}, True),
    "in time": (timed, timed_headers(now), True),
    "just in time": (timed, timed_headers(str(int(now) - 300)), True),
    "too late": (timed, timed_headers(str(int(now) - 301)), False),
    "from the future": (timed, timed_headers(str(int(now) + 301)), False),
    "with another time": (timed, timed_headers(now, shift=1), False),
    "without a time": (timed, {"x-signature": timed_headers(now)["x-signature"]}, False),
    "not signed at all": (replace(plain, signature_header=""), {}, True),
}


@pytest.mark.parametrize("case", CASES)
def test_a_signature_is_right_or_it_is_not(case: str) -> None:
    hook, headers, expected = CASES[case]
    assert is_signed(hook, key, headers, body, at) is expected


def test_without_a_key_nothing_is_signed() -> None:
    assert not is_signed(plain, None, {"x-signature": f"sha256={digest(body).hex()}"}, body, at)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"data": {"account": 7}}', "7"),
        (b'{"data": {"account": "a-7"}}', "a-7"),
        (b'{"data": {"account": true}}', None),
        (b'{"data": {"account": null}}', None),
        (b'{"data": {"account": {}}}', None),
        (b'{"data": {"account": ""}}', None),
        (b'{"data": {"account": "a\\nb"}}', None),
        (b'{"data": {"account": "' + b"x" * 256 + b'"}}', None),
        (b'{"data": [7]}', None),
        (b"{}", None),
        (b"[]", None),
        (b"", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
    ],
)
def test_an_account_is_a_short_text_or_a_number(text: bytes, expected: str | None) -> None:
    assert find_account(plain, text) == expected


def test_a_dot_in_the_name_of_a_field_is_no_separator() -> None:
    hook = replace(plain, account=r"data.account\.id")
    assert find_account(hook, b'{"data": {"account.id": 7, "account": {"id": 8}}}') == "7"


def test_a_delivery_is_the_same_however_its_signature_is_written() -> None:
    written = {"x-signature": f"sha256={digest(body).hex()}"}
    spaced = {"x-signature": f"sha256={digest(body).hex(' ').upper()}"}
    assert is_signed(plain, key, spaced, body, at)
    assert name_delivery("p", plain, spaced, body) == name_delivery("p", plain, written, body)
    others = [
        name_delivery("q", plain, written, body),
        name_delivery("p", plain, written, body + b" "),
        name_delivery("p", timed, {"x-time": now}, body),
        name_delivery("p", timed, {"x-time": "1"}, body),
        name_delivery("p", plain, written, body),
    ]
    assert len(set(others)) == len(others)
    assert name_delivery("p", replace(plain, signature_header=""), {}, body) is None


def test_a_repeat_is_one_until_its_time_is_too_old() -> None:
    assert [repeats_within(each).total_seconds() for each in (plain, timed)] == [300, 600]
