"""The rate limit of each provider's token endpoint; its row lock orders the whole fleet."""

from datetime import datetime

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import select, update

from models.oauth.token_rate_limit import Go, Pace, Purpose, WaitUntil, step
from models.store.dialect import insert_or_update
from models.store.rows import table_of
from models.store.tables import PaceRow

table = table_of(PaceRow)


class Paces:
    """The rate limits of all token endpoints."""

    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def get(self, provider: str) -> Pace:
        query = select(table.c.recent, table.c.paused_until).where(table.c.provider == provider)
        row = self.sql.execute(query).first()
        return Pace(tuple(datetime.fromisoformat(at) for at in row[0]), row[1]) if row else Pace()

    def take(self, provider: str, per_minute: int, purpose: Purpose, now: datetime) -> datetime | None:
        """Count one token request; return None if it may be sent now, else when to try again."""
        first = {"provider": provider, "recent": []}
        self.sql.execute(insert_or_update(self.sql, table, first, {"provider": provider}))
        match step(self.get(provider), per_minute, purpose, now):
            case Go(pace):
                recent = [at.isoformat() for at in pace.recent]
                statement = update(table).where(table.c.provider == provider)
                self.sql.execute(statement.values(recent=recent, paused_until=None))
                return None
            case WaitUntil(at):
                return at

    def pause(self, provider: str, until: datetime) -> None:
        """Send no request before then, after a 429. A longer pause is not shortened."""
        values = {"provider": provider, "recent": [], "paused_until": until}
        shorter = table.c.paused_until.is_(None) | (table.c.paused_until < until)
        self.sql.execute(insert_or_update(self.sql, table, values, {"paused_until": until}, shorter))
