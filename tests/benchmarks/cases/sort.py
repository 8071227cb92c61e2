"""Sorting 1,000,000 rows: how long the new rows take to show, and whether keys are answered meanwhile.

The app is the real one in a terminal of 120x40, told of a run with a long past while 10,000 events a second arrive.
An order is there when the rows on the screen are in it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from functools import partial

from asyncwatch.model.view.sort import SORTS
from tests.benchmarks import keyboard
from tests.benchmarks.measure import Effort, Finding
from tests.benchmarks.ordered import MIDDLE, findings, many_rows
from tests.benchmarks.picture import Picture
from tests.benchmarks.story import BUSY, KEYS, index_of

_ROW = re.compile(r"^.{0,4}(w\d+) ")


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the time of the slowest order, and that of the keys."""
    orders = [key for key, _ in SORTS[1:]] + [SORTS[0][0]]
    orders = orders[: effort.size(len(orders), 3)]
    seconds: dict[str, list[float]] = {order: [] for order in orders}
    pressed: list[keyboard.Press] = []
    with many_rows(effort) as (picture, workers, calm):
        for order in orders * effort.size(effort.pairs, 1):
            expected = picture.expect(partial(_is_sorted, KEYS[order]))
            assert expected.is_open(), f"the rows are in the order of {order} already:\n{picture.text}"
            at = picture.press("s")
            pressed += keyboard.presses(picture, expected.is_open)
            seconds[order].append(expected.wait() - at)
            picture.press(MIDDLE)
            time.sleep(calm)
    yield from findings("sort", workers, seconds, pressed)


def _is_sorted(key: Callable[[int], object], picture: Picture) -> bool:
    """Return whether the visible rows are in order. Busy ones are left out: these change."""
    names = [match[1] for _, text in sorted(picture.stretches.items()) if (match := _ROW.match(text)) is not None]
    values = [key(index) for name in names if (index := index_of(name)) >= BUSY]
    return len(values) > 5 and values == sorted(values)  # type: ignore[type-var]  # one key gives one type
