"""A worker as the supervisor keeps it while it is under way."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import msgspec

from asyncwatch.engine.spec import WorkerSpec
from asyncwatch.events import WorkerState


class Worker(msgspec.Struct, eq=False):
    """The state of one worker. Only the supervisor writes it; a target sees it as its `CurrentWorker`."""

    takes_place: ClassVar[bool] = True
    """Whether its attempt takes one of the places of the run."""
    name: str
    """Unique in the fleet."""
    args: tuple[Any, ...]
    spec: WorkerSpec
    """How it is treated; its name and args may be those of a template."""
    index: int = -1
    """Its place in the roster of a batch."""
    incarnation: int = 1
    state: WorkerState = WorkerState.QUEUED
    attempt: int = 0
    bad_luck: float = 0.0
    is_struck: bool = False
    """Whether the bad luck of this attempt injects a fault."""
    latency: float = 0.0
    """Seconds that bad luck adds to this attempt."""
    error: BaseException | None = None
    """What it backs off from."""
    backoff: float | None = None
    """Seconds: the last one that was drawn."""
    first_started_at: float = 0.0
    started_at: float = 0.0
    deadline_at: float | None = None
    """Seconds since the run started."""
    stop_reason: str = ""
    cancels: int = 0
    turns: int = 0
    """Attempts of the polls of a poller before this one."""
    poll_started_at: float = 0.0
    """When the first attempt of this poll started; not set for the first poll."""
    failed_polls: int = 0
    """How many polls have failed since the last one that succeeded."""
    task: asyncio.Task[Any] | None = None
    timer: asyncio.Handle | None = None
    left_behind: asyncio.Task[Any] | None = None
    """The task of this incarnation that would not end."""
    overdue: TimeoutError | None = None
    """What its attempt fails with, as its time is over."""
    is_ready: bool = False
    """Whether it stands in line for a place."""
    is_restarting: bool = False
    """Whether a new incarnation follows once it has stopped."""

    def reset(self) -> None:
        """Start anew: queued, no attempt made, nobody asked it to stop."""
        self.state = WorkerState.QUEUED
        self.attempt = self.cancels = self.turns = self.failed_polls = 0
        self.bad_luck = self.latency = self.first_started_at = self.started_at = self.poll_started_at = 0.0
        self.is_struck = self.is_ready = self.is_restarting = False
        self.error = self.backoff = self.deadline_at = self.left_behind = self.overdue = None
        self.stop_reason = ""

    def __repr__(self) -> str:
        return f"<worker {self.name!r}, incarnation {self.incarnation}, attempt {self.attempt}: {self.state}>"

    @property
    def draw_number(self) -> int:
        """The number of this attempt among all of the incarnation, by which its draws are keyed."""
        return self.turns + self.attempt

    @property
    def call_started_at(self) -> float:
        """When the first attempt started: of this poll, for a poller, else of this incarnation."""
        return self.poll_started_at if self.turns else self.first_started_at

    @property
    def is_between_polls(self) -> bool:
        """Whether it is a poller that waits for its next poll, and not for another attempt of one."""
        return self.spec.every is not None and self.state is WorkerState.BACKING_OFF and not self.attempt

    @property
    def pays_for_retries(self) -> bool:
        """Whether the run's budget pays for its retries: not once somebody has asked for a restart of it."""
        return self.incarnation == 1

    def stop_timer(self) -> None:
        """Forget what was to happen later: the end of a backoff, of an attempt's timeout, or of the grace period."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
