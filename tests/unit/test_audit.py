"""What is recorded, how it is hashed, and what the check of the chain finds after each manipulation."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from models.audit.chain import Day, End, Line, as_json, canonical, close, extend, genesis, hash_of
from models.audit.entry import (
    Action,
    Entry,
    bound_detail,
    derived,
    entry_of,
    is_recorded,
    longest_text,
    most_details,
)
from models.audit.verify import Fault, Problem, Verdict, verify
from models.journal import Verb

noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
days = [date(2026, 3, number) for number in (1, 2, 3)]

Chain = tuple[list[Line], list[Day]]


def a_line(number: int = 1, **fields: object) -> Line:
    values: dict[str, object] = {
        "id": number,
        "at": noon + timedelta(seconds=number),
        "actor": "worker",
        "action": "token.refreshed",
        "provider": "breezedoc",
        "user_id": "ada",
        "connection_id": f"c{number}",
        "authorization_id": None,
        "address": None,
        "detail": {"generation": number},
    }
    return Line(**(values | fields))  # type: ignore[arg-type]


def a_chain() -> Chain:
    """Three days of four lines; the last one is not closed."""
    lines: list[Line] = []
    closed: list[Day] = []
    for place, day in enumerate(days):
        end = End() if not lines else End(lines[-1].day, lines[-1].number or 0, lines[-1].hash or "")
        if lines:
            record = close(end, closed[-1] if closed else None, day)
            assert record is not None
            closed.append(record)
        lines += extend(end, [a_line(4 * place + number) for number in (1, 2, 3, 4)], day)
    return lines, closed


def resealed(line: Line) -> Line:
    """The line with the hash that fits it."""
    return replace(line, hash=hash_of(line))


def changed(chain: Chain) -> Chain:
    lines, closed = chain
    lines[5] = replace(lines[5], user_id="mallory")
    return lines, closed


def changed_and_hashed(chain: Chain) -> Chain:
    lines, closed = chain
    lines[5] = resealed(replace(lines[5], user_id="mallory"))
    return lines, closed


def detail_changed(chain: Chain) -> Chain:
    lines, closed = chain
    lines[5] = replace(lines[5], detail={"generation": 7})
    return lines, closed


def removed(chain: Chain) -> Chain:
    lines, closed = chain
    del lines[5]
    return lines, closed


def two_removed(chain: Chain) -> Chain:
    lines, closed = chain
    del lines[5:7]
    return lines, closed


def removed_and_renumbered(chain: Chain) -> Chain:
    lines, closed = chain
    del lines[5]
    lines[5:7] = [resealed(replace(line, number=(line.number or 0) - 1)) for line in lines[5:7]]
    return lines, closed


def first_removed(chain: Chain) -> Chain:
    lines, closed = chain
    del lines[0]
    return lines, closed


def inserted(chain: Chain) -> Chain:
    """A second line with the same number."""
    lines, closed = chain
    lines.insert(6, resealed(replace(lines[5], id=99, user_id="mallory")))
    return lines, closed


def inserted_and_renumbered(chain: Chain) -> Chain:
    lines, closed = chain
    new = resealed(replace(lines[5], id=99, number=3, previous=lines[5].hash, user_id="mallory"))
    lines[6:8] = [new, *(replace(line, number=(line.number or 0) + 1) for line in lines[6:8])]
    return lines, closed


def swapped(chain: Chain) -> Chain:
    lines, closed = chain
    one, two = lines[5], lines[6]
    lines[5] = replace(two, number=one.number)
    lines[6] = replace(one, number=two.number)
    return lines, closed


def tail_cut(chain: Chain) -> Chain:
    lines, closed = chain
    del lines[6:8]
    return lines, closed


def tail_added(chain: Chain) -> Chain:
    lines, closed = chain
    lines[8:8] = extend(End(lines[7].day, 4, lines[7].hash or ""), [a_line(99)], days[1])
    return lines, closed


def tail_replaced(chain: Chain) -> Chain:
    lines, closed = chain
    lines[7] = resealed(replace(lines[7], user_id="mallory"))
    return lines, closed


def lines_of_day_removed(chain: Chain) -> Chain:
    lines, closed = chain
    del lines[4:8]
    return lines, closed


def day_removed(chain: Chain) -> Chain:
    lines, closed = chain
    del lines[4:8]
    return lines, [closed[0]]


def first_day_removed(chain: Chain) -> Chain:
    lines, closed = chain
    return lines[4:], closed[1:]


def record_removed(chain: Chain) -> Chain:
    lines, closed = chain
    return lines, closed[1:]


def record_changed(chain: Chain) -> Chain:
    lines, closed = chain
    return lines, [replace(closed[0], head="0" * 64), closed[1]]


second = days[1]
manipulations: dict[str, tuple[Callable[[Chain], Chain], list[tuple[date, int, Problem, int]]]] = {
    "a line changed": (changed, [(second, 2, Problem.changed, 2)]),
    "a line's detail changed": (detail_changed, [(second, 2, Problem.changed, 2)]),
    "a line changed and its hash with it": (changed_and_hashed, [(second, 3, Problem.broken, 3)]),
    "a line removed": (removed, [(second, 2, Problem.removed, 2)]),
    "two lines removed": (two_removed, [(second, 2, Problem.removed, 3)]),
    "a line removed, the rest renumbered": (
        removed_and_renumbered,
        [(second, 2, Problem.broken, 2), (second, 3, Problem.broken, 3), (second, 4, Problem.removed, 4)],
    ),
    "the first line of all removed": (first_removed, [(days[0], 1, Problem.removed, 1)]),
    "a line inserted under a number in use": (inserted, [(second, 2, Problem.inserted, 2)]),
    "a line inserted, the rest renumbered": (
        inserted_and_renumbered,
        [
            (second, 4, Problem.broken, 4),
            (second, 4, Problem.changed, 4),
            (second, 5, Problem.changed, 5),
            (second, 5, Problem.added, 5),
        ],
    ),
    "two lines swapped": (
        swapped,
        [
            (second, 2, Problem.broken, 2),
            (second, 2, Problem.changed, 2),
            (second, 3, Problem.broken, 3),
            (second, 3, Problem.changed, 3),
            (second, 4, Problem.broken, 4),
        ],
    ),
    "the end of a closed day cut off": (tail_cut, [(second, 3, Problem.removed, 4)]),
    "a line added to a closed day": (tail_added, [(second, 5, Problem.added, 5)]),
    "the last line of a closed day replaced": (tail_replaced, [(second, 4, Problem.replaced, 4)]),
    "the lines of a day removed": (lines_of_day_removed, [(second, 1, Problem.removed, 4)]),
    "a day removed with its record": (day_removed, [(days[2], 1, Problem.broken, 1)]),
    "the first day removed with its record": (first_day_removed, [(second, 1, Problem.broken, 1)]),
    "the record of a day removed": (record_removed, [(days[0], 4, Problem.unclosed, 4)]),
    "the record of a day changed": (
        record_changed,
        [(days[0], 4, Problem.replaced, 4), (second, 1, Problem.broken, 1)],
    ),
}


@pytest.mark.parametrize("case", manipulations)
def test_each_manipulation_is_found_at_its_place(case: str) -> None:
    manipulate, expected = manipulations[case]
    lines, closed = manipulate(a_chain())
    assert [(f.day, f.number, f.problem, f.last) for f in verify(lines, closed).faults] == expected


def test_a_whole_chain_has_no_fault() -> None:
    lines, closed = a_chain()
    last = lines[-1]
    assert verify(lines, closed) == Verdict(12, 3, End(last.day, 4, last.hash or ""), ())


def test_an_empty_chain_has_no_fault() -> None:
    assert verify([], []) == Verdict(0, 0, End(), ())


def rewritten(lines: Sequence[Line]) -> Chain:
    """A chain whose second line never was, made again from there on with all that proves it."""
    kept: list[Line] = []
    closed: list[Day] = []
    for day in days:
        end = End() if not kept else End(kept[-1].day, kept[-1].number or 0, kept[-1].hash or "")
        record = close(end, closed[-1] if closed else None, day)
        closed += [] if record is None else [record]
        kept += extend(end, [line for line in lines if line.day == day and line.id != 2], day)
    return kept, closed


def test_only_a_head_from_outside_finds_a_chain_that_was_wholly_rewritten() -> None:
    lines, closed = a_chain()
    new_lines, new_closed = rewritten(lines)
    assert verify(new_lines, new_closed).faults == ()
    for head in (closed[0].head, closed[1].head, lines[-1].hash):
        assert verify(lines, closed, head=head).faults == ()
        assert [fault.problem for fault in verify(new_lines, new_closed, head=head).faults] == [Problem.head_missing]


def test_a_cut_of_the_day_that_is_not_closed_shows_by_its_head() -> None:
    lines, closed = a_chain()
    assert verify(lines[:-1], closed).faults == ()
    [fault] = verify(lines[:-1], closed, head=lines[-1].hash).faults
    assert (fault.day, fault.number, fault.problem) == (days[2], 3, Problem.head_missing)


def test_days_before_the_start_need_no_lines() -> None:
    lines, closed = a_chain()
    assert verify(lines[4:], closed, start=second) == Verdict(8, 2, End(days[2], 4, lines[-1].hash or ""), ())
    assert verify(lines[4:], closed, start=second, head=closed[0].head).faults == ()
    assert [fault.problem for fault in verify(lines[5:], closed, start=second).faults] == [Problem.removed]


def test_a_fault_says_where_and_what() -> None:
    assert Fault(second, 2, Problem.changed, 2).text == "2026-03-02, line 2: was changed: its hash is another one"
    assert Fault(second, 3, Problem.removed, 4).text.startswith("2026-03-02, lines 3 to 4:")
    assert Fault(None, 0, Problem.head_missing, 0).text


def test_the_hash_is_that_of_the_exported_line_without_it() -> None:
    [line] = extend(End(), [a_line(detail={"b": "é", "a": True})], days[0])
    exported = as_json(line)
    own = exported.pop("hash")
    text = json.dumps(exported, sort_keys=True, separators=(",", ":"))
    assert text == (
        '{"action":"token.refreshed","actor":"worker","address":null,"at":"2026-03-01T12:00:01.000000+00:00",'
        '"authorization_id":null,"connection_id":"c1","day":"2026-03-01","detail":{"a":true,"b":"\\u00e9"},"id":1,'
        f'"number":1,"previous":"{genesis}","provider":"breezedoc","user_id":"ada"}}'
    )
    assert canonical(line) == text
    assert own == hashlib.sha256(text.encode()).hexdigest()


def test_equal_lines_have_one_form_whatever_the_zone_and_the_order_of_keys() -> None:
    here = noon.astimezone(datetime.fromisoformat("2026-03-01T12:00:00+05:00").tzinfo)
    one = a_line(at=noon, detail={"a": 1, "b": 2})
    assert canonical(one) == canonical(a_line(at=here, detail={"b": 2, "a": 1}))


def test_a_day_begins_at_one_and_goes_on_where_it_was() -> None:
    lines = list(extend(End(days[0], 7, "h"), [a_line(1), a_line(2)], days[1]))
    assert [(line.day, line.number, line.previous) for line in lines] == [
        (days[1], 1, "h"),
        (days[1], 2, lines[0].hash),
    ]
    [more] = extend(End(days[1], 2, "h"), [a_line(3)], days[1])
    assert (more.day, more.number) == (days[1], 3)


def test_a_clock_that_went_back_reopens_no_day() -> None:
    [line] = extend(End(days[1], 2, "h"), [a_line(3)], days[0])
    assert (line.day, line.number) == (days[1], 3)


closings: dict[str, tuple[End, Day | None, date, Day | None]] = {
    "nothing is chained": (End(), None, days[0], None),
    "the day is not over": (End(days[0], 3, "h"), None, days[0], None),
    "the day is over": (End(days[0], 3, "h"), None, days[1], Day(days[0], 3, "h")),
    "days went by without a line": (End(days[0], 3, "h"), None, days[2], Day(days[0], 3, "h")),
    "it is closed already": (End(days[0], 3, "h"), Day(days[0], 3, "h"), days[1], None),
    "the clock went back": (End(days[1], 3, "h"), None, days[0], None),
}


@pytest.mark.parametrize("case", closings)
def test_a_day_is_closed_once_it_is_over(case: str) -> None:
    end, closed, today, expected = closings[case]
    assert close(end, closed, today) == expected


entries: dict[str, tuple[Verb, dict[str, object], Entry | None]] = {
    "a refresh": (
        Verb.refresh_saved,
        {"generation": 2},
        Entry(action=Action.token_refreshed, connection_id="s", detail={"generation": 2}),
    ),
    "an authorization that became a connection": (
        Verb.authorized,
        {"generation": 1, "authorization_id": "a"},
        Entry(action=Action.connection_authorized, connection_id="s", authorization_id="a", detail={"generation": 1}),
    ),
    "a revocation, without the provider's texts": (
        Verb.revoked_access_revoked,
        {"status": 401, "error": "invalid_grant", "hint": "a stranger's text"},
        Entry(action=Action.connection_revoked, connection_id="s", detail={"status": 401, "reason": "access_revoked"}),
    ),
    "an authorization that failed": (
        Verb.failed_denied,
        {},
        Entry(action=Action.authorization_failed, authorization_id="s", detail={"reason": "denied"}),
    ),
    "a decision about no token": (Verb.list_failing, {}, None),
    "a refresh that is put off": (Verb.refresh_not_now, {"status": 503}, None),
}


@pytest.mark.parametrize("case", entries)
def test_a_decision_about_tokens_is_an_entry(case: str) -> None:
    verb, evidence, expected = entries[case]
    assert entry_of("s", verb, evidence) == expected


def test_every_end_of_a_connection_is_recorded() -> None:
    ends = {verb for verb in Verb if verb.value.startswith(("revoked.", "failed.", "disconnected", "records."))}
    assert ends <= set(derived)


def test_a_detail_is_bounded_whatever_it_is() -> None:
    stored = bound_detail({f"n{number}": number for number in range(100)})
    assert len(stored) == most_details
    texts = bound_detail({"text": "a\x1b[31m\x00\n" + "b" * 5000, "flag": True, "none": None, "odd": 1.5})
    assert texts == {"text": "a[31m" + "b" * (longest_text - 5), "flag": True, "odd": "1.5"}


def test_a_flood_of_refusals_gets_a_few_lines() -> None:
    recorded = [count for count in range(1, 1001) if is_recorded(count)]
    assert recorded == [*range(1, 11), 20, 50, 100, 200, 500, 1000]
    assert sum(map(is_recorded, range(1, 100_001))) == 22


def test_no_line_comes_into_a_day_that_was_closed_however_clocks_go() -> None:
    today = date(2026, 11, 27)
    closed = Day(today, 2, "a" * 64)
    [line] = extend(End(today, 2, "a" * 64), [a_line(3)], today, closed)
    assert (line.day, line.number) == (date(2026, 11, 28), 1)
