"""The stacks of waiting coroutines."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any

import pytest

from asyncwatch import Run, WorkerSpec
from asyncwatch.engine.stacks import await_stack, stuck_at


async def test_stuck_at_is_the_innermost_awaiting_frame_outside_asyncio() -> None:
    async def inner() -> None:
        await asyncio.sleep(1000)

    async def outer() -> None:
        await inner()

    task = asyncio.get_running_loop().create_task(outer())
    await asyncio.sleep(0)
    place = stuck_at(task.get_coro())
    assert place.startswith(__file__)
    assert place.endswith("inner")
    task.cancel()


async def test_stuck_at_of_a_worker_that_awaits_a_run_is_its_own_line() -> None:
    async def nested() -> None:
        await Run([WorkerSpec("a", asyncio.sleep, (1000,))]).gather()

    task = asyncio.get_running_loop().create_task(nested())
    await asyncio.sleep(0)
    place = stuck_at(task.get_coro())
    assert place.startswith(__file__)
    assert place.endswith("nested")
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _innermost() -> None:
    await asyncio.Event().wait()


async def _middle() -> None:
    await _innermost()


async def _generator() -> AsyncIterator[int]:
    yield 1
    await _innermost()


async def _awaits_generator() -> None:
    async for _ in _generator():
        pass


async def _awaits_next() -> None:
    steps = _generator()
    await anext(steps)
    await anext(steps)


async def _awaits_task() -> None:
    await asyncio.create_task(_middle())


async def _awaits_time_out() -> None:
    async with asyncio.timeout(1e6):
        await _middle()


class _Awaitable:
    """Delegates to a coroutine."""

    def __await__(self) -> Generator[Any, None, None]:
        return (yield from _innermost().__await__())


async def _awaits_awaitable() -> None:
    await _Awaitable()


@pytest.mark.parametrize(
    ("target", "between"),
    [
        (_middle, []),
        (_awaits_generator, ["_generator"]),
        (_awaits_next, ["_generator"]),
        (_awaits_task, ["_middle"]),
        (_awaits_time_out, ["_middle"]),
        (_awaits_awaitable, ["_Awaitable.__await__"]),
    ],
)
async def test_await_stack_reaches_the_innermost_frame(
    target: Callable[[], Coroutine[Any, Any, None]], between: list[str]
) -> None:
    task = asyncio.create_task(target())
    for _ in range(4):
        await asyncio.sleep(0)
    functions = [frame.code.co_qualname for frame in await_stack(task.get_coro())]
    assert functions == [target.__name__, *between, "_innermost", "Event.wait"]
    for other in asyncio.all_tasks() - {asyncio.current_task()}:
        other.cancel()


def test_await_stack_of_a_cycle_ends_where_it_repeats() -> None:
    class Waits:
        """Looks like a coroutine that awaits another one."""

        cr_frame = sys._getframe()
        cr_await: Waits

    first, second = Waits(), Waits()
    first.cr_await, second.cr_await = second, first
    assert len(await_stack(first)) == 2
