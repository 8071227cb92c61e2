"""Sorting a million rows, and placing rows that changed, in steps of a millisecond or two. Pure."""

from __future__ import annotations

import marshal
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, filterfalse
from typing import Any, NamedTuple

from asyncwatch.model.rows import Row
from asyncwatch.model.view.order import STEP, Order, Steps, run_all

_SAMPLE_SHARE = 32
"""One row in this many is sampled to choose the pivots."""
_SAMPLE_LIMIT = 2 * STEP
"""Rows that are enough as a sample, however many there are."""
_SCATTERED = STEP // 4
"""Rows of one step if they are not neighbours: each of them is a cache miss."""
_GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, are spread evenly and do not fall in with a pattern of the rows."""


class Ordering(NamedTuple):
    """What rows are sorted by. Rows with equal keys stay in queue order, in both directions."""

    key: Callable[[Row], Any]
    is_reversed: bool
    of_many: Callable[[Sequence[Row]], list[Any]] | None = None
    """Returns the keys of many rows in less time than one by one, where there is a way."""

    def keys(self, rows: Sequence[Row]) -> list[Any]:
        """Return the key of each row."""
        return self.of_many(rows) if self.of_many is not None else list(map(self.key, rows))

    def is_before(self, row: Row, key: Any, index: int) -> bool:
        """Return whether the row comes before another one with that key and index."""
        own = self.key(row)
        if own == key:
            return row.index < index
        return bool(own < key) is not self.is_reversed


def sort(order: Order, ordering: Ordering) -> Steps[Order]:
    """Sort rows that are in queue order: a sample sort.

    Pivots are chosen from a sample. Short runs of rows are sorted and cut at the pivots; then each bucket, the rows
    between two pivots, is sorted.
    """
    pivots = yield from _pivots(order, ordering)
    buckets = [_Bucket() for _ in range(len(pivots) + 1)]
    for indexes in _chunks(order.indexes, is_reversed=ordering.is_reversed):
        keys = ordering.keys(order.at(indexes))
        ranks = sorted(range(len(keys)), key=keys.__getitem__)
        _cut(_packed(map(keys.__getitem__, ranks), keys), array("i", map(indexes.__getitem__, ranks)), pivots, buckets)
        yield
    result = Order(order.rows)
    for bucket in buckets:
        result.indexes.fromlist(bucket.sorted())
        result.indexes.extend(bucket.equal)
        yield
    if ordering.is_reversed:
        result.indexes.reverse()
    return result


class _Bucket:
    """Rows whose keys lie between two pivots, and, already in order, the rows whose key is the upper pivot."""

    __slots__ = ("equal", "floats", "indexes", "others")

    def __init__(self) -> None:
        self.floats = array("d")
        self.others: list[bytes] = []
        """Keys that are no floats, marshalled: the garbage collector would visit each of a million objects."""
        self.indexes = array("i")
        self.equal = array("i")

    def add(self, keys: Sequence[Any], indexes: array[int]) -> None:
        if not keys:
            return
        if isinstance(keys, array):
            self.floats.extend(keys)
        else:
            self.others.append(marshal.dumps(list(keys)))
        self.indexes.extend(indexes)

    def sorted(self) -> list[int]:
        keys = iter(self.floats) if self.floats else chain.from_iterable(map(marshal.loads, self.others))
        # `sorted` asks for the key of each index once and in turn: `next` returns it and ignores its other argument.
        return sorted(self.indexes, key=partial(next, keys))


def _pivots(order: Order, ordering: Ordering) -> Steps[list[Any]]:
    """Return keys in ascending order, with about `STEP` rows between two of them unless their keys are equal."""
    count, most = len(order) // (2 * STEP), len(order)
    if count < 2:
        return []
    sample: list[Any] = []
    size = min(most // _SAMPLE_SHARE, _SAMPLE_LIMIT)
    for start in range(0, size, _SCATTERED):
        numbers = range(start, min(start + _SCATTERED, size))
        sample += ordering.keys([order[int(number * _GOLDEN % 1 * most)] for number in numbers])
        yield
    sample.sort()
    return list(dict.fromkeys(sample[number * size // count] for number in range(1, count)))


def _packed(keys: Iterable[Any], kind: Sequence[Any]) -> Sequence[Any]:
    """Return the keys as an array without objects if they are floats, as those of `kind` are."""
    return array("d", keys) if type(kind[0]) is float else list(keys)


def _cut(keys: Sequence[Any], indexes: array[int], pivots: Iterable[Any], buckets: Sequence[_Bucket]) -> None:
    """Distribute a sorted run over the buckets."""
    start = 0
    for pivot, bucket in zip(pivots, buckets, strict=False):
        end = bisect_left(keys, pivot, start)
        bucket.add(keys[start:end], indexes[start:end])
        start = end
        if end < len(keys) and keys[end] == pivot:
            start = bisect_right(keys, pivot, end)
            bucket.equal.extend(indexes[end:start])
    buckets[-1].add(keys[start:], indexes[start:])


def _chunks(indexes: array[int], *, is_reversed: bool) -> Iterator[array[int]]:
    """Yield the indexes, `STEP` at a time; if reversed, from the last one to the first.

    The result is reversed at the end, which then restores the queue order of equal rows.
    """
    starts = range(0, len(indexes), STEP)
    for start in reversed(starts) if is_reversed else starts:
        chunk = indexes[start : start + STEP]
        if is_reversed:
            chunk.reverse()
        yield chunk


def reinsert(order: Order, moved: Order, shown: Order, ordering: Ordering, stale: Collection[Row]) -> Steps[Order]:
    """Return `order` without the rows of `moved`, and with the rows of `shown` at their new places.

    `moved` and `shown`, some of `moved`, are in queue order. `stale` are rows that have changed since the last sort,
    and so may be at a wrong place.
    """
    left: set[int] = set()
    for indexes in _chunks(moved.indexes, is_reversed=False):
        left.update(indexes)
        yield
    kept = Order(order.rows)
    for indexes in _chunks(order.indexes, is_reversed=False):
        kept.indexes.extend(indexes if left.isdisjoint(indexes) else filterfalse(left.__contains__, indexes))
        yield
    # The keys of one moment: rows may go on changing between two steps.
    keys: dict[Row, Any] = {}
    for start in range(0, len(shown), STEP):
        chunk = shown[start : start + STEP]
        keys.update(zip(chunk, ordering.keys(chunk), strict=True))
        yield
    of_now = Ordering(keys.__getitem__, ordering.is_reversed)
    placed = yield from sort(shown, of_now)
    search = _Search(kept, ordering, stale)
    result = Order(order.rows)
    start = 0
    for row in placed:
        place = yield from search.place(keys[row], row.index, start)
        result.indexes.extend(kept.indexes[start:place])
        result.indexes.append(row.index)
        start = place
    result.indexes.extend(kept.indexes[start:])
    return result


def place_of(order: Order, row: Row, ordering: Ordering, stale: Collection[Row]) -> int:
    """Return the place in `order` where the row is, or would be inserted. `stale` rows may be at a wrong place."""
    return run_all(_Search(order, ordering, stale).place(ordering.key(row), row.index, 0))


class _Search:
    """Binary search in an order with stale rows; between two steps more rows may become stale.

    Rows that changed are often neighbours, thousands of them. Where they end is remembered, so that not every search
    passes them one by one.
    """

    def __init__(self, order: Order, ordering: Ordering, stale: Collection[Row]) -> None:
        self._order = order
        self._ordering = ordering
        self._stale = stale
        self._beyond: dict[int, int] = {}
        """Place of a stale row -> a later place; all rows between them are stale."""
        self._looked = 0
        """Rows looked at since the last step."""

    def place(self, key: Any, index: int, start: int) -> Steps[int]:
        """Return the place, from `start` on, of a row with that key and index."""
        order, stale, is_before = self._order, self._stale, self._ordering.is_before
        end = len(order)
        while True:
            if self._looked >= STEP:
                self._looked = 0
                yield
            # A search counts even if there is nothing to look at.
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
        """Return the first place, from `place` on, whose row is not stale, or the end of the order."""
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
