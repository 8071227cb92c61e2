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
        "bad_luck",
        "cancels",
        "first_started_at",
        "incarnation",
        "is_overdue",
        "is_ready",
        "is_restarting",
        "outcome",
        "spec",
        "started_at",
        "state",
        "stop_reason",
        "task",
        "timer",
    )

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.incarnation = 1
        self.outcome: Outcome | None = None
        self.task: asyncio.Task[Any] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.reset()

    def reset(self) -> None:
        """Start anew: queued, no attempt made, nobody asked it to stop."""
        self.state = WorkerState.QUEUED
        self.attempt = 0
        self.bad_luck = 0.0
        self.first_started_at = 0.0
        self.started_at = 0.0
        self.stop_reason = ""
        self.cancels = 0
        self.is_overdue = False  # the timeout of its attempt has ended
        self.is_ready = False  # it stands in line for a place
        self.is_restarting = False  # a new incarnation follows once it has stopped

    @property
    def name(self) -> str:
        """Its name, unique in the fleet."""
        return self.spec.name

    @property
    def is_struck(self) -> bool:
        """Whether the bad luck of this attempt injects a fault."""
        return self.bad_luck > self.spec.bad_luck.threshold

    def stop_timer(self) -> None:
        """Forget what was to happen later: the end of a backoff, of an attempt's timeout, or of the grace period."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
