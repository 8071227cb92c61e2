"""The time of a run as seen by a client that only receives its events. Pure."""

from __future__ import annotations

from collections.abc import Callable

from asyncwatch.events import Batch


class RunTime:
    """Estimates when the run started from the times of its events.

    `clock` is monotonic, in seconds; its zero does not matter.
    """

    __slots__ = ("_clock", "_started_at")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started_at: float | None = None

    def note(self, batch: Batch) -> None:
        """Learn from a batch that has just arrived."""
        if batch:
            # The earliest estimate is that of the batch that was delayed least.
            started_at = self._clock() - batch[-1].at
            self._started_at = started_at if self._started_at is None else min(started_at, self._started_at)

    @property
    def now(self) -> float:
        """Seconds since the run started; 0 before its first event."""
        return 0.0 if self._started_at is None else max(0.0, self._clock() - self._started_at)
