"""Runs a test on the event loop whose clock jumps, so that none waits for real."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from asyncwatch.engine.stacks import stuck_at
from asyncwatch.testing import JumpingLoop

T = TypeVar("T")
Run = Callable[[Callable[[], Awaitable[T]]], T]


def run_at_once(main: Callable[[], Awaitable[T]], task_factory: Any = None) -> T:
    """Run `main()` to its end on a fresh `JumpingLoop`."""

    async def call() -> T:
        return await main()

    loop = JumpingLoop()
    loop.set_task_factory(task_factory)
    try:
        return loop.run_until_complete(asyncio.Task(call(), loop=loop))
    finally:
        leftover = asyncio.all_tasks(loop)
        loop.set_exception_handler(lambda _loop, _context: None)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        assert all("stubborn" in stuck_at(task.get_coro()) for task in leftover), leftover
