"""A million rows that are put in order or filtered in a real terminal, and the keys that are pressed meanwhile."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from tests.benchmarks import keyboard
from tests.benchmarks.measure import Effort, Finding, Goal
from tests.benchmarks.picture import Picture
from tests.benchmarks.processes import ROOT

MIDDLE = "g" + 20 * "\x1b[6~"
"""Keys that take the cursor to where rows are above and below it in any order, and under any filter: at an edge a key
would change nothing, and nobody could say when it was answered. Nor do busy rows stand there, which move.
"""
_LIMIT = Goal("<=", 1.0, "s")


class Fleet(NamedTuple):
    """The dashboard over many workers."""

    picture: Picture
    workers: int
    calm: float
    """Seconds after which whatever a key brought about is over."""


@contextmanager
def many_rows(effort: Effort) -> Iterator[Fleet]:
    """Show a run with a long past, while 10,000 events a second arrive, in a terminal of 120x40."""
    workers, calm = effort.size(1_000_000, 2_000), 0.3 if effort.is_quick else 0.5
    command = [sys.executable, "-m", "tests.benchmarks.peers.told_app", "--workers", str(workers), "--past"]
    with Picture(command, cwd=ROOT, columns=120, rows=40) as picture:
        picture.wait_for(lambda shown: shown.cursor)
        picture.press(MIDDLE)
        time.sleep(calm)
        yield Fleet(picture, workers, calm)


def findings(
    what: str, workers: int, seconds: Mapping[str, Sequence[float]], pressed: Sequence[keyboard.Press]
) -> Iterator[Finding]:
    """Yield the time of what took longest, and that of the keys."""
    medians = {name: statistics.median(figures) for name, figures in seconds.items()}
    slowest = max(medians, key=medians.__getitem__)
    note = ", ".join(f"{name} {median:.2f}" for name, median in medians.items())
    spread = (min(seconds[slowest]), max(seconds[slowest]))
    yield Finding(f"{what} {workers:,} rows, slowest: {slowest}", medians[slowest], "s", spread, _LIMIT, note)
    yield keyboard.finding(f"keys while rows are to {what}", list(pressed))
