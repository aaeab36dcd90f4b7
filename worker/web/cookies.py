"""The cookies that bind a browser to its flows: one for each flow, and one for the flow that ended last."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from models.oauth.authorization import lifetime

Bindings = Mapping[str, str]
"""The flows that a browser is bound to: the name of each, and the secret that proves it."""

most_bindings = 100
lifetime_seconds = round(lifetime.total_seconds())
long_past = "Thu, 01 Jan 1970 00:00:00 GMT"
flow_pattern = "[0-9a-f]{32}"
secret_pattern = "[A-Za-z0-9_-]{20,100}"  # noqa: S105 - a pattern
binding_pattern = re.compile(rf"({flow_pattern})\.({secret_pattern})")


@dataclass(frozen=True, slots=True)
class Cookies:
    """The cookies of one provider's flows. If `secure`, no other host can set them (RFC 6265bis, `__Host-`).

    A flow's cookie is deleted when the flow ends, so that cookies don't pile up. Its secret moves to the last cookie:
    the browser that goes back to a used callback is still known.
    """

    secure: bool

    def read(self, request: Request) -> Bindings:
        """Return what the browser is bound to; a cookie of another shape counts as absent."""
        found: dict[str, str] = {}
        for name, value in request.cookies.items():
            pair = value if name == self._last else f"{name.removeprefix(self._prefix)}.{value}"
            match = binding_pattern.fullmatch(pair)
            if match and name.startswith(self._prefix) and len(found) < most_bindings:
                found.setdefault(match[1], match[2])
        return found

    def bind(self, response: Response, flow: str, secret: str) -> None:
        """Bind the browser to a flow for as long as the flow may take."""
        self._set(response, self._prefix + flow, secret)

    def release(self, request: Request, response: Response, flow: str) -> None:
        """Delete the cookie of a flow that has ended, if the browser has it."""
        name = self._prefix + flow
        secret = self.read(request).get(flow)
        if name in request.cookies:
            self._add(response, f'{name}=""; expires={long_past}; HttpOnly; Max-Age=0')
            if secret is not None:
                self._set(response, self._last, f"{flow}.{secret}")

    def _set(self, response: Response, name: str, value: str) -> None:
        self._add(response, f"{name}={value}; HttpOnly; Max-Age={lifetime_seconds}")

    def _add(self, response: Response, cookie: str) -> None:
        """Add a cookie whose name and value are of the patterns above: none needs to be quoted."""
        text = f"{cookie}; Path=/; SameSite=lax{'; Secure' if self.secure else ''}"
        response.raw_headers.append((b"set-cookie", text.encode("ascii")))

    @property
    def _prefix(self) -> str:
        return "__Host-breezesync-" if self.secure else "breezesync-"

    @property
    def _last(self) -> str:
        return f"{self._prefix}last"
