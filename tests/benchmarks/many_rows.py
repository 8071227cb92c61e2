"""A dashboard with a million rows in a real terminal, for the cases that sort and filter.

The time of an operation is the wall time from the key to its result on the screen: the dashboard works in slices, so
that keys are answered meanwhile. Its process also takes 10,000 events a second, and draws. The peer only sorts or
filters, in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from tests.benchmarks import keyboard
from tests.benchmarks.measure import Cost, Effort, Finding, Goal, beside, ratio
from tests.benchmarks.processes import ROOT, peer, processor_time_of, run_json
from tests.benchmarks.terminal import Terminal

MIDDLE = "g" + 20 * "\x1b[6~"
"""Keys that move the cursor away from both ends of the table and from the busy rows, in any order and filter.

At an end a key changes nothing, so its answer could not be seen; busy rows move by themselves.
"""
_GOAL = Goal("<=", 2.0)


class Fleet(NamedTuple):
    """A dashboard with many workers."""

    terminal: Terminal
    workers: int
    settle: float
    """Seconds after which the effects of a key are over."""

    def cost(self, operation: Callable[[], float]) -> Cost:
        """Return the wall seconds that an operation returns, and the processor seconds of the dashboard meanwhile."""
        before = processor_time_of(self.terminal.process.pid)
        wall = operation()
        return Cost(processor_time_of(self.terminal.process.pid) - before, wall)


@contextmanager
def many_rows(effort: Effort) -> Iterator[Fleet]:
    """Show a run in which most workers have ended, in a terminal of 120x40, while 10,000 events a second arrive."""
    workers, settle = effort.size(1_000_000, 2_000), 0.3 if effort.is_quick else 0.5
    with Terminal(peer("synthetic_app", "--workers", workers, "--history"), cwd=ROOT, columns=120, rows=40) as terminal:
        terminal.wait_for(lambda shown: shown.cursor)
        terminal.press(MIDDLE)
        time.sleep(settle)
        yield Fleet(terminal, workers, settle)


class Rounds:
    """The measurements of one case: rounds of the dashboard, the plain lists and keys in an empty app."""

    def __init__(self, what: str, workers: int, effort: Effort) -> None:
        self._what = what
        self._workers = workers
        self._key_seconds = effort.size(4, 1)
        self._costs: dict[str, list[Cost]] = {}
        self._peers: dict[str, list[Cost]] = {}
        self._pressed: list[list[keyboard.Press]] = []
        self._idle: list[list[keyboard.Press]] = []

    def add(self, costs: Mapping[str, Cost], pressed: list[keyboard.Press]) -> None:
        """Add a round of the dashboard, and measure the peers."""
        peers = run_json("plain_lists", f"{self._what}s", "--workers", self._workers)
        for name, cost in costs.items():
            self._costs.setdefault(name, []).append(cost)
            if name in peers:
                self._peers.setdefault(name, []).append(Cost(*peers[name]))
        self._pressed.append(pressed)
        self._idle.append(keyboard.presses_in_empty_app(self._key_seconds))

    def findings(self, peer_name: str) -> Iterator[Finding]:
        """Yield the greatest ratio of all operations, and the time of the keys."""
        ratios = {
            name: ratio("", [cost.wall for cost in self._costs[name]], [cost.wall for cost in peers])
            for name, peers in self._peers.items()
        }
        worst = max(ratios, key=lambda name: ratios[name].figure)
        found = Finding(
            f"{self._what} {self._workers:,} rows against {peer_name}, greatest: {worst}",
            ratios[worst].figure,
            spread=ratios[worst].spread,
            goal=_GOAL,
            note=", ".join(f"{name} {found.figure:.2f} x" for name, found in ratios.items()),
        )
        yield beside(found, self._costs[worst], self._peers[worst], "ms")
        yield keyboard.finding(f"keys while rows are to {self._what}", self._pressed, self._idle)
