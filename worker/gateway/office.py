"""What every call of the gateway shares: batches of work, calls that wait for a refresh, connections to providers."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, TypeVar

from models.audit.entry import Entry
from models.gateway.access import Access, Ask, Give, judge_wait, require_authorization, soon
from models.gateway.keys import GatewayKey
from models.gateway.problems import Problem, ProblemType, Refusal
from models.messaging import messages
from models.oauth.connection import Connection, Status
from models.provider import Provider
from worker.gateway.batches import Batches
from worker.gateway.desk import Admission, Desk, Done, Wish
from worker.gateway.transport import AsyncRouted
from worker.gateway.waiting import Waiting

longest_wait: Final = 10.0
"""Seconds that a call waits for a refresh."""
most_threads: Final = 12

Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class Office:
    """One for each process, and of one event loop: `aclose` ends it after the last call."""

    desk: Desk
    transport: AsyncRouted
    wait_seconds: float = longest_wait
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(most_threads, "gateway"))
    admissions: Batches[Wish, Admission | Problem] = field(init=False)
    ledger: Batches[Entry, None] = field(init=False)
    afterwards: Batches[Done, None] = field(init=False)
    waiting: Waiting = field(init=False)
    _asked: dict[str, asyncio.Future[None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make what works in the threads."""
        self.admissions = Batches(self.desk.admit, self.threads, lanes=2)
        self.ledger = Batches(self.desk.record, self.threads)
        self.afterwards = Batches(self.desk.finish, self.threads, most=500, pause=0.1)
        self.waiting = Waiting(self.desk.find, self.threads, self.desk.now)

    def run(self, work: Callable[..., Result], *given: object) -> "asyncio.Future[Result]":
        """Run a function that blocks in one of the threads; what it sends belongs to the caller's trace."""
        return asyncio.get_running_loop().run_in_executor(self.threads, copy_context().run, work, *given)

    def profile(self, connection: Connection) -> Provider:
        return self.desk.providers[connection.provider]

    async def admit(self, wish: Wish) -> Admission:
        """Return the token that is wished for, after a refresh if need be. Raises `Refusal`.

        A token that was refreshed just now is given however long it lives.
        """
        admission = await self.admissions.add(wish)
        if isinstance(admission, Problem):
            raise Refusal(admission)
        if isinstance(admission.plan, Give):
            return admission
        if isinstance(admission.plan, Problem):
            raise Refusal(admission.plan)
        await self._begin_refresh(wish.key, admission.access, isinstance(admission.plan, Ask))
        await self.await_newer(admission.access.connection, self.wait_seconds)
        return await self.admit_again(wish)

    async def admit_again(self, wish: Wish) -> Admission:
        """Return the token as it is now. Raises `Refusal`."""
        admission = await self.admissions.add(replace(wish, least=timedelta()))
        problem = admission if isinstance(admission, Problem) else admission.plan
        if isinstance(problem, Problem):
            raise Refusal(problem)
        if not isinstance(admission, Admission) or admission.token is None:
            raise Refusal(refresh_takes_long)
        return admission

    async def await_newer(self, connection: Connection, seconds: float) -> None:
        """Return when a newer token is stored than the one of `connection`. Raises `Refusal` if there is none."""
        prefix = self.profile(connection).path_prefix

        def judge(access: Access) -> Give | Problem | None:
            return judge_wait(access, connection.generation, self.desk.now(), prefix)

        verdict = await self.waiting.until(connection.id, judge, seconds)
        if verdict is None:
            raise Refusal(refresh_takes_long)
        if isinstance(verdict, Problem):
            raise Refusal(verdict)

    async def await_end(self, connection: Connection, seconds: float) -> None:
        """Return after that time, or raise `Refusal` as soon as the connection has ended."""
        prefix = self.profile(connection).path_prefix

        def judge(access: Access) -> Problem | None:
            has_ended = access.connection.status is not Status.active
            return require_authorization(access.connection, prefix) if has_ended else None

        verdict = await self.waiting.until(connection.id, judge, seconds)
        if verdict is not None:
            raise Refusal(verdict)

    async def _begin_refresh(self, key: GatewayKey, access: Access, is_asked: bool) -> None:
        """Ask for a refresh, or see to it that one which is due is carried out: once for all calls that wait for it."""
        connection_id = access.connection.id
        asked = self._asked.get(connection_id)
        if asked is None:
            if is_asked:
                asked = self.run(self.desk.ask_refresh, key, access)
            else:
                asked = self.run(self.desk.send, messages.carry_out_refresh(connection_id))
            self._asked[connection_id] = asked
            asked.add_done_callback(lambda _: self._asked.pop(connection_id, None))
        await asyncio.shield(asked)

    async def aclose(self) -> None:
        """Write what is left to write, then close everything."""
        await self.ledger.finish()
        await self.afterwards.finish()
        await self.transport.aclose()
        self.threads.shutdown(wait=False)


refresh_takes_long: Final = Problem(
    ProblemType.provider_unavailable, "The token is being refreshed, and that takes longer than a call waits.", soon
)
