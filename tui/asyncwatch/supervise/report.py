"""Tells what happens to workers and their supervisors: makes the events, and the log records that go with them."""

from __future__ import annotations

import itertools
import logging
import os.path
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING

from asyncwatch.events import (
    AttemptFailed,
    AttemptHeld,
    AttemptStarted,
    CancelRequested,
    ChildRemoved,
    PollFailed,
    PollFinished,
    RestartCounted,
    RestartLimitReached,
    RestartScheduled,
    RetryRefused,
    RetryScheduled,
    SupervisorStarted,
    SupervisorTerminated,
    WorkerCancelled,
    WorkerEnded,
    WorkerExhausted,
    WorkerFailed,
    WorkerReady,
    WorkerRestarted,
    WorkersQueued,
    WorkerSucceeded,
    WorkerTimedOut,
    WorkerUnresponsive,
)
from asyncwatch.supervise.blame import frame_of, is_of_supervisor, place_of
from asyncwatch.supervise.describe import count, describe_error, error_line, jsonable
from asyncwatch.supervise.run_report import RunReporter, logger
from asyncwatch.supervise.safe_log import log_safely
from asyncwatch.supervise.spec import WorkerSpec
from asyncwatch.supervise.tree.paths import shown_path
from asyncwatch.supervise.tree.restart import RestartWindow
from asyncwatch.supervise.verdict import Verdict
from asyncwatch.supervise.worker import Worker

if TYPE_CHECKING:
    from asyncwatch.supervise.tree.node import Node

_FRAMES = 40
_QUEUED_AT_ONCE = 2_000
"""Workers that one `WorkersQueued` names at the most."""


def _at(error: BaseException) -> str:
    """Return ` at jobs.py:3 fetch`, the place of the worker's own code that an error comes from; empty if none is."""
    steps = itertools.islice(traceback.walk_tb(error.__traceback__), _FRAMES)
    frames = (frame_of(frame, line) for frame, line in steps)
    foreign = tuple(frame for frame in frames if not is_of_supervisor(frame.module))
    if not foreign:
        return ""
    place = place_of(foreign)
    name = os.path.basename(place.file)  # noqa: PTH119  a Path takes ten times as long, for every failure
    return f" at {name}:{place.line} {place.function}"


def _retry_level(worker: Worker) -> int:
    """Return the level at which retries are logged: they are no news of a poller that is known to fail."""
    return logging.DEBUG if worker.failed_polls else logging.WARNING


class Reporter(RunReporter):
    """Tells also of the workers of a run, and of the supervisors of its tree."""

    def workers_queued(self, spec: WorkerSpec, names: Iterable[str]) -> None:
        """Tell who is in the fleet, in order: workers of the same group and number of attempts as `spec` has."""
        group, attempts, rest = spec.group, spec.retry.max_attempts, iter(names)
        while chunk := tuple(itertools.islice(rest, _QUEUED_AT_ONCE)):
            self._emit(WorkersQueued(self._next_seq(), self.now(), group, attempts, chunk))

    def attempt_started(self, worker: Worker) -> None:
        """Tell that an attempt begins; `worker.started_at` says when."""
        self._emit(
            AttemptStarted(
                self._next_seq(),
                worker.started_at,
                worker.name,
                worker.incarnation,
                worker.attempt,
                worker.bad_luck,
                worker.latency,
            )
        )

    def attempt_failed(self, worker: Worker, error: BaseException, stack: str, verdict: Verdict) -> None:
        """Tell that an attempt ended in `error`."""
        now = self.now()
        elapsed = round(now - worker.started_at, 6)
        name, incarnation, attempt = worker.name, worker.incarnation, worker.attempt
        is_retriable, error_class = verdict.is_retriable, verdict.error_class.value
        facts = (*describe_error(error), is_retriable, worker.is_struck, elapsed, stack, error_class)
        self._emit(AttemptFailed(self._next_seq(), now, name, incarnation, attempt, *facts))

    def attempt_held(self, worker: Worker, key: str, reason: str) -> None:
        """Tell what the worker's next attempt, which could start, has to wait for."""
        now, following = self.now(), worker.attempt + 1
        self._emit(AttemptHeld(self._next_seq(), now, worker.name, worker.incarnation, following, key, reason))

    def retry_scheduled(self, worker: Worker, error: BaseException, verdict: Verdict, delay: float) -> None:
        """Tell that the next attempt starts in `delay` seconds."""
        name, most, following = worker.name, verdict.max_attempts, worker.attempt + 1
        told = following, delay, verdict.is_asked_for, most
        self._emit(RetryScheduled(self._next_seq(), self.now(), name, worker.incarnation, *told))
        text = "%s: retry %d of %d in %.2f s after %s"
        cause = error_line(*describe_error(error))
        self._log(_retry_level(worker), worker, text, name, worker.attempt, most - 1, delay, cause)

    def retry_refused(self, worker: Worker, reason: str) -> None:
        """Tell that the worker gets no further attempt."""
        now, following = self.now(), worker.attempt + 1
        self._emit(RetryRefused(self._next_seq(), now, worker.name, worker.incarnation, following, reason))
        text = "%s: no retry after attempt %d: %s"
        self._log(_retry_level(worker), worker, text, worker.name, worker.attempt, reason)

    def cancel_requested(self, worker: Worker) -> None:
        """Tell that a running worker is asked to stop."""
        now, reason = self.now(), worker.stop_reason
        self._emit(CancelRequested(self._next_seq(), now, worker.name, worker.incarnation, reason))

    def worker_restarted(self, worker: Worker) -> None:
        """Tell that a new incarnation is queued."""
        self._emit(WorkerRestarted(self._next_seq(), self.now(), worker.name, worker.incarnation))

    def supervisor_started(self, node: Node) -> None:
        """Tell that a supervisor begins to start its children."""
        spec = node.spec
        limits = spec.max_restarts, float(spec.within), spec.auto_shutdown
        facts = (node.path, node.parent, node.strategy, *limits, node.incarnation)
        self._emit(SupervisorStarted(self._next_seq(), self.now(), *facts))

    def supervisor_terminated(self, path: str, reason: str) -> None:
        """Tell that a supervisor and all its children have ended."""
        self._emit(SupervisorTerminated(self._next_seq(), self.now(), path, reason))

    def restart_counted(self, path: str, child: str, window: RestartWindow) -> None:
        """Tell that a restart counts for the limit of `path`, a supervisor's or the child's own."""
        facts = (len(window), window.max_restarts, float(window.within))
        self._emit(RestartCounted(self._next_seq(), self.now(), path, child, *facts))

    def restart_limit_reached(self, path: str, window: RestartWindow) -> None:
        """Tell that there was one restart too many."""
        facts = (len(window), float(window.within))
        self._emit(RestartLimitReached(self._next_seq(), self.now(), path, *facts))
        limit = count(window.max_restarts, "restart")
        text = "%s reached its limit of %s in %g s"
        log_safely(logger, logging.ERROR, text, shown_path(path), limit, window.within)

    def child_removed(self, path: str, child: str) -> None:
        """Tell that a supervisor forgot a child."""
        self._emit(ChildRemoved(self._next_seq(), self.now(), path, child))

    def worker_ready(self, worker: Worker, value: object) -> None:
        """Tell that a worker of a tree has started."""
        self._emit(WorkerReady(self._next_seq(), self.now(), worker.name, worker.incarnation, jsonable(value)))

    def ready_too_late(self, worker: Worker) -> None:
        """Warn of a worker that says it is ready when it has been taken for that already."""
        text = "%s: ready() after its first wait is ignored, it was ready at that; set announces_ready to be waited for"
        self._log(logging.WARNING, worker, text, worker.name)

    def restart_scheduled(self, worker: Worker, delay: float, cause: str) -> None:
        """Tell that a new incarnation follows in `delay` seconds."""
        self._emit(RestartScheduled(self._next_seq(), self.now(), worker.name, worker.incarnation, delay, cause))
        when = f"restart in {delay:.2f} s" if delay >= 0.005 else "restarted at once"
        self._log(logging.WARNING, worker, "%s: %s after %s", worker.name, when, cause)

    def poll_finished(self, worker: Worker, result: object, elapsed: float, delay: float) -> None:
        """Tell what a poller's target returned."""
        facts = (jsonable(result), round(elapsed, 6), delay)
        self._emit(PollFinished(self._next_seq(), self.now(), worker.name, worker.incarnation, *facts))
        if worker.failed_polls:
            failed = count(worker.failed_polls, "poll")
            self._log(logging.INFO, worker, "%s: a poll succeeded again, after %s that failed", worker.name, failed)

    def poll_failed(self, worker: Worker, error: BaseException, delay: float) -> None:
        """Report that a poll of a poller failed, and that the next one starts in `delay` seconds.

        Only the first of several in a row is logged: a poller may fail for days.
        """
        now, (error_type, message) = self.now(), describe_error(error)
        facts = (error_type, message, round(now - worker.call_started_at, 6), delay, worker.failed_polls)
        self._emit(PollFailed(self._next_seq(), now, worker.name, worker.incarnation, *facts))
        if worker.failed_polls == 1:
            text = "%s: a poll failed, the next one follows in %g s: %s%s"
            self._log(logging.WARNING, worker, text, worker.name, delay, error_line(error_type, message), _at(error))

    def succeeded(self, worker: Worker, result: object) -> WorkerEnded:
        """Tell that the target returned."""
        # As `_ended` does it, but nearly every worker of a large batch comes here.
        now = int((self._clock() - self._started_at) * 1e6) / 1e6
        shown = result if result is None or (type(result) is int and -(2**30) < result < 2**30) else jsonable(result)
        elapsed = int((now - worker.first_started_at) * 1e6 + 0.5) / 1e6
        event = WorkerSucceeded(self._next_seq(), now, worker.name, worker.incarnation, worker.attempt, elapsed, shown)
        self._emit(event)
        return event

    def failed(self, worker: Worker, error: BaseException, *, transient: bool, refusal: str = "") -> WorkerEnded:
        """Tell that the worker gave up: it was exhausted if the error was transient, or a retry was refused."""
        error_type, message = describe_error(error)
        line = error_line(error_type, message)
        if transient:
            if not refusal:  # that was told already
                made = count(worker.attempt, "attempt")
                self._log(logging.WARNING, worker, "%s exhausted its %s: %s%s", worker.name, made, line, _at(error))
            return self._ended(WorkerExhausted, worker, error_type, message, refusal)
        self._log(logging.ERROR, worker, "%s failed: %s%s", worker.name, line, _at(error))
        return self._ended(WorkerFailed, worker, error_type, message)

    def stopped(self, worker: Worker, result: object, error: BaseException | None) -> WorkerEnded:
        """Tell that the worker ended after it was asked to."""
        facts = jsonable(result), *(("", "") if error is None else describe_error(error))
        if worker.stop_reason == "timeout":
            return self._ended(WorkerTimedOut, worker, *facts)
        return self._ended(WorkerCancelled, worker, *facts, worker.stop_reason)

    def unresponsive(self, worker: Worker, stuck_at: str) -> WorkerEnded:
        """Tell that the worker did not stop within the grace period."""
        self._log(logging.ERROR, worker, "%s ignores its cancellation at %s", worker.name, stuck_at)
        return self._ended(WorkerUnresponsive, worker, stuck_at, worker.cancels)

    def ended_at_last(self, told: WorkerEnded) -> None:
        """Tell that an older incarnation of a worker, left behind as `told` says, has ended after all."""
        now = self.now()
        elapsed = round(told.elapsed + now - told.at, 6)
        self._emit(WorkerCancelled(self._next_seq(), now, told.worker, told.incarnation, told.attempts, elapsed))

    def _ended(self, kind: type[WorkerEnded], worker: Worker, *facts: object) -> WorkerEnded:
        now = self.now()
        elapsed = round(now - worker.first_started_at, 6) if worker.attempt else 0.0
        event = kind(self._next_seq(), now, worker.name, worker.incarnation, worker.attempt, elapsed, *facts)
        self._emit(event)
        return event

    @staticmethod
    def _log(level: int, worker: Worker, text: str, *args: object) -> None:
        log_safely(logger, level, text, *args, worker=worker.name)
