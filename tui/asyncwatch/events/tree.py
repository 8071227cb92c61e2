"""Facts about a tree: its supervisors, and what they do with their children."""

from __future__ import annotations

from typing import Any

from asyncwatch.events.base import Event, WorkerEvent
from asyncwatch.policies.runner import ROOT


class SupervisorStarted(Event, frozen=True, gc=False):
    """A supervisor of the tree began to start its children. `name` is its path, `parent` that of the one above.

    `within` is in seconds. The fields are those of its spec; a pool has the strategy `simple_one_for_one`. Its workers
    carry its path as their group. `incarnation` counts from 1 at each path.
    """

    name: str
    parent: str
    strategy: str
    max_restarts: int
    within: float
    auto_shutdown: str
    incarnation: int = 1


class SupervisorTerminated(Event, frozen=True, gc=False):
    """A supervisor ended, and all its children before it. `reason` is `shutdown` or an error in one line."""

    name: str
    reason: str


class RestartCounted(Event, frozen=True, gc=False):
    """A restart of a child (its name within its supervisor) counts for `within` seconds, as number `restarts`.

    `supervisor` is the path of whose limit it counts for: the supervisor's, or the child's own.
    """

    supervisor: str
    child: str
    restarts: int
    max_restarts: int
    within: float


class RestartLimitReached(Event, frozen=True, gc=False):
    """One restart too many within `within` seconds: the supervisor ends, or only the child if it has its own limit.

    `supervisor` is the path of the one that ends, or of the child that stays down.
    """

    supervisor: str
    restarts: int
    within: float


class RestartScheduled(WorkerEvent, frozen=True, gc=False):
    """An incarnation ended, or did not start, because of `cause`; another will start in `delay` seconds."""

    delay: float
    cause: str


class ChildRemoved(Event, frozen=True, gc=False):
    """A supervisor forgot a child, by its name there, and all below it.

    It was temporary or of a pool and ended, did not start when it was added, was deleted, or had been added to an
    incarnation of the supervisor that another takes the place of now.
    """

    supervisor: str
    child: str


class WorkerReady(WorkerEvent, frozen=True, gc=False):
    """A worker of a tree is ready: it ran its first step, or said so. `value` is what it said, as JSON can hold it."""

    value: Any = None


def shown_path(path: str) -> str:
    """Return what a supervisor or a child is called in texts: its path below the root, by which workers are named."""
    return path.removeprefix(f"{ROOT}/")
