"""One run, from its plan to the exit status.

`run_plan` opens the output file, runs the engine, follows it headless, waits for its end, and reports what went wrong.
The engine's process of a run with a dashboard uses the same parts.
"""

# ruff: noqa: PLC0415  imports that the first frame does not need come after it

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from weakref import WeakMethod

import msgspec

from asyncwatch.cli import ALL_SUCCEEDED, INTERRUPTED, NOT_ALL_SUCCEEDED, READER_GONE
from asyncwatch.cli.messages import how_to_repeat, report
from asyncwatch.cli.terminal import private_stderr, private_stdout
from asyncwatch.commands import StopRun
from asyncwatch.engine.capture import Record, capturing_prints
from asyncwatch.engine.thread import EngineThread
from asyncwatch.events import Batch, RecordingFailed, WorkerState
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.rows import Row
from asyncwatch.plan.plan import Plan
from asyncwatch.process import FEWEST_FILES, infrequent_gc, kept_streams, raise_file_limit
from asyncwatch.text import error_line, split_address

if TYPE_CHECKING:
    from asyncwatch.cli.headless import StdoutError
    from asyncwatch.cli.log_files import LogFiles
    from asyncwatch.cli.output import OutputFile
    from asyncwatch.cli.recorder import Recorder
    from asyncwatch.cli.reports import ReportFiles
    from asyncwatch.control.discovery import Publication
    from asyncwatch.engine.run import Run
    from asyncwatch.engine.supervisor import Supervisor
    from asyncwatch.journal.writer import JournalWriter, Problem
    from asyncwatch.metrics import RunMetrics
    from asyncwatch.plan.keys import WorkerKeys

    _Engine = EngineThread[Run | Supervisor]

PATIENCE = 2.0
"""Seconds to wait for the engine's thread after the end of the run was shown."""

_REFRESH_EVERY = 5.0
"""Seconds between two looks at whether the socket is still there."""
_LAST_WRITES = 5.0
"""Seconds that the journal gets for its last writes."""
_DEFAULT_THREADS = 32
"""Threads of `asyncio.to_thread` for a low concurrency: Python's own maximum. More of them are made only if used."""

_FILES_A_SLOT = 4
"""Open files that a worker may need: the three pipes of a child process and a socket."""
_OWN_FILES = 64
"""Open files beside those of the workers: modules, streams, event loops."""

OnBatch = Callable[[Batch], str | None]
"""Gets every batch of events. Returns a message to show, or None."""


class OutputError(Exception):
    """The output file cannot be opened. Raised before the run starts."""


class LimitError(Exception):
    """The system allows too few open files for any run. Raised before the run starts."""


class ListenError(Exception):
    """The metrics cannot be served at their address. Raised before the run starts."""


class Session(NamedTuple):
    """The parts of a run that were made before it starts."""

    plan: Plan
    engine: _Engine
    output: OutputFile | None
    keys: WorkerKeys
    recorder: Recorder | None = None
    """None if the run has no journal."""
    reports: ReportFiles | None = None
    """Files that are written at the end; None if there are none."""
    metrics: RunMetrics | None = None
    """None if they are not served."""


def prepare(
    plan: Plan,
    *,
    stays_open: bool,
    on_problem: Callable[[str], object],
    before_end: Callable[[Record], object] | None = None,
) -> Session:
    """Open the files that are written, raise the limits of the process, and make the engine.

    `on_problem` gets what a person should know and does not prevent the run. `before_end` is called on the engine's
    thread just before the end of the run is reported, with a function that makes a line an event.

    Raises:
        OutputError: The output file, or one of the end, cannot be opened.
        LimitError: The system allows too few open files.
        ListenError: The address of the metrics cannot be used.

    """
    slots = _slots(plan)
    _raise_file_limit(slots, on_problem)
    output, reports = _open_output(plan), open_reports(plan)
    metrics = _listen(plan, on_problem)
    level = logging.getLevelNamesMapping()[plan.config.log_level.upper()]
    from asyncwatch.plan.keys import WorkerKeys

    keys = WorkerKeys(plan)
    recorder = _make_recorder(plan, keys, on_problem)
    engine = EngineThread(
        partial(_open_run, plan, keys, recorder, before_end),
        partial(_drive, plan),
        stays_open=stays_open,
        log_level=level,
        threads=max(slots, _DEFAULT_THREADS),
        loop_thread=plan.loop_thread,
    )
    return Session(plan, engine, output, keys, recorder, reports, metrics)


def run_plan(plan: Plan, *, is_json: bool, is_quiet: bool = False) -> int:
    """Run `plan` without a dashboard, and return the exit status.

    Raises:
        OutputError: The output file cannot be opened.
        LimitError: The system allows too few open files.
        ListenError: The address of the metrics cannot be used.

    """
    session = prepare(plan, stays_open=False, on_problem=report)
    engine, output = session.engine, session.output
    try:
        seen = _watch(session, is_json=is_json, is_quiet=is_quiet)
    finally:
        if output is not None:
            output.close()
    problems, status = end_of(session, seen.fleet, seen.status)
    if seen.is_stderr_stalled:
        os._exit(status)
    for problem in problems:
        report(problem)
    if not is_quiet and seen.fleet is not None and seen.fleet.finished is not None:
        for line in _how_to_repeat(session, seen.fleet):
            report(line)
    if not engine.join(0.0):
        leave_process(status)
    return status


def _how_to_repeat(session: Session, fleet: Fleet) -> list[str]:
    recorder = session.recorder
    if recorder is None or recorder.problem is not None or fleet.finished is None or fleet.finished.interrupted:
        return []
    from asyncwatch.model.summary import summarize

    return how_to_repeat(summarize(fleet, 0, 0).failed, recorder.run_id, recorder.resume_command)


def end_of(session: Session, fleet: Fleet | None, status: int) -> tuple[list[str], int]:
    """Return what went wrong beside the work, and the exit status of the run.

    `fleet` is the last state of the run, if it is known, and `status` what follows from that state alone.
    """
    problems = []
    if session.plan.config.stop_ok and status == INTERRUPTED and fleet is not None and fleet.finished is not None:
        status = NOT_ALL_SUCCEEDED if fleet.has_own_failures else ALL_SUCCEEDED
    if fleet is None or fleet.not_recorded is None:
        problem = None if session.recorder is None else session.recorder.problem
        problems += [] if problem is None else [problem]
    is_cut = fleet is None or fleet.finished is None or fleet.finished.interrupted
    if session.engine.error is not None and fleet is not None and not fleet.attempts:
        is_cut = False  # the lifespan could not be entered: there is nothing to go on with
    if is_cut and session.recorder is not None and session.recorder.problem is None:
        problems += filter(None, [session.recorder.how_to_resume])
    elif fleet is not None and session.recorder is not None and session.recorder.problem is None:
        problems += filter(None, [session.recorder.lost_sentence(fleet.lost_results)])
    if session.engine.error is not None:
        problems.append(_engine_problem(session.engine.error))
        status = NOT_ALL_SUCCEEDED
    if session.output is not None and session.output.problem is not None:
        problems.append(session.output.problem)
        status = status or NOT_ALL_SUCCEEDED
    if session.reports is not None and session.reports.problems:
        problems += session.reports.problems
        status = status or NOT_ALL_SUCCEEDED
    return problems, status


# -- before the run


def _slots(plan: Plan) -> int:
    """Return how many workers can be running at a time: services are, whatever the concurrency."""
    services = sum(len(group.names) for group in plan.groups if group.settings.is_supervised)
    others = sum(len(group.names) for group in plan.groups) - services
    if any(group.live is not None for group in plan.groups):
        others = plan.config.concurrency
    return services + min(plan.config.concurrency, others)


def _raise_file_limit(slots: int, on_problem: Callable[[str], object]) -> None:
    """Raise the limit of open files as far as `slots` workers may need, and report a limit that stays too low."""
    limit = raise_file_limit(_FILES_A_SLOT * slots + _OWN_FILES)
    if limit < FEWEST_FILES:
        text = f"the limit of open files is {limit}, and a run needs at least {FEWEST_FILES}"
        raise LimitError(f"{text}: raise it with ulimit -n")
    if limit < slots + _OWN_FILES:
        text = f"the limit of open files is {limit:,}, and {slots:,} workers at a time may need more"
        on_problem(f"{text}: raise it with ulimit -n, or lower concurrency")


def _open_output(plan: Plan) -> OutputFile | None:
    if plan.config.output is None:
        return None
    from asyncwatch.cli.output import OutputFile

    past = plan.resumption
    try:
        return OutputFile(plan.config.output, before=past.done_lines if past is not None and past.before else None)
    except (OSError, ValueError) as error:
        raise OutputError(str(error)) from None


def open_reports(plan: Plan) -> ReportFiles | None:
    """Return the files that are written at the end; None if there are none.

    Raises:
        OutputError: One of them cannot be written.

    """
    config = plan.config
    if config.summary_json is None and config.junit is None:
        return None
    from asyncwatch.cli.reports import ReportFiles

    try:
        return ReportFiles(config.summary_json, config.junit)
    except (OSError, ValueError) as error:
        raise OutputError(str(error)) from None


def _listen(plan: Plan, on_problem: Callable[[str], object]) -> RunMetrics | None:
    if plan.config.metrics is None:
        return None
    from asyncwatch.metrics import MetricsError, listen

    try:
        metrics = listen(plan.config.metrics)
    except MetricsError as error:
        raise ListenError(str(error)) from None
    if split_address(plan.config.metrics)[1] == 0:  # else the person knows it
        on_problem(f"metrics are at {metrics.url}")
    return metrics


def _log_files(plan: Plan) -> LogFiles | None:
    config = plan.config
    if config.log_file is None:
        return None
    from asyncwatch.cli.log_files import LogFiles

    return LogFiles(config.log_file, size=config.log_file_size, keep=config.log_file_keep)


def rewrite_output(plan: Plan) -> None:
    """Write the output file of a run in which nothing is left to do.

    Raises:
        OutputError: It cannot be written.

    """
    if (output := _open_output(plan)) is not None:
        output.close()
        if output.problem is not None:
            raise OutputError(output.problem)


def _make_recorder(plan: Plan, keys: WorkerKeys, on_problem: Callable[[str], object]) -> Recorder | None:
    if not plan.is_recorded:
        return None
    from asyncwatch.cli.recorder import Recorder

    recorder = Recorder(plan, keys)
    if (note := recorder.make_folder()) is not None:
        on_problem(note)
    return recorder


# -- on the engine's thread


@asynccontextmanager
async def _open_run(
    plan: Plan, keys: WorkerKeys, recorder: Recorder | None, before_end: Callable[[Record], object] | None
) -> AsyncIterator[Run | Supervisor]:
    from asyncwatch.engine.run_control import control_of
    from asyncwatch.plan.build import open_run

    async with open_run(plan, keys.join if recorder is None else recorder.add, keys) as run:
        if before_end is not None:
            control = control_of(run)
            control.call_before_end(partial(before_end, control.record_log))
        gc.freeze()  # the modules imported until now stay to the end
        yield run


async def _drive(plan: Plan, run: Run | Supervisor) -> None:
    from asyncwatch.plan.build import drive

    await drive(plan, run)


# -- during the run


class _Seen(NamedTuple):
    """How the headless run ended."""

    fleet: Fleet | None
    """The last state of the run; None if it could not be shown to its end."""
    status: int
    """The exit status, as far as this is known from the events."""
    patience: float | None = PATIENCE
    """Seconds to wait for the engine; None for no limit."""
    is_stderr_stalled: bool = False
    """Whether standard error is not read: another write to it would not return."""


class RunHost:
    """Serves a run to clients, on the event loop of the main thread of the engine's process.

    Pass every batch to `receive`, and then apply it to `fleet`. A run that cannot listen on a socket goes on without:
    `problem` says why.
    """

    def __init__(self, session: Session) -> None:
        from asyncwatch.control.discovery import DiscoveryError, new_id, publish
        from asyncwatch.control.door import Door
        from asyncwatch.control.protocol import PROTOCOL
        from asyncwatch.control.server import ControlServer, Run

        engine, name = session.engine, session.plan.name
        run_id = "" if session.plan.resumption is None else session.plan.resumption.run_id
        self.problem = ""
        self.fleet = Fleet()
        self.session = session
        self._folder = _current_folder()  # a worker may change it
        self._publication: Publication | None = None
        self._refreshing: asyncio.Task[None] | None = None
        try:
            self._publication = publish(name, sys.argv, protocol=PROTOCOL, run_id=run_id)
        except DiscoveryError as error:
            self.problem = f"asyncwatch ps and attach do not find this run: {error}"
        self.run_id = run_id or new_id() if self._publication is None else self._publication.record.id
        session.keys.root = session.keys.root or self.run_id
        run = Run(
            self.run_id,
            name,
            os.getpid(),
            self.fleet,
            lambda commands: engine.send(*commands),
            engine.send_then,
            engine.statistics,
        )
        self.server = ControlServer(run)
        self._door = Door({self.run_id: self.server}, is_peer_trusted=_is_own)
        self._recording = _Recording(session, self.run_id)
        for served in (self.server, self._door):
            close = WeakMethod(served.close_after_fork)
            os.register_at_fork(after_in_child=lambda close=close: (method := close()) and method())

    @property
    def resume_command(self) -> str:
        """The command that goes on with the run; empty if it is not recorded."""
        from asyncwatch.cli.recorder import resume_command

        return "" if self.session.recorder is None else resume_command(self.run_id, self.session.plan.config)

    async def open(self) -> None:
        """Listen to clients."""
        if (metrics := self.session.metrics) is not None:
            lag = None if self.session.recorder is None else self._journal_lag
            await metrics.open(self.fleet, self.session.engine.statistics, lag)
        if self._publication is not None:
            self._door.listen(self._publication.socket)
            self._refreshing = asyncio.create_task(self._refresh(self._publication))

    @property
    def journal(self) -> str:
        """The path of the run's journal, empty if it is not recorded."""
        recorder = self.session.recorder
        return "" if recorder is None else str(recorder.path(self.run_id))

    def receive(self, batch: Batch) -> str | None:
        """Pass a batch on, before it is applied to the fleet. Return a message for a person, or None."""
        self.server.take(batch)
        if self.session.metrics is not None:
            self.session.metrics.take(batch)
        if batch and self._recording.wants_snapshot:
            self._recording.add_snapshot(batch[0].seq, self.fleet)
        return self._recording.receive(batch)

    async def settle(self) -> None:
        """Write what is left of the journal and the output file, after the last batch."""
        problem = await self._recording.settle()
        if problem is not None and self.fleet.not_recorded is None:  # too late for an event
            self.fleet.not_recorded = RecordingFailed(self.fleet.last_seq, self.fleet.latest, *problem)

    async def write_reports(self, problems: list[str], status: int) -> tuple[list[str], int]:
        """Write the files of the end. Return the problems and the exit status, which are made worse by a failure."""
        if (reports := self.session.reports) is None:
            return problems, status
        from asyncwatch import __version__
        from asyncwatch.cli.reports import Report

        run = self.fleet.run
        report = Report(
            id=self.run_id,
            name=self.session.plan.name,
            folder=self._folder,
            command=sys.argv[1:],
            pid=os.getpid(),
            version=__version__,
            started=None if run is None else round(run.started_at, 3),
            ended=round(time.time(), 3),
            is_alive=False,
            status=status,
            problems=problems,
        )
        past = self.session.plan.resumption
        earlier = (lambda: None) if past is None else past.earlier
        await asyncio.to_thread(reports.write, report, self.fleet, earlier)
        if not reports.problems:
            return problems, status
        return [*problems, *reports.problems], status or NOT_ALL_SUCCEEDED

    async def end(self, status: int, problems: list[str]) -> None:
        """Tell clients that the run has ended, end all connections, and leave a record for those who come later."""
        from asyncwatch.control.discovery import DiscoveryError
        from asyncwatch.control.protocol import Ended, packed
        from asyncwatch.model.summary import summarize

        summary = summarize(self.fleet)
        if (problem := await self._recording.end(status, msgspec.to_builtins(summary))) is not None:
            problems = [*problems, problem]
        self.server.end(Ended(status, tuple(problems), msgspec.Raw(packed(summary))))
        if self._refreshing is not None:
            self._refreshing.cancel()
        await self._door.close()
        if self.session.metrics is not None:
            await self.session.metrics.close()
        await self.server.close()
        if self._publication is not None:
            with suppress(OSError, DiscoveryError):
                self._publication.end(status, msgspec.to_builtins(summary))

    def _journal_lag(self) -> int:
        """Return how many events are not in the journal yet."""
        return max(0, self.fleet.last_seq - self._recording.written)

    async def _refresh(self, publication: Publication) -> None:
        """Make folder and socket anew when they have gone, as after a log-out."""
        from asyncwatch.control.discovery import DiscoveryError

        while True:
            await asyncio.sleep(_REFRESH_EVERY)
            with suppress(OSError, DiscoveryError):
                if (listener := publication.refresh()) is not None:
                    self._door.listen(listener)


class _Recording:
    """What is written of a run: its journal, and the lines of its output file, each once its event is recorded.

    If there is no journal, or while it cannot be written, lines are written at once.
    """

    def __init__(self, session: Session, run_id: str) -> None:
        self._engine = session.engine
        self._output = session.output
        self._log_files = _log_files(session.plan)
        self._held: deque[Batch] = deque()
        self._writer: JournalWriter | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.written = -1
        """The number of the last event in the journal; -1 before the first."""
        self._recorder = session.recorder
        self._problem: Problem | None = None
        self._reported: Problem | None = None
        self._is_settled = False
        self._message: str | None = None
        self._beginning: asyncio.Future[None] | None = None
        """Writes the lines of what was done before, which takes seconds for a million."""
        if session.recorder is not None:
            self._writer = session.recorder.start(run_id, self._note_written, self._note_problem)
            session.engine.add_listener(self._writer)

    def receive(self, batch: Batch) -> str | None:
        """Write the lines of a batch, or hold them back. Return a message for a person, or None."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._report()  # what came before the first event
        if self._output is not None and batch:
            if self._beginning is None:
                self._beginning = self._loop.run_in_executor(None, self._output.begin)
                self._beginning.add_done_callback(lambda _done: self._release())
            self._held.append(batch)
            self._release()
        if self._log_files is not None:
            self._message = self._log_files.write(batch) or self._message
        message, self._message = self._message, None
        return message

    @property
    def wants_snapshot(self) -> bool:
        """Whether old events can be dropped once there is a snapshot."""
        return self._writer is not None and self._writer.wants_snapshot

    def add_snapshot(self, seq: int, fleet: Fleet) -> None:
        """Record the state before the event number `seq`."""
        from asyncwatch.journal.store import StoredSnapshot
        from asyncwatch.model.snapshot import Snapshot

        assert self._writer is not None  # noqa: S101  it wants one
        self._writer.add_snapshot(StoredSnapshot(seq, tuple(part.data for part in Snapshot(fleet).parts())))

    async def settle(self) -> Problem | None:
        """Write all that is left. Return why the journal cannot be written, if it cannot."""
        if self._beginning is not None:
            await self._beginning
        if self._writer is not None and not self._is_settled:
            await asyncio.to_thread(self._writer.flush, _LAST_WRITES)
        self._is_settled = True
        self._release(is_over=True)
        if self._output is not None:
            self._output.close()
        if self._log_files is not None:
            self._log_files.close()
        return None if self._writer is None else self._writer.problem

    async def end(self, status: int, summary: Any) -> str | None:
        """Write how the run ended. Return why that failed, unless the same was reported before."""
        if self._writer is None:
            return None
        before = self._writer.problem
        await asyncio.to_thread(self._writer.close, time.time(), status, summary, _LAST_WRITES)
        return None if self._recorder is None or before is not None else self._recorder.problem

    def _release(self, *, is_over: bool = False) -> None:
        if self._output is None or self._beginning is None or not self._beginning.done():
            return
        is_free = self._writer is None or self._problem is not None or is_over
        while self._held and (is_free or self._held[0][-1].seq <= self.written):
            self._message = self._output.write(self._held.popleft()) or self._message

    def _report(self) -> None:
        """Make it an event that recording failed, or goes on."""
        problem = self._problem
        if problem is not self._reported:
            self._reported = problem
            self._engine.report_recording(*(problem or (0.0, "")))
        self._release()

    # In the writer's thread.

    def _note_written(self, seq: int) -> None:
        self.written = max(self.written, seq)
        if self._output is not None:
            self._call(self._release)

    def _note_problem(self, problem: Problem | None) -> None:
        self._problem = problem
        self._call(self._report)

    def _call(self, callback: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(callback)


def _is_own(connection: socket.socket) -> bool:
    from asyncwatch.control.discovery import ForeignPeerError, check_peer

    try:
        check_peer(connection)
    except ForeignPeerError:
        return False
    return True


def _watch(session: Session, *, is_json: bool, is_quiet: bool) -> _Seen:
    """Follow the run to its end, then stop the engine."""
    patience: float | None = PATIENCE
    with infrequent_gc(), kept_streams(), ExitStack() as streams:
        try:
            seen = _follow_headless(session, streams, is_json=is_json, is_quiet=is_quiet)
            patience = seen.patience
        finally:
            end_engine(session.engine, patience)
    return seen


def _follow_headless(session: Session, streams: ExitStack, *, is_json: bool, is_quiet: bool) -> _Seen:
    engine = session.engine
    encoding = "utf-8" if is_json else sys.stdout.encoding
    stdout = streams.enter_context(private_stdout(is_alone=is_json))
    raw_stderr = streams.enter_context(private_stderr())
    from asyncwatch.cli.headless import LossyWriter, StdoutError, run_headless

    stderr = sys.stderr if raw_stderr is None else LossyWriter(raw_stderr, sys.stderr.encoding)
    streams.enter_context(capturing_prints(engine.record_log))
    # `nohup` and the background jobs of a shell ignore some signals on purpose.
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    heeded = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
    host = RunHost(session)
    engine.start()
    follow = run_headless(
        engine,
        json=is_json,
        is_quiet=is_quiet,
        stdout=stdout,
        stderr=stderr,
        on_batch=host.receive,
        fleet=host.fleet,
        before_summary=host.settle,
        stop_signals=heeded,
        encoding=encoding,
    )
    try:
        seen = _seen_to_the_end(asyncio.run(_serve(host, follow)))
    except StdoutError as error:
        seen = _Seen(None, _status_without_stdout(error))
    return seen._replace(is_stderr_stalled=isinstance(stderr, LossyWriter) and not stderr.finish())


async def _serve(host: RunHost, follow: Coroutine[object, object, Fleet]) -> Fleet:
    """Follow the run of `host` and serve it to clients meanwhile."""
    from asyncwatch.cli.headless import StdoutError
    from asyncwatch.control.protocol import PlanMade

    await host.open()
    host.server.open(PlanMade(host.run_id, notes=(), foreseen=(), journal=host.journal))
    failed: int | None = None
    try:
        return await follow
    except StdoutError as error:
        failed = _status_without_stdout(error)
        raise
    finally:
        await host.settle()
        problems, status = end_of(host.session, host.fleet, exit_status(host.fleet) if failed is None else failed)
        problems, status = await host.write_reports(problems, status)
        await host.end(status, problems)


def _status_without_stdout(error: StdoutError) -> int:
    return READER_GONE if error.is_reader_gone else NOT_ALL_SUCCEEDED


def _current_folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109  as a text
    except OSError:  # it was removed
        return ""


def _seen_to_the_end(fleet: Fleet) -> _Seen:
    # Who leaves before the end does not want to wait for it either.
    return _Seen(fleet, exit_status(fleet), patience=0.0 if fleet.finished is None else PATIENCE)


def end_engine(engine: _Engine, patience: float | None) -> None:
    """Stop the run if it still runs, and wait up to `patience` seconds for its end. Ctrl+C stops it at once."""
    engine.send(StopRun())
    try:
        engine.join(patience)
    except KeyboardInterrupt:
        engine.send(StopRun(at_once=True))
        engine.join(PATIENCE)


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
    from asyncwatch.engine.lifespan import LifespanError
    from asyncwatch.engine.tree.errors import TreeError

    return (
        str(error)
        if isinstance(error, (TreeError, LifespanError))
        else f"The run failed: {error_line(type(error).__name__, str(error))}"
    )


def leave_process(status: int) -> NoReturn:
    """End the process although a worker blocks a thread, which the interpreter would wait for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
