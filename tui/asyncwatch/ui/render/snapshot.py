"""The run at the moment of a frame, as the header and the pages show it. Plain data."""

from __future__ import annotations

from typing import NamedTuple

from asyncwatch.commands import Statistics
from asyncwatch.model.fleet import Fleet
from asyncwatch.ui.frame_statistics import FrameStatistics

_SHOWN_BLOCK = 0.5
"""Seconds after which a block that is still going on is shown."""


class Snapshot(NamedTuple):
    """What one frame is drawn from. Times are seconds since the run started."""

    fleet: Fleet
    statistics: Statistics
    frame_statistics: FrameStatistics
    now: float
    """The shown run time: it stops when frozen and when all workers have settled."""
    clock_now: float
    """Like `now`, but it goes on after all workers have settled."""
    frozen_events: int | None = None
    """How many events wait for the end of a freeze; None if not frozen."""
    stopping: int | None = None
    """How many workers were active when the run was told to stop; None if it was not."""
    is_stopping_now: bool = False
    """Whether the run was told to stop without grace."""

    @property
    def active(self) -> int:
        """How many workers have not settled."""
        return self.fleet.workers - self.fleet.settled

    @property
    def blocked_for(self) -> float:
        """Seconds for which the run's event loop has been blocked until now; 0 for a short block or none."""
        blocked = self.statistics.blocked
        if blocked is None or blocked.duration < _SHOWN_BLOCK or self.fleet.finished is not None:
            return 0.0
        return blocked.duration
