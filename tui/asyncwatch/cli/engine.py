"""The engine's process: a child of the command, in a session of its own, without the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import threading
from collections.abc import Iterator, Sequence

from asyncwatch.cli import ALL_SUCCEEDED, BAD_INPUT, INTERRUPTED, NOT_ALL_SUCCEEDED, MakePlan, NoPlanError
from asyncwatch.cli.messages import fault
from asyncwatch.cli.session import (
    PATIENCE,
    LimitError,
    ListenError,
    OutputError,
    RunHost,
    Session,
    end_engine,
    end_of,
    exit_status,
    leave_process,
    prepare,
)
from asyncwatch.cli.stray import EVERY, SELDOM, StrayOutput
from asyncwatch.commands import StopRun
from asyncwatch.control import protocol
from asyncwatch.control.protocol import Kind
from asyncwatch.events import Batch
from asyncwatch.model.reducer import apply
from asyncwatch.plan.plan import foreseen_events
from asyncwatch.process import infrequent_gc, kept_streams

_LOOK_EVERY = 0.25
"""Seconds between two looks at whether the run has come to its end, or the command has."""

_LAST_WORD = 5.0
"""Seconds that the command gets to read why there is no run."""

Connections = Sequence[tuple[socket.socket, Kind]]


def run_engine(make_plan: MakePlan, connections: Connections) -> int:
    """Make the plan, run it, and serve it to clients, of which some are connected already. Return the exit status.

    To be called in a process that was forked for it, before it has threads.
    """
    os.setsid()
    notes: list[str] = []
    try:
        stray = StrayOutput()
        with kept_streams(), _ending_with_command(connections):
            plan = make_plan(notes.append)
        if not plan.has_work:
            _refuse(connections, notes, ALL_SUCCEEDED)
            return ALL_SUCCEEDED
        session = prepare(plan, stays_open=True, on_problem=notes.append, before_end=stray.finish)
        host = EngineHost(session, stray)
    except (NoPlanError, LimitError, ListenError, OutputError) as error:
        problems = error.problems if isinstance(error, NoPlanError) else [str(error)]
        _refuse(connections, problems, BAD_INPUT)
        return BAD_INPUT
    except Exception as error:  # no one sees what this process writes
        _refuse(connections, [f"the run cannot start: {fault(error, 'engine')}"], NOT_ALL_SUCCEEDED)
        return NOT_ALL_SUCCEEDED
    with infrequent_gc(), kept_streams():
        from asyncwatch.engine.capture import capturing_prints  # noqa: PLC0415  with the engine, after the plan

        with capturing_prints(session.engine.record_log):
            try:
                status = asyncio.run(host.serve(connections, notes))
            finally:
                end_engine(session.engine, PATIENCE)
    if not session.engine.join(0.0):
        leave_process(status)
    return status


@contextlib.contextmanager
def _ending_with_command(connections: Connections) -> Iterator[None]:
    """End the process if the command ends inside the context, where nothing has begun and nothing is heeded."""
    is_over = threading.Event()
    hang_up = select.poll()
    for connection, kind in connections:
        if kind is Kind.COMMAND:
            hang_up.register(connection, 0)

    def watch() -> None:
        while not is_over.wait(_LOOK_EVERY):
            if hang_up.poll(0):
                os._exit(INTERRUPTED)

    threading.Thread(target=watch, name="asyncwatch command", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def _refuse(connections: Connections, problems: list[str], status: int) -> None:
    frame = protocol.message_frame(protocol.PlanRefused(tuple(problems), status))
    for connection, _kind in connections:
        with contextlib.suppress(OSError):  # it has gone, and needs no answer
            connection.sendall(frame)
            connection.shutdown(socket.SHUT_WR)
    for connection, _kind in connections:
        connection.settimeout(_LAST_WORD)
        with contextlib.suppress(OSError):
            while connection.recv(4096):  # unread, what it says would take the frame away when the connection closes
                pass


class EngineHost:
    """Follows a run to its end, in the main thread of the engine's process."""

    def __init__(self, session: Session, stray: StrayOutput) -> None:
        self._session = session
        self._engine = session.engine
        self._stray = stray
        self._host = RunHost(session)
        self._server = self._host.server
        self._fleet = self._host.fleet
        self._server.on_change = self._check
        self._server.on_hang_up = self._hang_up
        self._signals = 0
        self._is_asked_to_end = False
        self._stray_timer: asyncio.TimerHandle | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        self._is_quiet = False
        """Whether nothing has happened at the last look at the stray output."""

    async def serve(self, connections: Connections, notes: list[str]) -> int:
        """Serve the run until it has ended, and return its exit status."""
        try:
            problems, status = await self._follow(connections, notes)
        except Exception as error:  # as above
            end_engine(self._engine, PATIENCE)
            problems, status = [f"the run cannot be followed: {fault(error, 'engine')}"], NOT_ALL_SUCCEEDED
        await self._host.settle()
        problems, status = await self._host.write_reports(problems, status)
        await self._host.end(status, problems)
        return status

    async def _follow(self, connections: Connections, notes: list[str]) -> tuple[list[str], int]:
        """Follow the run to its end. Return what went wrong beside the work, and the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._heed_signal)
        for connection, kind in connections:
            await self._server.adopt(connection, kind)
        await self._host.open()
        if self._host.problem:
            notes.append(self._host.problem)
        foreseen = tuple(foreseen_events(self._session.plan))
        plan = protocol.PlanMade(
            self._host.run_id, tuple(notes), foreseen, resume=self._host.resume_command, journal=self._host.journal
        )
        self._server.open(plan)
        queue = self._engine.events()
        self._engine.start()
        self._read_later(EVERY)
        self._look_later()
        try:
            while self._fleet.finished is None:
                self._receive(await queue.get())
                await asyncio.sleep(0)  # signals and clients come between two batches of many
        finally:
            for timer in (self._stray_timer, self._look_timer):
                if timer is not None:
                    timer.cancel()
        end_engine(self._engine, PATIENCE)
        await self._host.settle()
        return end_of(self._session, self._fleet, exit_status(self._fleet))

    def _receive(self, batch: Batch) -> None:
        problem, has_begun = self._host.receive(batch), self._fleet.run is not None
        apply(self._fleet, batch)
        if not has_begun and self._session.metrics is not None:
            self._engine.record_log(None, "INFO", "asyncwatch", f"metrics are at {self._session.metrics.url}")
        if problem:
            self._server.report(problem)
        self._look_later()
        if self._is_quiet:
            self._is_quiet = False
            self._read_later(EVERY)

    def _read_later(self, wait: float) -> None:
        if self._stray_timer is not None:
            self._stray_timer.cancel()
        self._stray_timer = asyncio.get_running_loop().call_later(wait, self._read_stray, self._fleet.events)

    def _read_stray(self, events: int) -> None:
        """Read the stray output, soon again if there was any or events have come meanwhile."""
        has_output = self._fleet.run is not None and self._stray.read(self._engine.record_log)
        self._is_quiet = not has_output and events == self._fleet.events
        self._read_later(SELDOM if self._is_quiet else EVERY)

    def _look_later(self) -> None:
        if self._look_timer is None:
            self._look_timer = asyncio.get_running_loop().call_later(_LOOK_EVERY, self._look)

    def _look(self) -> None:
        """Look for the end of the run after its events. The last of them come before its runner returns."""
        self._look_timer = None
        self._check()
        if self._fleet.settled == self._fleet.workers and not self._engine.is_at_rest:
            self._look_later()

    def _check(self) -> None:
        """End a run that has no command any more, or nothing left to do for anyone."""
        if self._is_asked_to_end:
            return
        is_left_alone = not self._server.has_owner and not self._server.is_detached
        is_done = self._engine.is_at_rest and not self._server.viewers
        if is_left_alone or is_done:
            self._stop_run()

    def _hang_up(self) -> None:
        if self._session.plan.config.on_hangup == "detach":
            self._server.detach()
        else:
            self._stop_run()

    def _heed_signal(self) -> None:
        """Stop the run; the second time, at once."""
        self._signals += 1
        self._stop_run(at_once=self._signals > 1)

    def _stop_run(self, *, at_once: bool = False) -> None:
        self._is_asked_to_end = self._server.is_stopping = True
        self._engine.send(StopRun(at_once))
