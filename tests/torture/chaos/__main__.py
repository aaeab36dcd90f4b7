"""`python -m tests.torture.chaos`: one chaos run that prints its table and exits with 1 if it found a violation.

Ctrl-C stops injecting faults; those injected by then are judged as usual.
"""

import argparse
import signal
import sys
import threading
from pathlib import Path

from tests.torture.chaos.run import run_chaos


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--minutes", type=float, default=30.0, help="the most that faults are injected for")
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--reuse", choices=("harmless", "family_revoked", "grace"), default="harmless")
    parser.add_argument("--keep", type=Path, help="a directory to copy logs and traces to")
    chosen = parser.parse_args()
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.set())
    result = run_chaos(
        chosen.database,
        chosen.seed,
        chosen.faults,
        minutes=chosen.minutes,
        subjects=chosen.users,
        workers=chosen.workers,
        reuse=chosen.reuse,
        keep=chosen.keep,
        stopping=asked.is_set,
        say=lambda text: print(text, file=sys.stderr, flush=True),  # noqa: T201 - a run takes minutes
    )
    print(result.table)  # noqa: T201 - the table is its output
    return 0 if result.verdict.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
