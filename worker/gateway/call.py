"""A call to the provider's API: admitted, recorded, sent, its answer passed on, and once again with a newer token."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Final

import httpx
import structlog
from starlette.types import Send

from models.api_response import Throttled, Unauthorized, read_api_answer, read_remaining
from models.audit.entry import Action
from models.gateway.access import usable
from models.gateway.headers import Headers, headers_of_call, json_first, to_caller
from models.gateway.keys import GatewayKey, safe_methods
from models.gateway.problems import Problem, ProblemType, Refusal, refuse
from models.http import HttpAnswer
from models.journal import Request
from models.oauth.access_refusal import Final as NotRefreshable
from models.oauth.access_refusal import Known, Superseded
from models.paging.page_format import PageAsked, PageFormat
from models.rate_limit import Wait
from worker.gateway.body import Body, CallerGone, Departure
from worker.gateway.desk import Admission, Done, Noted, Wish
from worker.gateway.office import Office
from worker.gateway.transport import timeout
from worker.provider.client import user_agent
from worker.provider.rate_limit import Granted, Settlement
from worker.provider.transport import parse_base
from worker.tracing.spans import Facts, SpanName, Traces

longest_call: Final = 60.0
longest_answer: Final = 50 << 20
longest_refusal: Final = 64 << 10
"""Bytes of a 401 that are looked at before it is passed on."""
never_sent: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
"""What shows that nothing of a request has left."""
broken_connections: Final = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
source: Final = (b"breezesync-source", b"provider")
usual_headers: Final = ((b"Accept", json_first), (b"User-Agent", user_agent.encode()))
"""Of a call that does not say them, unless the profile does."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What an application asks to be sent; `target` follows the path of `api_url`, `path` is its part without query."""

    key: GatewayKey
    connection_id: str
    method: str
    target: bytes
    path: str
    headers: Headers
    body: Body
    address: str | None = None


@dataclass(slots=True)
class Attempt:
    """One request to the provider, and what is known of it so far.

    may_have_arrived: whether it may have reached the provider.
    status: of the answer; 0 while there is none.
    """

    admission: Admission
    granted: Granted
    at: datetime
    started: float
    may_have_arrived: bool = False
    status: int = 0
    remaining: int | None = None
    pause: float = 0


@dataclass(slots=True)
class Call:
    """One call; `send` is the way back to its caller."""

    office: Office
    ask: Ask
    send: Send
    traces: Traces = field(default_factory=Traces)
    has_begun: bool = False
    """Whether an answer is on its way to the caller: then no problem can be told any more."""
    attempts: list[Attempt] = field(default_factory=list)
    departure: Departure = field(init=False)

    def __post_init__(self) -> None:
        """Make what notices that the caller leaves."""
        self.departure = Departure(self.ask.body.receive)

    async def __call__(self) -> str:
        """Carry it out; return a word for what came of it. Raises `Refusal` if nothing was answered yet."""
        if self.ask.body.is_whole:
            self.departure.watch()
        try:
            async with asyncio.timeout(longest_call):
                return await self._carry_out()
        except TimeoutError:
            return self._cut("timed_out", f"The provider did not answer within {longest_call:.0f} s.")
        except httpx.HTTPError as error:
            return self._cut("broken_off", f"The provider's answer did not come ({type(error).__name__}).")
        except CallerGone:
            return "caller_gone"
        finally:
            self.departure.stop()
            for attempt in self.attempts:
                self._finish(attempt)

    async def _carry_out(self) -> str:
        ask = self.ask
        noted = Noted(Action.call_made, {"method": ask.method, "path": ask.path}, ask.address)
        wish = Wish(ask.key, ask.connection_id, usable, reserves=True, noted=noted)
        first = self._begin(await self.office.admit(wish))
        wish = replace(wish, noted=None)
        try:
            response = await self._send(first)
        except broken_connections:
            # Race: the provider closed a connection that was kept open, just as the call left on it.
            if ask.method not in safe_methods or not ask.body.is_whole:
                raise
            first = self._begin(await self.office.admit_again(wish))
            response = await self._send(first)
        try:
            if response.status_code != 401:
                return await self._pass_on(response, response.stream.__aiter__())  # type: ignore[union-attr]
            beginning, rest = await self._look_at(response)
            if not self._is_refusal(response, beginning):
                return await self._pass_on(response, rest, beginning)
            if not await self._replace_token(first):
                return await self._pass_on(response, rest, beginning)
        finally:
            await response.aclose()
        return await self._send_again(wish)

    async def _send_again(self, wish: Wish) -> str:
        """Send the call with the newer token; whatever is answered now is the answer."""
        second = self._begin(await self.office.admit_again(wish))
        response = await self._send(second)
        try:
            beginning, rest = await self._look_at(response)
            if self._is_refusal(response, beginning):
                generation = second.admission.access.connection.generation
                await self.office.run(self.office.desk.refuse, self.ask.connection_id, generation)
            return await self._pass_on(response, rest, beginning)
        finally:
            await response.aclose()

    def _begin(self, admission: Admission) -> Attempt:
        """Return an attempt for which a request is reserved. Raises `Refusal`."""
        granted = admission.granted
        if not isinstance(granted, Granted):
            seconds = granted.seconds if isinstance(granted, Wait) else 1
            raise refuse(ProblemType.rate_limited, "The account's requests of this minute are used up.", seconds)
        attempt = Attempt(admission, granted, self.office.desk.now(), monotonic())
        self.attempts.append(attempt)
        return attempt

    async def _send(self, attempt: Attempt) -> httpx.Response:
        """Return the answer when its headers are here, and note what they say."""
        ask, token = self.ask, attempt.admission.token
        profile = self.office.profile(attempt.admission.access.connection)
        url, base = parse_base(profile.api_url)
        if token is None:
            raise AssertionError("a call was admitted without a token")
        usual = profile.headers_with(usual_headers)
        request = httpx.Request(
            ask.method,
            url,
            headers=headers_of_call(ask.headers, usual, url.netloc, profile.authorization(token), ask.body.headers()),
            stream=ask.body.stream(),
            extensions={"timeout": timeout, "target": base + ask.target},
        )
        try:
            # While a long body is on its way, reading it shows that its caller has left.
            async with self.departure.heeded() if ask.body.is_whole else nullcontext():
                attempt.started, attempt.may_have_arrived = monotonic(), True
                response = await self.office.transport.send(request)
        except never_sent:
            attempt.may_have_arrived = False
            raise
        self.departure.watch()
        attempt.status = response.status_code
        attempt.remaining = read_remaining(response.headers)
        if response.status_code == 429:
            outcome = read_api_answer(_answer(response, b""), PageFormat(), PageAsked(), self.office.desk.now())
            attempt.pause = outcome.retry_after.total_seconds() if isinstance(outcome, Throttled) else 0
        return response

    async def _look_at(self, response: httpx.Response) -> tuple[bytes, AsyncIterator[bytes]]:
        """Read as much of the answer as shows whether the API itself refuses the token."""
        rest, read = response.stream.__aiter__(), b""  # type: ignore[union-attr]
        if response.status_code == 401:
            async with self.departure.heeded():
                async for chunk in rest:
                    read += chunk
                    if len(read) > longest_refusal:
                        break
        return read, rest

    def _is_refusal(self, response: httpx.Response, beginning: bytes) -> bool:
        outcome = read_api_answer(_answer(response, beginning), PageFormat(), PageAsked(), self.office.desk.now())
        return isinstance(outcome, Unauthorized)

    async def _replace_token(self, attempt: Attempt) -> bool:
        """Report a 401; return whether the call can be sent with a newer token. Raises `Refusal`.

        A 401 says that the call was not carried out, so every method may be sent again if the body is still here.
        """
        office, connection = self.office, attempt.admission.access.connection
        refusal = await office.run(office.desk.refuse, connection.id, connection.generation)
        try:
            if refusal is None or isinstance(refusal, NotRefreshable):
                await office.await_end(connection, office.wait_seconds)
                return False
            if isinstance(refusal, Known) and not refusal.is_same:
                return False
            # Race: of the calls that meet one dead token the first forces the refresh; all wait for it.
            if not isinstance(refusal, Superseded):
                await office.await_newer(connection, office.wait_seconds)
        except Refusal as ended:
            raise Refusal(replace(ended.problem, is_unsent=True)) from None
        if not self.ask.body.is_whole:
            text = "The token was replaced while the call was on its way, and its body is too long to be kept."
            raise Refusal(Problem(ProblemType.provider_unavailable, text, timedelta(seconds=1), is_unsent=True))
        return True

    async def _pass_on(self, response: httpx.Response, rest: AsyncIterator[bytes], beginning: bytes = b"") -> str:
        """Pass the answer on as it comes, up to the largest one."""
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length) > longest_answer:
            raise self._refuse_answer()
        headers = [*to_caller(response.headers.raw), source]
        await self.send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        self.has_begun = True
        size = len(beginning)
        if beginning:
            await self.send({"type": "http.response.body", "body": beginning, "more_body": True})
        async with self.departure.heeded():
            async for chunk in rest:
                size += len(chunk)
                if size > longest_answer:
                    return self._cut("too_large", "")
                await self.send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})
        return "answered"

    def _refuse_answer(self) -> Refusal:
        text = f"The provider's answer has more than {longest_answer} bytes."
        return Refusal(Problem(ProblemType.answer_unusable, text, is_unsent=False))

    def _cut(self, word: str, detail: str) -> str:
        """End an answer that has begun by closing its connection, so that no one takes it for whole; else refuse."""
        if self.has_begun:
            log = structlog.get_logger("gateway")
            log.warning("answer.cut", connection_id=self.ask.connection_id, why=word)
            return word
        is_unsent = not any(attempt.may_have_arrived for attempt in self.attempts[-1:])
        raise Refusal(Problem(ProblemType.provider_unavailable, detail, timedelta(seconds=5), is_unsent=is_unsent))

    def _finish(self, attempt: Attempt) -> None:
        """Hand over what is left to write about an attempt."""
        counted = attempt.may_have_arrived
        settled = Settlement(
            attempt.granted.second, attempt.granted.number, (0.0,) if counted else (), attempt.remaining, attempt.pause
        )
        seconds = monotonic() - attempt.started
        duration_ms = round(seconds * 1000)
        connection, ask = attempt.admission.access.connection, self.ask
        line = Request(attempt.at, connection.id, ask.method, ask.path, attempt.status, duration_ms)
        if counted:
            facts: Facts = {"provider": connection.provider, "method": ask.method, "status": attempt.status}
            self.traces.note(SpanName.api_request, facts, seconds)
        may_have_changed = counted and (attempt.status == 0 or 200 <= attempt.status < 300)
        is_write = ask.method not in safe_methods and may_have_changed
        written = self.office.afterwards.add(
            Done(connection, settled, monotonic(), line if counted else None, is_write)
        )
        written.add_done_callback(_note_failure)


def _note_failure(written: "asyncio.Future[None]") -> None:
    """Report what kept a call from being settled and logged; its caller has its answer."""
    error = None if written.cancelled() else written.exception()
    if error is not None:
        structlog.get_logger("gateway").error("call.not_finished", error=type(error).__name__)


def _answer(response: httpx.Response, body: bytes) -> HttpAnswer:
    return HttpAnswer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)
