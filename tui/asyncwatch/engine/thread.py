"""Sees to it that the end of a run is told although something blocks its event loop for good."""

# ruff: noqa: PLC0415  most is imported by the engine's own thread: not before the first picture
from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import msgspec

from asyncwatch.commands import Command, Statistics, StopRun, WatchStack, WorkerStack
from asyncwatch.engine.capture import capturing_logs
from asyncwatch.engine.outbox import Listener
from asyncwatch.events import Batch, RunFinished

if TYPE_CHECKING:
    from asyncwatch.engine.command_queue import Agenda
    from asyncwatch.engine.supervisor import Supervisor
    from asyncwatch.engine.watchdog import Watchdog


LOOK = 0.1
"""Seconds between two looks at the loop."""


class Guard:
    """A thread that looks whether an event loop still gets to what it is asked to do; while it does, nothing happens.

    Looks are counted, and not the time between them: a process that was suspended has not been blocked.

    Args:
        ask: lets the loop call something soon, from any thread.
        is_at_work: whether the loop gets on, although it answers late.
        patience: the seconds for which the loop may stand still.
        give_up: called, once, in the guard's thread, when that is over.

    """

    def __init__(
        self,
        ask: Callable[[Callable[[], None]], None],
        *,
        is_at_work: Callable[[], bool],
        patience: Callable[[], float],
        give_up: Callable[[], None],
    ) -> None:
        self._ask = ask
        self._is_at_work = is_at_work
        self._patience = patience
        self._give_up = give_up
        self._is_over = threading.Event()
        self._has_answered = False
        threading.Thread(target=self._watch, name="asyncwatch guard", daemon=True).start()

    def stop(self) -> None:
        """End the watch: the loop has come to its end."""
        self._is_over.set()

    def _answer(self) -> None:
        self._has_answered = True

    def _watch(self) -> None:
        missed = 0
        self._ask(self._answer)
        while not self._is_over.wait(LOOK):
            if self._has_answered or self._is_at_work():
                missed = 0
            else:
                missed += 1
            if missed * LOOK >= self._patience():
                self._give_up()
                return
            self._has_answered = False
            self._ask(self._answer)


STACK_EVERY = 0.25
"""Seconds between two stacks of the worker that somebody looks at."""
FEW = 1_000
"""Requests among which those are looked for that wait for no other one: to stop, and to look at a stack."""
PATIENCE = 1.0
"""Seconds beyond the grace period for which the loop of a run that is stopped may stand still; then the end is told
without it. While the loop lives, its supervisors' own timers say when all has ended."""
LAST_CHANCE = 0.5
"""Seconds that tasks which workers left behind get to end before the loop is closed."""
_GETS_ON = frozenset({"asyncwatch", "many"})
"""Causes of a block that come to an end by themselves."""
_THREADS = "asyncwatch worker thread"


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a uvloop where there is one, else asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class Engine:
    """Implements `commands.Controller` for a supervisor in this process.

    `start` opens the run, and `events` lets it begin.

    Args:
        open_run: makes the supervisor, which is not entered yet, and all that its workers need; entered and left on
            the engine's loop.
        drive: awaits the supervisor by one of its runners; it handles what the runner raises, but for a `TreeError`.
        stays_open: whether the run goes on, for restarts, until `StopRun` when all workers have settled.
        log_level: records of this level and above become `LogRecorded` events.

    """

    def __init__(
        self,
        open_run: Callable[[], AbstractAsyncContextManager[Supervisor]],
        drive: Callable[[Supervisor], Awaitable[None]],
        *,
        stays_open: bool,
        log_level: int = logging.INFO,
    ) -> None:
        self.error: BaseException | None = None
        """What ended the run before its time, if anything did: a `TreeError` if it was its own supervisor that did not
        start or gave up. Read it after `RunFinished`."""
        self._open_run = open_run
        self._drive = drive
        self._stays_open = stays_open
        self._log_level = log_level
        self._listener = Listener()
        self._lock = threading.Lock()
        self._waiting: list[Command] = []
        self._supervisor: Supervisor | None = None
        self._agenda: Agenda | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()
        self._watched = asyncio.Event()
        self._is_watched = False
        self._has_told_end = False
        self._is_abandoned = False
        self._is_hurried = False
        self._has_ended = threading.Event()
        self._guard: Guard | None = None
        self._watchdog: Watchdog | None = None
        self._tasks_highest = 0
        self._looked_at: str | None = None
        self._stack: WorkerStack | None = None
        self._stack_timer: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._run, name="asyncwatch engine", daemon=True)

    def start(self) -> None:
        """Start the run."""
        self._thread.start()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end of the run, at most `timeout` seconds; return whether nothing of it is left running.

        A run whose end was told without it, since a worker blocks its loop, is not waited for.

        What can be left is a thread in which a worker blocks: the engine's own, or one of `asyncio.to_thread`.
        """
        is_started = self._thread.ident is not None
        if is_started and self._has_ended.wait(timeout) and not self._is_abandoned:
            self._thread.join()
        return not any(thread is self._thread or thread.name.startswith(_THREADS) for thread in _alive())

    def send(self, *commands: Command) -> None:
        """Pass commands on, in order, from any thread. After the end of the run they are dropped.

        More than `FEW` at a time are all about workers.
        """
        for command in commands if len(commands) <= FEW else ():
            if isinstance(command, StopRun):
                self._expect_end(command)
            elif isinstance(command, WatchStack):  # heeded also while the loop is blocked
                self._looked_at = command.worker
        with self._lock:
            if self._supervisor is None or self._loop is None:
                self._waiting.extend(commands)
            elif not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._carry_out, commands)

    def events(self) -> asyncio.Queue[Batch]:
        """Return the queue of all event batches, from the first one on, for the running event loop; once.

        The run begins when there is somebody to watch it.
        """
        queue = self._listener.attach()
        with self._lock:
            self._is_watched = True
            if self._supervisor is not None and self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._watched.set)
        return queue

    def statistics(self) -> Statistics:
        """Return the engine's latest figures."""
        supervisor, watchdog = self._supervisor, self._watchdog
        if supervisor is None or watchdog is None:
            return Statistics()
        from asyncwatch.engine.watchdog import block_event
        from asyncwatch.engine.watching import blocking_stack

        known, lags, block, stack = supervisor.statistics(), watchdog.lags(), watchdog.blocked(), self._stack
        if block is not None and block.blame.who.worker and block.blame.who.worker == self._looked_at:
            stack = blocking_stack(block)
        return msgspec.structs.replace(
            known,
            loop_lag=lags.last,
            lag_p50=lags.p50,
            lag_p95=lags.p95,
            lag_highest=lags.highest,
            tasks_highest=max(known.tasks, self._tasks_highest),
            collecting=watchdog.collecting,
            longest_collection=watchdog.longest_collection,
            blocked=None if block is None else block_event(-1, supervisor.now, time.monotonic(), block),
            stack=stack,
        )

    def record_log(self, worker: str | None, level: str, source: str, message: str) -> None:
        """Make a log record or a printed line an event, from any thread."""
        supervisor, loop = self._supervisor, self._loop
        if supervisor is None or loop is None:
            return
        if threading.current_thread() is self._thread:
            supervisor.record_log(worker, level, source, message)
            return
        with self._lock:
            if not loop.is_closed():
                loop.call_soon_threadsafe(supervisor.record_log, worker, level, source, message)

    def _run(self) -> None:
        self._loop = loop = new_event_loop()
        executor = ThreadPoolExecutor(thread_name_prefix=_THREADS)
        loop.set_default_executor(executor)
        try:
            from asyncwatch.engine.watchdog import boundary

            boundary(Engine._run)
            with capturing_logs(self.record_log, self._log_level):
                loop.run_until_complete(self._supervise())
                loop.run_until_complete(self._clean_up())
        except BaseException as error:  # whatever it is, who watches must be told; the thread ends here
            self.error = error
        finally:
            # Tasks that swallowed every cancellation are destroyed with the loop; that was told on screen already.
            loop.set_exception_handler(lambda _loop, _context: None)
            with self._lock:
                loop.close()
            executor.shutdown(wait=False, cancel_futures=True)
            if self._guard is not None:
                self._guard.stop()
            self._tell_end()
            self._has_ended.set()

    async def _supervise(self) -> None:
        from asyncwatch.engine.command_queue import Agenda
        from asyncwatch.engine.tree.errors import TreeError
        from asyncwatch.engine.watchdog import Watchdog

        async with self._open_run() as supervisor:
            supervisor.add_listener(self._listener)
            with self._lock:
                self._supervisor = supervisor
                self._agenda = Agenda(supervisor.carry_out, supervisor.hold_line)
                waiting, self._waiting = self._waiting, []
                if self._is_watched:
                    self._watched.set()
            self._carry_out(waiting)
            # Entering starts a tree at once: not before somebody sees it.
            await self._watched.wait()
            with Watchdog(supervisor, self._note_tasks) as self._watchdog:
                try:
                    async with supervisor:
                        await self._run_supervisor(supervisor)
                except TreeError as error:
                    self.error = error

    async def _run_supervisor(self, supervisor: Supervisor) -> None:
        """Await what the run is for, then those who watch it: a tree that gave up can still be looked at."""
        from asyncwatch.engine.tree.errors import TreeError

        try:
            await self._drive(supervisor)
        except TreeError as error:
            self.error = error
            supervisor.record_log(None, "ERROR", "asyncwatch", str(error))
        if self._stays_open:
            await self._stopped.wait()

    def _carry_out(self, commands: list[Command] | tuple[Command, ...]) -> None:
        assert self._supervisor is not None  # noqa: S101  commands wait until it is there
        assert self._agenda is not None  # noqa: S101  it comes with it
        if len(commands) > FEW:
            self._agenda.add(commands)
            return
        for command in commands:
            if isinstance(command, WatchStack):
                self._take_stack()
            elif isinstance(command, StopRun):
                self._agenda.clear()  # the run ends: none of that matters any more
                try:
                    self._supervisor.carry_out(command)
                finally:
                    self._stopped.set()
                    self._watched.set()
            else:
                self._agenda.add((command,))

    def _take_stack(self) -> None:
        """Keep the stack of the worker that is looked at, now and again and again."""
        if self._stack_timer is not None:
            self._stack_timer.cancel()
            self._stack_timer = None
        supervisor, name = self._supervisor, self._looked_at
        self._stack = None if supervisor is None or name is None else supervisor.stack_of(name)
        if self._stack is not None:
            self._stack_timer = asyncio.get_running_loop().call_later(STACK_EVERY, self._take_stack)

    def _note_tasks(self) -> None:
        assert self._supervisor is not None  # noqa: S101  the watchdog comes after it
        self._tasks_highest = max(self._tasks_highest, self._supervisor.statistics().tasks)

    async def _clean_up(self) -> None:
        """End the tasks that workers started and left; a few that will not end do not hold up the exit."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_CHANCE)
        await asyncio.get_running_loop().shutdown_asyncgens()

    def _expect_end(self, command: StopRun) -> None:
        """See to it that the end is told, even if a worker blocks the loop and nothing can be cancelled."""
        self._is_hurried = self._is_hurried or command.at_once
        if self._is_hurried and self._supervisor is None:
            self._abandon()  # what is being opened has no workers yet
        elif self._guard is None and self._thread.is_alive():
            self._guard = Guard(
                self._call_soon, is_at_work=self._gets_on, patience=self._patience, give_up=self._abandon
            )

    def _call_soon(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(callback)

    def _gets_on(self) -> bool:
        block = None if self._watchdog is None else self._watchdog.blocked()
        return block is not None and block.blame.cause in _GETS_ON

    def _patience(self) -> float:
        return PATIENCE + (0.0 if self._is_hurried or self._supervisor is None else self._supervisor.grace)

    def _abandon(self) -> None:
        self._is_abandoned = True
        self._tell_end()
        self._has_ended.set()

    def _tell_end(self) -> None:
        """See to a `RunFinished` if the supervisor has not told it, and cannot in time."""
        with self._lock:
            supervisor = self._supervisor
            if self._has_told_end or (supervisor is not None and supervisor.is_finished):
                return
            self._has_told_end = True
        if supervisor is not None and supervisor.is_started:
            supervisor.abandon(None if self._watchdog is None else self._watchdog.blocked())
        else:
            self._listener.deliver((RunFinished(0, 0.0, {}, 0, 0.0, interrupted=True),), None)


def _alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.is_alive()]
