"""Time slices: long work on an event loop, a few milliseconds at a time, so that other callbacks run in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import asyncio


T = TypeVar("T")

SLICE = 0.01
"""Seconds of work in one slice. Beside a busy engine thread each slice first waits about 5 ms for the interpreter."""

Work = Callable[[Callable[[], bool]], bool]
"""Does one slice of the work: until its argument, `is_time_up()`, is true. Returns whether there is more to do."""


class SlicedWork:
    """Runs `work` on the running event loop in slices, then calls `done`.

    Args:
        work: does one slice.
        done: called after the last slice.
        seconds: the length of a slice.
        pause: seconds between two slices.
        iterations: the least number of loop iterations from one slice to the next.
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
        """Whether another slice will run."""
        return self._next is not None

    def start(self) -> None:
        """Schedule the first slice for the next loop iteration, unless a slice is scheduled."""
        if self._next is None:
            self._next = _running_loop().call_soon(self._run)

    def start_now(self) -> bool:
        """Run the first slice now, unless a slice is scheduled. Return whether more slices follow."""
        if self._next is None:
            self._run()
        return self._next is not None

    def stop(self) -> None:
        """Drop the rest of the work; `done` is not called."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def shorten(self, seconds: float, period: float) -> None:
        """Make the slices of the next `period` seconds only `seconds` long."""
        self._short, self._short_until = seconds, self._clock() + period

    def _run(self) -> None:
        self._next = None  # before the work: if it raises, `start` can begin again
        start = self._clock()
        end = start + (self._short if start < self._short_until else self._seconds)
        if not self._work(lambda: self._clock() >= end):
            self._done()
        elif self._pause:
            self._next = _running_loop().call_later(self._pause, self._wait, self._iterations)
        else:
            self._wait(self._iterations)

    def _wait(self, iterations: int) -> None:
        loop = _running_loop()
        self._next = loop.call_soon(self._wait, iterations - 1) if iterations > 1 else loop.call_soon(self._run)


def for_each(items: Iterator[T], act: Callable[[T], object]) -> Work:
    """Return work that calls `act` for each of `items`. It takes an item only when it can act on it."""

    def work(is_time_up: Callable[[], bool]) -> bool:
        for item in items:
            act(item)
            if is_time_up():
                return True
        return False

    return work


def _running_loop() -> asyncio.AbstractEventLoop:
    import asyncio  # noqa: PLC0415  the model needs `for_each` and no event loop

    return asyncio.get_running_loop()


PAUSE = 0.001
"""Seconds between two slices at least."""
ITERATIONS = 4
"""Loop iterations between two slices: about as many as Textual needs from a key to its action."""
SHORT_SLICE = 0.004
"""Seconds of a slice while a person waits for a frame."""
FRAME_WAIT = 0.025
"""Seconds from an action to its frame: Textual paints 60 times a second."""


def background_work(work: Work, done: Callable[[], object] = lambda: None) -> SlicedWork:
    """Return `work` in slices that leave keys, events and frames of a dashboard their turn."""
    return SlicedWork(work, done, seconds=SLICE, pause=PAUSE, iterations=ITERATIONS)


def give_way_to_frame(work: SlicedWork) -> None:
    """Take short slices until the next frame: a person waits for it."""
    work.shorten(SHORT_SLICE, FRAME_WAIT)
