"""When the event loop of the run was blocked, by which worker, and which attempts that distorts. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque

from asyncwatch.events import LoopBlocked

BLOCKS_KEPT = 1_000
"""How many of the newest block events are kept."""
SPANS_KEPT = 10_000
"""How many of the newest late spans are kept, at least, to compare attempts with."""
LATE_SHARE = 0.1
"""An attempt is distorted if the loop was late for at least this share of it."""
_ADJACENT = 0.05
"""Late spans closer than these seconds count as one."""


class LoopWatch:
    """Blocks of the event loop, in the order in which they ended. Times are in seconds since the run started."""

    def __init__(self) -> None:
        self.blocks: deque[LoopBlocked] = deque(maxlen=BLOCKS_KEPT)
        """The newest blocks."""
        self.count = 0
        """All blocks, including those that are not kept."""
        self.seconds = 0.0
        """How long the loop was late in all."""
        self.longest: LoopBlocked | None = None
        self._last_by_worker: dict[str, LoopBlocked] = {}
        self._starts, self._ends = array("d"), array("d")
        self._before = array("d")  # seconds of lateness before each of these spans

    def blocked(self, event: LoopBlocked) -> None:
        """Fold one block."""
        self.blocks.append(event)
        self.count += 1
        if self.longest is None or event.duration > self.longest.duration:
            self.longest = event
        if event.worker:
            self._last_by_worker[event.worker] = event
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

    def forget(self, worker: str) -> None:
        """Drop the last block by a worker."""
        self._last_by_worker.pop(worker, None)

    def last_of(self, worker: str) -> LoopBlocked | None:
        """Return the last block by a worker, None if it never blocked."""
        return self._last_by_worker.get(worker)

    def blocks_of(self, worker: str) -> tuple[LoopBlocked, ...]:
        """Return the kept blocks by a worker, oldest first."""
        has_any = worker in self._last_by_worker
        return tuple(block for block in self.blocks if block.worker == worker) if has_any else ()

    def late_within(self, start: float, end: float) -> float:
        """Return for how many of the seconds from `start` to `end` the loop was late, by the kept spans."""
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end) - 1
        if last < first:
            return 0.0
        whole = self._before[last] + self._ends[last] - self._starts[last] - self._before[first]
        return whole - max(0.0, start - self._starts[first]) - max(0.0, self._ends[last] - end)

    def is_distorted(self, start: float | None, seconds: float | None) -> bool:
        """Return whether the late loop explains much of an attempt that took `seconds` from `start` on."""
        if not self._ends or start is None or seconds is None or start >= self._ends[-1]:
            return False
        late = self.late_within(start, start + seconds)
        return late > 0 and late >= seconds * LATE_SHARE
