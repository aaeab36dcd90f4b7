"""Writes what was measured of a large fleet into docs/scale.md.

`python -m tests.bench.scale_report [FILE ...]` takes the JSON of `tests.bench.scale`, of `tests.bench.plans` and of
`tests.bench --scale --only claim`, keeps each in tests/bench/measured, and writes the document's tables from those.
`--check` only says whether the document is what they say.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.plan import CONNECTIONS, HEADS, INTERVALS, LIVES, MEASURED, markdown_of, number, read_costs, rows_of
from tests.bench.planning import KINDS, USED, capacity
from tests.processes import CHECKOUT

DOCUMENT = CHECKOUT / "docs" / "scale.md"
Measured = Mapping[str, Any]


def name_of(measured: Measured) -> str:
    """Return what was measured: `fleet`, `plans` or `claims`."""
    return "fleet" if "steps" in measured else "plans" if "plans" in measured else "claims"


def about(measured: Measured) -> str:
    return (
        f"Measured {measured['date']} by `{measured['command'].strip()}`, commit {measured['commit']}, "
        f"{measured['machine']}.\n\n"
    )


def parts_table(fleet: Measured) -> str:
    """Return what one core of each part carries of each kind of job."""
    costs = read_costs(fleet)
    rows = []
    for part, title in (
        ("worker", "Worker"),
        ("database", "PostgreSQL"),
        ("redis", "Redis"),
        ("scheduler", "Scheduler"),
        ("cpu", "All of them on one core"),
    ):
        alone = [f"{number(capacity({kind: 1.0}, costs, part))}" for kind in KINDS]
        each = [f"{getattr(costs[kind], part):.3g}" for kind in KINDS]
        rows.append([title, *each, *alone])
    heads = ["One core", *(f"ms for a {kind}" for kind in KINDS), *(f"{kind} a second" for kind in KINDS)]
    return about(fleet) + markdown_of(heads, rows) + "\n" + costs_table(fleet)


def costs_table(fleet: Measured) -> str:
    costs = read_costs(fleet)
    rows = [
        [kind, f"{cost.commands:.1f}", f"{cost.wal:,.0f}", f"{cost.stored:,.0f}", f"{fleet['costs'][kind]['rate']:.1f}"]
        for kind, cost in costs.items()
    ]
    heads = ["Job", "Redis commands", "WAL, bytes", "Database grows by, bytes", "A second on this whole machine"]
    return markdown_of(heads, rows)


def steps_table(fleet: Measured) -> str:
    """Return how late the jobs were at each share of what the machine carried."""
    rows = []
    for step in fleet["steps"]:
        late, means, cores = step["late"], step.get("means", {}), step["cores"]
        syncs = [late[kind] for kind in ("pulse", "sync")]
        rows.append(
            [
                f"{step['share']:.0%}",
                f"{step['due_per_second']:.1f}",
                f"{means.get('token_life', '-')}, {means.get('sync_interval', '-')}",
                times(late["refresh"]),
                "; ".join(map(times, syncs)),
                times(late["all"]),
                times(step["model"]),
                f"{late['all']['undone']} of {late['all']['jobs']}",
                ", ".join(f"{name} {used:.2f}" for name, used in cores.items() if name != "machine"),
                f"{step['others']:.2f}",
                "; ".join(step["full"]) or "nothing",
            ]
        )
    heads = [
        "Load",
        "Due a second",
        "As if token life, sync interval",
        "Refreshes late, s",
        "Pulses; syncs late, s",
        "All late, s",
        "By the model, s",
        "Not done at the end",
        "Cores used",
        "By other programs",
        "Full",
    ]
    first = (
        f"{fleet['connections']:,} connections, {fleet['bytes_per_connection']:,.0f} bytes each; "
        f"{fleet['workers']} worker processes of {fleet['threads']} threads; "
        f"{fleet['carried']:.1f} jobs a second are 100 %. "
    )
    return first + about(fleet) + markdown_of(heads, rows)


def times(late: Mapping[str, Any]) -> str:
    """Return p50, p95 and the most."""
    if late["p50"] is None:
        return "-"
    return f"{late['p50']:.2f} / {late['p95']:.2f} / {late['max']:.2f}"


def claims_table(claims: Measured) -> str:
    """Return how long a pass that claims 1,000 takes, by how many rows there are."""
    samples = claims["samples"]
    sizes = sorted({int(name.rpartition(".")[2]) for name in samples if name.rpartition(".")[2].isdigit()})
    rows = []
    for title, side in (("syncs", "ours"), ("refreshes", "refreshes")):
        took = [median(samples[f"claim.{side}.{size}"]["ours"]) for size in sizes]
        rows.append([f"1,000 {title}, ms", *(f"{ms:.0f} ({ms / took[0]:.2f} x)" for ms in took)])
    return about(claims) + markdown_of(["A pass that claims", *(f"{size:,} rows" for size in sizes)], rows)


def plans_table(plans: Measured) -> str:
    """Return the statements that took longer than a millisecond, or read a table from end to end."""
    rows = [
        [
            plan["what"],
            f"`{shorten(plan['query'])}`",
            f"{plan['ms']:,.1f}",
            f"{plan['pages']:,}",
            ", ".join(plan["scans"]) or "no",
        ]
        for plan in plans["plans"]
        if plan["ms"] >= 1 or plan["scans"]
    ]
    least = len(plans["plans"]) - len(rows)
    rest = f"\nThe other {least} statements took less than a millisecond each and scan nothing.\n"
    heads = ["Who", "Statement", "ms", "Pages", "Scans"]
    return f"{plans['rows']:,} connections. " + about(plans) + markdown_of(heads, rows) + rest


def shorten(query: str) -> str:
    return query[:70].replace("|", "\\|") + "…"


def plan_table(fleet: Measured) -> str:
    first = f"Cores are planned to be used by {USED:.0%}. Costs of the fleet above.\n\n"
    return first + markdown_of(HEADS, rows_of(CONNECTIONS, LIVES, INTERVALS, read_costs(fleet)))


def render(text: str, measured: Mapping[str, Measured]) -> str:
    """Return the document with its tables from these measurements; a table without one stays."""
    tables = {
        "parts": ("fleet", parts_table),
        "fleet": ("fleet", steps_table),
        "claims": ("claims", claims_table),
        "plans": ("plans", plans_table),
        "plan": ("fleet", plan_table),
    }
    for name, (source, table) in tables.items():
        if source in measured:
            marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
            written = table(measured[source])
            text = marked.sub(lambda found, written=written: f"{found[1]}{written}{found[2]}", text)  # type: ignore[misc]
    return text


def read_measured(directory: Path = MEASURED) -> dict[str, Measured]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(directory.glob("*.json"))}


def keep(paths: Sequence[Path], directory: Path = MEASURED) -> None:
    """Keep these measurements instead of the last ones."""
    for path in paths:
        measured = json.loads(path.read_text(encoding="utf-8"))
        kept = json.dumps(measured, indent=1, sort_keys=True) + "\n"
        (directory / f"{name_of(measured)}.json").write_text(kept, encoding="utf-8")


def main() -> int:
    arguments = sys.argv[1:]
    if "--check" not in arguments:
        keep([Path(each) for each in arguments])
    before = DOCUMENT.read_text(encoding="utf-8")
    after = render(before, read_measured())
    if "--check" in arguments:
        return int(before != after)
    DOCUMENT.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
