"""The port of a run: commands in from any thread, events out to any event loop, and figures for any thread."""

# ruff: noqa: PLC0415  most is imported by the thread of the run, after the first frame
from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from asyncwatch.commands import Command, Statistics, StopRun, WatchStack, WorkerStack
from asyncwatch.engine.command_queue import FEW, CommandQueue
from asyncwatch.engine.outbox import Listener
from asyncwatch.events import Batch

if TYPE_CHECKING:
    from asyncwatch.engine.run_control import RunControl
    from asyncwatch.engine.watchdog import Watchdog

STACK_EVERY = 0.25
"""Seconds between two stacks of the worker that is watched."""


class _Then(Command, frozen=True):
    """Calls back, with the number of events so far, once the commands before it are carried out."""

    callback: Callable[[int], object]


class RunPort:
    """Connects a `Run` or `Supervisor` on one event loop with those who watch and steer it from other threads.

    It can be used before the run exists: `attach` connects it. Implements `commands.Controller`.

    Args:
        on_stop: called on the run's loop after a `StopRun` was carried out.

    """

    def __init__(self, on_stop: Callable[[], object] = lambda: None) -> None:
        self.listener = Listener()
        self._on_stop = on_stop
        self._commands = CommandQueue(self._execute, self._hold_slots)
        self._control: RunControl | None = None
        self._watchdog: Watchdog | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._lock = threading.Lock()
        self._tasks_highest = 0
        self._watched_worker: str | None = None
        self._stack: WorkerStack | None = None
        self._stack_timer: asyncio.TimerHandle | None = None

    # -- on the loop of the run

    def attach(self, control: RunControl) -> None:
        """Connect the run, on its event loop. Commands that came early are carried out."""
        control.add_listener(self.listener)
        self._thread = threading.get_ident()
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._control = control
        self._commands.attach()

    def watch_loop(self, watchdog: Watchdog) -> None:
        """Take what is known of the event loop from `watchdog`."""
        self._watchdog = watchdog

    def note_tasks(self) -> None:
        """Note how many tasks of workers there are, for their highest number."""
        if self._control is not None:
            self._tasks_highest = max(self._tasks_highest, self._control.tasks)

    def close(self) -> None:
        """Drop all later commands and records: the loop is about to be closed."""
        self._commands.close()
        if self._stack_timer is not None:
            self._stack_timer.cancel()
            self._stack_timer = None
        with self._lock:
            self._loop = None

    # -- from any thread

    def send(self, *commands: Command) -> None:
        """Pass commands on, in order. After `close` they are dropped.

        More than `FEW` at a time are all about workers.
        """
        for command in commands if len(commands) <= FEW else ():
            if isinstance(command, WatchStack):  # heeded also while the loop is blocked
                self._watched_worker = command.worker
        self._commands.put(commands)

    def send_then(self, commands: Sequence[Command], callback: Callable[[int], object]) -> None:
        """Pass commands on, and call `callback` on the loop of `events` when they are carried out.

        Its argument is the number of events so far. They are in the queue of `events`, or were taken from it.
        """
        self.send(*commands)
        self.send(_Then(callback))

    def events(self) -> asyncio.Queue[Batch]:
        """Return the queue of all event batches, from the first one on, for the running event loop; once."""
        return self.listener.attach()

    def statistics(self) -> Statistics:
        """Return the latest figures of the run."""
        control, watchdog = self._control, self._watchdog
        if control is None or watchdog is None:
            return Statistics()
        import time

        from asyncwatch.engine.watchdog import block_event, blocking_stack

        known, lags, block, stack = control.statistics(), watchdog.lags(), watchdog.blocked(), self._stack
        if block is not None and block.blame.who.worker and block.blame.who.worker == self._watched_worker:
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
            blocked=None if block is None else block_event(-1, control.now, time.monotonic(), block),
            stack=stack,
        )

    def record_log(self, worker: str | None, level: str, source: str, message: str) -> None:
        """Make a log record or a printed line an event of the run."""
        control = self._control
        if control is None:
            return
        if threading.get_ident() == self._thread:
            control.record_log(worker, level, source, message)
            return
        with self._lock:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(control.record_log, worker, level, source, message)

    # -- commands, on the loop of the run

    def _execute(self, command: Command) -> None:
        assert self._control is not None  # noqa: S101  the command queue is attached after it is set
        if isinstance(command, WatchStack):
            self._take_stack()
            return
        if isinstance(command, _Then):
            self._control.deliver_events()
            self.listener.call(partial(command.callback, self._control.statistics().events))
            return
        try:
            self._control.carry_out(command)
        finally:
            if self._watchdog is not None:
                self._watchdog.wake()
            if isinstance(command, StopRun):
                self._on_stop()

    def _hold_slots(self, is_held: bool) -> None:
        assert self._control is not None  # noqa: S101  as above
        self._control.hold_slots(is_held)

    def _take_stack(self) -> None:
        """Keep the stack of the worker that is watched, now and again and again."""
        if self._stack_timer is not None:
            self._stack_timer.cancel()
            self._stack_timer = None
        control, name = self._control, self._watched_worker
        self._stack = None if control is None or name is None else control.stack_of(name)
        if self._stack is not None:
            self._stack_timer = asyncio.get_running_loop().call_later(STACK_EVERY, self._take_stack)
