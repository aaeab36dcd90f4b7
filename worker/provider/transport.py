"""One request on the wire: by which proxy it leaves, whether it left, cut when its time is up, its answer bounded."""

import os
import select
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache
from time import monotonic
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl

import httpx

from models.http import HttpAnswer, NoAnswer
from models.proxies import Proxies, has_socks, read_proxies
from worker.deadlines import Within, deadlines

Done_co = TypeVar("Done_co", covariant=True)

try_sending_again = timedelta(seconds=5)
longest_reason = 100


class SendingTooLate(Exception):
    """The moment to send has passed: someone else may have taken over. Nothing was sent."""


class Routed(httpx.BaseTransport):
    """Sends each request directly or through its proxy.

    httpx reads the proxy variables whenever a client is made, and raises if one is bad. Here they were read and checked
    at start, so that making a client can't fail after an intent was written.

    kept_open: the socket of the last request to each server, which the next one may use again.
    """

    def __init__(self, proxies: Proxies, ssl_context: ssl.SSLContext, limits: httpx.Limits) -> None:
        self._proxies = proxies
        self.kept_open: dict[bytes, Any] = {}
        self._direct = httpx.HTTPTransport(verify=ssl_context, trust_env=False, limits=limits)
        self._through = {
            url: httpx.HTTPTransport(
                verify=ssl_context, trust_env=False, limits=limits, proxy=as_proxy(url.reveal(), ssl_context)
            )
            for url in set(proxies.by_scheme.values())
        }

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.raw_host.decode("ascii")
        proxy = self._proxies.find(request.url.scheme, host, request.url.port)
        transport = self._direct if proxy is None else self._through[proxy]
        return transport.handle_request(request)

    def close(self) -> None:
        for transport in (self._direct, *self._through.values()):
            transport.close()


class ThreadTransports:
    """A transport for each thread, opened when it is first needed."""

    def __init__(self, proxies: Proxies, ssl_context: ssl.SSLContext, limits: httpx.Limits) -> None:
        self._proxies, self._ssl_context, self._limits = proxies, ssl_context, limits
        self._local = threading.local()
        self._opened: list[Routed] = []

    @property
    def own(self) -> Routed:
        """The calling thread's."""
        transport: Routed | None = getattr(self._local, "transport", None)
        if transport is None:
            transport = self._local.transport = self.open()
            self._opened.append(transport)
        return transport

    def open(self) -> Routed:
        """Open another one, which is the caller's to close."""
        return Routed(self._proxies, self._ssl_context, self._limits)

    def close_own(self) -> None:
        """Close the thread's: a tunnel that broke in its TLS handshake would take up its pool for ever."""
        transport: Routed | None = getattr(self._local, "transport", None)
        if transport is not None:
            transport.close()
            self._opened.remove(transport)
            self._local.transport = None

    def close(self) -> None:
        """Close every thread's; none may be in use any more."""
        for transport in self._opened:
            transport.close()


@lru_cache(maxsize=256)
def parse_url(url: str) -> httpx.URL:
    """Return the URL, parsed once. Raises `httpx.InvalidURL`."""
    return httpx.URL(url)


@lru_cache(maxsize=64)
def parse_base(api_url: str) -> tuple[httpx.URL, bytes]:
    """Return the URL of an API, and its path without a slash at the end."""
    url = httpx.URL(api_url)
    return url, url.raw_path.rstrip(b"/")


@lru_cache(maxsize=512)
def parse_page_url(url: str, query: str, parameters: tuple[tuple[str, str], ...]) -> httpx.URL:
    """Return the URL of a page of a list, with its query and the page's own parameters; parsed once, because parsing
    takes half as long as a request.

    Raises `httpx.InvalidURL`.
    """
    own = dict(parameters)
    params = [*(pair for pair in parse_qsl(query) if pair[0] not in own), *parameters]
    return httpx.URL(url, params=params) if params else httpx.URL(url)


def find_usual_proxies() -> Proxies:
    """Return the proxies of the environment. Raises ValueError with every problem."""
    found, problems = read_proxies(os.environ, has_socks())
    if problems:
        raise ValueError("; ".join(problems))
    return found


def as_proxy(text: str, ssl_context: ssl.SSLContext) -> httpx.Proxy:
    """A proxy that is itself spoken to over TLS is held to the same certificates as a provider."""
    url = httpx.URL(text if "://" in text else f"http://{text}")
    return httpx.Proxy(url, ssl_context=ssl_context if url.scheme == "https" else None)


class Meanwhile(Generic[Done_co]):
    """What is done while a request is under way, on its thread, if no answer has come after so many seconds.

    Its time counts neither as the request's nor towards its deadline, and its failure is none of the request's.
    """

    def __init__(self, seconds: float, act: Callable[[], Done_co]) -> None:
        self.seconds = seconds
        self.took = 0.0
        self._act = act
        self._outcome: Future[Done_co] = Future()

    def run(self) -> None:
        began = monotonic()
        try:
            self._outcome.set_result(self._act())
        except Exception as error:  # whatever it is, it is raised by `outcome`
            self._outcome.set_exception(error)
        self.took = monotonic() - began

    @property
    def has_run(self) -> bool:
        """Whether the answer took its time."""
        return self._outcome.done()

    def outcome(self) -> Done_co:
        """Return what was returned, or raise what was raised, once it has run."""
        return self._outcome.result()


body_begins = "http11.send_request_body.started"
answer_awaited = "http11.receive_response_headers.started"
head_begins = "http11.send_request_headers.started"


class Wire:
    """Watches one request: whether it left; and the socket to cut when time is up.

    A token request has left once its body begins, with all that is secret. A call may be carried out without a body:
    it has left once its head begins.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        send_before: datetime | None = None,
        kept_open: Any = None,
        leaves_with: str = body_begins,
        meanwhile: Meanwhile[object] | None = None,
    ) -> None:
        """`kept_open` is the socket of an earlier request, which this one may use again."""
        self.now = now
        self.send_before = send_before
        self.leaves_with = leaves_with
        self.meanwhile = meanwhile
        self.sent = False
        self.cut = False
        self.socket: Any = kept_open
        self._deadline: Within | None = None

    def send(
        self, transport: httpx.BaseTransport, request: httpx.Request, largest: int, length: timedelta
    ) -> HttpAnswer | NoAnswer:
        """The answer, redirects not followed and cookies not kept: at most `largest` bytes of its body, within `length`
        however slowly it drips. Nothing leaves after `send_before`: the clock is read again when it is about to go."""
        request.extensions["trace"] = self._trace
        try:
            with deadlines.within(length.total_seconds(), self._shut) as self._deadline:
                return _read(transport.handle_request(request), largest, self._deadline)
        except SendingTooLate:
            return NoAnswer(False, "the lease ran out before the request was sent", retry_after=try_sending_again)
        except httpx.ProxyError as error:
            return NoAnswer(True, f"ProxyError: {error}"[:longest_reason])
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, RuntimeError) as error:
            # RuntimeError: the machine has no thread left to watch the request's deadline.
            return NoAnswer(True, type(error).__name__)

    def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        """The trace hook of httpcore: called at each step of a request, on the thread that makes it.

        The way through a proxy has steps of the same names: sockets of `connection`, `proxy` and `socks`, and a CONNECT
        with headers and a body of its own, which carries nothing of ours.
        """
        if name.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self.socket = info["return_value"].get_extra_info("socket")
            if self.cut:
                self._shut()
        elif name == self.leaves_with and info["request"].method != b"CONNECT":
            if self.send_before is not None and self.now() >= self.send_before:
                raise SendingTooLate
            self.sent = True
        elif name == answer_awaited and info["request"].method != b"CONNECT":
            self._use_silence()

    def _use_silence(self) -> None:
        """Do what is to be done meanwhile if the server takes its time; its answer is kept by the system.

        The socket may be one that this thread used before, for another host, and is closed.
        """
        if self.meanwhile is None or self._deadline is None or self.socket is None or self.socket.fileno() < 0:
            return
        silent = select.poll()
        silent.register(self.socket, select.POLLIN)
        if not silent.poll(self.meanwhile.seconds * 1_000):
            with self._deadline.stopped():
                self.meanwhile.run()

    def _shut(self) -> None:
        self.cut = True
        if self.socket is not None:
            with suppress(OSError):
                # The shutdown of a TLS socket drops TLS first: what is sent in that moment would not be encrypted.
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)


def _read(response: httpx.Response, largest: int, deadline: Within) -> HttpAnswer:
    chunks, size, complete = [], 0, False
    try:
        for chunk in response.iter_raw():
            chunks.append(chunk)
            size += len(chunk)
            if size > largest or monotonic() > deadline.until:
                break
        else:
            complete = True
    except (httpx.HTTPError, OSError, ValueError):
        complete = False
    finally:
        response.close()
    headers = {name.lower(): value for name, value in response.headers.items()}
    body = unpack_body(b"".join(chunks), headers.get("content-encoding", ""), largest)
    return HttpAnswer(response.status_code, headers, body or b"", complete and body is not None)


def unpack_body(raw: bytes, encoding: str, largest: int) -> bytes | None:
    """The body as it was before a server packed it, which no one had asked it to; None if it is packed in a way that
    can't be undone within `largest` bytes."""
    match encoding.strip().lower():
        case "" | "identity":
            return raw
        case "gzip" | "x-gzip" | "deflate":
            unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)
            try:
                body = unpacking.decompress(raw, largest)
            except zlib.error:
                return None
            return None if unpacking.unconsumed_tail else body
        case _:
            return None
