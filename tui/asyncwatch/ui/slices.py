"""Does long work in slices, between which keys, events and pictures get their turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

SLICE = 0.01
"""Seconds of work after which others get their turn. Beside a busy engine each turn costs some 5 ms: the thread has to
wait for the interpreter.
"""
PAUSE = 0.001
"""Seconds that they have at the least: a key takes several turns of the event loop."""

Work = Callable[[Callable[[], bool]], bool]
"""Works until what it is given says that time is up; returns whether there is more to do."""


class Slices:
    """Calls `work` on the running event loop until nothing is left to do, and then `done`."""

    def __init__(self, work: Work, done: Callable[[], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._work = work
        self._done = done
        self._clock = clock
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, or go on if it has begun."""
        if self._next is None:
            self._next = asyncio.get_running_loop().call_later(0, self._go_on)

    def stop(self) -> None:
        """Leave what is not done."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _go_on(self) -> None:
        self._next = None  # before the work: if that breaks, `start` begins anew
        end = self._clock() + SLICE
        if self._work(lambda: self._clock() >= end):
            self._next = asyncio.get_running_loop().call_later(PAUSE, self._go_on)
        else:
            self._done()
