"""A worker while it is under way, and the owner that a service reports to."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec

from asyncwatch.engine.current import current
from asyncwatch.engine.progress import Progress
from asyncwatch.engine.spec import Outcome, WorkerSpec
from asyncwatch.events import WorkerEnded, WorkerState

StopReason = Literal["person", "run", "timeout", "restart", "supervisor", "halt"]

FORGOTTEN = "its supervisor has forgotten it: a child that is temporary or of a pool is not kept when it has ended"
"""Why a command for a removed child is refused."""


class ProgressOwner(Protocol):
    """What runs the attempts of a worker, as far as their progress concerns it."""

    def progress_of(self, worker: Worker) -> Progress | None:
        """Return the progress of the worker's attempt in flight; None if the caller cannot speak for one."""

    def is_cancelled(self, worker: Worker) -> bool:
        """Return whether the worker's attempt that the caller runs in was cancelled, or has ended."""

    def note_alive(self, worker: Worker) -> None:
        """Note that the worker's attempt in flight gives a sign of life."""


class WorkerOwner(Protocol):
    """What the scheduler reports the course of one service to: an incarnation as its supervisor sees it."""

    @property
    def is_ready(self) -> bool:
        """Whether the worker has started."""

    def ran_first_step(self, task: asyncio.Task[Any]) -> None:
        """Note that an attempt has run up to its first wait, or has ended before any."""

    def waits(self) -> None:
        """Note that the worker has no attempt in flight and has to wait for the next one."""

    def poll_ended(self) -> None:
        """Note that a poll has succeeded or failed, and that the next one will follow."""

    def announce(self, value: object) -> None:
        """Note that the worker says it is ready."""

    def ended(self, worker: Worker) -> None:
        """Note that the worker has settled; `worker.outcome` says how."""

    def was_replaced(self) -> None:
        """Forget the worker: another incarnation takes its place, or it is removed."""

    def cancel(self) -> str:
        """Stop the worker for a person; return why that is not possible, or an empty text."""

    def restart(self) -> str:
        """Restart the worker for a person; return why that is not possible, or an empty text."""


class ScheduledCall(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Call nothing."""


class Worker(msgspec.Struct, eq=False):
    """The state of one worker. A target sees it as its `CurrentWorker`.

    A worker of a batch keeps its `Worker` from one incarnation to the next. A service has an `owner`, and each of its
    incarnations is a `Worker` of its own: whatever an abandoned one does later never touches its successor.
    """

    name: str
    """Unique in the run."""
    args: tuple[Any, ...]
    spec: WorkerSpec
    """How the worker is treated. Its name and args may be those of a template."""
    index: int = -1
    """The row in the batch's columns; -1 for a service."""
    incarnation: int = 1
    state: WorkerState = WorkerState.QUEUED
    """Written by `Scheduler` alone."""
    attempt: int = 0
    bad_luck: float = 0.0
    is_struck: bool = False
    """Whether the bad luck of this attempt injects a fault."""
    latency: float = 0.0
    """Seconds that bad luck adds to this attempt."""
    error: BaseException | None = None
    """The error that it backs off from."""
    backoff: float | None = None
    """Seconds: the last one that was drawn."""
    throttled: int = 0
    """Attempts that were throttled: they do not count as failed ones."""
    lost: int = 0
    """Attempts whose process was lost."""
    not_counted: int = 0
    """Those of them that do not count as failed ones."""
    owes: float = 0.0
    """Tokens that its next attempt, a retry, has to pay to the retry budget."""
    paid: float = 0.0
    """Tokens that were paid for its next attempt."""
    place: int = 0
    """Attempts of its key in flight when its attempt started, this one included."""
    ticket: Any = None
    """What admission keeps of its attempt in flight."""
    first_started_at: float = 0.0
    started_at: float = 0.0
    deadline_at: float | None = None
    """Seconds since the run started."""
    stop_reason: StopReason | Literal[""] = ""
    cancel_message: object = None
    """Of the `CancelledError` that stops it, if the caller has given one."""
    cancels: int = 0
    turns: int = 0
    """Attempts of earlier polls of a poller."""
    poll_started_at: float = 0.0
    """When the first attempt of this poll started; not set for the first poll."""
    failed_polls: int = 0
    """How many polls have failed since the last one that succeeded."""
    task: asyncio.Task[Any] | None = None
    """The attempt in flight."""
    timer: ScheduledCall | None = None
    """What happens next: the end of a backoff, of a time-out or of the grace period."""
    overdue: TimeoutError | None = None
    """The time-out that ended this attempt."""
    abandoned_task: asyncio.Task[Any] | None = None
    """The task of the latest attempt, if it was abandoned and has not ended."""
    is_ready: bool = False
    """Whether it is in the ready queue."""
    is_restarting: bool = False
    """Whether a new incarnation follows once it has stopped."""
    is_deciding: bool = False
    """Whether its end or its next attempt is being decided. That calls code of the user's (a policy, `repr`, a log
    handler): what this requests of the worker is done after the decision."""
    owner: WorkerOwner | None = None
    """Of a service. A service needs no slot."""
    patience: float | None = None
    """Seconds that it may take to end, instead of what its spec says."""
    outcome: Outcome | None = None
    """How a service ended. The batch keeps outcomes in columns."""
    error_line: str = ""
    """The error of the outcome in one line, if it gave up after an attempt."""
    ended_between: WorkerEnded | None = None
    """The event of its abandonment, if it has ended since and the next incarnation is still to come."""
    runner: ProgressOwner | None = None
    """What runs its attempts, once one has started."""
    number: int = 0
    """The number of its latest attempt among all attempts of the run."""
    alive_at: float = 0.0
    """When a service with a `liveness` gave its last sign of life."""
    reported: Progress | None = None
    """What the attempt in flight has said of its progress; None if nothing."""

    identify: Callable[[Worker], str] | None = None
    """Returns its idempotency key; set when an attempt starts."""

    @property
    def idempotency_key(self) -> str:
        """See `CurrentWorker`."""
        assert self.identify is not None  # noqa: S101  no one has the worker before its first attempt
        return self.identify(self)

    def reset(self) -> None:
        """Forget everything about the incarnation that has ended, except its state."""
        self.attempt = self.cancels = self.turns = self.failed_polls = self.throttled = self.lost = self.not_counted = 0
        self.owes = self.paid = 0.0
        self.bad_luck = self.latency = self.first_started_at = self.started_at = self.poll_started_at = 0.0
        self.is_struck = self.is_ready = self.is_restarting = self.is_deciding = False
        self.error = self.backoff = self.deadline_at = self.abandoned_task = self.overdue = None
        self.stop_reason = ""

    def __repr__(self) -> str:
        return f"<worker {self.name!r}, incarnation {self.incarnation}, attempt {self.attempt}: {self.state}>"

    @property
    def draw_number(self) -> int:
        """The number of this attempt within the incarnation, all polls included: draws are keyed by it."""
        return self.turns + self.attempt

    @property
    def failed_attempts(self) -> int:
        """How many attempts have ended in an error, the latest included, without throttled and lost ones."""
        return self.attempt - self.throttled - self.not_counted

    @property
    def call_started_at(self) -> float:
        """When the first attempt of this poll started, for a poller; else the first attempt of the incarnation."""
        return self.poll_started_at if self.turns else self.first_started_at

    @property
    def is_between_polls(self) -> bool:
        """Whether it is a poller that waits for its next poll, due or not, and not for another attempt of one."""
        is_waiting = self.state is WorkerState.BACKING_OFF or self.state is WorkerState.WAITING
        return self.spec.every is not None and is_waiting and not self.attempt

    @property
    def pays_for_retries(self) -> bool:
        """Whether the run's budget pays for its retries: not once a person has asked to restart it.

        A service always pays, since its supervisor restarts it unasked.
        """
        return self.owner is not None or self.incarnation == 1

    def progress(self, done: float, total: float | None = None, unit: str = "") -> None:
        """Show how far the attempt is. See `CurrentWorker`."""
        if self.runner is not None and (reported := self.runner.progress_of(self)) is not None:
            reported.set_done(done, total, unit)

    def status(self, text: str) -> None:
        """Show what the attempt does. See `CurrentWorker`."""
        if self.runner is not None and (reported := self.runner.progress_of(self)) is not None:
            reported.set_status(text)

    def check_cancelled(self) -> None:
        """Raise `CancelledError` if the caller's attempt was cancelled. See `CurrentWorker`."""
        if self.runner is not None and self.runner.is_cancelled(self):
            raise asyncio.CancelledError("the worker was cancelled")

    def alive(self) -> None:
        """Give a sign of life. See `CurrentWorker`."""
        if self.runner is not None:
            self.runner.note_alive(self)

    def close_progress(self) -> None:
        """Report the last that the attempt has said of its progress, before its end is reported."""
        if self.reported is not None:
            self.reported.close()
            self.reported = None

    def stop_timer(self) -> None:
        """Drop what was to happen next."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class KeysOfNames:
    """Returns the idempotency keys of the workers of a run by their names.

    A run that a worker makes has the same keys whenever the worker makes it. Those of any other run are its own.
    """

    def __init__(self) -> None:
        self._maker = current.get()
        self._root = ""

    def __call__(self, worker: Worker) -> str:
        """Return the key of a worker."""
        if not self._root:
            self._root = os.urandom(16).hex() if self._maker is None else self._maker.idempotency_key
        data = json.dumps([self._root, worker.spec.group, worker.name]).encode()
        return hashlib.blake2b(data, digest_size=16).hexdigest()
