"""A provider that costs little: answers of BreezeDoc's sizes, made once and sent as they are.

`python -m tests.bench.provider` prints its port and serves until its standard input closes. The number of an account
says how large it is. Only the signatures in the URLs of a document's pages are new in every answer, as BreezeDoc's are.
"""

import asyncio
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import uvloop

from sandbox.documents import Recipient, draft_document, draft_invoice, sign_urls
from sandbox.pages import PER_PAGE, Page
from tests.bench.accounts import documents_of

OPENED_AT = 1_760_000_000.0
MARK = b"\x00signature\x00"
ACCESS_TOKEN = re.compile(rb"eyJ0(\d{9})\.(\d{9})")
REFRESH_TOKEN = re.compile(rb"def502(\d{9})(\d{9})")
TARGET = re.compile(rb"[?&]page=(\d+)")
FAMILY = 1_000_000
"""Each side has tokens of its own: it counts on from a multiple of this."""
UNAUTHENTICATED = b'{"message":"Unauthenticated."}'
REVOKED = json.dumps(
    {
        "error": "invalid_request",
        "error_description": "The refresh token is invalid.",
        "hint": "Token has been revoked",
        "message": "The refresh token is invalid.",
    }
).encode()


def access_token(account: int, number: int) -> str:
    """Return a token as long as Passport's JWT."""
    return f"eyJ0{account:09}.{number:09}{'a' * 1_050}"


def refresh_token(account: int, number: int) -> str:
    return f"def502{account:09}{number:09}{'0' * 690}"


def describe_account(account: int) -> bytes:
    return json.dumps({"id": account, "name": f"User {account}", "email": f"user{account}@example.com"}).encode()


@cache
def pages_of(documents: int, name: str, base: str) -> list[list[bytes]]:
    """Return the pages of a list, each cut where a signature belongs."""
    return [page.split(MARK) for page in _render(documents, name, f"{base}/{name}")]


def requests_for(documents: int) -> int:
    """Return how many requests read everything of an account."""
    return 1 + sum(len(pages_of(documents, name, "")) for name in ("documents", "templates", "recipients", "invoices"))


def _render(documents: int, name: str, path: str) -> list[bytes]:
    drafted = [draft_document(number, OPENED_AT) for number in range(1, documents + 1)]
    match name:
        case "documents":
            rows, flat = [each.render(MARK) for each in drafted], True
        case "templates":
            templates = [draft_document(number, OPENED_AT, is_template=True) for number in (900_001, 900_002)]
            rows, flat = [each.render(MARK) for each in templates], True
        case "recipients":
            signers: list[Recipient] = [one for each in drafted for one in each.recipients]
            rows, flat = [_encode(one.to_json()) for one in signers], False
        case _:
            rows, flat = [_encode(draft_invoice(number, OPENED_AT).to_json()) for number in (501, 502, 503)], False
    return [_render_page(path, number, rows, flat) for number in range(1, max(-(-len(rows) // PER_PAGE), 1) + 1)]


def _render_page(path: str, number: int, rows: Sequence[bytes], flat: bool) -> bytes:
    page = Page(path, number, len(rows))
    return page.render_flat(page.cut(rows)) if flat else page.render_collection(page.cut(rows))


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/").encode()


class State:
    """Which token of each account is the newest, what was asked for, and who has revoked."""

    def __init__(self) -> None:
        self.newest: dict[tuple[int, int], int] = {}
        self.revoked: set[int] = set()
        self.refused_at: dict[int, float] = {}
        self.counts: Counter[str] = Counter()

    def answer(self, target: bytes, authorization: bytes, body: bytes, base: str) -> tuple[int, bytes]:
        """Return status and body."""
        if target.startswith(b"/oauth/token"):
            return self._renew(body)
        if target.startswith(b"/api/"):
            return self._read(target, authorization, base)
        if target.startswith(b"/revoke/"):
            self.revoked.add(int(target.rpartition(b"/")[2]))
        if target.startswith(b"/refused/"):
            return 200, str(self.refused_at[int(target.rpartition(b"/")[2])]).encode()
        return 200, json.dumps(self.counts).encode()

    def _renew(self, body: bytes) -> tuple[int, bytes]:
        self.counts["token"] += 1
        found = REFRESH_TOKEN.search(body)
        if found is None or int(found[1]) in self.revoked:
            return 401, REVOKED
        account, number = int(found[1]), int(found[2])
        family = account, number // FAMILY
        if number < self.newest.get(family, 0):
            self.counts["stale"] += 1
        self.newest[family] = number + 1
        answer = {
            "token_type": "Bearer",
            "expires_in": 31_536_000,
            "access_token": access_token(account, number + 1),
            "refresh_token": refresh_token(account, number + 1),
        }
        return 200, json.dumps(answer, separators=(",", ":")).encode()

    def _read(self, target: bytes, authorization: bytes, base: str) -> tuple[int, bytes]:
        self.counts["api"] += 1
        found = ACCESS_TOKEN.search(authorization)
        if found is None or int(found[1]) in self.revoked:
            if found is not None:
                self.refused_at.setdefault(int(found[1]), time.monotonic())
            return 401, UNAUTHENTICATED
        account, name = int(found[1]), target[5:].partition(b"?")[0].decode()
        if name == "me":
            return 200, describe_account(account)
        number = TARGET.search(target)
        pages = pages_of(documents_of(account), name, base)
        return 200, sign_urls(time.time()).join(pages[int(number[1]) - 1 if number else 0])


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as much of it as clients need."""

    def __init__(self, state: State) -> None:
        self.state, self.received = state, b""
        self.send: Callable[[bytes], None] = lambda _: None
        self.base = ""

    def connection_made(self, transport: Any) -> None:
        self.send = transport.write
        self.base = f"http://127.0.0.1:{transport.get_extra_info('sockname')[1]}/api"

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, rest = self.received.partition(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line[:1] in b"aAcC")
            length = int(fields.get(b"content-length", b"0"))
            if len(rest) < length:
                return
            self.received = rest[length:]
            authorization = head[head.lower().find(b"authorization: ") :]
            status, body = self.state.answer(head.split(b" ", 2)[1], authorization, rest[:length], self.base)
            self.send(
                b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
                b"X-RateLimit-Limit: 1000000\r\nX-RateLimit-Remaining: 999900\r\n\r\n" % (status, len(body)) + body
            )


async def serve() -> None:
    state, loop = State(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(state), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    uvloop.run(serve())
