"""`make gateway-trial`: 50 clients of three gateways while parts of the fleet are killed; 1 if anything went wrong."""

import argparse
import sys
import time

from rich.console import Console
from rich.table import Table

from tests.torture.gateway.trial import Plan, run
from tests.torture.gateway.verdict import Verdict, judge

most_shown = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.gateway", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--accounts", type=int, default=12)
    chosen = parser.parse_args()
    verdict = judge(run(Plan(chosen.seconds, chosen.seed, chosen.clients, chosen.accounts), say))
    show(verdict, f"{chosen.clients} clients, {chosen.accounts} accounts, {chosen.seconds:g} s, seed {chosen.seed}")
    return int(not verdict.is_clean)


def show(verdict: Verdict, title: str) -> None:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, figure in verdict.figures.items():
        table.add_row(name, figure)
    table.add_section()
    for name, found in verdict.violations.items():
        table.add_row(name, str(len(found)), style="bold red" if found else "")
    console = Console(width=130)
    console.print(table)
    for name, found in verdict.violations.items():
        for each in found[:most_shown]:
            console.print(f"{name}: {each}")


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)  # noqa: T201 - a trial takes long


if __name__ == "__main__":
    sys.exit(main())
