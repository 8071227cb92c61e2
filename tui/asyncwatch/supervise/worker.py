"""A worker as the supervisor keeps it."""

from __future__ import annotations

import asyncio
from typing import Any

from asyncwatch.events import WorkerState
from asyncwatch.supervise.spec import Outcome, WorkerSpec


class Worker:
    """The state of one worker. Only the supervisor writes it; a target sees it as its `CurrentWorker`."""

    __slots__ = (
        "attempt",
        "backoff",
        "bad_luck",
        "cancels",
        "deadline_at",
        "error",
        "first_started_at",
        "incarnation",
        "is_ready",
        "is_restarting",
        "is_struck",
        "latency",
        "left_behind",
        "outcome",
        "overdue",
        "spec",
        "started_at",
        "state",
        "stop_reason",
        "task",
        "timer",
        "turns",
    )

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.incarnation = 1
        self.outcome: Outcome | None = None
        self.task: asyncio.Task[Any] | None = None
        self.timer: asyncio.Handle | None = None
        self.reset()

    def reset(self) -> None:
        """Start anew: queued, no attempt made, nobody asked it to stop."""
        self.state = WorkerState.QUEUED
        self.attempt = 0
        self.bad_luck = 0.0
        self.is_struck = False  # the bad luck of this attempt injects a fault
        self.latency = 0.0  # seconds that bad luck adds to this attempt
        self.error: BaseException | None = None  # what it backs off from
        self.backoff: float | None = None  # seconds: the last one that was drawn
        self.first_started_at = 0.0
        self.started_at = 0.0
        self.deadline_at: float | None = None  # seconds since the run started
        self.stop_reason = ""
        self.cancels = 0
        self.turns = 0  # attempts of the calls of a poller before this one
        self.left_behind: asyncio.Task[Any] | None = None  # the task of this incarnation that would not end
        self.overdue: TimeoutError | None = None  # what its attempt fails with, as its time is over
        self.is_ready = False  # it stands in line for a place
        self.is_restarting = False  # a new incarnation follows once it has stopped

    def __repr__(self) -> str:
        return f"<worker {self.spec.name!r}, incarnation {self.incarnation}, attempt {self.attempt}: {self.state}>"

    @property
    def name(self) -> str:
        """Its name, unique in the fleet."""
        return self.spec.name

    @property
    def draw_number(self) -> int:
        """The number of this attempt among all of the incarnation, by which its draws are keyed."""
        return self.turns + self.attempt

    def stop_timer(self) -> None:
        """Forget what was to happen later: the end of a backoff, of an attempt's timeout, or of the grace period."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
