"""Bytes per worker of the real command: 1,000,000 workers that are queued or ended, and fewer that are all running.

The memory of a run with 1,000 workers is subtracted. The rest belongs to the other workers: names, items, events in
transit and so on. The figures are resident set sizes once they are steady, and the peak of a whole headless run.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.measure import Effort, Finding, Goal
from tests.benchmarks.processes import ASYNCWATCH, PEERS, silent, steady_memory_of, wait_for_peak, wait_until
from tests.benchmarks.terminal import Terminal

_BASE = 1_000
_PER_RESTING = Goal("<=", 400.0, "bytes")
_PER_RUNNING = Goal("<=", 4_000.0, "bytes")
_WHOLE = Goal("<=", 600.0, "MB")


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the bytes per worker in each state, without and with the dashboard, and the peak of a whole run."""
    many, running = effort.size(1_000_000, 3_000), effort.size(50_000, 3_000)
    looks = effort.size(8, 1)
    for is_shown in (False, True):
        where = "with the dashboard" if is_shown else "headless"
        done, base = (_done(count, looks, is_shown=is_shown) for count in (many, _BASE))
        yield _each(f"a worker that is done, {where}", many, done.steady, base.steady, _PER_RESTING)
        if not is_shown:
            note = f"{base.peak / 1e6:,.0f} MB with {_BASE:,}"
            yield Finding(f"peak of a whole run of {many:,}", done.peak / 1e6, "MB", None, _WHOLE, note)
        states = (("queued", many, _PER_RESTING), ("running", running, _PER_RUNNING))
        for state, count, goal in states[: effort.size(2, 1)]:
            taken, of_base = (_waiting(state, number, looks, is_shown=is_shown) for number in (count, _BASE))
            yield _each(f"a worker that is {state}, {where}", count, taken, of_base, goal)


def _each(what: str, workers: int, taken: int, base: int, goal: Goal) -> Finding:
    note = f"{taken / 1e6:,.0f} MB with {workers:,}, {base / 1e6:,.0f} MB with {_BASE:,}"
    return Finding(what, (taken - base) / (workers - _BASE), "bytes", None, goal, note)


class _Taken(NamedTuple):
    """Bytes in use when all workers but one have ended, and the peak of the whole run (0 if it was killed)."""

    steady: int
    peak: int


def _done(workers: int, looks: int, *, is_shown: bool) -> _Taken:
    """Run workers that return at once."""
    with tempfile.TemporaryDirectory() as name:
        gate = Path(name) / "gate"
        items = _items(Path(name), chain(_names(workers - 1), ["hold"]))
        with _started(["jobs:noop", "--items", str(items)], is_shown=is_shown, BENCH_GATE=str(gate)) as process:
            wait_until(gate.with_suffix(".reached").exists, process)
            steady = steady_memory_of(process.pid, looks)
            gate.touch()
            return _Taken(steady, 0 if is_shown else wait_for_peak(process))


def _waiting(state: str, workers: int, looks: int, *, is_shown: bool) -> int:
    """Return the bytes in use when all workers are running, or all but one are queued."""
    with tempfile.TemporaryDirectory() as name:
        gate = Path(name) / "gate"
        # All workers have been queued by the time the first one starts and reaches the gate.
        items = _items(Path(name), chain(["hold"], _names(workers - 1)))
        concurrency = workers if state == "running" else 1
        command = ["jobs:wait", "--items", str(items), "--concurrency", str(concurrency)]
        with _started(command, is_shown=is_shown, BENCH_GATE=str(gate)) as process:
            wait_until(gate.with_suffix(".reached").exists, process)
            return steady_memory_of(process.pid, looks)


def _names(count: int) -> Iterator[str]:
    return (f"w{number}" for number in range(count))


def _items(folder: Path, items: Iterable[str]) -> Path:
    """Write the items one by one: a child process starts with the peak memory of this one."""
    file = folder / "items.txt"
    with file.open("w", encoding="ascii") as lines:
        lines.writelines(f"{item}\n" for item in items)
    return file


def _started(
    arguments: Sequence[str], *, is_shown: bool, **more: str
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    if is_shown:
        return _shown([ASYNCWATCH, *arguments], **more)
    return silent([ASYNCWATCH, "--headless", *arguments], **more)


@contextmanager
def _shown(command: Sequence[str], **more: str) -> Iterator[subprocess.Popen[bytes]]:
    with Terminal(command, cwd=PEERS, columns=120, rows=40, **more) as terminal:
        yield terminal.process
