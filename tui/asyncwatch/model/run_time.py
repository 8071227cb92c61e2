"""The time of a run as one who only sees its events can know it."""

from __future__ import annotations

from collections.abc import Callable

from asyncwatch.events import Batch


class RunTime:
    """Reads off the events when the run started, by a monotonic `clock` in seconds whose zero does not matter."""

    __slots__ = ("_began", "_clock")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began: float | None = None

    def note(self, batch: Batch) -> None:
        """Learn from a batch that came just now."""
        if batch:
            # The smallest difference is that of the batch that was least late.
            began = self._clock() - batch[-1].at
            self._began = began if self._began is None else min(began, self._began)

    @property
    def now(self) -> float:
        """Seconds since the run started; 0 before its first event."""
        return 0.0 if self._began is None else max(0.0, self._clock() - self._began)
