"""The journal: what was decided about a connection and why, and every call that was made for it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Table, delete, insert, select, update

from models.store.rows import table_of
from models.store.tables import DecisionRow, RequestLogRow

decisions = table_of(DecisionRow)
requests = table_of(RequestLogRow)


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision: a verb in the past tense and its evidence."""

    at: datetime
    verb: str
    evidence: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Request:
    """One call made for a user; status 0 where no answer came.

    Before it is known whose connection it is for, a call stands under its authorization.
    """

    at: datetime
    connection_id: str
    method: str
    path: str
    status: int
    duration_ms: int


class Journal:
    def __init__(self, sql: SqlConnection) -> None:
        self.sql = sql

    def decide(self, subject: str, now: datetime, verb: str, **evidence: object) -> None:
        """Notes a decision about a connection or authorization in the transaction that carries it out."""
        kept = {name: value for name, value in evidence.items() if value not in (None, "")}
        self.sql.execute(insert(decisions).values(subject=subject, at=now, verb=verb, evidence=kept))

    def decisions_of(self, subject: str, limit: int = 50) -> Sequence[Decision]:
        """The newest decisions, the oldest of them first."""
        query = (
            select(decisions.c.at, decisions.c.verb, decisions.c.evidence)
            .where(decisions.c.subject == subject)
            .order_by(decisions.c.position.desc())
            .limit(limit)
        )
        return [Decision(*row) for row in reversed(self.sql.execute(query).all())]

    def names_message(self, subject: str, message_id: str) -> bool:
        """Whether something was decided about it because of this message."""
        of_message = decisions.c.evidence["message_id"].as_string() == message_id
        query = select(decisions.c.position).where(decisions.c.subject == subject, of_message)
        return self.sql.execute(query.limit(1)).first() is not None

    def log(self, calls: Sequence[Request]) -> None:
        if calls:
            self.sql.execute(insert(requests), [asdict(call) for call in calls])

    def hand_over(self, authorization_id: str, connection_id: str) -> None:
        """The calls of an authorization are its connection's from now on."""
        of_it = requests.c.connection_id == authorization_id
        self.sql.execute(update(requests).where(of_it).values(connection_id=connection_id))

    def calls_of(self, connection_id: str, limit: int = 20) -> Sequence[Request]:
        columns = [requests.c[name] for name in Request.__slots__]
        query = select(*columns).where(requests.c.connection_id == connection_id)
        rows = self.sql.execute(query.order_by(requests.c.position.desc()).limit(limit)).all()
        return [Request(*row) for row in reversed(rows)]

    def prune(self, before: datetime, limit: int) -> int:
        """Forgets up to `limit` requests and as many decisions from before then; how many of what there was most of."""
        return max(self._prune(table, before, limit) for table in (requests, decisions))

    def _prune(self, table: Table, before: datetime, limit: int) -> int:
        old = select(table.c.position).where(table.c.at < before).order_by(table.c.at).limit(limit)
        return self.sql.execute(delete(table).where(table.c.position.in_(old))).rowcount
