"""The outbox: events are appended with their sequence number, and read in order for publication."""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Integer, String, bindparam, delete, func, literal, select, update
from sqlalchemy import Connection as SqlConnection

from models.messaging.events import About, Fact, StoredEvent, Stream, describe, stream_of
from models.oauth.connection import clocks_differ
from models.store.appends import Appends
from models.store.dialect import insert_of
from models.store.rows import table_of
from models.store.statement import InsertMany, Statement, Writing, is_one_of, run_together
from models.store.tables import CounterRow, EventRow, LeaseRow, UtcTime

table = table_of(EventRow)
counters = table_of(CounterRow)
leases = table_of(LeaseRow)
entry = [
    table.c[name] for name in ("id", "stream", "type", "provider", "user_id", "connection_id", "sequence", "document")
]

_count_up = Statement(
    lambda dialect: (
        insert_of(dialect, counters)
        .on_conflict_do_update(
            index_elements=["subject", "stream"], set_={"value": counters.c.value + bindparam("more", type_=Integer)}
        )
        .returning(counters.c.value)
    ),
    ("subject", "stream", "value"),
)
_insert = InsertMany(
    table,
    (*(name for name in StoredEvent.__slots__), "subject", "created_at", "waits_since"),
    alike=("stream", "provider", "user_id", "connection_id", "subject", "created_at", "waits_since"),
)
_unpublished = Statement(
    lambda dialect: (
        select(table.c.position, *entry)
        .where(table.c.published_at.is_(None), is_one_of(dialect, table.c.stream, "streams"))
        .order_by(table.c.position)
        .limit(bindparam("most", type_=Integer))
    )
)
_mark = Statement(
    lambda dialect: update(table).where(
        table.c.published_at.is_(None), is_one_of(dialect, table.c.position, "positions")
    ),
    ("published_at",),
)


most_searched = 1_000_000
"""How many of the newest events are looked at for those of one type or one user."""
_publish = "publish"
long_ago = datetime(1970, 1, 1, tzinfo=UTC)
_release = Statement(
    update(leases).where(leases.c.name == _publish, leases.c.owner == bindparam("own_owner")), ("until",)
)
waiting = select(table.c.position).where(table.c.published_at.is_(None)).order_by(table.c.position)
"""Unpublished events, in the order of their index: nothing else is read to find the first."""
_is_waiting = Statement(waiting.limit(1))


def _leasing(dialect: str) -> Any:
    """Return the insert or update of the lease, which writes nothing while no event waits or another one has it.

    A lease that ends later than any can is one from before the database's clock was set back.
    """
    is_over = (leases.c.until <= bindparam("now")) | (leases.c.until > bindparam("latest"))
    free_or_own = is_over | (leases.c.owner == bindparam("own_owner"))
    is_taken = select(leases.c.name).where(leases.c.name == _publish, ~free_or_own).exists()
    is_needed = bindparam("renews", type_=Boolean) | waiting.correlate(None).exists()
    values = {"owner": bindparam("own_owner", type_=String), "until": bindparam("own_until", type_=UtcTime)}
    row = select(literal(_publish), *values.values()).where(is_needed, ~is_taken)
    insert = insert_of(dialect, leases).from_select(["name", *values], row)
    changes = {"owner": insert.excluded.owner, "until": insert.excluded.until}
    # Race: another publisher takes it after this statement has looked.
    return insert.on_conflict_do_update(index_elements=["name"], set_=changes, where=free_or_own)


_lease = Statement(_leasing)


class Outbox:
    """The stored events of one transaction's database."""

    def __init__(self, appends: Appends) -> None:
        self.appends = appends
        self.has_appended = False
        """Whether this transaction has added an event."""

    @property
    def sql(self) -> SqlConnection:
        return self.appends.sql

    def append(self, about: About, facts: Sequence[Fact], now: datetime) -> None:
        """Write events in the transaction of their change, in their order; a subject's sequence has no gaps and no
        repeats."""
        self.has_appended = self.has_appended or bool(facts)
        counts = Counter(stream_of(fact) for fact in facts)
        # Counters are locked in one order by everyone.
        number = {each: self._count_up(about.subject, each, counts[each]) - counts[each] for each in sorted(counts)}
        # Random bytes are asked for once: each time gives the interpreter's lock away.
        ids = token_hex(16 * len(facts))
        rows = []
        for place, fact in enumerate(facts):
            stream = stream_of(fact)
            number[stream] += 1
            event = describe(fact, about, ids[32 * place : 32 * (place + 1)], number[stream], now)
            own = {name: getattr(event, name) for name in StoredEvent.__slots__}
            rows.append(own | {"subject": about.subject, "created_at": now, "waits_since": now})
        self.appends.add(_insert, rows)

    def _count_up(self, subject: str, stream: str, by: int) -> int:
        """Return the counter's new value; its row lock lasts until the commit, so sequence order is commit order."""
        return int(_count_up.scalar(self.appends.unflushed, subject=subject, stream=stream, value=by, more=by))

    def lease(self, owner: str, now: datetime, until: datetime, published: Sequence[int] = ()) -> bool:
        """Make `owner` the only publisher until then; return False if there is another, or nothing to publish.

        The events that it has `published` under its lease are marked, whether it still has the lease or not: on
        PostgreSQL in the same statement.
        """
        writings: list[Writing] = []
        if published:
            writings.append((_mark, {"positions": list(published), "published_at": now}))
        latest = until + clocks_differ
        renewal = {"own_owner": owner, "now": now, "own_until": until, "latest": latest, "renews": bool(published)}
        return run_together(self.sql, [*writings, (_lease, renewal)]) == 1

    def release(self, owner: str) -> None:
        """End the owner's lease, for every clock."""
        _release.run(self.sql, own_owner=owner, until=long_ago)

    def unpublished(self, streams: Collection[Stream], limit: int) -> Sequence[tuple[int, StoredEvent]]:
        """Return the oldest unpublished events of these streams with their positions, in the order of publication."""
        rows = _unpublished.all(self.sql, streams=sorted(streams), most=limit)
        return [(row[0], StoredEvent(*row[1:])) for row in rows]

    def is_waiting(self) -> bool:
        """Return whether any event is unpublished."""
        return _is_waiting.first(self.sql) is not None

    def backlog(self, most: int | None = None) -> tuple[int, datetime | None]:
        """Return how many events are unpublished, up to `most`, and since when the first of these has waited."""
        unpublished = select(table.c.waits_since).where(table.c.published_at.is_(None)).order_by(table.c.position)
        found = unpublished.limit(most).subquery()
        query = select(func.count(), func.min(found.c.waits_since))
        count, oldest = self.sql.execute(query).one()
        return count, oldest

    def read(
        self,
        *,
        after: int = 0,
        type_: str | None = None,
        user_id: str | None = None,
        connection_id: str | None = None,
        limit: int = 100,
    ) -> Sequence[tuple[int, StoredEvent]]:
        """Return events after a position, oldest first."""
        query = select(table.c.position, *entry).where(table.c.position > after, *_only(type_, user_id, connection_id))
        rows = self.sql.execute(query.order_by(table.c.position).limit(limit))
        return [(row[0], StoredEvent(*row[1:])) for row in rows]

    def start_of_newest(
        self, count: int, type_: str | None = None, user_id: str | None = None, connection_id: str | None = None
    ) -> tuple[int, bool]:
        """Return the position that precedes the newest `count` events, and whether there may be some of them before it.

        Those of a connection have an index. For a type or a user the newest `most_searched` events are looked at.
        """
        wanted = select(table.c.position).where(*_only(type_, user_id, connection_id))
        oldest = 0
        if connection_id is None and (type_ is not None or user_id is not None):
            newest = self.sql.execute(select(func.max(table.c.position))).scalar() or 0
            oldest = max(newest - most_searched, 0)
            wanted = wanted.where(table.c.position > oldest)
        found = self.sql.execute(wanted.order_by(table.c.position.desc()).offset(count).limit(1)).scalar()
        return (oldest, oldest > 0) if found is None else (found, False)

    def position_of(self, event_id: str) -> int | None:
        return self.sql.execute(select(table.c.position).where(table.c.id == event_id)).scalar()

    def known_ids(self, ids: Collection[str]) -> set[str]:
        """Return those of these ids that are stored."""
        return set(self.sql.execute(select(table.c.id).where(table.c.id.in_(list(ids)))).scalars())

    def newest_published(self, stream: Stream) -> tuple[str, datetime] | None:
        """Return the id and the time of the newest published event of a stream."""
        query = select(table.c.id, table.c.created_at).where(
            table.c.stream == stream, table.c.published_at.is_not(None)
        )
        row = self.sql.execute(query.order_by(table.c.position.desc()).limit(1)).first()
        return None if row is None else (row.id, row.created_at)

    def republish_since(
        self, since: datetime, now: datetime, user_id: str | None = None, connection_id: str | None = None
    ) -> int:
        """Mark the events since then as unpublished, with their ids unchanged; return how many."""
        wanted = (table.c.created_at >= since, table.c.published_at.is_not(None), *_only(None, user_id, connection_id))
        statement = update(table).where(*wanted)
        return self.sql.execute(statement.values(published_at=None, waits_since=now)).rowcount

    def prune(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` events that were published before then; counters, and so sequences, stay."""
        is_old = table.c.published_at < before
        old = select(table.c.position).where(table.c.created_at < before, is_old).order_by(table.c.created_at)
        return self.sql.execute(delete(table).where(is_old, table.c.position.in_(old.limit(limit)))).rowcount


def _only(type_: str | None, user_id: str | None, connection_id: str | None) -> list[ColumnElement[bool]]:
    """Return the conditions; a connection is matched by `subject`, which is the first column of an index."""
    wanted = {table.c.type: type_, table.c.user_id: user_id, table.c.subject: connection_id}
    return [column == value for column, value in wanted.items() if value is not None]
