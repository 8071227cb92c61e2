"""Runs a plan to its end: the engine, who watches it, the output file, the summary and the exit status."""

# ruff: noqa: PLC0415  what the first picture does without is imported after it

from __future__ import annotations

import asyncio
import gc
import logging
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import click

from asyncwatch.cli.terminal import exclusive_terminal, private_stdout
from asyncwatch.commands import Controller, StopRun
from asyncwatch.engine.capture import capturing_prints
from asyncwatch.engine.thread import Engine
from asyncwatch.events import Batch, WorkerState
from asyncwatch.model.reducer import Fleet, Row
from asyncwatch.plan.items import single_line
from asyncwatch.plan.plan import Plan, foreseen_events
from asyncwatch.process import infrequent_gc
from asyncwatch.text import mask_secrets

if TYPE_CHECKING:
    from asyncwatch.cli.output import OutputFile
    from asyncwatch.engine.supervisor import Supervisor

ALL_SUCCEEDED, NOT_ALL_SUCCEEDED, INTERRUPTED = 0, 1, 130
READER_GONE = 141
"""What a shell says of a program that SIGPIPE ended, as the reader of its output left."""

_PATIENCE = 2.0
"""Seconds that the engine's thread gets to end once the end of the run was told."""

OnBatch = Callable[[Batch], str | None]


class _WatchError(Exception):
    """The dashboard broke."""


class _StdoutLostError(Exception):
    """Standard output could not be written. `is_reader_gone`: whoever read it wanted no more."""

    def __init__(self, *, is_reader_gone: bool) -> None:
        super().__init__()
        self.is_reader_gone = is_reader_gone


class OutputError(Exception):
    """The output file cannot be written; told before the run starts."""


def run_plan(plan: Plan, *, is_dashboard: bool, is_json: bool) -> int:
    """Run `plan`, watched in the dashboard or headless, and return the exit status.

    Raises:
        OutputError: its output file cannot be opened.

    """
    output = _open_output(plan.config.output)
    level = logging.getLevelNamesMapping()[plan.config.log_level.upper()]
    engine = Engine(partial(_open_run, plan), partial(_drive, plan), stays_open=is_dashboard, log_level=level)
    fleet = None
    lost: _StdoutLostError | None = None
    try:
        fleet = _watch(engine, plan, output, is_dashboard=is_dashboard, is_json=is_json)
    except _WatchError as error:
        _tell(str(error))
    except _StdoutLostError as error:
        lost = error
    finally:
        if output is not None:
            output.close()
    if is_dashboard and fleet is not None:
        from asyncwatch.model.summary import summarize, summary_lines

        _say("\n".join(summary_lines(summarize(fleet), shutil.get_terminal_size().columns)))
    status = READER_GONE if lost is not None and lost.is_reader_gone else exit_status(fleet)
    if engine.error is not None:
        from asyncwatch.engine.tree.errors import TreeError

        what = "" if isinstance(engine.error, TreeError) else f"the run broke: {type(engine.error).__name__}: "
        _tell(f"{what}{engine.error}")
        status = NOT_ALL_SUCCEEDED
    if output is not None and output.problem is not None:
        _tell(output.problem)
        status = status or NOT_ALL_SUCCEEDED
    if not engine.join(0.0):
        _leave(status)
    return status


@asynccontextmanager
async def _open_run(plan: Plan) -> AsyncIterator[Supervisor]:
    from asyncwatch.plan.build import open_run

    async with open_run(plan) as supervisor:
        # What was imported stays to the end; it is not looked through for garbage.
        gc.freeze()
        yield supervisor


async def _drive(plan: Plan, supervisor: Supervisor) -> None:
    from asyncwatch.plan.build import drive

    await drive(plan, supervisor)


def has_keyboard() -> bool:
    """Return whether there is a terminal to read keys from: standard input, or the one behind it."""
    if os.isatty(0):
        return True
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def exit_status(fleet: Fleet | None) -> int:
    """Return 0 if every worker has succeeded, 130 if the run was interrupted or left before its end, else 1.

    A tree that ended by itself stopped whoever was left of its services: that is no failure, unlike what a person
    cancelled, and unlike what was left of a batch beside it.
    """
    if fleet is None:
        return NOT_ALL_SUCCEEDED
    if fleet.finished is None or fleet.finished.interrupted:
        return INTERRUPTED
    ended_well = fleet.counts[WorkerState.SUCCEEDED]
    if fleet.tree.is_supervised:
        ended_well += sum(_was_shut_down(fleet, row) for row in fleet.rows)
        if fleet.cancel_requested is None:
            ended_well += fleet.replaced_cancelled.total() - fleet.replaced_cancelled["person"]
    return ALL_SUCCEEDED if ended_well == fleet.workers else NOT_ALL_SUCCEEDED


def _was_shut_down(fleet: Fleet, row: Row) -> bool:
    """Return whether the worker was stopped by its supervisor, of that one's own accord."""
    branch = fleet.tree.branches.get(row.group)
    is_service = branch is not None and branch.is_supervisor
    is_asked = fleet.cancel_requested is not None or fleet.cancel_reason(row.name) == "person"
    return row.state is WorkerState.CANCELLED and is_service and not is_asked


def _open_output(path: str | None) -> OutputFile | None:
    if path is None:
        return None
    from asyncwatch.cli.output import OutputFile

    try:
        return OutputFile(path)
    except (OSError, ValueError) as error:
        raise OutputError(str(error)) from None


def _watch(engine: Engine, plan: Plan, output: OutputFile | None, *, is_dashboard: bool, is_json: bool) -> Fleet:
    """Start the engine, show the run to its end, and give the engine the time to end. Return what became of it."""
    on_batch = _ignore if output is None else output.write
    fleet, has_hung_up = None, None
    patience: float | None = _PATIENCE
    with infrequent_gc(), ExitStack() as streams:
        if is_dashboard:
            on_line = partial(engine.record_log, None, "INFO", "output")
            has_hung_up = streams.enter_context(exclusive_terminal(on_line))
        capture = streams.enter_context(capturing_prints(engine.record_log))
        try:
            fleet = (
                _show_dashboard(_Watched(engine, capture), on_batch, foreseen_events(plan), has_hung_up)
                if is_dashboard
                else _follow(engine, on_batch, is_json=is_json)
            )
            if fleet.finished is None:
                patience = 0.0  # whoever left before the end has said so already: nothing waits for that run
        except _WatchError:
            patience = None  # the workers have the time to end that they always have
            raise
        finally:
            _end(engine, patience)
    return fleet


def _end(engine: Engine, patience: float | None) -> None:
    """Stop what still runs and wait for its end, at most for `patience` seconds; Ctrl+C gives it no more time."""
    engine.send(StopRun())
    try:
        engine.join(patience)
    except KeyboardInterrupt:
        engine.send(StopRun(at_once=True))
        engine.join(_PATIENCE)


class _Watched:
    """The engine as the dashboard sees it. The run begins when its events are asked for.

    So does the engine's thread, whose imports would hold up the first picture. Textual has taken `sys.stdout` and
    `sys.stderr` by then; what workers print has to be caught before it.
    """

    def __init__(self, engine: Engine, capture: Callable[[], None]) -> None:
        self._engine = engine
        self._capture = capture
        self.send = engine.send
        self.statistics = engine.statistics

    def events(self) -> asyncio.Queue[Batch]:
        """Return the queue of the engine's events."""
        self._capture()
        self._engine.start()
        return self._engine.events()


def _ignore(batch: Batch) -> None:
    """Take a batch that nobody else wants."""


def _show_dashboard(
    controller: Controller, on_batch: OnBatch, foreseen: Batch, has_hung_up: Callable[[], bool] | None
) -> Fleet:
    # Textual, for the dashboard only.
    from asyncwatch.ui.app import DashboardError, run_dashboard

    try:
        return run_dashboard(controller, on_batch=on_batch, foreseen=foreseen, has_hung_up=has_hung_up)
    except DashboardError as error:
        raise _WatchError(str(error)) from None


def _follow(engine: Engine, on_batch: OnBatch, *, is_json: bool) -> Fleet:
    from asyncwatch.cli.headless import StdoutError, run_headless

    engine.start()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # `nohup` and a shell's background jobs ignore some of them on purpose.
    heeded = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
    with private_stdout() if is_json else nullcontext(sys.stdout.buffer) as stdout:
        follow = run_headless(
            engine, json=is_json, stdout=stdout, stderr=sys.stderr, on_batch=on_batch, stop_signals=heeded
        )
        try:
            return asyncio.run(follow)
        except StdoutError as error:
            raise _StdoutLostError(is_reader_gone=error.is_reader_gone) from None


def _tell(message: str) -> None:
    _say(f"asyncwatch: {single_line(mask_secrets(message))}", is_error=True)


def _say(text: str, *, is_error: bool = False) -> None:
    """Print a text, unless the terminal has gone: nobody could read it, and the status tells what became of the run."""
    try:
        click.echo(text, err=is_error)
    except OSError:
        # What is left in the buffer has to go somewhere when the interpreter ends.
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2 if is_error else 1)
        os.close(nothing)


def _leave(status: int) -> NoReturn:
    """End the process although a worker blocks a thread, which the interpreter would wait for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
