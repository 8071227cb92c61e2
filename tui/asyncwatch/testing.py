"""An event loop whose clock jumps: timers fire in order and at once, so nothing waits for real."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

START = 1000.0
"""Seconds: what the clock shows at first."""
LATENESS = 1e-11
"""Seconds that a timer fires late, as on any clock: what waits for an exact time would never see it otherwise."""


class _JumpingSelector(selectors.BaseSelector):
    """Advances the clock instead of waiting."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.now = START

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("nothing will ever happen: every task waits and no timer is set")
        self.now += timeout + LATENESS
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class JumpingLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop over a clock that starts at START and jumps to the next timer when nothing else is to do."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the seconds of the jumping clock."""
        return self._jumping.now


def run_jumping(main: Callable[[], Awaitable[T]], task_factory: Any = None) -> T:
    """Run `main()` to its end on a fresh `JumpingLoop`."""
    loop = JumpingLoop()
    loop.set_task_factory(task_factory)
    return run_on(loop, main)


def run_on(loop: asyncio.AbstractEventLoop, main: Callable[[], Awaitable[T]]) -> T:
    """Run `main()` to its end on that loop, and close it."""

    async def call() -> T:
        return await main()

    try:
        return loop.run_until_complete(asyncio.Task(call(), loop=loop))
    finally:
        # Workers that swallow every cancellation are left; that they are destroyed with the loop is what is wanted.
        loop.set_exception_handler(lambda _loop, _context: None)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
