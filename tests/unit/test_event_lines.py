"""Events as an operator reads them: a first sync is one line, also while others go on."""

import json

from models.messaging.events import StoredEvent
from worker.operations.event_lines import describe_together, fold, format_data


def record(connection_id: str, sequence: int, type_: str = "record.created", *, initial: bool = True) -> StoredEvent:
    document = json.dumps({"time": "", "data": {"resource": "document", "initial": initial}})
    return StoredEvent(f"{connection_id}{sequence}", "records", type_, "acme", "ada", connection_id, sequence, document)


def numbers(events: list[StoredEvent]) -> list[list[str]]:
    return [[event.id for event in together] for together in fold(events)]


def test_the_records_of_first_syncs_that_go_on_at_once_are_a_line_each() -> None:
    pages = [record("a", 1), record("a", 2), record("b", 1), record("a", 3), record("b", 2)]
    assert numbers(pages) == [["a1", "a2", "a3"], ["b1", "b2"]]
    assert describe_together(fold(pages)[0]) == "first sync: 3 document"


def test_what_else_happens_to_a_connection_stands_between_its_own_only() -> None:
    later = [record("a", 1), record("b", 1), record("a", 2, "record.updated"), record("a", 3), record("b", 2)]
    assert numbers(later) == [["a1"], ["b1", "b2"], ["a2"], ["a3"]]
    assert numbers([record("a", 1), record("a", 2, initial=False)]) == [["a1"], ["a2"]]


def test_what_an_event_says_is_one_line_without_zeros() -> None:
    counts = {"document": {"created": 2, "updated": 0, "unchanged": 10}, "invoice": {"created": 0, "updated": 0}}
    said = format_data({"reason": "asked", "resources": counts, "duration_ms": 0, "changed": ["a", "b"], "others": []})
    resources = "(document (created 2, unchanged 10), invoice none)"
    assert said == f"reason asked, resources {resources}, duration_ms 0, changed a b, others none"
