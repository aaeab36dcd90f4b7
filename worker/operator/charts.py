"""Charts of the operator's page: numbers in, one inline SVG out.

Each is an image with a name and a description, drawn in classes that the style sheet colours. None has text in it, so
that it can be stretched to any width: labels and the same numbers as a table stand beside it, in HTML.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

Tone = Literal["ok", "warn", "bad", "calm", "idle"]
height = 100
step = 10
width_of_split = 1000
least_height = 2.0
"""What is not nothing can be seen, however small it is beside the rest."""
least_share = 6
round_ends: Sequence[int] = (10, 12, 16, 20, 24, 30, 40, 50, 60, 80, 100)


@dataclass(frozen=True, slots=True)
class Figure:
    """What a chart is: `id` is the only one on its page; `name` and `description` are read aloud."""

    id: str
    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Part:
    """One colour of a bar."""

    label: str
    value: int
    tone: Tone


@dataclass(frozen=True, slots=True)
class Column:
    """One bar of a row of bars, its parts from the bottom up."""

    label: str
    parts: Sequence[Part]

    @property
    def total(self) -> int:
        return sum(part.value for part in self.parts)


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a line, and how many of it went wrong."""

    label: str
    value: int
    bad: int = 0


def round_up(value: int) -> int:
    """Return the end of an axis that reaches this value: a round number, whose half is round, too; 1 for nothing."""
    if value <= 1:
        return 1
    if value <= 10:
        return value + value % 2
    power = int("1" + "0" * (len(str(value)) - 2))
    return next(end * power for end in round_ends if end * power >= value)


def draw_columns(figure: Figure, columns: Sequence[Column]) -> Markup:
    """Draw a row of stacked bars, from zero to `round_up` of the largest."""
    top = round_up(max((column.total for column in columns), default=0))
    bars = [_draw_column(place, column, top) for place, column in enumerate(columns)]
    return _frame(figure, step * max(len(columns), 1), [_draw_grid(step * max(len(columns), 1)), *bars])


def draw_line(figure: Figure, points: Sequence[Point], unfinished: int = 0) -> Markup:
    """Draw a line with the area below it, and a mark at the foot of each point of which something went wrong.

    The line ends before the last `unfinished` points, which would make it fall.
    """
    top = round_up(max((point.value for point in points), default=0))
    width = step * max(len(points), 1)
    places = [(step * place + step / 2, _level(point.value, top)) for place, point in enumerate(points)]
    places = places[: len(places) - unfinished]
    line = "L".join(f"{x:g} {y:g}" for x, y in places)
    drawn = [_draw_grid(width)]
    if places:
        ends = f"M{places[0][0]:g} {height}L{line}L{places[-1][0]:g} {height}Z"
        drawn += [
            Markup('<path class="area" d="{}"/>').format(ends),
            Markup('<path class="line" d="M{}h0.01"/>').format(line),
        ]
    drawn += [_draw_mark(step * place + step / 2) for place, point in enumerate(points) if point.bad]
    drawn += [_draw_hint(place, _hint_of(point)) for place, point in enumerate(points)]
    return _frame(figure, width, drawn)


def draw_split(figure: Figure, parts: Sequence[Part]) -> Markup:
    """Draw one bar that is split by share; a part that is not nothing can be seen, at the cost of the largest."""
    shown = [part for part in parts if part.value > 0]
    drawn = [Markup('<rect class="track" width="{}" height="{}"/>').format(width_of_split, height)]
    left = 0.0
    for part, width in zip(shown, share_out([part.value for part in shown]), strict=True):
        gap = 3 if part is not shown[-1] else 0
        hint = f"{part.label}: {part.value:,}"
        drawn.append(
            Markup('<g><title>{}</title><rect class="{}" x="{:g}" width="{:g}" height="{}"/></g>').format(
                hint, part.tone, round(left, 2), round(max(width - gap, 1), 2), height
            )
        )
        left += width
    return _frame(figure, width_of_split, drawn)


def draw_meter(figure: Figure, value: int, most: int) -> Markup:
    """Draw how much of a limit is used; from three quarters on it warns, at the limit it is bad."""
    share = min(value / most, 1.0) if most > 0 else 0.0
    tone = tone_of_share(share)
    drawn = [Markup('<rect class="track" width="{}" height="{}"/>').format(width_of_split, height)]
    if value > 0:
        width = max(share * width_of_split, least_share)
        drawn.append(Markup('<rect class="{}" width="{:g}" height="{}"/>').format(tone, round(width, 1), height))
    return _frame(figure, width_of_split, drawn)


def tone_of_share(share: float) -> Tone:
    """Return the tone of a limit of which this share is used."""
    if share >= 1:
        return "bad"
    return "warn" if share >= 0.75 else "ok"


def share_out(values: Sequence[int]) -> Sequence[float]:
    """Return the width of each value's part of a split bar; no part is too narrow to be seen."""
    total = sum(values)
    if total <= 0:
        return [0.0 for _ in values]
    wanted = [max(value / total * width_of_split, least_share) for value in values]
    factor = width_of_split / sum(wanted)
    return [width * factor for width in wanted]


def _draw_column(place: int, column: Column, top: int) -> Markup:
    foot = float(height)
    rects = []
    for part in column.parts:
        if part.value > 0:
            size = max(part.value / top * height, least_height)
            foot -= size
            rect = Markup('<rect class="{}" x="{:g}" y="{:g}" width="{:g}" height="{:g}"/>')
            rects.append(rect.format(part.tone, step * place + 1.5, round(max(foot, 0), 2), step - 3, round(size, 2)))
    said = ", ".join(f"{part.value:,} {part.label}" for part in column.parts)
    return Markup("").join([*rects, _draw_hint(place, f"{column.label}: {said}")])


def _draw_hint(place: int, text: str) -> Markup:
    """Draw a pane that is not seen, over the whole height, which says its text to who points at it."""
    hint = Markup('<rect class="hint" x="{}" width="{}" height="{}"><title>{}</title></rect>')
    return hint.format(step * place, step, height, text)


def _hint_of(point: Point) -> str:
    return f"{point.label}: {point.value:,}" + (f", {point.bad:,} with errors" if point.bad else "")


def _draw_mark(x: float) -> Markup:
    """Draw a dot: a line of no length with round ends, which stays round however the chart is stretched."""
    return Markup('<path class="mark" d="M{:g} {}h0.01"/>').format(x, height - 4)


def _draw_grid(width: int) -> Markup:
    lines = "".join(f"M0 {y}H{width}" for y in (0, height // 2, height))
    return Markup('<path class="grid" d="{}"/>').format(lines)


def _level(value: int, top: int) -> float:
    return round(height - value / top * height, 2)


def _frame(figure: Figure, width: int, drawn: Sequence[Markup]) -> Markup:
    names = Markup('<title id="{0}-name">{1}</title><desc id="{0}-text">{2}</desc>').format(
        figure.id, figure.name, figure.description
    )
    svg = Markup(
        '<svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" focusable="false" '
        'aria-labelledby="{}-name" aria-describedby="{}-text">{}{}</svg>'
    )
    return svg.format(width, height, figure.id, figure.id, names, Markup("").join(drawn))
