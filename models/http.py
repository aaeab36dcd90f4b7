"""An HTTP exchange as values: the answer that came, or that none did, and what its headers and body say."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl

from models import exact_json

fields_memory = 8 << 20
"""Bytes that reading an answer with fields may take; one with tokens has a few of them."""
most_form_fields = 1000
longest_header = 100
longest_pause = timedelta(days=1)
earliest_unix_time = 10**9
"""Seconds; a larger `Retry-After` is a point in time, a smaller one a length."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer as it came: header names in lower case, the body whole (`complete` says whether it was)."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool = True


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """No answer came; `sent` is False only if the request surely never reached the server; if that was our own
    doing, `retry_after` says how soon it may be tried again."""

    sent: bool
    why: str
    retry_after: timedelta | None = None


def read_object(body: bytes) -> dict[str, object] | None:
    """Return the body as a JSON object, or None if it is anything else."""
    try:
        value = json.loads(exact_json.decode(body, fields_memory))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_fields(answer: HttpAnswer) -> dict[str, object] | None:
    """The fields of a body that is a JSON object or a form, or None if it is anything else.

    Generous, for an answer that can't be had again: a byte that is not UTF-8 becomes U+FFFD, and what comes after the
    object is ignored. A form counts only if it is whole, because nothing in it marks its end.
    """
    fields = read_object(answer.body)
    if fields is not None:
        return fields
    text = answer.body.decode("utf-8-sig", "replace").strip()
    if exact_json.estimate_memory(text) > fields_memory:
        return None
    try:
        value, _ = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return _read_form(text, answer.headers.get("content-type", "")) if answer.complete else None
    return value if isinstance(value, dict) else None


def _read_form(text: str, content_type: str) -> dict[str, object] | None:
    """The fields of a form that says to be one, or that looks like one and has an answer's fields."""
    named = content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded"
    if not named and not re.fullmatch(r"[^\s<>\"{}=&]+=[^\s<>\"{}]*", text):
        return None
    try:
        fields: dict[str, object] = dict(parse_qsl(text, max_num_fields=most_form_fields))
    except ValueError:
        return None
    return fields if fields.keys() & {"access_token", "error"} else None


def read_retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """`Retry-After` as seconds or a date (RFC 9110 §10.2.3), or as the unix time that some send, in seconds or ms.

    Nonsense counts as absent, and a unix time more than a day away is nonsense. A day is the longest pause.
    """
    value = headers.get("retry-after", "")[:longest_header].strip()
    if value[:1].isdigit() and (pause := read_pause(value, now)) is not None:
        return pause
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    if at.tzinfo is None:
        return None
    return min(max(at - now, timedelta(0)), longest_pause)


def read_pause(value: str, now: datetime) -> timedelta | None:
    """Read a number of seconds, or a unix time in seconds or ms; None if it is neither, or more than a day away."""
    if not re.fullmatch(r"[0-9]{1,30}(\.[0-9]{1,30})?", value):
        return None
    number = float(value)
    if number < earliest_unix_time:
        return min(timedelta(seconds=number), longest_pause)
    left = (number / 1000 if number >= earliest_unix_time * 1000 else number) - now.timestamp()
    return timedelta(seconds=max(left, 0)) if left <= longest_pause.total_seconds() else None
