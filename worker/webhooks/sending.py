"""One delivery on the wire: to an address that was checked, signed, not redirected, and bounded in time and size."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx

from models.crypto.secrets import Secret
from models.http import HttpAnswer, NoAnswer
from models.messaging.events import type_prefix
from models.proxies import Proxies
from models.webhooks.address import find_fault, is_public
from models.webhooks.endpoint import Endpoint
from models.webhooks.outcome import Outcome, read_answer
from models.webhooks.signature import sign
from worker.provider.transport import Routed, Wire

deadline = timedelta(seconds=15)
"""How long one delivery may take, from the search for its address to the end of the answer."""
connect_seconds = 5.0
largest_answer = 4096
"""So many bytes of an answer are read; no one asks for them."""
most_addresses = 4
media_type = "application/cloudevents+json"
default_ports = {"http": 80, "https": 443}
Resolve = Callable[[str, int], Sequence[str]]


class AddressRefused(Exception):
    """A host with an address that no webhook goes to."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is sent: an event's id and its CloudEvents document."""

    id: str
    body: str


def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host. Raises `OSError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def host_of(url: httpx.URL) -> str:
    """Return the host of a URL as it is written there, in ASCII.

    `URL.host` has the letters that `xn--` stands for. Resolver and TLS would encode them again, by an older standard,
    and so may mean another host: `xn--strae-oqa.de` becomes `strasse.de`.
    """
    return url.raw_host.decode("ascii")


@dataclass(slots=True, eq=False)
class Sender:
    """Sends to one endpoint, one delivery at a time, and keeps its connection for the next.

    It is made for a job and closed with it. So a name is resolved once in a job, and no connection that was made for
    one host carries a request to another that has the same address.
    """

    endpoint: Endpoint
    proxies: Proxies
    now: Callable[[], datetime]
    ssl_context: ssl.SSLContext
    resolve: Resolve = resolve
    deadline: timedelta = deadline
    _transport: Routed = field(init=False)
    _socket: Any = None
    _addresses: Sequence[str] | None = None

    def __post_init__(self) -> None:
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        via = self.proxies if self._is_proxied else Proxies()
        self._transport = Routed(via, self.ssl_context, limits)

    def send(self, parcel: Parcel, secret_list: Sequence[Secret], send_before: datetime | None = None) -> Outcome:
        """Return what the endpoint's answer means. Nothing leaves after `send_before`."""
        now = self.now()
        headers = sign(parcel.id, parcel.body, secret_list, now)
        return read_answer(self._send(parcel, headers, send_before), now)

    def close(self) -> None:
        self._transport.close()

    @property
    def _is_proxied(self) -> bool:
        url = httpx.URL(self.endpoint.url)
        return self.proxies.find(url.scheme, host_of(url), url.port) is not None

    def _send(self, parcel: Parcel, headers: Mapping[str, str], send_before: datetime | None) -> HttpAnswer | NoAnswer:
        """Try each of the host's addresses until one takes the connection."""
        until = monotonic() + self.deadline.total_seconds()
        try:
            hosts = self._find_hosts()
        except AddressRefused as refused:
            return NoAnswer(False, str(refused))
        except (OSError, UnicodeError, RuntimeError) as error:
            # UnicodeError: the name has a label that no name has. RuntimeError: no thread is left to resolve it.
            return NoAnswer(False, f"its name can't be resolved ({type(error).__name__})")
        answer: HttpAnswer | NoAnswer = NoAnswer(False, "its name has no address")
        for host in hosts:
            left = until - monotonic()
            if left <= 0:
                break
            wire = Wire(self.now, send_before, kept_open=self._socket)
            length = timedelta(seconds=left)
            answer = wire.send(self._transport, self._request(host, parcel, headers), largest_answer, length)
            self._socket = wire.socket
            if isinstance(answer, HttpAnswer):
                return answer
            self._open_again()
            if wire.sent or wire.cut:
                break
        return answer

    def _find_hosts(self) -> Sequence[str]:
        """Return what to connect to. Raises `AddressRefused`, and what `_resolve` raises.

        The way through a proxy is the proxy's: it resolves the name, and its rules say where it connects to.
        """
        url = httpx.URL(self.endpoint.url)
        host = host_of(url)
        if not self.endpoint.allow_private and (why := find_fault(host)) is not None:
            raise AddressRefused(why)
        if self._is_proxied:
            return [host]
        if self._addresses is None:
            found = self._resolve(host, url.port or default_ports[url.scheme])[:most_addresses]
            refused = [each for each in found if not is_public(ip_address(each))]
            if refused and not self.endpoint.allow_private:
                raise AddressRefused(f"its name resolves to {refused[0]}, which is not a public address")
            self._addresses = found
        return self._addresses

    def _resolve(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a host, or give up when the delivery's time is over: a search can't be ended, and
        may take minutes if no name server answers. Raises `OSError`, `UnicodeError` and `RuntimeError`."""
        found: Future[Sequence[str]] = Future()

        def search() -> None:
            try:
                found.set_result(self.resolve(host, port))
            except Exception as error:
                found.set_exception(error)

        threading.Thread(target=search, name="resolver", daemon=True).start()
        return found.result(self.deadline.total_seconds())

    def _request(self, host: str, parcel: Parcel, headers: Mapping[str, str]) -> httpx.Request:
        """Return a request to the address itself, for the name of the URL: between the check and the connection nothing
        is resolved again."""
        url = httpx.URL(self.endpoint.url)
        timeout = httpx.Timeout(deadline.total_seconds(), connect=connect_seconds).as_dict()
        return httpx.Request(
            "POST",
            url.copy_with(host=host),
            headers={
                "host": url.netloc.decode(),
                "content-type": media_type,
                "user-agent": "breezesync/0.1",
                "accept-encoding": "identity",
                **headers,
            },
            content=parcel.body.encode(),
            extensions={"timeout": timeout, "sni_hostname": host_of(url)},
        )

    def _open_again(self) -> None:
        """Use no connection again that a request failed on."""
        with suppress(OSError):
            self._transport.close()
        self._socket = None
        self.__post_init__()


def make_trial(now: datetime) -> Parcel:
    """Return a delivery that is about nothing, in the form of all others; its type is `webhook.test`."""
    trial_id = uuid4().hex
    document = {
        "specversion": "1.0",
        "id": trial_id,
        "source": "/breezesync",
        "type": f"{type_prefix}webhook.test",
        "subject": "webhook",
        "time": now.isoformat(),
        "datacontenttype": "application/json",
        "data": {},
    }
    return Parcel(trial_id, json.dumps(document, separators=(",", ":")))
