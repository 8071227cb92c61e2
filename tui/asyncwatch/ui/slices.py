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
"""Seconds that they have at the least."""
TURNS = 4
"""Turns of the event loop that they have at the least: a key takes about as many until it is acted on."""

Work = Callable[[Callable[[], bool]], bool]
"""Works until what it is given says that time is up; returns whether there is more to do."""


class Slices:
    """Calls `work` on the running event loop until nothing is left to do, and then `done`."""

    def __init__(self, work: Work, done: Callable[[], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._work = work
        self._done = done
        self._clock = clock
        self._next: asyncio.Handle | None = None
        self._is_hurried = False

    def start(self) -> None:
        """Begin, or go on if it has begun."""
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._go_on)

    def stop(self) -> None:
        """Leave what is not done."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def hurry(self) -> None:
        """Take the shortest slices that there are, until `relax`: a person waits for a picture."""
        self._is_hurried = True

    def relax(self) -> None:
        """Take slices of the usual length: the picture is there."""
        self._is_hurried = False

    def _go_on(self) -> None:
        self._next = None  # before the work: if that breaks, `start` begins anew
        end = self._clock() + SLICE
        if self._work(lambda: self._is_hurried or self._clock() >= end):
            self._next = asyncio.get_running_loop().call_later(PAUSE, self._pass, TURNS)
        else:
            self._done()

    def _pass(self, turns: int) -> None:
        self._next = asyncio.get_running_loop().call_soon(*(self._pass, turns - 1) if turns > 1 else (self._go_on,))
