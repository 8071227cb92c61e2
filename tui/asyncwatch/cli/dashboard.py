"""The dashboard's process: a child of the command, which shows a run that goes on in another process."""

# ruff: noqa: PLC0415  Textual is imported while the engine's process makes the plan

from __future__ import annotations

import contextlib
import importlib
import signal
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from asyncwatch.cli.messages import keep_traceback, report
from asyncwatch.cli.terminal import exclusive_terminal
from asyncwatch.control import protocol
from asyncwatch.control.client import Connection, ConnectionRefusedByRunError, RunClient, RunGoneError, connect
from asyncwatch.control.protocol import Kind, ProtocolError
from asyncwatch.events import WorkerState
from asyncwatch.text import count, error_line

if TYPE_CHECKING:
    from asyncwatch.commands import Player
    from asyncwatch.model.fleet import Fleet
    from asyncwatch.ui.app import Outcome

_TRACE_LINES = 1_000
_NAMES = 5
"""Names of workers in a message, at most."""

RoleName = Literal["owner", "viewer", "program", "reader"]
"""The value of a `Role` of the user interface, which is imported later."""

LEFT, BROKEN, HUNG_UP, STOPPED, QUIT, OVER, REFUSED = 0, 1, 3, 4, 5, 6, 7
"""Exit statuses of the process: a person has left the run; the dashboard broke; the terminal has gone; a signal ended
the dashboard; a person does not wait for the end of a run that stops; the run is over, or cannot be reached; the run
does not take this client."""


def run_dashboard(connected: socket.socket, lifeline: socket.socket) -> int:
    """Show the run at the other end of a connection until it ends or a person leaves it. Return the exit status.

    The dashboard also ends when the other end of `lifeline` is closed, which the command holds.
    """
    _ignore_ctrl_c()
    connection = Connection(connected, Kind.DASHBOARD)
    with contextlib.suppress(Exception):  # what is broken is reported once there is a run
        importlib.import_module("asyncwatch.ui.app")  # while the engine's process makes the plan
    try:
        plan = _plan(connection)
    except (ProtocolError, ConnectionRefusedByRunError) as error:
        report(f"the dashboard does not understand the run: {error}")
        return BROKEN
    if plan is None:
        return OVER  # the command knows why
    for note in plan.notes:
        report(note)
    return _show(RunClient(connection, lifeline=lifeline), "owner", plan)


def run_viewer(path: str, lifeline: socket.socket, *, is_read_only: bool) -> int:
    """Show the run that listens on the socket `path`, as `run_dashboard` does."""
    _ignore_ctrl_c()
    try:
        connection = connect(path, Kind.VIEWER, is_read_only=is_read_only)
        while connection.welcome is None:
            connection.receive()
    except RunGoneError:
        return OVER  # perhaps it has just ended: the command looks
    except (ProtocolError, ConnectionRefusedByRunError) as error:
        report(str(error))
        return REFUSED
    return _show(RunClient(connection, lifeline=lifeline), "reader" if is_read_only else "viewer")


def main() -> NoReturn:
    """Show a run of the program that started this process, as `run_dashboard` does.

    The first two arguments are descriptors: of the connection to the run, and of the lifeline.
    """
    connected, lifeline = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    sys.exit(run_for_program(connected, lifeline))


def run_for_program(connected: socket.socket, lifeline: socket.socket) -> int:
    """Show the run at the other end of a connection, in the terminal of its program. Return the exit status."""
    _ignore_ctrl_c()
    connection = Connection(connected, Kind.VIEWER)
    return _show(RunClient(connection, lifeline=lifeline), "program")


def _ignore_ctrl_c() -> None:
    """Leave Ctrl+C to the command, which gets it too, until the app listens to signals."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _plan(connection: Connection) -> protocol.PlanMade | None:
    """Return the plan once it is made; None if there is none, which the command reports."""
    with contextlib.suppress(RunGoneError):
        while not isinstance(received := connection.receive(), protocol.PlanRefused):
            if isinstance(received, protocol.PlanMade):
                return received
    return None


def _show(client: RunClient, role: RoleName, plan: protocol.PlanMade | None = None) -> int:
    try:
        outcome = shown(lambda: _run(client, role, plan))
    finally:
        client.close()
    if outcome is None:
        return BROKEN
    if client.is_refused:
        report(outcome.reason)
        return BROKEN
    return _status(outcome)


def shown(show: Callable[[], Outcome]) -> Outcome | None:
    """Return the outcome of a dashboard that `show` shows in the terminal; None if it broke, which is reported."""
    lines: deque[str] = deque(maxlen=_TRACE_LINES)
    try:
        with exclusive_terminal(lines.append):
            return show()
    except Exception as error:  # Textual is broken, or its environment variables are; nothing of it may touch the run
        trace = keep_traceback("dashboard", (f"{line}\n" for line in [*lines, *traceback.format_exc().splitlines()]))
        problem = (
            str(error) if type(error).__name__ == "DashboardError" else error_line(type(error).__name__, str(error))
        )
        report(f"{problem}; its traceback is in {trace}")
        return None


def _run(client: RunClient, role: RoleName, plan: protocol.PlanMade | None) -> Outcome:
    from asyncwatch.ui.app import run_dashboard
    from asyncwatch.ui.keys import Role

    foreseen = () if plan is None else plan.foreseen

    def open_past() -> Player | str:
        return _open_past(client.journal if plan is None else plan.journal)

    return run_dashboard(
        client,
        role=Role(role),
        detach=client.detach,
        foreseen=foreseen,
        open_past=open_past,
        run_id=lambda: client.run_id,
    )


def _open_past(journal: str) -> Player | str:
    """Return the recording of a live run from its journal, or why there is none, in a sentence."""
    from asyncwatch.journal.replay import Replay
    from asyncwatch.journal.store import JournalError
    from asyncwatch.ui.app import NOT_RECORDED

    if not journal:
        return NOT_RECORDED
    try:
        return Replay(Path(journal))
    except FileNotFoundError:
        return "Nothing of this run was recorded so far."
    except (OSError, JournalError) as error:
        return f"The recording of this run cannot be shown: {error}."


def _status(outcome: Outcome) -> int:
    from asyncwatch.ui.app import Ending

    match outcome.ending:
        case Ending.LEFT:
            return LEFT
        case Ending.HUNG_UP:
            return HUNG_UP
        case Ending.STOPPED:
            return STOPPED
        case Ending.QUIT:
            return QUIT
        case Ending.DISCONNECTED:
            _report_running(outcome.fleet)
    return OVER


def _report_running(fleet: Fleet) -> None:
    """Say which workers were running when the run was lost."""
    names = [row.name for row in fleet.rows if row.state is WorkerState.RUNNING]
    if names:
        shown = ", ".join(names[:_NAMES]) + (f" and {len(names) - _NAMES:,} more" if len(names) > _NAMES else "")
        report(f"{count(len(names), 'worker')} running at the end: {shown}")
