"""Which part of a process uses its CPU: shares of the samples that py-spy took of it.

    py-spy record --rate 400 --format raw --output var/web.txt --pid PID     while the process works
    python -m tests.bench.shares var/web.txt

Each sample counts for the innermost function of its stack that belongs to one of the parts. What the interpreter and
the standard library do on their own, for no part, is the rest. A thread that waits in one of the functions below uses
no CPU, and its sample is left out.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

PARTS: Mapping[str, tuple[str, ...]] = {
    "h11": ("(h11/",),
    "uvicorn": ("(uvicorn/",),
    "Starlette, anyio": ("(starlette/", "(anyio/"),
    "psycopg": ("(psycopg", "(psycopg_pool/"),
    "SQLAlchemy": ("(sqlalchemy/",),
    "redis-py": ("(redis/",),
    "Dramatiq": ("(dramatiq/",),
    "httpx, httpcore": ("(httpx/", "(httpcore/"),
    "cryptography": ("(cryptography/", "(models/crypto/"),
    "structlog, logging": ("(structlog/", "(logging/", "(config/logs.py"),
    "limits": ("(limits/",),
    "worker/web": ("(worker/web/",),
    "worker, other": ("(worker/", "(config/", "(scheduler/"),
    "models/store": ("(models/store/",),
    "models, other": ("(models/",),
}
"""What the place of a function in a stack begins with, by part; the first that fits counts."""
WAITING = (
    "Condition.wait (threading.py",
    "FleetClock._watch (config/clock.py",
    "Runner.run (asyncio/runners.py",
    "Connection.wait (psycopg/connection.py",
    "Pipeline._wait (models/store/pipeline.py",
    "_PollLikeSelector.select (selectors.py",
    "_HiredisParser.read_from_socket (redis/",
    "SyncStream.read (httpcore/",
    "worker_process (dramatiq/cli.py",
)
"""Innermost functions that do nothing but wait, for another thread, the clock or a server."""
REST = "the interpreter and the standard library"


def part_of(stack: str) -> str:
    """Return the part of a stack, whose functions are separated by semicolons, the outermost first."""
    for function in reversed(stack.split(";")):
        for part, places in PARTS.items():
            if any(place in function for place in places):
                return part
    return REST


def shares_of(lines: Iterable[str]) -> list[tuple[str, float]]:
    """Return each part with its share of all samples, the largest first; a line is a stack and how often it was met."""
    counts: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rstrip().rpartition(" ")
        if not stack.rpartition(";")[2].startswith(WAITING):
            counts[part_of(stack)] += int(count)
    total = sum(counts.values())
    return [(part, count / total) for part, count in counts.most_common()]


def main() -> None:
    lines = [line for name in sys.argv[1:] for line in Path(name).read_text(encoding="utf-8").splitlines()]
    for part, share in shares_of(lines):
        print(f"{share:6.1%}  {part}")


if __name__ == "__main__":
    main()
