"""What an operator may ask for, how a picture's figures are made, and where a page begins."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from models.crypto.secrets import Sealed
from models.oauth.client import StoredClient
from models.oauth.connection import Connection, Status
from models.oauth.hold import Hold
from models.store.figures import Sample
from models.store.search import Place
from models.webhooks.endpoint import Endpoint
from worker.operations.requests import Asked, Command, Decision, NotPossible, decide
from worker.operator.app import read_path, with_notice
from worker.operator.views.figures import extrapolate, find_spans
from worker.operator.views.overview import spread_over_days
from worker.operator.views.places import UnreadablePlace, can_be_stored, read_place, read_position, write_place
from worker.operator.views.providers import choose_actions
from worker.operator.views.webhooks import choose_actions as choose_for_endpoint

noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
active = Connection("c1", "ada", "p", "client", "1", Status.active, noon)
revoked = Connection("c2", "ada", "p", "client", "1", Status.revoked, noon)

requests: dict[str, tuple[Connection | None, Command, bool, str | None, Decision]] = {
    "a sync": (active, "sync", False, None, Asked("sync", "c1")),
    "a refresh": (active, "refresh", False, None, Asked("refresh", "c1")),
    "a sync without tokens": (revoked, "sync", False, None, NotPossible("not_active")),
    "a sync of nothing": (None, "sync", False, None, NotPossible("unknown")),
    "a disconnect that was confirmed": (active, "disconnect", False, "ada", Asked("disconnect", "c1")),
    "a disconnect of what has ended": (revoked, "disconnect", True, "ada", Asked("disconnect", "c2", True)),
    "a disconnect without a word": (active, "disconnect", False, None, NotPossible("not_confirmed")),
    "a disconnect of another user": (active, "disconnect", True, "bob", NotPossible("not_confirmed")),
    "erasing is no part of a sync": (active, "sync", True, None, Asked("sync", "c1")),
}


@pytest.mark.parametrize(
    ("connection", "command", "erase", "confirmation", "decision"), requests.values(), ids=requests.keys()
)
def test_a_request_is_decided_by_the_row(
    connection: Connection | None, command: Command, erase: bool, confirmation: str | None, decision: Decision
) -> None:
    assert decide(connection, command, erase, confirmation) == decision


def hold(by_operator: bool) -> Hold:
    return Hold("p", "c", noon, by_operator, 0, noon)


actions = {
    "all is well": (StoredClient("p", "c"), None, ["pause", "hold"]),
    "paused": (StoredClient("p", "c", paused_at=noon), None, ["resume", "hold"]),
    "held by us": (StoredClient("p", "c"), hold(False), ["pause", "hold", "release", "accept"]),
    "held by an operator": (StoredClient("p", "c"), hold(True), ["pause", "release", "accept"]),
}


@pytest.mark.parametrize(("client", "held", "expected"), actions.values(), ids=actions.keys())
def test_what_can_be_done_with_a_client(client: StoredClient, held: Hold | None, expected: list[str]) -> None:
    assert list(choose_actions(client, held)) == expected


def test_what_can_be_done_with_an_endpoint() -> None:
    one = Endpoint(id="w", name="app", url="https://a.example", types=("*",), secret=Sealed("s"), created_at=noon)
    paused, failing = replace(one, paused_at=noon), replace(one, failing_since=noon)
    assert [choose_for_endpoint(each) for each in (one, failing)] == [("retry", "test", "pause")] * 2
    assert choose_for_endpoint(paused) == choose_for_endpoint(replace(paused, is_gone=True)) == ("resume",)


def test_the_spans_of_six_hours_end_with_the_one_that_runs() -> None:
    spans = find_spans(noon + timedelta(minutes=7))
    assert (len(spans), spans[0], spans[-1]) == (36, noon - timedelta(hours=5, minutes=50), noon)


nothing = Sample(0, 0)
samples = {
    "nothing happened": (nothing, (0, 0, False)),
    "all was counted": (Sample(9, 2), (7, 2, False)),
    "a quarter was looked at": (Sample(8, 2, 0.25), (24, 8, True)),
}


@pytest.mark.parametrize(("sample", "expected"), samples.values(), ids=samples.keys())
def test_what_is_too_much_to_count_is_extrapolated(sample: Sample, expected: tuple[int, int, bool]) -> None:
    found = extrapolate(noon, sample, nothing)
    assert (found.syncs_completed, found.syncs_failed, found.is_estimate) == expected


def test_what_is_overdue_counts_today_and_what_is_far_away_not_at_all() -> None:
    today = date(2026, 3, 1)
    due = {today - timedelta(days=3): 4, today: 1, today + timedelta(days=27): 2, today + timedelta(days=28): 9}
    spread = spread_over_days(due, today)
    assert [(each.day, each.refreshes) for each in spread if each.refreshes] == [(today, 5), (date(2026, 3, 28), 2)]
    assert len(spread) == 28


def test_a_place_is_read_as_it_was_written() -> None:
    at = noon + timedelta(microseconds=7)
    assert read_place(write_place(at, "0f"), is_newer=True) == Place(at, "0f", is_newer=True)


@pytest.mark.parametrize("text", ["", "-", "1", "x-1", "1-", "1-é", f"{10**17}-a", "1-a\n"])
def test_no_other_text_is_a_place(text: str) -> None:
    with pytest.raises(UnreadablePlace):
        read_place(text)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "9" * 19, "٣"])
def test_no_other_text_is_a_position(text: str) -> None:
    with pytest.raises(UnreadablePlace):
        read_position(text)


def test_a_text_that_no_database_takes_is_looked_for_in_none() -> None:
    assert [can_be_stored(text) for text in ("ada", "a\0", "\ud800", "x" * 256)] == [True, False, False, False]


paths = {
    "connections": "connections",
    "connections/0f-1?problem=any": "connections/0f-1?problem=any",
    "": "",
    "//evil.example": "",
    "https://evil.example": "",
    "a/../../b": "",
    "a b": "",
    "javascript:x": "",
    "\n": "",
}


@pytest.mark.parametrize(("text", "expected"), paths.items())
def test_a_browser_is_sent_to_paths_of_ours_only(text: str, expected: str) -> None:
    assert read_path(text) == expected


def test_a_notice_takes_the_place_of_the_one_before() -> None:
    assert with_notice("connections?problem=any&notice=sync", "refresh") == "connections?problem=any&notice=refresh"
    assert with_notice("", "pause") == "./?notice=pause"
