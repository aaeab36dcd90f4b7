"""An HTTP request and its answer as plain values."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import parse_qsl

Ending = Literal["whole", "cut", "drop"]


@dataclass(frozen=True)
class Request:
    """One request; header names in lower case."""

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    body: bytes
    client_ip: str

    @cached_property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.query_string, keep_blank_values=True))

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The body's fields, JSON or form; empty when it can't be read as either."""
        if self.is_form:
            return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))
        try:
            decoded = json.loads(self.body or b"{}")
        except ValueError:
            return {}
        return decoded if isinstance(decoded, dict) else {}

    @property
    def is_broken_json(self) -> bool:
        """Return whether the body says it is JSON and is neither an object nor a list."""
        if "json" not in self.headers.get("content-type", "") or not self.body:
            return False
        try:
            return not isinstance(json.loads(self.body), dict | list)
        except ValueError:
            return True

    @property
    def origin(self) -> str:
        """Return scheme and host as the client named them."""
        return f"http://{self.headers.get('host', '127.0.0.1')}"

    @property
    def is_form(self) -> bool:
        return self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")

    @property
    def wants_json(self) -> bool:
        """Laravel's test: the first type of the Accept header is a JSON one."""
        first = self.headers.get("accept", "").split(",", 1)[0]
        return "/json" in first or "+json" in first

    @cached_property
    def cookies(self) -> dict[str, str]:
        pairs = (part.strip().partition("=") for part in self.headers.get("cookie", "").split(";"))
        return {name: value for name, _, value in pairs if name}


@dataclass(slots=True)
class Answer:
    """One answer, and how much of it reaches the client: all, half before a close, or nothing but a reset."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    ending: Ending = "whole"

    def with_headers(self, headers: Mapping[str, str]) -> "Answer":
        return replace(self, headers={**self.headers, **headers})


def answer_json(status: int, value: object, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, encode_json(value), headers=dict(headers or {}))


def encode_json(value: object) -> bytes:
    """Encode as PHP does by default: no spaces, and a backslash before each slash."""
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/").encode()


def answer_html(status: int, page: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, page.encode(), "text/html; charset=utf-8", dict(headers or {}))


def redirect(location: str, status: int = 302, headers: Mapping[str, str] | None = None) -> Answer:
    return answer_html(
        status,
        f'<!DOCTYPE html><title>Redirecting</title>Redirecting to <a href="{escape(location)}">here</a>.',
        {"location": location, **(headers or {})},
    )


def answer_problem(
    request: Request, status: int, message: str | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Return Laravel's error: JSON for a client that accepts it, pretty-printed unless it is a 401, else a page."""
    text = message if message is not None else laravel_message(status)
    if request.wants_json:
        if status == 401:
            return answer_json(status, {"message": text}, headers)
        return Answer(status, json.dumps({"message": text}, indent=4).encode(), headers=dict(headers or {}))
    title = escape(text)
    page = f"<!DOCTYPE html><html lang=en><title>{title}</title><body><h1>{status}</h1><p>{title}</p></body></html>"
    return answer_html(status, page, headers)


def laravel_message(status: int) -> str:
    named = {429: "Too Many Attempts.", 500: "Server Error", 401: "Unauthenticated."}
    if status in named:
        return named[status]
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Server Error"
