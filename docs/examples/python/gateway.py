"""A client of breezesync's gateway in one file, to copy: it needs httpx, and nothing of breezesync.

    with Gateway("http://127.0.0.1:8702", os.environ["GATEWAY_KEY"]) as gateway:
        for connection in gateway.connections(user_id="ada"):
            documents = gateway.request(connection.id, "GET", "documents", params={"page": 1}).json()

Whatever the gateway itself refuses is raised as `Problem`. What the provider answers is returned, errors included: look
at its status. A client may be used by several threads.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote, unquote

import httpx

Status = Literal["active", "revoked", "disconnected"]
Found = TypeVar("Found")


class Problem(Exception):
    """What the gateway refused, and why (RFC 9457).

    type: what to look at, for example `reauthorization_required`; docs/gateway.md has all.
    retry_after: seconds after which it may work; None if repeating it does not help.
    connect_path: where the user authorizes again, with a new connect link's token.
    carried_out: of a call without an answer, `no` if it surely did not reach the provider, else `unknown`.
    """

    def __init__(self, answer: httpx.Response) -> None:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):  # not the gateway, but something before it
            found = {}
        self.type = str(found.get("type", "failed"))
        self.status = answer.status_code
        self.detail = str(found.get("detail", f"The gateway answered {answer.status_code}."))
        self.connect_path: str | None = found.get("connect_path")
        self.carried_out: Literal["no", "unknown"] | None = found.get("carried_out")
        waits = answer.headers.get("retry-after", "")
        self.retry_after = int(waits) if waits.isdigit() else None
        super().__init__(f"{self.type}: {self.detail}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One user's account at a provider; `connect_path` is there if the user has to authorize again."""

    id: str
    user_id: str
    provider: str
    account_id: str
    status: Status
    generation: int
    created_at: datetime
    email: str | None = None
    problem: str | None = None
    scope: str | None = None
    expires_at: datetime | None = None
    last_synced_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_reason: str | None = None
    access_limited: bool = False
    connect_path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An access token, which `repr` does not show; `generation` counts the connection's tokens."""

    access_token: str
    token_type: str
    expires_at: datetime | None
    generation: int

    def __repr__(self) -> str:
        return f"Token(generation={self.generation}, expires_at={self.expires_at})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call as a job.

    `completed`: the provider answered, whatever it answered. `failed`: it was not carried out; `reason` says why.
    `unknown`: it may have been, and no answer came: look before you make another one.
    """

    call_id: str
    connection_id: str
    method: str
    path: str
    status: Literal["pending", "running", "completed", "failed", "unknown"]
    answer: Mapping[str, Any] | None
    reason: str | None
    description: str | None

    @property
    def has_ended(self) -> bool:
        return self.status not in ("pending", "running")


class Gateway:
    """Asks the gateway at `url` with one of its keys; `timeout` is in seconds, the gateway's own is 60."""

    def __init__(self, url: str, key: str, timeout: float = 75, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=timeout, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def connections(
        self, user_id: str | None = None, provider: str | None = None, status: Status | None = None
    ) -> Iterator[Connection]:
        """Yield the connections that fit, page by page."""
        chosen = {"user_id": user_id, "provider": provider, "status": status, "cursor": None}
        while True:
            given = {name: value for name, value in chosen.items() if value is not None}
            page = self._ask("GET", "/v1/connections", params=given)
            yield from (_read(Connection, each) for each in page["connections"])
            if page["next_cursor"] is None:
                return
            chosen["cursor"] = page["next_cursor"]

    def connection(self, connection_id: str) -> Connection:
        return _read(Connection, self._ask("GET", f"/v1/connections/{quote(connection_id, safe='')}"))

    def token(self, connection_id: str, min_ttl: int = 60) -> Token:
        """Return an access token that lives for `min_ttl` seconds more, if the provider gives such."""
        path = f"/v1/connections/{quote(connection_id, safe='')}/token"
        return _read(Token, self._ask("POST", path, json={"min_ttl": min_ttl}))

    def request(self, connection_id: str, method: str, path: str, **more: Any) -> httpx.Response:
        """Call the provider's API now, and return its answer; `more` is what `httpx.Client.build_request` takes.

        `path` follows the profile's `api_url`; ValueError if it leads out of it. Raises Problem for what the gateway
        answers itself: with `carried_out == "unknown"` it may have been carried out, so look before you repeat a write.
        """
        below = f"/v1/connections/{quote(connection_id, safe='')}/proxy/"
        request = self._client.build_request(method, below + path.lstrip("/"), **more)
        if not request.url.path.startswith(unquote(below)):
            raise ValueError(f"{path} leads out of the API, perhaps to another user's connection")
        answer = self._client.send(request)
        if answer.headers.get("breezesync-source") != "provider":
            raise Problem(answer)
        return answer

    def call(self, connection_id: str, method: str, path: str, *, idempotency_key: str, body: Any = None) -> Call:
        """Have a call made as a job, at most once unless the method is safe; the same key gets the same call."""
        asked = {"method": method, "path": path, "idempotency_key": idempotency_key, "body": body}
        given = {name: value for name, value in asked.items() if value is not None}
        return _read(Call, self._ask("POST", f"/v1/connections/{quote(connection_id, safe='')}/calls", json=given))

    def call_again(self, call_id: str) -> Call:
        """Return a call as it is now."""
        return _read(Call, self._ask("GET", f"/v1/calls/{quote(call_id, safe='')}"))

    def wait(self, call_id: str, seconds: float = 60, pause: float = 0.5) -> Call:
        """Return a call once it has ended, or as it is after `seconds`; the event `call.completed` comes by itself."""
        until = time.monotonic() + seconds
        while not (call := self.call_again(call_id)).has_ended and time.monotonic() < until:
            time.sleep(pause)
        return call

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        answer = self._client.request(method, path, **more)
        if not answer.is_success:
            raise Problem(answer)
        return answer.json()


def _read(kind: type[Found], found: Mapping[str, Any]) -> Found:
    """Build a value of the fields that this client knows; newer gateways may send more."""
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: _read_time(name, value) for name, value in found.items() if name in known})


def _read_time(name: str, value: Any) -> Any:
    return datetime.fromisoformat(value) if name.endswith("_at") and isinstance(value, str) else value
