"""Authorizations: added, found by their state or their browser, saved."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import bindparam, delete, or_, select, update

from models.oauth.authorization import Authorization, Confirmation, Step
from models.store.appends import Appends
from models.store.dialect import insert_of
from models.store.rows import begun_ids, from_authorization, names_of, table_of, to_authorization
from models.store.statement import Statement
from models.store.tables import AuthorizationRow

table = table_of(AuthorizationRow)
names = names_of(Authorization)
columns = [table.c[name] for name in names]
_get = Statement(select(*columns).where(table.c.id == bindparam("own_id")))
_lock = Statement(select(*columns).where(table.c.id == bindparam("own_id")).with_for_update())
_lock_by_state = Statement(select(*columns).where(table.c.state_hash == bindparam("own_hash")).with_for_update())
_by_link = Statement(select(*columns).where(table.c.link_hash == bindparam("own_hash")))
_insert = Statement(
    lambda dialect: insert_of(dialect, table).inline().on_conflict_do_nothing(index_elements=["link_hash"]),
    (*names, "link_hash"),
)
_save = Statement(update(table).where(table.c.id == bindparam("own_id")), (*names, "claimed_until"))
_of_received = ("step", "code", "code_received_at", "code_seconds", "due_at", "confirmation_hash")
"""What `receive_code` changes."""
_save_received = Statement(update(table).where(table.c.id == bindparam("own_id")), (*_of_received, "claimed_until"))


class Authorizations:
    def __init__(self, appends: Appends) -> None:
        self.appends = appends

    @property
    def sql(self) -> SqlConnection:
        return self.appends.sql_after_writes

    def add(self, authorization: Authorization, link_hash: str) -> bool:
        """Add it; False if the link with this hash began one before."""
        values = from_authorization(authorization) | {"link_hash": link_hash}
        return _insert.run(self.sql, **values) == 1

    def get(self, authorization_id: str) -> Authorization | None:
        return _one(_get.first(self.sql, own_id=authorization_id))

    def lock(self, authorization_id: str) -> Authorization | None:
        return _one(_lock.first(self.sql, own_id=authorization_id))

    def lock_by_state(self, state_hash: str) -> Authorization | None:
        return _one(_lock_by_state.first(self.sql, own_hash=state_hash))

    def by_link(self, link_hash: str) -> Authorization | None:
        """Return the authorization that the link with this hash began."""
        return _one(_by_link.first(self.sql, own_hash=link_hash))

    def newest_of_browser(self, provider: str, browser_hashes: Collection[str], now: datetime) -> Authorization | None:
        """Return the newest authorization with which a browser is at the provider, for an answer without `state`."""
        query = select(*columns).where(
            table.c.provider == provider,
            table.c.browser_hash.in_(browser_hashes),
            table.c.step == Step.started.value,
            or_(table.c.confirmation != Confirmation.page.value, table.c.confirmed_at.is_not(None)),
            table.c.expires_at > now,
        )
        return _one(self.sql.execute(query.order_by(table.c.created_at.desc()).limit(1)).first())

    def find(self, user_id: str | None, step: Step | None, limit: int) -> list[Authorization]:
        """Return up to `limit` authorizations, the newest first; without a step those that made no connection."""
        chosen = table.c.step != Step.connected.value if step is None else table.c.step == step.value
        query = select(*columns).where(chosen)
        if user_id is not None:
            query = query.where(table.c.user_id == user_id)
        rows = self.sql.execute(query.order_by(table.c.created_at.desc(), table.c.id).limit(limit))
        return [to_authorization(row) for row in rows]

    def ids_that_begin(self, prefix: str, limit: int) -> Sequence[str]:
        """Return up to `limit` ids of authorizations that begin so, in order."""
        return begun_ids(self.sql, table.c.id, prefix, limit)

    def prune(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` attempts from before then that made no connection; a connection's own stay."""
        steps = [Step.denied.value, Step.failed.value]
        old = select(table.c.id).where(table.c.created_at < before, table.c.step.in_(steps))
        chosen = old.order_by(table.c.created_at).limit(limit)
        return self.sql.execute(delete(table).where(table.c.id.in_(chosen))).rowcount

    def save(self, authorization: Authorization) -> None:
        """Write the whole authorization; the caller has locked its row."""
        values = from_authorization(authorization) | {"claimed_until": None}
        _save.run(self.sql, own_id=authorization.id, **values)

    def save_received(self, authorization: Authorization) -> None:
        """Write what the code's arrival changed, together with the audit; the caller has locked the row."""
        values = {name: getattr(authorization, name) for name in _of_received}
        values |= {"step": authorization.step.value, "claimed_until": None}
        self.appends.write(_save_received, own_id=authorization.id, **values)


def _one(row: Iterable[Any] | None) -> Authorization | None:
    return to_authorization(row) if row else None
