"""What so many connections need: `python -m tests.bench.plan --connections 1e6 --token-life 1h --sync-interval 15m`.

The costs of a job are those of the last fleet that was measured, `tests/bench/measured/fleet.json`, unless `--fleet`
names another one.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.bench.planning import Cost, Costs, Need, length_text, load_of, needs, read_length

MEASURED = Path(__file__).parent / "measured"
CONNECTIONS = (1e5, 1e6, 1e7)
LIVES = tuple(map(read_length, ("1h", "1d", "15d")))
INTERVALS = tuple(map(read_length, ("15m", "1h", "1d")))
HEADS = (
    "Connections",
    "Token life",
    "Sync interval",
    "Refreshes/s",
    "Syncs/s",
    "Worker cores",
    "PostgreSQL cores",
    "Redis cores",
    "Redis commands/s",
    "WAL a day, GB",
    "New rows a day, GB",
)


def read_costs(fleet: Mapping[str, Any]) -> Costs:
    """Return the costs of each kind of job, as a fleet's measurement has them."""
    names = [each.name for each in fields(Cost)]
    return {kind: Cost(**{name: cost[name] for name in names}) for kind, cost in fleet["costs"].items()}


def rows_of(
    connections: Sequence[float], lives: Sequence[timedelta], intervals: Sequence[timedelta], costs: Costs
) -> list[tuple[str, ...]]:
    """Return the table's rows, without its heads."""
    return [
        (
            f"{count:,.0f}",
            length_text(life),
            length_text(interval),
            *_cells(needs(load_of(count, life, interval), costs)),
        )
        for count in connections
        for life in lives
        for interval in intervals
    ]


def _cells(need: Need) -> list[str]:
    load = need.load
    values = (
        load.refresh,
        load.pulse + load.sync,
        need.worker_cores,
        need.database_cores,
        need.redis_cores,
        need.commands,
        need.wal_per_day,
        need.stored_per_day,
    )
    return [number(value) for value in values]


def number(value: float) -> str:
    """Two figures: a plan knows no more."""
    if value >= 10:
        return f"{float(f'{value:.2g}'):,.0f}"
    return f"{value:.2g}" if value >= 0.01 else "0"


def markdown_of(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, ["---"] * len(heads), *rows))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.plan", description=__doc__)
    parser.add_argument("--connections", type=float, nargs="+", default=CONNECTIONS)
    parser.add_argument("--token-life", type=read_length, nargs="+", default=LIVES, help="such as 1h or 15d")
    parser.add_argument("--sync-interval", type=read_length, nargs="+", default=INTERVALS, help="such as 15m")
    parser.add_argument("--fleet", type=Path, default=MEASURED / "fleet.json", metavar="FILE")
    chosen = parser.parse_args()
    costs = read_costs(json.loads(chosen.fleet.read_text(encoding="utf-8")))
    rows = rows_of(chosen.connections, chosen.token_life, chosen.sync_interval, costs)
    print(markdown_of(HEADS, rows), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
