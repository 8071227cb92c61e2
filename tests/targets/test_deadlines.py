"""Deadlines of many calls that share one timer."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from asyncwatch.targets.http import Deadline, Deadlines
from tests.clock import run_jumping


def test_deadlines_set_at_different_times_each_expire_in_time() -> None:
    ended: dict[str, tuple[float, str]] = {}

    async def call(deadlines: Deadlines, name: str, begins: float, lasts: float) -> None:
        await asyncio.sleep(begins)
        try:
            with Deadline(deadlines):
                await asyncio.sleep(lasts)
        except TimeoutError as error:
            ended[name] = asyncio.get_running_loop().time(), str(error)
        else:
            ended[name] = asyncio.get_running_loop().time(), ""

    async def main() -> float:
        start = asyncio.get_running_loop().time()
        deadlines = Deadlines(10)
        calls = {"a": (0, 60), "quick": (1, 2), "b": (4, 60), "later": (40, 60), "just in time": (41, 9.5)}
        await asyncio.gather(*(call(deadlines, name, *times) for name, times in calls.items()))
        return start

    start = run_jumping(main)
    late = "no complete response within 10 s"
    assert {name: (round(at - start, 6), text) for name, (at, text) in ended.items()} == {
        "quick": (3, ""),
        "a": (10, late),
        "b": (14, late),
        "later": (50, late),
        "just in time": (50.5, ""),
    }


def test_call_cancelled_from_outside_is_not_reported_as_a_timeout() -> None:
    async def call(deadlines: Deadlines) -> None:
        with Deadline(deadlines):
            await asyncio.sleep(60)

    async def cancelled_at(moment: float) -> bool:
        loop = asyncio.get_running_loop()
        task = asyncio.Task(call(Deadlines(10)), loop=loop)
        loop.call_later(moment, task.cancel)
        await asyncio.wait((task,))
        return task.cancelled()

    async def main() -> list[bool]:
        return [await cancelled_at(moment) for moment in (5, 10)]

    assert run_jumping(main) == [True, True]


def test_deadline_that_expired_leaves_the_task_uncancelled() -> None:
    async def main() -> int:
        with contextlib.suppress(TimeoutError), Deadline(Deadlines(10)):
            await asyncio.sleep(60)
        await asyncio.sleep(60)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert run_jumping(main) == 0


def test_deadline_that_expired_passes_on_an_error_of_the_clean_up() -> None:
    async def fail_late() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise OSError("in the way") from None

    async def main() -> None:
        with pytest.raises(OSError, match="in the way"), Deadline(Deadlines(10)):
            await fail_late()

    run_jumping(main)


def test_deadlines_share_one_timer() -> None:
    async def main() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        made = 0
        call_at = loop.call_at

        def counted(*arguments: object, **more: object) -> asyncio.TimerHandle:
            nonlocal made
            made += 1
            return call_at(*arguments, **more)  # type: ignore[arg-type]

        loop.call_at = counted  # type: ignore[method-assign]
        deadlines = Deadlines(10)
        for _ in range(1000):
            with Deadline(deadlines):
                pass
        deadlines.close()
        return made, len(deadlines._pending)

    assert run_jumping(main) == (1, 0)
