"""From a key press to the changed screen, for the real command in a terminal of 120x40, against an empty Textual app.

Each key moves the cursor to another worker. First, workers start and end at 10,000 events a second. Then one worker
blocks the event loop for two seconds again and again: by a sleep, by a computation, which also holds the interpreter's
lock for whole switch intervals, and by a call of C that holds the lock. There only keys that are pressed during a block
count. The same without a block is what they are compared with. Situations and the empty app take turns.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.benchmarks import keyboard
from tests.benchmarks.measure import Effort, Finding, Goal, alternate
from tests.benchmarks.processes import ASYNCWATCH, PEERS
from tests.benchmarks.terminal import Terminal

_PER_SECOND = 5_000
"""Workers that end per second, with two events each."""
_CONCURRENCY = _PER_SECOND // 10  # each sleeps for 0.1 s on average
_BLOCKED = 2.0
_STEPS = 5
_ATTEMPTS_PER_SECOND = re.compile(r"([0-9.,k]+) attempts/s")


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the answer time in each situation."""
    storm, block = effort.size(4, 1), 0.5 if effort.is_quick else _BLOCKED
    rates: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pressed = alternate(
            effort,
            {
                "10,000 events/s": partial(_in_storm, folder, storm, rates),
                **{how: partial(_blocked, folder / how, how, block) for how in ("sleep", "compute", "hold")},
                "quiet": partial(_quiet, folder / "quiet", block),
                "empty": partial(keyboard.presses_in_empty_app, storm),
            },
        )
    note = f"{rates[-1]} attempts/s of two events"
    yield keyboard.finding("10,000 events/s", pressed["10,000 events/s"], pressed["empty"], note, Goal("<=", 3.0))
    for how, doing in (("sleep", "sleeps"), ("compute", "computes"), ("hold", "holds the interpreter")):
        what = f"a worker {doing} for {block:g} s, against none that does"
        yield keyboard.finding(what, pressed[how], pressed["quiet"], goal=Goal("<=", 1.5))


def _in_storm(folder: Path, seconds: int, rates: list[str]) -> list[keyboard.Press]:
    items = folder / "items.txt"
    items.write_text("".join(f"w{number}\n" for number in range(_PER_SECOND * (seconds + 6))), encoding="ascii")
    with _dashboard("jobs:nap", "--items", str(items), "--concurrency", str(_CONCURRENCY)) as terminal:
        terminal.wait_for_text("attempts/s")
        terminal.press("s")  # from the live order, in which no worker is selected, to that of the queue
        terminal.wait_for(lambda shown: shown.cursor, "a cursor")
        _to_the_middle(terminal)
        pressed = list(keyboard.presses(terminal, keyboard.for_seconds(seconds)))
        rates += [match[1] for text in terminal.text.splitlines() if (match := _ATTEMPTS_PER_SECOND.search(text))]
    return pressed


def _blocked(times: Path, how: str, seconds: float) -> list[keyboard.Press]:
    """Press keys for two blocks, and return those that were pressed during a block."""
    items = times.with_suffix(".txt")
    times.write_text("", encoding="ascii")
    items.write_text("".join(f"w{number}\n" for number in range(30)) + f"{how} {seconds}\n", encoding="ascii")
    with _dashboard("jobs:block", "--items", str(items), BENCH_TIMES=str(times)) as terminal:
        terminal.wait_for_text("31 running")
        _to_the_middle(terminal)
        pressed = list(keyboard.presses(terminal, keyboard.for_seconds(3 * seconds + 0.5)))
    blocked = [tuple(map(float, line.split())) for line in times.read_text(encoding="ascii").splitlines()]
    return [press for press in pressed if any(start <= press.at < end for start, end in blocked)]


def _quiet(items: Path, seconds: float) -> list[keyboard.Press]:
    items.write_text("".join(f"w{number}\n" for number in range(31)), encoding="ascii")
    with _dashboard("jobs:block", "--items", str(items)) as terminal:
        terminal.wait_for_text("31 running")
        _to_the_middle(terminal)
        return list(keyboard.presses(terminal, keyboard.for_seconds(3 * seconds + 0.5)))


def _to_the_middle(terminal: Terminal) -> None:
    """Move the cursor away from both ends of the rows, where a key changes nothing."""
    terminal.press(_STEPS * keyboard.DOWN)
    terminal.wait_for(lambda shown: shown.cursor == f"w{_STEPS}", f"the cursor on w{_STEPS}")


def _dashboard(*arguments: str, **more: str) -> Terminal:
    return Terminal([ASYNCWATCH, *arguments], cwd=PEERS, columns=120, rows=40, **more)
