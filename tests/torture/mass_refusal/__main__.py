"""`python -m tests.torture.mass_refusal`: a re-keyed server, a restored one, and a day of real revocations; a table."""

import argparse
import sys
import time
from collections.abc import Callable

from tests.torture.mass_refusal.run import Cost, monday, rekey, restore
from tests.torture.outage.run import say
from tests.torture.outage.world import databases

cases: dict[str, Callable[..., Cost]] = {
    "re-keyed for an hour": rekey,
    "database restored": restore,
    "3 % revoke in a day": monday,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.mass_refusal", description=__doc__)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--case", choices=tuple(cases), action="append")
    chosen = parser.parse_args()
    lines = [f"{chosen.connections} connections, {chosen.database}", draw_head()]
    with databases(chosen.database) as make_url:
        for case in chosen.case or cases:
            started = time.monotonic()
            lines.append(draw(case, cases[case](make_url(), connections=chosen.connections)))
            say(f"{case}: {time.monotonic() - started:.0f} s")
    print("\n".join(lines))  # noqa: T201 - what it is for
    return 0


def draw_head() -> str:
    return f"{'case':<22}{'told':>6}{'erased':>8}{'most held':>11}{'all fresh after':>17}{'told at most after':>20}"


def draw(case: str, cost: Cost) -> str:
    fresh = "-" if cost.fresh_after is None else f"{cost.fresh_after.total_seconds() / 60:.0f} min"
    latest = "-" if cost.latest is None else f"{cost.latest.total_seconds() / 60:.0f} min"
    return f"{case:<22}{cost.told.total():>6}{cost.erased:>8}{cost.held:>11}{fresh:>17}{latest:>20}"


if __name__ == "__main__":
    sys.exit(main())
