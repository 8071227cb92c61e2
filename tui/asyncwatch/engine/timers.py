"""Timers of workers that back off: one timer of the event loop serves all of them."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.worker import Worker

UNKNOWN_RESOLUTION = 0.001
"""Seconds by which the timers of another loop than asyncio's own may be early: uvloop counts milliseconds."""

_FEW = 64
"""Cancelled timers that are kept until they are due, beside as many as are alive."""
_AT_ONCE = 200
"""Workers that are called back in one loop iteration, at most. They take about 2 ms."""


class Timer:
    """What `Timers.call_later` returns."""

    __slots__ = ("_timers", "worker")

    def __init__(self, timers: Timers, worker: Worker) -> None:
        self._timers = timers
        self.worker: Worker | None = worker
        """None once it is over."""

    def cancel(self) -> None:
        """Call nothing."""
        if self.worker is not None:
            self.worker = None
            self._timers.discard_one()


class Timers:
    """Calls `callback` with workers, each after a time of its own; in the order in which they are due.

    A timer of the event loop takes 4 us, as long as a third of all else that follows a failed attempt. During an outage
    thousands of workers back off at the same time.
    """

    def __init__(self, reporter: Reporter, callback: Callable[[Worker], object]) -> None:
        self._reporter = reporter
        self._callback = callback
        self._heap: list[tuple[float, int, Timer]] = []
        """When they are due, on the loop's clock; those that were cancelled too."""
        self._next_number = itertools.count().__next__
        self._left = 0
        """How many were not cancelled."""
        self._handle: asyncio.TimerHandle | None = None
        self._fires_at = 0.0

    def call_later(self, seconds: float, worker: Worker) -> Timer:
        """Call back with `worker` in `seconds`, unless the timer is cancelled before."""
        due = self._reporter.loop.time() + seconds
        timer = Timer(self, worker)
        heapq.heappush(self._heap, (due, self._next_number(), timer))
        self._left += 1
        if self._handle is None or due < self._fires_at:
            self._set(due)
        return timer

    def discard_one(self) -> None:
        """Note that a timer was cancelled."""
        self._left -= 1
        if not self._left:
            self._heap.clear()
            self._stop()
        elif len(self._heap) > 2 * self._left + _FEW:
            self._heap = [entry for entry in self._heap if entry[2].worker is not None]
            heapq.heapify(self._heap)

    def _stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _set(self, due: float) -> None:
        self._stop()
        self._fires_at = due
        context = self._reporter.context.copy()
        self._handle = self._reporter.loop.call_at(due, self._fire, context=context)

    def _fire(self) -> None:
        self._handle = None
        loop = self._reporter.loop
        now = loop.time()
        if not isinstance(loop, asyncio.BaseEventLoop):
            now += UNKNOWN_RESOLUTION
        try:
            for _ in range(_AT_ONCE):
                if not self._heap or self._heap[0][0] > now:
                    break
                timer = heapq.heappop(self._heap)[2]
                worker, timer.worker = timer.worker, None
                if worker is not None:
                    self._left -= 1
                    self._callback(worker)
        finally:  # the callback can raise a Ctrl+C
            while self._heap and self._heap[0][2].worker is None:
                heapq.heappop(self._heap)
            if self._heap and (self._handle is None or self._heap[0][0] < self._fires_at):
                self._set(self._heap[0][0])
