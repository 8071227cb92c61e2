"""How long one waits at first: for `--help`, against a click program, and for the first full picture of the demo.

A picture is full when every line of the terminal was drawn; that of the demo, when its overview, its last worker and
the keys are on it, all of which is known before the engine is there.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Sequence
from functools import partial

from tests.benchmarks.measure import Effort, Finding, Goal, in_turn, ratio, seconds_of
from tests.benchmarks.picture import Condition, Picture
from tests.benchmarks.processes import ASYNCWATCH, PEERS, run_process

_ROWS = 40
_PARTS = ("○ 20 queued", "19 ", "c cancel")


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio for the help, then for the picture."""
    helps = {
        "asyncwatch": [ASYNCWATCH, "--help"],
        "click": [sys.executable, str(PEERS / "click_program.py"), "--help"],
    }
    seconds = in_turn(
        effort,
        {name: partial(seconds_of, partial(run_process, command)) for name, command in helps.items()},
        times=4,
    )
    yield _finding("--help against a click program", seconds["asyncwatch"], seconds["click"], Goal("<=", 1.5))
    empty = [sys.executable, str(PEERS / "empty_app.py")]
    seconds = in_turn(
        effort,
        {"demo": partial(_first_picture, [ASYNCWATCH], _is_demo), "empty": partial(_first_picture, empty, _is_full)},
        times=2,
    )
    yield _finding(
        "first full picture of the demo against an empty Textual app",
        seconds["demo"],
        seconds["empty"],
        Goal("<=", 1.4),
    )


def _finding(what: str, figures: Sequence[float], peers: Sequence[float], goal: Goal) -> Finding:
    note = f"{statistics.median(figures) * 1000:.0f} ms against {statistics.median(peers) * 1000:.0f}"
    return ratio(what, figures, peers, goal, note)


def _first_picture(command: list[str], condition: Condition) -> float:
    with Picture(command, cwd=PEERS, columns=120, rows=_ROWS) as picture:
        return picture.wait_for(condition) - picture.started_at


def _is_full(picture: Picture) -> bool:
    return len({line for line, _ in picture.stretches}) == _ROWS


def _is_demo(picture: Picture) -> bool:
    texts = [text.strip() for text in picture.stretches.values()]
    return _is_full(picture) and all(any(text.startswith(begin) for text in texts) for begin in _PARTS)
