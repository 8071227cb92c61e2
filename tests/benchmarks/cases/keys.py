"""From a key press to the changed screen, for the real command in a terminal of 120x40.

Each key moves the cursor to another worker. First, workers start and end at 10,000 events a second. Then one worker
blocks the event loop for two seconds again and again, by a sleep and by a computation, which also holds the
interpreter's lock for whole switch intervals. There only keys that are pressed during a block count.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import keyboard
from tests.benchmarks.measure import Effort, Finding
from tests.benchmarks.processes import ASYNCWATCH, PEERS
from tests.benchmarks.terminal import Terminal

_PER_SECOND = 5_000
"""Workers that end per second, with two events each."""
_CONCURRENCY = _PER_SECOND // 10  # each sleeps for 0.1 s on average
_BLOCKED = 2.0
_ATTEMPTS_PER_SECOND = re.compile(r"([0-9.,k]+) attempts/s")


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the answer time in each situation."""
    with tempfile.TemporaryDirectory() as folder:
        yield _in_storm(Path(folder), effort.size(3 * effort.pairs, 1))
        for how in ("sleep", "compute"):
            yield _blocked(Path(folder) / how, how, 0.5 if effort.is_quick else _BLOCKED, effort.size(effort.pairs, 1))


def _in_storm(folder: Path, seconds: int) -> Finding:
    items = folder / "items.txt"
    items.write_text("".join(f"w{number}\n" for number in range(_PER_SECOND * (seconds + 6))), encoding="ascii")
    with _dashboard("jobs:nap", "--items", str(items), "--concurrency", str(_CONCURRENCY)) as terminal:
        terminal.wait_for(lambda shown: shown.cursor)
        terminal.wait_for_text("attempts/s")
        pressed = list(keyboard.presses(terminal, keyboard.for_seconds(seconds)))
        rates = [match[1] for text in terminal.spans.values() if (match := _ATTEMPTS_PER_SECOND.search(text))]
    return keyboard.finding("10,000 events/s", pressed, f"{rates[0]} attempts/s of two events" if rates else "")


def _blocked(times: Path, how: str, seconds: float, rounds: int) -> Finding:
    items = times.with_suffix(".txt")
    items.write_text("".join(f"w{number}\n" for number in range(30)) + f"{how} {seconds}\n", encoding="ascii")
    with _dashboard("jobs:block", "--items", str(items), BENCH_TIMES=str(times)) as terminal:
        terminal.wait_for(lambda shown: shown.cursor)
        pressed = list(keyboard.presses(terminal, keyboard.for_seconds(rounds * seconds * 1.5 + 0.5)))
    blocked = [tuple(map(float, line.split())) for line in times.read_text(encoding="ascii").splitlines()]
    meanwhile = [press for press in pressed if any(start <= press.at < end for start, end in blocked)]
    return keyboard.finding(f"event loop blocked for {seconds:g} s by a worker that would {how}", meanwhile)


def _dashboard(*arguments: str, **more: str) -> Terminal:
    return Terminal([ASYNCWATCH, *arguments], cwd=PEERS, columns=120, rows=40, **more)
