"""One frame with the map of 1,000,000 workers, against that with the map of 20, while 10,000 events a second arrive.

In both, twenty visible rows change in every frame; with 1,000,000 workers half of the events belong to others, spread
over the fleet and so over the map.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.cases.frame import frames_of
from tests.benchmarks.measure import Effort, Finding, Goal

_FEW = 20
_LINES = 50


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio of the large fleet to the small one."""
    many = effort.size(1_000_000, 2_000)
    commands = {
        "many": ("synthetic_app", "--workers", many, "--busy", _FEW, "--map"),
        "few": ("synthetic_app", "--workers", _FEW, "--busy", _FEW, "--map"),
    }
    yield from frames_of(effort, commands, _LINES, f"map of {many:,} workers against {_FEW}", Goal("<=", 1.3))
