"""Wait for refreshes: one task looks at all connections that calls wait for, however many those are."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import structlog

from models.errors import SyncError
from models.gateway.access import Access

Verdict = TypeVar("Verdict")
pause_seconds = 0.075
Judge = Callable[[Access], Verdict | None]


@dataclass(slots=True, eq=False)
class Waiter:
    """A call that waits: `judge` says when that is over."""

    judge: Callable[[Access], object | None]
    future: asyncio.Future[object] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True, eq=False)
class Waiting:
    """The calls of this process that wait. `find` loads connections, in a thread."""

    find: Callable[[Sequence[str]], Mapping[str, Access]]
    threads: Executor
    now: Callable[[], datetime]
    _waiters: dict[str, set[Waiter]] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Return how many connections are looked at."""
        return len(self._waiters)

    async def until(self, connection_id: str, judge: Judge[Verdict], seconds: float) -> Verdict | None:
        """Return the first verdict about the connection; None if there is none in that time."""
        waiter = Waiter(judge)
        self._waiters.setdefault(connection_id, set()).add(waiter)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            async with asyncio.timeout(seconds):
                return await waiter.future  # type: ignore[return-value]  # it is what `judge` returned
        except TimeoutError:
            return None
        finally:
            own = self._waiters[connection_id]
            own.discard(waiter)
            if not own:
                del self._waiters[connection_id]

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiters:
            try:
                found = await loop.run_in_executor(self.threads, self.find, list(self._waiters))
            except SyncError as error:
                # The calls wait on, as long as they would anyway.
                structlog.get_logger("gateway").warning("waiting.blind", error=type(error).__name__)
                found = {}
            for connection_id, access in found.items():
                for waiter in list(self._waiters.get(connection_id, ())):
                    verdict = waiter.judge(access)
                    if verdict is not None and not waiter.future.done():
                        waiter.future.set_result(verdict)
            await asyncio.sleep(pause_seconds)
