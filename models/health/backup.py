"""Judge whether a database and a Redis are of one fleet and one time, as after a restore."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from models.health.finding import Finding
from models.health.keys import describe_wrong_key


@dataclass(frozen=True, slots=True)
class StreamState:
    """What a stream and the database say of each other.

    entries: the ids of the stream's newest events, at most so many as were asked for.
    unknown: those that the database does not have.
    newest: the id and the time of the newest event that the database says is published; None if there is none.
    """

    stream: str
    entries: Sequence[str]
    unknown: Collection[str]
    newest: tuple[str, datetime] | None


def judge_stream(state: StreamState) -> Iterator[Finding]:
    """Judge one stream: an event is committed before it is published, so the database knows each entry."""
    if state.unknown:
        said = (
            f"{len(state.unknown)} of the newest {len(state.entries)} entries of {state.stream} are not in the database"
        )
        remedy = (
            "The database is of an earlier time than Redis, or of another fleet: restore a newer one, or delete "
            "the stream and replay its events (breezesync events replay)."
        )
        yield Finding("backup", "failed", said, remedy)
    if state.newest is not None and state.newest[0] not in state.entries:
        at = f"{state.newest[1]:%Y-%m-%dT%H:%M:%SZ}"
        said = f"{state.stream} does not have the newest event that the database published, of {at}"
        remedy = "Redis is of an earlier time: breezesync events replay --since TIME, the time of the Redis backup."
        yield Finding("backup", "warn", said, remedy)
    if not state.unknown and (state.newest is None or state.newest[0] in state.entries):
        yield Finding("backup", "ok", f"{state.stream} and the database belong together")


def judge_backup_keys(missing: Collection[str], wrong: Collection[str]) -> Iterator[Finding]:
    """Judge whether the keys are those of the database.

    missing: ids that stored secrets need, and that no key has.
    wrong: ids of keys that open none of the secrets that name them.
    """
    remedy = (
        "Restore ENCRYPTION_KEYS (in the fleet: secrets/encryption_keys) of the time of the database's backup; "
        "never make a new key under the id of an old one."
    )
    if missing:
        said = f"stored secrets need keys that are not configured: {', '.join(sorted(missing))}"
        yield Finding("backup", "failed", said, remedy)
    for key in sorted(wrong):
        yield Finding("backup", "failed", describe_wrong_key(key), remedy)
    if not missing and not wrong:
        yield Finding("backup", "ok", "each stored secret's key is configured, and opens it")
