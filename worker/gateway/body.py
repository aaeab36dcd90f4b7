"""A request's body: read whole if it is short, so that it can be sent again; passed on as it comes if it is long."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import httpx
from starlette.types import Receive

from models.gateway.headers import Headers
from models.gateway.problems import ProblemType, Refusal, refuse

longest_body: Final = 10 << 20
longest_kept: Final = 1 << 20


class CallerGone(Exception):
    """The application closed its connection before its request was whole."""


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
