"""The charts of the operator's page: numbers in, one inline SVG out, whatever the numbers are."""

from collections.abc import Callable, Sequence
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from worker.operator.charts import (
    Column,
    Figure,
    Part,
    Point,
    Tone,
    draw_columns,
    draw_line,
    draw_meter,
    draw_split,
    round_up,
    share_out,
    tone_of_share,
)

figure = Figure("it", "What it <shows>", 'Some "numbers" & more')
huge = 10**15


def columns(*values: int) -> Markup:
    return draw_columns(figure, [Column(f"day {n}", [Part("of it", value, "calm")]) for n, value in enumerate(values)])


def line(*values: int) -> Markup:
    return draw_line(figure, [Point(f"at {n}", value, value % 2) for n, value in enumerate(values)])


def split(*values: int) -> Markup:
    return draw_split(figure, [Part(f"part {n}", value, "ok") for n, value in enumerate(values)])


def meter(*values: int) -> Markup:
    return draw_meter(figure, sum(values), 60)


def read(svg: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314 - our own


def rects_of(svg: Markup, tone: str) -> list[dict[str, str]]:
    return [each.attrib for each in read(svg).iter("rect") if each.get("class") == tone]


@pytest.mark.parametrize("draw", [columns, line, split, meter])
@pytest.mark.parametrize("values", [(), (0,), (0, 0, 0), (1,), (huge,), (1, huge), (5, 0, 7, 0)], ids=str)
def test_a_chart_is_one_named_image_that_stays_within_its_frame(
    draw: Callable[..., Markup], values: Sequence[int]
) -> None:
    svg = read(draw(*values))
    assert (svg.get("role"), svg.get("aria-labelledby"), svg.get("aria-describedby")) == ("img", "it-name", "it-text")
    assert (svg.findtext("title"), svg.findtext("desc")) == ("What it <shows>", 'Some "numbers" & more')
    _, _, width, height = map(float, (svg.get("viewBox") or "").split())
    for rect in svg.iter("rect"):
        left, top = float(rect.get("x", 0)), float(rect.get("y", 0))
        assert 0 <= left <= left + float(rect.get("width", 0)) <= width
        assert 0 <= top <= top + float(rect.get("height", 0)) <= height + 0.01
    assert "style=" not in draw(*values)
    assert "nan" not in draw(*values)


def test_a_value_that_is_small_beside_another_can_be_seen() -> None:
    small, large = rects_of(columns(1, huge), "calm")
    assert float(small["height"]) >= 2 < float(large["height"])
    narrow, wide = rects_of(split(1, huge), "ok")
    assert 0 < float(narrow["width"]) < float(wide["width"])


def test_nothing_is_not_drawn() -> None:
    assert rects_of(columns(0, 0), "calm") == rects_of(split(0, 0), "ok") == rects_of(meter(0), "ok") == []


def test_a_line_ends_before_what_is_unfinished_and_its_errors_are_marked_all_the_same() -> None:
    svg = read(draw_line(figure, [Point("a", 4), Point("b", 4), Point("c", 0, 1)], unfinished=1))
    [drawn] = [each.get("d", "") for each in svg.iter("path") if each.get("class") == "line"]
    assert drawn == "M5 0L15 0h0.01"
    assert len([each for each in svg.iter("path") if each.get("class") == "mark"]) == 1


@pytest.mark.parametrize(
    ("value", "top"),
    [
        (0, 1),
        (1, 1),
        (2, 2),
        (3, 4),
        (9, 10),
        (10, 10),
        (11, 12),
        (13, 16),
        (22, 24),
        (99, 100),
        (101, 120),
        (huge, huge),
    ],
)
def test_an_axis_ends_at_a_round_number_whose_half_is_round(value: int, top: int) -> None:
    assert round_up(value) == top


@pytest.mark.parametrize(("share", "tone"), [(0, "ok"), (0.74, "ok"), (0.75, "warn"), (0.99, "warn"), (1, "bad")])
def test_a_limit_that_is_nearly_used_warns(share: float, tone: Tone) -> None:
    assert tone_of_share(share) == tone


@pytest.mark.parametrize("values", [[1], [1, 1], [1, 10**9, 3], [0, 5]])
def test_a_split_bar_is_as_wide_as_it_is(values: Sequence[int]) -> None:
    assert sum(share_out(values)) == pytest.approx(1000)
