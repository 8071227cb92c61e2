"""Sorts rows, a million if need be, in small steps: generators that yield between them and return the order.

Rows go on changing meanwhile, so the value that a row is sorted by is asked for once, and what changed is placed anew
later: see `place_anew`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from asyncwatch.model.row import Row

T = TypeVar("T")
Steps = Generator[None, None, T]

STEP = 4096
"""Rows that one step looks at: a few milliseconds."""
_RUNS_FREED = 16
_COPIED = 16
"""So many steps' rows are copied, or let go of, in one."""
_SAMPLED = 64
"""Of so many values one is looked at to find out how they are spread."""


class Ordering(NamedTuple):
    """By what rows are sorted. Rows with equal keys stay in queue order, in both directions."""

    key: Callable[[Row], Any]
    is_reversed: bool

    def is_before(self, row: Row, key: Any, index: int) -> bool:
        """Return whether the row comes before another one with that key and place in the queue."""
        own = self.key(row)
        if own == key:
            return row.index < index
        return bool(own < key) is not self.is_reversed


def finish(steps: Steps[T]) -> T:
    """Take all steps at once and return what they lead to."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # T, but StopIteration does not know


def sort(rows: Sequence[Row], ordering: Ordering) -> Steps[list[Row]]:
    """Sort `rows`, which come in queue order.

    Short runs are sorted first. Then values that stand at even distances among all cut every run, and what lies
    between the same two values is sorted together: a sample sort.
    """
    runs: list[tuple[Sequence[Any], list[Row]]] = []
    # Few and long runs are put together in less time.
    for run in _chunks(rows, 2 * STEP, is_reversed=ordering.is_reversed):
        run_keys, sorted_run = _sorted(list(map(ordering.key, run)), run)
        runs.append((_packed(run_keys), sorted_run))
        yield
    sample = sorted(key for keys, _ in runs for key in keys[::_SAMPLED])
    order: list[Row] = []
    starts = [0] * len(runs)
    for pivot in dict.fromkeys(sample[:: STEP // _SAMPLED]) if len(runs) > 1 else ():
        below_keys: list[Any] = []
        below: list[Row] = []
        equal: list[tuple[list[Row], int, int]] = []
        for number, (keys, run) in enumerate(runs):
            start = starts[number]
            left = bisect_left(keys, pivot, start)
            is_there = left < len(keys) and keys[left] == pivot
            starts[number] = right = bisect_right(keys, pivot, left) if is_there else left
            below_keys += keys[start:left]
            below += run[start:left]
            equal.append((run, left, right))
        order += _sorted(below_keys, below)[1]
        # However many they are, they are in order.
        for number, (run, left, right) in enumerate(equal):
            order += run[left:right]
            if number % _COPIED == _COPIED - 1:
                yield
        yield
    above_keys = [key for (keys, _), start in zip(runs, starts, strict=True) for key in keys[start:]]
    above = [row for (_, run), start in zip(runs, starts, strict=True) for row in run[start:]]
    order += _sorted(above_keys, above)[1]
    if ordering.is_reversed:
        order.reverse()
    # To let go of a million objects at once takes its time as well.
    while runs:
        del runs[-_RUNS_FREED:]
        yield
    return order


def place_anew(
    order: Sequence[Row], moved: Collection[Row], shown: Sequence[Row], ordering: Ordering, stale: Collection[Row]
) -> Steps[list[Row]]:
    """Return `order` without the rows that `moved`, and with those of them that are `shown` at their new places.

    `stale` are the rows that have changed since, and so may stand where they do not belong.
    """
    kept: list[Row] = []
    for chunk in _chunks(order, STEP, is_reversed=False):
        kept += [row for row in chunk if row not in moved]
        yield
    # Rows that go on changing get the places of one moment: else they would stand wherever the row before them does.
    keys: dict[Row, Any] = {}
    for chunk in _chunks(shown, STEP, is_reversed=False):
        keys.update(zip(chunk, map(ordering.key, chunk), strict=True))
        yield
    of_now = ordering._replace(key=keys.__getitem__)
    queued = yield from sort(shown, Ordering(attrgetter("index"), is_reversed=False))
    placed = yield from sort(queued, of_now)
    search = _Search(kept, ordering, stale)
    result: list[Row] = []
    start = 0
    for row in placed:
        place = yield from search.place(keys[row], row.index, start)
        yield from _copy(kept, start, place, result)
        result.append(row)
        start = place
    yield from _copy(kept, start, len(kept), result)
    while kept:
        del kept[-_COPIED * STEP :]
        yield
    return result


def place_of(order: Sequence[Row], row: Row, ordering: Ordering, stale: Collection[Row]) -> int:
    """Return where in `order` the row stands or would stand, whatever `stale` rows there are."""
    return finish(_Search(order, ordering, stale).place(ordering.key(row), row.index, 0))


class _Search:
    """Finds places in an order of which some rows are stale; between two steps more of them may become so.

    Rows that changed are often neighbours, thousands of them: where they end is remembered, so that not every search
    passes all of them.
    """

    def __init__(self, order: Sequence[Row], ordering: Ordering, stale: Collection[Row]) -> None:
        self._order = order
        self._ordering = ordering
        self._stale = stale
        self._beyond: dict[int, int] = {}
        """Of the place of a stale row one further down; all between them are stale."""
        self._looked = 0
        """Rows looked at since the last step."""

    def place(self, key: Any, index: int, start: int) -> Steps[int]:
        """Return where, from `start` on, a row with that key and place in the queue would stand."""
        order, stale, is_before = self._order, self._stale, self._ordering.is_before
        end = len(order)
        while True:
            if self._looked >= STEP:
                self._looked = 0
                yield
            # A search is work even if there is nothing left to look at.
            self._looked += 1
            if start >= end:
                return start
            middle = probe = (start + end) // 2
            if order[middle] in stale:
                probe = yield from self._pass_stale(middle)
            if probe < end and is_before(order[probe], key, index):
                start = probe + 1
            else:
                end = middle

    def _pass_stale(self, place: int) -> Steps[int]:
        """Return the first place, from `place` on, of a row that is not stale, or the end of the order."""
        order, stale, beyond = self._order, self._stale, self._beyond
        while True:
            passed: list[int] = []
            while len(passed) < STEP and place < len(order) and order[place] in stale:
                passed.append(place)
                place = beyond.get(place, place + 1)
            beyond.update(dict.fromkeys(passed, place))
            self._looked += len(passed)
            if len(passed) < STEP:
                return place
            self._looked = 0
            yield


def _copy(rows: list[Row], start: int, end: int, to: list[Row]) -> Steps[None]:
    """Append `rows[start:end]` to the others, in steps if they are many."""
    size = _COPIED * STEP
    while end - start > size:
        to += rows[start : start + size]
        start += size
        yield
    to += rows[start:end]


def _chunks(rows: Sequence[Row], size: int, *, is_reversed: bool) -> Iterator[list[Row]]:
    """Yield the rows in lists of that size; reversed, from the last one to the first.

    A final turn then restores the order of equal ones.
    """
    starts = range(0, len(rows), size)
    for start in reversed(starts) if is_reversed else starts:
        chunk = list(rows[start : start + size])
        if is_reversed:
            chunk.reverse()
        yield chunk


def _packed(keys: list[Any]) -> Sequence[Any]:
    """Return the keys without an object for each, if they are fractions."""
    return array("d", keys) if type(keys[0]) is float else keys


def _sorted(keys: list[Any], rows: list[Row]) -> tuple[list[Any], list[Row]]:
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return list(map(keys.__getitem__, order)), list(map(rows.__getitem__, order))
