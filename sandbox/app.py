"""Route a request to its endpoint, and add latency, faults and counting."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandbox import api, consent, passport
from sandbox.control_api import answer_control
from sandbox.faults import Fault
from sandbox.grants import Presentation
from sandbox.http import Answer, Request, answer_json, answer_problem, redirect
from sandbox.keeping import save_state
from sandbox.state import SandboxState

CONTROL_PATH = "/_sandbox"


@dataclass(slots=True)
class Act:
    """One request: the steps that answer it, and what faults and counters need to know about it."""

    request: Request
    route: str
    steps: passport.Steps
    on: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    presentation: Presentation | None = None

    def limit(self, answer: Answer) -> Answer:
        """An error of the application itself says what is left of the limit, as its other answers do."""
        if self.presentation is None or answer.content_type != "application/json":
            return answer
        return answer.with_headers(self.presentation.limits)


class App:
    """Answers requests at once if no setting delays or breaks them, else in a coroutine."""

    def __init__(self, sandbox: SandboxState, state_file: Path | None = None) -> None:
        """With a state file every change is in it before the client gets its answer."""
        self.sandbox = sandbox
        self._state_file = state_file

    def is_calm(self) -> bool:
        settings = self.sandbox.settings
        return not (settings.latency_ms or settings.rotation_gap_ms or self.sandbox.faults.active)

    def answer_at_once(self, request: Request) -> Answer:
        """Only while `is_calm`."""
        act = self._stage(request)
        return self._finish(act, _run(act.steps))

    async def answer_in_time(self, request: Request) -> Answer:
        """With latency, and with the faults that strike."""
        act = self._stage(request)
        if not act.on:
            return self._finish(act, _run(act.steps))
        await _sleep(self.sandbox.settings.latency_ms)
        return self._finish(act, await self._perform(act))

    async def _perform(self, act: Act) -> Answer:
        if (fault := self._take(act, "before")) is not None:
            await _sleep(fault.pause_ms)
            if fault.kind != "late":
                return fault.spoil(act.request, None)
        try:
            while True:
                if next(act.steps) == "checked":
                    await _sleep(self.sandbox.settings.rotation_gap_ms)
                elif (fault := self._take(act, "middle")) is not None:
                    await _sleep(fault.pause_ms)
                    if fault.kind != "late":
                        return act.limit(fault.spoil(act.request, None))
        except StopIteration as stop:
            answer: Answer = stop.value
        if (fault := self._take(act, "after")) is not None:
            await _sleep(fault.pause_ms)
            if fault.kind != "late":
                return act.limit(fault.spoil(act.request, answer))
        return answer

    def _take(self, act: Act, moment: str) -> Fault | None:
        fault = self.sandbox.faults.take(act.on, moment, act.facts)
        if fault is not None and act.presentation is not None:
            act.presentation.fault = fault.label
        return fault

    def _finish(self, act: Act, answer: Answer) -> Answer:
        if not act.request.path.startswith(CONTROL_PATH):
            answer.headers.setdefault("cache-control", "no-cache, private")
        if self._state_file is not None and _may_change(act.request):
            save_state(self.sandbox, self._state_file)
        if act.on:
            self.sandbox.counters.note_answer(act.route, answer.status, answer.ending)
        if act.presentation is not None:
            act.presentation.answered_at = self.sandbox.clock.now()
        return answer

    def _stage(self, request: Request) -> Act:
        path = request.path
        if path.startswith(api.PREFIXES):
            return self._stage_api(request)
        if path == "/oauth/token":
            return self._stage_token(request)
        if path == "/oauth/authorize":
            facts = {"path": path, "client_id": request.query.get("client_id", "")}
            facts["user_id"] = str(consent.find_user_id(self.sandbox, request) or "")
            return Act(
                request, path, _once(lambda: consent.answer_authorize(self.sandbox, request)), "authorize", facts
            )
        return Act(request, path, _once(lambda: self._answer_page(request)))

    def _stage_api(self, request: Request) -> Act:
        sandbox = self.sandbox
        settings = sandbox.settings
        if not (settings.serve_api if request.path.startswith("/api/") else settings.serve_v1):
            return Act(request, "not served", _once(lambda: answer_problem(request, 404, "Not Found")), "api")
        token = api.find_token(sandbox, request)
        facts = {"path": request.path}
        if token is not None:
            facts |= {"user_id": str(token.family.user_id), "client_id": token.family.client_id}
        steps = _once(lambda: api.answer_api(sandbox, request, api.find_token(sandbox, request)))
        return Act(request, api.name_route(request.path), steps, "api", facts)

    def _stage_token(self, request: Request) -> Act:
        now = self.sandbox.clock.now()
        self.sandbox.counters.note_token(now)
        presentation, facts = passport.identify_presentation(self.sandbox.grants, request.fields, now)
        steps = self._answer_token(request, presentation or Presentation(now))
        return Act(request, request.path, steps, "token", {"path": request.path, **facts}, presentation)

    def _answer_token(self, request: Request, seen: Presentation) -> passport.Steps:
        """Check the endpoint's throttle by IP, then run the grant."""
        sandbox = self.sandbox
        if request.method != "POST":
            text = f"The {request.method} method is not supported for route oauth/token. Supported methods: POST."
            return answer_problem(request, 405, text, {"allow": "POST"})
        limit = sandbox.settings.token_rate_limit
        allowance = sandbox.windows.count(("token", request.client_ip), limit, sandbox.clock.now())
        if allowance is not None and allowance.retry_after is not None:
            seen.outcome = "throttled"
            return answer_problem(request, 429, headers=allowance.headers)
        seen.limits = {} if allowance is None else allowance.headers
        if request.is_broken_json:
            return answer_problem(request, 400, "Bad request.", seen.limits)
        answer = yield from passport.grant_tokens(sandbox.grants, sandbox.settings, request, seen, sandbox.clock.now)
        return answer.with_headers(seen.limits)

    def _answer_page(self, request: Request) -> Answer:
        path = request.path
        if path == CONTROL_PATH or path.startswith(f"{CONTROL_PATH}/"):
            return answer_control(self.sandbox, request)
        if path == "/login":
            return consent.answer_login(self.sandbox, request)
        if path == "/logout":
            return consent.answer_logout(self.sandbox, request)
        if path == "/":
            return redirect(CONTROL_PATH)
        if path == "/maintenance":
            return answer_problem(request, 503)
        if path == "/oauth/revoke" and self.sandbox.settings.revocation_endpoint and request.method == "POST":
            sandbox = self.sandbox
            return passport.revoke_token(sandbox.grants, sandbox.settings, request, sandbox.clock.now())
        if path == "/healthz":
            return answer_json(200, {"status": "ok"})
        return answer_problem(request, 404, f"The route {path.strip('/')} could not be found.")


def _may_change(request: Request) -> bool:
    """Reading the API and the control page changes nothing; authorize gives a code to a GET."""
    return request.method not in ("GET", "HEAD") or request.path == "/oauth/authorize"


def _once(answer: Callable[[], Answer]) -> passport.Steps:
    """Run the steps without a pause."""
    yield from ()
    return answer()


def _run(steps: Iterator[str]) -> Answer:
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        answer: Answer = stop.value
        return answer


async def _sleep(milliseconds: float) -> None:
    if milliseconds:
        await asyncio.sleep(milliseconds / 1000)
