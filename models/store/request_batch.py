"""The requests of one job as one row: a list of [ms after the first, method, path, status, duration in ms].

A sync of a connection asks for several pages, and its requests are read together or not at all. A row for each of them
would be most of what an unchanged sync writes.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from models.journal import Request

millisecond = timedelta(milliseconds=1)


def pack(requests: Sequence[Request]) -> list[Mapping[str, object]]:
    """Return one row for each connection that the requests were made for, without its position."""
    by_connection: dict[str, list[Request]] = {}
    for request in requests:
        by_connection.setdefault(request.connection_id, []).append(request)
    return [_pack(connection_id, own) for connection_id, own in by_connection.items()]


def _pack(connection_id: str, requests: Sequence[Request]) -> Mapping[str, object]:
    start = requests[0].at
    calls = [
        [(each.at - start) // millisecond, each.method, each.path, each.status, each.duration_ms] for each in requests
    ]
    return {"connection_id": connection_id, "at": start, "calls": json.dumps(calls, separators=(",", ":"))}


def unpack(connection_id: str, at: datetime, calls: str) -> list[Request]:
    """Return the requests of a row, in the order in which they were made."""
    return [
        Request(at + later * millisecond, connection_id, method, path, status, duration_ms)
        for later, method, path, status, duration_ms in json.loads(calls)
    ]
