"""Commands, which a person sends to a run, and the Controller protocol that every user interface speaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import msgspec

from asyncwatch.events import Batch, LoopBlocked


class Command(msgspec.Struct, frozen=True, tag=True, tag_field="command"):
    """Base of all commands. A command changes nothing by itself: events report what it did or why it was refused."""


class CancelWorker(Command, frozen=True, gc=False):
    """Cancel this incarnation of a worker. Refused if it has ended or is no longer the current one."""

    worker: str
    incarnation: int


class RestartWorker(Command, frozen=True, gc=False):
    """Start a new incarnation of a worker. If this incarnation has not ended, it is cancelled first."""

    worker: str
    incarnation: int


class RestartBranch(Command, frozen=True):
    """Restart a supervisor: stop everything below it, then start it again.

    Its siblings are restarted with it as the strategy of the supervisor above says. A restart by a person counts
    towards no restart limit. For the root, or a group of a batch, everything below it is restarted.

    `path` is the path of the supervisor, or the name of the group. `incarnation` is the supervisor's, or 0 for a group;
    the command is refused if that is no longer the current one.
    """

    path: str
    incarnation: int = 0


class CancelBranch(Command, frozen=True):
    """Stop a supervisor and everything below it for good. The fields are as in `RestartBranch`.

    For the root, or a group of a batch, only what is below it is stopped.
    """

    path: str
    incarnation: int = 0


class IsolateCircuit(Command, frozen=True):
    """Start no attempt of this key until a person closes or probes its circuit."""

    key: str


class CloseCircuit(Command, frozen=True):
    """Close the circuit of this key, so that its attempts start again."""

    key: str


class ProbeCircuit(Command, frozen=True):
    """Let a few attempts of this key probe it now. They decide whether the circuit closes."""

    key: str


class ReleaseKey(Command, frozen=True):
    """Let a probe of this key, which is throttled or held, start now."""

    key: str


class HoldKey(Command, frozen=True):
    """Start no attempt of this key until a person releases it."""

    key: str


class ResetKey(Command, frozen=True):
    """Forget the limits that were learned for this key."""

    key: str


class RetryNow(Command, frozen=True, gc=False):
    """Let this incarnation start the next attempt, whether it is backing off, held back or in the ready queue."""

    worker: str
    incarnation: int


class GiveUp(Command, frozen=True, gc=False):
    """Let this incarnation, which is backing off or held back, make no further attempt.

    Refused for a poller that waits for its next poll.
    """

    worker: str
    incarnation: int


class RetryAllNow(Command, frozen=True):
    """Let every worker that is backing off or held back start its next attempt now."""


class GiveUpAll(Command, frozen=True):
    """Let every worker that is backing off or held back make no further attempt. Pollers between two polls go on."""


class ChangeSetting(Command, frozen=True):
    """Change one of `events.SETTINGS`. The `SettingChanged` event has the previous value.

    With a `key`, `rate` is the rate limit of that key alone; `rate per key` is the limit of each key without its own.
    `is_undo` marks a command that takes back the last change that has not been taken back yet.
    """

    name: str
    value: int | float | str | bool | None
    key: str = ""
    is_undo: bool = False


class WatchStack(Command, frozen=True):
    """Keep the await stack of this worker in the `Statistics` from now on; of no worker if it is None.

    No event reports it, since the row that a person looks at is not part of the run.
    """

    worker: str | None


class CancelAll(Command, frozen=True):
    """Cancel every worker that has not ended. The run stays open, so that workers can be restarted."""


class StopRun(Command, frozen=True):
    """Cancel every worker in the order of their supervisors, wait as long as each may take, and finish the run.

    With `at_once`, all workers are cancelled together, and those that do not end within a few loop iterations are
    abandoned. Such a command may follow one without it.
    """

    at_once: bool = False


class StackFrame(msgspec.Struct, frozen=True):
    """One frame of a stack. `text` is the source line without its indent, or empty if it is unknown."""

    file: str
    line: int
    function: str
    text: str = ""


class WorkerStack(msgspec.Struct, frozen=True):
    """What a worker awaits: its frames from the target down to the innermost one.

    `frames` is empty if no attempt is in flight. With `is_blocking` they are the frames of a call that blocks the event
    loop at this moment, as a sample of the thread shows them.
    """

    worker: str
    incarnation: int
    attempt: int
    frames: tuple[StackFrame, ...] = ()
    is_blocking: bool = False


class Statistics(msgspec.Struct, frozen=True):
    """Figures of the engine at one moment. All times are in seconds."""

    events: int = 0
    """Events emitted so far."""
    in_flight: int = 0
    """Attempts in flight."""
    queued: int = 0
    """Workers in the ready queue, which wait for a slot."""
    tasks: int = 0
    """Live tasks of workers, abandoned ones included."""
    detached: int = 0
    """Live tasks of abandoned workers."""
    loop_lag: float = 0.0
    """The longest delay of a timer within the last second."""
    held: int = 0
    """Workers that wait for a circuit or a rate limit."""
    retry_tokens: float = 0.0
    """Tokens left in the run's retry budget; 0 without a budget."""
    retry_capacity: float = 0.0
    """The tokens of a full retry budget; 0 without a budget."""
    lag_p50: float = 0.0
    """The median delay of a timer over the last ten seconds."""
    lag_p95: float = 0.0
    """The 95th percentile of that delay."""
    lag_highest: float = 0.0
    """The longest delay of a timer so far."""
    tasks_highest: int = 0
    """The most live tasks that were seen."""
    collecting: float = 0.0
    """Time that the garbage collector has taken so far."""
    longest_collection: float = 0.0
    """Time of its longest collection."""
    blocked: LoopBlocked | None = None
    """The block of the event loop that goes on at this moment, as its event would report it now; its `seq` is -1."""
    stack: WorkerStack | None = None
    """The stack of the worker that the last `WatchStack` named."""
    viewers: int = 1
    """Dashboards that show the run, this one included."""
    skipped: int = 0
    """Events that this client did not get, because it read too slowly; it got a snapshot in their place."""


class SnapshotPart(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A part of the state of the run at one moment, as `model.snapshot` writes and reads it.

    A client that joins a run, or that is too far behind, gets the parts of a snapshot and then the batches that follow.
    The first part replaces all that the client knew.
    """

    data: bytes
    is_first: bool = False
    is_last: bool = False


class Problem(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A problem of the run beside the work, such as a disk that is full, or of the connection to it, for a person."""

    text: str


class Disconnected(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The process of the run cannot be reached any more. Nothing follows.

    `reason` is a sentence for a person. The run has ended, or it goes on without this client.
    """

    reason: str


class Moment(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The time of a recorded run that is shown again. Only a `Player` sends it.

    `at` is in seconds since the run started. From then on `speed` seconds of the run pass in a second; 0 stands still.
    Until `is_reached`, the updates that follow are on the way to a requested moment.
    """

    at: float
    speed: float = 0.0
    is_reached: bool = True


Update = Batch | SnapshotPart | Problem | Disconnected | Moment
"""What a client hears of a run. A client in the process of the run gets batches only."""

T_co = TypeVar("T_co", covariant=True)


class Feed(Protocol[T_co]):
    """The end of an `asyncio.Queue` from which updates are taken."""

    async def get(self) -> T_co:
        """Remove and return the next update; wait if there is none."""

    def get_nowait(self) -> T_co:
        """Remove and return the next update.

        Raises:
            asyncio.QueueEmpty: There is none.

        """

    def empty(self) -> bool:
        """Return whether there is no update."""


class Controller(Protocol):
    """The interface between a user interface and a run."""

    def send(self, *commands: Command) -> None:
        """Pass on any number of commands, in order. Returns at once; safe from any thread.

        Commands about workers may take some time. Others, `StopRun` above all, overtake them.
        """

    def events(self) -> Feed[Update]:
        """Return an `asyncio.Queue` of all that happens in the run, for the running event loop.

        It begins with the first event of the run, or with a snapshot.
        """

    def statistics(self) -> Statistics:
        """Return the engine's latest figures. Cheap enough to call for every frame."""


class Recording(msgspec.Struct, frozen=True):
    """What is known of a recorded run that is shown again. All times but `started` are in seconds since it started."""

    at: float
    """The moment that is shown, or that was requested last."""
    end: float
    """The last moment that is recorded."""
    started: float
    """Seconds since the epoch."""
    is_playing: bool
    speed: float
    """Seconds of the run that pass in a second while it plays."""
    failures: Sequence[float] = ()
    """When workers ended with a failure, in order; up to the moment that is indexed."""
    throttled: Sequence[float] = ()
    """When keys were throttled, in the same way."""
    indexed: float = 1.0
    """The part of the recording, up to 1, that is indexed: moments in it are shown sooner."""
    note: str = ""
    """Why there is no index, if there will be none."""


class Player(Controller, Protocol):
    """A recorded run that is shown again. It refuses all commands."""

    def recording(self) -> Recording:
        """Return what is known of it. Cheap enough to call for every frame."""

    def seek(self, at: float) -> None:
        """Show the moment `at`, in seconds since the run started. Returns at once."""

    def play(self, *, is_playing: bool) -> None:
        """Let the time of the run pass from the shown moment on, or stop it. At the end it starts over."""

    def set_speed(self, speed: float) -> None:
        """Let `speed` seconds of the run pass in a second while it plays."""

    def close(self) -> None:
        """End it, with its threads."""
