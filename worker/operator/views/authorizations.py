"""Authorizations that made no connection (yet): those under way, and those that failed, with the reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from worker.operator.views.sources import Sources

Which = Literal["under_way", "failed"]
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
    """One page, the newest first; `older` is what the next page starts from, None if this is the last."""

    now: datetime
    which: Which | None
    user_id: str | None
    waiting: int
    rows: Sequence[AuthorizationLine]
    older: str | None


def load_authorizations(
    sources: Sources, which: Which | None = None, user_id: str | None = None, older_than: str | None = None
) -> AuthorizationsPage:
    """Load one page; `which` None means both kinds. Raises `UnreadablePlace`."""
    raise NotImplementedError
