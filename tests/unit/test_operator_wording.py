"""How the operator's page writes times, numbers and sentences, and what it does with hostile text."""

from datetime import UTC, datetime, timedelta

import pytest

from worker.operator.timeline import arrange
from worker.operator.views.story import Kind, Moment
from worker.operator.wording import format_length, format_relative, list_facts, show_due, show_sentence, show_time

now = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)
day = timedelta(days=1)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (1, "1 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172_800, "2 d"),
    ],
)
def test_a_length_is_in_the_largest_unit_of_which_there_are_two(seconds: float, said: str) -> None:
    assert format_length(seconds) == said


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (now, "now"),
        (now + timedelta(seconds=90), "in 90 s"),
        (now - timedelta(minutes=5), "5 min ago"),
        (now + 59 * day, "in 59 d"),
        (now + 61 * day, "28 Jan 2027"),
    ],
)
def test_a_time_is_relative_unless_it_is_months_away(at: datetime, said: str) -> None:
    assert format_relative(at, now) == said


def test_a_time_has_its_time_in_utc_as_its_title() -> None:
    assert show_time(now - day, now) == (
        '<time datetime="2026-11-27T12:00:00Z" title="2026-11-27 12:00:00 UTC">24 h ago</time>'
    )
    assert show_time(None, now, "never") == "never"
    assert ">due for 3 min<" in show_due(now - timedelta(minutes=3), now)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("all is well", "All is well."),
        ("start it: breezesync doctor", "Start it: <code>breezesync doctor</code>."),
        ("breezesync provider resume x", "<code>breezesync provider resume x</code>."),
        ("then breezesync webhooks test app.a.", "Then <code>breezesync webhooks test app.a</code>."),
        ("check REDIS_URL, now", "Check <code>REDIS_URL</code>, now."),
        ("<b> & co", "&lt;b&gt; &amp; co."),
        ("", ""),
        ("5 are held; breezesync provider release breezedoc, or accept breezedoc", "5 are held."),
    ],
)
def test_a_sentence_ends_with_a_full_stop_and_what_to_type_is_code(text: str, shown: str) -> None:
    assert show_sentence(text, now) == shown


def test_times_in_a_sentence_are_relative() -> None:
    shown = show_sentence(
        "it was tried at 2026-11-28 11:55:00 UTC, 300 s ago; again at 2026-11-28 12:10:00 UTC, in 10 minutes", now
    )
    assert ">5 min ago</time>; again <time" in shown
    assert ">in 10 min</time>." in shown


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("generation", 2, [("generation", "2")]),
        ("run_id", "0123456789abcdef0123456789abcdef", [("run", "01234567")]),
        ("expires_at", "2027-11-28T07:02:51.884449+00:00", [("expires", "2027-11-28 07:02:51 UTC")]),
        ("duration_ms", 99, [("duration", "99 ms")]),
        ("duration_ms", 3_600_000, [("duration", "60 min")]),
        ("initial", False, [("initial", "no")]),
        ("hint", "", []),
        ("changed", ["title", "status"], [("changed", "title, status")]),
        (
            "resources",
            {"document": {"created": 3, "updated": 0, "unchanged": 9}},
            [("resources", "document: 3 created")],
        ),
        ("resources", {"document": {"created": 0}}, [("resources", "nothing changed")]),
    ],
)
def test_facts_are_for_people(name: str, value: object, expected: list[tuple[str, str]]) -> None:
    assert list(list_facts({name: value})) == expected


def moment(minutes: int, kind: Kind = "call", title: str = "GET /documents: 200", is_bad: bool = False) -> Moment:
    detail = "nothing changed" if kind == "run" else "12 ms"
    return Moment(now - timedelta(minutes=minutes), kind, "GET", title, detail, is_bad, {})


def titles(*moments: Moment) -> list[list[str]]:
    return [[entry.title for entry in each.entries] for each in arrange(moments)]


def test_what_is_routine_is_one_entry_of_its_day() -> None:
    calls = [moment(1), moment(2, "run", "a sync was completed"), moment(3)]
    assert titles(*calls) == [["1 sync without changes, 2 requests that the provider answered"]]
    assert titles(*calls[:2]) == [["GET /documents: 200", "a sync was completed"]]
    assert titles(calls[0], moment(1440), moment(1441)) == [["GET /documents: 200"], ["GET /documents: 200"] * 2]


def test_a_request_that_fails_again_and_again_is_one_entry_and_another_failure_is_not_of_it() -> None:
    failed = [moment(n, title="GET /documents: 429", is_bad=True) for n in range(4)]
    other = moment(5, title="GET /documents: 500", is_bad=True)
    assert titles(*failed, other, moment(6, "decision", "disconnected")) == [
        ["GET /documents: 429, 4 times", "GET /documents: 500", "disconnected"]
    ]
