"""Who may see the operator's pages: a session in a cookie, made with OPERATOR_TOKEN; and only our own pages' forms."""

import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

import structlog
from limits import RateLimitItemPerMinute
from limits.strategies import FixedWindowRateLimiter
from starlette.requests import Request
from starlette.responses import Response

from models.audit.entry import Action, Entry, is_recorded
from models.crypto.secrets import Secret
from models.errors import SyncError
from models.store import Store
from worker.operator.session import form_token_of, is_session, is_token, lifetime, make_session
from worker.web.guard import BoundedStorage
from worker.web.protocol import block_of

failures_per_minute: Final = 10
counted_addresses: Final = 4096


@dataclass(frozen=True, slots=True)
class Session:
    """A session that is open; `form_token` goes into each of its forms."""

    form_token: str


@dataclass(slots=True, eq=False)
class SignIns:
    """The sessions of one token.

    An address that failed ten times in a minute is refused for the rest of it. `store` writes the audit; `now` is the
    fleet's time, which every process that knows the token measures a session's end by.
    """

    token: Secret
    store: Store
    now: Callable[[], datetime]
    refused: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    rate: RateLimitItemPerMinute = field(default_factory=lambda: RateLimitItemPerMinute(failures_per_minute))
    limiter: FixedWindowRateLimiter = field(
        default_factory=lambda: FixedWindowRateLimiter(BoundedStorage(counted_addresses))
    )

    def find(self, request: Request) -> Session | None:
        """Return the session of a request; None if it has none, or one that has ended."""
        value = request.cookies.get(_cookie_name(request), "")
        if not value or not is_session(self.token, value, self.now()):
            return None
        return Session(form_token_of(self.token, value))

    def is_blocked(self, request: Request) -> bool:
        """Return whether too many tries from this address failed."""
        with self.lock:
            return not self.limiter.test(self.rate, _block_of(request))

    def is_right(self, request: Request, given: str) -> bool:
        """Return whether this is the token; what is wrong is counted, and audited in a bounded number of lines."""
        if is_token(self.token, given):
            return True
        with self.lock:
            self.limiter.hit(self.rate, _block_of(request))
            self.refused += 1
            is_line = is_recorded(self.refused)
        if is_line:
            self._record(Action.operator_refused, request, {"refused": self.refused})
        return False

    def open(self, request: Request, response: Response) -> None:
        """Begin a session, for twelve hours at most."""
        self._record(Action.operator_signed_in, request, {})
        value = make_session(self.token, secrets.token_urlsafe(24), self.now())
        _set_cookie(request, response, value, round(lifetime.total_seconds()))

    def close(self, request: Request, response: Response) -> None:
        """End a session in this browser; another OPERATOR_TOKEN ends it everywhere."""
        _set_cookie(request, response, "", 0)

    def _record(self, action: Action, request: Request, detail: dict[str, object]) -> None:
        address = None if request.client is None else request.client.host
        try:
            with self.store.writing() as tx:
                tx.audit.add(Entry(action=action, address=address, detail=detail), tx.overview.time())
        except SyncError as error:
            if action is Action.operator_signed_in:
                raise
            structlog.get_logger("audit").warning("refusal.not_recorded", error=str(error))


def is_own_form(request: Request, session: Session, given: str) -> bool:
    """Return whether a form is one of this session's, sent by a page of ours."""
    return is_same_origin(request) and hmac.compare_digest(session.form_token.encode(), given.encode())


def is_same_origin(request: Request) -> bool:
    """Return whether a page of ours sent the form, as the browser says.

    Browsers send `Sec-Fetch-Site` over https and to this machine, and `Origin` with every form otherwise.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site == "same-origin"
    try:
        return origin is not None and urlsplit(origin).netloc == request.headers.get("host")
    except ValueError:
        return False


def _set_cookie(request: Request, response: Response, value: str, seconds: int) -> None:
    secure = "; Secure" if request.url.scheme == "https" else ""
    cookie = f"{_cookie_name(request)}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    response.raw_headers.append((b"set-cookie", cookie.encode("ascii")))


def _cookie_name(request: Request) -> str:
    """Return a name that over https no other host can set (RFC 6265bis, `__Host-`)."""
    return "__Host-breezesync-operator" if request.url.scheme == "https" else "breezesync-operator"


def _block_of(request: Request) -> str:
    return block_of("" if request.client is None else request.client.host)
