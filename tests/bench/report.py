"""The results as a table, as JSON, as Markdown and as a picture.

`python -m tests.bench.report FILE` writes the table of a run into docs/performance.md and its picture beside it.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.bench.goals import NAMES, SIDES, Result, Row, Samples, judge
from tests.processes import CHECKOUT

DOCUMENT = CHECKOUT / "docs" / "performance.md"
PICTURE = CHECKOUT / "docs" / "images" / "performance.svg"
GENERATED = re.compile(r"(<!-- table -->\n).*(<!-- end -->)", re.DOTALL)
HEADS = ("What", "Unit", "breezesync", "Celery + Authlib", "Floor", "Ratio", "Goal", "")


def number(value: float) -> str:
    """Three figures, however large."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def cells_of(result: Result) -> list[str]:
    figures = [_figure(result, side) for side in SIDES]
    ratios = [f"{ratio:.2f} x {NAMES[side]}" for side in SIDES[1:] if (ratio := result.ratio(side)) is not None]
    goals = "; ".join(str(verdict.goal) for verdict in result.verdicts)
    return [result.row.title, result.row.unit, *figures, ", ".join(ratios), goals, _met(result)]


def _figure(result: Result, side: str) -> str:
    figure = result.figures.get(side)
    if figure is None:
        return ""
    if figure.low == figure.high:
        return number(figure.median)
    return f"{number(figure.median)} ({number(figure.low)}-{number(figure.high)})"


def _met(result: Result) -> str:
    if not result.verdicts:
        return ""
    return "met" if all(verdict.is_met for verdict in result.verdicts) else "not met"


def table_of(results: Sequence[Result]) -> Table:
    """Return the table for the terminal."""
    table = Table(title="Medians (lowest-highest of the rounds)", title_justify="left")
    for head in HEADS:
        table.add_column(head, overflow="fold")
    for result in results:
        table.add_row(*cells_of(result))
    return table


def markdown_of(results: Sequence[Result]) -> str:
    lines = [HEADS, ("---",) * len(HEADS), *map(cells_of, results)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def document_of(samples: Samples, failures: Mapping[str, str], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run as JSON takes it: what each round measured, and what follows from it."""
    rows = [
        {
            "key": result.row.key,
            "title": result.row.title,
            "unit": result.row.unit,
            **{side: asdict(figure) for side, figure in result.figures.items()},
            "ratios": {side: ratio for side in SIDES[1:] if (ratio := result.ratio(side)) is not None},
            "goals": [{"goal": str(v.goal), "share": v.share, "met": v.is_met} for v in result.verdicts],
        }
        for result in judge(samples)
    ]
    return {**about, "rows": rows, "failures": dict(failures), "samples": samples}


def picture_of(results: Sequence[Result]) -> str:
    """Return bars of how much of its goal each row uses, as SVG; one that ends left of the line meets it."""
    bars = [(name_of(result.row), verdict) for result in results for verdict in result.verdicts]
    left, unit, most, step = 430, 200, 2.5, 24
    height = step * len(bars) + 50
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 {height}" role="img" '
        'font-family="sans-serif" font-size="13">',
        "<title>How much of its goal each row uses; up to 1 it is met</title>",
        f'<rect width="1000" height="{height}" fill="#ffffff"/>',
    ]
    for place, (title, verdict) in enumerate(bars):
        y = 34 + step * place
        width = round(min(verdict.share, most) * unit, 1)
        colour = "#2b7a4b" if verdict.is_met else "#b3402e"
        beyond = " →" if verdict.share > most else ""
        label = f"{number(verdict.share)}{beyond} ({verdict.goal})"
        lines += [
            f'<text x="{left - 8}" y="{y + 12}" text-anchor="end" fill="#222222">{escape(title)}</text>',
            f'<rect x="{left}" y="{y}" width="{width}" height="16" fill="{colour}"/>',
        ]
        inside = width > unit * 1.4
        x, anchor, ink = (left + 6, "start", "#ffffff") if inside else (left + max(width, unit) + 8, "start", "#222222")
        lines.append(f'<text x="{x}" y="{y + 12}" text-anchor="{anchor}" fill="{ink}">{escape(label)}</text>')
    goal_x = left + unit
    lines += [
        f'<line x1="{goal_x}" y1="24" x2="{goal_x}" y2="{height - 12}" stroke="#222222" stroke-dasharray="4 3"/>',
        f'<text x="{goal_x}" y="18" text-anchor="middle" fill="#222222">goal</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def name_of(row: Row) -> str:
    return row.title if row.title.endswith(row.unit) else f"{row.title}, {row.unit}"


def write_document(run: Mapping[str, Any], document: Path = DOCUMENT, picture: Path = PICTURE) -> None:
    """Write the run's table between the marks of the document, and the picture."""
    results = judge(run["samples"])
    heading = f"Measured {run['date']} by `{run['command']}`, commit {run['commit']}, {run['machine']}.\n\n"
    text = GENERATED.sub(
        lambda found: f"{found[1]}{heading}{markdown_of(results)}{found[2]}", document.read_text(encoding="utf-8")
    )
    document.write_text(text, encoding="utf-8")
    picture.write_text(picture_of(results), encoding="utf-8")


if __name__ == "__main__":
    write_document(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
