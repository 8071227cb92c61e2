"""Runs tests on the clock of `asyncwatch.testing`, under each task factory of this Python, and finds leftover tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from asyncwatch.engine.stacks import stuck_at
from asyncwatch.testing import JumpingLoop, run_on

T = TypeVar("T")
Run = Callable[[Callable[[], Awaitable[T]]], T]

TASK_FACTORIES: dict[str, Any] = {"lazy": None}
if hasattr(asyncio, "eager_task_factory"):
    TASK_FACTORIES["eager"] = asyncio.eager_task_factory


class _CheckedLoop(JumpingLoop):
    """A jumping loop that remembers the tasks that had not ended when it was closed."""

    leftover: frozenset[asyncio.Task[Any]] = frozenset()

    def close(self) -> None:
        self.leftover = frozenset(asyncio.all_tasks(self))
        super().close()


def run_jumping(main: Callable[[], Awaitable[T]], task_factory: Any = None) -> T:
    """Run `main()` as `asyncwatch.testing.run_jumping` does, and check that only stubborn workers are left."""
    loop = _CheckedLoop()
    loop.set_task_factory(task_factory)
    try:
        return run_on(loop, main)
    finally:
        assert all("stubborn" in stuck_at(task.get_coro()) for task in loop.leftover), loop.leftover
