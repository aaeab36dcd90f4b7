"""The list of connections: searched, filtered, and turned page by page in both directions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final

from models.journal import Problem
from models.oauth.connection import Connection, Status
from models.store import Transaction
from models.store.search import Conditions, Meanings, Place
from worker.operations.story import describe_state
from worker.operator.views.places import can_be_stored, read_place, write_place
from worker.operator.views.sources import Sources

rows_of_page = 50
any_problem = "any"


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

    is_cut: whether the search looked at as many connections as it may: then the list may lack some of what a text
        means, or goes on with `older`.
    providers, statuses, problems: what can be chosen from.
    """

    now: datetime
    search: Search
    rows: Sequence[ConnectionLine]
    newer: str | None
    older: str | None
    is_cut: bool
    providers: Sequence[str]
    statuses: Sequence[str]
    problems: Sequence[str]


parameter_of: Final = {field.name: "q" if field.name == "text" else field.name for field in fields(Search)}
search_parameters: Final = frozenset(parameter_of.values())


def read_search(parameters: Mapping[str, str]) -> Search:
    """Return the search of a query: `q` is the text, the others have the names of `Search`; an empty one is none."""
    return Search(**{field: parameters.get(name) or None for field, name in parameter_of.items()})


def load_connections(sources: Sources, search: Search) -> ConnectionsPage:
    """Load one page; what no connection can be finds none. Raises `UnreadablePlace`."""
    place = _find_place(search)
    with sources.store.reading() as tx:
        now = tx.overview.time()
        found, place, end = _find(tx, search, place) if is_possible(search) else ([], None, None)
        is_cut = end is not None or _is_cut(tx, search)
        providers = {client.provider for client in tx.clients.all()} | set(sources.providers)
    rows, newer, older = turn(found, place, end)
    return ConnectionsPage(
        now=now,
        search=search,
        rows=[ConnectionLine(each, describe_state(each)) for each in rows],
        newer=newer,
        older=older,
        is_cut=is_cut,
        providers=sorted(providers),
        statuses=[status.value for status in Status],
        problems=[problem.value for problem in Problem],
    )


def _find(
    tx: Transaction, search: Search, place: Place | None
) -> tuple[Sequence[Connection], Place | None, Place | None]:
    """Return a page with one row more if there is one, where it begins, and where the search ended if it was cut.

    Newer rows that fill no page are shown as the first page.
    """
    texts = find_meanings(search)
    status = None if search.status is None else Status(search.status)
    conditions = Conditions(search.provider, status, search.problem)
    found, end = tx.search.connections(texts, conditions, place, rows_of_page + 1)
    if place is not None and place.is_newer and len(found) <= rows_of_page:
        place = None
        found, end = tx.search.connections(texts, conditions, None, rows_of_page + 1)
    return found, place, end


def _is_cut(tx: Transaction, search: Search) -> bool:
    texts = find_meanings(search)
    return bool(texts) and is_possible(search) and tx.search.is_cut(texts)


def find_meanings(search: Search) -> Sequence[Meanings]:
    """Return what each text of the search may mean; a connection has to be meant by all of them."""
    text = search.text
    found = [Meanings(text, text, text, text.lower())] if text is not None else []
    own = {name: getattr(search, name) for name in ("user_id", "account_id", "email", "id_prefix")}
    return [*found, *(Meanings(**{name: value}) for name, value in own.items() if value is not None)]


def is_possible(search: Search) -> bool:
    """Return whether a connection could be all this."""
    texts = (search.text, search.user_id, search.account_id, search.email, search.id_prefix, search.provider)
    is_status = search.status is None or search.status in set(Status)
    is_problem = search.problem is None or search.problem == any_problem or search.problem in set(Problem)
    return is_status and is_problem and all(can_be_stored(each) for each in texts if each is not None)


def _find_place(search: Search) -> Place | None:
    """Raises `UnreadablePlace`."""
    if search.newer_than is not None:
        return read_place(search.newer_than, is_newer=True)
    return None if search.older_than is None else read_place(search.older_than)


def turn(
    found: Sequence[Connection], place: Place | None, end: Place | None = None
) -> tuple[Sequence[Connection], str | None, str | None]:
    """Return the rows of a page, and where the pages of newer and older rows begin.

    `found` has one row more than a page if there are more in the direction that it was turned in. `end` is where the
    search ended, if it looked no further: older ones go on there.
    """
    is_newer = place is not None and place.is_newer
    is_more = len(found) > rows_of_page
    rows = found[-rows_of_page:] if is_newer and is_more else found[:rows_of_page]
    after = None if end is None else write_place(end.at, end.id)
    if not rows:
        return rows, None, after
    first, last = (write_place(each.created_at, each.id) for each in (rows[0], rows[-1]))
    has_newer, has_older = (is_more, True) if is_newer else (place is not None, is_more)
    return rows, first if has_newer else None, last if has_older else after
