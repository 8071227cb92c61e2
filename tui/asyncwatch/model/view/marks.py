"""Marked workers, one byte each: there may be a million. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import compress

from asyncwatch.model.fleet import Fleet
from asyncwatch.model.rows import Row
from asyncwatch.model.view.sort import STEP, Steps
from asyncwatch.slices import Work, for_each

_ON = b"\1"


class Marks(AbstractSet[str]):
    """The names of the marked workers, in queue order.

    Many rows are marked in steps (`add`, then `work`). `rows` and the other changes `finish` them first.
    """

    __slots__ = ("_flags", "_fleet", "_job", "_replaced")

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._flags = bytearray()
        self._job: Work | None = None
        self._replaced = 0
        """`DepartedChildren.replaced` when the flags were last used."""

    def __contains__(self, name: object) -> bool:
        """Return whether the worker is marked."""
        row = self._fleet.get(name) if self._flags and isinstance(name, str) else None
        return row is not None and self._current()[row.index : row.index + 1] == _ON

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return (row.name for row in compress(self._fleet.rows, self._current()))

    def __len__(self) -> int:
        """Return how many there are."""
        return self._current().count(1)

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return 1 in self._current()

    @property
    def is_busy(self) -> bool:
        """Whether rows are left to mark."""
        return self._job is not None

    def rows(self) -> list[Row]:
        """Return the marked rows, in queue order."""
        self.finish()
        return list(compress(self._fleet.rows, self._current()))

    def add(self, lines: Sequence[object], *, without: Row | None = None) -> None:
        """Mark all rows among the lines except `without`, in steps that `work` runs."""
        self.finish()
        self._job = for_each(self._mark(lines, without), lambda _: None)

    def add_all(self) -> None:
        """Mark all workers of the fleet."""
        self._job = None
        self._flags = bytearray(_ON) * len(self._fleet.rows)
        self._replaced = self._fleet.departed.replaced

    def add_named(self, names: AbstractSet[str], start: int) -> None:
        """Mark the workers with these names among those from the index `start` on."""
        self.finish()
        flags = self._grown()
        for index, row in enumerate(self._fleet.rows[start:], start):
            if row.name in names:
                flags[index] = 1

    def toggle(self, spans: Iterable[slice]) -> None:
        """Mark the workers with these indexes, or unmark them if all are marked."""
        self.finish()
        flags, spans = self._grown(), list(spans)
        is_marking = any(0 in flags[span] for span in spans)
        for span in spans:
            flags[span] = bytes((is_marking,)) * (span.stop - span.start)

    def toggle_worker(self, name: str) -> bool:
        """Toggle the mark of a worker. Return whether it is marked now."""
        row = self._fleet.get(name)
        if row is not None:
            self.toggle([slice(row.index, row.index + 1)])
        return name in self

    def clear(self) -> None:
        """Unmark all workers."""
        self._job = None
        self._flags = bytearray()

    def work(self, is_time_up: Callable[[], bool]) -> bool:
        """Run steps until time is up. Return whether there are more."""
        if self._job is not None and not self._job(is_time_up):
            self._job = None
        return self._job is not None

    def finish(self) -> None:
        """Run all remaining steps."""
        self.work(lambda: False)

    def _mark(self, lines: Sequence[object], without: Row | None) -> Steps[None]:
        rows = self._fleet.rows
        for start in range(0, len(lines), STEP):
            flags = self._grown()
            for line in lines[start : start + STEP]:
                # A row may have been replaced since the lines were made.
                if isinstance(line, Row) and line is not without and rows[line.index] is line:
                    flags[line.index] = 1
            yield

    def _current(self) -> bytearray:
        """Clear the flags of replaced rows and return all flags. New workers may have none yet."""
        flags, departed = self._flags, self._fleet.departed
        if self._replaced != departed.replaced:
            for index, number in reversed(departed.replaced_at.items()):
                if number <= self._replaced:
                    break
                flags[index : index + 1] = bytes(len(flags[index : index + 1]))
            self._replaced = departed.replaced
        return flags

    def _grown(self) -> bytearray:
        flags = self._current()
        flags.extend(bytes(len(self._fleet.rows) - len(flags)))
        return flags
