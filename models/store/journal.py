"""The journal: what was decided about each connection and authorization, and every request made for it."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, bindparam, delete, select, update
from sqlalchemy import Connection as SqlConnection

from models.journal import Decision, Request, Verb
from models.store.appends import Appends
from models.store.audit import Audit
from models.store.request_batch import pack, unpack
from models.store.rows import table_of
from models.store.statement import InsertMany, Statement
from models.store.tables import AuthorizationRow, ConnectionRow, DecisionRow, RequestBatchRow

kept_decisions = 10
"""How many of the newest decisions stay for each connection and authorization, whatever their age."""

largest_difference = timedelta(hours=1)
"""How far the clocks of two machines may be apart for a search that is bounded by time."""

decisions = table_of(DecisionRow)
requests = table_of(RequestBatchRow)
_decide = InsertMany(decisions, ("subject", "at", "verb", "evidence"))
_log = InsertMany(requests, ("at", "connection_id", "calls"))
_of_message = decisions.c.evidence["message_id"].as_string() == bindparam("message_id")
_names_message = Statement(
    select(decisions.c.position).where(decisions.c.subject == bindparam("own_subject"), _of_message).limit(1)
)


class Journal:
    """The decisions and requests of one transaction's database."""

    def __init__(self, appends: Appends, audit: Audit) -> None:
        self.appends = appends
        self.audit = audit

    @property
    def sql(self) -> SqlConnection:
        return self.appends.sql

    def decide(self, subject: str, now: datetime, verb: Verb | str, **evidence: object) -> None:
        """Record a decision about a connection or authorization in the transaction that carries it out.

        If it concerns tokens, the audit gets a line (see `models/audit/entry.py`: `derived`).
        Raises `ValueError` if the verb is not a `Verb`.
        """
        kept = {name: value for name, value in evidence.items() if value not in (None, "")}
        self.appends.add(_decide, [{"subject": subject, "at": now, "verb": Verb(verb).value, "evidence": kept}])
        self.audit.follow(subject, Verb(verb), kept, now)

    def decisions_of(self, subject: str, limit: int = 50) -> Sequence[Decision]:
        """Return the newest `limit` decisions, oldest first."""
        query = (
            select(decisions.c.at, decisions.c.verb, decisions.c.evidence)
            .where(decisions.c.subject == subject)
            .order_by(decisions.c.position.desc())
            .limit(limit)
        )
        return [Decision(*row) for row in reversed(self.sql.execute(query).all())]

    def names_message(self, subject: str, message_id: str) -> bool:
        """Whether this message, or entry of the commands stream, already led to a decision about the subject."""
        return _names_message.first(self.sql, own_subject=subject, message_id=message_id) is not None

    def log(self, calls: Sequence[Request]) -> None:
        """Record requests that were made, as one row."""
        self.appends.add(_log, pack(calls))

    def hand_over(self, authorization_id: str, connection_id: str, since: datetime) -> None:
        """Move an authorization's requests to the connection that it became; it is from `since`, by another clock."""
        of_it = (requests.c.connection_id == authorization_id) & (requests.c.at >= since - largest_difference)
        self.sql.execute(update(requests).where(of_it).values(connection_id=connection_id))

    def calls_of(self, connection_id: str, limit: int = 20) -> Sequence[Request]:
        """Return the newest `limit` requests, oldest first."""
        columns = (requests.c.connection_id, requests.c.at, requests.c.calls)
        query = select(*columns).where(requests.c.connection_id == connection_id)
        rows = self.sql.execute(query.order_by(requests.c.position.desc()).limit(limit)).all()
        return [request for row in reversed(rows) for request in unpack(*row)][-limit:]

    def prune(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` rows of requests and as many decisions from before then; return the larger count.

        The newest `kept_decisions` of each stored connection and authorization stay, so that `explain` can always say
        how it came to its present state.
        """
        is_old = requests.c.at < before
        old_requests = select(requests.c.position).where(is_old).order_by(requests.c.at).limit(limit)
        deleting = delete(requests).where(is_old, requests.c.position.in_(old_requests))
        pruned_requests = self.sql.execute(deleting).rowcount
        old = select(decisions.c.position).where(decisions.c.at < before, _is_dispensable())
        chosen = old.order_by(decisions.c.at).limit(limit)
        pruned_decisions = self.sql.execute(delete(decisions).where(decisions.c.position.in_(chosen))).rowcount
        return max(pruned_requests, pruned_decisions)


def _is_dispensable() -> ColumnElement[bool]:
    """Whether a decision is older than the ones to keep, or its connection or authorization no longer exists."""
    newer = decisions.alias("newer")
    oldest_kept = (
        select(newer.c.position)
        .where(newer.c.subject == decisions.c.subject)
        .order_by(newer.c.position.desc())
        .offset(kept_decisions - 1)
        .limit(1)
        .correlate(decisions)
        .scalar_subquery()
    )
    subjects = (table_of(ConnectionRow), table_of(AuthorizationRow))
    # As values, and not with EXISTS: for that PostgreSQL may read every connection to look for a few of them.
    found = [
        select(table.c.id).where(table.c.id == decisions.c.subject).correlate(decisions).scalar_subquery()
        for table in subjects
    ]
    return (decisions.c.position < oldest_kept) | and_(*(each.is_(None) for each in found))
