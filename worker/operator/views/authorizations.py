"""Authorizations that made no connection (yet): those under way, and those that failed, with the reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from models.oauth.authorization import Authorization, Step, failed_steps, open_steps
from models.store.search import Place
from worker.operations.next_steps import describe_next_of_authorization
from worker.operations.story import describe_step
from worker.operator.views.places import can_be_stored, read_place, write_place
from worker.operator.views.sources import Sources

Which = Literal["under_way", "failed"]
steps_of: Final[dict[Which | None, tuple[Step, ...]]] = {
    "under_way": open_steps,
    "failed": failed_steps,
    None: open_steps + failed_steps,
}
rows_of_page = 50


@dataclass(frozen=True, slots=True)
class AuthorizationLine:
    """An authorization in the list; `state` says in words how far it is, `next_step` what happens next."""

    id: str
    user_id: str
    provider: str
    step: str
    state: str
    next_step: str
    created_at: datetime
    expires_at: datetime
    attempts: int
    reason: str | None
    description: str | None


@dataclass(frozen=True, slots=True)
class AuthorizationsPage:
    """One page, the newest first; `older` is what the next page starts from, None if this is the last.

    waiting: how many authorizations in all have a code that is not exchanged yet.
    is_cut: whether the search ended before it filled the page; `older` goes on.
    """

    now: datetime
    which: Which | None
    user_id: str | None
    waiting: int
    rows: Sequence[AuthorizationLine]
    older: str | None
    is_cut: bool


def load_authorizations(
    sources: Sources, which: Which | None = None, user_id: str | None = None, older_than: str | None = None
) -> AuthorizationsPage:
    """Load one page; `which` None means both kinds. Raises `UnreadablePlace`."""
    place = None if older_than is None else read_place(older_than)
    is_possible = user_id is None or can_be_stored(user_id)
    with sources.store.reading() as tx:
        now = tx.overview.time()
        waiting = tx.overview.authorizations_waiting()
        steps = steps_of[which]
        found, end = tx.search.authorizations(steps, user_id, place, rows_of_page + 1) if is_possible else ([], None)
    rows = found[:rows_of_page]
    last = Place(rows[-1].created_at, rows[-1].id) if len(found) > rows_of_page else end
    return AuthorizationsPage(
        now=now,
        which=which,
        user_id=user_id,
        waiting=waiting,
        rows=[_line_of(each, now) for each in rows],
        older=None if last is None else write_place(last.at, last.id),
        is_cut=end is not None,
    )


def _line_of(found: Authorization, now: datetime) -> AuthorizationLine:
    return AuthorizationLine(
        id=found.id,
        user_id=found.user_id,
        provider=found.provider,
        step=found.step.value,
        state=describe_step(found),
        next_step=describe_next_of_authorization(found, now)[0],
        created_at=found.created_at,
        expires_at=found.expires_at,
        attempts=found.attempts,
        reason=found.reason,
        description=found.description,
    )
