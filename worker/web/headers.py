"""The security headers of every response, whoever made it: a page, a refusal, a redirect."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256

from starlette.types import ASGIApp, Message, Receive, Scope, Send

plain_headers = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
one_year = 31_536_000


def headers_of_pages(style: str, *, https: bool) -> dict[str, str]:
    """Return the headers of pages that have this one style sheet in them, and no script.

    With `https` a browser comes back over https only, for a year (RFC 6797).
    """
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = plain_headers["Content-Security-Policy"].replace(";", f"; style-src 'sha256-{digest}';", 1)
    headers = {**plain_headers, "Content-Security-Policy": policy}
    if https:
        headers["Strict-Transport-Security"] = f"max-age={one_year}"
    return headers


class SecureHeaders:
    """Adds headers to each response that does not have its own."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self.app = app
        self.headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = message.get("headers", ())
                names = {name.lower() for name, _ in own}
                message["headers"] = [*own, *(each for each in self.headers if each[0] not in names)]
            await send(message)

        await self.app(scope, receive, send_with_headers)
