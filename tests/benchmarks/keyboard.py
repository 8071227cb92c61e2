"""Arrow keys pressed at a person's pace, and how long the screen takes to answer each."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from tests.benchmarks.measure import Finding, Goal, amount, percentile
from tests.benchmarks.processes import ROOT, peer
from tests.benchmarks.terminal import Terminal

GOAL = Goal("<=", 4.0)
"""Of the 99th percentile, against the empty app's."""
_UP, DOWN = "\x1b[A", "\x1b[B"
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
    keys = DOWN
    while goes_on():
        yield press(terminal, keys)
        keys = _UP if keys == DOWN else DOWN
        time.sleep(draw.uniform(*_PAUSES))


def press(terminal: Terminal, keys: str) -> Press:
    """Press one key that moves the cursor, and wait for the answer."""
    terminal.wait_for(lambda shown: shown.cursor, "a cursor")
    before = terminal.cursor
    expected = terminal.expect(lambda shown: shown.cursor not in {"", before}, f"an answer to {keys!r} on {before}")
    at = terminal.press(keys)
    return Press(at, expected.wait() - at)


def for_seconds(seconds: float) -> Callable[[], bool]:
    """Return a condition that is true for `seconds` from now."""
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() < end


def presses_in_empty_app(seconds: float) -> list[Press]:
    """Press keys in a Textual app that does nothing else, in a terminal of 120x40."""
    with Terminal(peer("key_app"), cwd=ROOT, columns=120, rows=40) as terminal:
        return list(presses(terminal, for_seconds(seconds)))


def finding(
    what: str,
    pressed: Sequence[Sequence[Press]],
    peers: Sequence[Sequence[Press]],
    note: str = "",
    goal: Goal = GOAL,
) -> Finding:
    """Return the 99th percentile of all answer times against the peer's. The range is from the rounds."""
    own, other = ([_waits(presses) for presses in rounds] for rounds in (pressed, peers))
    of_rounds = [percentile(waits, 0.99) / percentile(idle, 0.99) for waits, idle in zip(own, other, strict=True)]
    waits, idle = (list(chain.from_iterable(rounds)) for rounds in (own, other))
    p99, median, slowest = percentile(waits, 0.99), percentile(waits, 0.5), max(waits)
    idle_p99 = percentile(idle, 0.99)
    counted = f"{sum(map(len, pressed))} keys, median {amount(median, 'ms')}, slowest {amount(slowest, 'ms')}"
    return Finding(
        what,
        p99 / idle_p99,
        spread=(min(of_rounds), max(of_rounds)),
        goal=goal,
        note=f"{counted}; {note}" if note else counted,
        wall=f"{amount(p99, 'ms')} against {amount(idle_p99, 'ms').removesuffix(' ms')}",
    )


def _waits(pressed: Sequence[Press]) -> list[float]:
    """Return the milliseconds that keys waited for their answer, corrected for coordinated omission.

    Each key waits for the answer to the previous key, but a person would go on typing. A long wait therefore counts
    for every key that would have been pressed during it, too.
    """
    distance = sum(_PAUSES) / 2
    return [
        (seconds - missed * distance) * 1000
        for _, seconds in pressed
        for missed in range(max(1, int(seconds / distance) + 1))
    ]
