"""Sync runs, and the ids on the pages that they read."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ARRAY, and_, bindparam, delete, func, insert, or_, select, true, update
from sqlalchemy import Connection as SqlConnection

from models.oauth.connection import Connection
from models.oauth.credential import Credential
from models.store import connections, credentials
from models.store.dialect import insert_of
from models.store.rows import names_of, table_of, to_connection
from models.store.statement import Rows, Statement, Writing, is_one_of
from models.store.tables import SyncPageRow, SyncRunRow
from models.sync.absence import PageSeen
from models.sync.decision import PageNote
from models.sync.sync_run import Parents, RunStatus, SyncLease, SyncRun, end, fill_in_zeros, leave_out_zeros

longest_repeat = timedelta(days=2)
"""A message that comes again later than this starts another sync, which is harmless."""

table = table_of(SyncRunRow)
pages = table_of(SyncPageRow)
names = names_of(SyncRun)
columns = [table.c[name] for name in names]
of_connection = table.c.connection_id == bindparam("own_connection_id")
is_unfinished = table.c.finished_at.is_(None)
"""On PostgreSQL such a run is in a table of its own: see `models/store/days.py`."""
is_running = is_unfinished & (table.c.status == RunStatus.running.value)
_running = Statement(select(*columns).where(of_connection, is_running))
own_row = connections.table
lease_columns = [own_row.c[name] for name in ("sync_lease_owner", "sync_lease_until", "sync_claimed_until")]
_has_running = select(table.c.id).where(table.c.connection_id == own_row.c.id, is_running).exists()
_lease = Statement(update(own_row).where(connections.of_id, ~_has_running), [column.name for column in lease_columns])
_under_way = Statement(
    select(*lease_columns, *columns)
    .join_from(own_row, table, (table.c.connection_id == own_row.c.id) & is_running, isouter=True)
    .where(connections.of_id)
)
_has_claim = own_row.c.sync_lease_until == own_row.c.sync_claimed_until
_is_leased = and_(_has_claim, own_row.c.sync_lease_until > bindparam("now"))
_is_under_way = Statement(select(own_row.c.id).where(connections.of_id, or_(_is_leased, _has_running)))


@dataclass(frozen=True, slots=True)
class SyncRows:
    """What a sync is decided by, all of it locked.

    run: the one that is under way.
    lease: that of a run that is under way and not stored.
    """

    connection: Connection | None
    credential: Credential | None
    run: SyncRun | None = None
    lease: SyncLease | None = None


def _build_lock_with_pair(dialect: str) -> Any:
    """Return the statement that locks the connection, its credential and its run.

    The connection and its credential are locked first, as everywhere, and then the run: a row that is not locked is the
    one that was committed when the statement began, as long ago as it waited for the others.
    """
    own = connections.pair.where(connections.of_id).add_columns(*lease_columns)
    if dialect != "postgresql":
        of_pair = (connections.table.c.id == table.c.connection_id) & is_running
        return own.add_columns(*columns).outerjoin(table, of_pair)
    pair = own.with_for_update().cte("pair")
    run = select(*columns).where(table.c.connection_id == pair.c.id, is_running).with_for_update().lateral("run")
    return select(*pair.c, *run.c).join_from(pair, run, true(), isouter=True)


_lock_with_pair = Statement(_build_lock_with_pair)
_lately = (table.c.finished_at >= bindparam("since")) & (table.c.finished_at <= bindparam("until"))
_has = Statement(select(table.c.id).where(table.c.id == bindparam("own_id"), or_(is_unfinished, _lately)))
_insert = Statement(insert(table).inline(), names)
_save = Statement(update(table).where(is_unfinished, table.c.id == bindparam("own_id")), names)
_forget_pages = Statement(delete(pages).where(pages.c.run_id == bindparam("own_id")))
_key = ("run_id", "source", "pass_number", "page")
_seen = ("total", "last_page", "ids", "nameless", "newest")


def _upsert_page(dialect: str) -> Any:
    inserted = insert_of(dialect, pages)
    return inserted.on_conflict_do_update(index_elements=_key, set_={name: inserted.excluded[name] for name in _seen})


_all_pages = Statement(
    select(pages.c.source, pages.c.pass_number, pages.c.page, *(pages.c[name] for name in _seen)).where(
        pages.c.run_id == bindparam("own_run_id")
    )
)
_note_page = Statement(_upsert_page, (*_key, *_seen))
_of_list = [pages.c[name] == bindparam(f"own_{name}") for name in ("run_id", "source", "pass_number")]
_pages = select(pages.c.page, *(pages.c[name] for name in _seen)).where(*_of_list)
_some_pages = Statement(
    lambda dialect: _pages.where(is_one_of(dialect, pages.c.page, "numbers")).order_by(pages.c.page)
)
_pages_of = Statement(_pages.order_by(pages.c.page))


def writing(run: SyncRun, is_new: bool) -> Writing:
    """Return the statement that writes a run's row, and its values."""
    return (_insert, _from_run(run)) if is_new else (_save, {"own_id": run.id} | _from_run(run))


def _upsert_pages(dialect: str) -> Any:
    """Return the insert or update of many pages of a run, each column but the run's id as a list."""
    each = [pages.c[name] for name in (*_key[1:], *_seen)]
    lists = (bindparam(column.name, type_=ARRAY(column.type, dimensions=1)) for column in each)
    given = func.unnest(*lists).table_valued(*(column.name for column in each), name="given").render_derived().c
    run_id = bindparam("run_id", type_=pages.c.run_id.type)
    inserted = insert_of(dialect, pages).from_select([*_key, *_seen], select(run_id, *given))
    return inserted.on_conflict_do_update(index_elements=_key, set_={name: inserted.excluded[name] for name in _seen})


_note_pages = Statement(_upsert_pages)


def _from_note(note: PageNote) -> dict[str, object]:
    page = note.seen
    return {
        "source": note.key,
        "pass_number": note.pass_number,
        "page": page.page,
        "total": page.total,
        "last_page": page.last_page,
        "ids": list(page.ids),
        "nameless": page.nameless,
        "newest": page.newest,
    }


class Runs:
    """The sync runs of one transaction's database."""

    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def running(self, connection_id: str) -> SyncRun | None:
        """Return the connection's run that is under way, one at most; the caller has locked the connection."""
        row = _running.first(self.sql, own_connection_id=connection_id)
        return to_run(row) if row else None

    def lock_with_pair(self, connection_id: str) -> SyncRows:
        """Return the connection, its credential and its run that is under way, no one else writing any of them until
        this transaction ends.

        Race: a job begins a run while this transaction waits for the connection's lock. That run is not found here, and
        a second one can't be added or leased beside it: whoever tries fails with `StoreConflict`. So does this if the
        run ends meanwhile, because on PostgreSQL its row moves to another table.
        """
        row = _lock_with_pair.first(self.sql, own_id=connection_id)
        if row is None:
            return SyncRows(connections.Connections(self.sql).lock(connection_id), None)
        connection, rest = row[: len(connections.columns)], row[len(connections.columns) :]
        credential, rest = rest[: len(credentials.columns)], rest[len(credentials.columns) :]
        lease, run = rest[: len(lease_columns)], rest[len(lease_columns) :]
        found = None if run[0] is None else to_run(run)
        return SyncRows(to_connection(connection), Credential(*credential), found, _to_lease(lease))

    def lease(self, run: SyncRun) -> Rows:
        """Lease the connection, which is locked, for a run that is not stored yet; no row changes if one is stored.

        Race: another job stored a run while this transaction waited for the connection's lock.
        """
        until = run.lease_until
        lease = {"sync_lease_owner": run.lease_owner, "sync_lease_until": until, "sync_claimed_until": until}
        return _lease.put(self.sql, own_id=run.connection_id, **lease)

    def under_way(self, connection_id: str) -> tuple[SyncRun | None, SyncLease | None]:
        """Return the connection's run that is under way, and the lease of one that is not stored, which may be over."""
        row = _under_way.first(self.sql, own_id=connection_id)
        if row is None:
            return None, None
        lease, run = row[: len(lease_columns)], row[len(lease_columns) :]
        return None if run[0] is None else to_run(run), _to_lease(lease)

    def is_under_way(self, connection_id: str, now: datetime) -> bool:
        """Whether the connection has a run, stored or not (see `SyncLease`); the caller has locked the connection."""
        return _is_under_way.first(self.sql, own_id=connection_id, now=now) is not None

    def newest(self, connection_id: str) -> SyncRun | None:
        query = select(*columns).where(table.c.connection_id == connection_id).order_by(table.c.started_at.desc())
        row = self.sql.execute(query.limit(1)).first()
        return to_run(row) if row else None

    def newest_of(self, connection_id: str, limit: int) -> list[SyncRun]:
        """Return the connection's newest runs, the newest first."""
        query = select(*columns).where(table.c.connection_id == connection_id).order_by(table.c.started_at.desc())
        return [to_run(row) for row in self.sql.execute(query.limit(limit))]

    def prune(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` runs that ended before then; the newest of each connection stays."""
        newer = table.alias()
        is_followed = (newer.c.connection_id == table.c.connection_id) & (newer.c.started_at > table.c.started_at)
        is_old = table.c.finished_at < before
        old = select(table.c.id).where(is_old, select(newer.c.id).where(is_followed).exists())
        chosen = old.order_by(table.c.finished_at).limit(limit)
        return self.sql.execute(delete(table).where(is_old, table.c.id.in_(chosen))).rowcount

    def has(self, run_id: str, now: datetime) -> bool:
        """Whether this run did not finish, or did lately; of the others, not every day is searched."""
        return _has.first(self.sql, own_id=run_id, since=now - longest_repeat, until=now + longest_repeat) is not None

    def add(self, run: SyncRun) -> None:
        self.write(run, is_new=True)

    def save(self, run: SyncRun) -> None:
        self.write(run)
        if run.status is not RunStatus.running:
            self.forget_pages(run.id)

    def write(self, run: SyncRun, is_new: bool = False) -> None:
        """Write the run's row; if its pages are stored and it ends, `forget_pages` is due."""
        statement, values = writing(run, is_new)
        statement.run(self.sql, **values)

    def forget_pages(self, run_id: str) -> None:
        _forget_pages.run(self.sql, own_id=run_id)

    def end(self, connection_id: str, reason: str) -> None:
        """End the run of a connection that ended; what it committed stays."""
        run = self.running(connection_id)
        if run is not None:
            self.save(end(run, reason))

    def noting(self, run_id: str, notes: Iterable[PageNote]) -> list[Writing]:
        """Return the statements that keep pages of the run, and their values: on PostgreSQL one for all."""
        # Two lists of one key would write the same page, which one statement cannot do.
        rows = list({(note.key, note.pass_number, note.seen.page): _from_note(note) for note in notes}.values())
        if self.sql.dialect.name != "postgresql" or len(rows) < 2:
            return [(_note_page, {"run_id": run_id} | row) for row in rows]
        return [(_note_pages, {"run_id": run_id} | {name: [row[name] for row in rows] for name in rows[0]})]

    def pages_of(
        self, run_id: str, source: str, pass_number: int, numbers: Sequence[int] | None = None
    ) -> tuple[PageSeen, ...]:
        """Return the pages of a list that this pass has read so far, in their order; with `numbers` only these."""
        of_list = {"own_run_id": run_id, "own_source": source, "own_pass_number": pass_number}
        if numbers is None:
            rows = _pages_of.all(self.sql, **of_list)
        else:
            rows = _some_pages.all(self.sql, numbers=list(numbers), **of_list)
        return tuple(_to_page(row) for row in rows)

    def pages(self, run_id: str) -> Callable[[], list[PageNote]]:
        """Ask for every page of the run that is stored; return what gives them, also after the transaction."""
        rows = _all_pages.put(self.sql, own_run_id=run_id)
        return lambda: [PageNote(source, pass_number, _to_page(row)) for source, pass_number, *row in rows.all()]

    def totals_of(self, run_id: str) -> dict[str, int]:
        """Return how many records each list has, as the provider says; only for lists that this run started to read."""
        is_counted = (pages.c.run_id == run_id) & pages.c.total.is_not(None)
        query = select(pages.c.source, func.max(pages.c.total)).where(is_counted)
        return dict(self.sql.execute(query.group_by(pages.c.source)).all())

    def drop_pages(self, run_id: str, source: str) -> None:
        self.sql.execute(delete(pages).where(pages.c.run_id == run_id, pages.c.source == source))


def _to_lease(row: Iterable[Any]) -> SyncLease | None:
    owner, until, claimed_until = row
    return None if owner is None or until is None else SyncLease(owner, until, claimed_until)


def _to_page(row: Iterable[Any]) -> PageSeen:
    number, total, last_page, ids, nameless, newest = row
    return PageSeen(number, total, last_page, tuple(ids), nameless, newest)


def to_run(row: Iterable[Any]) -> SyncRun:
    values = dict(zip(names, row, strict=True))
    parents = {name: _to_parents(stored) for name, stored in (values["parents"] or {}).items()}
    typed = {"status": RunStatus(values["status"]), "since": values["since"] or {}, "parents": parents}
    return SyncRun(**values | typed | {"counts": fill_in_zeros(values["counts"])})


def _from_run(run: SyncRun) -> dict[str, Any]:
    # Pairs are in order, and the names of an object are in none.
    parents = {name: {"read": [*each.read], "gone": [*each.gone]} for name, each in run.parents.items()}
    # A worker of an earlier release, which adds to all four numbers, may go on with a run that is under way.
    counts = run.counts if run.status is RunStatus.running else leave_out_zeros(run.counts)
    typed = {"status": run.status.value, "counts": counts, "parents": parents}
    return {name: getattr(run, name) for name in names} | typed


def _to_parents(stored: Mapping[str, Any]) -> Parents:
    return Parents(tuple((each, key) for each, key in stored["read"]), tuple(stored["gone"]))
