"""30,000 workers that raise at once, without a dashboard, against the handwritten script: see `many_failures`."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.many_failures import findings
from tests.benchmarks.measure import Effort, Finding, Goal

_GOAL = Goal("<=", 2.0)


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio of the processor time of each worker."""
    yield from findings("fail", "raise at once", _GOAL, effort, status=1, lines_each=1)
