"""The scheduler of a run with a tree: `ServiceScheduler` for the tree, and the batch beside it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from asyncwatch.engine.admission import Answer
from asyncwatch.engine.attempts import outcome_of
from asyncwatch.engine.nested import NestedRetries
from asyncwatch.engine.registry import Roster
from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.retry_decision import Verdict
from asyncwatch.engine.scheduler import Machine
from asyncwatch.engine.spec import Outcome, WorkerSpec, WorkerSpecs
from asyncwatch.engine.tree.errors import DuplicateName, Ignore, Shutdown
from asyncwatch.engine.tree.supervisors import FORGOTTEN
from asyncwatch.engine.tree.tree import Tree
from asyncwatch.engine.worker import StopReason, Worker, WorkerOwner
from asyncwatch.events import WorkerEnded, WorkerState
from asyncwatch.policies.classify import is_exit

REMEMBERED = 1_000
"""Names of forgotten workers whose incarnations are still known."""


class TreeWorker(Worker, eq=False, kw_only=True):
    """One incarnation of a worker of a tree.

    Each is an object of its own, so an abandoned one never touches the incarnation that replaced it.
    """

    takes_place: ClassVar[bool] = False
    owner: WorkerOwner
    ended_between: WorkerEnded | None = None
    """What was reported when it was abandoned, if it has ended since and the next incarnation is still to come."""

    @property
    def pays_for_retries(self) -> bool:
        """Always: its supervisor restarts it without a request."""
        return True


class Services:
    """The workers of a tree by name, and the batch beside it."""

    def __init__(self, batch: Roster) -> None:
        self.tree: dict[str, TreeWorker] = {}
        self._batch = batch

    def __len__(self) -> int:
        return len(self._batch) + len(self.tree)

    def get(self, name: str, /) -> Worker | None:
        """Return the worker of that name, as it is now; None if there is none."""
        return self.tree.get(name) or self._batch.get(name)

    def unsettled(self, group: str | None = None) -> Iterator[Worker]:
        """Yield the workers (of a group) that have not settled, the batch first."""
        yield from self._batch.unsettled(group)
        for worker in list(self.tree.values()):
            if not worker.state.is_settled and (group is None or worker.spec.group == group):
                yield worker

    def under_way(self) -> list[Worker]:
        """Return the workers that have not settled, without those of the batch that never had their turn."""
        return [*self._batch.under_way(), *(worker for worker in self.tree.values() if not worker.state.is_settled)]

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the latest outcome of each worker that has ended, the batch first."""
        yield from self._batch.outcomes()
        yield from (worker.outcome for worker in self.tree.values() if worker.outcome is not None)

    def states(self) -> dict[str, int]:
        """Return how many workers are in each state, without those that none is in."""
        counts = Counter(self._batch.states())
        counts.update(worker.state.value for worker in list(self.tree.values()))
        return dict(counts)


class Crew(Machine):
    """Runs the workers of one tree, which need no slots, and of the batch beside it."""

    workers: Services
    tree: Tree

    def __init__(
        self,
        *,
        batch: Iterable[WorkerSpec | WorkerSpecs],
        grace: float,
        **settings: Any,
    ) -> None:
        super().__init__(batch, grace=grace, **settings)
        self.grace = grace
        self.is_batch_started = False
        self.has_places = bool(self.batch)
        self.workers = Services(self.batch)
        self._services = deque[Worker]()
        self._nested = NestedRetries()
        self._incarnations: dict[str, int] = {}  # the last one of each name that is kept
        self._past: dict[str, int] = {}  # and of those that were forgotten last

    def begin(self, name: str, workers: int, wall_clock: float, specs: Iterable[WorkerSpec]) -> None:
        """Start the run on the running loop, with no worker of the tree yet but with `workers` to come.

        `specs` are theirs, and those of which pools make their children.
        """
        self.active = len(self.batch)
        workers += self.active
        facts = (self._luck.seed, self.concurrency, None, wall_clock, self._live_settings(specs))
        self.report.run_started(name, workers, "serve", *facts)

    @property
    def reporter(self) -> Reporter:
        """Emits the events of the run."""
        return self.report

    @property
    def progress(self) -> tuple[int, ...]:
        """Counts that change whenever a run that is being stopped gets closer to its end."""
        return (self.active, self.tree.running)

    def break_off(self) -> None:
        """Abandon every worker that has not settled, and end all supervisors."""
        super().break_off()
        self.tree.break_off()

    def start_batch(self) -> None:
        """Start as many of the batch as there are places."""
        self.is_batch_started = True
        self._start_batch()

    @property
    def serving(self) -> int:
        """How many attempts of the tree are in flight."""
        return len(self.tasks) - len(self.detached) - self.in_flight

    @property
    def queued(self) -> int:
        """How many stand in line: for a place, or, while the run is paused, without."""
        return super().queued + len(self._services)

    def restart_jitter(self, path: str, restart: int) -> float:
        """Return the draw in [0, 1) for the wait before that restart of the child at `path`."""
        name = path.partition("/")[2]  # below the root
        return self._luck.draw("restart", path, self._incarnations.get(name, 0), restart)

    def launch(self, spec: WorkerSpec, owner: WorkerOwner) -> TreeWorker:
        """Start a new incarnation of the worker `spec.name`, which has to be unique in the whole tree.

        If starting raises, the incarnation has failed and `owner` knows when this returns. Its target was not called.

        Raises:
            DuplicateName: another worker of that name runs.

        """
        name = spec.name
        old = self.workers.get(name)
        if old is not None:
            if not isinstance(old, TreeWorker):
                raise DuplicateName(f"a worker of the batch beside the tree is named {name!r}")
            if old.state is WorkerState.RESTARTING:
                self.active -= 1
            elif not old.state.is_settled:
                raise DuplicateName(f"two workers of the tree are named {name!r}")
        past = self._past.pop(name, 0) or self._incarnations.get(name, 0)
        worker = TreeWorker(name, spec.args, spec, incarnation=past + 1, owner=owner)
        if old is not None:
            old.owner.was_replaced()
        self._incarnations[name] = worker.incarnation
        self.workers.tree[name] = worker
        self.active += 1
        try:
            self._announce(worker, is_restart=past > 0)
            if old is not None and past and old.ended_between is not None:
                self.report.ended_at_last(old.ended_between)
            worker.is_ready = True
            self._services.append(worker)
            self._fill_places()
        except BaseException as fault:
            if not worker.state.is_settled:
                self._start_failed(worker, fault)
            return worker
        if worker.task is None:
            owner.waits()
        return worker

    def _announce(self, worker: TreeWorker, *, is_restart: bool) -> None:
        if is_restart:
            self.report.worker_restarted(worker)
            return
        self.report.workers_queued(worker.spec, (worker.name,))
        nested = self._nested.find(worker.spec)
        if nested is not None:
            self.report.nested_retries_found(*nested)

    def hold_restart(self, worker: Worker, delay: float, cause: str) -> None:
        """Note that a settled incarnation will be followed by another in `delay` seconds."""
        if worker.state.is_settled:
            self.active += 1
        worker.state = WorkerState.RESTARTING
        self.report.restart_scheduled(worker, delay, cause)

    def drop_restart(self, worker: Worker) -> None:
        """Note that no other incarnation will follow a held one after all."""
        if worker.state is WorkerState.RESTARTING:
            worker.stop_reason = "supervisor"
            try:
                event = self.report.stopped(worker, None, None)
            except Exception as fault:
                self._fail(worker, fault)
            else:
                self._settle(worker, event)

    def stop_service(self, worker: Worker, reason: StopReason, patience: float | None = None) -> None:
        """Ask an incarnation to end within `patience` seconds, or as its spec says; nothing if it has or was asked."""
        self._reap(worker)
        if not worker.state.is_settled and not worker.stop_reason:
            worker.patience = patience
            self._stop(worker, reason)

    def cancel_again(self, worker: Worker) -> None:
        """Raise `CancelledError` once more in a worker that is cancelling."""
        self.insist(worker)

    def hasten(self, worker: Worker) -> None:
        """Give an incarnation no more time to end."""
        if worker.state.is_settled:
            return
        worker.patience = 0.0
        if not worker.stop_reason:
            self._stop(worker, "supervisor")
        elif worker.task is not None:
            self._cancel_task(worker)

    def refuse_restart(self, worker: Worker, reason: str = "") -> None:
        """Tell why there is no restart: `reason`, or that the incarnation which was meant is not there any more."""
        if not reason:
            now = self.workers.tree.get(worker.name, worker)
            reason = f"that was incarnation {worker.incarnation}, it is {now.incarnation} now"
            if now is worker:
                reason = FORGOTTEN
        self.report.command_refused("RestartWorker", worker.name, worker.incarnation, reason)

    def why_unknown(self, name: str) -> str:
        """Return why there is no worker of that name."""
        return FORGOTTEN if name in self._past else super().why_unknown(name)

    def forget(self, name: str) -> None:
        """Drop a settled worker of which nothing more is to be known.

        Its incarnations go on being counted if one of its name comes soon, so that a command for the old one that is
        on its way cannot reach that.
        """
        worker = self.workers.tree.get(name)
        if worker is not None and worker.state.is_settled:
            del self.workers.tree[name]
            self._past[name] = self._incarnations.pop(name)
            if len(self._past) > REMEMBERED:
                del self._past[next(iter(self._past))]

    def cancel(self, worker: Worker) -> str:
        """Ask one worker to stop for good, as a person; return why that is not possible, or an empty text."""
        return worker.owner.cancel() if isinstance(worker, TreeWorker) else super().cancel(worker)

    def restart(self, worker: Worker) -> str:
        """Give a worker a new incarnation, as a person; return why that is not possible, or an empty text."""
        if not isinstance(worker, TreeWorker):
            return super().restart(worker)
        return worker.owner.restart() if self.accepts_restarts else "the run is ending"

    def cancel_branch(self, path: str, incarnation: int) -> str:
        """Stop a supervisor, all children of the root, or a group of the batch; return why that is refused, or ""."""
        reason = self.tree.cancel_branch(path, incarnation)
        return super().cancel_branch(path, incarnation) if reason is None else reason

    def restart_branch(self, path: str, incarnation: int) -> str:
        """Restart a supervisor, all children of the root, or a group of the batch; return why not, or ""."""
        if not self.accepts_restarts:
            return "the run is ending"
        reason = self.tree.restart_branch(path, incarnation)
        return super().restart_branch(path, incarnation) if reason is None else reason

    def stop_active(self, reason: StopReason) -> None:
        """Ask the workers to stop; those of the tree as a person would, as their supervisors restart them otherwise."""
        services = [worker for worker in self.workers.under_way() if isinstance(worker, TreeWorker)]
        super().stop_active(reason)
        for worker in services:
            if not worker.state.is_settled and not worker.stop_reason:
                self.cancel(worker)

    def _patience(self, worker: Worker) -> float:
        patience = worker.patience if isinstance(worker, TreeWorker) else None
        return super()._patience(worker) if patience is None else patience

    def _line_of(self, worker: Worker) -> deque[Worker]:
        return self._services if isinstance(worker, TreeWorker) else self._again

    def _has_line(self) -> bool:
        return bool(self._services) or super()._has_line()

    def _fill_places(self) -> None:
        """Let those of the tree start first, which take no place."""
        services = self._services
        while services and not self.is_paused:
            worker = services.popleft()
            answer = self._ask(worker) if worker.is_ready and self.is_gated else Answer.STARTS
            if answer is Answer.HOLDS_THE_LINE:
                services.appendleft(worker)
                break
            is_starting, worker.is_ready = worker.is_ready and answer is Answer.STARTS, False
            if is_starting:
                try:
                    self._start_attempt(worker)
                except BaseException as fault:  # one worker's fault must not stop the others
                    self._start_failed(worker, fault)
        super()._fill_places()

    def _start_attempt(self, worker: Worker) -> None:
        super()._start_attempt(worker)
        if not isinstance(worker, TreeWorker):
            return
        self.report.outbox.end_linger()
        if worker.task is not None and not worker.owner.is_ready:
            # The loop runs what is scheduled in order: the task's first step, then this.
            self.report.loop.call_soon(worker.owner.ran_first_step, worker.task)

    def _attempt_succeeded(self, worker: Worker, result: object) -> None:
        every = worker.spec.every
        if every is None:
            super()._attempt_succeeded(worker, result)
            return
        self.report.poll_finished(worker, result, round(self.report.now() - worker.started_at, 6), every)
        worker.failed_polls = 0
        self._schedule_poll(worker, every)

    def _settle_failed(self, worker: Worker, error: BaseException, *, transient: bool, refusal: str = "") -> None:
        """Settle a worker that gets no further attempt after `error`.

        A poller goes on: only its poll has failed, unless `error` is a request to exit.
        """
        every = worker.spec.every
        if every is None or is_exit(error):
            super()._settle_failed(worker, error, transient=transient, refusal=refusal)
            return
        worker.failed_polls += 1
        self.report.poll_failed(worker, error, every)
        self._schedule_poll(worker, every)

    def _schedule_poll(self, worker: Worker, delay: float) -> None:
        """Let the next poll start in `delay` seconds, as any attempt does: when it is admitted, at number 1."""
        worker.state = WorkerState.BACKING_OFF
        worker.turns += worker.attempt
        worker.attempt = worker.cancels = 0
        worker.error = worker.backoff = worker.deadline_at = None
        worker.timer = self.report.loop.call_later(delay, self._backed_off, worker)
        if isinstance(worker, TreeWorker):
            worker.owner.poll_ended()

    def _attempt_failed(self, worker: Worker, error: BaseException) -> None:
        if not isinstance(worker, TreeWorker):
            super()._attempt_failed(worker, error)
        elif isinstance(error, Shutdown) or (isinstance(error, Ignore) and not worker.owner.is_ready):
            if self.is_gated:
                self.admission.attempt_ended(worker, is_stopped=True)
            self._settle(worker, self.report.stopped(worker, None, error), error=error)
        else:
            super()._attempt_failed(worker, error)
            if worker.state is WorkerState.BACKING_OFF:
                worker.owner.waits()

    def _ended_at_last(self, worker: Worker, told: WorkerEnded) -> None:
        if isinstance(worker, TreeWorker) and self.workers.tree.get(worker.name) is worker:
            # Reported now, it would be the end of the worker, which is to be restarted.
            worker.ended_between = told
        else:
            super()._ended_at_last(worker, told)

    def _is_exhausted(self, worker: Worker, verdict: Verdict) -> bool:
        """Return whether there were retries: that a service has just one attempt says nothing of its error."""
        is_single = isinstance(worker, TreeWorker) and verdict.max_attempts <= 1
        return super()._is_exhausted(worker, verdict) and not is_single

    def _keep(self, worker: Worker, event: WorkerEnded, result: object, error: BaseException | None) -> None:
        if isinstance(worker, TreeWorker):
            worker.outcome = outcome_of(event, result, error)
        else:
            super()._keep(worker, event, result, error)

    def _settle(
        self, worker: Worker, event: WorkerEnded, *, result: object = None, error: BaseException | None = None
    ) -> None:
        try:
            super()._settle(worker, event, result=result, error=error)
        finally:
            if isinstance(worker, TreeWorker):
                # It is not to be shown as ended while it only is between two incarnations.
                self.report.outbox.linger()
                worker.owner.ended(worker)

    def _note_broken(self, worker: Worker) -> None:
        if not isinstance(worker, TreeWorker):
            super()._note_broken(worker)
