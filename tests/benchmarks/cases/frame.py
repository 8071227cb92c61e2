"""One frame of the dashboard in a terminal of 160x50 while 10,000 events a second arrive, for 20 and 1,000,000 workers.

The dashboard runs in a real pseudo-terminal. Its events come from a thread that does nothing else, so the figures
contain the dashboard and not the work. In both fleets twenty visible rows change in every frame; with 1,000,000 workers
half of the events belong to others, spread over the fleet. The worst case is a full screen of rows that all change.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Effort, Finding, Goal, alternate, percentile, ratio
from tests.benchmarks.processes import ROOT
from tests.benchmarks.terminal import PATIENCE, Terminal

_FEW = 20
_SCREENFUL = 49
"""More rows than fit on the screen."""


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the 95th percentile of each fleet, then the ratio of the large fleet to the small one."""
    many = effort.size(1_000_000, 2_000)
    seconds = 0.2 if effort.is_quick else 4
    fleets = {"many": (many, _FEW), "few": (_FEW, _FEW), "full": (_SCREENFUL, _SCREENFUL)}
    frames: dict[str, list[list[float]]] = {fleet: [] for fleet in fleets}
    rates: list[float] = []

    def watch(fleet: str) -> float:
        recorded = _frames(*fleets[fleet], seconds)
        frames[fleet] += recorded["frames"]
        rates.append(recorded["events_per_second"])
        return statistics.median([float(wall) for wall, _ in recorded["frames"]])

    medians = alternate(
        effort,
        {fleet: partial(watch, fleet) for fleet in fleets},
        warm_up=lambda: _frames(_FEW, _FEW, seconds / 4),
    )
    for fleet, shown in frames.items():
        workers, busy = fleets[fleet]
        walls = [wall * 1000 for wall, _ in shown]
        processor = percentile([worked * 1000 for _, worked in shown], 0.95)
        note = f"{len(walls)} frames; the range is median to slowest; CPU time {processor:.1f} ms"
        spread = (statistics.median(walls), max(walls))
        p95 = percentile(walls, 0.95)
        what = f"p95 with {workers:,} workers, {busy} busy"
        yield Finding(what, p95, "ms", spread, Goal("<=", 5.0, "ms"), note)
    of_many, of_few = (statistics.median(medians[fleet]) * 1000 for fleet in ("many", "few"))
    at_least = f"at least {min(rates):,.0f} events/s"
    note = f"medians {of_many:.1f} ms, {of_few:.1f}; {at_least}"
    yield ratio(f"{many:,} rows against {_FEW}", medians["many"], medians["few"], Goal("<=", 1.3), note)


def _frames(workers: int, busy: int, seconds: float) -> Any:
    """Return what `synthetic_app` writes: the wall and CPU seconds of each frame, and the events per second."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frames.json"
        options = ["--workers", str(workers), "--busy", str(busy), "--seconds", str(seconds), "--frames", str(file)]
        command = [sys.executable, "-m", "tests.benchmarks.peers.synthetic_app", *options]
        with Terminal(command, cwd=ROOT, columns=160, rows=50) as terminal:
            status = terminal.process.wait(PATIENCE)
            assert status == 0, terminal.text
        return json.loads(file.read_text(encoding="ascii"))
