"""Endpoints of webhooks, and what each has yet to be sent."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Integer, bindparam, delete, func, insert, or_, select, update

from models.messaging import messages
from models.messaging.events import StoredEvent
from models.store.dialect import insert_of
from models.store.rows import names_of, table_of
from models.store.statement import Statement
from models.store.tables import EventRow, WebhookDeliveryRow, WebhookRow
from models.webhooks.delivery import Delivery, Listener, Waiting, trial_key
from models.webhooks.endpoint import Endpoint

table = table_of(WebhookRow)
deliveries = table_of(WebhookDeliveryRow)
stored_events = table_of(EventRow)
names = names_of(Endpoint)
delivery_names = names_of(Delivery)
health = ("paused_at", "is_gone", "failures", "failing_since", "retry_at", "delivered_at", "error")
"""What a worker writes of an endpoint."""
is_dead = deliveries.c.dead_at.is_not(None)
is_live = deliveries.c.due_at.is_not(None)
_event = [stored_events.c[name] for name in names_of(StoredEvent)]
_has_due = (
    select(deliveries.c.key)
    .where(deliveries.c.webhook_id == table.c.id, deliveries.c.due_at <= bindparam("now"))
    .exists()
)
_is_due = (
    table.c.paused_at.is_(None)
    & or_(table.c.retry_at.is_(None), table.c.retry_at <= bindparam("now"))
    & or_(table.c.claimed_until.is_(None), table.c.claimed_until <= bindparam("now"))
    & or_(table.c.lease_until.is_(None), table.c.lease_until <= bindparam("now"))
    & _has_due
)
due = select(table.c.id).where(_is_due)
"""The rule of `Endpoint.is_ready`, of those that have anything due, and one message at a time."""
_claim = Statement(update(table).where(_is_due).values(claimed_until=bindparam("until")).returning(table.c.id))
_listeners = Statement(select(table.c.id, table.c.types))
_lease = Statement(
    update(table)
    .where(
        table.c.id == bindparam("own_id"),
        table.c.paused_at.is_(None),
        or_(table.c.lease_until.is_(None), table.c.lease_until <= bindparam("now")),
    )
    .values(lease_owner=bindparam("owner"), lease_until=bindparam("until"))
)
_has_lease = Statement(
    select(table.c.id).where(
        table.c.id == bindparam("own_id"),
        table.c.lease_owner == bindparam("owner"),
        table.c.lease_until > bindparam("now"),
    )
)
_due_deliveries = Statement(
    select(*(deliveries.c[name] for name in delivery_names))
    .where(deliveries.c.webhook_id == bindparam("own_id"), deliveries.c.due_at <= bindparam("now"))
    .order_by(deliveries.c.due_at)
    .limit(bindparam("most", type_=Integer))
)


@dataclass(frozen=True, slots=True)
class Load:
    """How much an endpoint has yet to be sent: subjects that wait, since when the first has, and dead letters."""

    waiting: int = 0
    since: datetime | None = None
    dead: int = 0


class Webhooks:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def all(self) -> Sequence[Endpoint]:
        query = select(*(table.c[name] for name in names)).order_by(table.c.name)
        return [_to_endpoint(row) for row in self.sql.execute(query)]

    def names(self) -> Mapping[str, str]:
        """Return the name of each endpoint by its id."""
        return {row[0]: row[1] for row in self.sql.execute(select(table.c.id, table.c.name).order_by(table.c.name))}

    def get(self, webhook_id: str) -> Endpoint | None:
        return self._first(table.c.id == webhook_id)

    def named(self, name: str, *, lock: bool = False) -> Endpoint | None:
        return self._first(table.c.name == name, lock=lock)

    def _first(self, condition: Any, *, lock: bool = False) -> Endpoint | None:
        query = select(*(table.c[name] for name in names)).where(condition)
        row = self.sql.execute(query.with_for_update() if lock else query).first()
        return None if row is None else _to_endpoint(row)

    def add(self, endpoint: Endpoint) -> None:
        """Insert it. Raises `StoreConflict` when the transaction ends if its name is taken."""
        self.sql.execute(insert(table).values(**_values(endpoint, names)))

    def save(self, endpoint: Endpoint) -> None:
        """Write the whole endpoint, which the caller has locked."""
        self.sql.execute(update(table).where(table.c.id == endpoint.id).values(**_values(endpoint, names)))

    def remove(self, webhook_id: str) -> None:
        """Delete it with everything that it has yet to be sent."""
        self.sql.execute(delete(table).where(table.c.id == webhook_id))
        self._lock_deliveries(_of(webhook_id))
        self.sql.execute(delete(deliveries).where(deliveries.c.webhook_id == webhook_id))

    def listeners(self) -> Sequence[Listener]:
        return [Listener(row[0], tuple(row[1])) for row in _listeners.all(self.sql)]

    def add_deliveries(self, begun: Sequence[Delivery]) -> None:
        """Insert them; what is there already of a subject begins no later than before.

        Race: the worker that finds nothing more to send deletes the row at this moment. It has it locked and looks once
        more, so either it sees the new event, or this inserts the row again.
        """
        if not begun:
            return
        inserted = insert_of(self.sql.dialect.name, deliveries)
        least = func.least if self.sql.dialect.name == "postgresql" else func.min
        old, new = deliveries.c, inserted.excluded
        changes = {
            name: func.coalesce(least(old[name], new[name]), old[name], new[name])
            for name in ("events_from", "records_from", "published_from")
        }
        statement = inserted.on_conflict_do_update(index_elements=["webhook_id", "key"], set_=changes)
        self.sql.execute(statement, [_delivery_values(each) for each in begun])

    def claim(self, now: datetime, until: datetime) -> Sequence[messages.Message]:
        """Claim the endpoints that have anything due."""
        return [messages.deliver_webhooks(webhook_id) for (webhook_id,) in _claim.all(self.sql, now=now, until=until)]

    def void_claims(self) -> int:
        """Give back the claim of every endpoint."""
        statement = update(table).where(table.c.claimed_until.is_not(None))
        return self.sql.execute(statement.values(claimed_until=None)).rowcount

    def put_off(self, webhook_id: str, until: datetime) -> None:
        """Have the sweep send its next message not before then."""
        self.sql.execute(update(table).where(table.c.id == webhook_id).values(claimed_until=until))

    def lease(self, webhook_id: str, owner: str, now: datetime, until: datetime) -> Endpoint | None:
        """Make `owner` the only one that sends to it until then; None if another is, or if it is paused."""
        if not _lease.run(self.sql, own_id=webhook_id, owner=owner, now=now, until=until):
            return None
        return self.get(webhook_id)

    def release(self, webhook_id: str, owner: str, not_before: datetime | None = None) -> None:
        """End the owner's lease; the next message goes at once, or not before then."""
        statement = update(table).where(table.c.id == webhook_id, table.c.lease_owner == owner)
        self.sql.execute(statement.values(lease_owner=None, lease_until=None, claimed_until=not_before))

    def has_lease(self, webhook_id: str, owner: str, now: datetime) -> bool:
        return _has_lease.first(self.sql, own_id=webhook_id, owner=owner, now=now) is not None

    def lock_leased(self, webhook_id: str, owner: str, now: datetime) -> Endpoint | None:
        """Return the endpoint, locked; None if the owner's lease is over."""
        return self._first(
            (table.c.id == webhook_id) & (table.c.lease_owner == owner) & (table.c.lease_until > now), lock=True
        )

    def save_health(self, endpoint: Endpoint) -> None:
        """Write what deliveries show of an endpoint, which the caller has locked."""
        self.sql.execute(update(table).where(table.c.id == endpoint.id).values(**_values(endpoint, health)))

    def due_deliveries(self, webhook_id: str, now: datetime, most: int) -> Sequence[Delivery]:
        """Return what is due, the longest due first."""
        rows = _due_deliveries.all(self.sql, own_id=webhook_id, now=now, most=most)
        return [_to_delivery(row) for row in rows]

    def expired(self, webhook_id: str, before: datetime, most: int) -> Sequence[Delivery]:
        """Return what has waited since before then; no test."""
        overdue = _of(webhook_id) & is_live & (deliveries.c.waits_since <= before) & (deliveries.c.key != trial_key)
        query = _select_deliveries().where(overdue).order_by(deliveries.c.waits_since).limit(most)
        return [_to_delivery(row) for row in self.sql.execute(query)]

    def lock_delivery(self, delivery: Delivery) -> Delivery | None:
        query = _select_deliveries().where(_key_of(delivery)).with_for_update()
        row = self.sql.execute(query).first()
        return None if row is None else _to_delivery(row)

    def save_delivery(self, delivery: Delivery) -> None:
        """Write a delivery, which the caller has locked."""
        self.sql.execute(update(deliveries).where(_key_of(delivery)).values(**_delivery_values(delivery)))

    def put_delivery(self, delivery: Delivery) -> None:
        """Insert a dead letter or a test, or write the one that has its key again."""
        inserted = insert_of(self.sql.dialect.name, deliveries).values(**_delivery_values(delivery))
        changes = {name: inserted.excluded[name] for name in delivery_names if name not in ("webhook_id", "key")}
        self.sql.execute(inserted.on_conflict_do_update(index_elements=["webhook_id", "key"], set_=changes))

    def end_delivery(self, delivery: Delivery) -> bool:
        """Delete it: everything is sent. Return False if it was gone already."""
        return self.sql.execute(delete(deliveries).where(_key_of(delivery))).rowcount == 1

    def events_of(self, delivery: Delivery, most: int) -> Sequence[Waiting]:
        """Return the first events that it has yet to be sent, of whatever type, in the order of their publication.

        An event that is to be published again is left out: when it is, it is given to each endpoint again.
        """
        is_published = stored_events.c.published_at >= delivery.published_from
        query = select(*_event, stored_events.c.waits_since).where(is_published)
        if delivery.event_id is not None:
            query = query.where(stored_events.c.id == delivery.event_id)
        else:
            places = {"events": delivery.events_from, "records": delivery.records_from}
            parts = [
                (stored_events.c.stream == stream) & (stored_events.c.sequence >= first)
                for stream, first in places.items()
                if first is not None
            ]
            query = query.where(stored_events.c.subject == delivery.key, or_(*parts))
        rows = self.sql.execute(query.order_by(stored_events.c.position).limit(most))
        return [Waiting(StoredEvent(*row[:-1]), row[-1]) for row in rows]

    def wake(self, webhook_id: str, now: datetime) -> None:
        """Make due at once what waits for its next attempt: the endpoint is back."""
        later = _of(webhook_id) & (deliveries.c.due_at > now)
        self._lock_deliveries(later)
        self.sql.execute(update(deliveries).where(later).values(due_at=now))

    def _lock_deliveries(self, condition: Any) -> None:
        """Lock those of one endpoint in the order in which publishers do (see `route`): by their keys, byte by byte.

        Race: a publisher has one of them and waits for another, which whoever waits for the first has: a deadlock.
        """
        key = deliveries.c.key.collate("C") if self.sql.dialect.name == "postgresql" else deliveries.c.key
        self.sql.execute(select(deliveries.c.key).where(condition).order_by(key).with_for_update()).all()

    def letters(self, most: int | None = None) -> Sequence[Delivery]:
        """Return all dead letters, or the newest, the oldest first."""
        newest_first = (
            _select_deliveries().where(is_dead).order_by(deliveries.c.dead_at.desc(), deliveries.c.key.desc())
        )
        return [_to_delivery(row) for row in reversed(self.sql.execute(newest_first.limit(most)).all())]

    def letter(self, webhook_id: str, key: str, *, lock: bool = False) -> Delivery | None:
        """Return one dead letter."""
        query = _select_deliveries().where(_of(webhook_id), deliveries.c.key == key, is_dead)
        row = self.sql.execute(query.with_for_update() if lock else query).first()
        return None if row is None else _to_delivery(row)

    def trials(self) -> Mapping[str, Delivery]:
        """Return the last test of each endpoint that has one, by the endpoint's id."""
        query = _select_deliveries().where(deliveries.c.webhook_id == table.c.id, deliveries.c.key == trial_key)
        return {each.webhook_id: each for each in map(_to_delivery, self.sql.execute(query))}

    def loads(self) -> Mapping[str, Load]:
        """Return how much each endpoint has yet to be sent, by its id."""
        live = (
            select(deliveries.c.webhook_id, func.count(), func.min(deliveries.c.waits_since))
            .where(is_live)
            .group_by(deliveries.c.webhook_id)
        )
        dead = select(deliveries.c.webhook_id, func.count()).where(is_dead).group_by(deliveries.c.webhook_id)
        loads = {row[0]: Load(row[1], row[2]) for row in self.sql.execute(live)}
        for webhook_id, count in self.sql.execute(dead):
            before = loads.get(webhook_id, Load())
            loads[webhook_id] = Load(before.waiting, before.since, count)
        return loads

    def prune(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` dead letters from before then, whose events are gone, and of what an endpoint left that
        was removed while events were published."""
        orphaned = deliveries.c.webhook_id.not_in(select(table.c.id))
        old = select(deliveries.c.webhook_id, deliveries.c.key).where((deliveries.c.dead_at < before) | orphaned)
        keys = self.sql.execute(old.limit(limit)).all()
        return sum(
            self.sql.execute(
                delete(deliveries).where(deliveries.c.webhook_id == webhook_id, deliveries.c.key == key)
            ).rowcount
            for webhook_id, key in keys
        )


def _select_deliveries() -> Any:
    return select(*(deliveries.c[name] for name in delivery_names))


def _of(webhook_id: str) -> Any:
    return deliveries.c.webhook_id == webhook_id


def _key_of(delivery: Delivery) -> Any:
    return (deliveries.c.webhook_id == delivery.webhook_id) & (deliveries.c.key == delivery.key)


def _to_delivery(row: Iterable[Any]) -> Delivery:
    return Delivery(**dict(zip(delivery_names, row, strict=True)))


def _delivery_values(delivery: Delivery) -> dict[str, object]:
    return {name: getattr(delivery, name) for name in delivery_names}


def _to_endpoint(row: Iterable[Any]) -> Endpoint:
    values = dict(zip(names, row, strict=True))
    return Endpoint(**values | {"types": tuple(values["types"])})


def _values(endpoint: Endpoint, of: Collection[str]) -> dict[str, object]:
    values = {name: getattr(endpoint, name) for name in of}
    return values | ({"types": list(endpoint.types)} if "types" in values else {})
