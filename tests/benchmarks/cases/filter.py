"""Filtering 1,000,000 rows: how long the result takes to appear, and how fast keys are answered meanwhile.

The dashboard runs in a real terminal of 120x40 over a synthetic run in which most workers have ended, while 10,000
events a second arrive. The filter has been applied when the number of its rows is on the screen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from tests.benchmarks import keyboard
from tests.benchmarks.many_rows import MIDDLE, findings, many_rows
from tests.benchmarks.measure import Effort, Finding
from tests.benchmarks.synthetic_run import BUSY, BUSY_LUCK, end_of, name_of
from tests.benchmarks.terminal import Expectation, Terminal

_ESCAPE = "\x1b"
_BY_LUCK = "sss"
"""Keys that sort by luck: in this order every filter leaves rows above and below the cursor."""
_DIGITS = "77"

_FILTERS: Mapping[str, Callable[[int], bool]] = {
    f"w{_DIGITS}": lambda index: name_of(index).startswith(f"w{_DIGITS}"),
    "state:failed": lambda index: index >= BUSY and end_of(index).result is None,
    "retries>0": lambda index: index < BUSY or end_of(index).attempts > 1,
    "luck>0.9": lambda index: (BUSY_LUCK if index < BUSY else end_of(index).luck) > 0.9,
    "error:timeout": lambda index: index >= BUSY and bool(end_of(index).error),
}
"""Filter texts, and whether they show the worker with a given index."""


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the time of the slowest filter, from its last key on, and of the keys."""
    filters = list(_FILTERS)[: effort.size(len(_FILTERS), 2)]
    seconds: dict[str, list[float]] = {typed: [] for typed in filters}
    pressed: list[keyboard.Press] = []
    with many_rows(effort) as (terminal, workers, settle):
        counts = {typed: sum(map(_FILTERS[typed], range(workers))) for typed in filters}
        terminal.press(_BY_LUCK)
        time.sleep(4 * settle)
        terminal.press(MIDDLE)
        time.sleep(settle)
        for typed in filters * effort.size(effort.pairs, 1):
            terminal.press("/")
            time.sleep(settle)
            expected = _expect_count(terminal, f"{counts[typed]:,} of {workers:,}")
            at = terminal.press(typed)
            pressed += keyboard.presses(terminal, expected.is_open)
            seconds[typed].append(expected.wait() - at)
            terminal.press(_ESCAPE)
            time.sleep(settle)
            terminal.press(MIDDLE)
            time.sleep(settle)
    yield from findings("filter", workers, seconds, pressed)


def _expect_count(terminal: Terminal, count: str) -> Expectation:
    return terminal.expect(lambda shown: any(count in text for text in shown.spans.values()))
