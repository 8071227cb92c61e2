"""Facts about a run as a whole: its course, its settings, its event loop, its log."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from asyncwatch.events.base import Event


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


class LogRecorded(Event, frozen=True, gc=False):
    """A `logging` record or a printed line. `worker` is None for one made outside any worker."""

    worker: str | None
    level: str
    logger: str
    message: str


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


MENDABLE = frozenset({"worker", "code", "many"})
"""Causes that whoever wrote the workers can do something about."""
_OUTSIDE = frozenset({"interpreter", "machine"})
"""Causes that are nothing which runs on the loop."""
_KEEPERS = {
    "code": "code outside any worker",
    "asyncwatch": "asyncwatch itself",
    "many": "many workers by turns",
    "garbage collection": "Python's garbage collector",
    "interpreter": "another thread of the process",
    "machine": "the machine",
}


def keeper(block: LoopBlocked) -> str:
    """Return who or what blocked the loop, in a few words."""
    return block.worker or _KEEPERS.get(block.cause, "something")


def place(block: LoopBlocked) -> str:
    """Return where: `jobs.py:12 fetch: time.sleep(1)`; empty if no code is to blame."""
    if not block.file:
        return ""
    call = f": {block.call}" if block.call else ""
    return f"{PurePath(block.file).name}:{block.line} {block.function}{call}"


def sentence(block: LoopBlocked) -> str:
    """Return all of it: `a blocked the event loop for 0.31 s at jobs.py:12 fetch: time.sleep(1)`."""
    where = place(block)
    if block.cause in _OUTSIDE:
        return f"the event loop was {block.duration:.2f} s late: {keeper(block)} gave it no time"
    return f"{keeper(block)} blocked the event loop for {block.duration:.2f} s" + (f" at {where}" if where else "")
