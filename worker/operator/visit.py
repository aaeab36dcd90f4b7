"""What a page is given, and what the pages have to provide."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from worker.operator.views.sources import Sources


@dataclass(frozen=True, slots=True)
class Visit:
    """A request for a page by an operator who is signed in.

    request: with its path and query parameters; a page reads of these what it uses.
    sources: what the views are loaded from.
    form_token: goes into every form of the page as the hidden field `form_token`.
    root: what precedes a path below /operator to make it relative to this page: "" or "../".
    notice: what the action before this page did, one sentence; None if there was none.
    """

    request: Request
    sources: Sources
    form_token: str
    root: str
    notice: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a page or an action is refused: the HTTP status, what is wrong, and what to do; for people."""

    status: int
    title: str
    advice: str


@dataclass(frozen=True, slots=True)
class SignIn:
    """The form for signing in, which posts `token` and `to` to `{root}sign-in`.

    root: as of a visit.
    to: the path below /operator that was asked for, to be sent back as it is; "" for the overview.
    failure: why the last try failed, one sentence; None at the first.

    A browser that comes from another site does not send the cookie of a session: so the page has a link, too, to
    `{root}{to}` ("./" for the overview), for an operator who is signed in already.
    """

    root: str
    to: str
    failure: str | None = None


Page = Callable[[Visit], Response | None]
"""A page, or None if there is no such thing; each runs on a thread, and may raise `SyncError`."""


class Pages(Protocol):
    """The pages as HTML."""

    @property
    def pages(self) -> Mapping[str, Page]:
        """Return each page by its path below /operator, such as "" and "connections/{id}"."""
        ...

    @property
    def assets(self) -> Mapping[str, tuple[str, bytes]]:
        """Return the media type and the content of each file by its name, for /operator/assets/NAME; no session."""
        ...

    def sign_in(self, form: SignIn) -> Response:
        """Return the page with the form for signing in."""
        ...

    def refuse(self, root: str, refusal: Refusal) -> Response:
        """Return the page that says why a request was refused, with its status; the visitor may be anyone."""
        ...
