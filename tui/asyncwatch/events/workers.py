"""Facts about one worker: its attempts, the waits between them, and how its incarnations ended."""

from __future__ import annotations

from typing import Any, ClassVar

from asyncwatch.events.base import WorkerEvent, WorkerState


class AttemptStarted(WorkerEvent, frozen=True, gc=False, omit_defaults=True):
    """An attempt began. Attempts count from 1, for a poller with each call; `bad_luck` is its draw in [0, 1).

    `latency` is what bad luck adds before the call, in seconds.
    """

    attempt: int
    bad_luck: float
    latency: float = 0.0


class AttemptFailed(WorkerEvent, frozen=True, gc=False):
    """An attempt ended in an error.

    `injected` says whether the bad luck struck, `elapsed` is in seconds, `stack` is the traceback without its
    last line (which is `error_type: error`), empty for an injected fault. `error_class` is `throttled`, `transient`,
    `server` or `permanent`; `transient` says whether the error is worth another attempt.
    """

    attempt: int
    error_type: str
    error: str
    transient: bool
    injected: bool
    elapsed: float
    stack: str
    error_class: str = ""


class AttemptHeld(WorkerEvent, frozen=True, gc=False):
    """Attempt number `attempt` could start, but has to wait. `reason` is one of HOLD_REASONS.

    `key` is what the circuit or the rate limit is kept by. It is empty for a worker that stands in line: what that
    waits for changes with each `LineHeld`. The wait ends with an `AttemptStarted`, another `AttemptHeld`, or the end of
    the worker. One that is queued and was never held has none: it stands in line.
    """

    attempt: int
    key: str
    reason: str


HOLD_REASONS = ("place", "rate", "circuit", "paused")
"""Why an attempt is held: as many run as may, a rate limit is reached, its circuit is not closed, the run is paused."""


class RetryScheduled(WorkerEvent, frozen=True, gc=False):
    """Attempt number `attempt` will start in `delay` seconds.

    `is_asked_for` says whether that is what the error asked for (`Retry-After`) and no backoff. `max_attempts` is how
    many attempts an error of that class gets in all; 0 if that was not told.
    """

    attempt: int
    delay: float
    is_asked_for: bool = False
    max_attempts: int = 0


class RetryRefused(WorkerEvent, frozen=True, gc=False):
    """Attempt number `attempt` will not be made, whatever the policy has. `reason` is one of RETRY_REFUSALS."""

    attempt: int
    reason: str


RETRY_REFUSALS = ("retry budget", "deadline", "person", "halt")
"""Why a retry is refused: the run's budget is used up, the worker's time is over or would be, somebody gave it up, or
the batch halted."""


class CancelRequested(WorkerEvent, frozen=True, gc=False):
    """A running worker was asked to stop. `reason` is one of CANCEL_REASONS."""

    reason: str


CANCEL_REASONS = ("person", "run", "timeout", "restart", "attempt timeout", "supervisor", "halt")
"""Why a worker is asked to stop: one command, the end of the run, a total timeout, a restart, one attempt's timeout,
its supervisor (which stops, or restarts it with a sibling), or too many failures of the batch."""


class WorkerRestarted(WorkerEvent, frozen=True, gc=False):
    """A new incarnation (`incarnation` is its number) is queued; its attempts start again at 1."""


class PollFinished(WorkerEvent, frozen=True, gc=False):
    """A poller's target returned `result` after `elapsed` seconds; it is called again in `delay` seconds."""

    result: Any
    elapsed: float
    delay: float


class PollFailed(WorkerEvent, frozen=True, gc=False):
    """A poll of a poller failed with all its attempts; the poller goes on, and is called again in `delay` seconds.

    `elapsed` is the seconds from the start of the first attempt of this poll, backoff included. `failures` counts the
    polls that have failed in a row, this one included; a `PollFinished` ends the row.
    """

    error_type: str
    error: str
    elapsed: float
    delay: float
    failures: int


class WorkerEnded(WorkerEvent, frozen=True, gc=False):
    """Base of the facts that settle an incarnation.

    `attempts` is how many it made; `elapsed` the seconds from the start of its first attempt, backoff included.
    """

    state: ClassVar[WorkerState]

    attempts: int
    elapsed: float


class WorkerSucceeded(WorkerEnded, frozen=True, gc=False):
    """The target returned. `result` is a value JSON can hold: what was returned, or its repr."""

    state: ClassVar[WorkerState] = WorkerState.SUCCEEDED

    result: Any = None


class WorkerFailed(WorkerEnded, frozen=True, gc=False):
    """The target raised an irrecoverable error."""

    state: ClassVar[WorkerState] = WorkerState.FAILED

    error_type: str
    error: str


class WorkerExhausted(WorkerEnded, frozen=True, gc=False):
    """Every attempt was used up, or a retry was refused; the error is that of the last attempt.

    `refusal` is one of RETRY_REFUSALS, as in the `RetryRefused` before it; empty if every attempt was used up.
    """

    state: ClassVar[WorkerState] = WorkerState.EXHAUSTED

    error_type: str
    error: str
    refusal: str = ""


class WorkerCancelled(WorkerEnded, frozen=True, gc=False):
    """The worker ended after it was asked to.

    `result` is what it returned all the same; `error_type` and `error` are what its clean-up raised, else empty.
    `reason` is one of CANCEL_REASONS, as in `CancelRequested`, which only a running worker has before it; empty if it
    asked for its end itself.
    """

    state: ClassVar[WorkerState] = WorkerState.CANCELLED

    result: Any = None
    error_type: str = ""
    error: str = ""
    reason: str = ""


class WorkerTimedOut(WorkerEnded, frozen=True, gc=False):
    """The worker was still pending when a total timeout ended. Fields as in `WorkerCancelled`."""

    state: ClassVar[WorkerState] = WorkerState.TIMED_OUT

    result: Any = None
    error_type: str = ""
    error: str = ""


class WorkerUnresponsive(WorkerEnded, frozen=True, gc=False):
    """The worker swallowed its cancellation for the whole grace period and was left behind.

    `stack` is the innermost line where it is stuck, as `file:line function`; `cancels` counts the requests. It may
    still end later: then a `WorkerCancelled` or `WorkerTimedOut` of the same incarnation follows. Its task goes on:
    `asyncio.run` waits for it at its end, `asyncwatch.run` does not.
    """

    state: ClassVar[WorkerState] = WorkerState.UNRESPONSIVE

    stack: str
    cancels: int
