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
SHORT = 0.004
"""Seconds of work after which they get it while a person waits for a picture."""
HURRY = 0.025
"""Seconds from an action to its picture: Textual paints 60 of them a second."""
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
        self._hurried_until = float("-inf")

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
        """Take short slices for the time that a picture takes: a person waits for it."""
        self._hurried_until = self._clock() + HURRY

    def _go_on(self) -> None:
        self._next = None  # before the work: if that breaks, `start` begins anew
        start = self._clock()
        end = start + (SHORT if start < self._hurried_until else SLICE)
        if self._work(lambda: self._clock() >= end):
            self._next = asyncio.get_running_loop().call_later(PAUSE, self._pass, TURNS)
        else:
            self._done()

    def _pass(self, turns: int) -> None:
        self._next = asyncio.get_running_loop().call_soon(*(self._pass, turns - 1) if turns > 1 else (self._go_on,))
