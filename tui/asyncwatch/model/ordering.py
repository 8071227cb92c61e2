"""Sorts rows, a million if need be, in small steps: generators that yield between them and return the order.

Rows go on changing meanwhile, so the value that a row is sorted by is asked for once, and what changed is placed anew
later: see `place_anew`.
"""

from __future__ import annotations

import marshal
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, compress, filterfalse, islice
from typing import Any, NamedTuple, TypeVar

from asyncwatch.model.order import Order
from asyncwatch.model.row import Row

T = TypeVar("T")
Steps = Generator[None, None, T]

STEP = 4096
"""Rows that one step looks at: a millisecond or two."""
_SAMPLED = 32
"""Of so many rows one is looked at to find out how their values are spread."""
_ENOUGH = 2 * STEP
"""Rows that tell it of any number."""
_SCATTERED = STEP // 4
"""Rows that one step looks at if they are not neighbours: each of them has to be fetched from memory by itself."""
_PASSED = 16
"""So many steps' rows are passed over in one."""
_GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, are spread evenly, and meet no pattern in which workers may have been queued."""


class Ordering(NamedTuple):
    """By what rows are sorted. Rows with equal keys stay in queue order, in both directions."""

    key: Callable[[Row], Any]
    is_reversed: bool
    of_many: Callable[[Sequence[Row]], list[Any]] | None = None
    """Gives the keys of many rows in less time than one by one; None if nothing does."""

    def keys(self, rows: Sequence[Row]) -> list[Any]:
        """Return the key of each row."""
        return self.of_many(rows) if self.of_many is not None else list(map(self.key, rows))

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


class _Bucket:
    """Rows whose keys lie between two pivots, and those whose key is the upper one."""

    __slots__ = ("equal", "fractions", "others", "places")

    def __init__(self) -> None:
        self.fractions = array("d")
        self.others: list[bytes] = []
        """Keys that are no fractions, some in each: of a million objects the garbage collector would see every one."""
        self.places = array("i")
        self.equal = array("i")

    def add(self, keys: Sequence[Any], places: array[int]) -> None:
        if not keys:
            return
        if isinstance(keys, array):
            self.fractions.extend(keys)
        else:
            self.others.append(marshal.dumps(list(keys)))
        self.places.extend(places)

    def sorted(self) -> list[int]:
        keys = iter(self.fractions) if self.fractions else chain.from_iterable(map(marshal.loads, self.others))
        # Each place is asked for once, in turn: `next` gives the key of it, and takes no notice of its other argument.
        return sorted(self.places, key=partial(next, keys))


def sort(order: Order, ordering: Ordering) -> Steps[Order]:
    """Sort rows which come in queue order.

    Values that stand at about even distances among all are the pivots. Short runs are sorted, and cut at them; then
    what lies between the same two is sorted together: a sample sort.
    """
    pivots = yield from _pivots(order, ordering)
    buckets = [_Bucket() for _ in range(len(pivots) + 1)]
    for places in _chunks(order.places, is_reversed=ordering.is_reversed):
        keys = ordering.keys(order.at(places))
        ranks = sorted(range(len(keys)), key=keys.__getitem__)
        _cut(_packed(map(keys.__getitem__, ranks), keys), array("i", map(places.__getitem__, ranks)), pivots, buckets)
        yield
    result = Order(order.rows)
    for bucket in buckets:
        result.places.fromlist(bucket.sorted())
        # However many they are, they are in order.
        result.places.extend(bucket.equal)
        yield
    if ordering.is_reversed:
        result.places.reverse()
    return result


def _pivots(order: Order, ordering: Ordering) -> Steps[list[Any]]:
    """Return values, in order, between any two of which lie those of some `STEP` rows, if they differ."""
    count, most = len(order) // (2 * STEP), len(order)
    if count < 2:
        return []
    sample: list[Any] = []
    size = min(most // _SAMPLED, _ENOUGH)
    for start in range(0, size, _SCATTERED):
        numbers = range(start, min(start + _SCATTERED, size))
        sample += ordering.keys([order[int(number * _GOLDEN % 1 * most)] for number in numbers])
        yield
    sample.sort()
    return list(dict.fromkeys(sample[number * size // count] for number in range(1, count)))


def _packed(keys: Iterable[Any], kind: Sequence[Any]) -> Sequence[Any]:
    """Return the keys without an object for each, if they are fractions, as those of that `kind` are."""
    return array("d", keys) if type(kind[0]) is float else list(keys)


def _cut(keys: Sequence[Any], places: array[int], pivots: Iterable[Any], buckets: Sequence[_Bucket]) -> None:
    """Deal a sorted run out to the buckets."""
    start = 0
    for pivot, bucket in zip(pivots, buckets, strict=False):
        end = bisect_left(keys, pivot, start)
        bucket.add(keys[start:end], places[start:end])
        start = end
        if end < len(keys) and keys[end] == pivot:
            start = bisect_right(keys, pivot, end)
            bucket.equal.extend(places[end:start])
    buckets[-1].add(keys[start:], places[start:])


def place_anew(order: Order, moved: Order, shown: Order, ordering: Ordering, stale: Collection[Row]) -> Steps[Order]:
    """Return `order` without the rows that `moved`, and with those of them that are `shown` at their new places.

    These come in queue order. `stale` are the rows that have changed since, and so may stand where they do not belong.
    """
    left: set[int] = set()
    for places in _chunks(moved.places, is_reversed=False):
        left.update(places)
        yield
    kept = Order(order.rows)
    for places in _chunks(order.places, is_reversed=False):
        kept.places.extend(places if left.isdisjoint(places) else filterfalse(left.__contains__, places))
        yield
    # Rows that go on changing get the places of one moment: else they would stand wherever the row before them does.
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
        result.places.extend(kept.places[start:place])
        result.places.append(row.index)
        start = place
    result.places.extend(kept.places[start:])
    return result


def gathered(rows: Sequence[Row], some: Iterable[Row]) -> Steps[Order]:
    """Return some of the rows of a fleet in queue order."""
    are_there, source = bytearray(len(rows)), iter(some)
    while chunk := list(islice(source, STEP)):
        for row in chunk:
            are_there[row.index] = True
        yield
    order, size = Order(rows), _PASSED * STEP
    for start in range(0, len(are_there), size):
        order.places.extend(compress(range(start, start + size), are_there[start : start + size]))
        yield
    return order


def place_of(order: Order, row: Row, ordering: Ordering, stale: Collection[Row]) -> int:
    """Return where in `order` the row stands or would stand, whatever `stale` rows there are."""
    return finish(_Search(order, ordering, stale).place(ordering.key(row), row.index, 0))


class _Search:
    """Finds places in an order of which some rows are stale; between two steps more of them may become so.

    Rows that changed are often neighbours, thousands of them: where they end is remembered, so that not every search
    passes all of them.
    """

    def __init__(self, order: Order, ordering: Ordering, stale: Collection[Row]) -> None:
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


def _chunks(places: array[int], *, is_reversed: bool) -> Iterator[array[int]]:
    """Yield the places, `STEP` at a time; reversed, from the last one to the first.

    A final turn then restores the order of equal ones.
    """
    starts = range(0, len(places), STEP)
    for start in reversed(starts) if is_reversed else starts:
        chunk = places[start : start + STEP]
        if is_reversed:
            chunk.reverse()
        yield chunk
