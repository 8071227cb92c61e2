"""30,000 workers that fail twice and then succeed, against the handwritten script: see `many_failures`."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.many_failures import findings
from tests.benchmarks.measure import Effort, Finding, Goal

_GOAL = Goal("<=", 2.5)


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio of the processor time of each worker."""
    yield from findings("flaky", "fail twice, then succeed", _GOAL, effort, status=0, lines_each=2)
