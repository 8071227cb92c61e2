"""What a `Supervisor` tells those who watch its loop or one of its workers: whose turn it is, where a worker waits."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from asyncwatch.commands import WorkerStack
from asyncwatch.engine.current import CurrentWorker, current
from asyncwatch.engine.describe import await_stack
from asyncwatch.engine.scheduler import Machine
from asyncwatch.engine.watchdog import NOBODY, Block, Who, is_of_supervisor, stack_frames


class Watching:
    """Reads the machine; nothing here costs anything unless somebody asks."""

    _machine: Machine

    def whose_turn(self, loop: asyncio.AbstractEventLoop) -> Who:
        """Return whose attempt runs on `loop` at this moment, from any thread; `NOBODY` if it is none that is known.

        A task that a worker has started counts as the worker from Python 3.12 on, which tells the context of a task.
        """
        task = asyncio.current_task(loop)
        if task is None:
            return NOBODY
        worker: CurrentWorker | None = self._machine.tasks.get(task)
        if worker is None and sys.version_info >= (3, 12):
            worker = task.get_context().get(current)
        return NOBODY if worker is None else Who(worker.name, worker.incarnation, worker.attempt)

    def call_before_end(self, callback: Callable[[], object]) -> None:
        """Call that, which must not raise, just before the end of the run is told."""
        self._machine.report.before_end = callback

    def record_block(self, block: Block) -> None:
        """Tell the listeners of a block of the event loop that has ended."""
        if self._machine.report.is_started and not self._machine.is_finished:
            self._machine.report.loop_blocked(block)

    @property
    def now(self) -> float:
        """Seconds since the run started, 0 before."""
        return self._machine.report.now() if self._machine.report.is_started else 0.0

    def stack_of(self, name: str) -> WorkerStack | None:
        """Return where the worker `name` waits: what its coroutine awaits, outermost first. None if there is no such.

        Call it on the event loop, from another task than the worker's own.
        """
        worker = self._machine.workers.get(name)
        if worker is None:
            return None
        task = worker.task or worker.left_behind
        stack = [] if task is None or task.done() else await_stack(task.get_coro())
        frames = stack_frames(tuple(frame for frame in stack if not is_of_supervisor(frame.module)))
        return WorkerStack(name, worker.incarnation, worker.attempt, frames)


def blocking_stack(block: Block) -> WorkerStack:
    """Return the stack of the worker that blocks the loop, as it was seen from outside."""
    who = block.blame.who
    frames = stack_frames(block.blame.frames)
    return WorkerStack(who.worker, who.incarnation, who.attempt, frames, is_blocking=True)
