"""Events about a tree: its supervisors, and their restarts of children."""

from __future__ import annotations

from typing import Any, Final

from asyncwatch.events.base import Event, WorkerEvent

ROOT: Final = "root"
"""The path of the supervisor at the top of a tree."""


def shown_path(path: str) -> str:
    """Return the path of a supervisor or child as people see it: without the root, like the names of workers."""
    return path.removeprefix(f"{ROOT}/")


class SupervisorStarted(Event, frozen=True, gc=False):
    """A supervisor began to start its children.

    `name` is its path and `parent` the path of the supervisor above it. `incarnation` counts from 1 at each path. The
    other fields are those of its spec, with `within` in seconds; a pool has the strategy `simple_one_for_one`. The path
    is the group of the workers directly below.
    """

    name: str
    parent: str
    strategy: str
    max_restarts: int
    within: float
    auto_shutdown: str
    incarnation: int = 1


class SupervisorTerminated(Event, frozen=True, gc=False):
    """A supervisor ended, after all its children. `reason` is `shutdown`, or an error on one line."""

    name: str
    reason: str


class RestartCounted(Event, frozen=True, gc=False):
    """The restart of a child counts towards a restart limit for the next `within` seconds.

    `supervisor` is the path that the limit belongs to: the supervisor, or the child if it has a limit of its own.
    `child` is the child's name within its supervisor. `restarts` is the number of restarts that count now.
    """

    supervisor: str
    child: str
    restarts: int
    max_restarts: int
    within: float


class RestartLimitReached(Event, frozen=True, gc=False):
    """One restart too many within `within` seconds.

    `supervisor` is the path of the supervisor that ends, or of the child that stays down if it has a limit of its own.
    """

    supervisor: str
    restarts: int
    within: float


class RestartScheduled(WorkerEvent, frozen=True, gc=False):
    """An incarnation ended or failed to start because of `cause`. The next one starts in `delay` seconds."""

    delay: float
    cause: str


class ChildRemoved(Event, frozen=True, gc=False):
    """A supervisor removed a child, by its name there, and everything below it.

    Reasons: a temporary child or a child of a pool ended; an added child did not start; the child was deleted; or the
    supervisor was restarted without the children that had been added to it.
    """

    supervisor: str
    child: str


class WorkerReady(WorkerEvent, frozen=True, gc=False):
    """A worker of a tree is ready: it has run its first step, or it called `ready(value)`.

    A value that JSON cannot hold is given as its repr.
    """

    value: Any = None
