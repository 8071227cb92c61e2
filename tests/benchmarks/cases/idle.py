"""Processor time of a dashboard in which nothing happens: 100 services that wait, and a finished run of 100 workers.

Each program runs in a terminal of 120x40, and gets a few seconds to settle. The figure is a percentage of one core, of
the process and all below it. An empty Textual app stands beside it. Needs Linux, which has a clock for each process.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import Effort, Finding, Goal, Skipped, alternate, median_of
from tests.benchmarks.processes import ASYNCWATCH, PEERS, processor_time_of
from tests.benchmarks.terminal import Condition, Terminal

_EMPTY = [sys.executable, str(PEERS / "empty_app.py")]
_WORKERS = 100
_CONFIGS = {
    "100 services that wait": f"""\
[[group]]
name = "services"
target = "jobs:rest"
count = {_WORKERS}
restart = "permanent"
""",
    "a finished run": f"""\
[[group]]
name = "batch"
target = "jobs:return_at_once"
items = {[str(number) for number in range(_WORKERS)]}
""",
}
_SHOWN = {"100 services that wait": f"● {_WORKERS} running", "a finished run": "✓ finished"}
_GOALS = {"100 services that wait": Goal("<=", 1.5, "%"), "a finished run": Goal("<=", 0.5, "%")}


def run(effort: Effort) -> Iterator[Finding | Skipped]:
    """Yield the percentage of each dashboard, then of the empty app."""
    if sys.platform != "linux":
        yield Skipped("percentage of a core", "needs Linux")
        return
    settle, seconds = (0.3, 0.3) if effort.is_quick else (3.0, 10.0)
    with tempfile.TemporaryDirectory() as name:
        sides: dict[str, Callable[[], float]] = {}
        for number, (what, text) in enumerate(_CONFIGS.items()):
            config = Path(name) / f"{number}.toml"
            config.write_text(text, encoding="utf-8")
            command = [ASYNCWATCH, "--config", str(config)]
            sides[what] = partial(_percent, command, _shows(_SHOWN[what]), settle, seconds)
        sides["an empty Textual app"] = partial(_percent, _EMPTY, _is_drawn, settle, seconds)
        percents = alternate(effort, sides)
    empty = statistics.median(percents["an empty Textual app"])
    for what, goal in _GOALS.items():
        beside = f"beside {empty:.2f} % of an empty app"
        yield median_of(f"percentage of a core with {what}", percents[what], unit="%", goal=goal, note=beside)


def _percent(command: Sequence[str], is_ready: Condition, settle: float, seconds: float) -> float:
    with Terminal(command, cwd=PEERS, columns=120, rows=40) as terminal:
        terminal.wait_for(is_ready)
        time.sleep(settle)
        before, start = processor_time_of(terminal.process.pid), time.perf_counter()
        time.sleep(seconds)
        taken = processor_time_of(terminal.process.pid) - before
        return 100 * taken / (time.perf_counter() - start)


def _shows(text: str) -> Condition:
    return lambda terminal: any(text in span for span in terminal.spans.values())


def _is_drawn(terminal: Terminal) -> bool:
    return len({line for line, _ in terminal.spans}) == terminal.rows
