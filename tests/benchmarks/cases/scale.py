"""The cost per worker in small and large fleets, on the engine's loop, each in a new process."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial

from tests.benchmarks.measure import Effort, Finding, Goal, alternate, ratio
from tests.benchmarks.processes import run_json


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio of the cost at each size to the cost at the smallest."""
    sizes = (1_000, 2_000) if effort.is_quick else (1_000, 10_000, 100_000, 1_000_000)
    costs = alternate(
        effort,
        {str(size): partial(run_json, "noop_fleet", size) for size in sizes},
        warm_up=partial(run_json, "noop_fleet", sizes[0]),
    )
    smallest = costs[str(sizes[0])]
    for size in sizes[1:]:
        figures = costs[str(size)]
        note = f"{statistics.median(figures):.1f} us per worker against {statistics.median(smallest):.1f}"
        goal = Goal("<=", 1.25) if size == sizes[-1] else None
        yield ratio(f"{size:,} workers against {sizes[0]:,}", figures, smallest, goal, note)
