"""Runs a plan to its end: the engine, who watches it, the output file, the summary and the exit status."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import NoReturn

import click

from asyncwatch.commands import Controller, StopRun
from asyncwatch.events import Batch, WorkerState
from asyncwatch.headless import StdoutError, run_headless
from asyncwatch.items import single_line
from asyncwatch.launch import drive, open_run
from asyncwatch.model.fleet import Fleet, Row
from asyncwatch.model.summary import summarize, summary_lines
from asyncwatch.output import OutputFile
from asyncwatch.plan import Plan
from asyncwatch.process import collecting_seldom
from asyncwatch.redact import mask_secrets
from asyncwatch.supervise.capture import capturing_prints
from asyncwatch.supervise.engine import Engine
from asyncwatch.supervise.tree.errors import TreeError
from asyncwatch.terminal import exclusive_terminal, private_stdout

ALL_SUCCEEDED, NOT_ALL_SUCCEEDED, INTERRUPTED = 0, 1, 130
READER_GONE = 141
"""What a shell says of a program that SIGPIPE ended, as the reader of its output left."""

_PATIENCE = 2.0
"""Seconds beyond the grace period that the engine's thread gets to end."""

OnBatch = Callable[[Batch], str | None]


class _WatchError(Exception):
    """The dashboard broke."""


class OutputError(Exception):
    """The output file cannot be written; told before the run starts."""


def run_plan(plan: Plan, *, is_dashboard: bool, is_json: bool) -> int:
    """Run `plan`, watched in the dashboard or headless, and return the exit status.

    Raises:
        OutputError: its output file cannot be opened.

    """
    output = _open_output(plan.config.output)
    level = logging.getLevelNamesMapping()[plan.config.log_level.upper()]
    engine = Engine(partial(open_run, plan), partial(drive, plan), stays_open=is_dashboard, log_level=level)
    fleet = None
    lost: StdoutError | None = None
    try:
        fleet = _watch(engine, plan, output, is_dashboard=is_dashboard, is_json=is_json)
    except _WatchError as error:
        _tell(str(error))
    except StdoutError as error:
        lost = error
    finally:
        if output is not None:
            output.close()
    if is_dashboard and fleet is not None:
        click.echo("\n".join(summary_lines(summarize(fleet), shutil.get_terminal_size().columns)))
    status = READER_GONE if lost is not None and lost.is_reader_gone else exit_status(fleet)
    if engine.error is not None:
        what = "" if isinstance(engine.error, TreeError) else f"the run broke: {type(engine.error).__name__}: "
        _tell(f"{what}{engine.error}")
        status = NOT_ALL_SUCCEEDED
    if output is not None and output.problem is not None:
        _tell(output.problem)
        status = status or NOT_ALL_SUCCEEDED
    if not engine.join(0.0):
        _leave(status)
    return status


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
    return ALL_SUCCEEDED if ended_well == len(fleet.rows) else NOT_ALL_SUCCEEDED


def _was_shut_down(fleet: Fleet, row: Row) -> bool:
    """Return whether the worker was stopped by its supervisor, of that one's own accord."""
    branch = fleet.tree.branches.get(row.group)
    is_service = branch is not None and branch.is_supervisor
    is_asked = fleet.cancel_requested is not None or fleet.cancel_reason(row.name) == "person"
    return row.state is WorkerState.CANCELLED and is_service and not is_asked


def _open_output(path: str | None) -> OutputFile | None:
    if path is None:
        return None
    try:
        return OutputFile(path)
    except (OSError, ValueError) as error:
        raise OutputError(str(error)) from None


def _watch(engine: Engine, plan: Plan, output: OutputFile | None, *, is_dashboard: bool, is_json: bool) -> Fleet:
    """Start the engine, show the run to its end, and give the engine the time to end. Return what became of it."""
    on_batch = _ignore if output is None else output.write
    fleet = None
    with collecting_seldom(), ExitStack() as streams:
        if is_dashboard:
            streams.enter_context(exclusive_terminal(partial(engine.record_log, None, "INFO", "output")))
        capture = streams.enter_context(capturing_prints(engine.record_log))
        engine.start()
        try:
            fleet = (
                _show_dashboard(_Watched(engine, capture), on_batch)
                if is_dashboard
                else _follow(engine, on_batch, is_json=is_json)
            )
        finally:
            # Whoever left before the end has said so already: nothing waits for that run.
            has_left = fleet is not None and fleet.finished is None
            engine.send(StopRun())
            engine.join(0.0 if has_left else plan.config.grace + _PATIENCE)
    return fleet


class _Watched:
    """The engine as the dashboard sees it. The run begins when its events are asked for.

    Textual has taken `sys.stdout` and `sys.stderr` by then; what workers print has to be caught before it.
    """

    def __init__(self, engine: Engine, capture: Callable[[], None]) -> None:
        self._engine = engine
        self._capture = capture
        self.send = engine.send
        self.statistics = engine.statistics

    def events(self) -> asyncio.Queue[Batch]:
        """Return the queue of the engine's events."""
        self._capture()
        return self._engine.events()


def _ignore(batch: Batch) -> None:
    """Take a batch that nobody else wants."""


def _show_dashboard(controller: Controller, on_batch: OnBatch) -> Fleet:
    # Textual, for the dashboard only.
    from asyncwatch.ui.app import DashboardError, run_dashboard  # noqa: PLC0415

    try:
        return run_dashboard(controller, on_batch=on_batch)
    except DashboardError as error:
        raise _WatchError(str(error)) from None


def _follow(engine: Engine, on_batch: OnBatch, *, is_json: bool) -> Fleet:
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # `nohup` and a shell's background jobs ignore some of them on purpose.
    heeded = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
    with private_stdout() if is_json else nullcontext(sys.stdout.buffer) as stdout:
        follow = run_headless(
            engine, json=is_json, stdout=stdout, stderr=sys.stderr, on_batch=on_batch, stop_signals=heeded
        )
        return asyncio.run(follow)


def _tell(message: str) -> None:
    click.echo(f"asyncwatch: {single_line(mask_secrets(message))}", err=True)


def _leave(status: int) -> NoReturn:
    """End the process although a worker blocks a thread, which the interpreter would wait for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
