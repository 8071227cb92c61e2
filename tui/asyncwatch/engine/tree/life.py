"""One incarnation of a child as its supervisor sees it: it starts, is ready, and ends."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import msgspec

from asyncwatch.engine.calls import raised_by
from asyncwatch.engine.describe import describe_error
from asyncwatch.engine.scheduler import StopReason
from asyncwatch.engine.tree.errors import Ignore, Shutdown
from asyncwatch.events import WorkerState
from asyncwatch.policies.restart import Reason

if TYPE_CHECKING:
    from asyncwatch.engine.tree.child import Child
    from asyncwatch.engine.tree.company import TreeWorker
    from asyncwatch.engine.tree.family import Family
    from asyncwatch.engine.tree.node import Node


class Ending(msgspec.Struct, frozen=True):
    """How an incarnation ended."""

    reason: Reason
    error: BaseException | None = None

    @property
    def cause(self) -> str:
        """The reason in one line: the error if there is one."""
        return self.reason.value if self.error is None else ": ".join(filter(None, describe_error(self.error)))


class Life:
    """Base of the two kinds of incarnation. Its node waits for it, or is told by a message when it ends by itself."""

    __slots__ = ("_waiter", "child", "ending", "has_to_wait", "is_awaited", "is_ready", "node", "value")

    def __init__(self, node: Family, child: Child) -> None:
        self.node = node
        self.child = child
        self.is_ready = False
        self.value: object = None  # what the child said when it was ready
        self.ending: Ending | None = None
        self.has_to_wait = False  # it is not ready, and cannot go on by itself
        self.is_awaited = True  # the node itself waits for its start or its end
        self._waiter: asyncio.Future[None] | None = None

    def start(self) -> None:
        """Begin."""
        raise NotImplementedError

    def stop(self, reason: StopReason, patience: float | None = None) -> None:
        """Ask it to end within `patience` seconds, or as its spec says; nothing if it has ended."""
        raise NotImplementedError

    def hasten(self) -> None:
        """Give it no more time to end."""
        raise NotImplementedError

    async def started(self) -> None:
        """Return when it is ready, has ended, or has to wait for something itself.

        In that case its node is told by a message what comes of its start.
        """
        while not self.is_ready and self.ending is None and not self.has_to_wait:
            await self._wait()
        if self.ending is None:
            self.is_awaited = False

    async def over(self) -> Ending:
        """Return how it ended, when it has."""
        self.is_awaited = True
        while self.ending is None:
            await self._wait()
        return self.ending

    def became_ready(self, value: object) -> None:
        """Note that it has started."""
        if not self.is_ready and self.ending is None:
            self.is_ready = True
            self.value = value
            if self.is_awaited:
                self._wake()
            else:
                self.node.child_started(self)

    def waits(self) -> None:
        """Note that it can only wait before it is ready."""
        if not self.is_ready and self.ending is None:
            self.has_to_wait = True
            self._wake()

    def has_ended(self, ending: Ending) -> None:
        """Note how it ended; the first ending counts."""
        if self.ending is None:
            self.ending = ending
            if self.is_awaited:
                self._wake()
            else:
                self.node.child_ended(self)

    async def _wait(self) -> None:
        self._waiter = self.node.crew.report.loop.create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class WorkerLife(Life):
    """An incarnation of a worker: the owner of its `TreeWorker`."""

    __slots__ = ("announces_ready", "was_taken_for_ready", "worker")

    def __init__(self, node: Family, child: Child, *, announces_ready: bool) -> None:
        super().__init__(node, child)
        self.announces_ready = announces_ready
        self.was_taken_for_ready = False  # and has not said so itself
        self.worker: TreeWorker | None = None

    def start(self) -> None:
        """Launch the worker."""
        self.worker = self.node.crew.launch(self.child.run_spec, self)
        self.child.worker = self.worker

    def stop(self, reason: StopReason, patience: float | None = None) -> None:
        """Cancel the worker."""
        if self.worker is not None:
            self.is_awaited = True
            self.node.crew.dismiss(self.worker, reason, patience)

    def hasten(self) -> None:
        """Leave the worker behind unless it ends at once."""
        if self.worker is not None:
            self.node.crew.hasten(self.worker)

    def ran_first_step(self, task: asyncio.Task[Any]) -> None:
        """Take the worker for ready, unless it says so itself or has raised already."""
        if not self.is_ready and not self.announces_ready and not (task.done() and raised_by(task) is not None):
            self._take_for_ready()

    def poll_ended(self) -> None:
        """Take the poller for ready, also if its first poll has failed, unless it has to say so itself."""
        if self.announces_ready:
            self.waits()
        elif not self.is_ready:
            self._take_for_ready()

    def _take_for_ready(self) -> None:
        self.announce(None)
        self.was_taken_for_ready = True

    def announce(self, value: object) -> None:
        """Note that the worker is ready, and tell it."""
        if self.is_ready and self.was_taken_for_ready and self.ending is None and self.worker is not None:
            self.was_taken_for_ready = False
            self.node.crew.report.ready_too_late(self.worker)
        if not self.is_ready and self.ending is None and self.worker is not None:
            worker = self.worker
            self.became_ready(value)
            self.node.crew.report.worker_ready(worker, value)

    def ended(self, worker: TreeWorker) -> None:
        """Note how the worker ended."""
        assert worker.outcome is not None  # noqa: S101  it has settled
        error = worker.outcome.error
        if worker.outcome.state is WorkerState.UNRESPONSIVE:
            error = TimeoutError("it did not end when it was asked to")
        if worker.stop_reason:
            reason = Reason.SHUTDOWN
        elif isinstance(error, Ignore) and not self.is_ready:
            reason = Reason.IGNORED
        elif isinstance(error, Shutdown):
            reason = Reason.SHUTDOWN
        elif worker.outcome.state is WorkerState.SUCCEEDED:
            reason = Reason.NORMAL
        else:
            reason = Reason.ABNORMAL
        self.has_ended(Ending(reason, error))

    def was_replaced(self) -> None:
        """Forget the worker, so that it is freed at once: it holds this life, and its child holds it."""
        if self.child.worker is self.worker:
            self.child.worker = None
        self.worker = None

    def cancel(self) -> str:
        """Stop the worker for good, for a person, whatever else it is being stopped for."""
        if self.worker is not None and self.worker.state is WorkerState.CANCELLING:
            self.node.crew.insist(self.worker)
            if not self.child.is_unwanted:
                self.node.cancel_for_person(self.child)
            return ""
        return self.node.cancel_for_person(self.child)

    def restart(self) -> str:
        """Restart the worker, and whom the strategy takes along, for a person."""
        return self.node.restart_for_person(self.child)


class NodeLife(Life):
    """An incarnation of a supervisor below another."""

    __slots__ = ("_timer", "below")

    def __init__(self, node: Family, child: Child, below: Node) -> None:
        super().__init__(node, child)
        self.below = below
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Let the supervisor start its children."""
        self.below.start(self)

    def stop(self, reason: StopReason, patience: float | None = None) -> None:
        """Let the supervisor stop its children."""
        self.is_awaited = True
        self.below.stop(reason)
        seconds = self.child.spec.shutdown if patience is None else patience
        if seconds is not None and seconds < math.inf and self._timer is None and self.ending is None:
            self._timer = self.node.crew.report.loop.call_later(seconds, self.below.hasten)

    def hasten(self) -> None:
        """Leave behind all below that does not end at once."""
        self.below.hasten()

    def has_ended(self, ending: Ending) -> None:
        """Note how it ended."""
        if self._timer is not None:
            self._timer.cancel()
        super().has_ended(ending)
