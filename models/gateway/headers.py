"""Which headers a call takes to the provider, and which of its answer come back. Names are in small letters."""

from collections.abc import Iterable, Sequence
from typing import Final

Headers = Sequence[tuple[bytes, bytes]]

of_one_hop: Final = frozenset(
    {b"connection", b"keep-alive", b"te", b"trailer", b"trailers", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
"""RFC 9110 §7.6.1; the request's `Connection` names more."""
kept_from_provider: Final = of_one_hop | frozenset(
    {
        *(b"authorization", b"cookie", b"cookie2"),  # the caller's own, for us
        *(b"host", b"content-length", b"expect"),  # the gateway's to say
        *(b"forwarded", b"via", b"x-real-ip", b"true-client-ip", b"cf-connecting-ip"),  # who is behind it
        *(b"x-http-method-override", b"x-http-method", b"x-method-override"),  # another method than the one allowed
    }
)
kept_from_caller: Final = of_one_hop | frozenset(
    {
        *(b"set-cookie", b"set-cookie2"),
        *(b"strict-transport-security", b"public-key-pins", b"alt-svc", b"clear-site-data"),  # of the provider's host
        *(b"date", b"server", b"breezesync-source"),  # ours
    }
)
json_first: Final = b"application/json, */*;q=0.8"
"""What a call accepts that does not say it: JSON if there is some, as of a sync, and else whatever there is."""
prefixes_kept_from_provider: Final = (b"proxy-", b"x-forwarded-")


def leave_unsaid(given: Headers, usual: Headers) -> list[tuple[bytes, bytes]]:
    """Return the usual headers that the request does not have itself.

    A request that accepts anything, as most clients do unless they are told, does not say what it accepts: without
    `Accept: application/json` an API may answer a dead token with the page for signing in, and not with a 401.
    """
    said = {name for name, value in given if name != b"accept" or not _is_anything(value)}
    return [pair for pair in usual if pair[0].lower() not in said]


def _is_anything(accepted: bytes) -> bool:
    """Return whether an `Accept` leaves the choice to the server (RFC 9110 §12.5.1)."""
    return accepted.partition(b";")[0].strip() in (b"", b"*/*")


def to_provider(given: Headers, own: Headers) -> list[tuple[bytes, bytes]]:
    """Return the headers of the request to the provider: `own` first, then what may pass."""
    dropped = kept_from_provider | named_by_connection(given) | {name.lower() for name, _ in own}
    return [
        *own,
        *(
            (name, value)
            for name, value in given
            if name not in dropped and not name.startswith(prefixes_kept_from_provider)
        ),
    ]


def headers_of_call(
    given: Headers, usual: Headers, host: bytes, authorization: bytes, length: Headers
) -> list[tuple[bytes, bytes]]:
    """Return the headers of a call's request: what it cannot say itself, the usual ones that it leaves, and its own.

    length: what says where the body ends.
    """
    own = [(b"Host", host), *leave_unsaid(given, usual), (b"Authorization", authorization), *length]
    return to_provider(given, own)


def to_caller(given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers of the provider's answer that the caller gets."""
    headers = [(name.lower(), value) for name, value in given]
    dropped = kept_from_caller | named_by_connection(headers)
    return [(name, value) for name, value in headers if name not in dropped and not name.startswith(b"proxy-")]


def named_by_connection(headers: Headers) -> frozenset[bytes]:
    """Return the headers that belong to this hop because `Connection` names them."""
    values = [value for name, value in headers if name == b"connection"]
    return frozenset(word.strip().lower() for value in values for word in value.split(b","))
