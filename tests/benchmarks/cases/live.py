"""One frame of the live order of 1,000,000 workers, against that of 20, while 10,000 events a second arrive.

Both terminals have fewer lines than there are workers, so that both are in live order and follow it. In both, all
visible rows belong to workers that change all the time.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.cases.frame import frames_of
from tests.benchmarks.measure import Effort, Finding, Goal

_FEW = 20
_LINES = 18
"""Lines of the terminal: less than `_FEW`."""


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio of the large fleet to the small one."""
    many = effort.size(1_000_000, 2_000)
    commands = {
        "many": ("synthetic_app", "--workers", many, "--busy", _FEW, "--live"),
        "few": ("synthetic_app", "--workers", _FEW, "--busy", _FEW, "--live"),
    }
    yield from frames_of(effort, commands, _LINES, f"live order of {many:,} rows against {_FEW}", Goal("<=", 1.3))
