"""What is asked of the gateway: read from path, query and body."""

import json
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from models.gateway.keys import GatewayKey
from models.gateway.problems import ProblemType, refuse
from worker.gateway.door import address_of
from worker.gateway.operations import longest_ttl, operations, usual_ttl

id_pattern: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
parameters: Final = frozenset(each.name for each in operations[0].parameters)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of someone who has a key."""

    scope: Scope
    receive: Receive
    send: Send
    key: GatewayKey

    @property
    def connection_id(self) -> str:
        """Return the connection's id in the path. Raises `Refusal` if it can't be one."""
        given: str = self.scope["path_params"]["connection_id"]
        if not id_pattern.fullmatch(given):
            raise refuse(ProblemType.connection_unknown, "No connection has an id like this.")
        return given

    @property
    def call_id(self) -> str:
        """Return the call's id in the path. Raises `Refusal` if it can't be one."""
        given: str = self.scope["path_params"]["call_id"]
        if not id_pattern.fullmatch(given):
            raise refuse(ProblemType.call_unknown, "No call has an id like this.")
        return given

    @property
    def address(self) -> str | None:
        """Return the address that the request came from."""
        return address_of(self.scope)


def read_path(scope: Scope, connection_id: str) -> bytes:
    """Return what follows `proxy/` in the path as it was sent. Raises `Refusal`."""
    raw: bytes = scope.get("raw_path") or b""
    before = f"{scope.get('root_path', '')}/v1/connections/{connection_id}/proxy/".encode()
    if not raw.startswith(before):
        raise refuse(ProblemType.bad_request, "The path up to proxy/ may not be percent-encoded.")
    return raw[len(before) :]


def read_query(query: bytes) -> dict[str, str]:
    """Return the parameters of a list, each of which may come once. Raises `Refusal`."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=10)
    except ValueError:
        raise refuse(ProblemType.bad_request, "The query can't be read.") from None
    given = dict(pairs)
    unknown = sorted(set(given) - parameters)
    if unknown or len(given) < len(pairs):
        raise refuse(ProblemType.bad_request, f"Known parameters are {', '.join(sorted(parameters))}, each once.")
    if any(not value or len(value) > 255 or not value.isprintable() for value in given.values()):
        raise refuse(ProblemType.bad_request, "A parameter has 1 to 255 visible characters.")
    return given


def read_number(text: str, name: str, least: int, most: int) -> int:
    """Return a whole number. Raises `Refusal`."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise refuse(ProblemType.bad_request, f"{name} is a whole number from {least} to {most}.")
    return int(text)


def read_ttl(body: bytes) -> int:
    """Return `min_ttl` of a request for a token; a request without a body means the usual one. Raises `Refusal`."""
    if not body.strip():
        return usual_ttl
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict) or set(given) - {"min_ttl"}:
        raise refuse(ProblemType.bad_request, 'The body is empty, or JSON like {"min_ttl": 60}.')
    least = given.get("min_ttl", usual_ttl)
    if not isinstance(least, int) or isinstance(least, bool) or not 0 <= least <= longest_ttl:
        raise refuse(ProblemType.bad_request, f"min_ttl is a whole number from 0 to {longest_ttl}.")
    return least
