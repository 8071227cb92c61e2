"""Sorting and filtering 1,000,000 rows: how long the new rows take to show, and whether keys are answered meanwhile.

The app is the real one in a terminal of 120x40, told of a run with a long past while 10,000 events a second arrive.
An order is there when the rows on the screen are in it; a filter, when the number of its rows is.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from asyncwatch.model.sorting import SORTS
from tests.benchmarks import keyboard
from tests.benchmarks.measure import Effort, Finding, Goal
from tests.benchmarks.picture import Expected, Picture
from tests.benchmarks.processes import ROOT
from tests.benchmarks.story import BUSY, BUSY_LUCK, KEYS, index_of, name_of, past

_LIMIT = Goal("<=", 1.0, "s")
_ROUNDS = 2
_CALM = 0.5
"""Seconds after which whatever a key brought about is over."""
_ROW = re.compile(r"^.{0,4}(w\d+) ")
_ESCAPE = "\x1b"
_MIDDLE = "g" + 20 * "\x1b[6~"
"""Keys that take the cursor to where rows are above and below it in any order, and under any filter: at an edge a key
would change nothing, and nobody could say when it was answered. Nor do busy rows stand there, which move.
"""
_DIGITS = "77"

_FILTERS: Mapping[str, Callable[[int], bool]] = {
    f"w{_DIGITS}": lambda index: name_of(index).startswith(f"w{_DIGITS}"),
    "state:failed": lambda index: index >= BUSY and past(index).result is None,
    "retries>0": lambda index: index < BUSY or past(index).attempts > 1,
    "luck>0.9": lambda index: (BUSY_LUCK if index < BUSY else past(index).luck) > 0.9,
    "error:timeout": lambda index: index >= BUSY and bool(past(index).error),
}
"""What is typed, and whether it shows the worker with that index."""


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the time of the slowest order, and of the slowest filter, each with that of the keys."""
    workers = effort.size(1_000_000, 2_000)
    rounds, calm = effort.size(_ROUNDS, 1), 0.3 if effort.is_quick else _CALM
    orders = [key for key, _ in SORTS[1:]] + [SORTS[0][0]]
    filters = list(_FILTERS)[: effort.size(len(_FILTERS), 2)]
    counts = {typed: sum(map(_FILTERS[typed], range(workers))) for typed in filters}
    command = [sys.executable, "-m", "tests.benchmarks.peers.told_app", "--workers", str(workers), "--past"]
    with Picture(command, cwd=ROOT, columns=120, rows=40) as picture:
        picture.wait_for(lambda shown: shown.cursor)
        time.sleep(calm)
        yield from _report("sort", _sort(picture, orders[: effort.size(len(orders), 3)] * rounds, calm), workers)
        yield from _report("filter", _filter(picture, filters * rounds, calm, counts, workers), workers)


_Times = tuple[dict[str, list[float]], list[keyboard.Press]]


def _report(what: str, times: _Times, workers: int) -> Iterator[Finding]:
    seconds, pressed = times
    medians = {name: statistics.median(figures) for name, figures in seconds.items()}
    slowest = max(medians, key=medians.__getitem__)
    note = ", ".join(f"{name} {median:.2f}" for name, median in medians.items())
    spread = (min(seconds[slowest]), max(seconds[slowest]))
    yield Finding(f"{what} {workers:,} rows, slowest: {slowest}", medians[slowest], "s", spread, _LIMIT, note)
    yield keyboard.finding(f"keys while rows are to {what}", pressed)


def _sort(picture: Picture, orders: Sequence[str], calm: float) -> _Times:
    """Go through the orders; return the seconds of each, and the keys pressed meanwhile."""
    seconds: dict[str, list[float]] = {order: [] for order in orders}
    pressed: list[keyboard.Press] = []
    for order in orders:
        expected = picture.expect(partial(_is_sorted, KEYS[order]))
        assert expected.is_open(), f"the rows are in the order of {order} already:\n{picture.text}"
        at = picture.press("s")
        pressed += keyboard.presses(picture, expected.is_open)
        seconds[order].append(expected.wait() - at)
        picture.press(_MIDDLE)
        time.sleep(calm)
    return seconds, pressed


def _is_sorted(key: Callable[[int], object], picture: Picture) -> bool:
    """Return whether the visible rows are in order. Busy ones are left out: these change."""
    names = [match[1] for _, text in sorted(picture.stretches.items()) if (match := _ROW.match(text)) is not None]
    values = [key(index) for name in names if (index := index_of(name)) >= BUSY]
    return len(values) > 5 and values == sorted(values)  # type: ignore[type-var]  # one key gives one type


def _filter(picture: Picture, filters: Sequence[str], calm: float, counts: Mapping[str, int], workers: int) -> _Times:
    """Type the filters; return the seconds of each from its last key, and the keys pressed meanwhile."""
    seconds: dict[str, list[float]] = {typed: [] for typed in counts}
    pressed: list[keyboard.Press] = []
    for typed in filters:
        picture.press("/")
        time.sleep(calm)
        expected = _expect_count(picture, f"{counts[typed]:,} of {workers:,}")
        at = picture.press(typed)
        pressed += keyboard.presses(picture, expected.is_open)
        seconds[typed].append(expected.wait() - at)
        picture.press(_ESCAPE)
        time.sleep(calm)
        picture.press(_MIDDLE)
        time.sleep(calm)
    return seconds, pressed


def _expect_count(picture: Picture, count: str) -> Expected:
    return picture.expect(lambda shown: any(count in text for text in shown.stretches.values()))
