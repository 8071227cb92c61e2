"""A controller without an engine, the events of a small run, and functions that read the screen."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

import msgspec
from textual._context import visible_screen_stack
from textual.app import App

from asyncwatch.commands import Command, Disconnected, SnapshotPart, Statistics, Update, WatchStack
from asyncwatch.events import (
    AttemptFailed,
    AttemptStarted,
    CancelRequested,
    CommandRefused,
    Event,
    LogRecorded,
    LoopBlocked,
    RetryScheduled,
    RunFinished,
    RunStarted,
    WorkerCancelled,
    WorkerExhausted,
    WorkerFailed,
    WorkerRestarted,
    WorkersQueued,
    WorkerSucceeded,
    WorkerUnresponsive,
)
from asyncwatch.ui.app import AsyncwatchApp
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.render.header import overview

STACK = '  File "/srv/app/fetch.py", line 12, in fetch\n    raise error\n'


def blame(worker: str) -> dict[str, Any]:
    """Return the fields by which an event blames a worker for a block of the event loop."""
    if not worker:
        return {"cause": "unknown"}
    who = {"cause": "worker", "worker": worker, "incarnation": 1, "attempt": 1}
    return {**who, "file": "/srv/app/jobs.py", "line": 12, "function": "fetch", "call": "time.sleep(9)"}


class FakeController:
    """Keeps the commands that were sent, and emits the events of a test."""

    def __init__(self) -> None:
        self.sent: list[Command] = []
        self.watched: list[str | None] = []
        self.known = Statistics(loop_lag=0.0004, retry_capacity=500.0)
        self.queue: asyncio.Queue[Update] | None = None
        self.early: list[Any] = []
        self.retry_tokens = 500.0
        self._seq = 0

    def send(self, *commands: Command) -> None:
        """Keep the commands."""
        for command in commands:
            if isinstance(command, WatchStack):
                self.watched.append(command.worker)
            else:
                self.sent.append(command)

    def events(self) -> asyncio.Queue[Update]:
        """Return the queue. It holds all updates so far."""
        self.queue = asyncio.Queue()
        for batch in self.early:
            self.queue.put_nowait(batch)
        return self.queue

    def statistics(self) -> Statistics:
        """Return figures that only a test changes."""
        return msgspec.structs.replace(self.known, retry_tokens=self.retry_tokens)

    def block(self, seconds: float | None, worker: str = "") -> None:
        """Report the event loop as blocked for `seconds` so far; as free if None."""
        blocked = None if seconds is None else LoopBlocked(-1, 0.0, 0.0, seconds, **blame(worker))
        self.known = msgspec.structs.replace(self.known, blocked=blocked)

    def blocked(self, worker: str, at: float, seconds: float) -> None:
        """Report a block of the event loop by a worker that ends now."""
        self.emit(LoopBlocked, at, began=at - seconds, duration=seconds, stack=STACK, **blame(worker))

    def emit(self, kind: type[Event], at: float, **fields: Any) -> None:
        """Emit an event of `kind`, `at` seconds after the start."""
        self.put([kind(seq=self._seq, at=at, **fields)])
        self._seq += 1

    def put(self, update: Update) -> None:
        """Pass on a batch, a part of a snapshot, or the end of the connection."""
        if self.queue is None:
            self.early.append(update)
        else:
            self.queue.put_nowait(update)

    def start(self, *names: str, runner: str = "as_completed", group: str = "fetch", name: str = "demo") -> None:
        """Start a run of these workers."""
        self.emit(
            RunStarted,
            0.0,
            run=name,
            workers=len(names),
            runner=runner,
            seed=4127,
            concurrency=100,
            timeout=10.0,
            started_at=0.0,
        )
        self.queue_more(*names, group=group)

    def queue_more(self, *names: str, group: str) -> None:
        """Queue workers of a group."""
        self.emit(WorkersQueued, 0.0, group=group, max_attempts=3, workers=names)

    def attempt(self, name: str, at: float, number: int = 1, luck: float = 0.21, incarnation: int = 1) -> None:
        """Start an attempt."""
        self.emit(AttemptStarted, at, worker=name, incarnation=incarnation, attempt=number, bad_luck=luck)

    def fail(self, name: str, at: float, number: int = 1, error: str = "ServerTimeoutError") -> None:
        """End an attempt with an injected error."""
        self.emit(
            AttemptFailed,
            at,
            worker=name,
            incarnation=1,
            attempt=number,
            error_type=error,
            error="bad luck",
            transient=error != "RuntimeError",
            injected=True,
            elapsed=0.003,
            stack=STACK,
        )

    def back_off(self, name: str, at: float, number: int = 2, delay: float = 0.8, incarnation: int = 1) -> None:
        """Schedule a retry."""
        self.emit(RetryScheduled, at, worker=name, incarnation=incarnation, attempt=number, delay=delay)

    def succeed(self, name: str, at: float, result: Any = 200, incarnation: int = 1) -> None:
        """Let a worker succeed."""
        self.emit(
            WorkerSucceeded,
            at,
            worker=name,
            incarnation=incarnation,
            attempts=1,
            elapsed=0.2,
            result=result,
        )

    def break_down(
        self, name: str, at: float, error: str = "RuntimeError", text: str = "bad luck", incarnation: int = 1
    ) -> None:
        """Let a worker fail."""
        self.emit(
            WorkerFailed,
            at,
            worker=name,
            incarnation=incarnation,
            attempts=1,
            elapsed=0.2,
            error_type=error,
            error=text,
        )

    def exhaust(self, name: str, at: float) -> None:
        """Let a worker use up its attempts."""
        self.emit(
            WorkerExhausted,
            at,
            worker=name,
            incarnation=1,
            attempts=3,
            elapsed=1.9,
            error_type="ServerDisconnectedError",
            error="bad luck",
        )

    def cancel(self, name: str, at: float, *, ended: bool = True) -> None:
        """Request that a worker stops, and end it."""
        self.emit(CancelRequested, at, worker=name, incarnation=1, reason="person")
        if ended:
            self.emit(WorkerCancelled, at, worker=name, incarnation=1, attempts=1, elapsed=0.5)

    def abandon(self, name: str, at: float) -> None:
        """Abandon a worker that does not stop."""
        self.emit(
            WorkerUnresponsive,
            at,
            worker=name,
            incarnation=1,
            attempts=1,
            elapsed=5.0,
            stack="/srv/app/stuck.py:7 spin",
            cancels=2,
        )

    def restart(self, name: str, at: float, incarnation: int = 2) -> None:
        """Give a worker its next incarnation."""
        self.emit(WorkerRestarted, at, worker=name, incarnation=incarnation)

    def log(self, name: str | None, at: float, message: str, level: str = "WARNING") -> None:
        """Emit a log record."""
        self.emit(LogRecorded, at, worker=name, level=level, logger="app", message=message)

    def refuse(self, name: str, at: float, reason: str, command: str = "CancelWorker") -> None:
        """Refuse a request."""
        self.emit(CommandRefused, at, command=command, worker=name, incarnation=1, reason=reason)

    def finish(self, at: float) -> None:
        """End the run."""
        self.emit(RunFinished, at, states={}, attempts=0, elapsed=at, interrupted=False)


def small_run(controller: FakeController) -> None:
    """Emit the first 3.2 seconds of eight workers, in most of the states."""
    controller.start(*(str(number) for number in range(8)))
    for number in range(7):
        controller.attempt(str(number), 0.1, luck=0.1 + number / 10)
    controller.log("2", 0.2, "bad luck 0.95 injects a fault")
    controller.succeed("0", 0.312)
    controller.attempt("3", 0.4, luck=0.97)
    controller.fail("3", 0.41, error="RuntimeError")
    controller.break_down("3", 0.42)
    controller.fail("2", 0.5)
    controller.back_off("2", 0.5, delay=3.5)
    controller.log("2", 0.5, "retry 1 of 2 in 3.50 s")
    controller.cancel("4", 0.9)
    controller.cancel("5", 3.0, ended=False)
    controller.succeed("1", 3.1, result={"status": 200})
    controller.log(None, 3.2, "the pool is full", level="INFO")


def frozen_clock() -> float:
    """Return a constant: run time is then the `at` of the latest event."""
    return 1000.0


def make_app(controller: FakeController, **options: Any) -> AsyncwatchApp:
    """Return an app whose run time is that of its latest event."""
    return AsyncwatchApp(
        controller, clock=frozen_clock, wall_clock=lambda: 0.0, processor_clock=frozen_clock, **options
    )


def dashboard_of(controller: FakeController) -> DashboardState:
    """Return the state, without an app, of a dashboard that has received all events emitted so far."""
    dashboard = DashboardState(frozen_clock)
    for update in controller.early:
        assert not isinstance(update, SnapshotPart | Disconnected)
        dashboard.receive(update)
    return dashboard


def overview_text(dashboard: DashboardState, width: int) -> str:
    """Return the lines above the fleet as text."""
    return "\n".join("".join(span.text for span in line) for line in overview(dashboard.snapshot(), width))


def text_of(app: App[Any]) -> str:
    """Return the text on the screen, including the visible part of the screen behind a question."""
    # As the app does: without it the background would be drawn, and kept for the next picture, as if none were there.
    visible_screen_stack.set(app._background_screens)
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())


CHECKS = 2_000
"""Checks of a condition, 5 ms apart: a slow machine gives the app as many loop iterations as a fast one."""
DEADLINE = 50.0
"""Seconds: less than the time limit of a test, whose failure could not name the condition."""


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds.

    Textual paints on timers of the real clock and announces no change of the screen, so the condition is polled.

    Raises:
        TimeoutError: it did not hold at any of `CHECKS` checks, or for `DEADLINE` seconds. Shows its source.

    """
    start, checks = time.monotonic(), 0
    while not condition():
        checks += 1
        seconds = time.monotonic() - start
        if checks == CHECKS or seconds > DEADLINE:
            source = " ".join(inspect.getsource(condition).split())
            raise TimeoutError(f"not true at any of {checks:,} checks in {seconds:.1f} s: {source}")
        await asyncio.sleep(0.005)


async def shows(app: App[Any], *texts: str) -> None:
    """Wait until all the texts are on the screen."""
    try:
        await until(lambda: all(text in text_of(app) for text in texts))
    except TimeoutError:
        raise AssertionError(f"{texts} not in\n{text_of(app)}") from None


async def hides(app: App[Any], text: str) -> None:
    """Wait until the text is not on the screen."""
    try:
        await until(lambda: text not in text_of(app))
    except TimeoutError:
        raise AssertionError(f"{text!r} still in\n{text_of(app)}") from None
