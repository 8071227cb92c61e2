"""Time to `--help`, against a Click program, and to the first full frame of the demo, against an empty Textual app.

A frame is full when every line of the terminal has been drawn. The demo's frame also has to show the overview, the last
worker and the keys, which are all known before the engine has started.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial

from tests.benchmarks.measure import Cost, Effort, Finding, Goal, alternate, beside, ratio
from tests.benchmarks.processes import ASYNCWATCH, PEERS, cost_of, processor_time_of
from tests.benchmarks.terminal import Condition, Terminal

_ROWS = 40
_PARTS = ("○ 20 queued", "19 ", "c cancel")


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio for the help, then for the frame."""
    helps = {
        "asyncwatch": [ASYNCWATCH, "--help"],
        "click": [sys.executable, str(PEERS / "click_program.py"), "--help"],
    }
    costs = alternate(effort, {name: partial(cost_of, command) for name, command in helps.items()}, times=4)
    yield _finding("--help against a click program", costs["asyncwatch"], costs["click"], Goal("<=", 1.5))
    empty = [sys.executable, str(PEERS / "empty_app.py")]
    costs = alternate(
        effort,
        {"demo": partial(_first_frame, [ASYNCWATCH], _is_demo), "empty": partial(_first_frame, empty, _is_full)},
        times=2,
    )
    what = "first full frame of the demo against an empty Textual app"
    yield _finding(what, costs["demo"], costs["empty"], Goal("<=", 1.4))


def _finding(what: str, costs: Sequence[Cost], peers: Sequence[Cost], goal: Goal) -> Finding:
    found = ratio(what, [cost.wall for cost in costs], [cost.wall for cost in peers], goal)
    return beside(found, costs, peers, "ms")


def _first_frame(command: list[str], condition: Condition) -> Cost:
    with Terminal(command, cwd=PEERS, columns=120, rows=_ROWS) as terminal:
        wall = terminal.wait_for(condition) - terminal.started_at
        return Cost(processor_time_of(terminal.process.pid), wall)


def _is_full(terminal: Terminal) -> bool:
    return len({line for line, _ in terminal.spans}) == _ROWS


def _is_demo(terminal: Terminal) -> bool:
    texts = [text.strip() for text in terminal.spans.values()]
    return _is_full(terminal) and all(any(text.startswith(begin) for text in texts) for begin in _PARTS)
