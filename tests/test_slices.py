"""Time slices on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from asyncwatch.slices import SlicedWork, for_each


class Ticks:
    """A clock that advances by one second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


async def test_sliced_work_others_run_between_slices() -> None:
    seen: list[object] = []
    done = asyncio.Event()
    SlicedWork(for_each(iter(range(5)), seen.append), done.set, seconds=2.0, clock=Ticks()).start()
    while not done.is_set():
        await asyncio.sleep(0)
        seen.append("other")
    numbers = [item for item in seen if item != "other"]
    assert numbers == [0, 1, 2, 3, 4]
    assert "other" in seen[: seen.index(4)]


async def test_sliced_work_start_now_runs_the_first_slice() -> None:
    seen: list[int] = []
    work = SlicedWork(for_each(iter(range(5)), seen.append), seconds=2.0, clock=Ticks())
    assert work.start_now()
    assert seen == [0, 1]
    assert work.is_scheduled


async def test_sliced_work_stopped_leaves_the_rest() -> None:
    seen: list[int] = []
    finished: list[bool] = []
    work = SlicedWork(for_each(iter(range(5)), seen.append), lambda: finished.append(True), seconds=2.0, clock=Ticks())
    work.start_now()
    work.stop()
    for _ in range(10):
        await asyncio.sleep(0)
    assert (seen, finished, work.is_scheduled) == ([0, 1], [], False)


async def test_sliced_work_iterations_are_left_to_others() -> None:
    order: list[str] = []
    done = asyncio.Event()

    def step(is_time_up: Callable[[], bool]) -> bool:
        del is_time_up
        order.append("slice")
        return order.count("slice") < 3

    SlicedWork(step, done.set, iterations=4).start()
    while not done.is_set():
        await asyncio.sleep(0)
        order.append("other")
    first, second, _ = (index for index, entry in enumerate(order) if entry == "slice")
    assert second - first >= 4


async def test_sliced_work_shortened_takes_short_slices() -> None:
    seen: list[int] = []
    work = SlicedWork(for_each(iter(range(9)), seen.append), seconds=5.0, clock=Ticks())
    work.shorten(1.0, 100.0)
    work.start_now()
    assert seen == [0]


async def test_for_each_error_leaves_nothing_scheduled() -> None:
    def fail(item: int) -> None:
        raise ValueError(item)

    work = SlicedWork(for_each(iter(range(2)), fail))
    with pytest.raises(ValueError, match="0"):
        work.start_now()
    assert not work.is_scheduled
