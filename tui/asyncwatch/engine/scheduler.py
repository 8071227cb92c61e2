"""The scheduler: the one writer of worker state."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from asyncwatch.engine.admission import Admission, Answer
from asyncwatch.engine.attempts import AttemptRunner, late_error, past_deadline
from asyncwatch.engine.bulk import BulkActions, act_safely
from asyncwatch.engine.capture import log_safely
from asyncwatch.engine.describe import ErrorFacts, describe_error, facts_of, function_of
from asyncwatch.engine.event_loop import pass_on_interrupt
from asyncwatch.engine.feed import Feed, WorkerSource
from asyncwatch.engine.lifespan import Lifespan
from asyncwatch.engine.nested import NestedRetries, nested_retries
from asyncwatch.engine.ready_queue import ReadyQueue
from asyncwatch.engine.registry import WorkerRegistry
from asyncwatch.engine.reporter import QUEUED_PER_EVENT, Reporter, logger
from asyncwatch.engine.retry_decision import GIVEN_UP, HALTED, PAST_DEADLINE, RetryDecider, RetryDecision
from asyncwatch.engine.spec import Outcome, OwnSpec, WorkerSpec, WorkerSpecs, outcome_of
from asyncwatch.engine.timers import Timers
from asyncwatch.engine.tree.errors import DuplicateName, Ignore, Shutdown
from asyncwatch.engine.watchdog import Block
from asyncwatch.engine.worker import FORGOTTEN, StopReason, Worker, WorkerOwner
from asyncwatch.events import FAILURES, SETTLED, WorkerEnded, WorkerFailed, WorkerState
from asyncwatch.policies.bad_luck import Luck
from asyncwatch.policies.budget import RetryBudget, Tokens
from asyncwatch.policies.circuit import Circuit, CircuitPolicy
from asyncwatch.policies.classify import (
    AttemptLost,
    DeadlineExceeded,
    ErrorClass,
    LivenessTimeout,
    is_exit,
    is_never_retried,
)
from asyncwatch.policies.halt import Halt
from asyncwatch.policies.limits import DEFAULT_CONCURRENCY, DEFAULT_GRACE
from asyncwatch.policies.rate import RateLimit
from asyncwatch.policies.restart import Flapping
from asyncwatch.policies.throttle import Throttle, ThrottlePolicy
from asyncwatch.text import error_line

SLOT, RATE, PAUSED = "place", "rate", "paused"
"""What the ready queue waits for: a slot, the limit of the run, or the end of a pause. `LineHeld` says so."""
STARTS_PER_ITERATION = 200
"""Attempts of the batch started in one loop iteration, at most. They take about 1 ms."""

# Before Python 3.12 each lookup of an enum's member costs 50 ns.
_QUEUED, _RUNNING, _WAITING = WorkerState.QUEUED, WorkerState.RUNNING, WorkerState.WAITING
_BACKING_OFF, _CANCELLING, _RESTARTING = WorkerState.BACKING_OFF, WorkerState.CANCELLING, WorkerState.RESTARTING
_STOPPED = frozenset({WorkerState.CANCELLED, WorkerState.TIMED_OUT})
_THROTTLED = ErrorClass.THROTTLED
_STARTS, _PARKED, _GONE, _QUEUE_WAITS = Answer
_AGAIN = frozenset({_QUEUED, _RESTARTING})

TRANSITIONS: Final[dict[WorkerState, frozenset[WorkerState]]] = {
    _QUEUED: frozenset({_RUNNING, _WAITING, WorkerState.FAILED}) | _STOPPED,
    _RUNNING: frozenset({_WAITING, _BACKING_OFF, _CANCELLING}) | SETTLED - {WorkerState.TIMED_OUT},
    _WAITING: frozenset({_QUEUED, _RUNNING, _WAITING, _BACKING_OFF}) | FAILURES | _STOPPED,
    _BACKING_OFF: frozenset({_QUEUED, _RUNNING, _WAITING, _BACKING_OFF}) | FAILURES | _STOPPED,
    _CANCELLING: frozenset({_CANCELLING, WorkerState.FAILED, WorkerState.UNRESPONSIVE}) | _STOPPED,
    _RESTARTING: frozenset({_RESTARTING, WorkerState.FAILED, WorkerState.CANCELLED}),
    WorkerState.UNRESPONSIVE: _AGAIN | SETTLED - {WorkerState.UNRESPONSIVE, WorkerState.EXHAUSTED},
    **dict.fromkeys(SETTLED - {WorkerState.UNRESPONSIVE, WorkerState.TIMED_OUT}, _AGAIN),
    WorkerState.TIMED_OUT: frozenset({_QUEUED}),
}
"""Every legal transition (DESIGN.md, "Worker states"). A launch that fails leads through `waiting` to `failed`. Only
workers of the batch time out for good, and those are queued again."""
_HELD_BACK = frozenset({_BACKING_OFF, _WAITING})
_NONE_WAITS = "no worker is waiting for another attempt"


def _is_held_back(worker: Worker) -> bool:
    return worker.state in _HELD_BACK and not worker.is_deciding


class IllegalTransitionError(RuntimeError):
    """A worker would get from one state to another that cannot follow it: a defect of the scheduler."""


class InvalidStateError(AssertionError):
    """What `validate_state` found."""


class MiscountError(InvalidStateError):
    """Admission counts attempts that have ended, or misses some, and all else is well."""


class Scheduler:
    r"""Starts workers, and decides what follows when an attempt ends. Callbacks of the event loop move workers on.

        queued -> running -> succeeded | failed | exhausted
                     |  \--> backing off -> running
                     |  \--> cancelling  -> cancelled | timed out | unresponsive
                     |  \--> unresponsive                 (its time-out did not end it)
        a worker that is ready but held back is waiting (parked, or a retry in the ready queue); a service whose next
        incarnation is to come is restarting; a worker of the batch whose incarnation ended can be queued again

    `TRANSITIONS` is the whole table. A worker that has not settled always has one thing that moves it on: the task of
    an attempt in flight, a timer, a place in the ready queue, or one among the parked workers of its key; a service
    that is restarting has its supervisor. It holds a slot only while an attempt is in flight; a service needs none.

    How an attempt ended is decided when its task is done, in this order:

    1. The worker was asked to stop: it is cancelled (or timed out), whatever the attempt returned or raised meanwhile.
    2. It returned: the worker has succeeded. A poller waits for its next poll.
    3. It ended in any error other than a request to exit after its time was over: a transient `AttemptTimeout`, or
       `DeadlineExceeded`, caused by the error that it raised.
    4. It raised, or someone else cancelled it: `RetryDecider` says whether and when it is tried again. A
       `CancelledError` never is.

    A service has a `WorkerOwner`, which is notified of its end and decides on its restart; a worker of the batch has
    none. The scheduler knows no supervisors. All methods belong to the thread of the event loop.

    Args:
        batch: the workers that are work which ends.
        reporter: makes the events.
        seed: of every draw.
        concurrency: slots.
        grace: seconds that a worker may take to end after it was asked to, if its spec does not say.
        has_slots: whether there is or may be a batch, so that changing `concurrency` has a meaning.
        retry_budget: pays for all retries of the run; None for no limit.
        throttle: how long a throttled key is waited for; None for no throttling by key.
        max_per_key: slots of one key; None for as many as stay free while other keys have work, else all. Without
            throttling by key, None is all.
        circuit: of every key; None for none.
        rate: of all attempts of the run together; None for no limit.
        rate_per_key: of the attempts of each key; None for no limit.
        halt: after how many failures the batch halts; None for never.

    Raises:
        ValueError: two workers of the batch have the same name.

    """

    def __init__(
        self,
        batch: Iterable[WorkerSpec | WorkerSpecs],
        *,
        reporter: Reporter,
        seed: int,
        concurrency: int = DEFAULT_CONCURRENCY,
        grace: float = DEFAULT_GRACE,
        has_slots: bool = True,
        retry_budget: RetryBudget | None = None,
        throttle: ThrottlePolicy | None = None,
        max_per_key: int | None = None,
        circuit: CircuitPolicy | None = None,
        rate: RateLimit | None = None,
        rate_per_key: RateLimit | None = None,
        halt: Halt | None = None,
    ) -> None:
        self.reporter = reporter
        self.grace = grace
        self.concurrency = concurrency
        self.has_slots = has_slots
        self.is_paused = False
        """Whether no new attempts start. Set it, and `concurrency`, by `change_slots`."""
        self.done_before = 0
        """Items that had succeeded before the run, if it resumes another one."""
        self.flapping: Flapping | None = None
        """When a service of the tree flaps; None if there is no tree."""
        self.accepts_restarts = True
        """Whether workers can be restarted. Set it by `close_restarts` and `reopen_restarts`."""
        self.runs_once = ""
        """Why no worker can be restarted at all; empty if they can."""
        self.is_interrupted = False
        """Whether the run was stopped before its end. Set it by `note_interrupted`."""
        self.is_finished = False
        self.is_broken_off = False
        self.active = 0
        """Workers that have not settled, and open feeds."""
        self._feeds: list[Feed] = []
        """All feeds of the run."""
        self.registry = WorkerRegistry(batch)
        self.luck = luck = Luck(seed)
        """The draws of the run."""
        self._queue = ReadyQueue()
        self._tokens = None if retry_budget is None else Tokens(retry_budget)
        self.admission = Admission(
            reporter,
            self._release,
            self._report_parked,
            self._refuse_parked,
            self._calls_like,
            lambda: self._runner.slots_taken,
            luck=luck,
            slots=concurrency,
            tokens=self._tokens,
            throttle=throttle,
            max_per_key=max_per_key,
            circuit=circuit,
            rate=rate,
            rate_per_key=rate_per_key,
        )
        self._runner = AttemptRunner(
            reporter,
            luck=luck,
            grace=grace,
            on_end=self._attempt_ended,
            on_abandoned=self._attempt_abandoned,
            on_late_end=self._abandoned_ended,
        )
        self._retries = RetryDecider(luck, self._tokens, throttle)
        self._backoffs = Timers(reporter, self._backed_off)
        self._nested = NestedRetries()
        self._on_end: Callable[[Worker, WorkerEnded, object, BaseException | None], None] | None = None
        self._when_settled: list[asyncio.Future[None]] = []
        self._slots = concurrency  # 0 while paused
        self._continues_filling = False
        """Whether the next loop iteration goes on starting attempts."""
        self._is_filling = False
        """Whether no worker starts before the next loop iteration, because workers are being started or reaped."""
        self._is_held = False
        """Whether no worker gets a slot, because workers are being cancelled by a long list of commands."""
        self._bulk = BulkActions(self._resume_filling)
        self._queue_waits_for = SLOT
        self._reported_parked: dict[Worker, tuple[str, str]] = {}
        """The key and the reason that a worker waits for, as reported; no key for a worker in the ready queue."""
        self._halt = halt
        self._failures: set[int] = set()
        """Rows of the workers whose failure counts for the halt."""
        self._last_attempts: set[Worker] = set()
        """Workers that were running when the batch halted: they make no further attempt."""

    # The run ---------------------------------------------------------------------------------------------------------

    def start(
        self,
        name: str,
        runner: str,
        timeout: float | None,
        wall_clock: float,
        *,
        services: int = 0,
        thresholds: Iterable[float] = (),
    ) -> None:
        """Start the run on the running loop; no worker starts yet.

        `services` will be launched at first; `thresholds` are those of their bad luck.
        """
        workers = len(self.registry.batch) + services
        self.active = len(self.registry.batch) + self._open_feeds
        rate, per_key = self.admission.limit(), self.admission.rate_per_key
        specs = itertools.chain(self.registry.batch.specs(), (feed.source.template for feed in self._feeds))
        all_thresholds = {*thresholds, *(spec.bad_luck.threshold for spec in specs)}
        settings = {
            "rate": None if rate is None else str(rate),
            "rate_per_key": None if per_key is None else str(per_key),
            "bad_luck": all_thresholds.pop() if len(all_thresholds) == 1 else None,
            "paused": self.is_paused,
            "reads_items": self._open_feeds > 0,
            "rows_kept": self.registry.batch.rows_kept,
            "done_before": self.done_before,
            "flapping": self.flapping,
        }
        facts = (self.luck.seed, self.concurrency, timeout, wall_clock, settings)
        self.reporter.run_started(name, workers, runner, *facts)

    def announce_batch(self) -> None:
        """Report the workers of the batch as queued."""
        for spec, names in self.registry.batch.groups():
            self.reporter.workers_queued(spec, names)
        self.admission.watch_keys_of(self.registry.batch.specs(), self.registry.batch.some)
        templates = [feed.source.template for feed in self._feeds]
        self.admission.watch_keys_of(templates)
        for nested in nested_retries(itertools.chain(self.registry.batch.specs(), templates)):
            self._warn_of_nested_retries(nested)

    def _warn_of_nested_retries(self, nested: tuple[str, str] | None) -> None:
        if nested is not None:
            self.reporter.nested_retries_found(*nested)

    def start_batch(self) -> None:
        """Start as many workers of the batch as there are slots."""
        self._queue.feed(self.registry.batch.start_next())
        self._fill_slots()
        for feed in self._feeds:
            if feed.is_open:
                feed.source.start(feed)

    # Workers that join the batch -------------------------------------------------------------------------------------

    def use_lifespan(self, lifespan: Lifespan) -> None:
        """Give the value of `lifespan` to targets. Its entry and exit are the caller's business."""
        self._runner.lifespan = lifespan

    def open_feed(self, source: WorkerSource) -> None:
        """Let workers of `source` join the batch once it has started. The run waits until the source has ended."""
        self.has_slots = True
        self._feeds.append(Feed(source, self._add_workers, self._feed_ended, lambda: self.registry.batch.fresh))

    @property
    def pending(self) -> int:
        """Workers that have not settled."""
        return self.active - self._open_feeds

    @property
    def has_open_batch(self) -> bool:
        """Whether any worker of the batch has not settled, or more may join it."""
        return self._open_feeds > 0 or any(True for _ in self.registry.batch.unsettled())

    @property
    def _open_feeds(self) -> int:
        return sum(feed.is_open for feed in self._feeds)

    def _add_workers(self, feed: Feed, names: Sequence[str], items: Sequence[Any]) -> list[str]:
        batch, template = self.registry.batch, feed.source.template
        first = len(batch)
        names = batch.extend(template, names, items)
        self.active += len(names)
        # Each row of a picture that forgets old ones is given up alone.
        self.reporter.workers_queued(template, names, at_once=QUEUED_PER_EVENT if batch.rows_kept is None else 1)
        own = [item.spec for item in items if type(item) is OwnSpec]
        if own:
            self.admission.watch_keys_of(own)
            for spec in own:
                self._warn_of_nested_retries(self._nested.find(spec))
        if not self._queue.is_fed:
            self._queue.feed(batch.start_next(first))
        self._fill_slots()
        return names

    def _feed_ended(self, _feed: Feed) -> None:
        if not self.is_started or self.is_broken_off:
            return
        self.active -= 1
        if not self._open_feeds:
            self.reporter.items_read(len(self.registry.batch))
        if not self.active:
            self._wake_waiting()

    def _close_feeds(self, group: str | None = None) -> bool:
        """Let no more workers join (of a group); return whether any could."""
        feeds = [feed for feed in self._feeds if feed.is_open and group in {None, feed.source.template.group}]
        for feed in feeds:
            feed.close()
        return bool(feeds)

    def close_restarts(self) -> None:
        """Restart no worker from now on: the run is ending."""
        self.accepts_restarts = False

    def reopen_restarts(self) -> None:
        """Restart workers again: the runner's time is over, and the run stays open."""
        self.accepts_restarts = True

    def hold_ends(self, seconds: float) -> None:
        """Let an attempt that fails when a child process has ended go on for `seconds`: a stop may come meanwhile.

        So does a permanent service that returns. An error of a service that comes while the run is being stopped is no
        failure either.
        """
        self._runner.hold = seconds

    def note_interrupted(self) -> None:
        """Note that the run is stopped before its end."""
        self.is_interrupted = True

    def finish(self) -> None:
        """Report the end of the run, unless that was done. Every worker must have settled."""
        if self.is_finished:
            return
        try:
            self.reporter.run_ends()
        finally:
            self.is_finished = True
            self._bulk.stop()
            try:
                self.admission.close()
            finally:
                states, attempts = self.registry.states(), self._runner.started
                self.reporter.run_finished(states, attempts, interrupted=self.is_interrupted)

    def abandon_run(self, block: Block | None) -> None:
        """Report the end of the run from another thread, while `block` keeps the loop."""
        self.is_finished = True
        self.reporter.abandon(self.registry.states(), self._runner.started, block)

    def break_off(self) -> None:
        """Abandon every worker that has not settled, because the run was stopped and makes no progress.

        Only a defect of the supervisor leads here. The defect may strike again, but no caller waits for a worker then.
        """
        if self.is_broken_off:
            return
        self.is_broken_off = True
        self._close_feeds()
        log_safely(logger, logging.ERROR, "the run does not end by itself and is broken off")
        for worker in list(self.registry.unsettled()):
            self._runner.break_off(worker)
            with contextlib.suppress(Exception):
                self._fail(worker, TimeoutError("the run was broken off"))
        self._runner.slots_taken = self.active = 0
        self._wake_waiting()

    async def wait_settled(self) -> None:
        """Return when no worker has anything left to do."""
        if self.active:
            settled = self.reporter.loop.create_future()
            self.wake_when_settled(settled)
            await settled

    def wake_when_settled(self, waiter: asyncio.Future[None]) -> None:
        """Set the result of `waiter`, unless it is done, when no worker has anything left to do."""
        self._when_settled.append(waiter)

    def watch_outcomes(self, callback: Callable[[Outcome], None] | None) -> None:
        """Call `callback` with each outcome of the batch from now on; None to stop that.

        It is called before the worker stops counting as `active`.
        """
        self.watch_ends(None if callback is None else lambda _worker, *end: callback(outcome_of(*end)))

    def watch_ends(self, callback: Callable[[Worker, WorkerEnded, object, BaseException | None], None] | None) -> None:
        """Call `callback` as `watch_outcomes` does, with the worker, the event, and what the target returned or raised.

        It must not raise.
        """
        self._on_end = callback

    @property
    def is_started(self) -> bool:
        """Whether the run has started."""
        return self.reporter.is_started

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the run."""
        return self.reporter.loop

    @property
    def in_flight(self) -> int:
        """Attempts in flight, without abandoned ones."""
        return self._runner.in_flight

    def identify_by(self, identify: Callable[[Worker], str]) -> None:
        """Let `identify` return the idempotency key of a worker."""
        self._runner.identify = identify

    @property
    def tasks(self) -> dict[asyncio.Task[Any], Worker]:
        """Every task of a worker that has not ended, abandoned ones too. To be read only."""
        return self._runner.tasks

    @property
    def abandoned(self) -> int:
        """Attempts that were abandoned and have not ended."""
        return len(self._runner.abandoned)

    @property
    def queued(self) -> int:
        """Workers in the ready queue; a worker that was stopped there may count until it is reached."""
        return len(self._queue) + self.registry.batch.fresh

    @property
    def retry_tokens(self) -> tuple[float, float]:
        """What is left of the retry budget, and its capacity; zeros without one."""
        tokens = self._tokens
        return (0.0, 0.0) if tokens is None else (tokens.left(self.reporter.now()), tokens.budget.tokens)

    def longest_patience(self) -> float:
        """Return the longest grace period of the attempts in flight, in seconds."""
        return self._runner.longest_patience()

    # States ----------------------------------------------------------------------------------------------------------

    def _transition(self, worker: Worker, state: WorkerState) -> None:
        """Change a worker's state. Nothing else in the package writes it."""
        if state not in TRANSITIONS[worker.state]:
            raise IllegalTransitionError(f"{worker} cannot become {state}")
        worker.state = state

    def validate_state(self) -> None:
        """Check that the registry, its columns, the queues, tasks, timers and counts agree. For tests, after any step.

        Raises:
            InvalidStateError: they do not; a MiscountError if only counts of admission are wrong.

        """
        runner, registry = self._runner, self.registry
        workers = [*registry.batch.kept(), *registry.services.values()]
        problems = [*registry.batch.problems(), *self.admission.problems()]
        if self.is_started and not self.is_broken_off:
            unsettled = registry.batch.unsettled_count() + self._open_feeds
            unsettled += sum(not worker.state.is_settled for worker in registry.services.values())
            if unsettled != self.active:
                problems.append(f"{unsettled} workers and feeds have not settled, and {self.active} are counted")
        if sum(registry.states().values()) != len(registry):
            problems.append(f"{len(registry)} workers, but by state {registry.states()}")
        for task, worker in runner.tasks.items():
            if worker.task is not task and task not in runner.abandoned:
                problems.append(f"{worker} has lost a task")
        slots = sum(worker.owner is None for task, worker in runner.tasks.items() if worker.task is task)
        if slots != runner.slots_taken:
            problems.append(f"{slots} slots are taken, and {runner.slots_taken} are counted")
        if not runner.abandoned.keys() <= runner.tasks.keys():
            problems.append("an abandoned task has ended unnoticed")
        for worker in workers:
            problems += self._problems_of(worker)
        if problems:
            raise InvalidStateError("; ".join(problems))
        in_flight = [worker for task, worker in runner.tasks.items() if worker.task is task]
        if leaks := [*self.admission.leaks(in_flight, (worker for worker in workers if worker.task is None))]:
            raise MiscountError("; ".join(leaks))

    def _problems_of(self, worker: Worker) -> Iterator[str]:
        has_attempt = worker.state in {_RUNNING, _CANCELLING}
        if has_attempt is not (worker.task is not None):
            yield f"{worker} has {'no' if worker.task is None else 'a'} task"
        if worker.task is not None and self._runner.tasks.get(worker.task) is not worker:
            yield f"the task of {worker} is unknown"
        if worker.is_ready and worker not in self._queue:
            yield f"{worker} is ready, and not in the queue"
        is_idle = worker.task is None and worker.timer is None and not worker.is_ready
        is_parked = self.admission.is_parked(worker)
        if worker.state.is_settled:
            if not is_idle or is_parked:
                yield f"{worker} has settled and still moves"
        elif is_idle and not is_parked and worker.state is not _RESTARTING:
            yield f"{worker} is lost"
        if worker.state is _BACKING_OFF and worker.timer is None:
            yield f"{worker} has no timer"
        if worker.state is _QUEUED and worker.timer is not None:
            yield f"{worker} has a timer of another incarnation"

    # Starting attempts -----------------------------------------------------------------------------------------------

    def launch(self, spec: WorkerSpec, owner: WorkerOwner) -> Worker:
        """Start a new incarnation of the service `spec.name`, unique in the whole run.

        If starting raises, the incarnation has failed and `owner` knows when this returns. Its target was not called.

        Raises:
            DuplicateName: another worker of that name has not ended.

        """
        self._warn_of_nested_retries(self._nested.find(spec))
        name = spec.name
        old = self.registry.get(name)
        if old is not None:
            if old.owner is None:
                raise DuplicateName(f"a worker of the batch beside the tree is named {name!r}")
            if old.state is _RESTARTING:
                self.active -= 1
            elif not old.state.is_settled:
                raise DuplicateName(f"two workers of the tree are named {name!r}")
            old.owner.was_replaced()
        worker = self.registry.add_service(spec, owner)
        self.active += 1
        is_restart = worker.incarnation > 1
        try:
            if is_restart:
                self.reporter.worker_restarted(worker)
                if old is not None and old.ended_between is not None:
                    self.reporter.ended_at_last(old.ended_between)
            else:
                self.reporter.workers_queued(spec, (name,))
            self.admission.watch_keys_of((spec,))
            if self.is_paused or self.admission.is_gated or self._queue.services:
                worker.is_ready = True
                self._queue.push(worker)
                self._fill_slots()
            else:
                self._start_attempt(worker)
        except BaseException as fault:
            pass_on_interrupt(fault)
            self._launch_failed(worker, fault)
            return worker
        if worker.task is None:
            owner.waits()
        return worker

    def change_slots(self, concurrency: int, *, is_paused: bool) -> None:
        """Let at most `concurrency` attempts run from now on, and start none while paused. Running ones go on."""
        self.concurrency, self.is_paused = concurrency, is_paused
        self._slots = 0 if is_paused else concurrency
        self.admission.change_slots(concurrency, is_paused=is_paused)
        self._fill_slots()

    def change_threshold(self, threshold: float | None) -> None:
        """Set the bad luck threshold of all workers; None for each worker's own."""
        self._runner.threshold = threshold

    @property
    def threshold(self) -> float | None:
        """The bad luck threshold of all workers; None for each worker's own."""
        return self._runner.threshold

    def hold_slots(self, is_held: bool) -> None:
        """Give no worker a slot for now, or give slots again."""
        self._is_held = is_held
        self._resume_filling()

    def _resume_filling(self) -> None:
        if not self.registry.batch.fresh:
            self._queue.stop_feed()  # it would yield all workers that ended before they began
        self._fill_slots()

    def _fill_slots(self) -> None:
        """Start services, then workers of the batch while there are slots, at most `STARTS_PER_ITERATION` at a time.

        Nothing starts once the run is ending: the services of a tree end one after the other.
        """
        if not self.accepts_restarts:
            return
        if self._is_filling:  # a key function or an iterator of items has called a method of the run
            self._continue_soon()
            return
        queue, admission = self._queue, self.admission
        while queue.services and not self.is_paused and (worker := queue.pop_service()) is not None:
            answer = self._admit(worker)
            if answer is _QUEUE_WAITS:
                queue.put_back(worker)
                break
            if answer is _STARTS:
                self._start_attempt(worker)
        if not self._continues_filling:
            self._is_filling = True
            try:
                self._start_batch_workers()
            finally:
                self._is_filling = False
        if admission.can_hold_queue or not self._slots or self._queue_waits_for is PAUSED:
            self._report_queue_held()

    def _start_batch_workers(self) -> None:
        queue, runner, admission = self._queue, self._runner, self.admission
        left = STARTS_PER_ITERATION
        while left and runner.slots_taken < self._slots and not (self._is_held or self._bulk.freezes):
            if (worker := queue.pop()) is None:
                admission.note_all_asked()
                if not self._spare_slots():
                    break
                continue
            left -= 1
            if admission.is_gated or worker.owes:
                answer = self._admit(worker)
                if answer is _QUEUE_WAITS:
                    queue.put_back(worker)
                    if not self._spare_slots():
                        break
                if answer is not _STARTS:
                    continue
            worker.is_ready = False
            self._start_attempt(worker)
        if not left:
            self._continue_soon()

    def _continue_soon(self) -> None:
        if not self._continues_filling:
            self._continues_filling = True
            self.reporter.loop.call_soon(self._continue_filling)

    def _spare_slots(self) -> bool:
        """Give slots that no other work needs to workers that were parked for their key's share."""
        spared = self.admission.spare(self._slots - self._runner.slots_taken)
        for worker in spared:
            worker.is_ready = True
            self._queue.push(worker)
        return bool(spared)

    def _calls_like(self, worker: Worker) -> tuple[list[Worker], int]:
        """Return the workers in flight that call the same function, and how many such workers have succeeded."""
        function = function_of(worker.spec.target)
        in_flight = [other for task, other in self.tasks.items() if other.task is task]
        alike = [other for other in in_flight if function_of(other.spec.target) is function]
        return alike, self.registry.batch.successes_of(function)

    def _continue_filling(self) -> None:
        self._continues_filling = False
        self._fill_slots()

    def _admit(self, worker: Worker) -> Answer:
        """Return whether a worker at the head of the queue starts, is parked or gone, or waits where it is."""
        answer = _STARTS
        if self.admission.is_gated or worker.owes:
            was_filling, self._is_filling = self._is_filling, True
            try:
                answer = self.admission.ask(worker)
            except BaseException as fault:  # the user's key function can raise anything
                pass_on_interrupt(fault)
                self._launch_failed(worker, fault)
                return _GONE
            finally:
                self._is_filling = was_filling
        if answer is _STARTS or answer is _PARKED:
            worker.is_ready = False
        return answer

    def _start_attempt(self, worker: Worker) -> None:
        try:
            if self._reported_parked:
                self._reported_parked.pop(worker, None)
            self._transition(worker, _RUNNING)
            self._runner.start(worker)
            owner = worker.owner
            if owner is not None:
                self.reporter.outbox.end_linger()
                if worker.task is not None and not owner.is_ready:
                    # The loop runs callbacks in order: the task's first step, then this.
                    self.reporter.loop.call_soon(owner.ran_first_step, worker.task)
        except BaseException as fault:  # one worker's fault must not stop the others
            pass_on_interrupt(fault)
            self._launch_failed(worker, fault)

    def _launch_failed(self, worker: Worker, fault: BaseException) -> None:
        """Undo an attempt whose start raised `fault`, and let the worker fail."""
        self._runner.undo_start(worker)
        with contextlib.suppress(Exception):
            self.admission.attempt_ended(worker, is_stopped=True)
        if worker.state.is_settled:  # the code that raised has stopped it before
            return
        with contextlib.suppress(Exception):
            self._leave_queue(worker)
        if worker.owner is None:
            # In the next loop iteration: the caller may not listen to outcomes yet.
            self._transition(worker, _WAITING)
            worker.timer = self.reporter.loop.call_soon(self._fail, worker, fault)
        else:
            self._fail(worker, fault)

    def _leave_queue(self, worker: Worker) -> None:
        """Let a worker without a task wait for nothing any more."""
        worker.is_ready = False
        worker.stop_timer()
        if self._reported_parked:
            self._reported_parked.pop(worker, None)
        self.admission.forget(worker)

    def _release(self, workers: Iterable[Worker]) -> None:
        """Put workers that were parked into the ready queue, before new work."""
        released = tuple(workers)
        for worker in released:
            worker.is_ready = True
            self._queue.push(worker)
        self._fill_slots()
        for worker in released:
            self._report_queued(worker)

    def _report_queue_held(self) -> None:
        """Report what the ready queue waits for from now on, if that has changed."""
        reason = self._queue_waits_for
        if not self._slots:
            reason = PAUSED
        elif len(self._queue) or (self._queue.is_fed and self.registry.batch.fresh):
            reason = RATE if self.admission.holds_queue() else SLOT
        elif reason is PAUSED:
            reason = SLOT
        if self._queue_waits_for is not reason:
            self._queue_waits_for = reason
            self.reporter.line_held(reason)

    def _report_queued(self, worker: Worker) -> None:
        """Report that a worker which was to start is in the ready queue, if it is."""
        if worker.is_ready:
            self._report_parked(worker, "", "")

    def _report_parked(self, worker: Worker, key: str, reason: str) -> None:
        """Report what a worker waits for, unless it was reported last; without a reason, what the queue waits for."""
        if self._reported_parked.get(worker) == (key, reason):
            return
        self._reported_parked[worker] = key, reason
        self._transition(worker, _WAITING)
        self.reporter.attempt_held(worker, key, reason or self._queue_waits_for)

    # Ends of attempts ------------------------------------------------------------------------------------------------

    def _attempt_ended(self, worker: Worker, result: object, error: BaseException | None) -> None:
        """Decide what follows an attempt that has ended in time."""
        worker.is_deciding = True
        if error is None and not worker.stop_reason and isinstance(worker.overdue, LivenessTimeout):
            error = worker.overdue  # a service that is restarted after an error only is to be restarted
        if self._runner.hold and error is not None and worker.owner is not None and not self.accepts_restarts:
            worker.stop_reason = worker.stop_reason or "run"
        try:
            if worker.ticket is not None and (worker.stop_reason or error is None):
                self.admission.attempt_ended(worker, is_stopped=bool(worker.stop_reason))
            if worker.stop_reason:
                if isinstance(error, asyncio.CancelledError):
                    error = None
                self._settle(worker, self.reporter.stopped(worker, result, error), result=result, error=error)
            elif error is None:
                tokens = self._tokens
                if tokens is not None and not tokens.is_full:
                    self.admission.return_tokens(tokens.budget.success_gain)
                if worker.spec.every is None:
                    self._settle(worker, self.reporter.succeeded(worker, result), result=result)
                else:
                    self._poll_succeeded(worker, result, worker.spec.every)
            else:
                self._attempt_failed(worker, error if worker.overdue is None else late_error(worker.overdue, error))
        except BaseException as fault:  # an error or a policy of the user's that raises when it is looked at
            pass_on_interrupt(fault)
            self._decision_failed(worker, fault)
        worker.is_deciding = False
        if worker.is_restarting or worker.stop_reason:
            self._decided(worker)
        if worker.owner is None:  # it held a slot
            self._fill_slots()

    def _decided(self, worker: Worker) -> None:
        """Stop or restart a worker, if that was requested while its end or its next attempt was being decided."""
        worker.is_deciding = False
        is_requested = worker.is_restarting or worker.stop_reason
        if not is_requested or worker.task is not None or worker.state.is_settled or worker.state is _RESTARTING:
            return
        if worker.is_restarting:
            worker.is_restarting = False
            self.restart(worker)
        elif worker.stop_reason:
            self._stop(worker, worker.stop_reason)

    def _attempt_failed(self, worker: Worker, error: BaseException) -> None:
        owner = worker.owner
        if owner is not None and (isinstance(error, Shutdown) or (isinstance(error, Ignore) and not owner.is_ready)):
            self.admission.attempt_ended(worker, is_stopped=True)
            self._settle(worker, self.reporter.stopped(worker, None, error), error=error)
            return
        now, is_halted = self.reporter.now(), worker in self._last_attempts
        decision = self._retries.decide(worker, error, now, is_halted=is_halted)
        facts = self._runner.facts_of(error)
        self.reporter.attempt_failed(worker, facts, decision)
        # A deadline that was over while the target waited says as much of the server as a time-out does.
        is_late = error is worker.overdue and isinstance(error, DeadlineExceeded)
        error_class = ErrorClass.TRANSIENT if is_late else decision.error_class
        is_tolerated = False
        if worker.ticket is not None or error_class is _THROTTLED:
            says_nothing = isinstance(error, AttemptLost) or (is_never_retried(error) and not is_late)
            is_tolerated = self.admission.attempt_ended(
                worker, error_class=error_class, error=error, is_stopped=says_nothing
            )
        if decision.waits_for_key and is_tolerated:
            decision = self._retries.back_off_alone(worker, error, decision)
            worker.throttled += 1
        if decision.delay is None and decision.waits_for_key:
            self._wait_for_key(worker, error)
        elif decision.delay is not None:
            self._back_off(worker, error, facts, decision, decision.delay)
        elif decision.refusal:
            self._refuse_retry(worker, error, decision.refusal)
        else:
            # That a service has only one attempt says nothing about its error.
            is_exhausted = decision.is_retriable and (owner is None or decision.max_attempts > 1)
            self._give_up(worker, error, facts, is_exhausted=is_exhausted)

    def _back_off(
        self, worker: Worker, error: BaseException, facts: ErrorFacts, decision: RetryDecision, delay: float
    ) -> None:
        self._transition(worker, _BACKING_OFF)
        worker.error = error
        worker.owes = decision.cost
        self.reporter.retry_scheduled(worker, facts, decision, delay)
        worker.timer = self._backoffs.call_later(delay, worker)
        if worker.owner is not None:
            worker.owner.waits()

    def _wait_for_key(self, worker: Worker, error: BaseException) -> None:
        """Park a worker whose attempt was throttled: its next one starts when its key allows it."""
        worker.error = error
        worker.throttled += 1
        if worker.deadline_at is not None:
            left = worker.deadline_at - self.reporter.now()
            worker.timer = self.reporter.loop.call_later(left, self._deadline_passed, worker)
        self.admission.wait_for_key(worker)
        if worker.owner is not None and not worker.state.is_settled:
            worker.owner.waits()

    def _refuse_parked(self, worker: Worker, reason: str, why: str) -> None:
        """Let a parked worker make no further attempt."""
        try:
            self._refuse_retry(worker, TimeoutError(why) if worker.error is None else worker.error, reason)
        except BaseException as fault:
            pass_on_interrupt(fault)
            self._fail_if_lost(worker, fault)

    def _poll_succeeded(self, worker: Worker, result: object, every: float) -> None:
        self.reporter.poll_finished(worker, result, round(self.reporter.now() - worker.started_at, 6), every)
        worker.failed_polls = 0
        self._schedule_poll(worker, every)

    def _schedule_poll(self, worker: Worker, delay: float) -> None:
        """Let the next poll start in `delay` seconds, like any attempt: once it is admitted, at number 1."""
        self._transition(worker, _BACKING_OFF)
        worker.turns += worker.attempt
        worker.attempt = worker.cancels = worker.throttled = worker.lost = worker.not_counted = 0
        worker.error = worker.backoff = worker.deadline_at = None
        worker.timer = self._backoffs.call_later(delay, worker)
        if worker.owner is not None:
            worker.owner.poll_ended()

    def _give_up(
        self, worker: Worker, error: BaseException, facts: ErrorFacts, *, is_exhausted: bool, refusal: str = ""
    ) -> None:
        """Settle a worker that gets no further attempt after `error`.

        A poller goes on: only its poll has failed, unless `error` is a request to exit.
        """
        every = worker.spec.every
        if every is not None and not is_exit(error):
            worker.failed_polls += 1
            self.reporter.poll_failed(worker, facts, every)
            self._schedule_poll(worker, every)
            return
        if worker.owner is not None:
            worker.error_line = facts.line
        self._settle(worker, self.reporter.failed(worker, facts, transient=is_exhausted, refusal=refusal), error=error)

    def _refuse_retry(self, worker: Worker, error: BaseException, reason: str) -> None:
        """Let a worker that its policy would retry make no further attempt."""
        was_deciding, worker.is_deciding = worker.is_deciding, True
        try:
            if reason == PAST_DEADLINE and not isinstance(error, DeadlineExceeded):
                last = error
                error = DeadlineExceeded(f"{past_deadline(worker)}, after {error_line(*describe_error(last))}")
                error.__cause__ = last
            self._refund(worker)
            self._leave_queue(worker)
            self.reporter.retry_refused(worker, reason)
            self._give_up(worker, error, facts_of(error), is_exhausted=True, refusal=reason)
        finally:
            if not was_deciding:
                self._decided(worker)

    def _refund(self, worker: Worker) -> None:
        """Put back what was paid for a retry that the worker will not make."""
        worker.error = None
        paid, worker.paid, worker.owes = worker.paid, 0.0, 0.0
        if paid:
            self.admission.return_tokens(paid)

    def _backed_off(self, worker: Worker) -> None:
        """Queue the worker before new work: what was begun is finished first."""
        try:
            self._end_wait(worker)
        except BaseException as fault:
            pass_on_interrupt(fault)
            self._fail_if_lost(worker, fault)
        if worker.is_ready:
            self._queue.push(worker)
            self._fill_slots()
            self._report_queued(worker)

    def _end_wait(self, worker: Worker) -> None:
        """Make a worker ready that backs off or is parked, until its deadline; give it up if that has passed."""
        self._leave_queue(worker)
        if worker.deadline_at is not None:
            left = worker.deadline_at - self.reporter.now()
            if left <= 0:
                self._deadline_passed(worker)
                return
            worker.timer = self.reporter.loop.call_later(left, self._deadline_passed, worker)
        worker.is_ready = True

    def _deadline_passed(self, worker: Worker) -> None:
        """Give up a worker that still waits for its next attempt."""
        assert worker.error is not None  # noqa: S101  it backed off from something
        try:
            self._refuse_retry(worker, worker.error, PAST_DEADLINE)
        except BaseException as fault:
            pass_on_interrupt(fault)
            self._fail_if_lost(worker, fault)

    def _attempt_abandoned(self, worker: Worker, stuck_at: str) -> WorkerEnded | None:
        """Report that a worker does not end, and give its slot to another; return the event."""
        event = None
        worker.is_deciding = True
        try:
            if worker.is_restarting:
                worker.is_restarting = False
                reason = "it ignores its cancellation"
                self.reporter.command_refused("RestartWorker", worker.name, worker.incarnation, reason)
            error_class = None if worker.overdue is None else ErrorClass.TRANSIENT
            self.admission.attempt_ended(worker, error_class=error_class, is_stopped=error_class is None)
            event = self.reporter.unresponsive(worker, stuck_at)
            self._settle(worker, event)
        except BaseException as fault:
            pass_on_interrupt(fault)
            self._fail_if_lost(worker, fault)
        self._decided(worker)
        self._fill_slots()
        return event

    def _abandoned_ended(
        self, worker: Worker, reported: WorkerEnded, is_latest: bool, result: object, error: BaseException | None
    ) -> None:
        """Report the end of an attempt that was abandoned."""
        if self.is_finished:
            return
        if not is_latest or worker.state is not WorkerState.UNRESPONSIVE:
            if worker.owner is not None and self.registry.services.get(worker.name) is worker:
                # Reported now, it would be the end of the worker, which is about to be restarted.
                worker.ended_between = reported
            else:
                self.reporter.ended_at_last(reported)
            return
        worker.is_deciding = True
        try:
            if worker.stop_reason:
                error = None if isinstance(error, asyncio.CancelledError) else error
                event = self.reporter.stopped(worker, result, error)
            elif error is None:
                event = self.reporter.succeeded(worker, result)
            else:
                error = error if worker.overdue is None else late_error(worker.overdue, error)
                event = self.reporter.failed(worker, facts_of(error), transient=False)
            self.active += 1
            self._settle(worker, event, result=result, error=error)
        finally:
            worker.is_deciding = False

    # Ends of workers -------------------------------------------------------------------------------------------------

    def _settle(
        self, worker: Worker, event: WorkerEnded, *, result: object = None, error: BaseException | None = None
    ) -> None:
        """Let a worker end as `event` says."""
        owner = worker.owner
        if owner is not None:
            self._settle_service(worker, owner, outcome_of(event, result, error))
            return
        self._transition(worker, event.state)
        self.registry.batch.settle(worker, event, result, error)
        if worker.is_restarting and self.accepts_restarts:
            self._begin_incarnation(worker)
            return
        if self._on_end is not None:
            self._on_end(worker, event, result, error)
        self.active -= 1
        if not self.active:
            self._wake_waiting()
        if self._halt is not None:
            has_hung = event.state is WorkerState.UNRESPONSIVE and worker.overdue is not None and not worker.stop_reason
            if event.state in FAILURES or has_hung:
                self._count_failure(worker, self._halt)

    def _settle_service(self, worker: Worker, owner: WorkerOwner, outcome: Outcome) -> None:
        try:
            self._transition(worker, outcome.state)
            worker.outcome = outcome
            self.active -= 1
            if not self.active:
                self._wake_waiting()
        finally:
            # It must not be shown as ended while it only is between two incarnations.
            self.reporter.outbox.linger()
            owner.ended(worker)

    def _wake_waiting(self) -> None:
        waiting, self._when_settled = self._when_settled, []
        for settled in waiting:
            if not settled.done():
                settled.set_result(None)

    def _fail(self, worker: Worker, fault: BaseException) -> None:
        """Settle a worker that cannot go on because of an error outside its target, even if reporting fails too."""
        worker.timer = None
        worker.error_line = ""
        worker.is_restarting = False
        worker.is_deciding = True
        with contextlib.suppress(Exception):
            self.admission.attempt_ended(worker, is_stopped=True)
        try:
            if worker.stop_reason:
                event = self.reporter.stopped(worker, None, fault)
            else:
                event = self.reporter.failed(worker, facts_of(fault), transient=False)
        except Exception:  # it is the reporter that fails
            facts = worker.incarnation, worker.attempt, 0.0, *describe_error(fault)
            event = WorkerFailed(-1, self.reporter.now(), worker.name, *facts)
        worker.is_deciding = False
        self._settle(worker, event, error=fault)

    def _decision_failed(self, worker: Worker, fault: BaseException) -> None:
        """Let `fault` be the error of an attempt that has ended and could not be decided on."""
        with contextlib.suppress(Exception):  # it is the reporter that fails
            if worker.state is _RUNNING:
                self.admission.attempt_ended(worker, is_stopped=True)
                self._give_up(worker, fault, facts_of(fault), is_exhausted=False)
        self._fail_if_lost(worker, fault)

    def _fail_if_lost(self, worker: Worker, fault: BaseException) -> None:
        """Settle a worker that `fault` left without a task, a timer or a place in a queue."""
        is_moving = worker.task is not None or worker.timer is not None or worker.is_ready
        has_ended = worker.state.is_settled or worker.state is _RESTARTING  # its supervisor moves it on
        if not is_moving and not has_ended and not self.admission.is_parked(worker):
            self._fail(worker, fault)

    def _count_failure(self, worker: Worker, halt: Halt) -> None:
        """Halt the batch, once, if too many of its workers have failed."""
        batch, failures = self.registry.batch, self._failures
        failures.add(worker.index)
        if len(failures) < halt.limit(len(batch)):
            return
        self._halt = None
        self._close_feeds()
        going_on = [other for other in batch.under_way() if not other.stop_reason]
        is_now = halt.mode == "now"
        if not is_now:
            self._last_attempts.update(other for other in going_on if other.task is not None)
        ending = sum(is_now or other.task is None for other in going_on) + batch.fresh
        self.reporter.run_halted(len(failures), halt.mode, ending)
        unsettled = (other for other in batch.unsettled() if not other.stop_reason)
        self._end_workers(unsettled, self._halt_now if is_now else self._halt_waiting)

    def _halt_now(self, worker: Worker) -> None:
        self._runner.reap(worker)
        if not worker.stop_reason and not worker.state.is_settled:
            self._stop(worker, "halt")

    def _halt_waiting(self, worker: Worker) -> None:
        if worker.task is not None or worker.state.is_settled:
            return
        if worker.error is None or worker.is_deciding:
            self._stop(worker, "halt")
        else:
            self._refuse_retry(worker, worker.error, HALTED)

    # Stopping --------------------------------------------------------------------------------------------------------

    def stop_active(self, reason: StopReason) -> None:
        """Ask every worker that has not settled to stop.

        Services are stopped as a person would stop them: otherwise their supervisors would restart them.
        """
        services = [worker for worker in self.registry.services.values() if not worker.state.is_settled]
        self.stop_batch(reason)
        for worker in services:
            if not worker.state.is_settled and not worker.stop_reason:
                self.cancel(worker)

    def stop_batch(self, reason: StopReason, group: str | None = None) -> None:
        """Ask every worker of the batch (of a group) that has not settled to stop.

        All that run are asked at once, as their grace period begins. Very many others settle in the next loop
        iterations, and until then no worker gets a slot. No more workers join the batch (the group).
        """
        self._close_feeds(group)

        def stop(worker: Worker) -> None:
            self._runner.reap(worker)
            is_stopping = worker.stop_reason and not worker.is_restarting
            if not is_stopping and not worker.state.is_settled:
                self._stop(worker, reason)

        self._end_workers(self.registry.batch.unsettled(group), stop, group)

    def reap_batch(self) -> None:
        """Let the workers of the batch end whose attempts have ended in this loop iteration; start no others."""
        was_filling, self._is_filling = self._is_filling, True
        try:
            for worker in self.registry.batch.running():
                self._runner.reap(worker)
        finally:
            self._is_filling = was_filling

    def hasten_batch(self) -> None:
        """Give the batch no more time to end: workers that do not end at once are abandoned."""
        self._runner.has_patience = False
        for worker in self.registry.batch.running():
            self._runner.cancel(worker)

    def cancel(self, worker: Worker) -> str:
        """Ask one worker to stop for good; return why that is not possible, or an empty text.

        Asking again while it is cancelling raises `CancelledError` in it again, which can end a clean-up that hangs.
        """
        if worker.owner is not None:
            return worker.owner.cancel()
        self._runner.reap(worker)
        if worker.state.is_settled:
            return f"it has ended: {worker.state}"
        self._stop(worker, "person")
        return ""

    def cancel_again(self, worker: Worker) -> None:
        """Raise `CancelledError` once more in a worker that is cancelling; that gives it no more time."""
        if worker.task is not None:
            self._runner.cancel_again(worker)

    def stop_service(self, worker: Worker, reason: StopReason, patience: float | None = None) -> None:
        """Ask a service to end within `patience` seconds, or as its spec says; nothing if it has or was asked."""
        self._runner.reap(worker)
        if not worker.state.is_settled and not worker.stop_reason:
            worker.patience = patience
            self._stop(worker, reason)

    def hasten(self, worker: Worker) -> None:
        """Give a service no more time to end."""
        if worker.state.is_settled:
            return
        worker.patience = 0.0
        if not worker.stop_reason:
            self._stop(worker, "supervisor")
        elif worker.task is not None:
            self._runner.cancel(worker)

    def cancel_group(self, group: str) -> str:
        """Cancel the workers of a group of the batch that have not ended; return why not, or an empty text."""
        batch = self.registry.batch
        if next(batch.unsettled(group), None) is None and not self._close_feeds(group):
            return "all its workers have ended" if batch.has_group(group) else "there is no such group"
        self.stop_batch("person", group)
        return ""

    def _end_workers(
        self, workers: Iterator[Worker], end: Callable[[Worker], object], group: str | None = None
    ) -> None:
        """End workers of the batch (of a group): the first of them and all that run now, then the others."""
        if self._bulk.for_each(workers, end, freezes=True):
            for worker in self.registry.batch.running():
                if group is None or worker.spec.group == group:
                    act_safely(end, worker)

    def _stop(self, worker: Worker, reason: StopReason) -> None:
        worker.stop_reason = reason
        worker.is_restarting = False
        if worker.is_deciding:
            return
        if worker.task is not None:
            is_first = worker.state is not _CANCELLING
            self._transition(worker, _CANCELLING)
            try:
                self.reporter.cancel_requested(worker)
            except Exception:  # this worker and the others must still stop
                text = "a request to cancel could not be reported"
                log_safely(logger, logging.ERROR, text, worker=worker.name, has_traceback=True)
            if is_first:
                self._runner.cancel(worker)
            else:
                self._runner.cancel_again(worker)
            return
        try:
            self._refund(worker)
            self._leave_queue(worker)
            self._settle(worker, self.reporter.stopped(worker, None, None))
        except BaseException as fault:
            pass_on_interrupt(fault)
            worker.stop_timer()
            worker.is_ready = False
            self._fail_if_lost(worker, fault)

    # Restarting ------------------------------------------------------------------------------------------------------

    def restart(self, worker: Worker) -> str:
        """Give a worker a new incarnation, once it has stopped; return why that is not possible, or an empty text."""
        if not self.accepts_restarts:
            return "the run is ending"
        if self.runs_once:
            return self.runs_once
        if worker.owner is not None:
            return worker.owner.restart()
        self._runner.reap(worker)
        if not self.registry.batch.is_latest(worker):  # by code of the user's that was called when it ended
            return "it has been restarted already"
        if worker.is_deciding:
            if worker.is_restarting or (worker.stop_reason and not worker.state.is_settled):
                return f"it is being {'restarted' if worker.is_restarting else 'cancelled'} already"
            worker.is_restarting = True
            return ""
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
                self._leave_queue(worker)
                self._begin_incarnation(worker)
            case _:
                self.active += 1
                self._begin_incarnation(worker)
        return ""

    def restart_group(self, group: str) -> str:
        """Restart the workers of a group of the batch; return why none can be restarted, or an empty text."""
        batch = self.registry.batch
        if not batch.has_group(group):
            return "there is no such group"
        if not self.accepts_restarts:
            return "the run is ending"
        reasons: dict[str, None] = {}
        if (
            self._bulk.for_each(batch.begun(group), lambda worker: reasons.setdefault(self.restart(worker)))
            or "" in reasons
        ):
            return ""
        return next(iter(reasons), "it has not started yet")

    def _begin_incarnation(self, worker: Worker) -> None:
        self._failures.discard(worker.index)
        self._last_attempts.discard(worker)
        self._bulk.spare(worker)
        self.admission.renew_patience(worker)
        self.registry.batch.begin(worker)
        worker.incarnation += 1
        worker.reset()
        self._transition(worker, _QUEUED)
        try:
            self.reporter.worker_restarted(worker)
        except BaseException as fault:
            pass_on_interrupt(fault)
            self._launch_failed(worker, fault)
            return
        worker.is_ready = True
        self._queue.push_restarted(worker)
        self._fill_slots()

    def hold_restart(self, worker: Worker, delay: float, cause: str) -> None:
        """Note that a settled service will be followed by another incarnation in `delay` seconds."""
        if worker.state.is_settled:
            self.active += 1
        self._transition(worker, _RESTARTING)
        self.reporter.restart_scheduled(worker, delay, cause)

    def drop_restart(self, worker: Worker) -> None:
        """Note that no incarnation will follow a held one after all."""
        if worker.state is _RESTARTING:
            worker.stop_reason = "supervisor"
            try:
                event = self.reporter.stopped(worker, None, None)
            except Exception as fault:
                self._fail(worker, fault)
            else:
                self._settle(worker, event)

    def refuse_restart(self, worker: Worker, reason: str = "") -> None:
        """Report why a service is not restarted: `reason`, or that the incarnation that was meant has gone."""
        if not reason:
            now = self.registry.services.get(worker.name, worker)
            reason = f"that was incarnation {worker.incarnation}, it is {now.incarnation} now"
            if now is worker:
                reason = FORGOTTEN
        self.reporter.command_refused("RestartWorker", worker.name, worker.incarnation, reason)

    def forget(self, name: str) -> None:
        """Drop a settled service that is not to be shown again."""
        self.registry.forget_service(name)

    # Waiting workers -------------------------------------------------------------------------------------------------

    def retry_now(self, worker: Worker) -> str:
        """Let a worker that waits for an attempt make it now; return why not, or an empty text.

        It is the next to get a slot and to pass a rate limit, and may pass a circuit that is not closed, as a probe.
        """
        self._runner.reap(worker)
        if not _is_held_back(worker) and not worker.is_ready:
            return f"it is not waiting for another attempt: {worker.state}"
        self._hurry(worker, is_probe=True)
        self._fill_slots()
        self._report_queued(worker)
        return ""

    def give_up(self, worker: Worker) -> str:
        """Let a worker that backs off or is parked make no further attempt; return why not, or an empty text."""
        self._runner.reap(worker)
        if not _is_held_back(worker):
            return f"it is not waiting for another attempt: {worker.state}"
        if worker.is_between_polls:
            return "it waits for its next poll: there is no attempt to give up"
        if worker.error is None:
            return self.cancel(worker)
        self._refuse_retry(worker, worker.error, GIVEN_UP)
        return ""

    def retry_all_now(self) -> str:
        """Let all that back off or wait for a rate limit try again next, in order; return why not, or an empty text.

        Circuits, throttled keys and the retry budget go on holding their workers.
        """
        waiting = self._held_back()
        hurried = [w for w in waiting if not w.is_ready and self.admission.held_by(w) in {"", RATE}]

        def hurry(worker: Worker) -> None:
            if _is_held_back(worker) and not worker.is_ready:
                self._hurry(worker, is_probe=False)

        report = partial(self._bulk.for_each, iter(hurried), self._report_queued)
        self._bulk.for_each(reversed(hurried), hurry, freezes=True, then=report)
        return "" if waiting else _NONE_WAITS

    def give_up_all(self) -> str:
        """Let all that back off or are parked make no further attempt; return why not, or an empty text.

        Pollers that wait for their next poll have no attempt to give up: they go on.
        """
        waiting = [worker for worker in self._held_back() if not worker.is_between_polls]
        self._bulk.for_each(iter(waiting), self.give_up)
        return "" if waiting else _NONE_WAITS

    def control_circuit(self, key: str, action: Callable[[Circuit], None]) -> str:
        """Isolate, close or probe the circuit of `key`; return why that is not possible, or an empty text."""
        return self.admission.control(key, action)

    def control_key(self, key: str, action: Callable[[Throttle, float], None]) -> str:
        """Release, hold or reset the throttle of `key`; return why that is not possible, or an empty text."""
        return self.admission.control_key(key, action)

    def _held_back(self) -> list[Worker]:
        return [worker for worker in self.registry.under_way() if _is_held_back(worker)]

    def _hurry(self, worker: Worker, *, is_probe: bool) -> None:
        """Put a worker that waits for an attempt before all others."""
        if self.admission.held_by(worker) == RATE:
            self.admission.put_first(worker)
            return
        if not worker.is_ready:
            self._end_wait(worker)
        elif not self._queue.remove(worker) and worker.owner is None:
            self.registry.batch.begin(worker)  # it has never begun
        if worker.is_ready:
            self._queue.push_first(worker)
            if is_probe:
                self.admission.hurry(worker)
