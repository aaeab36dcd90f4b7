"""Work of many calls done together, in a thread: what comes while a batch is under way is the next one.

So a single call waits for nothing, and many at once share a transaction, its wait for the disk, and a thread's start.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batches(Generic[Item, Result]):
    """Runs `work` on up to `most` items at a time, on `lanes` threads at most, after a `pause` in seconds for which no
    one waits. Of one event loop.

    `work` returns a result for each item, in order; what it raises, every caller of its batch gets.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        threads: Executor,
        most: int = 100,
        lanes: int = 1,
        pause: float = 0,
    ) -> None:
        self.work, self.threads, self.most, self.lanes, self.pause = work, threads, most, lanes, pause
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._busy = 0
        self._idle: asyncio.Future[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way or waits."""
        return self._busy == 0

    def add(self, item: Item) -> "asyncio.Future[Result]":
        """Return what the item's result will be."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if self._busy < self.lanes:
            self._busy += 1
            self._start_soon(loop)
        return future

    async def finish(self) -> None:
        """Wait until nothing is left to do."""
        while self._busy:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    def _start_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start a batch after the pause, of what came until then."""
        if self.pause:
            loop.call_later(self.pause, self._start, loop)
        else:
            loop.call_soon(self._start, loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        batch, self._waiting = self._waiting[: self.most], self._waiting[self.most :]
        if not batch:
            # Race: another lane, which began just before, took it all.
            self._stop()
            return
        try:
            work = self.threads.submit(self.work, [item for item, _ in batch])
        except RuntimeError as error:
            self._end(loop, batch, error)
            return
        # One step of the loop for the whole batch: a future of asyncio's for the work would take three.
        work.add_done_callback(
            lambda done: loop.call_soon_threadsafe(self._end, loop, batch, done.exception() or done.result())
        )

    def _end(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: Sequence[tuple[Item, "asyncio.Future[Result]"]],
        outcome: BaseException | Sequence[Result],
    ) -> None:
        """Pass the results on, and start the next batch, if there is one."""
        for place, (_, future) in enumerate(batch):
            if future.done():
                continue
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome[place])
        if self._waiting:
            self._start_soon(loop)
        else:
            self._stop()

    def _stop(self) -> None:
        """Give the lane back."""
        self._busy -= 1
        if self._busy == 0 and self._idle is not None:
            self._idle.set_result(None)
            self._idle = None
