"""Filtering 1,000,000 rows, against a list comprehension over the same values, and how fast keys are answered.

The dashboard runs in a real terminal of 120x40 over a synthetic run in which most workers have ended, while 10,000
events a second arrive. The filter has been applied when the number of its rows is on the screen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from tests.benchmarks import keyboard
from tests.benchmarks.many_rows import MIDDLE, Fleet, Rounds, many_rows
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
    """Yield the ratio of the slowest filter, from its last key on, and the time of the keys."""
    filters = list(_FILTERS)[: effort.size(len(_FILTERS), 2)]
    with many_rows(effort) as fleet:
        counts = {typed: sum(map(_FILTERS[typed], range(fleet.workers))) for typed in filters}
        fleet.terminal.press(_BY_LUCK)
        time.sleep(4 * fleet.settle)
        rounds = Rounds("filter", fleet.workers, effort)
        for _ in range(effort.size(effort.pairs, 1)):
            pressed: list[keyboard.Press] = []
            costs = {}
            for typed in filters:
                _to_the_middle(fleet)
                fleet.terminal.press("/")
                time.sleep(fleet.settle)
                costs[typed] = fleet.cost(partial(_filter, fleet, typed, counts[typed], pressed))
                fleet.terminal.press(_ESCAPE)
                time.sleep(fleet.settle)
            rounds.add(costs, pressed)
    yield from rounds.findings("a comprehension")


def _to_the_middle(fleet: Fleet) -> None:
    fleet.terminal.press(MIDDLE)
    time.sleep(fleet.settle)


def _filter(fleet: Fleet, typed: str, count: int, pressed: list[keyboard.Press]) -> float:
    """Type a filter, and return the seconds until it has been applied."""
    expected = _expect_count(fleet.terminal, f"{count:,} of {fleet.workers:,}")
    at = fleet.terminal.press(typed)
    pressed += keyboard.presses(fleet.terminal, expected.is_open)
    return expected.wait() - at


def _expect_count(terminal: Terminal, count: str) -> Expectation:
    return terminal.expect(lambda shown: any(count in text for text in shown.spans.values()))
