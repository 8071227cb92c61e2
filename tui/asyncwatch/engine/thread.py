"""The engine's own thread: an event loop for one run, commands in from any thread, events out to any loop."""

# ruff: noqa: PLC0415  most is imported by the engine's own thread, after the first frame
from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from asyncwatch.commands import Command, Statistics, StopRun
from asyncwatch.engine.capture import capturing_logs
from asyncwatch.engine.command_queue import FEW
from asyncwatch.engine.loop_thread import LoopThread
from asyncwatch.engine.outbox import Receiver
from asyncwatch.engine.port import RunPort
from asyncwatch.engine.stacks import boundary
from asyncwatch.engine.threads import CallThread
from asyncwatch.events import Batch, RunFinished

if TYPE_CHECKING:
    from asyncwatch.engine.run_control import RunControl
    from asyncwatch.engine.watchdog import Watchdog


CHECK_INTERVAL = 0.1
"""Seconds between two checks of the loop."""
PATIENCE = 1.0
"""Seconds beyond the grace period for which the loop of a run that is stopped may stand still; then the end is reported
without it. While the loop responds, its own timers end everything."""
LAST_CHANCE = 0.5
"""Seconds that the remaining tasks get to end before the loop is closed."""
_MAKES_PROGRESS = frozenset({"asyncwatch", "many"})
"""Causes of a block that end by themselves."""
IDLE_THREADS_END = 0.2
"""Seconds in which the idle threads of `asyncio.to_thread` end. One that is left is blocked by a worker."""
_LOOK_AGAIN = 0.005
_numbers = itertools.count(1)


class Controlled(Protocol):
    """A `Run` or a `Supervisor`."""

    @property
    def _control(self) -> RunControl:
        """Its internal interface."""

    async def __aenter__(self) -> Self:
        """Open it."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """End it."""


_R = TypeVar("_R", bound=Controlled)


class Guard:
    """A thread that checks whether an event loop still responds, and gives up when it has not for too long.

    It counts checks, and not the time between them: a process that was suspended has not been blocked.

    Args:
        call_soon: schedules a callback on the loop, from any thread.
        is_at_work: whether the loop makes progress, although it responds late.
        patience: the seconds for which the loop may stand still.
        give_up: called once, in the guard's thread, when that time is over.

    """

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], None],
        *,
        is_at_work: Callable[[], bool],
        patience: Callable[[], float],
        give_up: Callable[[], None],
    ) -> None:
        self._call_soon = call_soon
        self._is_at_work = is_at_work
        self._patience = patience
        self._give_up = give_up
        self._is_over = threading.Event()
        self._has_responded = False
        threading.Thread(target=self._watch, name="asyncwatch guard", daemon=True).start()

    def stop(self) -> None:
        """Stop checking: the loop has ended."""
        self._is_over.set()

    def _respond(self) -> None:
        self._has_responded = True

    def _watch(self) -> None:
        missed = 0
        self._call_soon(self._respond)
        while not self._is_over.wait(CHECK_INTERVAL):
            if self._has_responded or self._is_at_work():
                missed = 0
            else:
                missed += 1
            if missed * CHECK_INTERVAL >= self._patience():
                self._give_up()
                return
            self._has_responded = False
            self._call_soon(self._respond)


class EngineThread(Generic[_R]):
    """Runs one `Run` or `Supervisor` on an event loop in a thread of its own. Implements `commands.Controller`.

    `start` opens the run, and `events` lets it begin.

    Args:
        open_run: makes the run or the supervisor, not entered yet, and all that its workers need; entered and left on
            the engine's loop.
        drive: awaits what `open_run` made, by one of its runners; handles what that raises, except a `TreeError`.
        stays_open: whether the run goes on after all workers have settled, for restarts, until `StopRun`.
        log_level: records of this level and above become `LogRecorded` events.
        threads: most calls of `asyncio.to_thread` at a time; None for Python's own default.
        loop_thread: the thread in which the run is made, if code for it has run there already; else a new one.

    """

    def __init__(
        self,
        open_run: Callable[[], AbstractAsyncContextManager[_R]],
        drive: Callable[[_R], Awaitable[None]],
        *,
        stays_open: bool,
        log_level: int = logging.INFO,
        threads: int | None = None,
        loop_thread: LoopThread | None = None,
    ) -> None:
        self.error: BaseException | None = None
        """What ended the run early, if anything did: a `TreeError` if its own supervisor did not start or gave up. Read
        it after `RunFinished`."""
        self.has_returned = False
        """Whether the runner has returned: a run that stays open waits for restarts."""
        self._open_run = open_run
        self._drive = drive
        self._stays_open = stays_open
        self._log_level = log_level
        self._threads = threads
        self._port = RunPort(self._heed_stop)
        self._receivers: list[Receiver] = []
        self._lock = threading.Lock()
        self._control: RunControl | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()
        self._watched = asyncio.Event()
        self._is_watched = False
        self._has_reported_end = False
        self._is_abandoned = False
        self._is_hurried = False
        self._has_ended = threading.Event()
        self._guard: Guard | None = None
        self._watchdog: Watchdog | None = None
        self._thread = LoopThread() if loop_thread is None else loop_thread
        self._is_started = False
        self._thread_names = f"asyncwatch worker thread {next(_numbers)}-"

    def add_listener(self, listener: Receiver) -> None:
        """Deliver all event batches to `listener` too. To be called before `events`."""
        self._receivers.append(listener)

    def start(self) -> None:
        """Start the run."""
        self._is_started = True
        self._thread.run(self._run)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end of the run, at most `timeout` seconds; return whether nothing of it is left running.

        A run whose end was reported without it, since a worker blocks its loop, is not waited for. What can be left is
        a thread in which a worker blocks: the engine's own, one of `asyncio.to_thread`, or that of a plain function.
        """
        if self._is_started and self._has_ended.wait(timeout) and not self._is_abandoned:
            self._thread.join()
        deadline = time.monotonic() + min(IDLE_THREADS_END, IDLE_THREADS_END if timeout is None else timeout)
        while self._leaves_threads():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_AGAIN)
        return True

    def _leaves_threads(self) -> bool:
        names = self._thread_names
        return (self._is_started and self._thread.is_alive()) or any(
            thread.name.startswith(names) or (isinstance(thread, CallThread) and thread.loop is self._loop)
            for thread in threading.enumerate()
        )

    def send(self, *commands: Command) -> None:
        """Pass commands on, in order, from any thread. After the end of the run they are dropped.

        More than `FEW` at a time are all about workers.
        """
        for command in commands if len(commands) <= FEW else ():
            if isinstance(command, StopRun):
                self._expect_end(command)
        self._port.send(*commands)

    def send_then(self, commands: Sequence[Command], callback: Callable[[int], object]) -> None:
        """Pass commands on, and call `callback` on the loop of `events` when they are carried out.

        Its argument is the number of events so far. They are in the queue of `events`, or were taken from it.
        """
        for command in commands:
            if isinstance(command, StopRun):
                self._expect_end(command)
        self._port.send_then(commands, callback)

    def events(self) -> asyncio.Queue[Batch]:
        """Return the queue of all event batches, from the first one on, for the running event loop; once.

        The run begins when its events are watched.
        """
        queue = self._port.events()
        with self._lock:
            self._is_watched = True
            if self._control is not None and self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._watched.set)
        return queue

    def statistics(self) -> Statistics:
        """Return the engine's latest figures."""
        return self._port.statistics()

    @property
    def is_at_rest(self) -> bool:
        """Whether the runner has returned and no worker is active: nothing more happens without a command."""
        return self.has_returned and self._control is not None and self._control.is_at_rest

    def record_log(self, worker: str | None, level: str, source: str, message: str) -> None:
        """Make a log record or a printed line an event, from any thread."""
        self._port.record_log(worker, level, source, message)

    def report_recording(self, since: float, reason: str) -> None:
        """Make an event of why the journal cannot be written, from any thread; see `RunControl.report_recording`."""
        if self._control is not None:
            self._call_soon(partial(self._control.report_recording, since, reason))

    @boundary
    def _run(self) -> None:
        try:
            self._loop = loop = self._thread.event_loop()
        except BaseException as error:  # as below
            self.error = error
            self._port.close()
            if self._guard is not None:
                self._guard.stop()
            self._report_end()
            self._has_ended.set()
            return
        executor = ThreadPoolExecutor(self._threads, thread_name_prefix=self._thread_names)
        loop.set_default_executor(executor)
        try:
            with capturing_logs(self.record_log, self._log_level):
                self._complete(loop, self._supervise())
                self._complete(loop, self._clean_up())
        except BaseException as error:  # whatever it is, its listeners must learn of the end; the thread ends here
            self.error = error
        finally:
            # Tasks that swallowed every cancellation are destroyed with the loop; that was reported already.
            loop.set_exception_handler(lambda _loop, _context: None)
            self._port.close()
            with self._lock:
                loop.close()
            executor.shutdown(wait=False, cancel_futures=True)
            if self._guard is not None:
                self._guard.stop()
            self._report_end()
            self._has_ended.set()

    def _complete(self, loop: asyncio.AbstractEventLoop, main: Coroutine[object, object, None]) -> None:
        """Run `main` to its end, although a worker may stop the loop."""
        task = loop.create_task(main)
        while True:
            try:
                return loop.run_until_complete(task)
            except RuntimeError:
                if task.done() or loop.is_closed():
                    raise
            if self._control is not None:
                text = "other code called stop() on the event loop, which goes on"
                self._control.record_log(None, "WARNING", "asyncwatch", text)

    async def _supervise(self) -> None:
        from asyncwatch.engine.lifespan import LifespanError
        from asyncwatch.engine.run_control import control_of
        from asyncwatch.engine.tree.errors import TreeError
        from asyncwatch.engine.watchdog import Watchdog

        async with self._open_run() as run:
            control = control_of(run)
            self._port.attach(control)
            with self._lock:
                self._control = control
                if self._is_watched:
                    self._watched.set()
            # Entering starts a tree at once: not before it is watched.
            await self._watched.wait()
            for receiver in self._receivers:
                control.add_listener(receiver)
            with Watchdog(run, self._port.note_tasks, lambda: control.is_at_rest) as self._watchdog:
                self._port.watch_loop(self._watchdog)
                try:
                    async with run:
                        await self._await_run(run)
                except (TreeError, LifespanError) as error:
                    self.error = error

    async def _await_run(self, run: _R) -> None:
        """Await the run, then its viewers: a tree that gave up can still be looked at, and started again."""
        from asyncwatch.engine.run_control import control_of
        from asyncwatch.engine.tree.errors import TreeError

        control = control_of(run)
        while True:
            try:
                await self._drive(run)
            except TreeError as error:
                self.error = error
                control.record_log(None, "ERROR", "asyncwatch", str(error))
            self.has_returned = True
            if not self._stays_open or await self._is_stopped_before(control.tree_started_again()):
                return
            self.error, self.has_returned = None, False

    async def _is_stopped_before(self, other: Coroutine[Any, Any, None]) -> bool:
        """Return whether the run was to stop before the other coroutine has returned, which is cancelled then."""
        tasks = [asyncio.ensure_future(each) for each in (self._stopped.wait(), other)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        return self._stopped.is_set()

    def _heed_stop(self) -> None:
        self._stopped.set()
        self._watched.set()

    async def _clean_up(self) -> None:
        """End the tasks that workers started and left; a few that will not end do not hold up the exit."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_CHANCE)
        await asyncio.get_running_loop().shutdown_asyncgens()

    def _expect_end(self, command: StopRun) -> None:
        """Make sure that the end is reported, even if a worker blocks the loop and nothing can be cancelled."""
        self._is_hurried = self._is_hurried or command.at_once
        if self._is_hurried and self._control is None:
            self._abandon()  # a run that is being opened has no workers yet
        elif self._guard is None and self._is_started and not self._has_ended.is_set():
            with contextlib.suppress(RuntimeError):  # no thread can be started: the run ends by itself, or by a signal
                self._guard = Guard(
                    self._call_soon, is_at_work=self._makes_progress, patience=self._patience, give_up=self._abandon
                )

    def _call_soon(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(callback)

    def _makes_progress(self) -> bool:
        block = None if self._watchdog is None else self._watchdog.blocked()
        return block is not None and block.blame.cause in _MAKES_PROGRESS

    def _patience(self) -> float:
        return PATIENCE + (0.0 if self._is_hurried or self._control is None else self._control.grace)

    def _abandon(self) -> None:
        self._is_abandoned = True
        self._report_end()
        self._has_ended.set()

    def _report_end(self) -> None:
        """Report the end if the run itself has not, and cannot in time."""
        with self._lock:
            control = self._control
            if self._has_reported_end or (control is not None and control.is_finished):
                return
            self._has_reported_end = True
        if control is not None and control.is_started:
            control.abandon(None if self._watchdog is None else self._watchdog.blocked())
        else:
            for receiver in (self._port.listener, *self._receivers):
                receiver.deliver((RunFinished(0, 0.0, {}, 0, 0.0, interrupted=True),), None)
