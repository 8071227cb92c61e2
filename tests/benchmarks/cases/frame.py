"""One frame of the dashboard in a terminal of 160x50 while 10,000 events a second arrive, against a screenful of text.

The dashboard runs in a real pseudo-terminal. Its events come from a thread that does nothing else, so the figures
contain the dashboard and not the work. A full screen of rows changes in every frame. The peer is a Textual app that
repaints the same 160x50 as text; one that gives each row its colours stands beside it.

A fleet of 1,000,000 is compared with one of 20. In both, twenty visible rows change in every frame; with 1,000,000
workers half of the events belong to others, spread over the fleet.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import Cost, Effort, Finding, Goal, alternate, compare, percentile
from tests.benchmarks.processes import ROOT, peer
from tests.benchmarks.terminal import PATIENCE, Terminal

_FEW = 20
_SCREENFUL = 49
"""More rows than fit on the screen."""


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratios of a full frame to both texts, then of the large fleet to the small one."""
    many = effort.size(1_000_000, 2_000)
    seconds = 0.2 if effort.is_quick else 4
    commands = {
        "full": ("synthetic_app", "--workers", _SCREENFUL, "--busy", _SCREENFUL),
        "text": ("text_app",),
        "coloured": ("text_app", "--coloured"),
        "many": ("synthetic_app", "--workers", many, "--busy", _FEW),
        "few": ("synthetic_app", "--workers", _FEW, "--busy", _FEW),
    }
    frames: dict[str, list[Cost]] = {name: [] for name in commands}
    rates: list[float] = []

    def watch(name: str) -> Cost:
        costs, rate = _frames(commands[name], seconds)
        frames[name] += costs
        if rate is not None:
            rates.append(rate)
        return Cost(*(statistics.median(figures) for figures in zip(*costs, strict=True)))

    medians = alternate(effort, {name: partial(watch, name) for name in commands})
    at_least = f"at least {min(rates):,.0f} events/s"
    pairs = (
        ("full", "text", f"{_SCREENFUL} rows that all change, against plain text", Goal("<=", 1.0)),
        ("full", "coloured", f"{_SCREENFUL} rows that all change, against coloured text", None),
        ("many", "few", f"{many:,} rows against {_FEW}", Goal("<=", 1.3)),
    )
    for name, other, what, goal in pairs:
        note = f"p95 {_p95(frames[name]):.1f} ms against {_p95(frames[other]):.1f}; {at_least}"
        yield compare(what, medians[name], medians[other], goal, note, unit="ms")


def frames_of(
    effort: Effort, commands: Mapping[str, Sequence[object]], lines: int, what: str, goal: Goal
) -> Iterator[Finding]:
    """Yield the ratio of a frame of the first command to one of the second, in a terminal with that many lines."""
    seconds = 0.2 if effort.is_quick else 4
    frames: dict[str, list[Cost]] = {name: [] for name in commands}

    def watch(name: str) -> Cost:
        costs, _ = _frames(commands[name], seconds, lines)
        frames[name] += costs
        return Cost(*(statistics.median(figures) for figures in zip(*costs, strict=True)))

    medians = alternate(effort, {name: partial(watch, name) for name in commands})
    first, second = commands
    note = f"p95 {_p95(frames[first]):.1f} ms against {_p95(frames[second]):.1f}"
    yield compare(what, medians[first], medians[second], goal, note, unit="ms")


def _p95(costs: Sequence[Cost]) -> float:
    return percentile([cost.processor * 1000 for cost in costs], 0.95)


def _frames(command: Sequence[object], seconds: float, lines: int = 50) -> tuple[Sequence[Cost], float | None]:
    """Return the cost of each frame of a peer, and the events per second if it gets any."""
    module, *options = command
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frames.json"
        arguments = (*options, "--seconds", seconds, "--frames", file)
        with Terminal(peer(str(module), *arguments), cwd=ROOT, columns=160, rows=lines) as terminal:
            status = terminal.process.wait(PATIENCE)
            assert status == 0, terminal.text
        written = json.loads(file.read_text(encoding="ascii"))
    return [Cost(*frame) for frame in written["frames"]], written.get("events_per_second")
