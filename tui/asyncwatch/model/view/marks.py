"""The workers that a person has marked: one byte each, as there may be a million of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import compress
from typing import TYPE_CHECKING

from asyncwatch.model.rows import Row

if TYPE_CHECKING:
    from asyncwatch.model.reducer import Fleet

_ON = b"\1"


class Marks(AbstractSet[str]):
    """The names of the marked workers, in queue order."""

    __slots__ = ("_flags", "_fleet")

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._flags = bytearray()

    def __contains__(self, name: object) -> bool:
        """Return whether the worker is marked."""
        row = self._fleet.get(name) if self._flags and isinstance(name, str) else None
        return row is not None and self._flags[row.index : row.index + 1] == _ON

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return (row.name for row in self.rows())

    def __len__(self) -> int:
        """Return how many there are."""
        return self._flags.count(1)

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return 1 in self._flags

    def rows(self) -> Iterator[Row]:
        """Yield the marked rows, in queue order."""
        return compress(self._fleet.rows, self._flags)

    def add(self, rows: Iterable[Row]) -> None:
        """Mark the rows."""
        flags = self._grown()
        for row in rows:
            flags[row.index] = 1

    def add_all(self) -> None:
        """Mark all workers of the fleet."""
        self._flags = bytearray(_ON) * len(self._fleet.rows)

    def toggle(self, spans: Iterable[slice]) -> None:
        """Mark the workers of some parts of the queue, or take the marks away if all of them have one."""
        flags, spans = self._grown(), list(spans)
        is_marking = any(0 in flags[span] for span in spans)
        for span in spans:
            flags[span] = bytes((is_marking,)) * (span.stop - span.start)

    def unmark(self, index: int) -> None:
        """Take away the mark of the worker at that place in the queue."""
        self._flags[index : index + 1] = bytes(len(self._flags[index : index + 1]))

    def clear(self) -> None:
        """Take every mark away."""
        self._flags = bytearray()

    def _grown(self) -> bytearray:
        """Return the flags, one for each worker there is."""
        self._flags.extend(bytes(len(self._fleet.rows) - len(self._flags)))
        return self._flags
