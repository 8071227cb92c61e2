"""One run, from its plan to the exit status.

`run_plan` opens the output file, runs the engine, shows the run in the dashboard or follows it headless, waits for the
engine's end, and reports what went wrong.
"""

# ruff: noqa: PLC0415  imports that the first frame does not need come after it

from __future__ import annotations

import asyncio
import gc
import logging
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import click

from asyncwatch.cli import ALL_SUCCEEDED, INTERRUPTED, NOT_ALL_SUCCEEDED, READER_GONE
from asyncwatch.cli.terminal import exclusive_terminal, private_stderr, private_stdout
from asyncwatch.commands import StopRun
from asyncwatch.engine.capture import capturing_prints
from asyncwatch.engine.thread import EngineThread
from asyncwatch.events import Batch, WorkerState
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.rows import Row
from asyncwatch.plan.plan import Plan, foreseen_events
from asyncwatch.process import infrequent_gc, kept_streams, raise_file_limit
from asyncwatch.text import error_line, mask_secrets, printable

if TYPE_CHECKING:
    from asyncwatch.cli.output import OutputFile
    from asyncwatch.engine.run import Run
    from asyncwatch.engine.supervisor import Supervisor

    _Engine = EngineThread[Run | Supervisor]

_PATIENCE = 2.0
"""Seconds to wait for the engine's thread after the end of the run was shown."""

_DEFAULT_THREADS = 32
"""Threads of `asyncio.to_thread` for a low concurrency: Python's own maximum. More of them are made only if used."""

_FILES_A_SLOT = 4
"""Open files that a worker may need: the three pipes of a child process and a socket."""
_OWN_FILES = 64
"""Open files beside those of the workers: modules, streams, event loops."""
_FEWEST_FILES = 24
"""Open files without which no run can start. libuv ends the process if there are too few for its event loop."""

OnBatch = Callable[[Batch], str | None]
"""Gets every batch of events. Returns a message to show, or None."""


class OutputError(Exception):
    """The output file cannot be opened. Raised before the run starts."""


class LimitError(Exception):
    """The system allows too few open files for any run. Raised before the run starts."""


def run_plan(plan: Plan, *, is_dashboard: bool, is_json: bool) -> int:
    """Run `plan` in the dashboard or headless, and return the exit status.

    Raises:
        OutputError: The output file cannot be opened.
        LimitError: The system allows too few open files.

    """
    slots = _slots(plan)
    _raise_file_limit(slots)
    output = _open_output(plan.config.output)
    level = logging.getLevelNamesMapping()[plan.config.log_level.upper()]
    engine = EngineThread(
        partial(_open_run, plan),
        partial(_drive, plan),
        stays_open=is_dashboard,
        log_level=level,
        threads=max(slots, _DEFAULT_THREADS),
    )
    try:
        seen = _watch(engine, plan, output, is_dashboard=is_dashboard, is_json=is_json)
    finally:
        if output is not None:
            output.close()
    status = seen.status
    if plan.config.stop_ok and seen.fleet is not None and seen.fleet.finished is not None and status == INTERRUPTED:
        status = NOT_ALL_SUCCEEDED if seen.fleet.has_own_failures else ALL_SUCCEEDED
    if seen.is_stderr_stalled:
        is_incomplete = engine.error is not None or (output is not None and output.problem is not None)
        os._exit(status or (NOT_ALL_SUCCEEDED if is_incomplete else ALL_SUCCEEDED))
    if seen.problem:
        _report(seen.problem)
    if is_dashboard and seen.fleet is not None:
        _print_summary(seen.fleet)
    if engine.error is not None:
        _report(_engine_problem(engine.error))
        status = NOT_ALL_SUCCEEDED
    if output is not None and output.problem is not None:
        _report(output.problem)
        status = status or NOT_ALL_SUCCEEDED
    if not engine.join(0.0):
        _leave(status)
    return status


# -- before the run


def _slots(plan: Plan) -> int:
    """Return how many workers can be running at a time: services are, whatever the concurrency."""
    services = sum(len(group.names) for group in plan.groups if group.settings.is_supervised)
    others = sum(len(group.names) for group in plan.groups) - services
    if any(group.live is not None for group in plan.groups):
        others = plan.config.concurrency
    return services + min(plan.config.concurrency, others)


def _raise_file_limit(slots: int) -> None:
    """Raise the limit of open files as far as `slots` workers may need, and report a limit that stays too low."""
    limit = raise_file_limit(_FILES_A_SLOT * slots + _OWN_FILES)
    if limit < _FEWEST_FILES:
        text = f"the limit of open files is {limit}, and a run needs at least {_FEWEST_FILES}"
        raise LimitError(f"{text}: raise it with ulimit -n")
    if limit < slots + _OWN_FILES:
        text = f"the limit of open files is {limit:,}, and {slots:,} workers at a time may need more"
        _report(f"{text}: raise it with ulimit -n, or lower concurrency")


def _open_output(path: str | None) -> OutputFile | None:
    if path is None:
        return None
    from asyncwatch.cli.output import OutputFile

    try:
        return OutputFile(path)
    except (OSError, ValueError) as error:
        raise OutputError(str(error)) from None


# -- on the engine's thread


@asynccontextmanager
async def _open_run(plan: Plan) -> AsyncIterator[Run | Supervisor]:
    from asyncwatch.plan.build import open_run

    async with open_run(plan) as run:
        gc.freeze()  # the modules imported until now stay to the end
        yield run


async def _drive(plan: Plan, run: Run | Supervisor) -> None:
    from asyncwatch.plan.build import drive

    await drive(plan, run)


# -- during the run


class _Seen(NamedTuple):
    """How the dashboard or the headless run ended."""

    fleet: Fleet | None
    """The last state of the run; None if it could not be shown to its end."""
    status: int
    """The exit status, as far as this is known from the events."""
    patience: float | None = _PATIENCE
    """Seconds to wait for the engine; None for no limit."""
    problem: str = ""
    """A message for the person at the terminal."""
    is_stderr_stalled: bool = False
    """Whether standard error is not read: another write to it would not return."""


def _watch(engine: _Engine, plan: Plan, output: OutputFile | None, *, is_dashboard: bool, is_json: bool) -> _Seen:
    """Show the run to its end, then stop the engine."""
    on_batch = _discard if output is None else output.write
    patience: float | None = _PATIENCE
    with infrequent_gc(), kept_streams(), ExitStack() as streams:
        try:
            if is_dashboard:
                seen = _show_dashboard(engine, on_batch, foreseen_events(plan), streams)
            else:
                seen = _follow_headless(engine, on_batch, streams, is_json=is_json)
            patience = seen.patience
        finally:
            _end(engine, patience)
    return seen


def _discard(_batch: Batch) -> None:
    """Discard the batch: there is no output file."""


def _show_dashboard(engine: _Engine, on_batch: OnBatch, foreseen: Batch, streams: ExitStack) -> _Seen:
    stray_output = partial(engine.record_log, None, "INFO", "output")
    has_hung_up = streams.enter_context(exclusive_terminal(stray_output))
    capture = streams.enter_context(capturing_prints(engine.record_log))
    try:
        from asyncwatch.ui.app import DashboardError, run_dashboard
    except Exception as error:  # Textual is broken, or its environment variables are
        problem = f"the dashboard cannot start: {error_line(type(error).__name__, str(error))}"
        return _Seen(None, NOT_ALL_SUCCEEDED, problem=f"{problem} (--headless runs without it)")

    controller = _LateStart(engine, capture)
    try:
        fleet = run_dashboard(controller, on_batch=on_batch, foreseen=foreseen, has_hung_up=has_hung_up)
    except DashboardError as error:
        # A person who sees nothing has not asked for haste: the workers have all their time to end.
        return _Seen(None, NOT_ALL_SUCCEEDED, patience=None, problem=str(error))
    return _seen_to_the_end(fleet)


class _LateStart:
    """The controller that the dashboard gets. It starts the engine's thread when its events are requested.

    The imports of that thread would delay the first frame. By then Textual has replaced `sys.stdout` and `sys.stderr`,
    so the prints of workers have to be captured again.
    """

    def __init__(self, engine: _Engine, capture: Callable[[], None]) -> None:
        self._engine = engine
        self._capture = capture
        self.send = engine.send
        self.statistics = engine.statistics

    def events(self) -> asyncio.Queue[Batch]:
        self._capture()
        self._engine.start()
        return self._engine.events()


def _follow_headless(engine: _Engine, on_batch: OnBatch, streams: ExitStack, *, is_json: bool) -> _Seen:
    encoding = "utf-8" if is_json else sys.stdout.encoding
    stdout = streams.enter_context(private_stdout(is_alone=is_json))
    raw_stderr = streams.enter_context(private_stderr())
    from asyncwatch.cli.headless import LossyWriter, StdoutError, run_headless

    stderr = sys.stderr if raw_stderr is None else LossyWriter(raw_stderr, sys.stderr.encoding)
    streams.enter_context(capturing_prints(engine.record_log))
    # `nohup` and the background jobs of a shell ignore some signals on purpose.
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    heeded = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
    engine.start()
    follow = run_headless(
        engine, json=is_json, stdout=stdout, stderr=stderr, on_batch=on_batch, stop_signals=heeded, encoding=encoding
    )
    try:
        seen = _seen_to_the_end(asyncio.run(follow))
    except StdoutError as error:
        seen = _Seen(None, READER_GONE if error.is_reader_gone else NOT_ALL_SUCCEEDED)
    return seen._replace(is_stderr_stalled=isinstance(stderr, LossyWriter) and not stderr.finish())


def _seen_to_the_end(fleet: Fleet) -> _Seen:
    # Who leaves before the end does not want to wait for it either.
    return _Seen(fleet, exit_status(fleet), patience=0.0 if fleet.finished is None else _PATIENCE)


def _end(engine: _Engine, patience: float | None) -> None:
    """Stop the run if it still runs, and wait up to `patience` seconds for its end. Ctrl+C stops it at once."""
    engine.send(StopRun())
    try:
        engine.join(patience)
    except KeyboardInterrupt:
        engine.send(StopRun(at_once=True))
        engine.join(_PATIENCE)


# -- after the run


def exit_status(fleet: Fleet) -> int:
    """Return 0 if every worker succeeded, 130 if the run was interrupted or left before its end, else 1.

    A tree that shuts down by itself stops its services, which is no failure. It is one if a person cancelled them, or
    for workers of a batch beside the tree.
    """
    if fleet.finished is None or fleet.finished.interrupted:
        return INTERRUPTED
    ended_well = fleet.counts[WorkerState.SUCCEEDED]
    if fleet.tree.is_supervised:
        ended_well += sum(_was_shut_down(fleet, row) for row in fleet.rows)
        if fleet.cancel_requested is None:
            ended_well += fleet.departed.cancelled.total() - fleet.departed.cancelled["person"]
    return ALL_SUCCEEDED if ended_well == fleet.workers else NOT_ALL_SUCCEEDED


def _was_shut_down(fleet: Fleet, row: Row) -> bool:
    """Return whether the worker's supervisor stopped it without a person's request."""
    branch = fleet.tree.branches.get(row.group)
    is_service = branch is not None and branch.is_supervisor
    is_requested = fleet.cancel_requested is not None or fleet.cancel_reason(row.name) == "person"
    return row.state is WorkerState.CANCELLED and is_service and not is_requested


def _engine_problem(error: BaseException) -> str:
    from asyncwatch.engine.tree.errors import TreeError

    return (
        str(error)
        if isinstance(error, TreeError)
        else f"The run failed: {error_line(type(error).__name__, str(error))}"
    )


def _print_summary(fleet: Fleet) -> None:
    from asyncwatch.model.summary import summarize, summary_lines

    _print("\n".join(summary_lines(summarize(fleet), shutil.get_terminal_size().columns)))


def _report(problem: str) -> None:
    _print(f"asyncwatch: {printable(mask_secrets(problem))}", is_error=True)


def _print(text: str, *, is_error: bool = False) -> None:
    """Print `text`, unless the terminal has gone. The exit status still says how the run ended."""
    try:
        click.echo(text, err=is_error)
    except OSError:
        # The interpreter flushes its buffer on exit: let that go nowhere.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2 if is_error else 1)
        os.close(nowhere)


def _leave(status: int) -> NoReturn:
    """End the process although a worker blocks a thread, which the interpreter would wait for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
