"""Requests: what a person asks of a run, in the imperative, and the narrow port through which they ask it."""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from asyncwatch.events import Batch, LoopBlocked


class Command(msgspec.Struct, frozen=True, tag=True, tag_field="command"):
    """A request. It changes nothing by itself: an event says what became of it."""


class CancelWorker(Command, frozen=True, gc=False):
    """Cancel that incarnation of the worker. Refused if it has ended or another took its place."""

    worker: str
    incarnation: int


class RestartWorker(Command, frozen=True, gc=False):
    """Give the worker a new incarnation, after cancelling this one if it has not ended."""

    worker: str
    incarnation: int


class RestartBranch(Command, frozen=True):
    """Restart a supervisor as the child that it is: stop all below it, then start it anew.

    Its siblings go with it as the strategy of the supervisor above says; a restart by a person counts for no limit. Of
    the root, or a group of a batch: restart all that is below it.

    `path` is that of the supervisor, or the name of the group; `incarnation` the supervisor's, 0 for a group. Refused
    if another took its place.
    """

    path: str
    incarnation: int = 0


class CancelBranch(Command, frozen=True):
    """Stop a supervisor and all below it for good; of the root, or a group of a batch: stop all that is below it.

    Fields as in `RestartBranch`.
    """

    path: str
    incarnation: int = 0


class IsolateCircuit(Command, frozen=True):
    """Let no attempt of that key start until somebody closes its circuit or lets it be probed."""

    key: str


class CloseCircuit(Command, frozen=True):
    """Let all attempts of that key start again."""

    key: str


class ProbeCircuit(Command, frozen=True):
    """Let a few attempts of that key probe it now; they decide whether its circuit closes."""

    key: str


class RetryNow(Command, frozen=True, gc=False):
    """Let that incarnation, which backs off, is held or stands in line, be the next to start an attempt."""

    worker: str
    incarnation: int


class GiveUp(Command, frozen=True, gc=False):
    """Let that incarnation, which backs off or is held, make no further attempt."""

    worker: str
    incarnation: int


class RetryAllNow(Command, frozen=True):
    """Let every worker that backs off or is held start its next attempt now."""


class GiveUpAll(Command, frozen=True):
    """Let every worker that backs off or is held make no further attempt."""


class ChangeSetting(Command, frozen=True):
    """Change one of `events.SETTINGS`. `SettingChanged` says what it was before.

    With a `key` it is the rate of that key alone; `rate per key` is that of each key which has none of its own.
    `is_undo` says that it takes back the last change that was not taken back.
    """

    name: str
    value: int | float | str | bool | None
    key: str = ""
    is_undo: bool = False


class WatchStack(Command, frozen=True):
    """Keep the await stack of that worker in the `Statistics` from now on; of none if it is None.

    No event tells of it: what somebody looks at is no fact of the run.
    """

    worker: str | None


class CancelAll(Command, frozen=True):
    """Cancel every worker that has not ended. The run stays open: workers can be restarted."""


class StopRun(Command, frozen=True):
    """Cancel every worker, in the order of their supervisors, wait as long as each may take, and finish the run.

    `at_once`: all are cancelled together, and who does not end within a few turns of the loop is left behind. It may
    follow a request that was not.
    """

    at_once: bool = False


class StackFrame(msgspec.Struct, frozen=True):
    """One frame of a stack. `text` is the line of source without its indent, empty if it is not known."""

    file: str
    line: int
    function: str
    text: str = ""


class WorkerStack(msgspec.Struct, frozen=True):
    """Where a worker is: what its coroutine awaits, from its target down to the innermost frame.

    Without `frames` no attempt of it is under way. `is_blocking` says that they are those of a call which blocks the
    event loop at this moment, as seen from outside.
    """

    worker: str
    incarnation: int
    attempt: int
    frames: tuple[StackFrame, ...] = ()
    is_blocking: bool = False


class Statistics(msgspec.Struct, frozen=True):
    """What the engine knows of itself at one moment.

    `loop_lag` is the longest delay of a timer within the last second, in seconds; `in_flight` counts attempts,
    `queued` the workers that wait for a place, `held` those that wait for a circuit or a rate limit, `tasks` the live
    tasks of workers, `detached` those of them that were left behind. `retry_tokens` are left of the
    `retry_capacity` of the run's retry budget; both are 0 if it has none.

    `lag_p50`, `lag_p95` are quantiles of that delay over the last ten seconds, `lag_highest` is the longest so far;
    `tasks_highest` the most tasks that were seen. The garbage collector took `collecting` seconds in all and
    `longest_collection` at the most. `blocked` is the block of the loop that goes on at this moment, as
    its event would tell it now (its `seq` is -1). `stack` is that of the worker which `WatchStack` named last.
    """

    events: int = 0
    in_flight: int = 0
    queued: int = 0
    tasks: int = 0
    detached: int = 0
    loop_lag: float = 0.0
    held: int = 0
    retry_tokens: float = 0.0
    retry_capacity: float = 0.0
    lag_p50: float = 0.0
    lag_p95: float = 0.0
    lag_highest: float = 0.0
    tasks_highest: int = 0
    collecting: float = 0.0
    longest_collection: float = 0.0
    blocked: LoopBlocked | None = None
    stack: WorkerStack | None = None


class Controller(Protocol):
    """All that a user interface knows of the engine."""

    def send(self, *commands: Command) -> None:
        """Pass commands on, in order, however many. Returns at once; safe from any thread.

        Requests about workers may take some time then. Others, `StopRun` above all, do not wait for them.
        """

    def events(self) -> asyncio.Queue[Batch]:
        """Return a queue of the event batches of the run from its first event, for the running event loop."""

    def statistics(self) -> Statistics:
        """Return the engine's latest figures. Cheap enough to call every frame."""
