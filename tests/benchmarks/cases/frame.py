"""One frame of the dashboard in a terminal of 160x50, while 10,000 events a second arrive: 20 workers, and 1,000,000.

The app is the real one in a real pseudo-terminal; its events come from a thread that does nothing else, so that what
is measured is the dashboard and not the work. Twenty visible rows change in every frame of both; of 1,000,000 workers
half of the events are of others, all over the fleet. A screen full of rows that all change in every frame is the worst
that there is.
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

from tests.benchmarks.measure import Effort, Finding, Goal, in_turn, percentile, ratio
from tests.benchmarks.picture import PATIENCE, Picture
from tests.benchmarks.processes import ROOT

_FEW = 20
_SCREENFUL = 49
"""More rows than are visible."""


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the time of the slowest frames of each fleet, then what the larger one costs."""
    many = effort.size(1_000_000, 2_000)
    seconds = 0.2 if effort.is_quick else 4
    fleets = {"many": (many, _FEW), "few": (_FEW, _FEW), "full": (_SCREENFUL, _SCREENFUL)}
    frames: dict[str, list[list[float]]] = {fleet: [] for fleet in fleets}
    rates: list[float] = []

    def watch(fleet: str) -> float:
        told = _frames(*fleets[fleet], seconds)
        frames[fleet] += told["frames"]
        rates.append(told["events_per_second"])
        return statistics.median([float(wall) for wall, _ in told["frames"]])

    medians = in_turn(
        effort,
        {fleet: partial(watch, fleet) for fleet in fleets},
        warm_up=lambda: _frames(_FEW, _FEW, seconds / 4),
    )
    for fleet, shown in frames.items():
        workers, busy = fleets[fleet]
        walls = [wall * 1000 for wall, _ in shown]
        processor = percentile([worked * 1000 for _, worked in shown], 0.95)
        note = f"{len(walls)} frames; the range is median to slowest; of the processor {processor:.1f} ms"
        spread = (statistics.median(walls), max(walls))
        p95 = percentile(walls, 0.95)
        what = f"p95 with {workers:,} workers, {busy} busy"
        yield Finding(what, p95, "ms", spread, Goal("<=", 5.0, "ms"), note)
    of_many, of_few = (statistics.median(medians[fleet]) * 1000 for fleet in ("many", "few"))
    at_least = f"at {min(rates):,.0f} events/s at least"
    note = f"medians {of_many:.1f} ms, {of_few:.1f}; {at_least}"
    yield ratio(f"{many:,} rows against {_FEW}", medians["many"], medians["few"], Goal("<=", 1.3), note)


def _frames(workers: int, busy: int, seconds: float) -> Any:
    """Return what `told_app` notes: of each frame the seconds by the clock and of the processor, and the events."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frames.json"
        options = ["--workers", str(workers), "--busy", str(busy), "--seconds", str(seconds), "--frames", str(file)]
        command = [sys.executable, "-m", "tests.benchmarks.peers.told_app", *options]
        with Picture(command, cwd=ROOT, columns=160, rows=50) as picture:
            status = picture.process.wait(PATIENCE)
            assert status == 0, picture.text
        return json.loads(file.read_text(encoding="ascii"))
