r"""How a worker gets from one state to the next: the only module that creates or cancels the tasks of workers.

A worker is a small state machine that callbacks of the event loop move on; no coroutine of ours lives as long as it:

    queued -> running -> succeeded | failed | exhausted
                 |  \--> backing off -> running
                 |  \--> cancelling  -> cancelled | timed out | unresponsive

A task exists for an attempt that is in flight and for nothing else: one that waits for a place, backs off, or is held
by `admission` (waiting) holds neither a task nor a place. How an attempt ended is decided when its task is done, in
this order:

1. it was asked to stop: the worker is cancelled (or timed out), whatever the attempt returned or raised meanwhile;
2. it returned: the worker has succeeded;
3. it ended in any error but a request to exit after its time was over: a transient `AttemptTimeout`, or
   `DeadlineExceeded`, with what else it raised as the cause;
4. it raised, or somebody else cancelled it: `verdict` says whether and when it is tried again, and a
   `CancelledError` never is.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Any

from asyncwatch.engine.calls import Calls, raised_by
from asyncwatch.engine.describe import describe_error, describe_stack, stuck_at
from asyncwatch.engine.event_loop import note_left_behind
from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.retry_decision import PAST_DEADLINE, Judge, Verdict
from asyncwatch.engine.spec import Outcome
from asyncwatch.engine.worker import Worker
from asyncwatch.events import WorkerEnded, WorkerFailed, WorkerState
from asyncwatch.policies.budget import RetryBudget
from asyncwatch.policies.circuit import CircuitPolicy
from asyncwatch.policies.classify import AttemptTimeout, DeadlineExceeded, ErrorClass, is_never_retried
from asyncwatch.policies.rate import RateLimit
from asyncwatch.text import error_line

# Before Python 3.12 each lookup of an enum's member costs 50 ns.
_RUNNING = WorkerState.RUNNING
_BROKEN = frozenset({WorkerState.FAILED, WorkerState.EXHAUSTED})
TURNS_AT_ONCE = 16
"""Turns of the loop, and no time, that a worker gets to end at the end of its grace period, or if it has none: a few
awaits deep. A loop that something kept for all of that period has given it none before."""


def _past(worker: Worker) -> str:
    """Return what is said of a worker whose deadline is over."""
    return f"not done within {worker.spec.deadline:g} s in all"


def _late(overdue: TimeoutError, error: BaseException) -> BaseException:
    """Return what an attempt failed with whose time was over before it raised `error`."""
    if isinstance(error, asyncio.CancelledError):
        return overdue
    if not isinstance(error, Exception):  # a request to exit
        return error
    overdue.__cause__ = error
    return overdue


def outcome_of(event: WorkerEnded, result: object, error: BaseException | None) -> Outcome:
    """Return the outcome that an event tells of, with the very objects."""
    return Outcome(
        name=event.worker,
        state=event.state,
        result=result,
        error=error,
        incarnation=event.incarnation,
        attempts=event.attempts,
        elapsed=event.elapsed,
    )


class Attempts(Calls):
    """Attempts in their places, and what becomes of workers by them. All methods belong to the thread of the loop."""

    def __init__(
        self,
        *,
        concurrency: int,
        seed: int,
        grace: float,
        report: Reporter,
        retry_budget: RetryBudget | None = None,
        circuit: CircuitPolicy | None = None,
        rate: RateLimit | None = None,
        rate_per_key: RateLimit | None = None,
    ) -> None:
        super().__init__(concurrency, seed=seed, report=report, circuit=circuit, rate=rate, rate_per_key=rate_per_key)
        self.detached: dict[asyncio.Task[Any], WorkerEnded | None] = {}
        """Abandoned tasks that have not ended yet, with the event that reported it; None if reporting failed."""
        self.accepts_restarts = True
        self.is_finished = False
        self.bad_luck_threshold: float | None = None
        """In place of the workers' own, if it is given."""
        self._grace = grace
        self._judge = Judge(self._luck, retry_budget)
        self.tokens = self._judge.tokens
        self._attempts = 0
        self._when_settled: list[asyncio.Future[None]] = []

    def _leave_line(self, worker: Worker) -> None:
        """Make a worker that has no task wait for nothing any more."""
        worker.is_ready = False
        worker.stop_timer()
        if self._told_held:
            self._told_held.pop(worker, None)
        if self.is_gated:
            self.admission.dismiss(worker)

    def _start_attempt(self, worker: Worker) -> None:
        """Begin the worker's next attempt, in a new task and a copy of the context that the run started in."""
        spec = worker.spec
        luck = spec.bad_luck
        if self._told_held:
            self._told_held.pop(worker, None)
        worker.state = _RUNNING
        worker.attempt = attempt = worker.attempt + 1
        worker.started_at = started_at = self.report.now()
        number = worker.turns + attempt
        if attempt == 1:
            if not worker.turns:
                worker.first_started_at = started_at
            else:
                worker.poll_started_at = started_at
        else:
            worker.cancels = 0
            worker.error = None
            worker.stop_timer()
        worker.bad_luck = draw = self._luck.draw("luck", worker.name, worker.incarnation, number)
        threshold = self.bad_luck_threshold
        worker.is_struck = draw > (luck.threshold if threshold is None else threshold)
        if luck.latency is not None:
            draw = self._luck.draw("latency", worker.name, worker.incarnation, number)
            worker.latency = luck.added_latency(draw)
        if attempt == 1 and spec.deadline is not None:
            worker.deadline_at = started_at + spec.deadline
        self._attempts += 1
        self.report.attempt_started(worker)
        context = self.report.context
        # Made here and not by the loop's task factory: an eager one would run the target inside this very call.
        task = asyncio.Task(self._attempt(worker), loop=self.report.loop, name=worker.name, context=context.copy())
        # The caller may be another worker, which restarts this one: neither sees the other's context variables.
        task.add_done_callback(self._attempt_ended, context=context.copy())
        worker.task = task
        self.tasks[task] = worker
        self.in_flight += worker.takes_place
        if spec.attempt_timeout is not None or worker.deadline_at is not None:
            self._time_attempt(worker)

    def _start_failed(self, worker: Worker, fault: BaseException) -> None:
        """Undo an attempt whose start raised `fault`, and let the worker fail."""
        task, worker.task = worker.task, None
        if task is not None:
            del self.tasks[task]
            self.in_flight -= worker.takes_place
            task.cancel()  # before its first step: the target is not called
        with contextlib.suppress(Exception):
            self._leave_line(worker)
        if worker.takes_place:
            # In the next loop iteration: the runner may not listen to outcomes yet.
            worker.state = WorkerState.WAITING
            worker.timer = self.report.loop.call_soon(self._fail, worker, fault)
        else:
            self._fail(worker, fault)

    def _fail(self, worker: Worker, fault: BaseException) -> None:
        """Settle a worker that cannot go on because of an error outside its target, even if reporting fails too."""
        worker.timer = None
        worker.is_restarting = False
        if self.is_gated:
            with contextlib.suppress(Exception):
                self.admission.attempt_ended(worker, is_stopped=True)
        try:
            if worker.stop_reason:
                event = self.report.stopped(worker, None, fault)
            else:
                event = self.report.failed(worker, fault, transient=False)
        except Exception:  # it is the reporter that fails
            facts = worker.incarnation, worker.attempt, 0.0, *describe_error(fault)
            event = WorkerFailed(-1, self.report.now(), worker.name, *facts)
        self._settle(worker, event, error=fault)

    def _fail_judged(self, worker: Worker, fault: BaseException) -> None:
        """Let `fault` be the error of an attempt that has ended and could not be judged."""
        with contextlib.suppress(Exception):  # it is the reporter that fails
            if worker.state is WorkerState.RUNNING:
                if self.is_gated:
                    self.admission.attempt_ended(worker, is_stopped=True)
                self._settle_failed(worker, fault, transient=False)
        self._fail_if_lost(worker, fault)

    def _fail_if_lost(self, worker: Worker, fault: BaseException) -> None:
        """Settle a worker that `fault` left without a task, a timer or a place in line."""
        is_moving = worker.task is not None or worker.timer is not None or worker.is_ready
        if not is_moving and not worker.state.is_settled and not (self.is_gated and self.admission.is_held(worker)):
            self._fail(worker, fault)

    def _time_attempt(self, worker: Worker) -> None:
        """End the attempt by its timeout or by the worker's deadline, whichever comes first."""
        seconds = worker.spec.attempt_timeout
        left = None if worker.deadline_at is None else worker.deadline_at - worker.started_at
        error: TimeoutError
        if left is not None and (seconds is None or left <= seconds):
            seconds, error = left, DeadlineExceeded(_past(worker))
        else:
            assert seconds is not None  # noqa: S101  there is one of the two
            error = AttemptTimeout(f"no result within {seconds:g} s")
        worker.overdue = None  # that of an attempt before it
        worker.timer = self.report.loop.call_later(seconds, self._attempt_timed_out, worker, error)

    def _attempt_timed_out(self, worker: Worker, error: TimeoutError) -> None:
        if worker.task is None or worker.task.done():  # it ended by itself, in this turn of the loop
            return
        worker.overdue = error
        self._cancel_task(worker)

    def _cancel_task(self, worker: Worker) -> None:
        """Raise `CancelledError` in the worker's task, and give it the grace period to end."""
        assert worker.task is not None  # noqa: S101  it is running or cancelling
        worker.cancels += 1
        worker.task.cancel()
        worker.stop_timer()
        patience = self._patience(worker)
        if patience == 0:
            worker.timer = self.report.loop.call_soon(self._count_down, worker, TURNS_AT_ONCE)
        elif patience < math.inf:
            worker.timer = self.report.loop.call_later(patience, self._count_down, worker, TURNS_AT_ONCE)

    def _patience(self, worker: Worker) -> float:
        """Return the seconds that the worker may take to end."""
        shutdown = worker.spec.shutdown
        return self._grace if shutdown is None else shutdown

    def _count_down(self, worker: Worker, turns: int) -> None:
        if turns:
            worker.timer = self.report.loop.call_soon(self._count_down, worker, turns - 1)
        else:
            self._leave_behind(worker)

    def _leave_behind(self, worker: Worker) -> None:
        """Give the worker's place to another. Its task stays in `tasks`, so that it is not collected half-way."""
        assert worker.task is not None  # noqa: S101  the timer ends with the task
        stack = stuck_at(worker.task.get_coro())
        task = worker.left_behind = worker.task
        worker.task = worker.timer = None
        self.in_flight -= worker.takes_place
        self.detached[task] = None
        note_left_behind(task)
        try:
            if worker.is_restarting:
                worker.is_restarting = False
                reason = "it ignores its cancellation"
                self.report.command_refused("RestartWorker", worker.name, worker.incarnation, reason)
            if self.is_gated:
                error_class = None if worker.overdue is None else ErrorClass.TRANSIENT
                self.admission.attempt_ended(worker, error_class=error_class, is_stopped=error_class is None)
            self.detached[task] = event = self.report.unresponsive(worker, stack)
            self._settle(worker, event)
        except BaseException as fault:
            self._fail_if_lost(worker, fault)
        self._fill_places()

    def _attempt_ended(self, task: asyncio.Task[Any]) -> None:
        worker = self.tasks.pop(task, None)
        if worker is None:  # its end was seen before this callback came
            return
        error = raised_by(task)
        result = task.result() if error is None else None
        if worker.task is not task:
            told = self.detached.pop(task, None)
            is_latest = worker.left_behind is task
            if is_latest:
                worker.left_behind = None  # whose context holds the worker
            if self.is_finished or told is None:
                return
            if is_latest and worker.state is WorkerState.UNRESPONSIVE:
                self._ended_late(worker, result, error)
            else:
                self._ended_at_last(worker, told)
            return
        self._ended(worker, result, error)
        self._fill_places()

    def _ended(self, worker: Worker, result: object, error: BaseException | None) -> None:
        """Decide what comes of an attempt that has ended, in time."""
        worker.task = None
        worker.stop_timer()
        self.in_flight -= worker.takes_place
        try:
            if self.is_gated and (worker.stop_reason or error is None):
                self.admission.attempt_ended(worker, is_stopped=bool(worker.stop_reason))
            if worker.stop_reason:
                self._settle_stopped(worker, result, error)
            elif error is None:
                tokens = self.tokens
                if tokens is not None and not tokens.is_full:
                    tokens.give_back()
                self._attempt_succeeded(worker, result)
            else:
                self._attempt_failed(worker, error if worker.overdue is None else _late(worker.overdue, error))
        except BaseException as fault:  # an error or a policy of the user's that raises when it is looked at
            self._fail_judged(worker, fault)

    def _attempt_succeeded(self, worker: Worker, result: object) -> None:
        self._settle(worker, self.report.succeeded(worker, result), result=result)

    def _attempt_failed(self, worker: Worker, error: BaseException) -> None:
        verdict = self._judge.judge(worker, error, self.report.now())
        stack = "" if worker.is_struck else describe_stack(error, skip=Attempts._attempt.__code__)
        self.report.attempt_failed(worker, error, stack, verdict)
        if self.is_gated:
            # A deadline that was over while the target was waiting says as much of the server as a time-out does.
            is_late = error is worker.overdue and isinstance(error, DeadlineExceeded)
            error_class = ErrorClass.TRANSIENT if is_late else verdict.error_class
            says_nothing = is_never_retried(error) and not is_late
            self.admission.attempt_ended(worker, error_class=error_class, is_stopped=says_nothing)
        if verdict.delay is not None:
            worker.state = WorkerState.BACKING_OFF
            worker.error = error
            self.report.retry_scheduled(worker, error, verdict, verdict.delay)
            worker.timer = self.report.loop.call_later(verdict.delay, self._backed_off, worker)
        elif verdict.refusal:
            self._refuse_retry(worker, error, verdict.refusal)
        else:
            self._settle_failed(worker, error, transient=self._is_exhausted(worker, verdict))

    def _is_exhausted(self, worker: Worker, verdict: Verdict) -> bool:  # noqa: ARG002  it depends in a tree
        """Return whether it is for want of attempts that a worker makes no other one."""
        return verdict.is_retriable

    def _refund(self, worker: Worker) -> None:
        """Put back what was paid for the retry of a worker that will not make it."""
        error, worker.error = worker.error, None
        if self.tokens is not None and error is not None and worker.pays_for_retries:
            self.tokens.refund(error)

    def _refuse_retry(self, worker: Worker, error: BaseException, reason: str) -> None:
        """Settle a worker that gets no further attempt, whatever its policy has."""
        if reason == PAST_DEADLINE and not isinstance(error, DeadlineExceeded):
            last, error = error, DeadlineExceeded(f"{_past(worker)}, after {error_line(*describe_error(error))}")
            error.__cause__ = last
        self._refund(worker)
        self._leave_line(worker)
        self.report.retry_refused(worker, reason)
        self._settle_failed(worker, error, transient=True, refusal=reason)

    def _backed_off(self, worker: Worker) -> None:
        """Let the worker stand in line before new work: what was begun is finished first."""
        try:
            self._end_wait(worker)
        except BaseException as fault:
            self._fail_if_lost(worker, fault)
        if worker.is_ready:
            self._line_of(worker).append(worker)
            self._fill_places()
            self._tell_in_line(worker)

    def _end_wait(self, worker: Worker) -> None:
        """Make a worker ready that backs off or is held, up to its deadline; or give it up, if that has passed."""
        self._leave_line(worker)
        if worker.deadline_at is not None:
            left = worker.deadline_at - self.report.now()
            if left <= 0:
                self._deadline_passed(worker)
                return
            worker.timer = self.report.loop.call_later(left, self._deadline_passed, worker)
        worker.is_ready = True

    def _deadline_passed(self, worker: Worker) -> None:
        """Give up a worker that still waits for its next attempt."""
        assert worker.error is not None  # noqa: S101  it backed off from something
        self._refuse_retry(worker, worker.error, PAST_DEADLINE)

    def _ended_late(self, worker: Worker, result: object, error: BaseException | None) -> None:
        """Tell how a worker that was left behind ended after all. No other incarnation took its place."""
        if worker.stop_reason:
            error = None if isinstance(error, asyncio.CancelledError) else error
            event = self.report.stopped(worker, result, error)
        elif error is None:
            event = self.report.succeeded(worker, result)
        else:
            error = error if worker.overdue is None else _late(worker.overdue, error)
            event = self.report.failed(worker, error, transient=False)
        self.active += 1
        self._settle(worker, event, result=result, error=error)

    def _settle_failed(self, worker: Worker, error: BaseException, *, transient: bool, refusal: str = "") -> None:
        """Settle a worker that gets no further attempt after `error`."""
        self._settle(worker, self.report.failed(worker, error, transient=transient, refusal=refusal), error=error)

    def _ended_at_last(self, worker: Worker, told: WorkerEnded) -> None:  # noqa: ARG002  it matters in a tree
        """Report that an incarnation which was left behind, and which another one has followed, has ended."""
        self.report.ended_at_last(told)

    def _settle_stopped(self, worker: Worker, result: object, error: BaseException | None) -> None:
        if isinstance(error, asyncio.CancelledError):
            error = None
        self._settle(worker, self.report.stopped(worker, result, error), result=result, error=error)

    def _settle(
        self, worker: Worker, event: WorkerEnded, *, result: object = None, error: BaseException | None = None
    ) -> None:
        worker.state = event.state
        self._keep(worker, event, result, error)
        if worker.is_restarting and self.accepts_restarts:
            self._begin_incarnation(worker)
            return
        if self.on_outcome is not None:
            self.on_outcome(outcome_of(event, result, error))
        self.active -= 1
        if not self.active:
            self._wake_waiting()
        has_hung = event.state is WorkerState.UNRESPONSIVE and worker.overdue is not None and not worker.stop_reason
        if event.state in _BROKEN or has_hung:
            self._note_broken(worker)

    def _wake_waiting(self) -> None:
        waiting, self._when_settled = self._when_settled, []
        for settled in waiting:
            if not settled.done():
                settled.set_result(None)

    def _keep(self, worker: Worker, event: WorkerEnded, result: object, error: BaseException | None) -> None:
        """Keep how a worker ended."""
        raise NotImplementedError

    def _note_broken(self, worker: Worker) -> None:
        """Take note that a worker failed, was exhausted, or did not end when its time was over."""

    def _begin_incarnation(self, worker: Worker) -> None:
        worker.incarnation += 1
        worker.reset()
        try:
            self.report.worker_restarted(worker)
        except BaseException as fault:
            self._start_failed(worker, fault)
            return
        worker.is_ready = True
        self._ready.append(worker)
        self._fill_places()
