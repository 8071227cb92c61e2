"""What an attempt says of its own progress, coalesced: at most ten events a second for each worker.

A worker that never says anything has no `Progress`, and its attempts cost nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Callable
from typing import Protocol

from asyncwatch.text import one_line

INTERVAL = 0.1
"""Seconds between two events of the progress of one attempt, at least."""
UNIT_LIMIT, STATUS_LIMIT = 40, 200
"""Characters that are shown of a unit and of a status."""


def number(value: float, name: str) -> float:
    """Return `value` as a plain number that an event can hold.

    Raises:
        ValueError: it is not finite.
        TypeError: it is no number.

    """
    plain = value if type(value) is int and abs(value) < 2**53 else float(value)
    if not math.isfinite(plain):
        raise ValueError(f"{name} must be a finite number, not {value}")
    return plain


class LoopClock(Protocol):
    """The event loop of a run, its thread and its time."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""

    @property
    def thread_id(self) -> int:
        """The thread of the loop."""

    def now(self) -> float:
        """Return the seconds since the run started."""


class Progress:
    """The latest progress and status of one attempt, and when they are reported next.

    Values are set in any thread. Events are made in the thread of the loop.
    """

    __slots__ = (
        "_clock",
        "_emitted_at",
        "_has_news",
        "_is_over",
        "_is_requested",
        "_report",
        "_timer",
        "done",
        "status",
    )

    def __init__(self, clock: LoopClock, report: Callable[[Progress], object]) -> None:
        self.done: tuple[float | None, float | None, str] = (None, None, "")
        """How much is done, of how much, in which unit."""
        self.status = ""
        self._clock = clock
        self._report = report
        self._has_news = self._is_requested = self._is_over = False
        self._emitted_at = -math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set_done(self, done: float, total: float | None, unit: str) -> None:
        """Note how far the attempt is."""
        done = number(done, "done")
        total = None if total is None else number(total, "total")
        self.done = (done, total, one_line(str(unit), UNIT_LIMIT))
        self._changed()

    def set_status(self, text: str) -> None:
        """Note what the attempt does."""
        self.status = one_line(str(text), STATUS_LIMIT)
        self._changed()

    def close(self) -> None:
        """Report the last values: the attempt ends."""
        self._emit()
        self.drop()

    def drop(self) -> None:
        """Report nothing more."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()

    def _changed(self) -> None:
        # The values are set before `_is_requested` is read, and read after it is cleared: no change gets lost.
        self._has_news = True
        if threading.get_ident() == self._clock.thread_id:
            self._emit_in_time()
        elif not self._is_requested:
            self._is_requested = True
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._clock.loop.call_soon_threadsafe(self._requested)

    def _requested(self) -> None:
        self._is_requested = False
        self._emit_in_time()

    def _emit_in_time(self) -> None:
        if self._timer is not None or self._is_over:
            return
        clock = self._clock
        wait = self._emitted_at + INTERVAL - clock.now()
        if wait <= 0:
            self._emit()
        else:
            self._timer = clock.loop.call_later(wait, self._wait_ended)

    def _wait_ended(self) -> None:
        self._timer = None
        self._emit()

    def _emit(self) -> None:
        if self._has_news and not self._is_over:
            self._has_news = False
            self._emitted_at = self._clock.now()
            self._report(self)
