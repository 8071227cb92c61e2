"""The four ways to await a fleet, named after asyncio's own functions and true to them.

Each ends what it started before it returns: whoever leaves one, by a result, an error or a cancellation, leaves no
worker behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator
from typing import Self

from asyncwatch.engine.reporter import logger
from asyncwatch.engine.safe_log import log_safely
from asyncwatch.engine.scheduler import Machine
from asyncwatch.engine.spec import Outcome, WaitResult
from asyncwatch.events import WorkerState
from asyncwatch.policies.runner import ReturnWhen

MARGIN = 5.0
"""Seconds without any progress, beyond what workers may take to end, after which `EndWatch` looks again."""


async def settle(machine: Machine) -> None:
    """Wait until every worker has settled, however often the caller is cancelled meanwhile; then pass that on.

    A cancellation stops all workers: one that does not end within its grace period is abandoned.
    """
    cancellation: asyncio.CancelledError | None = None
    with contextlib.ExitStack() as watches:
        while machine.active:
            try:
                await machine.wait_settled()
            except asyncio.CancelledError as error:
                if cancellation is None:
                    watches.enter_context(EndWatch(machine))
                cancellation = error
                interrupt(machine)
    if cancellation is not None:
        raise cancellation


async def end_all(machine: Machine) -> None:
    """Ask every worker that has not settled to stop, and wait for that."""
    with EndWatch(machine):
        interrupt(machine)
        await settle(machine)


class EndWatch:
    """A context in which a run is being stopped; breaks the run off if it makes no progress, whatever the cause.

    Between the ends of two workers no more time passes than the longest grace period of a running worker. A run that
    takes `MARGIN` seconds more, twice, has lost track of a worker. There is no limit while a worker with a `shutdown`
    of inf runs.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._look_later(is_second=False)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look_later(self, *, is_second: bool) -> None:
        patience = self._machine.longest_patience()
        wait = MARGIN if is_second or patience == math.inf else patience + MARGIN
        is_last = is_second and patience < math.inf
        self._timer = self._machine.report.loop.call_later(wait, self._look, self._machine.progress, is_last)

    def _look(self, before: tuple[int, ...], is_last: bool) -> None:
        is_stuck = self._machine.progress == before
        if is_stuck and is_last:
            self._machine.break_off()
        else:
            self._look_later(is_second=is_stuck)


def interrupt(machine: Machine) -> None:
    """Ask every worker that has not settled to stop, because the run as a whole was cancelled."""
    if machine.active:
        machine.is_interrupted = True
        for step in (machine.report.run_cancel_requested, machine.stop_active):
            try:
                step("run")
            except Exception:  # `EndWatch` ends workers that were not asked to stop
                log_safely(logger, logging.ERROR, "a step of stopping the run failed", has_traceback=True)


def check_timeout(seconds: float | None) -> None:
    """Raise `ValueError` unless `seconds` is None or a time; `TypeError` if it is no number at all."""
    if seconds is not None and not seconds >= 0:
        raise ValueError(f"a timeout is 0 seconds or more, not {seconds}")


class Timeout:
    """The total timeout of a runner: when it ends, the pending workers are timed out."""

    def __init__(self, machine: Machine, seconds: float | None) -> None:
        self._machine = machine
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self.has_ended = False

    def start(self) -> None:
        """Start to count, if there is a timeout at all."""
        if self._seconds is not None:
            self._timer = self._machine.report.loop.call_later(max(0.0, self._seconds), self._end)

    def stop(self) -> None:
        """Forget about it."""
        if self._timer is not None:
            self._timer.cancel()

    def raise_if_ended(self) -> None:
        """Raise `TimeoutError` if the time was over before the workers were done."""
        if self.has_ended:
            raise TimeoutError(f"workers were still pending after {self._seconds:g} s")

    def _end(self) -> None:
        machine = self._machine
        if machine.active and self._seconds is not None:
            self.has_ended = True
            machine.accepts_restarts = False
            machine.report.run_timed_out(self._seconds, machine.active)
            machine.stop_active("timeout")


def is_stray(outcome: Outcome) -> bool:
    """Return whether the worker failed by a cancellation nobody here asked for: no error to asyncio's functions."""
    return isinstance(outcome.error, asyncio.CancelledError)


async def gather(machine: Machine, timeout: Timeout) -> None:
    """Wait for all."""
    await settle(machine)
    timeout.raise_if_ended()


async def as_completed(machine: Machine, timeout: Timeout) -> AsyncIterator[Outcome]:
    """Yield outcomes as they come."""
    arrived: asyncio.Queue[Outcome | None] = asyncio.Queue()

    def on_outcome(outcome: Outcome) -> None:
        if not timeout.has_ended:
            arrived.put_nowait(outcome)
        if machine.active == 1:  # the last one is settling right now
            arrived.put_nowait(None)

    machine.on_outcome = on_outcome
    while machine.active or not arrived.empty():
        outcome = await arrived.get()
        if outcome is not None:
            yield outcome
    timeout.raise_if_ended()


async def wait(machine: Machine, timeout: Timeout, return_when: ReturnWhen) -> WaitResult:
    """Wait until enough have settled, then end the others."""
    done: dict[str, int] = {}
    enough = machine.report.loop.create_future()

    def on_outcome(outcome: Outcome) -> None:
        if not timeout.has_ended:
            done[outcome.name] = outcome.incarnation
        is_error = outcome.state in (WorkerState.FAILED, WorkerState.EXHAUSTED) and not is_stray(outcome)
        is_enough = return_when == "FIRST_COMPLETED" or (return_when == "FIRST_EXCEPTION" and is_error)
        if (is_enough or machine.active == 1) and not enough.done():
            enough.set_result(None)

    machine.on_outcome = on_outcome
    if machine.active:
        await enough
    machine.on_outcome = None
    machine.stop_active("run")
    await settle(machine)
    outcomes = list(machine.workers.outcomes())
    return WaitResult(
        done=tuple(outcome for outcome in outcomes if outcome.incarnation == done.get(outcome.name)),
        pending=tuple(outcome for outcome in outcomes if outcome.incarnation != done.get(outcome.name)),
    )


async def task_group(machine: Machine, timeout: Timeout) -> None:
    """Wait for all; the first that fails ends the others."""
    errors: list[BaseException] = []

    def on_outcome(outcome: Outcome) -> None:
        is_failure = outcome.state is WorkerState.FAILED and not is_stray(outcome)
        if outcome.error is not None and (is_failure or (errors and outcome.state is WorkerState.CANCELLED)):
            errors.append(outcome.error)
        if is_failure and len(errors) == 1:
            machine.stop_active("run")

    machine.on_outcome = on_outcome
    await settle(machine)
    if errors:
        raise BaseExceptionGroup("workers failed", errors)
    timeout.raise_if_ended()
