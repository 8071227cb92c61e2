"""Sorting 1,000,000 rows, against `sorted()` over the same values, and how fast keys are answered meanwhile.

The dashboard runs in a real terminal of 120x40 over a synthetic run in which most workers have ended, while 10,000
events a second arrive. The rows are sorted when those on the screen are in order. The order of the queue has no peer.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from functools import partial

from asyncwatch.model.view.sort import SORTS
from tests.benchmarks import keyboard
from tests.benchmarks.many_rows import MIDDLE, Fleet, Rounds, many_rows
from tests.benchmarks.measure import Effort, Finding
from tests.benchmarks.synthetic_run import BUSY, KEYS, index_of
from tests.benchmarks.terminal import Terminal

_ROW = re.compile(r"^.{0,4}(w\d+) ")


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio of the slowest order, and the time of the keys."""
    orders = [key for key, _ in SORTS[1:] if key in KEYS] + [SORTS[0][0]]
    orders = orders[: effort.size(len(orders), 3)]
    with many_rows(effort) as fleet:
        rounds = Rounds("sort", fleet.workers, effort)
        for _ in range(effort.size(effort.pairs, 1)):
            pressed: list[keyboard.Press] = []
            costs = {order: fleet.cost(partial(_sort, fleet, order, pressed)) for order in orders}
            rounds.add(costs, pressed)
    yield from rounds.findings("sorted()")


def _sort(fleet: Fleet, order: str, pressed: list[keyboard.Press]) -> float:
    """Sort by the next order, and return the seconds that it took."""
    terminal = fleet.terminal
    terminal.press(MIDDLE)
    time.sleep(fleet.settle)
    expected = terminal.expect(partial(_is_sorted, KEYS[order]))
    assert expected.is_open(), f"the rows are already sorted by {order}:\n{terminal.text}"
    at = terminal.press("ss" if order == "queue" else "s")  # between the names and the queue is the live order
    pressed += keyboard.presses(terminal, expected.is_open)
    return expected.wait() - at


def _is_sorted(key: Callable[[int], object], terminal: Terminal) -> bool:
    """Return whether the visible rows are in order. Busy rows change all the time and are left out."""
    names = [match[1] for _, text in sorted(terminal.spans.items()) if (match := _ROW.match(text)) is not None]
    values = [key(index) for name in names if (index := index_of(name)) >= BUSY]
    return len(values) > 5 and values == sorted(values)  # type: ignore[type-var]  # all values of one key have one type
