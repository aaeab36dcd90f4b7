"""Judge the database: its schema, and the partitions of its history."""

from collections.abc import Iterator, Mapping

from models.health.finding import Finding


def judge_schema(url: str, revision: str | None, newest: str) -> Finding:
    if revision is None:
        return Finding("database", "failed", f"{url} has no schema yet", "Run breezesync migrate.")
    if revision != newest:
        said = f"{url} has schema {revision}, this version needs {newest}"
        return Finding("database", "failed", said, "Run breezesync migrate.")
    return Finding("database", "ok", f"{url}, schema {revision}")


def judge_history(strays: Mapping[str, int]) -> Iterator[Finding]:
    """Warn of rows that came when there was no partition for their day; `strays` counts some of each table's."""
    if strays:
        counts = " and ".join(f"{count} of {table}" for table, count in strays.items())
        said = f"rows of history have no partition for their day: {counts}"
        remedy = "Start a scheduler, which makes days ahead. If one runs, look for daysahead.failed in its log."
        yield Finding("history", "warn", said, remedy)
