"""What `Watchdog` takes of a core, watching an event loop that waits, and one that is busy with short tasks.

The figure is the processor time of a process with a watchdog, less that of the same process without one, in turns: a
percentage of one core.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from itertools import product

from tests.benchmarks.measure import Effort, Finding, Goal, median_of
from tests.benchmarks.processes import run_json

_GOAL = Goal("<=", 0.5, "%")
_LEAST = 0.001
"""What stands for a difference that other processes have made negative."""


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the percentage for each kind of loop."""
    seconds = 0.4 if effort.is_quick else 20.0
    for loop, kind in product(("asyncio", "uvloop"), ("idle", "busy")):
        pairs = [run_json("watched_loop", seconds, kind, loop) for _ in range(effort.pairs)]
        added = [max(_LEAST, watched - bare) for bare, watched in pairs]
        note = f"beside {statistics.median(bare for bare, _ in pairs):.2f} % of the loop itself"
        yield median_of(f"a watchdog of a loop that is {kind}, {loop}", added, unit="%", goal=_GOAL, note=note)
