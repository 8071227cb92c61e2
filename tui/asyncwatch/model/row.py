"""What is known of one worker."""

from __future__ import annotations

import msgspec

from asyncwatch.events import SETTLED, WorkerState

_TROUBLE = frozenset(
    {
        WorkerState.FAILED,
        WorkerState.EXHAUSTED,
        WorkerState.TIMED_OUT,
        WorkerState.UNRESPONSIVE,
        WorkerState.BACKING_OFF,
    }
)


class Row(msgspec.Struct, gc=False, eq=False):
    """One worker as it is now. Only the Fleet writes it. Times are in seconds since the run started.

    Rows are compared and hashed by identity: there is one of each worker in a Fleet.
    """

    name: str
    index: int
    """Its place in the order in which workers were queued, from 0."""
    group: str
    max_attempts: int
    incarnation: int = 1
    state: WorkerState = WorkerState.QUEUED
    attempt: int = 0
    """The number of the last attempt of this incarnation, 0 before the first."""
    bad_luck: float | None = None
    """The draw of the last attempt, in [0, 1)."""
    is_struck: bool = False
    """Whether that draw injected a fault. Known only when the attempt has failed."""
    result: str | None = None
    """A printable line of at most 200 characters; None if there is none, or it is None."""
    error: str = ""
    """Last error, `Type: message`, a printable line of at most 300 characters; empty if there is none."""
    first_started_at: float | None = None
    attempt_started_at: float | None = None
    ended_at: float | None = None
    """When this incarnation settled; None while it is active."""
    retry_at: float | None = None
    """When the next attempt or incarnation starts, or a poller is called again; None if none of that is to come."""
    is_poller: bool = False
    """Whether it was called, and will be again, without an end between."""
    is_ready: bool = False
    """Whether this incarnation is ready. Only workers of a tree are told so."""
    held: str = ""
    """What it waits for, as `circuit example.org` or `rate`; empty unless waiting."""
    refusal: str = ""
    """Why it got no further attempt although some were left; empty unless that is how it ended."""
    error_class: str = ""
    """Of which class the last error was: `throttled`, `transient`, `server` or `permanent`; empty if there was none."""
    latency: float = 0.0
    """Seconds that bad luck added before the call of the last attempt."""
    last_duration: float | None = None
    """How long the last attempt that ended took, in seconds."""
    version: int = 0
    """Grows with every change of this row."""

    @property
    def retries(self) -> int:
        """How many attempts of this incarnation came after the first."""
        return max(0, self.attempt - 1)

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will happen to the worker unless somebody restarts it."""
        return self.state in SETTLED

    @property
    def is_in_trouble(self) -> bool:
        """Whether the worker deserves a look: it did not make it, or it needs another try."""
        return self.state in _TROUBLE or (self.state is WorkerState.RUNNING and self.attempt > 1)

    def elapsed(self, now: float) -> float | None:
        """Return the seconds since the first attempt started, backoff included; frozen once settled."""
        if self.first_started_at is None:
            return None
        return max(0.0, (now if self.ended_at is None else self.ended_at) - self.first_started_at)


class AttemptRecord(msgspec.Struct, frozen=True, gc=False):
    """One attempt of one incarnation. Times are in seconds, `started_at` since the run started."""

    attempt: int
    incarnation: int
    bad_luck: float | None
    is_struck: bool
    started_at: float
    duration: float | None
    """None while it is running. An unresponsive one counts up to when it was left behind."""
    outcome: str
    """Empty while it is running, else `succeeded`, `cancelled`, `timed out`, `unresponsive`, or the error."""
    backoff: float | None = None
    """The wait that followed it."""
    is_asked_for: bool = False
    """Whether that wait is what the error asked for (`Retry-After`)."""
    error_class: str = ""
    """Of which class its error was; empty if it had none."""
    latency: float = 0.0
    """Seconds of it that bad luck added before the call."""
