"""From `asyncwatch attach` to the first full screen of a run with many workers, against an empty Textual app.

The workers wait, so that the run is large and quiet. The terminal has 120x40 cells.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import Cost, Effort, Finding, Goal, alternate, beside, ratio
from tests.benchmarks.processes import ASYNCWATCH, PEERS, environment, processor_time_of
from tests.benchmarks.terminal import Terminal

_ROWS = 40
_GOAL = Goal("<=", 2.5)


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio for each size of the run."""
    for size in (effort.size(100_000, 1_000), effort.size(1_000_000, 2_000)):
        with _running(size) as run_id:
            sides = {
                "attach": partial(_first_screen, [ASYNCWATCH, "attach", run_id], f"w{_ROWS // 2}"),
                "empty": partial(_first_screen, [sys.executable, str(PEERS / "empty_app.py")], ""),
            }
            costs = alternate(effort, sides, times=2)
        own, peers = costs["attach"], costs["empty"]
        found = ratio(f"{size:,} workers", [cost.wall for cost in own], [cost.wall for cost in peers], _GOAL)
        yield beside(found, own, peers, "ms")


@contextmanager
def _running(size: int) -> Iterator[str]:
    """Start a run of that size in the background, and yield its ID."""
    with tempfile.TemporaryDirectory() as folder:
        items = Path(folder) / "items.txt"
        items.write_text("".join(f"w{number}\n" for number in range(size)), encoding="ascii")
        start = [ASYNCWATCH, "-d", "jobs:wait", "--items", str(items), "--concurrency", "10"]
        done = subprocess.run(start, cwd=PEERS, env=environment(), capture_output=True, text=True, check=True)
        match = re.search(r"attach (\w+)", done.stderr)
        assert match is not None
        try:
            yield match[1]
        finally:
            subprocess.run([ASYNCWATCH, "ctl", match[1], "stop", "--now"], env=environment(), check=False)


def _first_screen(command: list[str], word: str) -> Cost:
    with Terminal(command, cwd=PEERS, columns=120, rows=_ROWS) as terminal:
        wall = terminal.wait_for(partial(_is_full, word=word)) - terminal.started_at
        return Cost(processor_time_of(terminal.process.pid), wall)


def _is_full(terminal: Terminal, word: str) -> bool:
    is_drawn = len({line for line, _ in terminal.spans}) == _ROWS
    return is_drawn and any(text.strip().startswith(word) for text in terminal.spans.values())
