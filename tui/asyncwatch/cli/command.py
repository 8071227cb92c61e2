"""A run in a terminal: an engine's process, a dashboard's process, and the command, which waits for both."""

# ruff: noqa: PLC0415  the command is small: each of the three processes imports what it needs

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import click

from asyncwatch.cli import INTERRUPTED, NOT_ALL_SUCCEEDED, dashboard
from asyncwatch.cli.keeper import Child, DashboardProcess, TerminalSettings, Wakeups, fork
from asyncwatch.cli.messages import how_to_repeat, report
from asyncwatch.commands import StopRun
from asyncwatch.control import protocol
from asyncwatch.control.client import Connection, ConnectionRefusedByRunError, RunClient, RunGoneError
from asyncwatch.control.protocol import Kind, Message, ProtocolError

if TYPE_CHECKING:
    from typing import BinaryIO

    from asyncwatch.cli import MakePlan
    from asyncwatch.cli.engine import Connections
    from asyncwatch.cli.progress import Stream
    from asyncwatch.control.discovery import RunRecord
    from asyncwatch.model.fleet import Fleet

_PATIENCE = 2.0
"""Seconds that the dashboard gets to leave the terminal after the end of the run."""
_LAST_WORD = 10.0
"""Seconds that the engine's process gets to end after the last event of the run."""
_LOOK_EVERY = 1.0
_ASK_EVERY = 0.02


def run_in_terminal(make_plan: MakePlan, shown: DashboardProcess | None, *, reads_input: bool) -> int:
    """Run a plan with a dashboard in this terminal, and return the exit status of the run.

    `shown` is the process of the dashboard, if there is one already. `reads_input` is whether the plan has items from
    standard input.
    """
    shown = shown or DashboardProcess()
    ours, for_command = socket.socketpair()

    def engine_main() -> int:
        connections = [(for_command, Kind.COMMAND), (shown.connection, Kind.DASHBOARD)]
        return _run_engine(make_plan, connections, reads_input=reads_input)

    engine = fork(engine_main, ours, shown.lifeline)
    for each in (for_command, shown.connection):
        each.close()
    with shown.lifeline, contextlib.closing(Connection(ours, Kind.COMMAND)) as connection:
        return Command(connection, engine, shown.process).wait()


def run_detached(make_plan: MakePlan, *, reads_input: bool) -> int:
    """Start a plan in a process of its own, and return when the run has begun: 0, or the status of one that has ended.

    `reads_input` is whether the plan has items from standard input.
    """
    ours, for_command = socket.socketpair()

    def engine_main() -> int:
        return _run_engine(make_plan, [(for_command, Kind.COMMAND)], reads_input=reads_input)

    engine = fork(engine_main, ours)
    for_command.close()
    with contextlib.closing(Connection(ours, Kind.COMMAND)) as connection:
        return _detach(connection, engine)


def _detach(connection: Connection, engine: Child) -> int:
    record: RunRecord | None = None
    resume = recorded = ""
    try:
        while True:
            match connection.receive():
                case protocol.PlanMade(run=run, notes=notes, resume=resume, journal=journal):
                    recorded = run if journal else ""
                    record = _find(run)
                    for note in notes:
                        report(note)
                    connection.send(protocol.Ask())
                case protocol.RunInfo(has_begun=True):
                    connection.send(protocol.Detach())
                case protocol.RunInfo():
                    time.sleep(_ASK_EVERY)
                    connection.send(protocol.Ask())
                case protocol.Detached():
                    return _report_started(record)
                case protocol.PlanRefused() as refusal:
                    return _report_refusal(refusal)
                case protocol.Ended() as ended:
                    return _report_ended(ended, recorded, resume)
                case _:
                    pass
    except (OSError, RunGoneError, ProtocolError, ConnectionRefusedByRunError):
        return _report_death(engine, record, resume)


def _run_engine(make_plan: MakePlan, connections: Connections, *, reads_input: bool) -> int:
    from asyncwatch.cli.engine import run_engine

    if not reads_input:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
    return run_engine(make_plan, connections)


class Command:
    """Waits for a run and its dashboard, in the process that the shell has started."""

    def __init__(self, connection: Connection, engine: Child, child: Child) -> None:
        self._connection = connection
        self._engine = engine
        self._dashboard = child
        self._terminal = TerminalSettings()
        self._record: RunRecord | None = None
        self._resume = ""
        self._recorded = ""
        """The ID of the run, if it is recorded."""
        self._stops = 0
        self._has_hung_up = False
        self._has_plan = False
        self._refusal: protocol.PlanRefused | None = None
        self._ended: protocol.Ended | None = None
        self._is_detached = False
        self._is_engine_gone = False
        self._is_given_up = False
        """Whether a person does not wait for the end of a run that stops."""
        self._has_summary = False
        """Whether the summary was printed by the headless progress."""

    def wait(self) -> int:
        """Wait for the end of the run, or until it goes on alone. Return the exit status."""
        with Wakeups() as wakeups:
            self._wait_for_end(wakeups)
            self._dashboard.kill()
            self._terminal.restore(is_screen_open=self._has_plan and self._dashboard.killed_by is not None)
            if not self._is_over:
                self._follow_without_dashboard(wakeups)
            return self._report_end()

    @property
    def _is_over(self) -> bool:
        return self._refusal is not None or self._ended is not None or self._is_detached or self._is_engine_gone

    # -- while the dashboard shows the run

    def _wait_for_end(self, wakeups: Wakeups) -> None:
        """Wait until the run and its dashboard have ended, the run goes on alone, or the dashboard has broken."""
        deadline = math.inf
        while not (self._is_over and (self._dashboard.has_ended or time.monotonic() >= deadline)):
            if self._refusal is not None:
                return  # the dashboard waits for a plan, or still imports Textual
            if self._is_over:
                deadline = min(deadline, time.monotonic() + _PATIENCE)
            elif self._dashboard.has_ended and self._has_dashboard_broken():
                return
            connections = [] if self._is_engine_gone else [self._connection.socket]
            if wakeups.wait(connections, 0.1 if self._is_over else _LOOK_EVERY):
                self._receive()
            for number in wakeups.signals():
                if number != signal.SIGCHLD:
                    self._pass_on(number)
            self._look_at_engine()
            if self._dashboard.look():
                # The shell is to see that its job was stopped. `fg` continues the dashboard with this process.
                os.kill(os.getpid(), signal.SIGSTOP)

    def _look_at_engine(self) -> None:
        """Note the end of the engine's process, also if processes that workers forked hold its connections open."""
        self._engine.look()
        if self._engine.has_ended and not self._is_over:
            self._receive()  # its last messages
            if not self._is_over:
                self._is_engine_gone = True
                self._engine.end_group()

    def _has_dashboard_broken(self) -> bool:
        """Do what the end of the dashboard calls for. Return whether the run goes on without it."""
        match self._dashboard.exit_status:
            case dashboard.LEFT | dashboard.OVER:
                return False  # the run has ended, or was detached: the engine is about to say so
            case dashboard.STOPPED if not self._stops:
                self._pass_on(signal.SIGTERM)
                return True
            case dashboard.QUIT:
                self._give_up()
                return False
            case dashboard.HUNG_UP:
                if not self._has_hung_up:
                    self._pass_on(signal.SIGHUP)
                return False
            case _:
                return True

    def _pass_on(self, number: signal.Signals) -> None:
        """Pass a signal on to the run: stop, stop at once, and the third time end the engine's process."""
        if number == signal.SIGHUP and not self._has_hung_up:
            self._has_hung_up = True
            self._send(protocol.HangUp())
            return
        self._stops += 1
        if not self._has_plan and self._stops == 1:
            # While it makes the plan it reads no messages, and nothing has begun. Later the signal stops the run.
            self._engine.send_signal(signal.SIGTERM)
        elif self._stops <= 2:
            self._send(protocol.Commands((StopRun(at_once=self._stops == 2),)))
        else:
            self._give_up()

    def _give_up(self) -> None:
        self._is_given_up = True
        self._engine.kill()

    def _send(self, message: Message) -> None:
        with contextlib.suppress(OSError):  # the engine has gone, which reading tells
            self._connection.send(message)

    def _receive(self) -> None:
        try:
            while (received := self._connection.receive(0.0)) is not None:
                if isinstance(received, Message):
                    self._take(received)
        except (RunGoneError, ProtocolError, ConnectionRefusedByRunError):
            self._is_engine_gone = True

    def _take(self, message: Message) -> None:
        match message:
            case protocol.PlanMade(run=run):
                self._has_plan = True
                self._resume = message.resume
                self._recorded = run if message.journal else ""
                self._record = _find(run)
            case protocol.PlanRefused():
                self._refusal = message
            case protocol.Detached():
                self._is_detached = True
            case protocol.Ended():
                self._ended = message

    # -- without the dashboard

    def _follow_without_dashboard(self, wakeups: Wakeups) -> None:
        """Follow the run as a headless one does, since its dashboard broke."""
        from asyncwatch.cli.headless import LossyWriter
        from asyncwatch.cli.terminal import private_stderr, private_stdout

        number = self._dashboard.killed_by
        if self._dashboard.exit_status != dashboard.STOPPED:
            how = "broke" if number is None else f"was ended by {number.name}"
            report(f"the dashboard {how}. The run goes on.{_how_to_attach(self._record)}")
        self._send(protocol.Follow())
        with private_stdout(is_alone=False) as stdout, private_stderr() as raw_stderr:
            stderr = sys.stderr if raw_stderr is None else LossyWriter(raw_stderr, sys.stderr.encoding)
            fleet = asyncio.run(self._follow(wakeups, stdout, stderr))
            self._has_summary = fleet.run is not None
            if isinstance(stderr, LossyWriter):
                stderr.finish()
        if fleet.finished is None and not self._is_over:
            self._give_up()  # the third signal

    async def _follow(self, wakeups: Wakeups, stdout: BinaryIO, stderr: Stream) -> Fleet:
        from asyncwatch.cli.headless import HeadlessRun, StdoutError

        def take(message: Message) -> None:
            self._take(message)
            if self._is_detached:
                following.cancel()

        def heed_signals() -> None:
            wakeups.clear()
            for number in wakeups.signals():
                if number == signal.SIGHUP and not self._has_hung_up:
                    self._has_hung_up = True
                    client.send_message(protocol.HangUp())
                elif number != signal.SIGCHLD:
                    run.interrupt()

        client = RunClient(self._connection, take)
        run = HeadlessRun(client, json=False, stdout=stdout, stderr=stderr, encoding=sys.stdout.encoding)
        following = asyncio.create_task(run.follow())
        # No signal handlers of the loop: between them and those of the wakeups, a signal would end this process.
        asyncio.get_running_loop().add_reader(wakeups, heed_signals)
        heed_signals()
        watching = asyncio.create_task(self._watch_engine(client))
        with contextlib.suppress(StdoutError, asyncio.CancelledError):  # no one reads the summary, or it was detached
            await following
        self._is_engine_gone = run.disconnected is not None
        if run.fleet.finished is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORD):
                    await client.lost.wait()  # the end of the run is the last message
        watching.cancel()
        return run.fleet

    async def _watch_engine(self, client: RunClient) -> None:
        """End what keeps the connections of the engine's process open after its end."""
        while not self._engine.has_ended:
            await asyncio.sleep(_LOOK_EVERY)
            self._engine.look()
        await asyncio.sleep(_LOOK_EVERY)  # for its last messages
        if not client.lost.is_set() and self._ended is None:
            self._engine.end_group()

    def _report_end(self) -> int:
        if self._refusal is not None:
            return _report_refusal(self._refusal)
        if self._is_detached:
            return _report_detached(self._record)
        if self._ended is not None:
            return _report_ended(self._ended, self._recorded, self._resume, shows_summary=not self._has_summary)
        if self._is_given_up or (self._stops and not self._has_plan):
            self._engine.end_group()
            _record_end(self._record, INTERRUPTED)
            _report_how_to_resume(self._resume)
            return INTERRUPTED
        return _report_death(self._engine, self._record, self._resume)


# -- the end, as the person at the terminal sees it


def _report_refusal(refusal: protocol.PlanRefused) -> int:
    for problem in refusal.problems:
        report(problem)
    return refusal.status


def _report_detached(record: RunRecord | None) -> int:
    report(f"The run goes on.{_how_to_attach(record)}")
    return 0


def _report_started(record: RunRecord | None) -> int:
    """Print the ID of a run in the background, for scripts, and say how to see it."""
    if record is not None:
        click.echo(record.id)
    report(f"The run goes on in the background.{_how_to_attach(record)}")
    return 0


def _report_ended(ended: protocol.Ended, recorded: str, resume: str, *, shows_summary: bool = True) -> int:
    import msgspec

    from asyncwatch.model.summary import Summary, summary_lines

    for problem in ended.problems:
        report(problem)
    summary = msgspec.msgpack.decode(ended.summary, type=Summary)
    if shows_summary:
        with contextlib.suppress(OSError):
            click.echo("\n".join(summary_lines(summary, shutil.get_terminal_size().columns)))
    if not summary.is_interrupted:  # else a problem says how to go on
        for line in how_to_repeat(summary.failed, recorded, resume):
            report(line)
    return ended.status


def _report_how_to_resume(command: str) -> None:
    if command:
        report(f"To go on: {command}")


def _report_death(engine: Child, record: RunRecord | None, resume: str) -> int:
    """Say how the engine's process has ended, and return the exit status that a shell gives for that."""
    deadline = time.monotonic() + _PATIENCE
    while not engine.has_ended and time.monotonic() < deadline:
        engine.look()
        time.sleep(0.01)
    engine.end_group()  # the children of workers
    number, status = engine.killed_by, NOT_ALL_SUCCEEDED
    if number is None:
        report("the process of the run has ended before the run did")
    else:
        status = 128 + number
        report(f"the process of the run was ended by {number.name} ({signal.strsignal(number)})")
    _report_how_to_resume(resume)
    _record_end(record, status)
    return status


def _how_to_attach(record: RunRecord | None) -> str:
    return "" if record is None else f" To see it: asyncwatch attach {record.id}"


def _find(run_id: str) -> RunRecord | None:
    """Return the record of a run; None if it has none, because it could not make its socket."""
    from asyncwatch.control.discovery import DiscoveryError, RunRecord, select

    with contextlib.suppress(DiscoveryError, OSError):
        if isinstance(record := select(run_id), RunRecord):
            return record
    return None


def _record_end(record: RunRecord | None, status: int) -> None:
    """Leave a record of the end of a run whose process could not."""
    from asyncwatch.control.discovery import DiscoveryError, record_end

    if record is not None:
        with contextlib.suppress(DiscoveryError, OSError):
            record_end(record, status)
