"""The cost per worker in small and large fleets, on the engine's loop, each in a new process."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.measure import Cost, Effort, Finding, Goal, alternate, compare
from tests.benchmarks.processes import run_json

_GOAL = Goal("<=", 1.25)


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio of the cost at each size to the cost at the smallest."""
    sizes = (1_000, 2_000) if effort.is_quick else (1_000, 10_000, 100_000, 1_000_000)
    costs = alternate(
        effort,
        {str(size): lambda size=size: Cost(*run_json("noop_fleet", size)) for size in sizes},  # type: ignore[misc]  # mypy cannot infer it
    )
    for size in sizes[1:]:
        goal = _GOAL if size == sizes[-1] else None
        yield compare(f"{size:,} workers against {sizes[0]:,}", costs[str(size)], costs[str(sizes[0])], goal)
