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
        self._running: set[asyncio.Task[None]] = set()
        self._busy = 0

    def add(self, item: Item) -> "asyncio.Future[Result]":
        """Return what the item's result will be."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._busy < self.lanes:
            self._busy += 1
            task = asyncio.create_task(self._run())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return future

    async def finish(self) -> None:
        """Wait until nothing is left to do."""
        while self._running:
            await asyncio.gather(*self._running)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            if self.pause:
                await asyncio.sleep(self.pause)
            batch, self._waiting = self._waiting[: self.most], self._waiting[self.most :]
            try:
                results = await loop.run_in_executor(self.threads, self.work, [item for item, _ in batch])
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
        # Race: what is added from here on starts the next task; a task that is still ending would leave it waiting.
        self._busy -= 1
