"""Arrow keys, pressed as a person would, and how long each takes to show."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tests.benchmarks.measure import Finding, Goal, percentile
from tests.benchmarks.picture import Picture

LIMIT = 60.0
"""Milliseconds that 99 of 100 keys may take at the most."""
_UP, _DOWN = "\x1b[A", "\x1b[B"
_PAUSES = (0.02, 0.08)
"""Seconds between a change and the next key: at every point of the time between two pictures."""


class Press(NamedTuple):
    """A key that moves the cursor: when it was pressed, and the seconds until the cursor stood on another worker.

    Or was not to be seen any more: new rows came in the same picture, and its worker is not among them. `at`
    is in seconds of `time.perf_counter`.
    """

    at: float
    seconds: float


def presses(picture: Picture, goes_on: Callable[[], bool], *, seed: int = 1) -> Iterator[Press]:
    """Press down and up in turn as long as `goes_on()` says so."""
    draw = random.Random(seed)
    keys = _DOWN
    while goes_on():
        yield press(picture, keys)
        keys = _UP if keys == _DOWN else _DOWN
        time.sleep(draw.uniform(*_PAUSES))


def press(picture: Picture, keys: str) -> Press:
    """Press one key that moves the cursor."""
    before = picture.cursor
    expected = picture.expect(lambda shown: shown.cursor != before)
    at = picture.press(keys)
    return Press(at, expected.wait() - at)


def for_seconds(seconds: float) -> Callable[[], bool]:
    """Return what says whether so many seconds, from now, have not passed."""
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() < end


def finding(what: str, pressed: Sequence[Press], note: str = "") -> Finding:
    """Return the time within which 99 of 100 keys are answered, in milliseconds.

    The next key waits for the answer to the one before; a person would go on. So a long wait counts also for the keys
    that would have been pressed in it, at the usual distance.
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
