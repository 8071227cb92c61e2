"""A map of the fleet: one cell a worker, or a bucket of workers with its worst state. Pure.

The state of each worker is a byte, and `bytearray.find` looks for the worst one in a bucket: a change costs the same in
a fleet of any size.
"""

from __future__ import annotations

from collections.abc import Iterable

from asyncwatch.events import WorkerState
from asyncwatch.model.rows import Row

SEVERITY = (
    WorkerState.UNRESPONSIVE,
    WorkerState.FAILED,
    WorkerState.EXHAUSTED,
    WorkerState.TIMED_OUT,
    WorkerState.BACKING_OFF,
    WorkerState.RESTARTING,
    WorkerState.WAITING,
    WorkerState.CANCELLING,
    WorkerState.RUNNING,
    WorkerState.CANCELLED,
    WorkerState.QUEUED,
    WorkerState.SUCCEEDED,
)
"""The states, worst first. What still happens is worse than what is well."""
_CODES = {state: code for code, state in enumerate(SEVERITY)}
_BYTES = [bytes((code,)) for code in range(len(SEVERITY))]
_QUEUED = _BYTES[_CODES[WorkerState.QUEUED]]
_CHUNK = 4_096
"""Rows whose states are read at once."""


class StateMap:
    """The states of all workers of a fleet, and the worst one of each bucket of neighbours in queue order.

    Args:
        rows: all rows of the fleet, in queue order.
        is_new: whether all of these are queued.

    """

    def __init__(self, rows: list[Row], *, is_new: bool = False) -> None:
        self._rows = rows
        self._states = bytearray(_QUEUED * len(rows)) if is_new else bytearray()
        self._touched: set[Row] = set()
        self._cells = bytearray()
        self.size = 1
        """Workers of a bucket."""
        self._drawn = 0
        """Workers of all buckets."""

    @property
    def is_behind(self) -> bool:
        """Whether states of some rows are still to be read."""
        return len(self._states) < len(self._rows)

    @property
    def is_outdated(self) -> bool:
        """Whether rows have changed since the cells were made."""
        return bool(self._touched) or len(self._states) != self._drawn

    def touched(self, rows: Iterable[Row]) -> None:
        """Record that `rows` have changed."""
        self._touched.update(rows)

    def read(self) -> None:
        """Read the states of some more rows."""
        start = len(self._states)
        self._states += bytes([_CODES[row.state] for row in self._rows[start : start + _CHUNK]])

    def cells(self, most: int) -> bytes:
        """Return the worst state of each bucket, as an index of `SEVERITY`, in at most `most` cells."""
        states, touched = self._states, self._touched
        self._touched = set()
        changed: set[int] = set()
        for row in touched:
            index, code = row.index, _CODES[row.state]
            if index < len(states) and states[index] != code:
                states[index] = code
                changed.add(index)
        size = max(1, -(-len(self._rows) // max(1, most)))
        if size != self.size or len(states) != self._drawn:
            self.size, self._drawn = size, len(states)
            self._cells = bytearray(map(self._worst, range(-(-len(states) // size))))
        else:
            for cell in {index // size for index in changed}:
                self._cells[cell] = self._worst(cell)
        return bytes(self._cells)

    def _worst(self, cell: int) -> int:
        start = cell * self.size
        find, stop = self._states.find, start + self.size
        return next(code for code, byte in enumerate(_BYTES) if find(byte, start, stop) >= 0)

    def row_at(self, cell: int) -> Row | None:
        """Return the first worker of a bucket that is in its worst state; None if there is no such bucket."""
        if not 0 <= cell < len(self._cells):
            return None
        start = cell * self.size
        return self._rows[self._states.find(_BYTES[self._worst(cell)], start, start + self.size)]
