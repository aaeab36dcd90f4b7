"""`python -m tests.torture.fuzz`: random input at every door, and a table of what it did; 1 if it did anything."""

import argparse
import sys

from tests.torture.fuzz.doors import doors, try_all
from tests.torture.fuzz.openapi import try_openapi
from tests.torture.fuzz.report import draw


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20_000, help="inputs at each door")
    parser.add_argument("--door", choices=(*doors, "openapi"), action="append")
    chosen = parser.parse_args()
    names = chosen.door or [*doors, "openapi"]
    found = list(try_all([name for name in names if name in doors], chosen.seed, chosen.count))
    if "openapi" in names:
        found.append(try_openapi(chosen.seed, chosen.count))
    print(draw(found))
    return int(any(each.faults for each in found))


if __name__ == "__main__":
    sys.exit(main())
