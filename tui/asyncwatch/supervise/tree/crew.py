"""The workers of a tree: the machine that runs attempts, with an owner for each incarnation that is told of its end.

An incarnation is a `TreeWorker` of its own. What an old one that was left behind does later therefore never touches
the one that took its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from asyncwatch.events import WorkerEnded, WorkerState
from asyncwatch.supervise.machine import Machine, StopReason
from asyncwatch.supervise.nested import NestedRetries
from asyncwatch.supervise.spec import WorkerSpec
from asyncwatch.supervise.tree.errors import DuplicateName, Ignore, Shutdown
from asyncwatch.supervise.worker import Worker

if TYPE_CHECKING:
    from asyncwatch.supervise.tree.node import Node

REMEMBERED = 1_000
"""Names of workers that are gone whose incarnations are still known."""
NO_LIMIT = 2**62
"""Places: workers of a tree hold none, they all start when their turn comes."""


class Owner(Protocol):
    """Who is told of an incarnation of a worker, and asked about it."""

    @property
    def is_ready(self) -> bool:
        """Whether the worker has started."""

    def ran_first_step(self, task: asyncio.Task[Any]) -> None:
        """Note that an attempt has run up to its first wait, or has ended before any."""

    def waits(self) -> None:
        """Note that the worker has no attempt running, and has to wait for its next."""

    def announce(self, value: object) -> None:
        """Note that the worker says it is ready."""

    def ended(self, worker: TreeWorker) -> None:
        """Note that it has settled; `worker.outcome` says how."""

    def cancel(self) -> str:
        """Stop it for a person; return why that is not possible, or an empty text."""

    def restart(self) -> str:
        """Restart it for a person; return why that is not possible, or an empty text."""


class TreeWorker(Worker):
    """One incarnation of a worker of a tree."""

    __slots__ = ("owner", "patience")

    def __init__(self, spec: WorkerSpec, incarnation: int, owner: Owner) -> None:
        super().__init__(spec)
        self.incarnation = incarnation
        self.owner = owner
        self.patience: float | None = None  # seconds that it may take to end, if not what its spec says


class Crew(Machine):
    """The workers of one tree, and its running supervisors by path."""

    has_places = False

    def __init__(
        self, make_node: Callable[[Any, str, str, Crew], Node], *, concurrency: int, grace: float, **settings: Any
    ) -> None:
        super().__init__((), concurrency=NO_LIMIT, grace=grace, **settings)
        self.make_node = make_node
        self.grace = grace
        self.nodes: dict[str, Node] = {}
        self._told_concurrency = concurrency
        self._nested = NestedRetries()
        self._incarnations: dict[str, int] = {}  # the last one of each name that is kept
        self._past: dict[str, int] = {}  # and of those that were forgotten last

    def begin(self, name: str, workers: int, wall_clock: float) -> None:
        """Start the run on the running loop, with no worker yet but with `workers` to come."""
        self.report.run_started(name, workers, "serve", self._luck.seed, self._told_concurrency, None, wall_clock)

    def jitter(self, path: str, restart: int) -> float:
        """Return the draw in [0, 1) for the wait before that restart of the child at `path`."""
        name = path.partition("/")[2]  # below the root
        return self._luck.draw("restart", path, self._incarnations.get(name, 0), restart)

    def launch(self, spec: WorkerSpec, owner: Owner) -> TreeWorker:
        """Start a new incarnation of the worker `spec.name`, which has to be unique in the whole tree.

        Raises:
            DuplicateName: another worker of that name runs.

        """
        name = spec.name
        old = self.workers.get(name)
        if old is not None:
            if old.state is WorkerState.RESTARTING:
                self.active -= 1
            elif not old.state.is_settled:
                raise DuplicateName(f"two workers of the tree are named {name!r}")
        past = self._past.pop(name, 0) or self._incarnations.get(name, 0)
        worker = TreeWorker(spec, past + 1, owner)
        self._incarnations[name] = worker.incarnation
        self.workers[name] = worker
        self.active += 1
        if past:
            self.report.worker_restarted(worker)
        else:
            self.report.workers_queued((worker,))
            nested = self._nested.find(spec)
            if nested is not None:
                self.report.nested_retries_found(*nested)
        worker.is_ready = True
        self._ready.append(worker)
        self._fill_places()
        if worker.task is None:
            owner.waits()
        return worker

    def hold(self, worker: TreeWorker, delay: float, cause: str) -> None:
        """Note that a settled incarnation will be followed by another in `delay` seconds."""
        if worker.state.is_settled:
            self.active += 1
        worker.state = WorkerState.RESTARTING
        self.report.restart_scheduled(worker, delay, cause)

    def release(self, worker: TreeWorker) -> None:
        """Note that no other incarnation will follow a held one after all."""
        if worker.state is WorkerState.RESTARTING:
            worker.stop_reason = "supervisor"
            self._settle(worker, self.report.stopped(worker, None, None))

    def dismiss(self, worker: TreeWorker, reason: StopReason, patience: float | None = None) -> None:
        """Ask an incarnation to end within `patience` seconds, or as its spec says; nothing if it has or was asked."""
        self._reap(worker)
        if not worker.state.is_settled and not worker.stop_reason:
            worker.patience = patience
            self._stop(worker, reason)

    def hasten(self, worker: TreeWorker) -> None:
        """Give an incarnation no more time to end."""
        if worker.state.is_settled:
            return
        worker.patience = 0.0
        if not worker.stop_reason:
            self._stop(worker, "supervisor")
        elif worker.task is not None:
            self._cancel_task(worker)

    def refuse_restart(self, worker: TreeWorker, reason: str = "") -> None:
        """Tell why there is no restart: `reason`, or that the incarnation which was meant is not there any more."""
        if not reason:
            now = self.workers.get(worker.name, worker)
            reason = f"that was incarnation {worker.incarnation}, it is {now.incarnation} now"
            if now is worker:
                reason = "it has ended for good"
        self.report.command_refused("RestartWorker", worker.name, worker.incarnation, reason)

    def forget(self, name: str) -> None:
        """Drop a settled worker of which nothing more is to be known.

        Its incarnations go on being counted if one of its name comes soon, so that a command for the old one that is
        on its way cannot reach that.
        """
        worker = self.workers.get(name)
        if worker is not None and worker.state.is_settled:
            del self.workers[name]
            self._past[name] = self._incarnations.pop(name)
            if len(self._past) > REMEMBERED:
                del self._past[next(iter(self._past))]

    def cancel(self, worker: Worker) -> str:
        """Ask one worker to stop for good, as a person; return why that is not possible, or an empty text."""
        assert isinstance(worker, TreeWorker)  # noqa: S101  a crew has no others
        return worker.owner.cancel()

    def restart(self, worker: Worker) -> str:
        """Give a worker a new incarnation, as a person; return why that is not possible, or an empty text."""
        assert isinstance(worker, TreeWorker)  # noqa: S101  a crew has no others
        return worker.owner.restart() if self.accepts_restarts else "the run is ending"

    def stop_active(
        self,
        reason: StopReason,  # noqa: ARG002  each is stopped as a person would
        among: Iterable[Worker] | None = None,
    ) -> None:
        """Ask the workers to stop, each through its supervisor, which would restart them otherwise."""
        for worker in list(self.workers.values() if among is None else among):
            if not worker.state.is_settled and not worker.stop_reason:
                self.cancel(worker)

    def _patience(self, worker: Worker) -> float:
        patience = worker.patience if isinstance(worker, TreeWorker) else None
        return super()._patience(worker) if patience is None else patience

    def _start_attempt(self, worker: Worker) -> None:
        super()._start_attempt(worker)
        assert isinstance(worker, TreeWorker)  # noqa: S101  a crew has no others
        if worker.task is not None and not worker.owner.is_ready:
            # The loop runs what is scheduled in order: the task's first step, then this.
            self.report.loop.call_soon(worker.owner.ran_first_step, worker.task)

    def _attempt_succeeded(self, worker: Worker, result: object) -> None:
        every = worker.spec.every
        if every is None:
            super()._attempt_succeeded(worker, result)
            return
        # A call of a poller is over. The next one starts as any attempt does: when it is let in, at number 1.
        self.report.poll_finished(worker, result, round(self.report.now() - worker.started_at, 6), every)
        worker.state = WorkerState.BACKING_OFF
        worker.turns += worker.attempt
        worker.attempt = 0
        worker.deadline_at = None
        worker.timer = self.report.loop.call_later(every, self._backed_off, worker)

    def _attempt_failed(self, worker: Worker, error: BaseException) -> None:
        assert isinstance(worker, TreeWorker)  # noqa: S101  a crew has no others
        if isinstance(error, Shutdown) or (isinstance(error, Ignore) and not worker.owner.is_ready):
            if self.is_gated:
                self.admission.attempt_ended(worker, is_stopped=True)
            self._settle(worker, self.report.stopped(worker, None, error), error=error)
        else:
            super()._attempt_failed(worker, error)
            if worker.state is WorkerState.BACKING_OFF:
                worker.owner.waits()

    def _settle(
        self, worker: Worker, event: WorkerEnded, *, result: object = None, error: BaseException | None = None
    ) -> None:
        super()._settle(worker, event, result=result, error=error)
        assert isinstance(worker, TreeWorker)  # noqa: S101  a crew has no others
        worker.owner.ended(worker)
