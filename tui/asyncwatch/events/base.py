"""What every event is made of: its number and its time, the worker it is about, and the states of workers."""

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


class WorkerEvent(Event, frozen=True, gc=False):
    """A fact about one incarnation of one worker. Incarnations count from 1."""

    worker: str
    incarnation: int


Batch = Sequence[Event]
"""Events in the order of their `seq`; what travels on a listener's queue."""
