"""What the bench makes of its samples; the samples themselves take servers and minutes."""

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from tests.bench.accounts import EVERYBODY, LARGE, SMALL, documents_of
from tests.bench.goals import ROWS, Goal, Result, judge
from tests.bench.meters import Reading
from tests.bench.provider import FAMILY, State, access_token, refresh_token, requests_for
from tests.bench.report import document_of, markdown_of, picture_of, table_of, write_document

SAMPLES = {
    "refresh.cpu": {"ours": [3.0, 2.0, 4.0], "rival": [5.0, 5.0, 5.0], "floor": [0.5]},
    "refresh.statements": {"ours": [12.0]},
    "first.rate": {"ours": [900.0], "rival": [310.0]},
    "publish.rate": {"ours": [16_000.0]},
}
"""The goals: at most 0.7 of the rival, at most 9, at least 3 times the rival, at least 15,000."""


def result_of(key: str) -> Result:
    return next(result for result in judge(SAMPLES) if result.row.key == key)


def test_a_row_has_the_median_and_the_spread_of_its_rounds() -> None:
    figure = result_of("refresh.cpu").figures["ours"]
    assert (figure.median, figure.low, figure.high) == (3.0, 2.0, 4.0)


def test_a_ratio_is_ours_as_a_multiple() -> None:
    row = result_of("refresh.cpu")
    assert (row.ratio("rival"), row.ratio("floor"), result_of("publish.rate").ratio("rival")) == (0.6, 6.0, None)


@pytest.mark.parametrize(
    ("key", "share", "is_met"),
    [
        pytest.param("refresh.cpu", 3 / 3.5, True, id="below a share of the rival's"),
        pytest.param("refresh.statements", 12 / 9, False, id="above a bound"),
        pytest.param("first.rate", 930 / 900, False, id="less than a multiple of the rival's"),
        pytest.param("publish.rate", 15 / 16, True, id="more than a bound"),
    ],
)
def test_a_goal_is_met_if_all_that_it_allows_is_not_used_up(key: str, share: float, is_met: bool) -> None:
    [verdict] = result_of(key).verdicts
    assert verdict.share == pytest.approx(share)
    assert verdict.is_met is is_met


def test_a_goal_beside_a_side_that_was_not_measured_has_no_verdict() -> None:
    [result] = judge({"refresh.cpu": {"ours": [3.0]}})
    assert result.verdicts == ()


def test_no_two_rows_have_one_key() -> None:
    assert len({row.key for row in ROWS}) == len(ROWS)


def test_the_table_names_what_is_not_met() -> None:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(table_of(judge(SAMPLES)))
    assert console.export_text().count("not met") == 2
    lines = [line for line in markdown_of(judge(SAMPLES)).splitlines() if "not met" in line]
    assert [line.split(" | ")[0] for line in lines] == ["| Refresh: SQL", "| First sync"]


def test_a_goal_reads_as_a_sentence() -> None:
    assert [str(Goal(0.7, "rival")), str(Goal(15_000, at_least=True))] == ["at most 0.7 x Celery", "at least 15,000"]


def test_the_json_of_a_run_is_enough_to_write_the_document_and_the_picture(tmp_path: Path) -> None:
    about = {"date": "2026-01-01", "command": "python -m tests.bench", "commit": "abc", "machine": "2 cores"}
    run = json.loads(json.dumps(document_of(SAMPLES, {}, about)))
    document, picture = tmp_path / "performance.md", tmp_path / "performance.svg"
    document.write_text("Before.\n<!-- table -->\nold\n<!-- end -->\nAfter.\n")
    write_document(run, document, picture)
    text = document.read_text()
    assert ("old" in text, text.startswith("Before."), text.endswith("After.\n")) == (False, True, True)
    assert markdown_of(judge(SAMPLES)) in text
    assert picture.read_text() == picture_of(judge(SAMPLES))


def test_the_picture_has_a_bar_for_each_goal_and_reaches_for_nothing() -> None:
    picture = ElementTree.fromstring(picture_of(judge(SAMPLES)))  # noqa: S314 - our own text
    bars = [each for each in picture.iter("{http://www.w3.org/2000/svg}rect") if each.get("height") == "16"]
    assert len(bars) == 4
    assert not [each for each in picture.iter() if any(name.endswith("href") for name in each.attrib)]


def test_what_idle_processes_use_is_taken_off_by_the_time() -> None:
    idle = Reading(10.0, 1.0, 0.5, 20, 0, 1_000, 50)
    assert Reading(5.0, 2.0, 1.0, 30, 4, 2_000, 100).net_of(idle) == Reading(5.0, 1.5, 0.75, 20, 4, 1_500, 75)


def test_the_provider_pages_an_account_by_its_size() -> None:
    state, wanted = State(), {SMALL[0]: 1, LARGE[0]: 10}
    for account, last in wanted.items():
        token = f"authorization: Bearer {access_token(account, 1)}".encode()
        status, body = state.answer(b"/api/documents?page=1", token, b"", "http://127.0.0.1/api")
        page = json.loads(body)
        assert (status, page["last_page"], page["total"]) == (200, last, documents_of(account))
        assert b"\x00" not in body


def test_the_provider_counts_a_token_that_it_has_replaced() -> None:
    state = State()
    for number in (FAMILY, FAMILY + 1, FAMILY):
        status, body = state.answer(b"/oauth/token", b"", refresh_token(1, number).encode(), "")
        assert (status, json.loads(body)["refresh_token"]) == (200, refresh_token(1, number + 1))
    assert state.counts == {"token": 3, "stale": 1}


def test_a_small_account_takes_five_requests() -> None:
    assert requests_for(documents_of(SMALL[0])) == 5


def test_no_account_is_in_two_sizes() -> None:
    assert len(set(EVERYBODY)) == len(EVERYBODY)
