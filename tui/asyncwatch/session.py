"""Runs a plan to its end: the engine, who watches it, the output file, the summary and the exit status."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import NoReturn

import click

from asyncwatch.commands import StopRun
from asyncwatch.events import Batch, WorkerState
from asyncwatch.headless import run_headless
from asyncwatch.items import single_line
from asyncwatch.launch import drive, open_run
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.summary import summarize, summary_lines
from asyncwatch.output import OutputFile
from asyncwatch.plan import Plan
from asyncwatch.redact import mask_secrets
from asyncwatch.supervise.capture import capturing_prints
from asyncwatch.supervise.engine import Engine

ALL_SUCCEEDED, NOT_ALL_SUCCEEDED, INTERRUPTED = 0, 1, 130

_PATIENCE = 2.0
"""Seconds beyond the grace period that the engine's thread gets to end."""

OnBatch = Callable[[Batch], None]


class OutputError(Exception):
    """The output file cannot be written; told before the run starts."""


def run_plan(plan: Plan, *, is_dashboard: bool, is_json: bool) -> int:
    """Run `plan`, watched in the dashboard or headless, and return the exit status.

    Raises:
        OutputError: its output file cannot be opened.

    """
    output = _open_output(plan.config.output)
    try:
        level = logging.getLevelNamesMapping()[plan.config.log_level.upper()]
        engine = Engine(partial(open_run, plan), partial(drive, plan), stays_open=is_dashboard, log_level=level)
        fleet, ended = _watch(engine, plan, output, is_dashboard=is_dashboard, is_json=is_json)
    finally:
        if output is not None:
            output.close()
    status = exit_status(fleet)
    if engine.error is not None:
        _tell(f"the run broke: {type(engine.error).__name__}: {engine.error}")
        status = NOT_ALL_SUCCEEDED
    if output is not None and output.problem is not None:
        _tell(output.problem)
        status = status or NOT_ALL_SUCCEEDED
    if not ended:
        _leave(status)
    return status


def exit_status(fleet: Fleet | None) -> int:
    """Return 0 if every worker has succeeded, 130 if the run was interrupted or left before its end, else 1."""
    if fleet is None:
        return NOT_ALL_SUCCEEDED
    if fleet.finished is None or fleet.finished.interrupted:
        return INTERRUPTED
    return ALL_SUCCEEDED if fleet.counts[WorkerState.SUCCEEDED] == len(fleet.rows) else NOT_ALL_SUCCEEDED


def _open_output(path: str | None) -> OutputFile | None:
    if path is None:
        return None
    try:
        return OutputFile(path)
    except (OSError, ValueError) as error:
        raise OutputError(str(error)) from None


def _watch(
    engine: Engine, plan: Plan, output: OutputFile | None, *, is_dashboard: bool, is_json: bool
) -> tuple[Fleet | None, bool]:
    """Return what became of the run (None: its watcher broke) and whether the engine has come to its end."""
    on_batch = None if output is None else output.write
    fleet = None
    engine.start()
    try:
        fleet = _show_dashboard(engine, on_batch) if is_dashboard else _follow(engine, on_batch, is_json=is_json)
    finally:
        # Whoever left before the end has said so already; nothing waits for it.
        is_over = fleet is not None and fleet.finished is not None
        engine.send(StopRun())
        ended = engine.join(plan.config.grace + _PATIENCE if is_over or fleet is None else 0.0)
    return fleet, ended


def _show_dashboard(engine: Engine, on_batch: OnBatch | None) -> Fleet | None:
    from asyncwatch.ui.app import DashboardError, run_dashboard  # noqa: PLC0415  Textual, for the dashboard only

    try:
        fleet = run_dashboard(engine, on_batch=on_batch)
    except DashboardError as error:
        _tell(str(error))
        return None
    click.echo("\n".join(summary_lines(summarize(fleet))))
    return fleet


def _follow(engine: Engine, on_batch: OnBatch | None, *, is_json: bool) -> Fleet:
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # `nohup` and a shell's background jobs ignore some of them on purpose.
    heeded = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
    stdout, stderr = sys.stdout.buffer, sys.stderr
    with capturing_prints(engine.record_log):
        return asyncio.run(
            run_headless(engine, json=is_json, stdout=stdout, stderr=stderr, on_batch=on_batch, stop_signals=heeded)
        )


def _tell(message: str) -> None:
    click.echo(f"asyncwatch: {single_line(mask_secrets(message))}", err=True)


def _leave(status: int) -> NoReturn:
    """End the process although a worker blocks a thread, which the interpreter would wait for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
