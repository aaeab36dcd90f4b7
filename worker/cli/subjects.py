"""Which connections or authorizations an operator means: by an id, by how that begins, by a user, or by conditions."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from models.oauth.authorization import Authorization
from models.oauth.connection import Connection
from models.store import Transaction
from models.store.search import Conditions, Place
from worker.cli.output import CommandFailed, NotFound

shortest_prefix = 4
most_named = 5
most_of_user = 20
most_searches = 10
"""How often a list is searched on where the search before it ended."""
first_moment: Final = datetime(1970, 1, 1, tzinfo=UTC)


def find_subject(tx: Transaction, text: str) -> Connection | Authorization:
    """Return what has this id, or the only one whose id begins so.

    Raises `NotFound`, or `CommandFailed` if several begin so.
    """
    found = tx.connections.get(text) or tx.authorizations.get(text)
    if found is not None:
        return found
    ids = _find_ids(tx, text)
    if len(ids) > 1:
        shown = ", ".join(ids[:most_named])
        raise CommandFailed(f"More than one id begins with {text}: {shown}{' …' if len(ids) > most_named else ''}.")
    found = next((tx.connections.get(each) or tx.authorizations.get(each) for each in ids), None)
    if found is None:
        short = (
            f" The beginning of an id has {shortest_prefix} characters or more." if len(text) < shortest_prefix else ""
        )
        raise NotFound(
            f"There is no connection {text}, and no authorization with that id.{short} "
            "List them with breezesync connections, and breezesync authorizations."
        )
    return found


def find_of_user(tx: Transaction, user: str) -> Sequence[Connection | Authorization]:
    """Return the user's connections or, if there are none, their newest authorization. Raises `NotFound`."""
    connections = tx.connections.find(user_id=user, limit=most_of_user)
    found: Sequence[Connection | Authorization] = connections or tx.authorizations.find(user, None, 1)
    if not found:
        raise NotFound(f"User {user} has no connection and no authorization. Did the user open a link?")
    return found


def _find_ids(tx: Transaction, prefix: str) -> Sequence[str]:
    if len(prefix) < shortest_prefix:
        return []
    most = most_named + 1
    return [*tx.connections.ids_that_begin(prefix, most), *tx.authorizations.ids_that_begin(prefix, most)]


def find_oldest(tx: Transaction, wanted: Conditions, limit: int) -> tuple[Sequence[Connection], bool]:
    """Return up to `limit` connections that meet the conditions, oldest first; and whether there may be more, because
    the search has looked at as many as it may.

    Each query looks at a bounded number (see `Search`), and the next one goes on where it ended.
    """
    found, place = list[Connection](), Place(first_moment, "", is_newer=True)
    for _ in range(most_searches):
        newest_first, end = tx.search.connections((), wanted, place, limit - len(found))
        found += reversed(newest_first)
        if end is None:
            return found, False
        place = end
    return found, True
