"""A dashboard with a million rows in a real terminal, for the cases that sort and filter."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from tests.benchmarks import keyboard
from tests.benchmarks.measure import Effort, Finding, Goal
from tests.benchmarks.processes import ROOT
from tests.benchmarks.terminal import Terminal

MIDDLE = "g" + 20 * "\x1b[6~"
"""Keys that move the cursor away from both ends of the table and from the busy rows, in any order and filter.

At an end a key changes nothing, so its answer could not be seen; busy rows move by themselves.
"""
_LIMIT = Goal("<=", 1.0, "s")


class Fleet(NamedTuple):
    """A dashboard with many workers."""

    terminal: Terminal
    workers: int
    settle: float
    """Seconds after which the effects of a key are over."""


@contextmanager
def many_rows(effort: Effort) -> Iterator[Fleet]:
    """Show a run in which most workers have ended, in a terminal of 120x40, while 10,000 events a second arrive."""
    workers, settle = effort.size(1_000_000, 2_000), 0.3 if effort.is_quick else 0.5
    command = [sys.executable, "-m", "tests.benchmarks.peers.synthetic_app", "--workers", str(workers), "--history"]
    with Terminal(command, cwd=ROOT, columns=120, rows=40) as terminal:
        terminal.wait_for(lambda shown: shown.cursor)
        terminal.press(MIDDLE)
        time.sleep(settle)
        yield Fleet(terminal, workers, settle)


def findings(
    what: str, workers: int, seconds: Mapping[str, Sequence[float]], pressed: Sequence[keyboard.Press]
) -> Iterator[Finding]:
    """Yield the time of the slowest operation and of the keys."""
    medians = {name: statistics.median(figures) for name, figures in seconds.items()}
    slowest = max(medians, key=medians.__getitem__)
    note = ", ".join(f"{name} {median:.2f}" for name, median in medians.items())
    spread = (min(seconds[slowest]), max(seconds[slowest]))
    yield Finding(f"{what} {workers:,} rows, slowest: {slowest}", medians[slowest], "s", spread, _LIMIT, note)
    yield keyboard.finding(f"keys while rows are to {what}", list(pressed))
