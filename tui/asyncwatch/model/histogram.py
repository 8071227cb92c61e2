"""Quantiles of durations in bounded memory.

Buckets are spaced by the constant factor `(1 + a) / (1 - a)`, so that the middle of a bucket is within the
share `a` of every value in it: the mapping of DDSketch (Masson, Rim and Lee, VLDB 2019).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

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
