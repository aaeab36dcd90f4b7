"""What a request has to pass before a page of ours works for it: rate, number at once, size of its body."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from limits import RateLimitItemPerMinute
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from worker.web.protocol import Network, block_of, is_proxy, unix_peer

Refuse = Callable[[Request, Exception], Response]


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the public endpoints take: requests of one address in a minute, requests at once, bytes of a body.

    The address is the one that `proxies` forward for, if one of them sent the request, or if it came by a Unix socket.
    `addresses` are counted at most. `hook_body` are the bytes of a provider's webhook; of those longer than `body` only
    `long_bodies` are held at once, before anyone knows who sent them.
    """

    per_minute: int = 1_200
    addresses: int = 16_384
    at_once: int = 200
    body: int = 8_192
    hook_body: int = 262_144
    long_bodies: int = 64
    proxies: tuple[Network, ...] = ()


class BoundedStorage(Storage):
    """Counts for at most `most` keys: one more takes the place of the one whose window began first.

    Nothing scans the keys, however many addresses a flood comes from. Of one event loop.
    """

    STORAGE_SCHEME = None
    base_exceptions = ValueError

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.windows: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """The count of each key and when its window ends, in that order."""

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        count = self.get(key) + amount
        if count == amount:
            self.windows.pop(key, None)
            if len(self.windows) >= self.most:
                self.windows.popitem(last=False)
            self.windows[key] = count, time.time() + expiry
        else:
            self.windows[key] = count, self.windows[key][1]
        return count

    def get(self, key: str) -> int:
        count, end = self.windows.get(key, (0, 0.0))
        return count if end > time.time() else 0

    def get_expiry(self, key: str) -> float:
        return self.windows.get(key, (0, time.time()))[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        count = len(self.windows)
        self.windows.clear()
        return count

    def clear(self, key: str) -> None:
        self.windows.pop(key, None)


class Guard:
    """Passes on what is within the allowance, and shows the rest with `refuse`.

    The count is this process's own and needs no Redis, so that a flood does not reach one.
    """

    def __init__(self, app: ASGIApp, refuse: Refuse, allowance: Allowance) -> None:
        self.app, self.refuse, self.allowance = app, refuse, allowance
        trusted = [unix_peer, *(str(network) for network in allowance.proxies)]
        self.behind_proxies: Any = ProxyHeadersMiddleware(self._pass, trusted)  # type: ignore[arg-type]
        self.limiter = FixedWindowRateLimiter(BoundedStorage(allowance.addresses))
        self.rate = RateLimitItemPerMinute(allowance.per_minute)
        self.under_way = 0
        self.long_bodies = 0
        self.has_warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self._note_unknown_proxy(scope)
        await self.behind_proxies(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        room = Room(self)
        try:
            await self._pass_within(room, scope, receive, send)
        finally:
            room.leave()

    async def _pass_within(self, room: "Room", scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._count(scope)
            replay = await read_body(scope, receive, self._longest_body(scope), room)
            self._find_room()
        except HTTPException as refused:
            await self.refuse(Request(scope), refused)(scope, receive, send)
            return
        self.under_way += 1
        try:
            await self.app(scope, replay, send)
        finally:
            self.under_way -= 1

    def _count(self, scope: Scope) -> None:
        """Count the request. Raises HTTPException 429."""
        client = scope.get("client")
        block = block_of(client[0] if client else "")
        if not self.limiter.hit(self.rate, block):
            wait = max(self.limiter.get_window_stats(self.rate, block).reset_time - time.time(), 1)
            raise HTTPException(429, headers={"Retry-After": f"{wait:.0f}"})

    def _longest_body(self, scope: Scope) -> int:
        is_hook = str(scope["path"]).startswith("/hooks/")
        return self.allowance.hook_body if is_hook else self.allowance.body

    def _find_room(self) -> None:
        """Raise HTTPException 503 if too much is under way; a request whose body has not come keeps no one out."""
        if self.under_way >= self.allowance.at_once:
            raise HTTPException(503, headers={"Retry-After": "1"})

    def _note_unknown_proxy(self, scope: Scope) -> None:
        """Warn once of a proxy that is not trusted: all its users share one allowance."""
        if self.has_warned or not any(name == b"x-forwarded-for" for name, _ in scope["headers"]):
            return
        peer = (scope.get("client") or ("",))[0]
        if not is_proxy(peer, self.allowance.proxies):
            self.has_warned = True
            structlog.get_logger("web").warning("proxy.not_trusted", address=peer, setting="TRUSTED_PROXIES")


@dataclass(slots=True)
class Room:
    """The place of one request among those with a long body, once it needs one."""

    guard: Guard
    is_taken: bool = False

    def hold(self, size: int) -> None:
        """Take the place if so many bytes need it. Raises HTTPException 503 if none is free."""
        allowance = self.guard.allowance
        if self.is_taken or size <= allowance.body:
            return
        if self.guard.long_bodies >= allowance.long_bodies:
            raise HTTPException(503, headers={"Retry-After": "1", "Connection": "close"})
        self.guard.long_bodies += 1
        self.is_taken = True

    def leave(self) -> None:
        if self.is_taken:
            self.guard.long_bodies -= 1
            self.is_taken = False


async def read_body(scope: Scope, receive: Receive, most: int, room: Room) -> Receive:
    """Read a body that is short enough, and return a `receive` that gives it again. Raises HTTPException 413, or 503 if
    there is no room for a long one."""
    headers = {name: value for name, value in scope["headers"] if name in (b"content-length", b"transfer-encoding")}
    if not headers:
        return receive
    too_long = HTTPException(413, headers={"Connection": "close"})
    if int(headers.get(b"content-length", b"0")) > most:
        raise too_long
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        body, more = body + message.get("body", b""), message.get("more_body", False)
        if len(body) > most:
            raise too_long
        room.hold(len(body))
    given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def give() -> Message:
        return given.pop() if given else await receive()

    return give
