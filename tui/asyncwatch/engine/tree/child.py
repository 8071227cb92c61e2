"""The children of a supervisor: the record of a child, and one incarnation of it, a worker's or a supervisor's."""

from __future__ import annotations

import asyncio
import enum
import math
from typing import Any, Literal, Protocol

import msgspec

from asyncwatch.engine.attempts import end_of
from asyncwatch.engine.current import current
from asyncwatch.engine.describe import describe_error
from asyncwatch.engine.spec import DEFAULT_RETRY, WorkerSpec
from asyncwatch.engine.tree.errors import Ignore, Shutdown
from asyncwatch.engine.tree.scheduling import ServiceScheduler
from asyncwatch.engine.tree.specs import ChildSpec
from asyncwatch.engine.worker import StopReason, Worker
from asyncwatch.events import WorkerState
from asyncwatch.events.tree import shown_path
from asyncwatch.policies.bad_luck import Luck
from asyncwatch.policies.restart import Reason, RestartWindow
from asyncwatch.policies.retry import RetryPolicy
from asyncwatch.text import error_line

ONE_ATTEMPT = RetryPolicy(max_attempts=1)

ChildKind = Literal["worker", "supervisor"]


class ChildStatus(enum.StrEnum):
    """The status of a child in its supervisor."""

    STARTING = "starting"
    """It is about to be ready: it runs up to that, or waits for its first attempt or for siblings that start before."""
    RUNNING = "running"
    RESTARTING = "restarting"
    """It ended, or did not start, and is to be started again. It waits for the end of its backoff, for the next try, or
    for its first attempt (the run is paused, its circuit is open, a rate limit holds it)."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    """It does not run; only a request or the restart of a sibling starts it (OTP's `undefined`)."""


COMING = frozenset({ChildStatus.STARTING, ChildStatus.RESTARTING})


class ChildInfo(msgspec.Struct, frozen=True):
    """Snapshot of one child."""

    name: str
    """Its name in its supervisor, or its key in its pool."""
    kind: ChildKind
    status: ChildStatus
    incarnation: int | None = None
    """The number of a worker's last incarnation, from 1; None if there was none, and for supervisors."""
    value: object = None
    """The value that it announced when it was ready (OTP's extra return value)."""


class ChildCounts(msgspec.Struct, frozen=True):
    """How many children a supervisor has."""

    specs: int
    """Specs; 1 for a pool."""
    active: int
    """Running children. One that has ended does not count, even before its supervisor acts on the end."""
    supervisors: int
    """Children that are supervisors, running or not."""
    workers: int
    """Children that are workers, running or not."""


async def ready(value: object = None) -> None:
    """Announce that the calling worker is ready; its supervisor then starts the next child.

    Only the first call of an incarnation counts. `value` becomes the child's `value` in what `start_child` and
    `restart_child` return. A worker with `announces_ready` may call this at any time. Any other worker is considered
    ready at its first wait; a later call is ignored, with a warning in its log. In a batch the call has no effect.

    Raises:
        RuntimeError: the caller runs in no worker.

    """
    worker = current.get()
    if worker is None:
        raise RuntimeError("ready() was called outside a worker")
    if isinstance(worker, Worker) and worker.owner is not None:
        worker.owner.announce(value)


class Ending(msgspec.Struct, frozen=True):
    """How an incarnation ended."""

    reason: Reason
    error: BaseException | None = None
    line: str = ""
    """The error in one line, if that was made before."""

    @property
    def cause(self) -> str:
        """The error in one line, or the reason if there is none."""
        if self.error is None:
            return self.reason.value
        return self.line or error_line(*describe_error(self.error))


_RETURNED = Ending(Reason.NORMAL)


class NodeOwner(Protocol):
    """Is notified of what becomes of a supervisor: its incarnation as a child, or the tree for the root."""

    def became_ready(self, value: object) -> None:
        """Note that all children have started."""

    def waits(self) -> None:
        """Note that a worker below has to wait before all children can be ready."""

    def has_ended(self, ending: Ending) -> None:
        """Note how the supervisor ended. None of its children runs any more."""


class ChildNode(Protocol):
    """The supervisor that a child is."""

    path: str
    incarnation: int

    def start(self, owner: NodeOwner) -> None:
        """Start the children."""

    def stop(self, reason: StopReason) -> None:
        """Request that it ends."""

    def hasten(self) -> None:
        """Give the children no more time to end."""

    def forget_added(self) -> None:
        """Forget the children that were added by request: the next incarnation does not have them."""

    def forget_workers(self) -> None:
        """Forget all workers below: the supervisor has ended and was removed."""


class Parent(Protocol):
    """The supervisor of a child, as the child's incarnations use it."""

    @property
    def scheduler(self) -> ServiceScheduler:
        """Runs the workers."""

    def child_started(self, progress: Progress) -> None:
        """Note that a child is ready which the supervisor does not await."""

    def child_ended(self, progress: Progress) -> None:
        """Note that a child ended which the supervisor does not await."""

    def cancel_for_person(self, child: Child) -> str:
        """Stop a child for good; return why that is refused, or ""."""

    def restart_for_person(self, child: Child) -> str:
        """Restart a child; return why that is refused, or ""."""


class Child:
    """One child of a supervisor across its incarnations. Only the supervisor writes it."""

    __slots__ = (
        "awaits_start",
        "below",
        "current",
        "failures",
        "is_added",
        "is_looping",
        "is_unwanted",
        "name",
        "owed_to",
        "path",
        "run_spec",
        "spec",
        "started_at",
        "status",
        "stays_down",
        "timer",
        "window",
        "worker",
    )

    def __init__(self, spec: ChildSpec, parent: str) -> None:
        self.spec = spec
        self.name = spec.name
        self.path = f"{parent}/{spec.name}"
        self.status = ChildStatus.STARTING
        self.current: Incarnation | None = None
        """The incarnation that starts, runs or stops."""
        self.worker: Worker | None = None
        """The last incarnation of a worker."""
        self.below: ChildNode | None = None
        """The last incarnation of a supervisor."""
        self.awaits_start: asyncio.Future[ChildInfo] | None = None
        """The reply to the request that started the child, while the child has to wait before it can be ready."""
        self.is_added = False
        """Whether it was added by request and has not been ready: it is kept only if it starts."""
        self.timer: asyncio.TimerHandle | None = None
        """The end of a restart's backoff."""
        self.owed_to: Child | None = None
        """The child whose restart stopped this one and has not started it again yet."""
        self.stays_down = False
        """Whether it was stopped by request while the restart of a sibling, which would start it, waits."""
        self.is_looping = False
        """Whether its last restart failed and is tried again."""
        self.is_unwanted = False
        """Whether a request to stop it is pending: no restart may start it."""
        self.failures = 0
        """Restarts since it was stable, if they have a backoff."""
        self.started_at: float | None = None
        """Loop time when it was ready; None once its end was counted, or if its restarts have no backoff."""
        self.window: RestartWindow | None = None
        """Its own restart limit."""
        if isinstance(spec, WorkerSpec):
            self.run_spec = run_spec(spec, self.path, parent)
            if spec.max_restarts is not None:
                self.window = RestartWindow(spec.max_restarts, spec.within)

    @property
    def kind(self) -> ChildKind:
        """Whether it is a worker or a supervisor."""
        return "worker" if isinstance(self.spec, WorkerSpec) else "supervisor"

    @property
    def latest(self) -> Worker | ChildNode | None:
        """Its last incarnation, if it ever had one."""
        return self.worker or self.below

    @property
    def is_alive(self) -> bool:
        """Whether it runs. One that has ended does not, even before its supervisor acts on the end."""
        return self.status is ChildStatus.RUNNING and self.current is not None and self.current.progress.ending is None

    @property
    def is_expected(self) -> bool:
        """Whether it runs, or will without a request."""
        return self.owed_to is not None or self.status is not ChildStatus.STOPPED

    @property
    def is_waiting(self) -> bool:
        """Whether it waits to be started: for the end of its backoff or for its first attempt."""
        return self.timer is not None or (self.status in COMING and self.current is not None)

    @property
    def info(self) -> ChildInfo:
        """A snapshot."""
        incarnation = None if self.worker is None else self.worker.incarnation
        value = None if self.current is None else self.current.progress.value
        return ChildInfo(self.name, self.kind, self.status, incarnation, value)

    def next_delay(self, now: float, luck: Luck) -> float:
        """Count a restart and return the seconds to wait before it."""
        backoff = self.spec.backoff
        if not backoff.base:
            return 0.0
        if self.started_at is not None and now - self.started_at >= backoff.stable_after:
            self.failures = 0
        self.started_at = None
        self.failures += 1
        # Of the incarnation too: the count of restarts begins again when the child was stable.
        incarnation = 0 if self.latest is None else self.latest.incarnation
        jitter = luck.draw("restart", self.path, incarnation, self.failures)
        return round(backoff.delay(self.failures, jitter), 6)

    def answer_start(self, error: BaseException | None = None) -> None:
        """Reply to the pending request that started the child, if there is one: how it is, or why it did not start."""
        reply, self.awaits_start = self.awaits_start, None
        if reply is None or reply.done():
            return
        if error is None:
            reply.set_result(self.info)
        else:
            reply.set_exception(error)
            reply.exception()  # no warning if the caller is gone

    def stop_timer(self) -> None:
        """Drop the restart that was to come."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def run_spec(spec: WorkerSpec, path: str, parent: str) -> WorkerSpec:
    """Return the spec as the scheduler runs it: named by its path below the root, grouped by its supervisor."""
    return msgspec.structs.replace(
        spec,
        name=shown_path(path),
        group=parent,
        retry=ONE_ATTEMPT if spec.is_service and spec.retry is DEFAULT_RETRY else spec.retry,
    )


class Progress:
    """How far one incarnation has come.

    The supervisor awaits its start or its end here. Otherwise it is notified: of the start if the incarnation had to
    wait before it could be ready, and of an end that no request caused.
    """

    __slots__ = ("_parent", "_waiter", "child", "ending", "has_to_wait", "is_awaited", "is_ready", "value")

    def __init__(self, parent: Parent, child: Child) -> None:
        self.child = child
        self.is_ready = False
        self.value: object = None
        """The value that the child announced when it was ready."""
        self.ending: Ending | None = None
        self.has_to_wait = False
        """Whether the child is not ready and cannot go on by itself."""
        self.is_awaited = True
        """Whether the supervisor awaits the start or the end, and is not notified."""
        self._parent = parent
        self._waiter: asyncio.Future[None] | None = None

    async def started(self) -> None:
        """Return when the child is ready, has ended, or has to wait; the supervisor is notified of all that follows."""
        while not self.is_ready and self.ending is None and not self.has_to_wait:
            await self._wait()
        if self.ending is None:
            self.is_awaited = False

    async def ended(self) -> Ending:
        """Return how the child ended, when it has."""
        self.is_awaited = True
        while self.ending is None:
            await self._wait()
        return self.ending

    def note_ready(self, value: object) -> None:
        """Note that the child is ready."""
        if not self.is_ready and self.ending is None:
            self.is_ready = True
            self.value = value
            if self.is_awaited:
                self._wake()
            else:
                self._parent.child_started(self)

    def note_wait(self) -> None:
        """Note that the child can only wait before it is ready."""
        if not self.is_ready and self.ending is None:
            self.has_to_wait = True
            self._wake()

    def note_end(self, ending: Ending) -> None:
        """Note how the child ended; the first ending counts."""
        if self.ending is None:
            self.ending = ending
            if self.is_awaited:
                self._wake()
            else:
                self._parent.child_ended(self)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class WorkerIncarnation:
    """One incarnation of a worker: the owner of its `Worker`."""

    __slots__ = ("_announces_ready", "_is_ready_by_default", "_parent", "_worker", "child", "progress")

    def __init__(self, parent: Parent, child: Child, spec: WorkerSpec) -> None:
        self.child = child
        self.progress = Progress(parent, child)
        self._parent = parent
        self._worker: Worker | None = None
        self._announces_ready = spec.announces_ready
        self._is_ready_by_default = False  # it was ready at its first wait, without an announcement

    @property
    def is_ready(self) -> bool:
        """Whether the worker has started."""
        return self.progress.is_ready

    def start(self) -> None:
        """Launch the worker."""
        self._worker = self.child.worker = self._parent.scheduler.launch(self.child.run_spec, self)

    def stop(self, reason: StopReason, patience: float | None = None) -> None:
        """Request that the worker ends within `patience` seconds, or as its spec says."""
        if self._worker is not None:
            self.progress.is_awaited = True
            self._parent.scheduler.stop_service(self._worker, reason, patience)

    def hasten(self) -> None:
        """Abandon the worker unless it ends at once."""
        if self._worker is not None:
            self._parent.scheduler.hasten(self._worker)

    def ran_first_step(self, task: asyncio.Task[Any]) -> None:
        """Consider the worker ready, unless it has to announce that or has raised already."""
        if not self.is_ready and not self._announces_ready and not (task.done() and end_of(task)[1] is not None):
            self._be_ready_by_default()

    def poll_ended(self) -> None:
        """Consider the poller ready, also if its first poll failed, unless it has to announce that."""
        if self._announces_ready:
            self.waits()
        elif not self.is_ready:
            self._be_ready_by_default()

    def waits(self) -> None:
        """Note that no attempt runs and that the worker has to wait for its next one."""
        self.progress.note_wait()

    def announce(self, value: object) -> None:
        """Note that the worker says it is ready, and report it."""
        worker = self._worker
        if worker is None or self.progress.ending is not None:
            return
        if not self.is_ready:
            self.progress.note_ready(value)
            self._parent.scheduler.reporter.worker_ready(worker, value)
        elif self._is_ready_by_default:
            self._is_ready_by_default = False
            self._parent.scheduler.reporter.ready_too_late(worker)

    def ended(self, worker: Worker) -> None:
        """Note how the worker ended."""
        outcome = worker.outcome
        assert outcome is not None  # noqa: S101  it has settled
        error = outcome.error
        if outcome.state is WorkerState.SUCCEEDED and not worker.stop_reason:
            self.progress.note_end(_RETURNED)
            return
        if outcome.state is WorkerState.UNRESPONSIVE:
            error = worker.overdue or TimeoutError("it did not stop in time")
        if worker.stop_reason:
            reason = Reason.SHUTDOWN
        elif isinstance(error, Ignore) and not self.is_ready:
            reason = Reason.IGNORED
        elif isinstance(error, Shutdown):
            reason = Reason.SHUTDOWN
        else:
            reason = Reason.ABNORMAL
        line = worker.error_line if error is outcome.error else ""
        self.progress.note_end(Ending(reason, error, line))

    def was_replaced(self) -> None:
        """Drop the worker: it refers to this incarnation, which would keep both until the garbage collector runs."""
        if self.child.worker is self._worker:
            self.child.worker = None
        self._worker = None

    def cancel(self) -> str:
        """Stop the worker for good for a person, whatever else it is being stopped for; return why not, or ""."""
        if self._worker is not None and self._worker.state is WorkerState.CANCELLING:
            self._parent.scheduler.cancel_again(self._worker)
            if not self.child.is_unwanted:
                self._parent.cancel_for_person(self.child)
            return ""
        return self._parent.cancel_for_person(self.child)

    def restart(self) -> str:
        """Restart the worker, and the siblings that the strategy restarts with it; return why not, or ""."""
        return self._parent.restart_for_person(self.child)

    def _be_ready_by_default(self) -> None:
        self.announce(None)
        self._is_ready_by_default = True


class NodeIncarnation:
    """One incarnation of a supervisor below another: the owner of its node."""

    __slots__ = ("_below", "_parent", "_timer", "child", "progress")

    def __init__(self, parent: Parent, child: Child, below: ChildNode) -> None:
        self.child = child
        self.progress = Progress(parent, child)
        self._parent = parent
        self._below = below
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Let the supervisor start its children."""
        self._below.start(self)

    def stop(self, reason: StopReason, patience: float | None = None) -> None:
        """Request that the supervisor ends within `patience` seconds, or as its spec says."""
        self.progress.is_awaited = True
        self._below.stop(reason)
        seconds = self.child.spec.shutdown if patience is None else patience
        if seconds is not None and seconds < math.inf and self._timer is None and self.progress.ending is None:
            self._timer = self._parent.scheduler.loop.call_later(seconds, self._below.hasten)

    def hasten(self) -> None:
        """Abandon all below that does not end at once."""
        self._below.hasten()

    def became_ready(self, value: object) -> None:
        """Note that all children of the supervisor have started."""
        self.progress.note_ready(value)

    def waits(self) -> None:
        """Note that a worker below has to wait before all children can be ready."""
        self.progress.note_wait()

    def has_ended(self, ending: Ending) -> None:
        """Note how the supervisor ended."""
        if self._timer is not None:
            self._timer.cancel()
        self.progress.note_end(ending)


Incarnation = WorkerIncarnation | NodeIncarnation
