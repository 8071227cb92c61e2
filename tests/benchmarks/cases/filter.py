"""Filtering 1,000,000 rows: how long the new rows take to show, and whether keys are answered meanwhile.

The app is the real one in a terminal of 120x40, told of a run with a long past while 10,000 events a second arrive.
A filter is there when the number of its rows is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from tests.benchmarks import keyboard
from tests.benchmarks.measure import Effort, Finding
from tests.benchmarks.ordered import MIDDLE, findings, many_rows
from tests.benchmarks.picture import Expected, Picture
from tests.benchmarks.story import BUSY, BUSY_LUCK, name_of, past

_ESCAPE = "\x1b"
_BY_LUCK = "sss"
"""Keys that sort: in this order every filter leaves rows above and below the cursor."""
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
    """Yield the time of the slowest filter, from its last key on, and that of the keys."""
    filters = list(_FILTERS)[: effort.size(len(_FILTERS), 2)]
    seconds: dict[str, list[float]] = {typed: [] for typed in filters}
    pressed: list[keyboard.Press] = []
    with many_rows(effort) as (picture, workers, calm):
        counts = {typed: sum(map(_FILTERS[typed], range(workers))) for typed in filters}
        picture.press(_BY_LUCK)
        time.sleep(4 * calm)
        picture.press(MIDDLE)
        time.sleep(calm)
        for typed in filters * effort.size(effort.pairs, 1):
            picture.press("/")
            time.sleep(calm)
            expected = _expect_count(picture, f"{counts[typed]:,} of {workers:,}")
            at = picture.press(typed)
            pressed += keyboard.presses(picture, expected.is_open)
            seconds[typed].append(expected.wait() - at)
            picture.press(_ESCAPE)
            time.sleep(calm)
            picture.press(MIDDLE)
            time.sleep(calm)
    yield from findings("filter", workers, seconds, pressed)


def _expect_count(picture: Picture, count: str) -> Expected:
    return picture.expect(lambda shown: any(count in text for text in shown.stretches.values()))
