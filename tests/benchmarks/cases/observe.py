"""What it costs a program that a client looks at its tasks: processor time of the thread of its event loop.

The tasks of the program wait for five seconds on average, again and again, which is as long as a look at all of them
takes, so that a look finds most of them changed. The client, in another process, reads every event. The same program
without a client stands beside it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import NamedTuple

from asyncwatch.control.client import Connection, RunGoneError, connect
from asyncwatch.control.discovery import alive
from asyncwatch.control.protocol import Kind
from tests.benchmarks.measure import Effort, Finding, Goal, Skipped, median_of
from tests.benchmarks.processes import ROOT, environment, peer

_PERCENT = Goal("<=", 2.0, "%")
_LEAST = 0.01
"""What stands for a difference that other processes have made negative."""
_LATER = Goal("<=", 5.0, "ms")


class _Taken(NamedTuple):
    """What the loop took in a time, in seconds."""

    processor: float
    wall: float
    late: float


def run(effort: Effort) -> Iterator[Finding | Skipped]:
    """Yield the share of the loop's time that the look of a client takes, and how much later timers are."""
    if os.name != "posix":
        yield Skipped("share of the loop", "needs a Unix system")
        return
    tasks = effort.size(10_000, 200)
    settle, seconds = (0.5, 0.5) if effort.is_quick else (5.0, 10.0)
    shares: list[float] = []
    later: list[float] = []
    first: list[float] = []
    with _program(tasks) as (process, path):
        for _ in range(effort.pairs):
            alone = _measure(process, seconds)
            with _looking(path):
                begins = _measure(process, min(seconds, 1.0))
                time.sleep(settle)
                looked_at = _measure(process, seconds)
            shares.append(max(_LEAST, 100 * (looked_at.processor / looked_at.wall - alone.processor / alone.wall)))
            first.append(100 * (begins.processor / begins.wall - alone.processor / alone.wall))
            later.append(max(_LEAST, 1e3 * (looked_at.late - alone.late)))
    note = f"{statistics.median(first):.1f} % in the first second"
    yield median_of(f"a client looks at {tasks:,} tasks: share of the loop", shares, unit="%", goal=_PERCENT, note=note)
    yield median_of(f"a client looks at {tasks:,} tasks: delay of timers, p99", later, unit="ms", goal=_LATER)


@contextmanager
def _program(tasks: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the program, and yield its process and the path of its socket."""
    with tempfile.TemporaryDirectory(prefix="aw-", dir="/tmp") as folder:
        before = {name: os.environ.get(name) for name in ("XDG_RUNTIME_DIR", "TMPDIR")}
        os.environ |= dict.fromkeys(before, folder)
        try:
            with subprocess.Popen(
                peer("observed_tasks", tasks),
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                (record,) = alive()
                yield process, record.socket_path
                assert process.stdin is not None
                process.stdin.close()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _measure(process: subprocess.Popen[str], seconds: float) -> _Taken:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{seconds}\n")
    process.stdin.flush()
    return _Taken(**json.loads(process.stdout.readline()))


@contextmanager
def _looking(path: str) -> Iterator[None]:
    """Follow the run inside the context: a thread reads all that it sends."""
    with closing(connect(path, Kind.FOLLOWER)) as connection:
        is_over = threading.Event()
        thread = threading.Thread(target=_read, args=[connection, is_over])
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


def _read(connection: Connection, is_over: threading.Event) -> None:
    with suppress(RunGoneError):
        while not is_over.is_set():
            connection.receive(0.2)
