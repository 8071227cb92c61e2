"""Quantiles of durations in bounded memory.

Buckets are spaced by the constant factor `(1 + a) / (1 - a)`, so that the middle of a bucket is within the
share `a` of every value in it: the mapping of DDSketch (Masson, Rim and Lee, VLDB 2019).
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Sequence

from asyncwatch.events import LoopBlocked

RELATIVE_ERROR = 0.02
"""How far a quantile may be from the true one, as a share of it (between `SHORTEST` and `LONGEST`)."""
SHORTEST = 1e-6
"""Seconds: anything shorter counts as this bucket's."""
LONGEST = 1e6
"""Seconds: anything longer counts as this bucket's; the maximum itself is kept."""

_ceil, _log = math.ceil, math.log
_FACTOR = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_FACTOR = math.log(_FACTOR)
_BUCKETS = math.ceil(math.log(LONGEST / SHORTEST) / _LOG_FACTOR) + 1


class Histogram:
    """Counts of durations by size: some 700 integers, whatever is added."""

    __slots__ = ("_buckets", "count", "highest", "lowest")

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self.count = 0
        self.lowest = math.inf
        self.highest = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration. A negative one (a clock that went back) counts as 0."""
        self.add_all((seconds,))

    def add_all(self, durations: Sequence[float]) -> None:
        """Count durations, as `add` does."""
        if not durations:
            return
        buckets = self._buckets
        for seconds, times in Counter(durations).items():  # of many short ones, most last equally long
            if not seconds > SHORTEST:
                buckets[0] += times
            elif seconds >= LONGEST:
                buckets[-1] += times
            else:
                buckets[_ceil(_log(seconds / SHORTEST) / _LOG_FACTOR)] += times
        self.count += len(durations)
        self.lowest = min(self.lowest, max(0.0, min(durations)))
        self.highest = max(self.highest, *durations)

    def quantile(self, q: float) -> float | None:
        """Return the seconds that the share `q` in [0, 1] of all durations does not exceed; None without any.

        It is the value of nearest rank, `ceil(q * count)`, within `RELATIVE_ERROR` of it.
        """
        if not self.count:
            return None
        rank = min(self.count, max(1, math.ceil(q * self.count)))
        if rank == self.count:
            return self.highest
        seen = 0
        for bucket, count in enumerate(self._buckets):
            seen += count
            if seen >= rank:
                middle = SHORTEST * _FACTOR**bucket * (1 - RELATIVE_ERROR)
                return min(self.highest, max(self.lowest, middle))
        return self.highest


_PER_SECOND = 5
_SECONDS_KEPT = 300
_SLOTS = _PER_SECOND * _SECONDS_KEPT
_WINDOW = 2.0


class Rate:
    """Counts by fifths of a second of the last `300` seconds, in a ring."""

    __slots__ = ("_newest", "_ring")

    def __init__(self) -> None:
        self._ring = [0] * _SLOTS
        self._newest = 0

    def add(self, at: float, things: int = 1) -> None:
        """Count things that ended at `at` (seconds since the run started)."""
        slot = int(at * _PER_SECOND)
        if slot > self._newest:
            self._advance(slot)
        elif slot <= self._newest - _SLOTS:
            return
        self._ring[slot % _SLOTS] += things

    def add_all(self, ats: Sequence[float]) -> None:
        """Count things that ended one after the other."""
        if ats and int(ats[0] * _PER_SECOND) == int(ats[-1] * _PER_SECOND):
            self.add(ats[0], len(ats))
            return
        for at in ats:
            self.add(at)

    def _advance(self, slot: int) -> None:
        for passed in range(max(self._newest + 1, slot - _SLOTS + 1), slot + 1):
            self._ring[passed % _SLOTS] = 0
        self._newest = slot

    def _sum(self, start: int, stop: int) -> int:
        """Return the count of the slots from `start` up to `stop`, without it."""
        start = max(start, 0, self._newest - _SLOTS + 1)
        return sum(self._ring[slot % _SLOTS] for slot in range(start, min(stop, self._newest + 1)))

    def per_second(self, now: float) -> float:
        """Return the mean rate over the two seconds before `now` (over what there is of a younger run)."""
        stop = int(now * _PER_SECOND) + 1
        start = max(0, stop - int(_WINDOW * _PER_SECOND) - 1)
        # The slot that `now` falls into is not over yet: the mean is taken over the time that has passed.
        seconds = max(1 / _PER_SECOND, now - start / _PER_SECOND)
        return self._sum(start, stop) / seconds

    def series(self, now: float, n: int) -> list[int]:
        """Return the counts of the last `n` whole seconds, oldest first; the last one is still growing."""
        first = int(now) - n + 1
        return [
            self._sum(second * _PER_SECOND, (second + 1) * _PER_SECOND) if second >= 0 else 0
            for second in range(first, first + n)
        ]


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
