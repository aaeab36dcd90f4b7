"""Refused links and callbacks in the audit, with the address they came from: a bounded number of them a minute."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from starlette.requests import Request

from models.audit.entry import Action, Entry, is_recorded
from models.clock import is_over
from models.errors import SyncError
from worker.web.callback import Callback
from worker.web.refusal import Refused


@dataclass(slots=True)
class RefusedRequests:
    """The refusals of this process, counted by the minute; a minute begins with the first refusal after the last one.

    began_at: when the present minute began.
    count: how many requests were refused in it.
    left_out: how many have got no line since the last line.
    """

    callback: Callback
    began_at: datetime | None = None
    count: int = 0
    left_out: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def recording(self, action: Action, request: Request) -> Iterator[None]:
        """Record the refusal that the block raises, and raise it again."""
        try:
            yield
        except Refused as refused:
            self._record(action, request, refused)
            raise

    def _record(self, action: Action, request: Request, refused: Refused) -> None:
        now = self.callback.now()
        left_out = self._count(now)
        if left_out is None:
            return
        name, about = request.path_params["provider"], refused.about
        reason = refused.reason or refused.title
        structlog.get_logger("web").warning(action.value, status=refused.status, reason=reason)
        entry = Entry(
            action=action,
            provider=name if name in self.callback.providers else None,
            user_id=None if about is None else about.user_id,
            authorization_id=None if about is None else about.id,
            address=address_of(request),
            detail={
                "status": refused.status,
                "reason": reason,
                "left_out": left_out or None,
            },
        )
        try:
            with self.callback.store.writing() as tx:
                tx.audit.add(entry, now)
        except SyncError as error:
            # The request is refused all the same; the next line says that this one is missing.
            self._leave_out(left_out + 1)
            structlog.get_logger("audit").warning("refusal.not_recorded", error=str(error))

    def _count(self, now: datetime) -> int | None:
        """Count a refusal; return how many were left out before it if it gets a line, else None."""
        with self.lock:
            if is_over(self.began_at, timedelta(minutes=1), now):
                self.began_at, self.count = now, 0
            self.count += 1
            if not is_recorded(self.count):
                self.left_out += 1
                return None
            left_out, self.left_out = self.left_out, 0
            return left_out

    def _leave_out(self, count: int) -> None:
        with self.lock:
            self.left_out += count


def address_of(request: Request) -> str | None:
    """Return the address that the request came from; None if the server does not know it."""
    return None if request.client is None else request.client.host
