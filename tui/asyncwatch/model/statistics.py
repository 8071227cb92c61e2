"""Figures of a run in bounded memory: quantiles, rates, delays of the event loop, and the time itself. Pure.

The buckets of the histogram grow by the constant factor `(1 + a) / (1 - a)`, so that the middle of a bucket is within
the share `a` of every value in it: the mapping of DDSketch (Masson, Rim and Lee, VLDB 2019).
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Sequence

from asyncwatch.events import Batch, LoopBlocked

RELATIVE_ERROR = 0.02
"""Largest relative error of a quantile between `SHORTEST` and `LONGEST`."""
SHORTEST = 1e-6
"""Seconds: the first bucket holds this and everything shorter."""
LONGEST = 1e6
"""Seconds: the last bucket holds this and everything longer. The maximum itself is kept."""

_FACTOR = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_FACTOR = math.log(_FACTOR)
_BUCKETS = math.ceil(math.log(LONGEST / SHORTEST) / _LOG_FACTOR) + 1


class Histogram:
    """Counts of durations by size, about 700 integers."""

    __slots__ = ("_buckets", "count", "highest", "lowest")

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self.count = 0
        self.lowest = math.inf
        self.highest = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration. A negative one (the clock went back) counts as 0."""
        if not seconds > SHORTEST:
            bucket = 0
            seconds = max(0.0, seconds)
        elif seconds >= LONGEST:
            bucket = _BUCKETS - 1
        else:
            bucket = math.ceil(math.log(seconds / SHORTEST) / _LOG_FACTOR)
        self._buckets[bucket] += 1
        self.count += 1
        if seconds < self.lowest:  # noqa: PLR1730  min() and max() take 0.1 us each, all else 0.2 us
            self.lowest = seconds
        if seconds > self.highest:  # noqa: PLR1730
            self.highest = seconds

    def add_all(self, many: Sequence[float]) -> None:
        """Count as many durations at once, in a third of the time; there must be at least one."""
        buckets, ceil, log = self._buckets, math.ceil, math.log
        for seconds in many:
            if SHORTEST < seconds < LONGEST:
                buckets[ceil(log(seconds / SHORTEST) / _LOG_FACTOR)] += 1
            else:
                buckets[_BUCKETS - 1 if seconds >= LONGEST else 0] += 1
        self.count += len(many)
        self.lowest = min(self.lowest, max(0.0, min(many)))
        longest = max(many)
        self.highest = max(self.highest, longest)

    def quantile(self, q: float) -> float | None:
        """Return the seconds that the share `q` in [0, 1] of all durations does not exceed; None if there are none.

        It is within `RELATIVE_ERROR` of the value of nearest rank, `ceil(q * count)`.
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
    """Ring of counts, one for each fifth of a second of the last 300 seconds."""

    __slots__ = ("_newest", "_ring")

    def __init__(self) -> None:
        self._ring = [0] * _SLOTS
        self._newest = 0

    def add(self, at: float, attempts: int = 1) -> None:
        """Count attempts that ended at `at`, in seconds since the run started."""
        slot = int(at * _PER_SECOND)
        if slot > self._newest:
            self._advance(slot)
        elif slot <= self._newest - _SLOTS:
            return
        self._ring[slot % _SLOTS] += attempts

    def add_all(self, ats: Sequence[float]) -> None:
        """Count as many attempts, of which there must be at least one. Those of a batch mostly fall into one slot."""
        first, last = int(min(ats) * _PER_SECOND), int(max(ats) * _PER_SECOND)
        if first == last:
            self.add(ats[0], len(ats))
        else:
            for at in ats:
                self.add(at)

    def _advance(self, slot: int) -> None:
        for passed in range(max(self._newest + 1, slot - _SLOTS + 1), slot + 1):
            self._ring[passed % _SLOTS] = 0
        self._newest = slot

    def _sum(self, start: int, stop: int) -> int:
        """Return the count of the slots from `start` up to, not including, `stop`."""
        start = max(start, 0, self._newest - _SLOTS + 1)
        return sum(self._ring[slot % _SLOTS] for slot in range(start, min(stop, self._newest + 1)))

    def per_second(self, now: float) -> float:
        """Return the mean rate over the two seconds before `now`, or over the whole of a younger run."""
        stop = int(now * _PER_SECOND) + 1
        start = max(0, stop - int(_WINDOW * _PER_SECOND) - 1)
        # The slot of `now` is not over: divide by the time that has passed.
        seconds = max(1 / _PER_SECOND, now - start / _PER_SECOND)
        return self._sum(start, stop) / seconds

    def series(self, now: float, n: int) -> list[int]:
        """Return the counts of the last `n` seconds, oldest first; the last one is still growing."""
        first = int(now) - n + 1
        return [
            self._sum(second * _PER_SECOND, (second + 1) * _PER_SECOND) if second >= 0 else 0
            for second in range(first, first + n)
        ]


_PACE_WINDOW = 60.0
_LEAST_WINDOW = 1.0
_SAMPLE_EVERY = 1.0


class Pace:
    """How fast workers settled over the last minute, to estimate when the rest will have. Times are of the run."""

    __slots__ = ("_last", "_samples", "_settled")

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()
        self._settled = 0
        """Workers that settled while this was told, those that were restarted since included."""
        self._last: int | None = None

    def note(self, at: float, settled: int) -> None:
        """Note how many workers have settled at `at`."""
        if self._samples and at < self._samples[-1][0]:  # an earlier moment of a recorded run
            self._samples.clear()
            self._last = None
        if self._last is not None and settled > self._last:
            self._settled += settled - self._last
        self._last = settled
        if not self._samples or at >= self._samples[-1][0] + _SAMPLE_EVERY:
            self._samples.append((at, self._settled))
            while len(self._samples) > 1 and self._samples[1][0] <= at - _PACE_WINDOW:
                self._samples.popleft()

    def seconds(self, left: int, now: float) -> float | None:
        """Return how long `left` workers will take at this pace; None while it is unknown."""
        if not self._samples:
            return None
        start, before = self._samples[0]
        settled, window = self._settled - before, now - start
        return left * window / settled if settled and window >= _LEAST_WINDOW else None


BLOCKS_KEPT = 1_000
"""Block events kept, the newest."""
SPANS_KEPT = 10_000
"""Late spans kept at least, the newest, to compare attempts with."""
LATE_SHARE = 0.1
"""Share of an attempt for which the loop is late at least, if it distorts the attempt's time."""
_ADJACENT = 0.05
"""Late spans closer than these seconds count as one."""


class LoopWatch:
    """Blocks of the event loop, in the order in which they ended. Times are in seconds since the run started."""

    def __init__(self) -> None:
        self.blocks: deque[LoopBlocked] = deque(maxlen=BLOCKS_KEPT)
        """The newest blocks."""
        self.count = 0
        """Number of all blocks, kept or not."""
        self.seconds = 0.0
        """Seconds for which the loop was late."""
        self.longest: LoopBlocked | None = None
        self._last_by_worker: dict[str, LoopBlocked] = {}
        self._starts, self._ends = array("d"), array("d")
        self._before = array("d")  # seconds of lateness before each of these spans

    def blocked(self, event: LoopBlocked) -> None:
        """Record a block."""
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
        """Return the seconds between `start` and `end` in which the loop was late, by the kept spans."""
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end) - 1
        if last < first:
            return 0.0
        whole = self._before[last] + self._ends[last] - self._starts[last] - self._before[first]
        return whole - max(0.0, start - self._starts[first]) - max(0.0, self._ends[last] - end)

    def is_distorted(self, start: float | None, seconds: float | None) -> bool:
        """Return whether the loop was late for `LATE_SHARE` of an attempt of `seconds` that began at `start`."""
        if not self._ends or start is None or seconds is None or start >= self._ends[-1]:
            return False
        late = self.late_within(start, start + seconds)
        return late > 0 and late >= seconds * LATE_SHARE


class RunTime:
    """Estimates when the run started from the times of its events. `set` says instead what time it is.

    `clock` is monotonic, in seconds; its zero does not matter.
    """

    __slots__ = ("_clock", "_speed", "_started_at")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started_at: float | None = None
        self._speed = 1.0

    def note(self, batch: Batch) -> None:
        """Note a batch that has just arrived."""
        if batch:
            self.reached(batch[-1].at)

    def reached(self, at: float) -> None:
        """Note that the run has been going for at least `at` seconds."""
        # The least delayed batch gives the earliest estimate.
        started_at = self._clock() - at / self._speed if self._speed else -at
        self._started_at = started_at if self._started_at is None else min(started_at, self._started_at)

    def set(self, at: float, speed: float) -> None:
        """Let the time be `at`, and `speed` seconds of it pass in a second from now on; none at 0."""
        self._speed, self._started_at = speed, None
        self.reached(at)

    @property
    def now(self) -> float:
        """Seconds since the run started; 0 before its first event."""
        if self._started_at is None:
            return 0.0
        return max(0.0, (self._clock() - self._started_at) * self._speed if self._speed else -self._started_at)
