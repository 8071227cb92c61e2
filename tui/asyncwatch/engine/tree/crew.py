"""The machine that runs the workers of a tree, each incarnation for an owner that is told of its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from asyncwatch.engine.admission import Answer
from asyncwatch.engine.attempts import outcome_of
from asyncwatch.engine.nested import NestedRetries
from asyncwatch.engine.retry_decision import Verdict
from asyncwatch.engine.scheduler import Machine, StopReason
from asyncwatch.engine.spec import WorkerSpec, WorkerSpecs
from asyncwatch.engine.tree.branches import FORGOTTEN, Branches
from asyncwatch.engine.tree.company import Company, Owner, TreeWorker
from asyncwatch.engine.tree.errors import DuplicateName, Ignore, Shutdown
from asyncwatch.engine.worker import Worker
from asyncwatch.events import WorkerEnded, WorkerState
from asyncwatch.events.tree import shown_path
from asyncwatch.policies.classify import is_exit

if TYPE_CHECKING:
    from asyncwatch.engine.tree.node import Node

REMEMBERED = 1_000
"""Names of workers that are gone whose incarnations are still known."""


class Crew(Machine):
    """The workers of one tree and of the batch beside it, and the running supervisors by path.

    The workers of a tree take no places: they all start when their turn comes.
    """

    workers: Company

    def __init__(
        self,
        make_node: Callable[[Any, str, str, Crew], Node],
        *,
        batch: Iterable[WorkerSpec | WorkerSpecs],
        grace: float,
        **settings: Any,
    ) -> None:
        super().__init__(batch, grace=grace, **settings)
        self.make_node = make_node
        self.grace = grace
        self.branches = Branches()
        self.is_batch_started = False
        self.has_places = bool(self.batch)
        self.workers = Company(self.batch)
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
    def progress(self) -> tuple[int, ...]:
        """Counts that change whenever a run that is being stopped gets closer to its end."""
        return (self.active, len(self.branches.running))

    def break_off(self) -> None:
        """Abandon every worker that has not settled, and end all supervisors."""
        is_first = not self.is_broken_off
        super().break_off()
        if is_first:
            for node in list(self.branches.running.values()):
                node.break_off()

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

    def jitter(self, path: str, restart: int) -> float:
        """Return the draw in [0, 1) for the wait before that restart of the child at `path`."""
        name = path.partition("/")[2]  # below the root
        return self._luck.draw("restart", path, self._incarnations.get(name, 0), restart)

    def launch(self, spec: WorkerSpec, owner: Owner) -> TreeWorker:
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
            try:
                event = self.report.stopped(worker, None, None)
            except Exception as fault:
                self._fail(worker, fault)
            else:
                self._settle(worker, event)

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
            now = self.workers.tree.get(worker.name, worker)
            reason = f"that was incarnation {worker.incarnation}, it is {now.incarnation} now"
            if now is worker:
                reason = FORGOTTEN
        self.report.command_refused("RestartWorker", worker.name, worker.incarnation, reason)

    def refuse_branch(self, command: str, node: Node, reason: str) -> None:
        """Tell why nothing was done about a supervisor: `reason`, or that the incarnation meant is not there."""
        reason = reason or self.branches.why_other(node.path, node.incarnation) or FORGOTTEN
        self.report.command_refused(command, "", 0, f"{shown_path(node.path)}: {reason}")

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
        """Stop a supervisor, or what is below the root or in a group; return why not, or an empty text."""
        found = self.branches.find(path, incarnation)
        if found is None:
            return super().cancel_branch(path, incarnation)
        if isinstance(found, str):
            return found
        node, child = found
        if child is not None:
            return node.cancel_for_person(child)
        node.cancel_all_for_person()
        return ""

    def restart_branch(self, path: str, incarnation: int) -> str:
        """Restart a supervisor, or what is below the root or in a group; return why not, or an empty text."""
        found = self.branches.find(path, incarnation)
        if found is None:
            return super().restart_branch(path, incarnation)
        if isinstance(found, str) or not self.accepts_restarts:
            return found if isinstance(found, str) else "the run is ending"
        node, child = found
        if child is not None:
            return node.restart_for_person(child)
        node.restart_all_for_person()
        return ""

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
