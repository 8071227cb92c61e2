"""The life of a run, common to `Run` and `Supervisor`: how it stops and ends, and what its own engine may do with it.

Both own a `RunControl`, which `control_of` returns: for asyncwatch's own engine thread, plans and watchdog. It is no
part of the public interface.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sys
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Protocol, Self

from asyncwatch.commands import CancelAll, Command, Statistics, StopRun, WorkerStack
from asyncwatch.engine.capture import log_safely
from asyncwatch.engine.current import current, enclosing
from asyncwatch.engine.dispatch import Branches, carry_out
from asyncwatch.engine.feed import WorkerSource
from asyncwatch.engine.lifespan import Lifespan
from asyncwatch.engine.outbox import Listener, Receiver
from asyncwatch.engine.reporter import logger
from asyncwatch.engine.scheduler import Scheduler
from asyncwatch.engine.spec import Outcome
from asyncwatch.engine.stacks import await_stack, is_of_supervisor, stack_frames
from asyncwatch.engine.watchdog import NO_WORKER, Block, Who
from asyncwatch.engine.worker import StopReason, Worker
from asyncwatch.events import Batch, HostFigures, WorkerEnded
from asyncwatch.policies.limits import SIGNAL_SPREAD
from asyncwatch.process import paused_gc

MARGIN = 5.0
"""Seconds without any progress, beyond what workers may take to end, after which `EndWatch` looks again."""


class TreeControl(Branches, Protocol):
    """The supervisors of a run, as far as stopping it concerns them."""

    @property
    def running(self) -> int:
        """How many supervisors run."""

    def expect_signals(self) -> None:
        """Restart no child once the whole tree is to end."""

    def request_stop(self, reason: StopReason) -> None:
        """Ask the whole tree to end."""

    def hasten(self) -> None:
        """Ask the whole tree to end at once."""

    def break_off(self) -> None:
        """End all supervisors, since their workers were abandoned."""

    async def stop(self, reason: StopReason) -> None:
        """End the whole tree."""

    async def started_again(self) -> None:
        """Return when the root, which has ended, was started again."""


class RunControl:
    """Stops and ends a run, and shows it to its engine.

    All methods belong to the thread of the event loop, except those that say otherwise.

    Args:
        scheduler: of the run.
        tree: the supervisors of the run; None for a batch.
        group_timeouts: seconds from the start after which the pending workers of a group are timed out.

    """

    def __init__(
        self, scheduler: Scheduler, tree: TreeControl | None = None, group_timeouts: Mapping[str, float] | None = None
    ) -> None:
        self.is_stopping = False
        """Whether `StopRun` was requested."""
        self._scheduler = scheduler
        self._tree = tree
        self._group_timeouts = dict(group_timeouts or {})
        for limit in self._group_timeouts.values():
            check_timeout(limit)
        self._lifespan: Lifespan | None = None
        self._group_timers: list[asyncio.TimerHandle] = []

    # Before and after the work ---------------------------------------------------------------------------------------

    def use_lifespan(self, lifespan: Lifespan | None) -> None:
        """Keep a context open around the attempts of the run. Before the run starts."""
        self._lifespan = lifespan
        if lifespan is not None:
            self._scheduler.use_lifespan(lifespan)

    async def open_lifespan(self) -> None:
        """Enter the context around the attempts, if there is one; raise what that raises. Before the run starts.

        A run that is stopped meanwhile gives it up: `is_stopping` is true then, and no attempt may start.
        """
        if self._lifespan is not None and not self.is_started:
            if self.is_stopping:
                self._lifespan.give_up()
            await self._lifespan.open(self.grace)

    async def close_lifespan(self) -> None:
        """Leave the context around the attempts, if there is one, within the grace period; raise what that raises."""
        if self._lifespan is not None:
            await self._lifespan.close(self.grace)

    # What the engine sees --------------------------------------------------------------------------------------------

    @property
    def is_started(self) -> bool:
        """Whether the run has started."""
        return self._scheduler.is_started

    @property
    def is_finished(self) -> bool:
        """Whether the run is over: `RunFinished` was reported."""
        return self._scheduler.is_finished

    @property
    def is_at_rest(self) -> bool:
        """Whether the run has started and no worker is active or abandoned."""
        return self.is_started and not self._scheduler.active and not self._scheduler.abandoned

    @property
    def tasks(self) -> int:
        """How many tasks of workers there are."""
        return len(self._scheduler.tasks)

    @property
    def grace(self) -> float:
        """Seconds that a worker may take to end."""
        return self._scheduler.grace

    @property
    def now(self) -> float:
        """Seconds since the run started, 0 before."""
        return self._scheduler.reporter.now() if self.is_started else 0.0

    def resume_after(self, done_before: int) -> None:
        """Note how many items had succeeded before the run, which resumes another one and has not started."""
        self._scheduler.done_before = done_before

    def identify_by(self, identify: Callable[[Worker], str]) -> None:
        """Let `identify` return the idempotency key of a worker."""
        self._scheduler.identify_by(identify)

    def keep_exact_results(self) -> None:
        """Let events mark each result that JSON does not give back as it was. Before the run starts."""
        self._scheduler.reporter.keep_exact_results()

    def add_listener(self, listener: Receiver) -> None:
        """Deliver to `listener` every batch of events emitted from now on."""
        self._scheduler.reporter.outbox.add(listener)

    def deliver_events(self) -> None:
        """Deliver the events so far to all listeners at once."""
        if self.is_started:
            self._scheduler.reporter.outbox.flush()

    def subscribe(self) -> asyncio.Queue[Batch]:
        """Return a queue of every batch of events emitted from now on, for the running event loop."""
        listener = Listener()
        queue = listener.attach()
        self.add_listener(listener)
        return queue

    def statistics(self) -> Statistics:
        """Return the figures of this moment. From any thread."""
        scheduler = self._scheduler
        tokens, capacity = scheduler.retry_tokens
        return Statistics(
            events=scheduler.reporter.outbox.emitted,
            in_flight=scheduler.in_flight,
            queued=scheduler.queued,
            held=scheduler.admission.held,
            tasks=self.tasks,
            detached=scheduler.abandoned,
            retry_tokens=tokens,
            retry_capacity=capacity,
        )

    def outcomes(self) -> list[Outcome]:
        """Return the latest outcome of each worker that has ended, in the order of the workers."""
        with paused_gc():
            return list(self._scheduler.registry.outcomes())

    def keep_no_values(self) -> None:
        """Keep no results and errors of the batch from now on: events report them.

        The error of a worker holds every frame that it passed through: of a million, some gigabytes.
        """
        self._scheduler.registry.batch.keeps_values = False

    def refuse_restarts(self, reason: str) -> None:
        """Restart no worker for a person from now on, for this reason."""
        self._scheduler.runs_once = reason

    def keep_latest(self, size: int) -> None:
        """Keep only the latest `size` or more settled workers, and no values. The run must have no workers so far.

        Others are unknown from then on, and are counted.
        """
        self._scheduler.registry.batch.keep_latest(size)

    def watch_ends(self, callback: Callable[[Worker, WorkerEnded, object, BaseException | None], None]) -> None:
        """Call `callback`, which must not raise, whenever a worker of the batch ends.

        It gets the worker, the event, and what the target returned or raised. `pending` still counts the worker.
        """
        self._scheduler.watch_ends(callback)

    def call_when_settled(self, callback: Callable[[], object]) -> None:
        """Call `callback` once when no worker has anything left to do and no more can join."""
        settled: asyncio.Future[None] = self._scheduler.loop.create_future()
        settled.add_done_callback(lambda _settled: callback())
        self._scheduler.wake_when_settled(settled)

    @property
    def is_active(self) -> bool:
        """Whether a worker has not settled, or more may join."""
        return self._scheduler.active > 0

    @property
    def pending(self) -> int:
        """How many workers have not settled."""
        return self._scheduler.pending

    @property
    def workers(self) -> int:
        """How many workers there have been."""
        return len(self._scheduler.registry)

    @property
    def concurrency(self) -> int:
        """Most attempts in flight."""
        return self._scheduler.concurrency

    def find(self, name: str) -> Worker | None:
        """Return a worker as it is now, to be read only; None if there is no such worker."""
        return self._scheduler.registry.get(name)

    @property
    def context(self) -> Context:
        """A copy of the context in which the run started."""
        return self._scheduler.reporter.context

    def cancel(self, name: str, message: object = None) -> bool:
        """Ask a worker to stop, by a `CancelledError` with that message; return whether it had not ended."""
        worker = self._scheduler.registry.get(name) if self.is_started and not self.is_finished else None
        if worker is None:
            return False
        worker.cancel_message = message
        return not self._scheduler.cancel(worker)

    def open_feed(self, source: WorkerSource) -> None:
        """Let workers of `source` join the batch once it has started. Before the run starts."""
        self._scheduler.open_feed(source)

    def expect_signals(self) -> None:
        """Take it for no failure if the signal that stops the run also ends processes that workers have started."""
        self._scheduler.hold_ends(SIGNAL_SPREAD)
        if self._tree is not None:
            self._tree.expect_signals()

    def running_worker(self, loop: asyncio.AbstractEventLoop) -> Who:
        """Return whose attempt runs on `loop` at this moment, `NO_WORKER` if unknown. From any thread.

        A task that a worker has started counts as the worker from Python 3.12 on, which shows a task's context.
        """
        task = asyncio.current_task(loop)
        if task is None:
            return NO_WORKER
        tasks = self._scheduler.tasks
        worker = tasks.get(task)
        if worker is None and sys.version_info >= (3, 12):
            for variable in (current, enclosing):  # the first is of this run, or of one that a worker of it awaits
                candidate = task.get_context().get(variable)
                attempt = (candidate.task or candidate.abandoned_task) if isinstance(candidate, Worker) else None
                if worker is None and attempt is not None:
                    worker = tasks.get(attempt)
        return NO_WORKER if worker is None else Who(worker.name, worker.incarnation, worker.attempt)

    def stack_of(self, name: str) -> WorkerStack | None:
        """Return what the worker `name` awaits, outermost first; None if there is no such worker.

        Call it from another task than the worker's own.
        """
        worker = self._scheduler.registry.get(name)
        if worker is None:
            return None
        task = worker.task or worker.abandoned_task
        stack = [] if task is None or task.done() else await_stack(task.get_coro())
        frames = stack_frames(tuple(frame for frame in stack if not is_of_supervisor(frame.module)))
        return WorkerStack(name, worker.incarnation, worker.attempt, frames)

    def call_before_end(self, callback: Callable[[], object]) -> None:
        """Call `callback`, which must not raise, just before the end of the run is reported."""
        self._scheduler.reporter.call_before_end(callback)

    def record_block(self, block: Block) -> None:
        """Report a block of the event loop that has ended."""
        if self.is_started and not self.is_finished:
            self._scheduler.reporter.loop_blocked(block)

    def record_log(self, worker: str | None, level: str, source: str, message: str) -> None:
        """Report a log record or a printed line of `worker`, None for no worker."""
        scheduler = self._scheduler
        reporter = scheduler.reporter
        if reporter.is_started and not scheduler.is_finished:
            reporter.log_recorded(worker, level, source, message)

    def report_hosts(
        self,
        *,
        joined: tuple[str, int, int] | None = None,
        lost: tuple[str, str, int] | None = None,
        figures: tuple[HostFigures, ...] = (),
    ) -> None:
        """Report a process of a cluster that joined (address, slots, PID) or was lost (address, reason, attempts).

        Or the `figures` of all processes.
        """
        reporter = self._scheduler.reporter
        if not reporter.is_started or self.is_finished:
            return
        if joined is not None:
            reporter.host_joined(*joined)
        if lost is not None:
            reporter.host_lost(*lost)
        if figures:
            reporter.hosts_reported(figures)

    def report_place(self, worker: Worker, host: str) -> None:
        """Report in which process of a cluster the worker's attempt runs."""
        self._scheduler.reporter.attempt_placed(worker, host)

    def report_recording(self, since: float, reason: str) -> None:
        """Report why the journal cannot be written, and since when; without a reason, that it is written again."""
        if not self.is_started or self.is_finished:
            return
        if reason:
            self._scheduler.reporter.recording_failed(since, reason)
        else:
            self._scheduler.reporter.recording_resumed()

    def abandon(self, block: Block | None) -> None:
        """Report the end of the run from another thread, because a worker blocks the loop. Nothing is reported after.

        `block` is what is known of that.
        """
        self._scheduler.abandon_run(block)

    def incarnation_of(self, name: str) -> int:
        """Return the number of a worker's latest incarnation.

        Raises:
            KeyError: there is no such worker.

        """
        worker = self._scheduler.registry.get(name)
        if worker is None:
            raise KeyError(f"no worker is named {name!r}")
        return worker.incarnation

    async def wait_settled(self) -> None:
        """Return when no worker has anything left to do."""
        await self._scheduler.wait_settled()

    # Commands --------------------------------------------------------------------------------------------------------

    def carry_out(self, command: Command) -> bool:
        """Do what `command` requests; return whether that was possible. If not, the event `CommandRefused` says why."""
        scheduler = self._scheduler
        if isinstance(command, CancelAll | StopRun):
            is_final = isinstance(command, StopRun)
            if not (is_final and self.is_stopping):
                self.stop_all(is_final=is_final)
            if isinstance(command, StopRun) and command.at_once:
                self._hasten()
            return True
        if not scheduler.is_started or scheduler.is_finished:
            return False
        return carry_out(scheduler, self._tree, command)

    def hold_slots(self, is_held: bool) -> None:
        """Give no worker a slot for now, or give slots again."""
        if self.is_started and not self.is_finished:
            self._scheduler.hold_slots(is_held)

    def stop_all(self, *, is_final: bool) -> None:
        """Ask all workers to stop for a person: the batch stays open, or the run ends (`is_final`)."""
        scheduler = self._scheduler
        # Supervisors run before their first child does, and may run when all children have ended.
        is_running = scheduler.active or (is_final and self._tree is not None and self._tree.running)
        if is_final:
            self.is_stopping = True
            scheduler.close_restarts()
            if is_running or not scheduler.is_started:
                scheduler.note_interrupted()
        if not scheduler.is_started:
            if is_final and self._lifespan is not None:
                self._lifespan.give_up()
            return
        if is_running:
            scheduler.reporter.run_cancel_requested("person")
        if is_final and self._tree is not None:
            # Also when no worker runs: its supervisors would go on.
            self._tree.request_stop("run")
            scheduler.stop_batch("run")
        elif scheduler.active:
            scheduler.stop_active("run")

    def _hasten(self) -> None:
        """Give no worker any more time to end."""
        scheduler = self._scheduler
        if scheduler.is_started and scheduler.active:
            scheduler.reporter.run_cancel_requested("at once")
            if self._tree is not None:
                self._tree.hasten()
            scheduler.hasten_batch()

    # The end ---------------------------------------------------------------------------------------------------------

    def start_group_timers(self) -> None:
        """Start to count the time of groups with a time-out."""
        scheduler = self._scheduler
        self._group_timers = [
            scheduler.reporter.loop.call_later(seconds, scheduler.stop_batch, "timeout", group)
            for group, seconds in self._group_timeouts.items()
        ]

    def stop_group_timers(self) -> None:
        """Forget the time-outs of groups."""
        for timer in self._group_timers:
            timer.cancel()

    async def tree_started_again(self) -> None:
        """Let a person start the root of the tree again, which has ended; return when that was done. Never for a batch.

        Cancel it when the run is about to end.
        """
        tree = self._tree
        if tree is None:
            await asyncio.get_running_loop().create_future()
            return
        tree.can_start_again = True
        try:
            await tree.started_again()
        finally:
            tree.can_start_again = False

    def end_workers(self, reason: StopReason) -> None:
        """Ask every worker that has not settled to stop, because the runner ends; restart none until it has ended."""
        self._scheduler.close_restarts()
        self._scheduler.stop_active(reason)

    def interrupt(self) -> None:
        """Ask every worker that has not settled to stop, because the run as a whole was cancelled."""
        scheduler = self._scheduler
        if scheduler.active:
            scheduler.note_interrupted()
            for step in (scheduler.reporter.run_cancel_requested, self.end_workers):
                try:
                    step("run")
                except Exception:  # `EndWatch` ends workers that were not asked to stop
                    log_safely(logger, logging.ERROR, "a step of stopping the run failed", has_traceback=True)

    def end_batch(self) -> None:
        """Ask the batch beside a tree to end: the tree has ended, or is about to. No worker is restarted after that."""
        scheduler = self._scheduler
        scheduler.close_restarts()
        self.stop_group_timers()
        if scheduler.has_open_batch:
            scheduler.note_interrupted()
            scheduler.reporter.run_cancel_requested("run")
            scheduler.stop_batch("run")

    async def settle(self) -> None:
        """Wait until every worker has settled, however often the caller is cancelled meanwhile; then pass that on.

        A cancellation stops all workers: one that does not end within its grace period is abandoned.
        """
        cancellation: asyncio.CancelledError | None = None
        with contextlib.ExitStack() as watches:
            while self._scheduler.active:
                try:
                    await self._scheduler.wait_settled()
                except asyncio.CancelledError as error:
                    if cancellation is None:
                        watches.enter_context(EndWatch(self._scheduler, self._tree))
                    cancellation = error
                    self.interrupt()
        if cancellation is not None:
            raise cancellation

    async def end_all(self) -> None:
        """Ask every worker that has not settled to stop, and wait for that."""
        with EndWatch(self._scheduler, self._tree):
            self.interrupt()
            await self.settle()

    async def finish(self, *, has_tree: bool = False) -> None:
        """End the run: stop the batch and the tree, if it was launched, and report the end.

        Nothing if the run has not started or is over.
        """
        scheduler = self._scheduler
        if not scheduler.is_started:
            await self.close_lifespan()
        if scheduler.is_finished or not scheduler.is_started:
            return
        scheduler.close_restarts()
        faults: list[BaseException] = []
        try:
            with EndWatch(scheduler, self._tree):
                for step in (self._stop_tree, self.end_all) if has_tree else (self.end_all,):
                    try:
                        await step()
                    except (Exception, asyncio.CancelledError) as fault:  # the next step must still follow
                        faults.append(fault)
            try:
                await self.close_lifespan()
            except (Exception, asyncio.CancelledError) as fault:
                faults.append(fault)
        finally:
            scheduler.finish()
        if faults:
            raise next((fault for fault in faults if isinstance(fault, asyncio.CancelledError)), faults[0])

    async def _stop_tree(self) -> None:
        if self._tree is None:
            return
        try:
            self.end_batch()
        finally:
            await self._tree.stop("run")


class EndWatch:
    """A context in which a run is being stopped; breaks the run off if it makes no progress, whatever the cause.

    Between the ends of two workers no more time passes than the longest grace period of a running worker. A run that
    takes `MARGIN` seconds more, twice, has lost track of a worker. There is no limit while a worker with a `shutdown`
    of inf runs.
    """

    def __init__(self, scheduler: Scheduler, tree: TreeControl | None) -> None:
        self._scheduler = scheduler
        self._tree = tree
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._look_later(is_second=False)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @property
    def _progress(self) -> tuple[int, int]:
        """Counts that change whenever the run gets closer to its end."""
        return self._scheduler.active, 0 if self._tree is None else self._tree.running

    def _look_later(self, *, is_second: bool) -> None:
        patience = self._scheduler.longest_patience()
        wait = MARGIN if is_second or patience == math.inf else patience + MARGIN
        is_last = is_second and patience < math.inf
        self._timer = self._scheduler.reporter.loop.call_later(wait, self._look, self._progress, is_last)

    def _look(self, before: tuple[int, int], is_last: bool) -> None:
        is_stuck = self._progress == before
        if is_stuck and is_last:
            is_first = not self._scheduler.is_broken_off
            self._scheduler.break_off()
            if is_first and self._tree is not None:
                self._tree.break_off()
        else:
            self._look_later(is_second=is_stuck)


class Controlled(Protocol):
    """A `Run` or a `Supervisor`."""

    @property
    def _control(self) -> RunControl:
        """Its internal interface."""


def control_of(run: Controlled) -> RunControl:
    """Return the internal interface of a `Run` or a `Supervisor`."""
    return run._control  # noqa: SLF001  no user of the two is to find it on them


def check_timeout(seconds: float | None) -> None:
    """Raise `ValueError` unless `seconds` is None or a time; `TypeError` if it is no number at all."""
    if seconds is not None and not seconds >= 0:
        raise ValueError(f"a timeout is 0 seconds or more, not {seconds}")
