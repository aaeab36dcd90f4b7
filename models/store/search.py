"""Lists for an operator: connections, authorizations and events, searched, and turned page by page.

A page begins after a `Place`. Each list has an index in its order, and conditions that few rows meet have one of their
own, so that a page takes a few milliseconds however many rows there are; a search by text looks at a bounded number.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, Subquery, Table, Text, func, literal, select, text, tuple_, union_all
from sqlalchemy import Connection as SqlConnection

from models.journal import Problem
from models.messaging.events import StoredEvent
from models.oauth.authorization import Authorization, Step
from models.oauth.connection import Connection, Status
from models.store.rows import names_of, table_of, to_authorization, to_connection
from models.store.tables import AuthorizationRow, ConnectionRow, EventRow, UtcTime

connections = table_of(ConnectionRow)
authorizations = table_of(AuthorizationRow)
events = table_of(EventRow)
most_matches = 500
"""How many connections are looked at for each meaning that a text has."""
most_looked_at = 10_000
"""How many connections of one status or problem are looked at for a page of those that are something else as well; and
how many authorizations for a page of those at some step."""
most_events = 10_000
"""How many events are looked at for a page of one type."""
after_every_character = "\U0010ffff"
hexadecimal = re.compile(r"[0-9a-f]+")
streams = ("events", "records")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: after the row that was made then and has this id; before it if the page has newer rows."""

    at: datetime
    id: str
    is_newer: bool = False


@dataclass(frozen=True, slots=True)
class Meanings:
    """What a text may mean; of several, one is enough. None for what is not looked for.

    user_id, account_id: exactly.
    email, id_prefix: how it begins; an e-mail address in any case.
    """

    user_id: str | None = None
    account_id: str | None = None
    email: str | None = None
    id_prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """What all connections of a list have in common; `problem` "any" is any. None for no condition."""

    provider: str | None = None
    status: Status | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class EventFound:
    position: int
    event: StoredEvent
    created_at: datetime
    is_published: bool


class Search:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def connections(
        self, texts: Sequence[Meanings], conditions: Conditions, place: Place | None, limit: int
    ) -> tuple[Sequence[Connection], Place | None]:
        """Return up to `limit` connections that every text means, the newest first; those next to `place`. And the
        place that the search ended at; None if it came to the end of the list, or filled the page."""
        looked_at = None if texts else _find_candidates(conditions, place)
        source = connections if looked_at is None else looked_at
        query = select(*(source.c[name] for name in names_of(Connection))).where(*_conditions(conditions, source))
        query = query.where(*(source.c.id.in_(self._matches(each)) for each in texts))
        found = [to_connection(row) for row in self._page(query, source, place, limit)]
        return found, None if looked_at is None or len(found) == limit else self._find_end(looked_at, place)

    def _find_end(self, looked_at: Subquery, place: Place | None) -> Place | None:
        """Return the last place that was looked at; None if fewer were there than may be looked at."""
        last = _in_order(select(looked_at.c.created_at, looked_at.c.id), looked_at, place).offset(most_looked_at - 1)
        row = self.sql.execute(last.limit(1)).first()
        return None if row is None else Place(row.created_at, row.id, _is_newer(place))

    def is_cut(self, texts: Sequence[Meanings]) -> bool:
        """Return whether one of the texts means more connections than are looked at."""
        matches = [self._matches(each).limit(most_matches).subquery() for each in texts]
        counts = [self.sql.execute(select(func.count()).select_from(each)).scalar_one() for each in matches]
        return any(count >= most_matches for count in counts)

    def _matches(self, meanings: Meanings) -> Select[Any]:
        """Return the query of the ids that a text may mean.

        Each meaning is looked up by its own index, in a query of its own: of all in one condition PostgreSQL may think
        that it is met often, and read every connection in the order of the list.
        """
        table, own = connections, meanings
        looked_up = []
        if own.user_id is not None:
            looked_up.append(select(table.c.id).where(table.c.user_id == own.user_id))
        if own.account_id is not None:
            looked_up.append(select(table.c.id).where(table.c.account_id == own.account_id))
        if own.email is not None:
            looked_up.append(select(table.c.id).where(*self._begins_so(own.email)))
        if own.id_prefix is not None and hexadecimal.fullmatch(own.id_prefix):
            begins = select(table.c.id).where(table.c.id >= own.id_prefix, table.c.id < f"{own.id_prefix}g")
            looked_up.append(begins.order_by(table.c.id))
        elif own.id_prefix is not None:
            looked_up.append(select(table.c.id).where(table.c.id == own.id_prefix))
        each = [select(query.limit(most_matches).subquery().c.id) for query in looked_up]
        return select(union_all(*each).subquery().c.id)

    def _begins_so(self, email: str) -> Sequence[ColumnElement[bool]]:
        """Return the conditions of addresses that begin so, as their index compares them: byte by byte."""
        address = func.lower(connections.c.email)
        first, end = (func.lower(literal(each, Text)) for each in (email, email + after_every_character))
        least, most = ("~>=~", "~<~") if self.sql.dialect.name == "postgresql" else (">=", "<")
        return address.bool_op(least)(first), address.bool_op(most)(end)

    def authorizations(
        self, steps: Sequence[Step], user_id: str | None, place: Place | None, limit: int
    ) -> tuple[Sequence[Authorization], Place | None]:
        """Return up to `limit` authorizations at one of these steps, none of which is `connected`, the newest first;
        and the place that the search ended at, as `connections` does."""
        table = authorizations
        rows = select(*(table.c[name] for name in names_of(Authorization))).where(text("step <> 'connected'"))
        if user_id is not None:
            rows = rows.where(table.c.user_id == user_id)
        # Of those under way there may be few among very many that failed.
        looked_at = _from_place(rows, table, place, most_looked_at).subquery()
        query = select(looked_at).where(looked_at.c.step.in_([step.value for step in steps]))
        found = [to_authorization(row) for row in self._page(query, looked_at, None, limit)]
        return found, None if len(found) == limit else self._find_end(looked_at, place)

    def authorizations_of(self, connection_id: str, limit: int) -> Sequence[str]:
        """Return the ids of the newest authorizations that made or renewed this connection."""
        table = authorizations
        query = select(table.c.id).where(table.c.connection_id == connection_id)
        return list(self.sql.execute(query.order_by(table.c.created_at.desc()).limit(limit)).scalars())

    def _page(self, query: Select[Any], table: Table | Subquery, place: Place | None, limit: int) -> Sequence[Any]:
        rows = self.sql.execute(_from_place(query, table, place, limit)).all()
        return rows[::-1] if _is_newer(place) else rows

    def events(self, type_: str | None, before: int | None, limit: int) -> tuple[Sequence[EventFound], int | None]:
        """Return up to `limit` events from before a position, the newest first, and the position that the search
        ended at; None if it came to the oldest event."""
        looked_at = most_events if type_ is not None else limit
        recent = _events(events.c.position < before if before is not None else None, looked_at)
        if type_ is None:
            found = self._events(recent)
            return found, found[-1].position if len(found) == limit else None
        within = recent.subquery()
        found = self._events(
            select(within).where(within.c.type == type_).order_by(within.c.position.desc()).limit(limit)
        )
        if len(found) == limit:
            return found, found[-1].position
        oldest, number = self.sql.execute(select(func.min(within.c.position), func.count())).one()
        return found, oldest if number == looked_at else None

    def events_of(self, subject: str, before: int | None, limit: int) -> Sequence[EventFound]:
        """Return up to `limit` events of a connection, an authorization or a client, the newest first.

        Each stream is read by the index of sequence numbers, in which a later event of a subject has a later place.
        """
        each = []
        for stream in streams:
            of_it = (events.c.subject == subject) & (events.c.stream == stream)
            older = of_it if before is None else of_it & (events.c.position < before)
            by_number = select(*_event_columns()).where(older).order_by(events.c.sequence.desc()).limit(limit)
            each.append(select(by_number.subquery()))
        both = union_all(*each).subquery()
        return self._events(select(both).order_by(both.c.position.desc()).limit(limit))

    def _events(self, query: Select[Any]) -> Sequence[EventFound]:
        return [
            EventFound(position, StoredEvent(*entry), created_at, published_at is not None)
            for position, created_at, published_at, *entry in self.sql.execute(query)
        ]


def _event_columns() -> Sequence[ColumnElement[Any]]:
    names = ("position", "created_at", "published_at", *names_of(StoredEvent))
    return [events.c[name] for name in names]


def _events(condition: ColumnElement[bool] | None, limit: int) -> Select[Any]:
    query = select(*_event_columns())
    query = query if condition is None else query.where(condition)
    return query.order_by(events.c.position.desc()).limit(limit)


def _conditions(wanted: Conditions, source: Table | Subquery) -> list[Any]:
    """Return the conditions, with those of the partial indexes as they are written there."""
    found = list[Any]()
    if wanted.provider is not None:
        found.append(source.c.provider == wanted.provider)
    if wanted.status is not None:
        found.append(source.c.status == wanted.status.value)
        found += [] if wanted.status is Status.active else [text("status <> 'active'")]
    if wanted.problem is not None:
        found.append(text("problem IS NOT NULL"))
        found += [] if wanted.problem == "any" else [source.c.problem == wanted.problem]
    return found


def _find_candidates(wanted: Conditions, place: Place | None) -> Subquery | None:
    """Return the query of the connections that are looked at; None if those wanted have an index in the list's order.

    Each status but active, and each problem, has one. Of what is to be something else as well there may be none among
    very many: PostgreSQL knows how often each is met, and not how seldom both are.
    """
    if wanted.problem is not None:
        words = [each.value for each in Problem] if wanted.problem == "any" else [wanted.problem]
        each = [Conditions(problem=word) for word in words]
    elif wanted.status not in (None, Status.active):
        each = [Conditions(status=wanted.status)]
    else:
        return None
    if each == [wanted]:
        return None
    rows = select(*(connections.c[name] for name in names_of(Connection)))
    parts = [
        _from_place(rows.where(*_conditions(part, connections)), connections, place, most_looked_at).subquery()
        for part in each
    ]
    if len(parts) == 1:
        return parts[0]
    every = union_all(*(select(part) for part in parts)).subquery()
    return _in_order(select(every), every, place).limit(most_looked_at).subquery()


def _from_place(query: Select[Any], table: Table | Subquery, place: Place | None, limit: int) -> Select[Any]:
    """Return the query of up to `limit` rows next to a place, in the order in which the list is turned."""
    if place is not None:
        order = tuple_(table.c.created_at, table.c.id)
        start = tuple_(literal(place.at, UtcTime), literal(place.id, Text))
        query = query.where(order > start if place.is_newer else order < start)
    return _in_order(query, table, place).limit(limit)


def _in_order(query: Select[Any], table: Table | Subquery, place: Place | None) -> Select[Any]:
    order = (table.c.created_at, table.c.id)
    return query.order_by(*(order if _is_newer(place) else (column.desc() for column in order)))


def _is_newer(place: Place | None) -> bool:
    return place is not None and place.is_newer
