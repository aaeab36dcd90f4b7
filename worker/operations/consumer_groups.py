"""A stream's consumer groups as Redis counts them: how far behind each is, and what it has not acknowledged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis


@dataclass(frozen=True, slots=True)
class Group:
    """One consumer group.

    `behind` counts entries not delivered to any consumer; None if Redis does not know (after deleting or trimming).
    """

    stream: str
    group: str
    consumers: int
    behind: int | None
    pending: int
    oldest_pending_seconds: float | None
    last_delivered_id: str


def read_groups(client: Any, stream: str) -> Sequence[Group]:
    """Return every group of the stream, none if there is no stream. Raises redis-py's errors."""
    try:
        groups = client.xinfo_groups(stream)
    except redis.ResponseError as error:
        if "no such key" in str(error).lower():
            return []
        raise
    return [_read_group(client, stream, group) for group in groups]


def _read_group(client: Any, stream: str, group: dict[str, Any]) -> Group:
    """Return one group; an entry that is delivered repeatedly is pending since its last delivery."""
    name, pending = str(group["name"]), int(group["pending"])
    first = client.xpending_range(stream, name, "-", "+", 1) if pending else []
    idle = first[0]["time_since_delivered"] / 1000 if first else None
    behind = group.get("lag")
    return Group(
        stream=stream,
        group=name,
        consumers=int(group["consumers"]),
        behind=None if behind is None else int(behind),
        pending=pending,
        oldest_pending_seconds=idle,
        last_delivered_id=str(group["last-delivered-id"]),
    )
