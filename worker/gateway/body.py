"""A request's body: read whole if it is short, so that it can be sent again; passed on as it comes if it is long.

And its caller, who may leave before the answer has come.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpx
from starlette.types import Receive

from models.gateway.headers import Headers
from models.gateway.problems import ProblemType, Refusal, refuse

longest_body: Final = 10 << 20
longest_kept: Final = 1 << 20


class CallerGone(Exception):
    """The application closed its connection before it had its answer."""


class Departure:
    """Notices that the caller of a request leaves: its connection is closed before it has its answer."""

    def __init__(self, receive: Receive) -> None:
        self.has_left = False
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None
        self._block: asyncio.Timeout | None = None

    def watch(self) -> None:
        """Begin to look, once the request's body was read: what is left of one that no one wants is dropped."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._look())

    def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    @asynccontextmanager
    async def heeded(self) -> AsyncIterator[None]:
        """End the block as soon as it is noticed, whatever it waits for. Raises `CallerGone`."""
        if self.has_left:
            raise CallerGone
        try:
            async with asyncio.timeout(None) as block:
                self._block = block
                yield
        except TimeoutError:
            if not block.expired():
                raise
            raise CallerGone from None
        finally:
            self._block = None

    async def _look(self) -> None:
        more = True
        while more:
            more = (await self._receive())["type"] == "http.request"
        self.has_left = True
        if self._block is not None:
            self._block.reschedule(asyncio.get_running_loop().time())


@dataclass(slots=True)
class Body:
    """A body, of which `beginning` was read.

    is_whole: whether that is all of it: then it can be sent more than once.
    length: how long it is; None if only its end says so, or if there is no body.
    """

    beginning: bytes
    is_whole: bool
    length: int | None
    receive: Receive
    most: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers that say where it ends."""
        if self.length is not None:
            return [(b"Content-Length", str(self.length).encode())]
        return [] if self.is_whole else [(b"Transfer-Encoding", b"chunked")]

    def stream(self) -> httpx.AsyncByteStream:
        """Return what httpx sends."""
        return httpx.ByteStream(self.beginning) if self.is_whole else _Rest(self)

    async def whole(self) -> bytes:
        """Return it. Raises `Refusal` if it is too long."""
        if not self.is_whole:
            raise _refuse_size(self.most)
        return self.beginning


class _Rest(httpx.AsyncByteStream):
    """What was read of a body, and then what comes. Raises `Refusal` when that is too much, or `CallerGone`."""

    def __init__(self, body: Body) -> None:
        self.body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.body.beginning
        size, more = len(self.body.beginning), True
        while more:
            chunk, more = await _receive(self.body.receive)
            size += len(chunk)
            if size > self.body.most:
                raise _refuse_size(self.body.most)
            if chunk:
                yield chunk


async def read_body(headers: Headers, receive: Receive, most: int = longest_body, kept: int = longest_kept) -> Body:
    """Read a body until it ends, or is too long to be kept. Raises `Refusal` or `CallerGone`."""
    lengths = [value for name, value in headers if name == b"content-length"]
    length = int(lengths[0]) if lengths else None
    if length is not None and length > most:
        raise _refuse_size(most)
    if length is None and not any(name == b"transfer-encoding" for name, _ in headers):
        return Body(b"", True, None, receive, most)
    chunks, size, more = [], 0, True
    while more and size <= kept:
        chunk, more = await _receive(receive)
        chunks.append(chunk)
        size += len(chunk)
    beginning = b"".join(chunks)
    return Body(beginning, not more, length if more else size, receive, most)


async def _receive(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] != "http.request":
        raise CallerGone
    return message.get("body", b""), message.get("more_body", False)


def _refuse_size(most: int) -> Refusal:
    return refuse(ProblemType.too_large, f"A body has at most {most} bytes.")
