"""Rows in an order, as few bytes as that takes."""

from __future__ import annotations

import functools
import marshal
import math
import re
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, compress, filterfalse, islice
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar, overload

from asyncwatch.events import WorkerState
from asyncwatch.model.rows import Row


class Order(Sequence[Row]):
    """Some of the rows of a fleet, by their places in its queue.

    A list of a million rows would keep the garbage collector busy for 30 ms each time that it looks for young garbage;
    of these it sees nothing.
    """

    __slots__ = ("places", "rows")

    def __init__(self, rows: Sequence[Row], places: Iterable[int] = ()) -> None:
        self.rows = rows
        """All rows of the fleet, in queue order."""
        self.places = array("i", places)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.places)

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in their order."""
        return map(self.rows.__getitem__, self.places)

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...

    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        """Return one row, or several."""
        if isinstance(place, slice):
            return list(map(self.rows.__getitem__, self.places[place]))
        return self.rows[self.places[place]]

    def at(self, places: array[int]) -> list[Row]:
        """Return the rows at these places in the queue, which are in queue order or the reverse of it.

        Most often they are neighbours: to take a part of all rows is a tenth of the work.
        """
        first, last = (places[0], places[-1]) if places else (0, -1)
        if last - first == len(places) - 1:
            return list(self.rows[first : last + 1])
        if first - last == len(places) - 1:
            return list(reversed(self.rows[last : first + 1]))
        return list(map(self.rows.__getitem__, places))

    def index(self, row: Any, start: int = 0, stop: int | None = None) -> int:
        """Return where the row stands.

        Raises:
            ValueError: it does not stand between `start` and `stop`.

        """
        # To look at the bytes takes a tenth of the time of `array.index`, which makes a number of each.
        size = self.places.itemsize
        sought, places = array("i", (row.index,)).tobytes(), self.places.tobytes()
        end = len(places) if stop is None else stop * size
        found = places.find(sought, start * size, end)
        while found >= 0 and found % size:
            found = places.find(sought, found + 1, end)
        if found < 0:
            raise ValueError(f"{row.name} is not there")
        return found // size


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


QUEUE_ORDER = "queue"

SORTS: tuple[tuple[str, str], ...] = (
    (QUEUE_ORDER, "queue order"),
    ("state", "state"),
    ("retries", "retries"),
    ("luck", "bad luck"),
    ("result", "result"),
    ("last", "last"),
    ("elapsed", "elapsed"),
    ("error", "error"),
    ("name", "name"),
)
"""(key, heading) of every order, in which a person goes through them: names, often in queue order anyway, last."""

_DECIMAL = "0123456789"
_DIGITS = re.compile("[0-9]+")
_RANKS = {state: rank for rank, state in enumerate(WorkerState)}
_LAST_TEXT = chr(sys.maxunicode)


def natural(text: str) -> str:
    """Return a key that sorts numbers inside text by their value, of any length: `w2` before `w10`."""
    start = text.rstrip(_DECIMAL)
    if len(start) == len(text):
        return _natural(text)
    # As most names are: one of a few beginnings, and a number.
    return f"{_natural_start(start)}{_number(text[len(start) :])}"


def naturals(texts: list[str]) -> list[str]:
    """Return the `natural` key of each text: in half the time if they differ in a number at the end alone."""
    if not texts:
        return []
    start = texts[0].rstrip(_DECIMAL)
    numbers = [text.removeprefix(start) for text in texts]
    shortest, together = min(numbers), "".join(numbers)
    has_zeros = not shortest or shortest[0] == "0"
    is_start_of_all = len(together) + len(start) * len(texts) == sum(map(len, texts))
    if has_zeros or not is_start_of_all or together.strip(_DECIMAL) or max(map(len, numbers)) >= len(_LENGTHS):
        return list(map(natural, texts))
    starts = [f"{_natural_start(start)}{length}" for length in _LENGTHS]
    return [starts[len(number)] + number for number in numbers]


def _natural(text: str) -> str:
    return _DIGITS.sub(lambda digits: _number(digits[0]), text.casefold())


_natural_start = functools.lru_cache(maxsize=4096)(_natural)


def _number(digits: str) -> str:
    # Length, then text, orders numbers of any size; what stands in front of them is below all text.
    significant = digits.lstrip("0")
    length = len(significant)
    return f"{_LENGTHS[length] if length < len(_LENGTHS) else _length(length)}{significant}"


def _length(length: int) -> str:
    return f"\0{chr(min(length, sys.maxunicode))}"


_LENGTHS = [_length(length) for length in range(32)]


# Results are as a rule a few that are alike.
_natural_result = functools.lru_cache(maxsize=4096)(natural)


def ordering(sort: str, *, is_reversed: bool, now: float) -> Ordering:
    """Return the order by `sort`, one of the keys of `SORTS`.

    Rows without a value come last in both directions. Elapsed times are those at `now`, in seconds since the run
    started.

    Raises:
        ValueError: there is no such order.

    """
    no_text = "" if is_reversed else _LAST_TEXT
    key = _key(sort, -math.inf if is_reversed else math.inf, no_text, now)
    return Ordering(key, is_reversed, _of_many(sort, no_text))


def _of_many(sort: str, no_text: str) -> Callable[[Sequence[Row]], list[Any]] | None:
    """Return the function that gives, in less time, what many rows are sorted by; None if there is none."""

    def names(rows: Sequence[Row]) -> list[str]:
        return naturals([row.name for row in rows])

    def results(rows: Sequence[Row]) -> list[str]:
        texts = [row.result for row in rows]
        known = iter(naturals([text for text in texts if text is not None]))
        return [no_text if text is None else f" {next(known)}" for text in texts]

    return {"name": names, "result": results}.get(sort)


def _key(sort: str, no_number: float, no_text: str, now: float) -> Callable[[Row], Any]:
    """Return the function that gives what a row is sorted by: of all rows something of the same type."""

    def luck(row: Row) -> float:
        value = row.bad_luck
        return no_number if value is None else value

    def last(row: Row) -> float:
        value = row.last_duration
        return no_number if value is None else value

    def elapsed(row: Row) -> float:
        value = row.elapsed(now)
        return no_number if value is None else value

    def result(row: Row) -> str:
        # One that is there, but empty, is above none.
        return no_text if row.result is None else f" {_natural_result(row.result)}"

    def error(row: Row) -> str:
        return row.error.casefold() or no_text

    keys: dict[str, Callable[[Row], Any]] = {
        QUEUE_ORDER: attrgetter("index"),
        "name": lambda row: natural(row.name),
        "state": lambda row: _RANKS[row.state],
        "retries": attrgetter("retries"),
        "luck": luck,
        "result": result,
        "last": last,
        "elapsed": elapsed,
        "error": error,
    }
    if sort not in keys:
        raise ValueError(f"there is no order {sort!r}: {', '.join(keys)}")
    return keys[sort]
