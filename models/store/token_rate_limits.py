"""The rate limit of each provider's token endpoint; its row lock orders the whole fleet."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Integer, String, bindparam, null, or_, select, text, update
from sqlalchemy import Connection as SqlConnection
from sqlalchemy.sql.base import Executable

from models.oauth.token_rate_limit import Pace, Purpose, WaitUntil, count_allowed, second_of, step, window
from models.store.dialect import insert_of, insert_or_update
from models.store.driver import begin_again, end
from models.store.rows import table_of
from models.store.statement import Statement
from models.store.tables import PaceRow

table = table_of(PaceRow)
wait_if_contended = timedelta(seconds=1)
attempts = 3

_each = {"postgresql": "jsonb_each", "sqlite": "json_each"}
_collect = {"postgresql": "jsonb_object_agg", "sqlite": "json_group_object"}
_own_count = "json{b}_{build}object(:key, 1 + coalesce((SELECT CAST(value AS INTEGER) {all} WHERE key = :key), 0))"


def _build_take(dialect: str) -> Executable:
    """Return `step` as one statement, which changes no row if the request has to wait."""
    is_postgres = dialect == "postgresql"
    counted = f"FROM {_each[dialect]}(pace.counts)"
    recent = f"{counted} WHERE CAST(key AS BIGINT) > :oldest"
    own = _own_count.format(b="b" if is_postgres else "", build="build_" if is_postgres else "", all=counted)
    kept = f"coalesce((SELECT {_collect[dialect]}(key, value) {recent}), '{{}}')"
    counts = f"{kept} || {own}" if is_postgres else f"json_patch({kept}, {own})"
    has_room = f":allowed IS NULL OR (SELECT coalesce(sum(CAST(value AS INTEGER)), 0) {recent}) < :allowed"
    is_paused = table.c.paused_until > bindparam("now")
    statement = update(table).where(
        table.c.provider == bindparam("own_provider"),
        or_(table.c.paused_until.is_(None), ~is_paused),
        _typed(f"({has_room})", oldest=BigInteger, allowed=Integer),
    )
    return statement.values(counts=_typed(counts, key=String, oldest=BigInteger), paused_until=null())


def _typed(expression: str, **types: Any) -> Any:
    return text(expression).bindparams(*(bindparam(name, type_=kind) for name, kind in types.items()))


_take = Statement(_build_take)
_get = Statement(select(table.c.counts, table.c.paused_until).where(table.c.provider == bindparam("own_provider")))
_add = Statement(lambda dialect: insert_of(dialect, table).on_conflict_do_nothing(), ("provider", "counts"))


class Paces:
    """The rate limits of all token endpoints.

    `is_alone` is whether the transaction does nothing else than to count: then it ends with that, because the whole
    fleet waits for it. Another one has locks of its own to keep.
    """

    def __init__(self, sql: SqlConnection, is_alone: bool) -> None:
        self.sql = sql
        self.is_alone = is_alone

    def get(self, provider: str) -> Pace:
        row = _get.first(self.sql, own_provider=provider)
        return Pace({int(second): count for second, count in row[0].items()}, row[1]) if row else Pace()

    def take(self, provider: str, per_minute: int, purpose: Purpose, now: datetime) -> datetime | None:
        """Count one token request; return None if it may be sent now, else when to try again.

        The whole fleet waits for this row until the transaction ends: nothing else should wait in it.
        """
        second = second_of(now)
        counted = {"key": str(second), "oldest": second - window, "allowed": count_allowed(per_minute, purpose)}
        for _ in range(attempts):
            taken = _take.put(self.sql, own_provider=provider, now=now, **counted)
            if self.is_alone:
                end(self.sql)
            if taken.count == 1:
                return None
            if self.is_alone:
                begin_again(self.sql)
            stepped = step(self.get(provider), per_minute, purpose, now)
            if isinstance(stepped, WaitUntil):
                return stepped.at
            # Either this is the provider's first request, or another one has changed the row since.
            _add.run(self.sql, provider=provider, counts={})
        return now + wait_if_contended

    def pause(self, provider: str, until: datetime) -> None:
        """Send no request before then, after a 429. A longer pause is not shortened."""
        values = {"provider": provider, "counts": {}, "paused_until": until}
        shorter = table.c.paused_until.is_(None) | (table.c.paused_until < until)
        self.sql.execute(insert_or_update(self.sql, table, values, {"paused_until": until}, shorter))
