"""`asyncwatch attach`: the dashboard of a run that goes on in another process."""

# ruff: noqa: PLC0415  as in `cli.command`

from __future__ import annotations

import os
import signal
import socket
import time

from asyncwatch.cli import NOT_ALL_SUCCEEDED, dashboard
from asyncwatch.cli.keeper import Child, TerminalSettings, Wakeups, fork
from asyncwatch.cli.messages import report
from asyncwatch.control.discovery import EndedRecord, RunRecord

_PATIENCE = 3.0
"""Seconds that a dashboard gets to end after a signal."""


def attach(record: RunRecord, *, is_read_only: bool) -> int:
    """Show a run in this terminal until a person leaves it or it ends.

    Return 0 if it goes on, and otherwise the exit status of the run.
    """
    terminal = TerminalSettings()
    lifeline, held = socket.socketpair()
    child = fork(lambda: dashboard.run_viewer(record.socket_path, lifeline, is_read_only=is_read_only), held)
    lifeline.close()
    with held, Wakeups() as wakeups:
        is_left = _wait(child, wakeups)
    child.kill()
    terminal.restore(is_screen_open=child.exit_status is None)
    match child.exit_status:
        case dashboard.LEFT:
            report(f"The run goes on. To see it: asyncwatch attach {record.id}")
            return 0
        case dashboard.HUNG_UP | dashboard.STOPPED | dashboard.QUIT:
            return 0
        case dashboard.OVER:
            return _await_end(record)
        case dashboard.REFUSED:
            return NOT_ALL_SUCCEEDED  # the dashboard's process has said why
        case _ if is_left:
            return 0
        case _:
            report("the dashboard broke; the run goes on")
            return NOT_ALL_SUCCEEDED


def report_end(record: EndedRecord) -> int:
    """Print how a run has ended, and return its exit status."""
    from asyncwatch.cli.answer import print_answer
    from asyncwatch.cli.remote import end_of

    return print_answer(end_of(record), is_json=False)


def _wait(child: Child, wakeups: Wakeups) -> bool:
    """Wait for the dashboard. A signal to this process ends it, and nothing else. Return whether there was one."""
    deadline: float | None = None
    while not child.has_ended and (deadline is None or time.monotonic() < deadline):
        wakeups.wait([], 1.0 if deadline is None else 0.1)
        for number in wakeups.signals():
            if number != signal.SIGCHLD and deadline is None:
                deadline = time.monotonic() + _PATIENCE
                child.send_signal(signal.SIGTERM)  # the dashboard ignores SIGINT until it shows the run
        if child.look():
            os.kill(os.getpid(), signal.SIGSTOP)  # the shell is to see that its job was stopped
    return deadline is not None


def _await_end(record: RunRecord) -> int:
    from asyncwatch.cli.answer import Failure
    from asyncwatch.cli.remote import await_record

    try:
        return report_end(await_record(record))
    except Failure as failure:
        report(str(failure))
        return failure.kind.status
