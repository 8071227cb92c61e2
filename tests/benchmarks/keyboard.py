"""Arrow keys pressed at a person's pace, and how long the screen takes to answer each."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tests.benchmarks.measure import Finding, Goal, percentile
from tests.benchmarks.terminal import Terminal

LIMIT = 60.0
"""Goal for the 99th percentile, in milliseconds."""
_UP, _DOWN = "\x1b[A", "\x1b[B"
_PAUSES = (0.02, 0.08)
"""Range of seconds between an answer and the next key, so that keys fall anywhere between two frames."""


class Press(NamedTuple):
    """A key that moves the cursor. It is answered when the cursor is shown on another worker.

    While a frame moves rows, the terminal shows no cursor for a moment: that is not an answer.

    Attributes:
        at: when it was pressed, in seconds of `time.perf_counter`.
        seconds: how long the answer took.

    """

    at: float
    seconds: float


def presses(terminal: Terminal, goes_on: Callable[[], bool], *, seed: int = 1) -> Iterator[Press]:
    """Press down and up alternately while `goes_on()` is true."""
    draw = random.Random(seed)
    keys = _DOWN
    while goes_on():
        yield press(terminal, keys)
        keys = _UP if keys == _DOWN else _DOWN
        time.sleep(draw.uniform(*_PAUSES))


def press(terminal: Terminal, keys: str) -> Press:
    """Press one key that moves the cursor, and wait for the answer."""
    terminal.wait_for(lambda shown: shown.cursor)
    before = terminal.cursor
    expected = terminal.expect(lambda shown: shown.cursor not in {"", before})
    at = terminal.press(keys)
    return Press(at, expected.wait() - at)


def for_seconds(seconds: float) -> Callable[[], bool]:
    """Return a condition that is true for `seconds` from now."""
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() < end


def finding(what: str, pressed: Sequence[Press], note: str = "") -> Finding:
    """Return the 99th percentile of the answer times in milliseconds, corrected for coordinated omission.

    Each key waits for the answer to the previous key, but a person would go on typing. A long wait therefore counts
    for every key that would have been pressed during it, too.
    """
    distance = sum(_PAUSES) / 2
    waits = [
        seconds - missed * distance for _, seconds in pressed for missed in range(max(1, int(seconds / distance) + 1))
    ]
    milliseconds = [wait * 1000 for wait in waits]
    spread = (percentile(milliseconds, 0.5), max(milliseconds))
    counted = f"{len(pressed)} keys; the range is median to slowest"
    return Finding(
        what,
        percentile(milliseconds, 0.99),
        "ms",
        spread,
        Goal("<=", LIMIT, "ms"),
        f"{counted}; {note}" if note else counted,
    )
