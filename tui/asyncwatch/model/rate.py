"""How many things ended in each of the last minutes' moments, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

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
