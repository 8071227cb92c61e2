"""Facts: what happened to a run and its workers, in the past tense.

Every event is an immutable record with a sequence number that has no gap (`seq`, from 0) and the time it happened
(`at`, monotonic seconds since the run started). Folding the same events in order always gives the same picture, so
the dashboard, the JSON lines and the output file are all made from them and from nothing else.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec


class WorkerState(enum.StrEnum):
    """What a worker is doing, or how it ended."""

    QUEUED = "queued"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    RESTARTING = "restarting"
    WAITING = "waiting"
    CANCELLING = "cancelling"
    UNRESPONSIVE = "unresponsive"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXHAUSTED = "exhausted"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will happen to the worker unless somebody restarts it."""
        return self in SETTLED


SETTLED = frozenset(
    {
        WorkerState.UNRESPONSIVE,
        WorkerState.SUCCEEDED,
        WorkerState.FAILED,
        WorkerState.EXHAUSTED,
        WorkerState.CANCELLED,
        WorkerState.TIMED_OUT,
    }
)


class Event(msgspec.Struct, frozen=True, gc=False, tag=True, tag_field="event"):
    """A fact. `seq` counts from 0 without a gap; `at` is in seconds since the run started."""

    seq: int
    at: float


class RunStarted(Event, frozen=True, gc=False):
    """The first event of every run.

    `started_at` is the wall clock, seconds since the epoch. `timeout` is the runner's total timeout in seconds.
    `concurrency`, `rate`, `rate_per_key`, `bad_luck` and `paused` are the SETTINGS as they are at the start: `bad_luck`
    is the threshold of all workers, None if it is not the same for all (or they are not known yet, in a tree). Limits
    are texts like `50/s burst 10`, None for no limit.
    """

    run: str
    workers: int
    runner: str
    seed: int
    concurrency: int
    timeout: float | None
    started_at: float
    rate: str | None = None
    rate_per_key: str | None = None
    bad_luck: float | None = None
    paused: bool = False


class WorkersQueued(Event, frozen=True, gc=False):
    """Workers that joined the fleet, in order: a few thousand at the most in one event."""

    group: str
    max_attempts: int
    workers: tuple[str, ...]


class RunTimedOut(Event, frozen=True, gc=False):
    """The runner's total timeout (seconds) ended while `pending` workers had not."""

    timeout: float
    pending: int


class RunCancelRequested(Event, frozen=True, gc=False):
    """Somebody asked to cancel every worker that has not ended: a `person`, or the `run` which ends.

    `at once`: a person who would not wait for those that are being cancelled; they get no more time.
    """

    reason: str


class RunHalted(Event, frozen=True, gc=False):
    """The batch reached its limit of `failures`. `mode` is `soon` (attempts that run are finished) or `now`.

    `stopped` is how many workers are ended by that: cancelled, or exhausted if they were to try again.
    """

    failures: int
    mode: str
    stopped: int


class LineHeld(Event, frozen=True, gc=False):
    """All that stand in line to start wait for something else from now on: `reason` is `place`, `rate` or `paused`.

    It is `place` from the start of the run. Those that are held by a key do not stand in line.
    """

    reason: str


class SettingChanged(Event, frozen=True, gc=False):
    """Somebody changed a setting of the run. `name` is one of SETTINGS; `key` is that of a limit, or empty.

    `previous` is what to change it to in order to undo that; `is_undo` says that it did so with the change before.
    """

    name: str
    value: Any
    previous: Any
    key: str = ""
    is_undo: bool = False


SETTINGS = ("concurrency", "rate", "rate per key", "bad luck", "paused")
"""Settings that can be changed while the run goes on.

`concurrency` is a number of attempts; `rate` a text like `50/s`, or None for no limit, of the run or of one key; `rate
per key` the same for each key that has none of its own; `bad luck` the threshold of all workers, or None for their own;
`paused` says whether no new attempts start.
"""


class NestedRetriesFound(Event, frozen=True, gc=False):
    """The function `target`, which workers call, retries by itself, by means of `library`: the retries multiply."""

    target: str
    library: str


class RunFinished(Event, frozen=True, gc=False):
    """The last event of every run: how many workers are in each state, the attempts made, the seconds it took."""

    states: dict[str, int]
    attempts: int
    elapsed: float
    interrupted: bool


class LoopBlocked(Event, frozen=True, gc=False):
    """The event loop of the run got to nothing else for `duration` seconds, from `began` (as `at`) on.

    It is told when the loop has come back. `cause` is one of BLOCK_CAUSES.

    `worker`, `incarnation` and `attempt` say who kept it, if it was one attempt; else they are empty and 0. `file`,
    `line` and `function` are where that was seen most often, by samples: the innermost line that is neither of Python's
    library nor installed nor ours, if there is one. `call` is what it called there: the text of the line, or the
    function of a library in which it was. `stack` is the whole of it, as in a traceback. All are empty if no code of
    this thread is to blame.
    """

    began: float
    duration: float
    cause: str
    worker: str = ""
    incarnation: int = 0
    attempt: int = 0
    file: str = ""
    line: int = 0
    function: str = ""
    call: str = ""
    stack: str = ""


BLOCK_CAUSES = ("worker", "code", "asyncwatch", "many", "garbage collection", "interpreter", "machine", "unknown")
"""Why the loop was blocked: by one attempt, by code that belongs to no attempt, by asyncwatch itself, by many that took
turns without a pause, by Python's garbage collector, by another thread that held the interpreter, by a machine that
gave the process no time (or had it suspended), or by what left no trace."""


class CommandRefused(Event, frozen=True, gc=False):
    """A request that could not be carried out, and why."""

    command: str
    worker: str
    incarnation: int
    reason: str


class CircuitEvent(Event, frozen=True, gc=False):
    """A fact about the circuit of one key: a host, or what the workers name."""

    key: str


class CircuitOpened(CircuitEvent, frozen=True, gc=False):
    """Too many attempts failed (`failures` of `attempts`): none starts for the next `seconds`."""

    attempts: int
    failures: int
    seconds: float


class CircuitHalfOpened(CircuitEvent, frozen=True, gc=False):
    """As many as `probes` attempts may start now; they decide whether it closes or opens again."""

    probes: int


class CircuitProbed(CircuitEvent, frozen=True, gc=False):
    """A probe of a half-open circuit started, or ended without deciding.

    `under_way` probes run now, and `free` more may start.
    """

    under_way: int
    free: int


class CircuitClosed(CircuitEvent, frozen=True, gc=False):
    """Attempts start as they come: again, or because this is the first of the key."""


class CircuitIsolated(CircuitEvent, frozen=True, gc=False):
    """Somebody isolated it: no attempt starts until somebody closes it or lets it be probed."""


class LogRecorded(Event, frozen=True, gc=False):
    """A `logging` record or a printed line. `worker` is None for one made outside any worker."""

    worker: str | None
    level: str
    logger: str
    message: str


class WorkerEvent(Event, frozen=True, gc=False):
    """A fact about one incarnation of one worker. Incarnations count from 1."""

    worker: str
    incarnation: int


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


class WorkerRestarted(WorkerEvent, frozen=True, gc=False):
    """A new incarnation (`incarnation` is its number) is queued; its attempts start again at 1."""


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


class SupervisorStarted(Event, frozen=True, gc=False):
    """A supervisor of the tree began to start its children. `name` is its path, `parent` that of the one above.

    `within` is in seconds. The fields are those of its spec; a pool has the strategy `simple_one_for_one`. Its workers
    carry its path as their group. `incarnation` counts from 1 at each path.
    """

    name: str
    parent: str
    strategy: str
    max_restarts: int
    within: float
    auto_shutdown: str
    incarnation: int = 1


class SupervisorTerminated(Event, frozen=True, gc=False):
    """A supervisor ended, and all its children before it. `reason` is `shutdown` or an error in one line."""

    name: str
    reason: str


class RestartCounted(Event, frozen=True, gc=False):
    """A restart of a child (its name within its supervisor) counts for `within` seconds, as number `restarts`.

    `supervisor` is the path of whose limit it counts for: the supervisor's, or the child's own.
    """

    supervisor: str
    child: str
    restarts: int
    max_restarts: int
    within: float


class RestartLimitReached(Event, frozen=True, gc=False):
    """One restart too many within `within` seconds: the supervisor ends, or only the child if it has its own limit.

    `supervisor` is the path of the one that ends, or of the child that stays down.
    """

    supervisor: str
    restarts: int
    within: float


class ChildRemoved(Event, frozen=True, gc=False):
    """A supervisor forgot a child, by its name there, and all below it.

    It was temporary or of a pool and ended, did not start when it was added, was deleted, or had been added to an
    incarnation of the supervisor that another takes the place of now.
    """

    supervisor: str
    child: str


class WorkerReady(WorkerEvent, frozen=True, gc=False):
    """A worker of a tree is ready: it ran its first step, or said so. `value` is what it said, as JSON can hold it."""

    value: Any = None


class RestartScheduled(WorkerEvent, frozen=True, gc=False):
    """An incarnation ended, or did not start, because of `cause`; another will start in `delay` seconds."""

    delay: float
    cause: str


class PollFinished(WorkerEvent, frozen=True, gc=False):
    """A poller's target returned `result` after `elapsed` seconds; it is called again in `delay` seconds."""

    result: Any
    elapsed: float
    delay: float


CANCEL_REASONS = ("person", "run", "timeout", "restart", "attempt timeout", "supervisor", "halt")
"""Why a worker is asked to stop: one command, the end of the run, a total timeout, a restart, one attempt's timeout,
its supervisor (which stops, or restarts it with a sibling), or too many failures of the batch."""

Batch = Sequence[Event]
"""Events in the order of their `seq`; what travels on a listener's queue."""

AnyEvent = (
    RunStarted
    | WorkersQueued
    | RunTimedOut
    | RunCancelRequested
    | RunHalted
    | LineHeld
    | SettingChanged
    | NestedRetriesFound
    | RunFinished
    | LoopBlocked
    | CommandRefused
    | CircuitOpened
    | CircuitHalfOpened
    | CircuitProbed
    | CircuitClosed
    | CircuitIsolated
    | LogRecorded
    | AttemptStarted
    | AttemptFailed
    | AttemptHeld
    | RetryScheduled
    | RetryRefused
    | CancelRequested
    | WorkerRestarted
    | WorkerSucceeded
    | WorkerFailed
    | WorkerExhausted
    | WorkerCancelled
    | WorkerTimedOut
    | WorkerUnresponsive
    | SupervisorStarted
    | SupervisorTerminated
    | RestartCounted
    | RestartLimitReached
    | ChildRemoved
    | WorkerReady
    | RestartScheduled
    | PollFinished
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def encode(event: Event) -> bytes:
    r"""Return `event` as one JSON object, without a line ending.

    Lone surrogates, which UTF-8 cannot hold, are written as the text of their escape, `\udcff`.
    """
    try:
        return _encoder.encode(event)
    except UnicodeEncodeError:
        return _encoder.encode(_without_surrogates(msgspec.to_builtins(event)))


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case list() | tuple():
            return [_without_surrogates(item) for item in value]
        case dict():
            return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
        case _:
            return value


def decode(line: bytes | str) -> AnyEvent:
    """Return the event that `encode` wrote.

    Raises:
        msgspec.DecodeError: the line is no event.

    """
    return _decoder.decode(line)
