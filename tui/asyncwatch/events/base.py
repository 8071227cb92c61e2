"""The base of all events, and the states of a worker."""

from __future__ import annotations

import enum
from collections.abc import Sequence

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
        """Whether the worker has ended. Only a restart takes it out of such a state."""
        return self in SETTLED

    @property
    def is_failure(self) -> bool:
        """Whether the work failed: an irrecoverable error, or no attempts left."""
        return self in FAILURES

    @property
    def is_trouble(self) -> bool:
        """Whether the worker settled and needs attention: it failed, timed out or is unresponsive."""
        return self in TROUBLE

    @property
    def is_stopped(self) -> bool:
        """Whether the worker was stopped, so that its duration says nothing about its work."""
        return self in STOPPED


FAILURES = frozenset({WorkerState.FAILED, WorkerState.EXHAUSTED})
TROUBLE = FAILURES | {WorkerState.TIMED_OUT, WorkerState.UNRESPONSIVE}
STOPPED = frozenset({WorkerState.CANCELLED, WorkerState.TIMED_OUT, WorkerState.UNRESPONSIVE})
SETTLED = FAILURES | STOPPED | {WorkerState.SUCCEEDED}


class Event(msgspec.Struct, frozen=True, gc=False, tag=True, tag_field="event"):
    """Base of all events.

    `seq` numbers the events of a run from 0 without a gap. `at` is the time in seconds since the run started.
    """

    seq: int
    at: float


class WorkerEvent(Event, frozen=True, gc=False):
    """Base of the events about one worker. `incarnation` counts from 1, and each restart adds 1."""

    worker: str
    incarnation: int


Batch = Sequence[Event]
"""Events in the order of their `seq`: the item of a listener's queue."""
