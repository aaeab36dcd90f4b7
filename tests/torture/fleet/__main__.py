"""`make fleet-trial`: a fleet in Docker that reads accounts while users come, and each part of it goes down once.

Needs Docker on Linux, from where the containers' addresses are reached. Prints a table of what was lost, what doubled
and how long it took; 1 if anything was lost or doubled that must not be.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.torture.fleet.trial import Trial, draw


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.fleet", description=__doc__)
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--down", type=int, default=60, metavar="SECONDS", help="how long the sandbox is down")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()) / "breezesync-trial")
    parser.add_argument("--keep", action="store_true", help="leave the fleet running")
    parser.add_argument("--patience", type=int, default=900, metavar="SECONDS", help="for each recovery")
    chosen = parser.parse_args()
    trial = Trial(chosen.directory, chosen.connections, chosen.down, chosen.patience)
    try:
        rows = trial.run()
    finally:
        if not chosen.keep:
            trial.end()
    print(draw(rows, trial.title()))  # noqa: T201 - what it is for
    return int(not all(row.is_right for row in rows))


if __name__ == "__main__":
    sys.exit(main())
