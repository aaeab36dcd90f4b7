"""A flow on a thread of its own that stands still at each of its requests, until the test says what becomes of it."""

import threading
from collections.abc import Callable
from contextlib import contextmanager
from datetime import datetime
from queue import SimpleQueue
from typing import Any

from models.api_response import ApiOutcome, Failed, Page, Unauthorized
from models.errors import StoreUnavailable, SyncError
from models.http import HttpAnswer, NoAnswer
from models.oauth.refresh_policy import Patience
from models.oauth.token_response import GrantType, TokenOutcome, read_token_answer
from models.provider import Provider
from tests.harness import NoLimit
from tests.torture.credential_life.provider import ModelProvider, RefreshToken
from worker.provider.client import Called


class Killed(BaseException):
    """The process of this job is gone."""


class Job:
    """One job: only ever one thread of all runs, the job's or the test's, so that every run can be repeated."""

    def __init__(self, flow: Callable[[], None]) -> None:
        self.flow = flow
        self.at: str | None = None
        self.act: Callable[[], HttpAnswer] | None = None
        self.sent_at: datetime | None = None
        self.answer: HttpAnswer | None = None
        self.presented: RefreshToken | None = None
        self.error: Exception | None = None
        self.has_failed = False
        self.told: SimpleQueue[Callable[[], Any]] = SimpleQueue()
        self.stands: SimpleQueue[None] = SimpleQueue()
        self.thread = threading.Thread(target=self._run, daemon=True)
        current.jobs[self.thread] = self
        self.thread.start()
        self.stands.get()

    @property
    def is_over(self) -> bool:
        return self.at is None

    def stand(self, at: str) -> Any:
        """In the job's thread: waits for what the test decides."""
        self.at = at
        self.stands.put(None)
        decided = self.told.get()
        self.at = None
        return decided()

    def go_on(self, decided: Callable[[], Any]) -> None:
        """In the test's thread: lets the job run on to its next request, or its end."""
        self.told.put(decided)
        self.stands.get()

    def kill(self) -> None:
        def die() -> None:
            raise Killed

        self.go_on(die)

    def _run(self) -> None:
        try:
            self.flow()
        except (SyncError, Killed):
            self.has_failed = True
        except Exception as error:
            self.error = error
        finally:
            self.at = None
            current.jobs.pop(self.thread, None)
            self.stands.put(None)


class _Current:
    def __init__(self) -> None:
        self.jobs: dict[threading.Thread, Job] = {}

    def __call__(self) -> Job:
        return self.jobs[threading.current_thread()]


current = _Current()


class StandingClient:
    """Speaks to the model as `ProviderClient` speaks to a server; every request is a place to stand still."""

    def __init__(self, model: ModelProvider, now: Callable[[], datetime]) -> None:
        self.model = model
        self.now = now
        self.patience = Patience()

    @property
    def provider(self) -> Provider:
        return self.model.profile

    def refresh(self, client: Any, refresh_token: Any, scope: str, send_before: datetime) -> Called[TokenOutcome]:
        return self._send("refresh_token", lambda: self.model.present(refresh_token.reveal()), send_before)

    def exchange_code(
        self, client: Any, code: Any, verifier: Any, uri: str, send_before: datetime
    ) -> Called[TokenOutcome]:
        return self._send("authorization_code", lambda: self.model.exchange(code.reveal()), send_before)

    def probe(self, client: Any) -> Called[TokenOutcome]:
        answer: HttpAnswer | NoAnswer = current().stand("probing")
        return self._called("refresh_token", answer, self.now())

    def _send(self, grant: GrantType, act: Callable[[], HttpAnswer], send_before: datetime) -> Called[TokenOutcome]:
        job = current()
        refused: NoAnswer | HttpAnswer | None = job.stand("sending")
        if refused is None and self.now() >= send_before:
            refused = NoAnswer(False, "too late to send")
        if refused is not None:
            return self._called(grant, refused, self.now())
        job.act, job.sent_at, job.answer = act, self.now(), None
        answer: HttpAnswer | NoAnswer = job.stand("waiting")
        job.act = None
        return self._called(grant, answer, job.sent_at)

    def _called(self, grant: GrantType, answer: HttpAnswer | NoAnswer, at: datetime) -> Called[TokenOutcome]:
        status, sent = (answer.status, True) if isinstance(answer, HttpAnswer) else (0, answer.sent)
        return Called(read_token_answer(grant, answer, self.now()), at, "POST", "/token", status, 1, sent)

    def read_account(self, access_token: Any, account_id: str | None = None) -> Called[ApiOutcome]:
        knows: bool = current().stand("asking")
        token = access_token.reveal()
        if not knows:
            return Called(Failed("HTTP 500"), self.now(), "GET", "/me", 500, 1)
        outcome = Page(({"id": 1},), 1, 1, 1) if self.model.lets_in(token) else Unauthorized()
        return Called(outcome, self.now(), "GET", "/me", 200 if isinstance(outcome, Page) else 401, 1)

    def allow(self, account_id: str) -> NoLimit:
        return NoLimit()

    def read_page(self, resource: Any, path: str, asked: Any, access_token: Any, *unused: Any) -> Called[ApiOutcome]:
        return self.read_account(access_token)

    def revoke(self, client: Any, token: Any) -> None:
        return None


class Away:
    """A store that can be taken away: no transaction begins while it is."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.is_away = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    @contextmanager
    def writing(self) -> Any:
        self._look()
        with self.store.writing() as tx:
            yield tx

    @contextmanager
    def reading(self) -> Any:
        self._look()
        with self.store.reading() as tx:
            yield tx

    def _look(self) -> None:
        if self.is_away:
            raise StoreUnavailable("the database is away")
