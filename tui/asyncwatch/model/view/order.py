"""Rows of a fleet in some order, in a few bytes each; and the type of work that is done in steps. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import compress, islice
from typing import Any, TypeVar, overload

from asyncwatch.model.rows import Row

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work on many rows, which yields after each step of a millisecond or two. `slices.for_each` runs it in time slices."""

STEP = 4096
"""Rows that one step looks at."""
_STEPS_AT_ONCE = 16


class Order(Sequence[Row]):
    """Some rows of a fleet, by their indexes in queue order.

    A list of a million rows would take the garbage collector 30 ms each time it looks for young garbage. It does not
    look into an array.
    """

    __slots__ = ("indexes", "rows")

    def __init__(self, rows: Sequence[Row], indexes: Iterable[int] = ()) -> None:
        self.rows = rows
        """All rows of the fleet, in queue order."""
        self.indexes = array("i", indexes)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.indexes)

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in their order."""
        return map(self.rows.__getitem__, self.indexes)

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...

    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        """Return one row, or several."""
        if isinstance(place, slice):
            return list(map(self.rows.__getitem__, self.indexes[place]))
        return self.rows[self.indexes[place]]

    def at(self, indexes: array[int]) -> list[Row]:
        """Return the rows with these indexes, which are in queue order or its reverse.

        Most often they are neighbours: copying a part of all rows takes a tenth of the time.
        """
        first, last = (indexes[0], indexes[-1]) if indexes else (0, -1)
        if last - first == len(indexes) - 1:
            return list(self.rows[first : last + 1])
        if first - last == len(indexes) - 1:
            return list(reversed(self.rows[last : first + 1]))
        return list(map(self.rows.__getitem__, indexes))

    def index(self, row: Any, start: int = 0, stop: int | None = None) -> int:
        """Return the place of the row.

        Raises:
            ValueError: it is not between `start` and `stop`.

        """
        # Searching the bytes takes a tenth of the time of `array.index`, which makes an integer of each element.
        size = self.indexes.itemsize
        sought, indexes = array("i", (row.index,)).tobytes(), self.indexes.tobytes()
        end = len(indexes) if stop is None else stop * size
        found = indexes.find(sought, start * size, end)
        while found >= 0 and found % size:
            found = indexes.find(sought, found + 1, end)
        if found < 0:
            raise ValueError(f"{row.name} is not there")
        return found // size


def in_queue_order(rows: Sequence[Row], some: Iterable[Row]) -> Steps[Order]:
    """Return `some` of the rows of a fleet in queue order."""
    is_one, source = bytearray(len(rows)), iter(some)
    while chunk := list(islice(source, STEP)):
        for row in chunk:
            is_one[row.index] = True
        yield
    order, size = Order(rows), _STEPS_AT_ONCE * STEP
    for start in range(0, len(is_one), size):
        order.indexes.extend(compress(range(start, start + size), is_one[start : start + size]))
        yield
    return order


def run_all(steps: Steps[T]) -> T:
    """Run all steps at once and return their result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # T, but StopIteration does not know
