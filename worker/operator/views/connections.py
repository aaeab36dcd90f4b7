"""The list of connections: searched, filtered, and turned page by page in both directions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from models.oauth.connection import Connection
from worker.operator.views.sources import Sources

rows_of_page = 50


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for; None for no condition.

    text: a user's id, an account's id, how an e-mail address begins in any case, or how a connection's id begins.
    user_id, account_id, email, id_prefix: only that one of them.
    provider, status, problem: exactly so; `problem` is a word of `Problem`, or "any" for any.
    older_than, newer_than: a page's `older` or `newer`; at most one of them.
    """

    text: str | None = None
    user_id: str | None = None
    account_id: str | None = None
    email: str | None = None
    id_prefix: str | None = None
    provider: str | None = None
    status: str | None = None
    problem: str | None = None
    older_than: str | None = None
    newer_than: str | None = None


@dataclass(frozen=True, slots=True)
class ConnectionLine:
    """A connection in the list; `state` says in words what status and problem mean."""

    connection: Connection
    state: str


@dataclass(frozen=True, slots=True)
class ConnectionsPage:
    """One page, the newest connection first; `newer` and `older` are what the next pages start from, if there are any.

    providers, statuses, problems: what can be chosen from.
    """

    now: datetime
    search: Search
    rows: Sequence[ConnectionLine]
    newer: str | None
    older: str | None
    providers: Sequence[str]
    statuses: Sequence[str]
    problems: Sequence[str]


class UnreadablePlace(ValueError):
    """`older_than` or `newer_than` is not what a page gave out."""


def load_connections(sources: Sources, search: Search) -> ConnectionsPage:
    """Load one page. Raises `UnreadablePlace`."""
    raise NotImplementedError
