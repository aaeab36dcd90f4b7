"""The gateway's connections to the providers: kept open and shared by all calls, directly or through a proxy."""

import ssl

import httpx

from models.proxies import Proxies
from worker.provider.transport import as_proxy

most_connections = 200
kept_open = 50
kept_for = 3.0
"""Seconds; shorter than servers keep theirs, so that a call rarely leaves on one that is about to close."""
timeout = httpx.Timeout(60.0, connect=10.0, pool=10.0).as_dict()


class AsyncRouted:
    """Sends each request directly or through its proxy. Of one event loop."""

    def __init__(self, proxies: Proxies, ssl_context: ssl.SSLContext | None = None) -> None:
        context = ssl_context or httpx.create_ssl_context()
        limits = httpx.Limits(
            max_connections=most_connections, max_keepalive_connections=kept_open, keepalive_expiry=kept_for
        )
        self._proxies = proxies
        self._direct = httpx.AsyncHTTPTransport(verify=context, trust_env=False, limits=limits)
        self._through = {
            url: httpx.AsyncHTTPTransport(
                verify=context, trust_env=False, limits=limits, proxy=as_proxy(url.reveal(), context)
            )
            for url in set(proxies.by_scheme.values())
        }

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Return the answer when its headers are here. Raises httpx's errors."""
        url = request.url
        host = url.raw_host.decode("ascii")
        proxy = self._proxies.find(url.scheme, host, url.port) if self._through else None
        transport = self._direct if proxy is None else self._through[proxy]
        return await transport.handle_async_request(request)

    async def aclose(self) -> None:
        for transport in (self._direct, *self._through.values()):
            await transport.aclose()
