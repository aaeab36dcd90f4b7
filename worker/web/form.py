"""Read the form of our own page from a request, bounded, and from no other site's page."""

from urllib.parse import parse_qsl

from anyio import from_thread
from starlette.requests import Request

from worker.web.refusal import Refused, refuse_stranger

longest_form = 4096
most_fields = 10
form_type = "application/x-www-form-urlencoded"


def read_form(request: Request) -> dict[str, str]:
    """Return the fields; call it on the thread of a plain endpoint. Raises `Refused`.

    `Origin` says nothing here: with `Referrer-Policy: no-referrer` browsers send it as `null` to their own origin too.
    """
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise refuse_stranger()
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != form_type:
        raise _unreadable(415)
    body: bytes = from_thread.run(_read_body, request)
    try:
        pairs = parse_qsl(body.decode("ascii"), strict_parsing=True, max_num_fields=most_fields)
    except ValueError:
        raise _unreadable(400) from None
    if len(dict(pairs)) < len(pairs):
        raise _unreadable(400)
    return dict(pairs)


async def _read_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > longest_form:
            raise _unreadable(413)
    return body


def _unreadable(status: int) -> Refused:
    return Refused(status, "This form can't be read", "Go back to the application and start again from there.")
