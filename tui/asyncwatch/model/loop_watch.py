"""When the event loop of the run was late, and who kept it: what the times of attempts are worth."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque

from asyncwatch.events import LoopBlocked

BLOCKS_KEPT = 1_000
"""The newest blocks that are held as they were told."""
SPANS_KEPT = 10_000
"""The newest late times that are held, at least, for the attempts that they fell into."""
LATE_SHARE = 0.1
"""The share of an attempt for which the loop was late, from which on its time says little of what was called."""
_ADJACENT = 0.05
"""Seconds between two late times that count as one."""


class LoopWatch:
    """Takes in blocks in the order in which they ended. Times are in seconds since the run started."""

    def __init__(self) -> None:
        self.blocks: deque[LoopBlocked] = deque(maxlen=BLOCKS_KEPT)
        self.count = 0
        """Blocks in all, those no longer held included."""
        self.seconds = 0.0
        """For how long the loop was late in all."""
        self.longest: LoopBlocked | None = None
        self._of: dict[str, LoopBlocked] = {}
        self._starts, self._ends = array("d"), array("d")
        self._before = array("d")  # seconds of lateness before each of these spans

    def apply(self, event: LoopBlocked) -> None:
        """Take a block in."""
        self.blocks.append(event)
        self.count += 1
        if self.longest is None or event.duration > self.longest.duration:
            self.longest = event
        if event.worker:
            self._of[event.worker] = event
        start, end = event.began, event.began + event.duration
        if self._ends and start <= self._ends[-1] + _ADJACENT:
            if end > self._ends[-1]:
                self.seconds += end - self._ends[-1]
                self._ends[-1] = end
            return
        self._starts.append(start)
        self._ends.append(end)
        self._before.append(self.seconds)
        self.seconds += event.duration
        if len(self._ends) >= 2 * SPANS_KEPT:
            for column in (self._starts, self._ends, self._before):
                del column[:-SPANS_KEPT]

    def last_of(self, worker: str) -> LoopBlocked | None:
        """Return the last block by a worker, None if it never blocked."""
        return self._of.get(worker)

    def blocks_of(self, worker: str) -> tuple[LoopBlocked, ...]:
        """Return the blocks by a worker among those held, oldest first."""
        return tuple(block for block in self.blocks if block.worker == worker) if worker in self._of else ()

    def forget(self, worker: str) -> None:
        """Drop the last block by a worker."""
        self._of.pop(worker, None)

    def late_within(self, start: float, end: float) -> float:
        """Return for how many of the seconds from `start` to `end` the loop was late, as far as that is held."""
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end) - 1
        if last < first:
            return 0.0
        whole = self._before[last] + self._ends[last] - self._starts[last] - self._before[first]
        return whole - max(0.0, start - self._starts[first]) - max(0.0, self._ends[last] - end)

    def is_distorted(self, start: float | None, seconds: float | None) -> bool:
        """Return whether the client was the bottleneck of an attempt that took `seconds` from `start` on."""
        if not self._ends or start is None or seconds is None or start >= self._ends[-1]:
            return False
        late = self.late_within(start, start + seconds)
        return late > 0 and late >= seconds * LATE_SHARE
