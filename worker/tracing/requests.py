"""Trace what a user's browser goes through, as ASGI."""

import re
from collections.abc import Collection
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.tracing.spans import Facts, SpanName, Traces

_steps: Final = re.compile(r"/auth/([^/]+)(?:/(start|callback))?")


def find_step(path: str, providers: Collection[str]) -> Facts | None:
    """Return which step of an authorization a path is, of which provider; None for the page that shows how it stands,
    which browsers load again and again, and for whatever else strangers ask for."""
    found = _steps.search(path)
    if found is None or found.end() != len(path) or found[1] not in providers:
        return None
    return {"operation": found[2] or "begin", "provider": found[1]}


class TraceRequests:
    """An application whose steps begin traces. What a browser sends of a trace is not believed: it is a stranger's."""

    def __init__(self, app: ASGIApp, traces: Traces, providers: Collection[str]) -> None:
        self.app, self.traces, self.providers = app, traces, providers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        step = find_step(scope["path"], self.providers) if scope["type"] == "http" else None
        if step is None:
            await self.app(scope, receive, send)
            return
        status = 500

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        span = self.traces.begin(SpanName.web, step)
        try:
            await self.app(scope, receive, note_status)
        finally:
            span.end({"status": status}, failed=status >= 500)
