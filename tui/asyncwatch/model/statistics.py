"""Histogram of durations and rate of ended attempts, both in bounded memory. Pure.

The buckets of the histogram grow by the constant factor `(1 + a) / (1 - a)`, so that the middle of a bucket is within
the share `a` of every value in it: the mapping of DDSketch (Masson, Rim and Lee, VLDB 2019).
"""

from __future__ import annotations

import math

RELATIVE_ERROR = 0.02
"""How far a quantile may be from the exact one, as a share of it (between `SHORTEST` and `LONGEST`)."""
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

    def add(self, at: float) -> None:
        """Count one attempt that ended at `at`, in seconds since the run started."""
        slot = int(at * _PER_SECOND)
        if slot > self._newest:
            self._advance(slot)
        elif slot <= self._newest - _SLOTS:
            return
        self._ring[slot % _SLOTS] += 1

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
        # The slot of `now` is not over: divide by the time that has really passed.
        seconds = max(1 / _PER_SECOND, now - start / _PER_SECOND)
        return self._sum(start, stop) / seconds

    def series(self, now: float, n: int) -> list[int]:
        """Return the counts of the last `n` seconds, oldest first; the last one is still growing."""
        first = int(now) - n + 1
        return [
            self._sum(second * _PER_SECOND, (second + 1) * _PER_SECOND) if second >= 0 else 0
            for second in range(first, first + n)
        ]
