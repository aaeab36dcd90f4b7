"""Events as an operator reads them: what is their own, on one line; and what a first sync found, together."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from models.messaging.events import Fact, StoredEvent

envelope = frozenset({"provider", "user_id", "connection_id"})


def event_types() -> list[str]:
    """Return every event type."""
    types = [kind.type for kind in get_args(Fact) if isinstance(kind.type, str)]
    return sorted([*types, "record.created", "record.updated", "record.deleted"])


def data_of(event: StoredEvent) -> Mapping[str, object]:
    """Return what the event says beyond whom it is about."""
    document: dict[str, Any] = json.loads(event.document)
    return {name: value for name, value in document["data"].items() if name not in envelope and value is not None}


def time_of(event: StoredEvent) -> str:
    """Return when it happened, as its document says."""
    return str(json.loads(event.document)["time"])


def format_data(data: Mapping[str, object]) -> str:
    """Return names and values on one line: lists without brackets, counts without those that are zero."""
    return ", ".join(f"{name} {_format_value(value)}" for name, value in data.items())


def _format_value(value: object) -> str:
    match value:
        case str():
            return value
        case list():
            return " ".join(map(_format_value, value)) or "none"
        case dict():
            parts = [f"{name} {_format_value(inner)}" for name, inner in value.items() if inner != 0]
            return f"({', '.join(parts)})" if parts else "none"
        case _:
            return json.dumps(value)


def fold(events: Sequence[StoredEvent]) -> list[list[StoredEvent]]:
    """Return the events in their order, those of a connection's first sync together, at the place of the first of them.

    Several connections may be synced at a time: then what is between two records is of another connection.
    """
    folded: list[list[StoredEvent]] = []
    open_ones: dict[str, list[StoredEvent]] = {}
    for event in events:
        if not _is_initial(event):
            open_ones.pop(event.connection_id, None)
            folded.append([event])
        elif event.connection_id in open_ones:
            open_ones[event.connection_id].append(event)
        else:
            open_ones[event.connection_id] = [event]
            folded.append(open_ones[event.connection_id])
    return folded


def describe_together(events: Sequence[StoredEvent]) -> str:
    """Return what one event says, or what a first sync found."""
    if len(events) == 1:
        return format_data(data_of(events[0]))
    counts = Counter(str(data_of(each)["resource"]) for each in events)
    return "first sync: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _is_initial(event: StoredEvent) -> bool:
    return event.type == "record.created" and data_of(event).get("initial") is True
