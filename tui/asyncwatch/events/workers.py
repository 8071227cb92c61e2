"""Events about one worker: its attempts, the waits between them, and how each incarnation ended."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import UNSET, UnsetType

from asyncwatch.events.base import WorkerEvent, WorkerState


class AttemptStarted(WorkerEvent, frozen=True, gc=False, omit_defaults=True):
    """An attempt started.

    `attempt` counts from 1 in each incarnation; a poller starts again at 1 with each poll. `bad_luck` is the draw in
    [0, 1). `latency` is the delay in seconds that bad luck adds before the call.
    """

    attempt: int
    bad_luck: float
    latency: float = 0.0


class ProgressReported(WorkerEvent, frozen=True, gc=False):
    """An attempt in flight said how far it is: `done` of `total` in `unit`, and what it does: `status`.

    Each event has all that the attempt has said so far: `done` is null without a progress, `total` is null if it is
    unknown, and texts are empty if there are none. A worker has at most ten of these events in a second, and one more
    at the end of an attempt.
    """

    attempt: int
    done: int | float | None
    total: int | float | None
    unit: str
    status: str


class AttemptFailed(WorkerEvent, frozen=True, gc=False):
    """An attempt raised an error.

    `error_class` is `throttled`, `transient`, `server` or `permanent`, or `lost` for an attempt that was lost with its
    process and does not count. `transient` is whether the error is worth a
    retry. `injected` marks a fault of bad luck. `elapsed` is in seconds. `stack` is the traceback without its last
    line, which is `error_type: error`; it is empty for an injected fault.
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
    """An attempt is due, but is held back for `reason`, one of HOLD_REASONS.

    `key` is the key of the circuit or rate limit. It is empty while the worker is in the ready queue, where the reason
    changes with each `LineHeld`. The hold ends with `AttemptStarted`, another `AttemptHeld`, or the end of the worker.
    A queued worker without this event is in the ready queue too.
    """

    attempt: int
    key: str
    reason: str


HOLD_REASONS = ("place", "rate", "circuit", "throttled", "share", "budget", "paused")
"""Why an attempt is held back: no free slot, a rate limit, a circuit that is not closed, a key that asked for fewer
attempts, a key that has its share of the slots, an empty retry budget, or a paused run."""


class RetryScheduled(WorkerEvent, frozen=True, gc=False):
    """Attempt number `attempt` will start in `delay` seconds.

    `is_asked_for` is true if the error asked for this delay (`Retry-After`), and false for a backoff. `max_attempts`
    is the limit for an error of this class; 0 if it is unknown. `is_throttled` is true if the last attempt was
    throttled, which is no failure, and its key goes on.
    """

    attempt: int
    delay: float
    is_asked_for: bool = False
    max_attempts: int = 0
    is_throttled: bool = False


class RetryRefused(WorkerEvent, frozen=True, gc=False):
    """Attempt number `attempt` will not be made, although the policy has attempts left. It can be the first one.

    `reason` is one of RETRY_REFUSALS.
    """

    attempt: int
    reason: str


RETRY_REFUSALS = ("retry budget", "deadline", "person", "halt", "patience")
"""Why a retry is refused: the retry budget of the run is used up, the retry would miss the worker's deadline, a person
gave the worker up, the batch halted, or the worker's key was throttled for too long."""


class CancelRequested(WorkerEvent, frozen=True, gc=False):
    """A running worker was cancelled and has not ended yet. `reason` is one of CANCEL_REASONS."""

    reason: str


CANCEL_REASONS = ("person", "run", "timeout", "restart", "attempt timeout", "supervisor", "halt")
"""Why a worker is cancelled: a person's command, the end of the run, a total timeout, a restart, the timeout of one
attempt, its supervisor (which stops, or restarts it with a sibling), or a batch that halted."""


class WorkerRestarted(WorkerEvent, frozen=True, gc=False):
    """A new incarnation of the worker is queued. `incarnation` is its number, and its attempts start again at 1."""


class PollFinished(WorkerEvent, frozen=True, gc=False):
    """A poll of a poller returned `result` after `elapsed` seconds. The next poll starts in `delay` seconds."""

    result: Any
    elapsed: float
    delay: float


class PollFailed(WorkerEvent, frozen=True, gc=False):
    """A poll of a poller failed with all its attempts. The poller goes on: the next poll starts in `delay` seconds.

    `elapsed` is the seconds since the first attempt of this poll started, backoff included. `failures` counts the polls
    that failed in a row, including this one.
    """

    error_type: str
    error: str
    elapsed: float
    delay: float
    failures: int


class WorkerEnded(WorkerEvent, frozen=True, gc=False):
    """Base of the events that end an incarnation.

    `attempts` is the number of attempts made. `elapsed` is the seconds since the first of them started, backoff
    included.
    """

    state: ClassVar[WorkerState]

    attempts: int
    elapsed: float


class WorkerSucceeded(WorkerEnded, frozen=True, gc=False):
    """The target returned `result`; a value that JSON cannot hold is given as its repr.

    `is_repr` is true if there is such a value, and left out otherwise. A resume runs the worker again, since its result
    is not kept. In a call of `amap` with a journal it is also true for a value that JSON changes, such as a tuple.
    """

    state: ClassVar[WorkerState] = WorkerState.SUCCEEDED

    result: Any = None
    is_repr: bool | UnsetType = UNSET


class WorkerFailed(WorkerEnded, frozen=True, gc=False):
    """The target raised an irrecoverable error."""

    state: ClassVar[WorkerState] = WorkerState.FAILED

    error_type: str
    error: str


class WorkerExhausted(WorkerEnded, frozen=True, gc=False):
    """The worker used all its attempts, or a retry was refused. The error is the last attempt's.

    `refusal` is one of RETRY_REFUSALS, as in the `RetryRefused` before this event; empty if all attempts were used.
    """

    state: ClassVar[WorkerState] = WorkerState.EXHAUSTED

    error_type: str
    error: str
    refusal: str = ""


class WorkerCancelled(WorkerEnded, frozen=True, gc=False):
    """The worker was cancelled and has ended.

    `result` is the value that it still returned. `error_type` and `error` are the error of its clean-up, else empty.
    `reason` is one of CANCEL_REASONS, or empty for a worker that cancelled itself. A `CancelRequested` comes before
    this event only if the worker was running.
    """

    state: ClassVar[WorkerState] = WorkerState.CANCELLED

    result: Any = None
    error_type: str = ""
    error: str = ""
    reason: str = ""


class WorkerTimedOut(WorkerEnded, frozen=True, gc=False):
    """The worker was still pending when a total timeout expired. The fields are as in `WorkerCancelled`."""

    state: ClassVar[WorkerState] = WorkerState.TIMED_OUT

    result: Any = None
    error_type: str = ""
    error: str = ""


class WorkerUnresponsive(WorkerEnded, frozen=True, gc=False):
    """The worker swallowed its cancellation for the whole grace period and was abandoned.

    `stack` is the innermost line where it is stuck, as `file:line function`. `cancels` counts the cancellations. If the
    worker ends later, a `WorkerCancelled` or `WorkerTimedOut` of the same incarnation follows. Until then its task runs
    on: `asyncio.run` waits for it on exit, `asyncwatch.run` does not.
    """

    state: ClassVar[WorkerState] = WorkerState.UNRESPONSIVE

    stack: str
    cancels: int
