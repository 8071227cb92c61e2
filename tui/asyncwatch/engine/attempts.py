"""One attempt: its task, its luck, its time-outs, its cancellation with grace, and its abandonment.

A task exists for an attempt in flight and for nothing else. The runner creates and cancels tasks, counts slots, and
reports ends by callbacks; what an end means for the worker is the scheduler's business.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from asyncwatch.engine.capture import finish_lines, log_safely, printing
from asyncwatch.engine.current import attempt_number, current
from asyncwatch.engine.describe import ErrorFacts, facts_of, target_name
from asyncwatch.engine.event_loop import is_interrupt, note_abandoned
from asyncwatch.engine.lifespan import Lifespan, OpenLifespan
from asyncwatch.engine.progress import Progress
from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.stacks import boundary, stuck_at
from asyncwatch.engine.worker import KeysOfNames, Worker
from asyncwatch.events import WorkerEnded
from asyncwatch.policies.bad_luck import Luck
from asyncwatch.policies.classify import AttemptTimeout, DeadlineExceeded, LivenessTimeout, Renew
from asyncwatch.process import children_mark
from asyncwatch.text import luck

logger = logging.getLogger("asyncwatch.worker")

LOOKS = 10
"""Looks for a sign of life within the time that a service may go without one."""
_SHORTEST_LOOK = 1e-3
LAST_ITERATIONS = 16
"""Loop iterations, and no time, that a worker gets to end when its grace period is over: a few awaits deep. A loop
that was blocked for the whole grace period has given it none before."""


def end_of(attempt: asyncio.Task[Any]) -> tuple[object, BaseException | None]:
    """Return what the target returned and raised in an attempt whose task is done; None for what it did not."""
    if attempt.cancelled():
        return None, asyncio.CancelledError("cancelled by other code")
    error = attempt.exception()
    if error is not None:
        return None, error
    result = attempt.result()
    return (None, result.error) if type(result) is _Raised else (result, None)


def past_deadline(worker: Worker) -> str:
    """Return the message of a worker whose deadline is over."""
    return f"not done within {worker.spec.deadline:g} s in all"


def late_error(overdue: TimeoutError, error: BaseException) -> BaseException:
    """Return the error of an attempt whose time was over before it raised `error`."""
    if error is overdue or isinstance(error, asyncio.CancelledError):
        return overdue
    if not isinstance(error, Exception):  # a request to exit
        return error
    overdue.__cause__ = error
    return overdue


_first_report = threading.Lock()
"""Held while the `Progress` of an attempt is made: several threads may report at once."""


def _is_of_earlier_attempt(worker: Worker) -> bool:
    """Return whether the caller is code of an attempt of this worker that is not its latest one, in any thread."""
    return current.get() is worker and attempt_number.get() != worker.number


class _Raised:
    """Carries a `SystemExit` or `KeyboardInterrupt` of a target past its task, which would let it end the loop."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class AttemptRunner:
    """Runs attempts, one task each, in copies of the context in which the run started.

    All methods belong to the thread of the event loop.

    Args:
        reporter: reports the start of each attempt.
        luck: the draws of the run.
        grace: seconds that a worker may take to end, if its spec does not say.
        on_end: called with the worker, the result and the error of an attempt that ended in time.
        on_abandoned: called with a worker whose attempt does not end, and the line it is stuck at. Returns the event
            that reports it, None if reporting failed.
        on_late_end: called when an abandoned attempt ends after all: with the worker, the event that reported it,
            whether it was the worker's latest attempt, its result and its error.

    """

    def __init__(
        self,
        reporter: Reporter,
        *,
        luck: Luck,
        grace: float,
        on_end: Callable[[Worker, object, BaseException | None], None],
        on_abandoned: Callable[[Worker, str], WorkerEnded | None],
        on_late_end: Callable[[Worker, WorkerEnded, bool, object, BaseException | None], None],
    ) -> None:
        self.tasks: dict[asyncio.Task[Any], Worker] = {}
        """Every task that has not ended, abandoned ones too, and the worker whose attempt it is."""
        self.abandoned: dict[asyncio.Task[Any], WorkerEnded | None] = {}
        """The tasks that were abandoned, with the event that reported it; None if reporting failed."""
        self.slots_taken = 0
        """Attempts in flight that hold a slot: those of workers without an owner."""
        self.started = 0
        """Attempts so far."""
        self.threshold: float | None = None
        """The bad luck threshold of all workers; None for each worker's own."""
        self.lifespan: Lifespan | None = None
        """Gives targets the value of a context around the attempts."""
        self.has_patience = True
        """Whether workers of the batch get their grace period."""
        self.identify: Callable[[Worker], str] = KeysOfNames()
        """Returns the idempotency key of a worker."""
        self.hold = 0.0
        """Seconds for which an attempt that fails, or a service that returns, goes on when a child process has ended: a
        signal may have ended it, and a stop may follow. Most workers have no child, and their ends take no time."""
        self._child_mark = children_mark()
        self._child_ended_at = -math.inf
        self._reporter = reporter
        self._luck = luck
        self._grace = grace
        self._on_end = on_end
        self._when_done = self._task_done  # one bound method for all tasks
        self._on_abandoned = on_abandoned
        self._on_late_end = on_late_end

    @property
    def in_flight(self) -> int:
        """Attempts in flight, without abandoned ones."""
        return len(self.tasks) - len(self.abandoned)

    def start(self, worker: Worker) -> None:
        """Start the worker's next attempt in a task of its own."""
        spec = worker.spec
        luck = spec.bad_luck
        reporter = self._reporter
        worker.attempt = attempt = worker.attempt + 1
        worker.started_at = started_at = reporter.now()
        number = worker.turns + attempt
        if attempt == 1:
            if not worker.turns:
                worker.first_started_at = started_at
            else:
                worker.poll_started_at = started_at
        else:
            worker.cancels = 0
            worker.error = None
            worker.paid = 0.0
            worker.stop_timer()
        worker.bad_luck = draw = self._luck.draw("luck", worker.name, worker.incarnation, number)
        threshold = self.threshold
        worker.is_struck = draw > (luck.threshold if threshold is None else threshold)
        if luck.latency is not None:
            draw = self._luck.draw("latency", worker.name, worker.incarnation, number)
            worker.latency = luck.added_latency(draw)
        if attempt == 1 and spec.deadline is not None:
            worker.deadline_at = started_at + spec.deadline
        self.started += 1
        worker.number = self.started
        worker.runner = self
        reporter.attempt_started(worker)
        context = reporter.context
        # Not by the loop's task factory: an eager one would run the target inside this very call.
        task = asyncio.Task(self._call_target(worker), loop=reporter.loop, name=worker.name, context=context.copy())
        # The caller may be another worker, which restarts this one: neither sees the other's context variables.
        task.add_done_callback(self._when_done, context=context.copy())
        worker.task = task
        self.tasks[task] = worker
        self.slots_taken += worker.owner is None
        if spec.attempt_timeout is not None or worker.deadline_at is not None:
            self._time(worker)
        if spec.liveness is not None and worker.owner is not None:
            worker.alive_at = started_at
            worker.overdue = None  # of the attempt before
            self._look_later(worker, task, spec.liveness, started_at)

    def undo_start(self, worker: Worker) -> None:
        """Take back an attempt in the call that started it: its target is not called."""
        task, worker.task = worker.task, None
        if task is not None:
            del self.tasks[task]
            self.slots_taken -= worker.owner is None
            task.cancel()  # before its first step

    def cancel(self, worker: Worker) -> None:
        """Raise `CancelledError` in the worker's attempt, and give it the grace period to end."""
        assert worker.task is not None  # noqa: S101  it is running or cancelling
        self.cancel_again(worker)
        worker.stop_timer()
        patience = self._patience(worker)
        loop = self._reporter.loop
        if patience == 0:
            worker.timer = loop.call_soon(self._count_down, worker, LAST_ITERATIONS)
        elif patience < math.inf:
            worker.timer = loop.call_later(patience, self._count_down, worker, LAST_ITERATIONS)

    def cancel_again(self, worker: Worker) -> None:
        """Raise `CancelledError` once more in an attempt that is cancelling; that gives it no more time."""
        assert worker.task is not None  # noqa: S101  it is cancelling
        worker.cancels += 1
        if worker.cancel_message is None:
            worker.task.cancel()
        else:
            worker.task.cancel(worker.cancel_message)

    def reap(self, worker: Worker) -> None:
        """Handle the end of an attempt whose callback is still to come: whatever follows comes after that end."""
        if worker.task is not None and worker.task.done():
            self._task_done(worker.task)

    def break_off(self, worker: Worker) -> None:
        """Abandon the worker's attempt and report nothing."""
        worker.stop_timer()
        if worker.reported is not None:
            worker.reported.drop()
            worker.reported = None
        task, worker.task = worker.task, None
        if task is not None:
            self.slots_taken -= worker.owner is None
            self.abandoned[task] = None
            note_abandoned(task)
            task.cancel()

    def progress_of(self, worker: Worker) -> Progress | None:
        """Return the progress of the worker's attempt in flight, in any thread.

        None if there is none, or if the caller is an attempt that was abandoned: it must not speak for its successor.
        """
        if worker.task is None:
            return None
        if _is_of_earlier_attempt(worker):
            return None
        with _first_report:
            if worker.reported is None:
                worker.reported = Progress(self._reporter, partial(self._reporter.progress_reported, worker))
            return worker.reported

    def is_cancelled(self, worker: Worker) -> bool:
        """Return whether the worker's attempt that the caller runs in was cancelled, or has ended; in any thread."""
        return worker.task is None or worker.cancels > 0 or _is_of_earlier_attempt(worker)

    def note_alive(self, worker: Worker) -> None:
        """Note that the worker's attempt in flight gives a sign of life, in any thread."""
        if not _is_of_earlier_attempt(worker):
            worker.alive_at = self._reporter.now()

    def _look_later(self, worker: Worker, task: asyncio.Task[Any], liveness: float, now: float) -> None:
        """Look for a sign of life in time for the end of the period, and ten times in it at least."""
        wait = max(min(liveness / LOOKS, worker.alive_at + liveness - now), _SHORTEST_LOOK)
        self._reporter.loop.call_later(wait, self._look_for_life, worker, task, liveness, now + wait)

    def _look_for_life(self, worker: Worker, task: asyncio.Task[Any], liveness: float, due: float) -> None:
        """End an attempt if its worker is ready and gave no sign of life for `liveness` seconds; else look later."""
        if worker.task is not task or task.done() or worker.cancels:
            return
        now = self._reporter.now()
        if worker.owner is None or not worker.owner.is_ready:
            worker.alive_at = now
        else:  # a loop that stands still, or a process that is suspended, lets no worker give a sign
            worker.alive_at = min(worker.alive_at + max(now - due, 0.0), now)
        if worker.alive_at + liveness <= now:
            self._timed_out(worker, LivenessTimeout(f"no sign of life for {liveness:g} s"))
        else:
            self._look_later(worker, task, liveness, now)

    def longest_patience(self) -> float:
        """Return the longest grace period of the attempts in flight, in seconds."""
        running = (worker for task, worker in self.tasks.items() if task not in self.abandoned)
        limits = (worker.spec.shutdown for worker in running)
        return max((self._grace if limit is None else limit for limit in limits), default=0.0)

    def facts_of(self, error: BaseException) -> ErrorFacts:
        """Return what is shown of an attempt's error."""
        if isinstance(error, Renew) and error.__cause__ is not None:
            error = error.__cause__
        return facts_of(error)

    @boundary
    async def _call_target(self, worker: Worker) -> Any:
        """Call the worker's target, unless bad luck injects a fault instead."""
        current.set(worker)
        attempt_number.set(worker.number)
        worker.identify = self.identify
        slot: OpenLifespan | None = None
        try:
            if worker.latency:
                await asyncio.sleep(worker.latency)
            if worker.is_struck:
                text = "%s: bad luck %s injects a fault"
                log_safely(logger, logging.WARNING, text, worker.name, luck(worker.bad_luck), worker=worker.name)
                draw = self._luck.draw("fault", worker.name, worker.incarnation, worker.draw_number)
                raise worker.spec.bad_luck.fault(draw)
            args = worker.args
            if (lifespan := self.lifespan) is not None and lifespan.serves(worker.spec.target):
                if lifespan.is_per_slot:
                    slot = await lifespan.acquire()
                args = (*args, lifespan.value if slot is None else slot.value)
            if not self.hold or worker.spec.every is not None:  # a poll that fails restarts nothing
                return await worker.spec.target(*args)
            try:
                result = await worker.spec.target(*args)
            except Exception:
                if self._has_child_ended():
                    await asyncio.sleep(self.hold)
                raise
            if worker.owner is not None and worker.spec.restart == "permanent" and self._has_child_ended():
                await asyncio.sleep(self.hold)
            return result  # noqa: TRY300  the wait is a part of the attempt
        except Renew:
            if slot is not None and lifespan is not None:
                lifespan.renew(slot)
                slot = None
            raise
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None or "await" not in str(error):
                raise
            text = f"{target_name(worker.spec.target)} returned nothing to await, as a plain function does"
            raise TypeError(f"{text}: use asyncwatch.in_thread(function), or an async def") from None
        except SystemExit as error:
            return _Raised(error)
        except KeyboardInterrupt as error:
            if is_interrupt(error):
                raise
            return _Raised(error)
        finally:
            if slot is not None and lifespan is not None:
                lifespan.release(slot)
            if printing:
                finish_lines(worker.name)
            # An error's traceback holds this frame, and the worker's task holds the error: a cycle.
            del worker

    def _has_child_ended(self) -> bool:
        """Return whether a child process has ended not long ago, or at all since this was asked before."""
        mark, now = children_mark(), self._reporter.now()
        if mark != self._child_mark:
            self._child_mark, self._child_ended_at = mark, now
        return now - self._child_ended_at < self.hold

    def _time(self, worker: Worker) -> None:
        """End the attempt by its time-out or by the worker's deadline, whichever comes first."""
        seconds = worker.spec.attempt_timeout
        left = None if worker.deadline_at is None else worker.deadline_at - worker.started_at
        error: TimeoutError
        if left is not None and (seconds is None or left <= seconds):
            seconds, error = left, DeadlineExceeded(past_deadline(worker))
        else:
            assert seconds is not None  # noqa: S101  there is one of the two
            error = AttemptTimeout(f"no result within {seconds:g} s")
        worker.overdue = None  # of the attempt before
        worker.timer = self._reporter.loop.call_later(seconds, self._timed_out, worker, error)

    def _timed_out(self, worker: Worker, error: TimeoutError) -> None:
        if worker.task is None or worker.task.done():  # it ended in this very loop iteration
            return
        worker.overdue = error
        self.cancel(worker)

    def _patience(self, worker: Worker) -> float:
        if worker.patience is not None:
            return worker.patience
        if not self.has_patience:
            return 0.0
        shutdown = worker.spec.shutdown
        return self._grace if shutdown is None else shutdown

    def _count_down(self, worker: Worker, iterations: int) -> None:
        if iterations:
            worker.timer = self._reporter.loop.call_soon(self._count_down, worker, iterations - 1)
        else:
            self._abandon(worker)

    def _abandon(self, worker: Worker) -> None:
        """Give the worker's slot to another. Its task stays in `tasks`, so that it is not collected half-way."""
        assert worker.task is not None  # noqa: S101  the timer ends with the task
        if worker.task.done():  # in this very loop iteration: its callback is still to come
            return
        stack = stuck_at(worker.task.get_coro())
        worker.close_progress()
        task = worker.abandoned_task = worker.task
        worker.task = worker.timer = None
        self.slots_taken -= worker.owner is None
        self.abandoned[task] = None
        note_abandoned(task)
        self.abandoned[task] = self._on_abandoned(worker, stack)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        worker = self.tasks.pop(task, None)
        if worker is None:  # its end was handled before this callback came
            return
        result, error = end_of(task)
        if worker.task is task:
            worker.task = None
            if worker.reported is not None:
                worker.close_progress()
            if worker.timer is not None:
                worker.stop_timer()
            self.slots_taken -= worker.owner is None
            self._on_end(worker, result, error)
            return
        reported = self.abandoned.pop(task, None)
        is_latest = worker.abandoned_task is task
        if is_latest:
            worker.abandoned_task = None  # its context holds the worker
        if reported is not None:
            self._on_late_end(worker, reported, is_latest, result, error)
