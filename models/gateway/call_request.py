"""What an application asks to be called as a job, read from its request; and the texts that are sealed of a call."""

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from models import exact_json
from models.exact_json import NumberTooLong, TooLarge, largest_exponent, longest_number
from models.gateway.keys import known_methods
from models.gateway.problems import ProblemType, refuse
from models.gateway.target import read_target
from models.http import HttpAnswer

longest_request: Final = 1 << 20
"""Bytes of a call with its body."""
longest_answer: Final = 1 << 20
"""Bytes of an answer's body that are kept."""
longest_header: Final = 255
deepest_answer: Final = 100
"""How deep lists and objects of an answer stand in each other if it is shown as JSON."""
memory: Final = 64 << 20
"""Bytes that reading a call, or an answer that is JSON, may take."""
known_headers: Final = frozenset(
    {"accept", "accept-language", "content-type", "idempotency-key", "if-match", "if-none-match", "prefer"}
)
kept_headers: Final = ("content-type", "content-language", "etag", "last-modified", "location")
known_fields: Final = frozenset({"method", "path", "body", "headers", "idempotency_key"})
json_type: Final = "application/json"
is_json_type: Final = re.compile(r"application/(?:[a-z0-9.+-]*\+)?json\s*(?:;.*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A call that is to be made.

    target: what follows the path of `api_url`, as it was sent, with the query.
    headers: names in small letters.
    body: None for none.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: str | None
    idempotency_key: str

    @property
    def path(self) -> str:
        """Return the path without its query, for lists and logs."""
        return self.target.partition("?")[0]

    def pack(self) -> str:
        """Return the part that is sealed; the same for the same request."""
        packed = {"target": self.target, "headers": dict(sorted(self.headers.items())), "body": self.body}
        return json.dumps(packed, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What leaves for the provider."""

    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes | None


def read_call(text: bytes) -> CallRequest:
    """Read a request for a call. Raises `Refusal`."""
    try:
        given, is_clean = exact_json.read_exactly(exact_json.decode(text, memory))
    except TooLarge:
        raise refuse(ProblemType.too_large, "The call has too many values.") from None
    except NumberTooLong:
        detail = f"A number has up to {longest_number} characters, and up to {largest_exponent} digits written out."
        raise refuse(ProblemType.bad_request, detail) from None
    except (ValueError, RecursionError):
        given, is_clean = None, True
    if not isinstance(given, dict):
        raise refuse(ProblemType.bad_request, 'A call is JSON like {"method": "POST", "path": "documents", …}.')
    if unknown := set(given) - known_fields:
        raise refuse(ProblemType.bad_request, f"A call has {', '.join(sorted(known_fields))}, and no {min(unknown)!r}.")
    if not is_clean:
        raise refuse(ProblemType.bad_request, "A call has no NUL and no half of a character.")
    method, path, key = (given.get(name) for name in ("method", "path", "idempotency_key"))
    if not isinstance(method, str) or method not in known_methods:
        raise refuse(ProblemType.bad_request, f"method is one of {', '.join(sorted(known_methods))}.")
    if not isinstance(key, str) or not 1 <= len(key) <= longest_header or not key.isprintable():
        raise refuse(ProblemType.bad_request, f"idempotency_key has 1 to {longest_header} visible characters.")
    headers = _read_headers(given.get("headers"))
    body = _read_body(given.get("body"), headers)
    return CallRequest(method, _read_path(path), headers, body, key)


def _read_path(path: object) -> str:
    if not isinstance(path, str) or not path.isascii():
        raise refuse(ProblemType.bad_request, "path is what follows api_url, percent-encoded.")
    own, question, query = path.removeprefix("/").partition("?")
    if question and not query:
        raise refuse(ProblemType.bad_request, "The query after the question mark is empty.")
    return read_target(own.encode(), query.encode()).decode("ascii")


def _read_headers(given: object) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise refuse(ProblemType.bad_request, "headers is an object of names and values.")
    read: dict[str, str] = {}
    for name, value in given.items():
        small = name.lower()
        if small not in known_headers or small in read:
            raise refuse(ProblemType.bad_request, f"headers may have {', '.join(sorted(known_headers))}, each once.")
        if not isinstance(value, str) or not re.fullmatch(rf"[!-~](?:[ -~]{{0,{longest_header - 1}}})", value):
            raise refuse(ProblemType.bad_request, f"The header {small} has 1 to {longest_header} ASCII characters.")
        read[small] = value.rstrip()
    return read


def _read_body(given: object, headers: dict[str, str]) -> str | None:
    """Return the body as it is sent, and say in `headers` what it is."""
    if given is None:
        return None
    kind = headers.setdefault("content-type", json_type)
    if is_json_type.fullmatch(kind):
        return exact_json.dumps(given)
    if not isinstance(given, str):
        raise refuse(ProblemType.bad_request, f"A body that is not JSON is a text; {kind} is none.")
    return given


def unpack_request(text: str) -> Unpacked:
    """Return what `CallRequest.pack` packed."""
    packed = json.loads(text)
    body = packed["body"]
    return Unpacked(
        packed["target"].encode("ascii"),
        tuple((name.encode("ascii"), value.encode("ascii")) for name, value in packed["headers"].items()),
        None if body is None else body.encode(),
    )


def pack_answer(answer: HttpAnswer) -> str:
    """Return the part of an answer that is sealed; a body that is incomplete is left out."""
    headers = {name: answer.headers[name] for name in kept_headers if name in answer.headers}
    packed: dict[str, object] = {"headers": headers}
    if answer.complete and answer.body:
        try:
            packed["text"] = answer.body.decode()
        except UnicodeDecodeError:
            packed["base64"] = b64encode(answer.body).decode()
    return json.dumps(packed, ensure_ascii=False)


def show_answer(status: int, packed: str | None) -> dict[str, object]:
    """Return an answer as an application gets it: its body as JSON if that can be passed on exactly, else as text or in
    base64.

    Without the packed part, which is erased after a day, only the status is left.
    """
    kept = {} if packed is None else json.loads(packed)
    headers: dict[str, str] = kept.get("headers", {})
    shown: dict[str, object] = {"status": status, "headers": headers, "body": None, "encoding": None}
    if "base64" in kept:
        return shown | {"body": kept["base64"], "encoding": "base64"}
    if "text" not in kept:
        return shown
    text = kept["text"]
    if is_json_type.fullmatch(headers.get("content-type", "")):
        try:
            if exact_json.estimate_memory(text) <= memory:
                body, _ = exact_json.read_exactly(text)
                if not exact_json.depth_exceeds(body, deepest_answer):
                    return shown | {"body": body, "encoding": "json"}
        except (ValueError, RecursionError):
            pass
    return shown | {"body": text, "encoding": "text"}
