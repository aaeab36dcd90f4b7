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

    request: with its path and query parameters; the page need not check them for more than it uses.
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


Page = Callable[[Visit], Response]


class Pages(Protocol):
    """The pages as HTML. All run on a thread; each may raise `SyncError`, which becomes a refusal."""

    @property
    def pages(self) -> Mapping[str, Page]:
        """Return each page by its path below /operator, such as "" and "connections/{id}"."""
        ...

    @property
    def assets(self) -> Mapping[str, tuple[str, bytes]]:
        """Return the media type and the content of each file by its name, for /operator/assets/NAME; no session."""
        ...

    def sign_in(self, root: str, failure: str | None) -> Response:
        """Return the page with the form that posts `token` to sign-in; `failure` says why the last try failed."""
        ...

    def refuse(self, root: str, refusal: Refusal, is_signed_in: bool) -> Response:
        """Return the page that says why a request was refused, with its status."""
        ...
