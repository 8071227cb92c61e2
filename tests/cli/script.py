"""A scripted run for headless tests, with fake streams and a clock that moves only with the script."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Sequence
from typing import Any

from asyncwatch.cli.headless import StdoutError, run_headless
from asyncwatch.commands import Command, Statistics
from asyncwatch.events import (
    AttemptStarted,
    Batch,
    Event,
    LogRecorded,
    RunFinished,
    RunStarted,
    WorkerReady,
    WorkersQueued,
    WorkerSucceeded,
)

HEAD: list[Event] = [
    RunStarted(
        seq=0, at=0.0, run="demo", workers=1, runner="wait", seed=7, concurrency=1, timeout=None, started_at=0.0
    ),
    WorkersQueued(seq=1, at=0.0, group="", max_attempts=3, workers=("a",)),
    AttemptStarted(seq=2, at=0.1, worker="a", incarnation=1, attempt=1, bad_luck=0.5),
]
READY = WorkerReady(seq=3, at=0.2, worker="a", incarnation=1, value=None)
TAIL: list[Event] = [
    WorkerSucceeded(seq=4, at=0.5, worker="a", incarnation=1, attempts=1, elapsed=0.4, result=200),
    RunFinished(seq=5, at=0.5, states={"succeeded": 1}, attempts=1, elapsed=0.5, interrupted=False),
]
SUMMARY = "demo (wait, seed 7): 1 succeeded; 1 attempt in 500 ms\n\nslowest\n  400 ms  a  succeeded\n"


def log(message: str, level: str = "WARNING", worker: str | None = "a") -> LogRecorded:
    """Return a log record between HEAD and TAIL."""
    return LogRecorded(seq=3, at=0.2, worker=worker, level=level, logger="x", message=message)


class Clock:
    """A clock that stands still until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Script(asyncio.Queue[Batch]):
    """A queue that returns its steps one by one: a batch, or a number of seconds in which no batch comes."""

    def __init__(self, steps: Sequence[Batch | float], clock: Clock) -> None:
        super().__init__()
        self.steps = list(steps)
        self.clock = clock

    async def get(self) -> Batch:
        """Return the next batch or time out after the seconds; after the last step, wait for a batch that is put."""
        if not self.steps:
            return await super().get()
        step = self.steps.pop(0)
        if isinstance(step, (int, float)):
            self.clock.now += step
            raise TimeoutError
        return step


class FakeController:
    """Plays a script of batches, and ends the run at the first command if it `obeys`."""

    def __init__(self, *steps: Batch | float, obeys: bool = True) -> None:
        self.clock = Clock()
        self.sent: list[Command] = []
        self.queue = Script(steps, self.clock)
        self.obeys = obeys
        self.known = Statistics()

    def send(self, *commands: Command) -> None:
        """Record the commands, and end the run."""
        self.sent += commands
        if self.obeys:
            finished = RunFinished(seq=99, at=1.0, states={}, attempts=0, elapsed=1.0, interrupted=True)
            self.queue.put_nowait([finished])

    def events(self) -> asyncio.Queue[Batch]:
        return self.queue

    def statistics(self) -> Statistics:
        """Return the statistics that a test has set."""
        return self.known


class Pipe(io.BytesIO):
    """A stdout that fails with `error` after `room` writes."""

    def __init__(self, room: int = 1_000, error: OSError | None = None) -> None:
        super().__init__()
        self.room = room
        self.error = error or BrokenPipeError()
        self.flushes = 0

    def write(self, data: Any, /) -> int:
        """Take the data, or raise the error."""
        self.room -= 1
        if self.room < 0:
            raise self.error
        return super().write(data)

    def flush(self) -> None:
        """Count the flushes."""
        self.flushes += 1


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


async def run(controller: FakeController, **options: Any) -> tuple[bytes, str]:
    """Follow the run to its end, and return the data on stdout and the text on stderr."""
    stdout, stderr = io.BytesIO(), options.pop("stderr", io.StringIO())
    options = {"json": False, "stdout": stdout, "stderr": stderr, "clock": controller.clock} | options
    with contextlib.suppress(StdoutError):
        await run_headless(controller, **options)
    return stdout.getvalue(), stderr.getvalue()
