"""Time slices: long work on an event loop, a few milliseconds at a time, so that everything else gets its turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

SLICE = 0.01
"""Seconds of work in one slice."""

Work = Callable[[Callable[[], bool]], bool]
"""Works until the function that it is given says that its time is up; returns whether there is more to do."""


class SlicedWork:
    """Runs `work` on the running event loop, one slice after another, then calls `done`.

    Args:
        work: does the next part.
        done: called after the last slice.
        seconds: how long a slice is.
        pause: seconds between two slices; 0 for the next loop iteration.
        iterations: loop iterations that others get at least between two slices.
        clock: monotonic seconds.

    """

    def __init__(
        self,
        work: Work,
        done: Callable[[], object] = lambda: None,
        *,
        seconds: float = SLICE,
        pause: float = 0.0,
        iterations: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._done = done
        self._seconds = seconds
        self._pause = pause
        self._iterations = iterations
        self._clock = clock
        self._next: asyncio.Handle | None = None
        self._short_until = float("-inf")
        self._short = seconds

    @property
    def is_scheduled(self) -> bool:
        """Whether another slice is to come."""
        return self._next is not None

    def start(self) -> None:
        """Schedule the first slice, unless one is scheduled."""
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._run)

    def start_now(self) -> bool:
        """Run the first slice now, unless one is scheduled; return whether more slices follow."""
        if self._next is None:
            self._run()
        return self._next is not None

    def stop(self) -> None:
        """Leave the rest undone; `done` is not called."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def shorten(self, seconds: float, period: float) -> None:
        """Take slices of only `seconds` for the next `period` seconds."""
        self._short, self._short_until = seconds, self._clock() + period

    def _run(self) -> None:
        self._next = None  # before the work: if it raises, `start` begins anew
        start = self._clock()
        end = start + (self._short if start < self._short_until else self._seconds)
        if not self._work(lambda: self._clock() >= end):
            self._done()
        elif self._pause:
            self._next = asyncio.get_running_loop().call_later(self._pause, self._wait, self._iterations)
        else:
            self._wait(self._iterations)

    def _wait(self, iterations: int) -> None:
        loop = asyncio.get_running_loop()
        self._next = loop.call_soon(self._wait, iterations - 1) if iterations > 1 else loop.call_soon(self._run)


def for_each(items: Iterator[T], act: Callable[[T], object]) -> Work:
    """Return work that calls `act` for each of `items`; the next item is asked for only when its turn comes."""

    def work(is_time_up: Callable[[], bool]) -> bool:
        for item in items:
            act(item)
            if is_time_up():
                return True
        return False

    return work
