"""A child as its supervisor keeps it, from incarnation to incarnation, and what one may ask about it."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import msgspec

from asyncwatch.engine.spec import DEFAULT_RETRY, WorkerSpec
from asyncwatch.engine.tree.specs import ChildSpec
from asyncwatch.events.tree import shown_path
from asyncwatch.policies.restart import RestartWindow
from asyncwatch.policies.retry import RetryPolicy

if TYPE_CHECKING:
    from asyncwatch.engine.tree.company import TreeWorker
    from asyncwatch.engine.tree.life import Life
    from asyncwatch.engine.tree.node import Node

ONE_ATTEMPT = RetryPolicy(max_attempts=1)

ChildKind = Literal["worker", "supervisor"]


class ChildStatus(enum.StrEnum):
    """What a child is to its supervisor."""

    STARTING = "starting"
    """It is to be ready soon: it runs up to that, or waits for its first attempt, or for those that start before it."""
    RUNNING = "running"
    RESTARTING = "restarting"
    """It ended, or did not start; it is to be started again, and waits for that: for the end of its backoff, for the
    next try, or for its first attempt (the run is paused, its circuit is open, a rate limit holds it)."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    """It does not run, and nothing but a request or the restart of a sibling will start it (OTP's `undefined`)."""


COMING = frozenset({ChildStatus.STARTING, ChildStatus.RESTARTING})


class ChildInfo(msgspec.Struct, frozen=True):
    """A child at one moment."""

    name: str
    """Its name in its supervisor, or its key in its pool."""
    kind: ChildKind
    status: ChildStatus
    incarnation: int | None = None
    """Of a worker: the number of its last incarnation, from 1; None if it never had one."""
    value: object = None
    """What it announced when it was ready (OTP's extra return value)."""


class ChildCounts(msgspec.Struct, frozen=True):
    """How many children a supervisor has."""

    specs: int
    """Specs; 1 for a pool."""
    active: int
    """Children that run: those that ended do not, even before their supervisor has come to act on that."""
    supervisors: int
    """Children that are supervisors, running or not."""
    workers: int
    """Children that are workers, running or not."""


class Child:
    """One child of a node. Only the node writes it."""

    __slots__ = (
        "asked",
        "below",
        "failures",
        "is_added",
        "is_looping",
        "is_unwanted",
        "life",
        "name",
        "owed_to",
        "run_spec",
        "spec",
        "started_at",
        "status",
        "stays_down",
        "timer",
        "window",
        "worker",
    )

    def __init__(self, spec: ChildSpec, parent: str) -> None:
        self.spec = spec
        self.name = spec.name
        self.life: Life | None = None
        self.status = ChildStatus.STARTING
        self.worker: TreeWorker | None = None  # the last incarnation of a worker
        self.below: Node | None = None  # the last incarnation of a supervisor
        self.asked: asyncio.Future[ChildInfo] | None = None  # who asked for its start, which has to wait
        self.is_added = False  # it is kept if it starts
        self.timer: asyncio.TimerHandle | None = None  # the end of a restart's backoff
        self.owed_to: Child | None = None  # whose restart stopped it and has not come to start it again
        self.stays_down = False  # it was stopped by request while a restart of a sibling, which would start it, waits
        self.is_looping = False  # its last restart failed, and is tried again
        self.is_unwanted = False  # a request to stop it is under way: no restart may start it
        self.failures = 0  # restarts since it was stable
        self.started_at: float | None = None  # loop time; None since its end was counted
        self.window: RestartWindow | None = None
        if isinstance(spec, WorkerSpec):
            self.run_spec = run_spec(spec, parent)
            if spec.max_restarts is not None:
                self.window = RestartWindow(spec.max_restarts, spec.within)

    @property
    def kind(self) -> ChildKind:
        """Whether it is a worker or a supervisor."""
        return "worker" if isinstance(self.spec, WorkerSpec) else "supervisor"

    @property
    def latest(self) -> TreeWorker | Node | None:
        """Its last incarnation, if it ever had one."""
        return self.worker or self.below

    @property
    def is_alive(self) -> bool:
        """Whether it runs; one that ended does not, even if its supervisor has not come to act on that."""
        return self.status is ChildStatus.RUNNING and self.life is not None and self.life.ending is None

    @property
    def is_expected(self) -> bool:
        """Whether it runs, or will without being asked to."""
        return self.owed_to is not None or self.status is not ChildStatus.STOPPED

    @property
    def is_waiting(self) -> bool:
        """Whether it waits to be started: for the end of its backoff, or for its first attempt."""
        return self.timer is not None or (self.status in COMING and self.life is not None)

    @property
    def info(self) -> ChildInfo:
        """How it is at this moment."""
        incarnation = None if self.worker is None else self.worker.incarnation
        value = None if self.life is None else self.life.value
        return ChildInfo(self.name, self.kind, self.status, incarnation, value)

    def next_delay(self, now: float, jitter: Callable[[int], float]) -> float:
        """Return the seconds to wait before the next restart, and count it. `jitter` draws for a number of restart."""
        backoff = self.spec.backoff
        if self.started_at is not None and now - self.started_at >= backoff.stable_after:
            self.failures = 0
        self.started_at = None
        self.failures += 1
        return round(backoff.delay(self.failures, jitter(self.failures)), 6) if backoff.base else 0.0

    def tell_asker(self, error: BaseException | None = None) -> None:
        """Tell who asked for its start and still waits for it how it is now, or why there is no start."""
        asked, self.asked = self.asked, None
        if asked is None or asked.done():
            return
        if error is None:
            asked.set_result(self.info)
        else:
            asked.set_exception(error)
            asked.exception()  # nobody has to hear of it if who asked is gone

    def stop_timer(self) -> None:
        """Forget the restart that was to come."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def run_spec(spec: WorkerSpec, parent: str) -> WorkerSpec:
    """Return the spec as the machine is to run it: named by its path below the root, grouped by its supervisor."""
    return msgspec.structs.replace(
        spec,
        name=shown_path(f"{parent}/{spec.name}"),
        group=parent,
        retry=ONE_ATTEMPT if spec.is_service and spec.retry is DEFAULT_RETRY else spec.retry,
    )
