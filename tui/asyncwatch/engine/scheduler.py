"""The workers of a run: they are started, counted, asked to stop, restarted, and told to try again or give up."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from asyncwatch.engine.attempts import Attempts
from asyncwatch.engine.event_loop import note_left_behind
from asyncwatch.engine.nested import nested_retries
from asyncwatch.engine.registry import Members, Roster
from asyncwatch.engine.reporter import logger
from asyncwatch.engine.retry_decision import GIVEN_UP, HALTED
from asyncwatch.engine.safe_log import log_safely
from asyncwatch.engine.slices import Slices
from asyncwatch.engine.spec import WorkerSpec, WorkerSpecs
from asyncwatch.engine.watchdog import Block
from asyncwatch.engine.worker import Worker
from asyncwatch.events import WorkerEnded, WorkerState
from asyncwatch.policies.halt import Halt

StopReason = Literal["person", "run", "timeout", "restart", "supervisor", "halt"]
_HELD_BACK = frozenset({WorkerState.BACKING_OFF, WorkerState.WAITING})
_NOBODY_WAITS = "nobody waits for another attempt"


class Machine(Attempts):
    """The workers of one run. All methods belong to the thread of its loop.

    `settings` are those of `Attempts`.

    Raises:
        ValueError: two specs have the same name.

    """

    has_places = True
    """Whether attempts take one of `concurrency` places."""

    def __init__(
        self, specs: Iterable[WorkerSpec | WorkerSpecs], *, concurrency: int, halt: Halt | None = None, **settings: Any
    ) -> None:
        super().__init__(concurrency=concurrency, **settings)
        self.batch = Roster(specs)
        """The workers that are work which ends, not services."""
        self.workers: Members = self.batch
        self.concurrency = concurrency
        self.is_paused = False
        """Whether no new attempts start. Change it, or `concurrency`, by `change_places`."""
        self.is_interrupted = False
        self.is_broken_off = False
        self._is_hurried = False
        self._slices: deque[Slices] = deque()
        self._is_line_held = False
        self._halt = halt
        self._broken: set[int] | None = None if halt is None else set()

    @property
    def queued(self) -> int:
        """How many stand in line for a place; those that were cancelled there count until their turn comes."""
        return len(self._again) + len(self._first) + self.batch.fresh + len(self._ready)

    @property
    def serving(self) -> int:
        """How many attempts are in flight that take no place."""
        return 0

    def start(self, name: str, runner: str, timeout: float | None, wall_clock: float) -> None:
        """Start the run on the running loop: announce all workers, then start as many as there are places."""
        self.active = len(self.workers)
        seed, concurrency = self._luck.seed, self.concurrency
        self.report.run_started(
            name, self.active, runner, seed, concurrency, timeout, wall_clock, self._live_settings()
        )
        self.announce_batch()
        self._start_batch()

    def _start_batch(self) -> None:
        """Start as many of the batch as there are places."""
        self._fresh = self.batch.start_next()
        self._fill_places()

    def _has_fresh(self) -> bool:
        return self._fresh is not None and self.batch.fresh > 0

    def announce_batch(self) -> None:
        """Tell who is in the fleet and waits for a place."""
        for spec, names in self.batch.groups():
            self.report.workers_queued(spec, names)
        for target, library in nested_retries(self.batch.specs()):
            self.report.nested_retries_found(target, library)

    def _live_settings(self, others: Iterable[WorkerSpec] = ()) -> dict[str, Any]:
        """Return the settings that can be changed, as `RunStarted` tells them; `others` are not of the batch."""
        rate, per_key = self.admission.limit(), self.admission.rate_per_key
        thresholds = {spec.bad_luck.threshold for spec in itertools.chain(self.batch.specs(), others)}
        return {
            "rate": None if rate is None else str(rate),
            "rate_per_key": None if per_key is None else str(per_key),
            "bad_luck": thresholds.pop() if len(thresholds) == 1 else None,
            "paused": self.is_paused,
        }

    def finish(self) -> None:
        """Tell the listeners that the run is over. Every worker must have settled."""
        try:
            if self.report.before_end is not None:
                self.report.before_end()
        finally:
            self.is_finished = True
            try:
                self.admission.close()
            finally:
                self.report.run_finished(self.workers.states(), self._attempts, interrupted=self.is_interrupted)

    def abandon(self, block: Block | None) -> None:
        """Do what `finish` does from another thread, while `block` keeps the loop."""
        self.is_finished = True
        self.report.abandon(self.workers.states(), self._attempts, block)

    @property
    def progress(self) -> tuple[int, ...]:
        """Counts that change whenever a run that is being stopped gets closer to its end."""
        return (self.active,)

    def longest_patience(self) -> float:
        """Return the longest grace period of the running workers, in seconds."""
        running = (worker for task, worker in self.tasks.items() if task not in self.detached)
        limits = (worker.spec.shutdown for worker in running)
        return max((self._grace if limit is None else limit for limit in limits), default=0.0)

    def break_off(self) -> None:
        """Abandon every worker that has not settled, because the run was stopped and makes no progress.

        Only a defect in the supervisor leads here. The defect may strike again, but no caller waits for a worker then.
        """
        if self.is_broken_off:
            return
        self.is_broken_off = True
        log_safely(logger, logging.ERROR, "the run does not end by itself and is broken off")
        for worker in list(self.workers.unsettled()):
            worker.stop_timer()
            task, worker.task = worker.task, None
            if task is not None:
                self.detached[task] = None
                note_left_behind(task)
                task.cancel()
            with contextlib.suppress(Exception):
                self._fail(worker, TimeoutError("the run was broken off"))
        self.in_flight = self.active = 0
        self._wake_waiting()

    async def wait_settled(self) -> None:
        """Return when no worker has anything left to do."""
        if self.active:
            settled = self.report.loop.create_future()
            self._when_settled.append(settled)
            await settled

    def stop_active(self, reason: StopReason) -> None:
        """Ask every worker that has not settled to stop."""
        self.stop_batch(reason)

    def stop_batch(self, reason: StopReason, group: str | None = None) -> None:
        """Ask every worker of the batch (of a group) that has not settled to stop.

        All that run are asked at once, as their grace period begins; very many others settle in the next turns of the
        loop, and until then nobody takes a place.
        """

        def stop(worker: Worker) -> None:
            self._reap(worker)
            is_stopping = worker.stop_reason and not worker.is_restarting
            if not is_stopping and not worker.state.is_settled:
                self._stop(worker, reason)

        self._end_workers(self.batch.unsettled(group), stop, group)

    def hold_line(self, is_held: bool) -> None:
        """Let nobody take a place, or let them again."""
        self._is_line_held = is_held
        self._stand_still_or_go_on()

    def _end_workers(
        self, workers: Iterator[Worker], end: Callable[[Worker], object], group: str | None = None
    ) -> None:
        """End workers of the batch (of a group): the first of them and all that run now, then the others."""
        slices = Slices(workers, end, holds_line=True)
        if self._go_through(slices):
            for worker in self.batch.running():
                if group is None or worker.spec.group == group:
                    end(worker)

    def _go_through(self, slices: Slices) -> bool:
        """Begin with a slice; return whether there are more, for the next turns of the loop."""
        if not slices.go_on():
            self._fill_places()
            slices.then()
            return False
        self._slices.append(slices)
        self._stand_still_or_go_on()
        if len(self._slices) == 1:
            self.report.loop.call_soon(self._next_slice)
        return True

    def _next_slice(self) -> None:
        if self.is_finished:
            return
        if not self._slices[0].go_on():
            slices = self._slices.popleft()
            self._stand_still_or_go_on()
            slices.then()
        if self._slices:
            self.report.loop.call_soon(self._next_slice)

    def _stand_still_or_go_on(self) -> None:
        self._stands_still = self._is_line_held or any(slices.holds_line for slices in self._slices)
        if not self.batch.fresh:
            self._fresh = None  # it would go through all that were ended without having had their turn
        self._fill_places()

    def hasten_batch(self) -> None:
        """Give the batch no more time to end: who does not at once is left behind."""
        self._is_hurried = True
        for worker in self.batch.running():
            self._cancel_task(worker)

    def cancel(self, worker: Worker) -> str:
        """Ask one worker to stop; return why that is not possible, or an empty text.

        Asking again while it is cancelling raises `CancelledError` in it again, which can end a clean-up that hangs.
        """
        self._reap(worker)
        if worker.state.is_settled:
            return f"it has ended: {worker.state}"
        self._stop(worker, "person")
        return ""

    def restart(self, worker: Worker) -> str:
        """Give a worker a new incarnation, once it has stopped; return why that is not possible, or an empty text."""
        if not self.accepts_restarts:
            return "the run is ending"
        self._reap(worker)
        match worker.state:
            case WorkerState.QUEUED:
                return "it has not started yet"
            case WorkerState.CANCELLING:
                return f"it is being {'restarted' if worker.is_restarting else 'cancelled'} already"
            case WorkerState.RUNNING:
                self._stop(worker, "restart")
                worker.is_restarting = True
            case WorkerState.BACKING_OFF | WorkerState.WAITING:
                self._refund(worker)
                self._leave_line(worker)
                self._begin_incarnation(worker)
            case _:
                self.active += 1
                self._begin_incarnation(worker)
        return ""

    def cancel_branch(self, path: str, incarnation: int) -> str:  # noqa: ARG002  groups have none
        """Cancel the workers of a group that have not ended; return why that is not possible, or an empty text."""
        if next(self.batch.unsettled(path), None) is None:
            return "all its workers have ended" if self.batch.has_group(path) else "there is no such group"
        self.stop_batch("person", path)
        return ""

    def restart_branch(self, path: str, incarnation: int) -> str:  # noqa: ARG002  as above
        """Restart the workers of a group that can be restarted; return why none can, or an empty text."""
        if not self.batch.has_group(path):
            return "there is no such group"
        if not self.accepts_restarts:
            return "the run is ending"
        reasons: dict[str, None] = {}
        begun = self.batch.begun(path)
        if self._go_through(Slices(begun, lambda worker: reasons.setdefault(self.restart(worker)))) or "" in reasons:
            return ""
        return next(iter(reasons), "it has not started yet")

    def why_unknown(self, name: str) -> str:  # noqa: ARG002  a batch forgets nobody
        """Return why there is no worker of that name."""
        return "there is no such worker"

    def _reap(self, worker: Worker) -> None:
        """Take note of an attempt that has ended in this very turn of the loop: what comes now comes after its end."""
        if worker.task is not None and worker.task.done():
            self._attempt_ended(worker.task)

    def change_places(self, concurrency: int, *, is_paused: bool) -> None:
        """Let at most `concurrency` attempts run from now on, and start none while paused. Running ones go on."""
        self.concurrency, self.is_paused = concurrency, is_paused
        self._places = 0 if is_paused else concurrency
        self._fill_places()

    def retry_now(self, worker: Worker) -> str:
        """Let a worker that waits for an attempt make it now; return why not, or an empty text.

        It is the next to get a place and to pass a limit of the rate, and may pass a circuit that is not closed, as a
        probe.
        """
        self._reap(worker)
        if worker.state not in _HELD_BACK and not worker.is_ready:
            return f"it does not wait for another attempt: {worker.state}"
        self._hurry(worker, is_probe=True)
        self._fill_places()
        self._tell_in_line(worker)
        return ""

    def give_up(self, worker: Worker) -> str:
        """Let a worker that backs off or is held make no further attempt; return why not, or an empty text."""
        self._reap(worker)
        if worker.state not in _HELD_BACK:
            return f"it does not wait for another attempt: {worker.state}"
        if worker.is_between_polls:
            return "it waits for its next poll, and has none to give up"
        if worker.error is None:
            return self.cancel(worker)
        self._refuse_retry(worker, worker.error, GIVEN_UP)
        return ""

    def retry_all_now(self) -> str:
        """Let all that back off or wait for a rate be the next to try again, in order; return why not, or nothing.

        Circuits go on holding theirs.
        """
        waiting = self._held_back()
        hurried = [w for w in waiting if not w.is_ready and self.admission.held_by(w) != "circuit"]

        def hurry(worker: Worker) -> None:
            if worker.state in _HELD_BACK and not worker.is_ready:
                self._hurry(worker, is_probe=False)

        def tell() -> None:
            self._go_through(Slices(iter(hurried), self._tell_in_line))

        self._go_through(Slices(reversed(hurried), hurry, holds_line=True, then=tell))
        return "" if waiting else _NOBODY_WAITS

    def _hurry(self, worker: Worker, *, is_probe: bool) -> None:
        """Put a worker that waits for an attempt before all others."""
        if self.admission.held_by(worker) == "rate":
            self.admission.put_first(worker)
            return
        if worker.is_ready:
            for line in (self._line_of(worker), self._first, self._ready):
                if worker in line:
                    line.remove(worker)
                    break
            else:
                self._recall(worker)  # from among those that never had their turn
        else:
            self._end_wait(worker)
        if worker.is_ready:
            self._line_of(worker).appendleft(worker)
            if self.is_gated and is_probe:
                self.admission.hurry(worker)

    def give_up_all(self) -> str:
        """Let all that back off or are held make no further attempt; return why not, or an empty text.

        Pollers that wait for their next poll have no attempt to give up: they go on.
        """
        waiting = [worker for worker in self._held_back() if not worker.is_between_polls]
        self._go_through(Slices(iter(waiting), self.give_up))
        return "" if waiting else _NOBODY_WAITS

    def _patience(self, worker: Worker) -> float:
        return 0.0 if self._is_hurried else super()._patience(worker)

    def insist(self, worker: Worker) -> None:
        """Raise `CancelledError` once more in a worker that is cancelling; it gets no more time by that."""
        assert worker.task is not None  # noqa: S101  it is cancelling
        worker.cancels += 1
        worker.task.cancel()

    def _held_back(self) -> list[Worker]:
        return [worker for worker in self.workers.under_way() if worker.state in _HELD_BACK]

    def _stop(self, worker: Worker, reason: StopReason) -> None:
        worker.stop_reason = reason
        worker.is_restarting = False
        if worker.task is not None:
            is_first = worker.state is not WorkerState.CANCELLING
            worker.state = WorkerState.CANCELLING
            try:
                self.report.cancel_requested(worker)
            except Exception:  # the worker must stop nevertheless, and so must the others
                text = "a request to cancel could not be reported"
                log_safely(logger, logging.ERROR, text, worker=worker.name, has_traceback=True)
            if is_first:
                self._cancel_task(worker)
            else:
                self.insist(worker)
            return
        try:
            self._refund(worker)
            self._leave_line(worker)
            self._settle(worker, self.report.stopped(worker, None, None))
        except BaseException as fault:
            worker.stop_timer()
            worker.is_ready = False
            self._fail_if_lost(worker, fault)

    def _keep(self, worker: Worker, event: WorkerEnded, result: object, error: BaseException | None) -> None:
        self.batch.settle(worker, event, result, error)

    def _recall(self, worker: Worker) -> None:
        """Note that another incarnation of a worker of the batch is under way."""
        self.batch.begin(worker)

    def _note_broken(self, worker: Worker) -> None:
        """Halt the batch, once, if too many of its workers have failed."""
        halt, broken = self._halt, self._broken
        if halt is None or broken is None:
            return
        broken.add(worker.index)
        if len(broken) < halt.limit(len(self.batch)):
            return
        self._halt = None
        going_on = [other for other in self.batch.under_way() if not other.stop_reason]
        is_now = halt.mode == "now"
        if not is_now:
            self._judge.halted.update(other for other in going_on if other.task is not None)
        ending = sum(is_now or other.task is None for other in going_on) + self.batch.fresh
        self.report.run_halted(len(broken), halt.mode, ending)
        unsettled = (other for other in self.batch.unsettled() if not other.stop_reason)
        self._end_workers(unsettled, self._halt_now if is_now else self._halt_waiting)

    def _halt_now(self, worker: Worker) -> None:
        self._reap(worker)
        if not worker.stop_reason and not worker.state.is_settled:
            self._stop(worker, "halt")

    def _halt_waiting(self, worker: Worker) -> None:
        if worker.task is not None:
            return
        if worker.error is None:
            self._stop(worker, "halt")
        else:
            self._refuse_retry(worker, worker.error, HALTED)

    def _begin_incarnation(self, worker: Worker) -> None:
        if self._broken is not None:
            self._broken.discard(worker.index)
            self._judge.halted.discard(worker)
        for slices in self._slices:
            slices.spared.add(worker.index)  # whoever asks for it now asks after what is done to the others
        self._recall(worker)
        super()._begin_incarnation(worker)
