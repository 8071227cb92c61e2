"""Live order: what happens now comes first. Kept up to date as rows change, whatever the size of the fleet. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import overload

from asyncwatch.events import WorkerState
from asyncwatch.model.rows import Row

HEAD = 512
"""Rows that are in order at any time: more than a terminal has lines."""
_SCANNED = 8_192
"""Rows looked at for queued ones in one update, at most."""
_SORTED = 1_000
"""Running workers that are sorted by the start of their first attempt; more are in the order in which they started."""
_SPAN = 1e9
"""Above every time and index: the distance between the sort keys of two ranks."""
RUNNING, WAITING, FAILED, QUEUED, SUCCEEDED = range(5)
RANKS = {
    WorkerState.RUNNING: RUNNING,
    WorkerState.CANCELLING: RUNNING,
    WorkerState.UNRESPONSIVE: RUNNING,
    WorkerState.WAITING: WAITING,
    WorkerState.BACKING_OFF: WAITING,
    WorkerState.RESTARTING: WAITING,
    WorkerState.FAILED: FAILED,
    WorkerState.EXHAUSTED: FAILED,
    WorkerState.TIMED_OUT: FAILED,
    WorkerState.CANCELLED: FAILED,
    WorkerState.QUEUED: QUEUED,
    WorkerState.SUCCEEDED: SUCCEEDED,
}
"""The place of each state: workers of equal rank are sorted by time."""


def live_key(row: Row) -> float:
    """Return a sort key: running (longest first), waiting, failed (newest first), queued, succeeded (newest first)."""
    rank = RANKS[row.state]
    if rank is QUEUED:
        within: float = row.index
    elif rank is FAILED or rank is SUCCEEDED:
        within = -(row.ended_at or 0.0)
    else:
        within = row.first_started_at or 0.0
    return rank * _SPAN + within


class LiveHead(Sequence[Row]):
    """As many rows as there are, the first ones in live order: all that is shown until a person moves the cursor."""

    __slots__ = ("_rows", "head")

    def __init__(self, head: list[Row], rows: Sequence[Row]) -> None:
        self.head = head
        self._rows = rows

    def __len__(self) -> int:
        """Return how many rows the fleet has."""
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        """Yield all rows, in any order."""
        return iter(self._rows)

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...

    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        """Return rows of the head."""
        return self.head[place]


class LiveOrder:
    """The rows of a fleet by what they do, in lists that are changed as the rows change.

    An update costs what has changed, and a head what it has rows.

    Args:
        rows: all rows of the fleet, in queue order.
        before: all rows by `live_key`, if workers have already started.

    """

    def __init__(self, rows: list[Row], before: Iterable[Row] = ()) -> None:
        self._rows = rows
        self._active: dict[int, dict[int, None]] = {RUNNING: {}, WAITING: {}}
        """Indexes by rank, in the order in which the workers entered it."""
        self._ended = {FAILED: array("i"), SUCCEEDED: array("i")}
        """Indexes by rank, newest last. Some have another rank by now, or stand there again."""
        self._next: dict[int, None] = {}
        """Indexes of queued workers, next first: all up to `_seen` if there are few."""
        self._seen = 0
        """Rows that were looked at for queued ones."""
        self._touched: set[Row] = set()
        self._latest = dict.fromkeys(self._ended, 0.0)
        """When the newest worker of each of these lists ended."""
        self._adopt(before)

    def _adopt(self, before: Iterable[Row]) -> None:
        ended: dict[int, list[int]] = {FAILED: [], SUCCEEDED: []}
        for row in before:
            if (rank := RANKS[row.state]) in self._active:
                self._active[rank][row.index] = None
            elif rank in ended:
                ended[rank].append(row.index)
        for rank, indexes in ended.items():
            self._ended[rank].extend(reversed(indexes))

    def touched(self, rows: Iterable[Row]) -> None:
        """Record that `rows` have changed."""
        self._touched.update(rows)

    @property
    def is_outdated(self) -> bool:
        """Whether rows have changed, or have come, since the last update."""
        return bool(self._touched) or (self._seen < len(self._rows) and len(self._next) < HEAD)

    def update(self) -> None:
        """Move the rows that have changed."""
        rows, touched = self._rows, self._touched
        self._touched = set()
        ended: dict[int, list[tuple[float, int]]] = {FAILED: [], SUCCEEDED: []}
        running, waiting = self._active[RUNNING], self._active[WAITING]
        for row in touched:
            index = row.index
            rank = RANKS[row.state]
            # A worker that ended long ago is touched by a late event about it.
            if rank in ended and (at := row.ended_at or 0.0) >= self._latest[rank]:
                ended[rank].append((at, index))
            if rank is QUEUED:
                if index < self._seen:
                    self._next[index] = None  # it was restarted
            else:
                self._next.pop(index, None)
            for other, indexes in ((RUNNING, running), (WAITING, waiting)):
                if rank is not other:
                    indexes.pop(index, None)
                elif index not in indexes:
                    indexes[index] = None
        for rank, times in ended.items():
            times.sort()
            self._ended[rank].extend(index for _, index in times)
            self._latest[rank] = times[-1][0] if times else self._latest[rank]
        self._look_for_queued(len(rows))

    def _look_for_queued(self, count: int) -> None:
        end = min(count, self._seen + _SCANNED)
        while len(self._next) < HEAD and self._seen < end:
            stop = min(self._seen + HEAD, end)
            for row in self._rows[self._seen : stop]:
                if row.state is WorkerState.QUEUED:
                    self._next[row.index] = None
            self._seen = stop

    def head(self) -> list[Row]:
        """Return the first `HEAD` rows, or all."""
        found: dict[int, None] = {}
        for source in (self._running, self._waiting, self._newest_failed, self._queued, self._newest_succeeded):
            for index in source():
                found[index] = None
                if len(found) >= HEAD:
                    break
            else:
                continue
            break
        return [self._rows[index] for index in found]

    def _running(self) -> Iterable[int]:
        running = self._active[RUNNING]
        if len(running) > _SORTED:
            return running
        return sorted(running, key=lambda index: self._rows[index].first_started_at or 0.0)

    def _waiting(self) -> Iterable[int]:
        return self._active[WAITING]

    def _queued(self) -> Iterable[int]:
        return (index for index in self._next if self._rows[index].state is WorkerState.QUEUED)

    def _newest_failed(self) -> Iterator[int]:
        return self._newest(FAILED)

    def _newest_succeeded(self) -> Iterator[int]:
        return self._newest(SUCCEEDED)

    def _newest(self, rank: int) -> Iterator[int]:
        """Yield those that still have that rank; of a worker that ended again, its newest place."""
        indexes, rows = self._ended[rank], self._rows
        # A row that was restarted stands there twice, so a few more than are needed are looked at.
        newest = islice(reversed(indexes), 2 * HEAD)
        return (index for index in dict.fromkeys(newest) if RANKS[rows[index].state] == rank)
