"""Workers of supervisors: how many are up, how often they were restarted, and which polls failed. Pure."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import msgspec

from asyncwatch.events import PollFailed, RestartScheduled, WorkerRestarted, WorkerState
from asyncwatch.model.rows import Row
from asyncwatch.text import error_line


class Restarted(msgspec.Struct, frozen=True):
    """How often a worker was restarted for a cause of its own, and the last time (seconds since the run started)."""

    times: int
    cause: str
    at: float


class Restarts:
    """Restarts of all workers.

    A `RestartScheduled` announces each restart of a worker's own. Other restarts are by a person, with a sibling or
    with a supervisor.
    """

    def __init__(self) -> None:
        self.asked_for = 0
        """Restarts by a person, with a sibling or with a supervisor."""
        self.by_worker: dict[str, Restarted] = {}
        """Own restarts of each worker, of all its incarnations."""
        self._own = 0
        self._scheduled: set[str] = set()

    @property
    def total(self) -> int:
        """Restarts of any cause."""
        return self._own + self.asked_for

    def scheduled(self, event: RestartScheduled) -> None:
        """Count a scheduled restart."""
        self._own += 1
        self._scheduled.add(event.worker)
        known = self.by_worker.get(event.worker)
        times = 0 if known is None else known.times
        self.by_worker[event.worker] = Restarted(times + 1, event.cause, event.at)

    def began(self, event: WorkerRestarted) -> None:
        """Record a restart, and count it unless it was scheduled."""
        if event.worker in self._scheduled:
            self._scheduled.discard(event.worker)
        else:
            self.asked_for += 1

    def forget(self, worker: str) -> None:
        """Drop a worker; its restarts stay in the total."""
        self.by_worker.pop(worker, None)
        self._scheduled.discard(worker)


class FailedPolls(msgspec.Struct, frozen=True):
    """How many polls of a poller failed, in all its incarnations, and the last error."""

    times: int
    error: str


class Polls:
    """Failed polls of all pollers."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        """Pollers whose last poll failed."""
        self.by_worker: dict[str, FailedPolls] = {}
        self.failed = 0
        """How many polls have failed, of all workers."""

    def poll_failed(self, event: PollFailed) -> None:
        """Fold one failed poll."""
        self.failing.add(event.worker)
        self.failed += 1
        known = self.by_worker.get(event.worker)
        times = 0 if known is None else known.times
        self.by_worker[event.worker] = FailedPolls(times + 1, error_line(event.error_type, event.error))

    def recovered(self, worker: str) -> None:
        """Note that a poll succeeded, or that the incarnation has ended."""
        self.failing.discard(worker)

    def forget(self, worker: str) -> None:
        """Drop a worker; its failed polls stay in the total."""
        self.by_worker.pop(worker, None)
        self.failing.discard(worker)


class Services(NamedTuple):
    """The workers of a run's supervisors, by state."""

    counts: Counter[WorkerState]
    to_come: int
    """Workers not started yet: children start one by one."""
    starting: Row | None
    """The worker whose readiness the next ones wait for."""

    @property
    def wanted(self) -> int:
        """Number of workers that should be up: all that did not succeed."""
        return self.workers + self.to_come - self.counts[WorkerState.SUCCEEDED]

    @property
    def workers(self) -> int:
        """Number of workers started so far, including ended ones."""
        return self.counts.total()

    @property
    def up(self) -> int:
        """Number of running workers, including pollers between two polls."""
        return self.counts[WorkerState.RUNNING]
