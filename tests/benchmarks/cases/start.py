"""Time to `--help`, against a Click program, and to the first full frame of the demo, against an empty Textual app.

A frame is full when every line of the terminal has been drawn. The demo's frame also has to show the overview, the last
worker and the keys, which are all known before the engine has started.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Sequence
from functools import partial

from tests.benchmarks.measure import Effort, Finding, Goal, alternate, ratio, seconds_of
from tests.benchmarks.processes import ASYNCWATCH, PEERS, run_process
from tests.benchmarks.terminal import Condition, Terminal

_ROWS = 40
_PARTS = ("○ 20 queued", "19 ", "c cancel")


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio for the help, then for the frame."""
    helps = {
        "asyncwatch": [ASYNCWATCH, "--help"],
        "click": [sys.executable, str(PEERS / "click_program.py"), "--help"],
    }
    seconds = alternate(
        effort,
        {name: partial(seconds_of, partial(run_process, command)) for name, command in helps.items()},
        times=4,
    )
    yield _finding("--help against a click program", seconds["asyncwatch"], seconds["click"], Goal("<=", 1.5))
    empty = [sys.executable, str(PEERS / "empty_app.py")]
    seconds = alternate(
        effort,
        {"demo": partial(_first_frame, [ASYNCWATCH], _is_demo), "empty": partial(_first_frame, empty, _is_full)},
        times=2,
    )
    yield _finding(
        "first full frame of the demo against an empty Textual app",
        seconds["demo"],
        seconds["empty"],
        Goal("<=", 1.4),
    )


def _finding(what: str, figures: Sequence[float], peers: Sequence[float], goal: Goal) -> Finding:
    note = f"{statistics.median(figures) * 1000:.0f} ms against {statistics.median(peers) * 1000:.0f}"
    return ratio(what, figures, peers, goal, note)


def _first_frame(command: list[str], condition: Condition) -> float:
    with Terminal(command, cwd=PEERS, columns=120, rows=_ROWS) as terminal:
        return terminal.wait_for(condition) - terminal.started_at


def _is_full(terminal: Terminal) -> bool:
    return len({line for line, _ in terminal.spans}) == _ROWS


def _is_demo(terminal: Terminal) -> bool:
    texts = [text.strip() for text in terminal.spans.values()]
    return _is_full(terminal) and all(any(text.startswith(begin) for text in texts) for begin in _PARTS)
