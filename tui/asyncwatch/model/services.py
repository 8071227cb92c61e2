"""Workers of supervisors: how many are up, how often they were restarted, and which polls failed. Pure."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import msgspec

from asyncwatch.events import PollFailed, RestartScheduled, WorkerRestarted, WorkerState
from asyncwatch.model.rows import Row
from asyncwatch.policies.restart import Flapping, Reason
from asyncwatch.text import error_line, one_line, share

CRASHES_KEPT = 100
"""How many crashes of a service are kept, the newest."""
RETURNED = "it returned"
"""The cause of a restart without an error."""
SLOT = 300.0
"""Seconds of a slot: restarts are counted by slots."""
SLOTS_KEPT = 13
"""The last hour, in whole slots and the one that has begun."""


class Crash(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The end of an incarnation that no person and no supervisor had requested."""

    at: float
    """Seconds since the run started."""
    incarnation: int
    cause: str
    """The error, or that it returned; a printable line."""
    place: str = ""
    """`file:line function` of the error; empty if it is not known."""
    delay: float | None = None
    """Seconds until the next incarnation was to start; None if none was to."""


class ServiceHistory(msgspec.Struct, gc=False):
    """How often a service was restarted, and how it crashed, in all its incarnations."""

    times: int = 0
    """Restarts for a cause of its own."""
    crashes: list[Crash] = msgspec.field(default_factory=list)
    """The last `CRASHES_KEPT`, oldest first."""
    slots: dict[int, int] = msgspec.field(default_factory=dict)
    """Restarts of any cause by slot of the run, of the last `SLOTS_KEPT`, oldest first."""

    def __copy__(self) -> ServiceHistory:
        return ServiceHistory(self.times, self.crashes[:], self.slots.copy())

    @property
    def cause(self) -> str:
        """Why it last crashed."""
        return self.crashes[-1].cause if self.crashes else ""

    def add(self, crash: Crash) -> None:
        """Add a crash. It replaces that of the same incarnation, which was not known to be restarted."""
        crashes = self.crashes
        if crashes and crashes[-1].incarnation == crash.incarnation:
            crashes.pop()
        crashes.append(crash)
        del crashes[:-CRASHES_KEPT]

    def count(self, at: float) -> None:
        """Count a restart at `at`."""
        slot = int(at // SLOT)
        self.slots[slot] = self.slots.get(slot, 0) + 1
        while len(self.slots) > 1 and (oldest := next(iter(self.slots))) <= slot - SLOTS_KEPT:
            del self.slots[oldest]

    def last_hour(self, now: float) -> list[int]:
        """Return the restarts in each slot of the last hour, oldest first."""
        newest = int(now // SLOT)
        return [self.slots.get(slot, 0) for slot in range(newest - SLOTS_KEPT + 2, newest + 1)]


class Restarts:
    """Restarts of all workers.

    A `RestartScheduled` announces each restart of a worker's own. Other restarts are by a person, with a sibling or
    with a supervisor.
    """

    def __init__(self) -> None:
        self.asked_for = 0
        """Restarts by a person, with a sibling or with a supervisor."""
        self.by_worker: dict[str, ServiceHistory] = {}
        """Of each worker that was restarted or has crashed."""
        self.latest: dict[str, float] = {}
        """When the present incarnation of each restarted worker began, the latest one last."""
        self.flaps_until: dict[str, float] = {}
        """Until when each worker flaps that has flapped, if it is not restarted again."""
        self._own = 0
        self._scheduled: set[str] = set()

    @property
    def total(self) -> int:
        """Restarts of any cause."""
        return self._own + self.asked_for

    def flaps(self, worker: str, now: float) -> bool:
        """Return whether the worker flaps at `now`, in seconds since the run started."""
        return bool(self.flaps_until) and self.flaps_until.get(worker, -1.0) > now

    def crashed(self, worker: str, crash: Crash) -> None:
        """Note a crash."""
        self._history(worker).add(crash)

    def scheduled(self, event: RestartScheduled, place: str, flapping: Flapping) -> None:
        """Count a scheduled restart of a worker that crashed at `place`."""
        self._own += 1
        self._scheduled.add(event.worker)
        history = self._history(event.worker)
        history.times += 1
        cause = share(one_line(RETURNED if event.cause == Reason.NORMAL else event.cause, 300))
        history.add(Crash(event.at, event.incarnation, cause, share(place), event.delay))
        until = flapping.until([crash.at for crash in history.crashes if crash.delay is not None])
        if until > event.at:
            self.flaps_until[event.worker] = until

    def began(self, event: WorkerRestarted) -> None:
        """Record a restart, and count it unless it was scheduled."""
        worker = event.worker
        if worker in self._scheduled:
            self._scheduled.discard(worker)
        else:
            self.asked_for += 1
        self._history(worker).count(event.at)
        self.latest.pop(worker, None)
        self.latest[worker] = event.at

    def forget(self, worker: str) -> None:
        """Drop a worker; its restarts stay in the total."""
        self.by_worker.pop(worker, None)
        self.latest.pop(worker, None)
        self.flaps_until.pop(worker, None)
        self._scheduled.discard(worker)

    def _history(self, worker: str) -> ServiceHistory:
        history = self.by_worker.get(worker)
        if history is None:
            history = self.by_worker[worker] = ServiceHistory()
        return history


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
        self.pollers = 0
        """Workers that have been found to be pollers, including those that are gone."""
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
    flapping: int = 0
    """Workers that crash again and again, whatever they do just now."""
    recovering: int = 0
    """Running workers that were restarted, and have not run for long enough to count as up."""
    up: int = 0
    """Running workers that neither flap nor recover, including pollers between two polls."""

    @property
    def wanted(self) -> int:
        """Number of workers that should be up: all that did not succeed."""
        return self.workers + self.to_come - self.counts[WorkerState.SUCCEEDED]

    @property
    def workers(self) -> int:
        """Number of workers started so far, including ended ones."""
        return self.counts.total()
