"""The application and its user's browser: what they send, and the events and pages that they receive."""

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, urljoin, urlsplit, urlunsplit

import httpx
import redis
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from sandbox.client import Control
from sandbox.demo.stack import Stack

T = TypeVar("T")
COMMANDS = "breezesync:commands"
STREAMS = ("breezesync:events", "breezesync:records")


class NotSeenError(Exception):
    """What was expected did not happen in time, or something else happened."""


@dataclass(frozen=True, slots=True)
class Received:
    """One event from a stream; `at` is when it happened, not when it was received."""

    type: str
    user_id: str
    connection_id: str
    at: datetime
    data: dict[str, Any]


class Application:
    """Uses breezesync's HTTP endpoints, streams, command line and views; waits `patience` seconds for each result."""

    def __init__(self, stack: Stack, patience: float) -> None:
        self._stack = stack
        self._patience = patience
        self._open = ExitStack()
        self.control = self._open.enter_context(Control(stack.sandbox_url))
        self._redis: Any = redis.Redis.from_url(stack.redis_url, decode_responses=True, socket_timeout=30)
        self._open.callback(self._redis.close)
        self._database = create_engine(stack.database_url, poolclass=NullPool)
        self._positions: dict[str, str] = {}
        self.received: list[Received] = []

    def __enter__(self) -> Self:
        """Receive events from now on; earlier ones belong to other users."""
        newest = {key: self._redis.xrevrange(key, count=1) for key in STREAMS}
        self._positions = {key: found[0][0] if found else "0" for key, found in newest.items()}
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def type_command(self, *words: str) -> str:
        """Return what a breezesync command prints. Raises `NotSeenError` with its error if it fails."""
        done = subprocess.run(  # noqa: S603 - our own command
            [*self._stack.command, *words],
            cwd=self._stack.directory,
            env=self._stack.environment,
            capture_output=True,
            text=True,
            timeout=self._patience + 30,
            check=False,
        )
        if done.returncode != 0:
            raise NotSeenError(f"breezesync {words[0]} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def follow_link(self, link: str, user_id: str, account: int) -> Mapping[str, Any]:
        """Act as the browser, from the link through the provider's consent to the result page; return what it says."""
        with httpx.Client(trust_env=False, timeout=30) as browser:
            opened = self._visit(browser, link, 200, 302)
            asked = opened if opened.status_code == 302 else self._click(browser, opened)
            agreed = self.control.authorize(asked.headers["location"], account)
            returned = self._visit(browser, agreed, 303)
            result = urljoin(str(returned.url), returned.headers["location"])
            if self.return_to is not None and result.startswith(self.return_to):
                result = self._confirm(user_id, result)
            return self.wait_for(lambda: read_result(browser, result), "the result page's answer")

    def _visit(self, browser: httpx.Client, url: str, *expected: int) -> httpx.Response:
        answer = browser.get(self.at_web(url))
        return require_status(answer, *expected)

    def _click(self, browser: httpx.Client, page: httpx.Response) -> httpx.Response:
        """Read the page that asks whose browser this is, and click on its button."""
        form = dict(re.findall(r'name="(\w+)" value="([^"]*)">\n', page.text))
        action = re.search(r'action="([^"]*)"', page.text)
        if action is None:
            raise NotSeenError("expected a page with a form")
        answer = browser.post(urljoin(str(page.url), action[1]), data={**form, "answer": "continue"})
        return require_status(answer, 303)

    def _confirm(self, user_id: str, arrived: str) -> str:
        """Confirm for the user of our session what the browser brought; return the result page's URL."""
        brought = dict(parse_qsl(urlsplit(arrived).query))
        confirmed = {"authorization_id": brought["authorization_id"], "confirmation": brought["confirmation"]}
        self._redis.xadd(COMMANDS, {"type": "confirm", "user_id": user_id, **confirmed})
        return f"{self._stack.web_url}/auth/breezedoc/done/{brought['authorization_id']}"

    @property
    def return_to(self) -> str | None:
        """Where users come back to, with a confirmation; None if our page asks instead."""
        return self._stack.return_to

    def at_web(self, url: str) -> str:
        """Return the URL by which this process reaches the web process; a browser may use another one."""
        here = urlsplit(self._stack.web_url)
        return urlunsplit(urlsplit(url)._replace(scheme=here.scheme, netloc=here.netloc))

    def expect(self, type_: str, connection_id: str, times: int = 1) -> Received:
        """Wait for the `times`th event of that type about the connection, and return it."""

        def find() -> Received | None:
            self._listen()
            found = [e for e in self.received if (e.type, e.connection_id) == (type_, connection_id)]
            return found[times - 1] if len(found) >= times else None

        return self.wait_for(find, f"{type_} on the stream")

    def count_by_type(self, connection_id: str) -> Counter[str]:
        """Count the received events about the connection by type."""
        self._listen()
        return Counter(event.type for event in self.received if event.connection_id == connection_id)

    def wait_for(self, look: Callable[[], T | None], what: str) -> T:
        """Wait until `look` returns a result, and return it. Raises `NotSeenError` after `patience` seconds."""
        deadline = time.monotonic() + self._patience
        while (seen := look()) is None:
            if time.monotonic() > deadline:
                raise NotSeenError(f"not within {self._patience:g} s: {what}")
            time.sleep(0.05)
        return seen

    def ask_database(self, query: str, connection_id: str) -> Any:
        """Return the one row of a query about the connection `:id`."""
        with self._database.connect() as sql:
            return sql.execute(text(query), {"id": connection_id}).one()

    def _listen(self) -> None:
        while found := self._redis.xread(self._positions, count=1000):
            for key, entries in found:
                self._positions[key] = entries[-1][0]
                self.received += [read_entry(fields) for _, fields in entries]


def require_status(answer: httpx.Response, *expected: int) -> httpx.Response:
    if answer.status_code not in expected:
        raise NotSeenError(f"{answer.url.path} answered {answer.status_code} instead of {expected[0]}")
    return answer


def read_result(browser: httpx.Client, page: str) -> Mapping[str, Any] | None:
    """Return what the result page says, with its URL; None while it is pending."""
    answer: dict[str, Any] = browser.get(page, headers={"Accept": "application/json"}).json()
    return None if answer["status"] == "pending" else answer | {"page": page}


def read_entry(fields: Mapping[str, str]) -> Received:
    event = json.loads(fields["event"])
    at = datetime.fromisoformat(event["time"])
    return Received(fields["type"], fields["user_id"], fields["connection_id"], at, event["data"])
