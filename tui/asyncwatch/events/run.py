"""Events about a whole run: its start and end, its settings, its event loop, its log and its circuits."""

from __future__ import annotations

import time
from pathlib import PurePath
from typing import Any, Final

from asyncwatch.events.base import Event
from asyncwatch.policies.bad_luck import THRESHOLD_RULE
from asyncwatch.policies.limits import CONCURRENCY_RULE
from asyncwatch.policies.rate import RATE_RULE
from asyncwatch.policies.restart import Flapping
from asyncwatch.policies.settings import Flag, OrNone, Rule
from asyncwatch.text import one_line, printable


class RunStarted(Event, frozen=True, gc=False):
    """The run started. This is the first event of every run.

    `started_at` is the wall clock in seconds since the epoch. `timeout` is the runner's total timeout in seconds.
    `concurrency`, `rate`, `rate_per_key`, `bad_luck` and `paused` are the initial SETTINGS. A rate is a text such as
    `50/s burst 10`, or None for no limit. `bad_luck` is the threshold of all workers; None if they differ, or if the
    workers of a tree are not known yet. With `reads_items`, more workers than these `workers` may be queued, until
    `ItemsRead`. With `rows_kept`, only so many workers of the batch that have ended are kept, the latest; a row is
    given to a new worker then. `done_before` counts the items that had succeeded before, in a run that was resumed:
    they have no workers. `flapping` says when a service of a tree flaps; None if there is no tree.
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
    reads_items: bool = False
    rows_kept: int | None = None
    done_before: int = 0
    flapping: Flapping | None = None


OBSERVED: Final = "observe"
"""The `runner` of a run whose workers are tasks that a program has made by itself: they are shown, not supervised."""
OBSERVED_ONLY: Final = (
    "it is a task of the program itself, which asyncwatch only observes: it knows no way to call it again"
)
"""Why such a worker cannot be restarted."""


class ItemsRead(Event, frozen=True, gc=False):
    """All items have been read that came while the run went on: the batch has `workers` workers, and gets no more."""

    workers: int


class WorkersQueued(Event, frozen=True, gc=False):
    """Workers joined the run, in this order. One event has a few thousand workers at most."""

    group: str
    max_attempts: int
    workers: tuple[str, ...]


class RunTimedOut(Event, frozen=True, gc=False):
    """The runner's total timeout of `timeout` seconds expired while `pending` workers had not ended."""

    timeout: float
    pending: int


class RunCancelRequested(Event, frozen=True, gc=False):
    """Every worker that has not ended is cancelled.

    `reason` is `person` for a person's command, `run` for the end of the run, or `at once` for a person's request to
    stop without a grace period.
    """

    reason: str


class RunHalted(Event, frozen=True, gc=False):
    """The batch reached its limit of `failures`.

    `mode` is `soon` (attempts in flight finish) or `now` (they are cancelled). `stopped` is the number of workers that
    this ends: cancelled, or exhausted if they were waiting for a retry.
    """

    failures: int
    mode: str
    stopped: int


class LineHeld(Event, frozen=True, gc=False):
    """The reason why workers wait in the ready queue changed to `reason`: `place`, `rate` or `paused`.

    A run starts with `place`: they wait for a free slot. Workers that are held back by a key are not in the ready
    queue.
    """

    reason: str


class SettingChanged(Event, frozen=True, gc=False):
    """A person changed a setting of the run.

    `name` is one of SETTINGS. `key` is the key of a rate limit, else empty. Setting `previous` again takes the change
    back; `is_undo` marks a change that took back an earlier one.
    """

    name: str
    value: Any
    previous: Any
    key: str = ""
    is_undo: bool = False


SETTINGS: Final[dict[str, Rule]] = {
    "concurrency": CONCURRENCY_RULE,
    "rate": RATE_RULE,
    "rate per key": RATE_RULE,
    "bad luck": OrNone(THRESHOLD_RULE, "each worker's own"),
    "paused": Flag(),
}
"""The settings that can change during a run, and which values each takes.

- `concurrency`: the number of slots.
- `rate`: a text such as `50/s`, or None for no limit; of the run, or of one key.
- `rate per key`: the same, of each key that has no rate of its own.
- `bad luck`: the threshold of all workers, or None for their own.
- `paused`: whether new attempts are held back.
"""


class NestedRetriesFound(Event, frozen=True, gc=False):
    """Workers call the function `target`, which retries by itself with `library`: the retries multiply."""

    target: str
    library: str


class RunFinished(Event, frozen=True, gc=False):
    """The run finished. This is the last event of every run.

    `states` counts the workers in each state, `attempts` all attempts; `elapsed` is in seconds.
    """

    states: dict[str, int]
    attempts: int
    elapsed: float
    interrupted: bool


class LoopBlocked(Event, frozen=True, gc=False):
    """The event loop of the run was blocked for `duration` seconds, from `began` on (on the clock of `at`).

    The event comes when the loop runs again. `cause` is one of BLOCK_CAUSES. `worker`, `incarnation` and `attempt` name
    the attempt that blocked the loop; they are empty and 0 if it was no attempt, or more than one.

    `file`, `line` and `function` are the place that most samples of the stack show: the innermost line outside Python's
    library, installed packages and asyncwatch, if there is one. `call` is the text of that line, or the library
    function that it called. `stack` is the whole stack, as in a traceback. All are empty if no code of this thread is
    to blame.
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
"""What blocked the event loop.

- `worker`: one attempt.
- `code`: code that belongs to no attempt.
- `asyncwatch`: asyncwatch itself.
- `many`: many workers, one after another without a pause.
- `garbage collection`: Python's garbage collector.
- `interpreter`: another thread that held the interpreter.
- `machine`: the machine gave the process no time, or suspended it.
- `unknown`: no sample shows the cause.
"""

FIXABLE_CAUSES = frozenset({"worker", "code", "many"})
"""The BLOCK_CAUSES that the author of the workers can fix."""

_CULPRITS = {
    "code": "code outside any worker",
    "asyncwatch": "asyncwatch itself",
    "many": "many workers in turn",
    "garbage collection": "Python's garbage collector",
    "interpreter": "another thread of the process",
    "machine": "the machine",
}


def blocked_by(block: LoopBlocked) -> str:
    """Return what blocked the loop: a worker's name, or a few words such as `another thread of the process`."""
    return block.worker or _CULPRITS.get(block.cause, "something")


def blocked_at(block: LoopBlocked) -> str:
    """Return the line that blocked the loop: `jobs.py:12 fetch: time.sleep(1)`; empty if no code is to blame."""
    if not block.file:
        return ""
    call = f": {block.call}" if block.call else ""
    return f"{PurePath(block.file).name}:{block.line} {block.function}{call}"


def block_sentence(block: LoopBlocked) -> str:
    """Return the block in words: `a blocked the event loop for 0.31 s at jobs.py:12 fetch: time.sleep(1)`."""
    if block.cause in {"interpreter", "machine"}:  # nothing that runs on the loop
        return f"the event loop was {block.duration:.2f} s late: {blocked_by(block)} gave it no time"
    where = blocked_at(block)
    return f"{blocked_by(block)} blocked the event loop for {block.duration:.2f} s" + (f" at {where}" if where else "")


class RecordingFailed(Event, frozen=True, gc=False):
    """The journal of the run cannot be written, for `reason`. The run goes on, and writing is tried again.

    `since` is when that began, in seconds since the epoch. Events that cannot be written are kept for a while.
    """

    since: float
    reason: str


class RecordingResumed(Event, frozen=True, gc=False):
    """The journal of the run is written again."""


def recording_sentence(event: RecordingFailed) -> str:
    """Return since when and why a run is not recorded."""
    since = time.strftime("%H:%M", time.localtime(event.since))
    return f"not recorded since {since}: {one_line(printable(event.reason), 200)}"


class CommandRefused(Event, frozen=True, gc=False):
    """A command was not carried out, for `reason`."""

    command: str
    worker: str
    incarnation: int
    reason: str


class LogRecorded(Event, frozen=True, gc=False):
    """A `logging` record, or a printed line. `worker` is None outside any worker."""

    worker: str | None
    level: str
    logger: str
    message: str


class KeyEvent(Event, frozen=True, gc=False):
    """Base of the events about the throttle of one `key`: a host, the key that the workers name, or their target."""

    key: str


class KeyThrottled(KeyEvent, frozen=True, gc=False):
    """The key is held: no attempt starts for `seconds`, None until a person releases it.

    `retry_after` is what the other side asked for, in seconds; None if it did not say, or if a person holds the key.
    `refused` counts the throttled attempts of the key so far.
    """

    seconds: float | None
    retry_after: float | None
    refused: int


class KeyReleased(KeyEvent, frozen=True, gc=False):
    """The other side answers again, or a person released the key: attempts start."""


class KeyLimitChanged(KeyEvent, frozen=True, gc=False):
    """What is known of a key that was throttled has changed; it is reported twice a second at most.

    `limit` is how many attempts may be in flight, None for no limit; `rate` the starts per second that were learned,
    None while none are. `in_flight` and `refused` count attempts. `tolerated` is the share of attempts, from 0 to 1,
    that the other side refuses however few there are, None while none is known.
    """

    limit: int | None
    rate: float | None
    in_flight: int
    refused: int
    tolerated: float | None = None


class CircuitEvent(Event, frozen=True, gc=False):
    """Base of the events about the circuit of one `key`: a host, or the key that the workers name."""

    key: str


class CircuitOpened(CircuitEvent, frozen=True, gc=False):
    """The circuit opened: `failures` of `attempts` attempts failed. No attempt starts for `seconds`."""

    attempts: int
    failures: int
    seconds: float


class CircuitHalfOpened(CircuitEvent, frozen=True, gc=False):
    """The circuit is half-open: up to `probes` attempts may start. They decide whether it closes or opens again."""

    probes: int


class CircuitProbed(CircuitEvent, frozen=True, gc=False):
    """A probe of a half-open circuit started, or ended without a decision.

    `under_way` probes are running, and `free` more may start.
    """

    under_way: int
    free: int


class CircuitClosed(CircuitEvent, frozen=True, gc=False):
    """The circuit is closed, so that attempts start freely.

    The first attempt of a key emits it too. So does a later one, if the key was idle in between and was dropped.
    """


class CircuitIsolated(CircuitEvent, frozen=True, gc=False):
    """A person isolated the circuit: no attempt starts until a person closes or probes it."""
