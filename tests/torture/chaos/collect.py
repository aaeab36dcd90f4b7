"""What is left when a run has come to rest, as evidence for the verdict."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tests.torture.chaos.evidence import Connected, Decided, Evidence, Failed, Published
from tests.torture.chaos.setup import ChaosFleet


def collect(
    fleet: ChaosFleet,
    delivered: Sequence[tuple[str, str, int, str]],
    revocations: Sequence[tuple[int, float]],
    killed: frozenset[int],
    at_rest: set[str],
    until: int,
) -> Evidence:
    """Of the events those up to the position `until`."""
    with fleet.redis() as client:
        parked = len({*client.hkeys("breezesync:parked"), *(p.stem for p in fleet.directory.glob("var/spool/*.pair"))})
    waiting = "SELECT count(*) AS n FROM event WHERE published_at IS NULL AND position <= :until"
    [unpublished] = fleet.rows(waiting, until=until)
    counters = fleet.control.counters()
    codes = {code["challenge"]: code["presentations"] for code in counters["codes"]}
    return Evidence(
        connections=[
            Connected(row.id, account_of(row.user_id), row.status, row.generation, row.id in at_rest)
            for row in fleet.rows("SELECT id, user_id, status, generation FROM connection")
        ],
        decisions=[
            Decided(row.subject, row.verb, read_json(row.evidence).get("generation"))
            for row in fleet.rows("SELECT subject, verb, evidence FROM decision ORDER BY position")
        ],
        events=[
            Published(
                row.position,
                row.id,
                row.type,
                row.connection_id,
                row.subject,
                row.stream,
                row.sequence,
                read_json(row.document)["data"],
                seconds_of(row.created_at),
            )
            for row in fleet.rows(
                "SELECT position, id, type, connection_id, subject, stream, sequence, document, created_at "
                "FROM event WHERE position <= :until ORDER BY position",
                until=until,
            )
        ],
        delivered=delivered,
        refresh_tokens=counters["refresh_tokens"],
        traces=[line for line in fleet.points.traces() if "call" in line],
        killed=killed,
        revocations=revocations,
        failures=[
            Failed(
                row.id,
                account_of(row.user_id),
                row.reason,
                seconds_of(row.code_received_at),
                seconds_of(row.code_received_at) + row.code_seconds,
                codes.get(row.challenge, ()),
            )
            for row in fleet.rows(
                'SELECT id, user_id, reason, code_received_at, code_seconds, challenge FROM "authorization" '
                "WHERE step = 'failed' AND code_received_at IS NOT NULL"
            )
        ],
        parked=parked,
        unpublished=unpublished.n,
        reuse=fleet.environment["BREEZEDOC_REFRESH_REUSE"],
    )


def read_entries(stream: str, entries: Sequence[tuple[str, dict[str, str]]]) -> list[tuple[str, str, int, str]]:
    """Entries of a stream: its short name, whom each is about, its number and its id."""
    short = stream.rpartition(":")[2]
    return [
        (short, json.loads(fields["event"])["subject"], int(fields["sequence"]), fields["id"]) for _, fields in entries
    ]


def account_of(user_id: str) -> int:
    return int(user_id.rpartition("-")[2])


def read_json(value: Any) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return read


def seconds_of(at: Any) -> float:
    read = datetime.fromisoformat(at) if isinstance(at, str) else at
    aware: datetime = read if read.tzinfo else read.replace(tzinfo=UTC)
    return aware.timestamp()
