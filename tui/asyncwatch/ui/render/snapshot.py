"""Data of one frame: the state of the run, and the cost of drawing."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from asyncwatch.commands import Statistics
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.statistics import Histogram, Pace

_RATE_PERIOD = 2.0
"""Seconds over which the rate of events is averaged."""
_START = 2.0
"""Seconds at the start that are not counted as load: the first frame costs more than others."""
_LOAD_PERIOD, _LEAST_LOAD_PERIOD = 5.0, 3.0
"""Seconds over which the load is averaged, and the least."""


class FrameStatistics:
    """Counts and durations of frames: processor seconds from the request to draw until the frame is shown."""

    def __init__(self) -> None:
        self.frames = 0
        self.frame_times = Histogram()
        self.last_frame = 0.0
        self.lines = 0
        """Fleet lines rendered in all frames."""
        self.most_lines = 0
        """Fleet lines rendered in one frame, at most."""
        self.received = 0
        """Events received from the engine."""
        self.backlog = 0
        """Emitted events that the dashboard does not show yet."""
        self.highest_backlog = 0
        self._lines_before = 0
        self._emitted: deque[tuple[float, int]] = deque()
        self._used: deque[tuple[float, float]] = deque()
        self._since: float | None = None

    def add_received(self, events: int) -> None:
        """Count received events."""
        self.received += events

    def add_line(self) -> None:
        """Count one rendered fleet line."""
        self.lines += 1

    def add_frame(self, seconds: float) -> None:
        """Count a frame that is on the screen and took `seconds`."""
        self.frames += 1
        self.last_frame = seconds
        self.frame_times.add(seconds)
        self.most_lines = max(self.most_lines, self.lines - self._lines_before)
        self._lines_before = self.lines

    def sample(self, now: float, emitted: int, shown: int) -> None:
        """Record the numbers of emitted and shown events at `now`."""
        self.backlog = max(0, emitted - shown)
        self.highest_backlog = max(self.highest_backlog, self.backlog)
        self._emitted.append((now, emitted))
        while len(self._emitted) > 2 and self._emitted[1][0] <= now - _RATE_PERIOD:
            self._emitted.popleft()

    def used(self, now: float, processor: float) -> None:
        """Record the processor seconds of the dashboard so far."""
        if self._since is None:
            self._since = now
        if now < self._since + _START:
            return
        self._used.append((now, processor))
        while len(self._used) > 2 and self._used[1][0] <= now - _LOAD_PERIOD:
            self._used.popleft()

    @property
    def load(self) -> float:
        """The share of a processor core that the dashboard took over the last seconds; 0 while it is unknown."""
        if len(self._used) < 2:
            return 0.0
        (start, before), (now, used) = self._used[0], self._used[-1]
        return (used - before) / (now - start) if now - start >= _LEAST_LOAD_PERIOD else 0.0

    @property
    def events_per_second(self) -> float:
        """Mean rate of the last two seconds."""
        if len(self._emitted) < 2:
            return 0.0
        (start, before), (now, emitted) = self._emitted[0], self._emitted[-1]
        return (emitted - before) / max(now - start, 1e-3)


_SHOWN_BLOCK = 0.5
"""Seconds after which a present block is shown."""


class Snapshot(NamedTuple):
    """Data of one frame. Times are seconds since the run started."""

    fleet: Fleet
    statistics: Statistics
    frame_statistics: FrameStatistics
    now: float
    """The shown run time: it stops when frozen and when all workers have settled."""
    clock_now: float
    """Like `now`, but it goes on after all workers have settled."""
    frozen_events: int | None = None
    """Number of events held back by a freeze; None if not frozen."""
    stopping: int | None = None
    """Number of workers that were active when a stop was requested; None if none was."""
    is_stopping_now: bool = False
    """Whether a stop without grace was requested."""
    is_read_only: bool = False
    """Whether no key acts on the run."""
    title: str = ""
    """What the header says of a dashboard that only shows the run."""
    is_past: bool = False
    """Whether it is a moment of a recorded run: no figures of the engine are recorded."""
    run_id: str = ""
    """The id of the run; empty if it is unknown."""
    pace: Pace | None = None
    waits: tuple[tuple[int, str], ...] = ()
    """Where observed tasks wait, and how many in each place, the most first."""

    @property
    def active(self) -> int:
        """Number of workers that have not settled."""
        return self.fleet.workers - self.fleet.settled

    @property
    def blocked_for(self) -> float:
        """Seconds for which the event loop has been blocked; 0 for a short block or none."""
        blocked = self.statistics.blocked
        if blocked is None or blocked.duration < _SHOWN_BLOCK or self.fleet.finished is not None:
            return 0.0
        return blocked.duration
