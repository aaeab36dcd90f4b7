"""Work that is done together: each item gets its own result, and none is left waiting."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from worker.gateway.batches import Batches


def test_what_comes_while_a_batch_is_under_way_is_the_next_one() -> None:
    seen: list[int] = []

    def double(items: Sequence[int]) -> list[int]:
        seen.append(len(items))
        return [2 * item for item in items]

    async def add_all() -> list[int]:
        with ThreadPoolExecutor(1) as threads:
            batches = Batches(double, threads, most=10)
            results = await asyncio.gather(*(batches.add(number) for number in range(25)))
            await batches.finish()
            return results

    assert asyncio.run(add_all()) == [2 * number for number in range(25)]
    assert seen == [10, 10, 5]


def test_no_lane_works_on_nothing_when_another_takes_all() -> None:
    seen: list[Sequence[int]] = []

    def keep(items: Sequence[int]) -> Sequence[int]:
        seen.append(items)
        return items

    async def add_all() -> bool:
        with ThreadPoolExecutor(2) as threads:
            batches = Batches(keep, threads, lanes=2)
            await asyncio.gather(*(batches.add(number) for number in range(3)))
            await batches.finish()
            return batches.is_idle

    assert asyncio.run(add_all())
    assert seen == [[0, 1, 2]]


def test_an_item_that_comes_just_as_the_last_batch_ends_is_done_too() -> None:
    async def one_after_another() -> bool:
        with ThreadPoolExecutor(1) as threads:
            batches: Batches[int, int] = Batches(list, threads)
            for number in range(200):
                await asyncio.wait_for(batches.add(number), 20)
            return batches.is_idle

    assert asyncio.run(one_after_another())


def test_what_a_batch_raises_each_of_its_callers_gets_and_the_next_works() -> None:
    def fail_on_zero(items: Sequence[int]) -> Sequence[int]:
        if 0 in items:
            raise LookupError
        return items

    async def add() -> int:
        with ThreadPoolExecutor(1) as threads:
            batches = Batches(fail_on_zero, threads)
            failing = [batches.add(0), batches.add(1)]
            for each in failing:
                with pytest.raises(LookupError):
                    await each
            return await batches.add(2)

    assert asyncio.run(add()) == 2
