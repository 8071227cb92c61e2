"""Workers that are to run for ever: how many are up, and how often they had to be restarted, for what. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from asyncwatch.events import PollFailed, RestartScheduled, WorkerRestarted, WorkerState
from asyncwatch.model.rows import Row
from asyncwatch.text import error_line

if TYPE_CHECKING:
    from asyncwatch.model.reducer import Fleet


class Restarted(msgspec.Struct):
    """A worker that its supervisor had to restart: how often of itself, not with a sibling.

    `cause` is why the last time, and `at` when, in seconds since the run started.
    """

    times: int
    cause: str
    at: float


class Restarts:
    """How often each worker of a tree was restarted. A new incarnation forgets it; whoever looks for a cause does not.

    What a person restarted, or a sibling or a supervisor took along, is no restart of a worker's own, and counts apart.
    """

    def __init__(self) -> None:
        self.asked_for = 0
        self.by_worker: dict[str, Restarted] = {}
        self._own = 0
        self._scheduled: set[str] = set()

    @property
    def total(self) -> int:
        """All of them, whoever wanted them: the one number that is told wherever restarts are counted."""
        return self._own + self.asked_for

    def apply(self, event: RestartScheduled) -> None:
        """Fold one event."""
        self._own += 1
        self._scheduled.add(event.worker)
        known = self.by_worker.get(event.worker)
        if known is None:
            self.by_worker[event.worker] = Restarted(1, event.cause, event.at)
        else:
            known.times += 1
            known.cause = event.cause
            known.at = event.at

    def forget(self, worker: str) -> None:
        """Drop what is known of a worker; its restarts stay in the total."""
        self.by_worker.pop(worker, None)
        self._scheduled.discard(worker)

    def began(self, event: WorkerRestarted) -> None:
        """Fold one event."""
        if event.worker in self._scheduled:
            self._scheduled.discard(event.worker)
        else:
            self.asked_for += 1


class FailedPolls(msgspec.Struct):
    """How many polls of a poller failed, in all its incarnations, and with which error the last one."""

    times: int
    error: str


class Polls:
    """Which pollers fail now, and how many polls of each have failed since the run started."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.by_worker: dict[str, FailedPolls] = {}

    @property
    def failed(self) -> int:
        """How many polls have failed, of all workers."""
        return sum(failed.times for failed in self.by_worker.values())

    def apply(self, event: PollFailed) -> None:
        """Fold one event."""
        self.failing.add(event.worker)
        known = self.by_worker.setdefault(event.worker, FailedPolls(0, ""))
        known.times += 1
        known.error = error_line(event.error_type, event.error)

    def recovered(self, worker: str) -> None:
        """Note that a worker does not fail now: a poll succeeded, or its incarnation has ended."""
        self.failing.discard(worker)


class Services(NamedTuple):
    """The workers of a run's supervisors: how many are in each state."""

    counts: Counter[WorkerState]
    to_come: int
    """Workers that were not started yet: children start one by one."""
    starting: Row | None
    """Which of them those that are to come wait for: it is not ready yet."""

    @property
    def wanted(self) -> int:
        """How many are to be up: all but those that succeeded."""
        return self.workers + self.to_come - self.counts[WorkerState.SUCCEEDED]

    @property
    def workers(self) -> int:
        """How many there are so far, those that ended included."""
        return self.counts.total()

    @property
    def up(self) -> int:
        """How many run, those that are between two calls included."""
        return self.counts[WorkerState.RUNNING]


def services_of(fleet: Fleet) -> Services:
    """Return the workers that have a supervisor; those of a batch beside it, or below it, have none."""
    tree = fleet.tree
    counts: Counter[WorkerState] = Counter()
    for branch in tree.branches.values():
        if branch.is_supervisor and branch.parent is None:
            counts.update(branch.counts)
        elif not branch.is_supervisor and branch.parent is not None:
            counts.subtract(branch.counts)
    to_come, last = 0, tree.newest
    if last is not None and fleet.run is not None and fleet.cancel_requested is None and not tree.ending:
        to_come = max(0, fleet.run.workers - fleet.workers)
    is_starting = to_come and last is not None and not last.is_ready and not last.is_settled
    return Services(counts, to_come, last if is_starting else None)
