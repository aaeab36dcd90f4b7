"""`python -m tests.torture.outage`: an outage of every kind, and a table of what each cost; 1 if one cost too much."""

import argparse
import sys
from datetime import timedelta

from tests.torture.outage.run import draw, kinds, measure_all
from tests.torture.outage.world import databases


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.outage", description=__doc__)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--kind", choices=tuple(kinds), action="append")
    parser.add_argument("--step", type=float, default=5, help="seconds between two sweeps")
    chosen = parser.parse_args()
    step = timedelta(seconds=chosen.step)
    too_much = False
    for database in ("sqlite", "postgresql") if chosen.database == "both" else (chosen.database,):
        with databases(database) as make_url:
            costs = measure_all(make_url, chosen.connections, chosen.kind or tuple(kinds), step)
        title = f"{chosen.connections} connections with 10-minute tokens, 30 minutes out, {database}"
        print(draw(costs, title))  # noqa: T201 - what it is for
        too_much |= any(cost.lost > cost.in_flight or cost.fresh_after is None for cost in costs)
    return int(too_much)


if __name__ == "__main__":
    sys.exit(main())
