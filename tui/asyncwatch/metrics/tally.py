"""What the model does not count: the durations of attempts by group and error, retries, throttling and restarts. Pure.

An attempt costs one look-up and one `append` here. Once a second the durations are sorted into their buckets.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from asyncwatch.events import (
    AttemptFailed,
    AttemptStarted,
    Batch,
    Event,
    PollFailed,
    PollFinished,
    RetryScheduled,
    WorkerCancelled,
    WorkerEvent,
    WorkerExhausted,
    WorkerFailed,
    WorkerRestarted,
    WorkersQueued,
    WorkerSucceeded,
    WorkerTimedOut,
    WorkerUnresponsive,
)
from asyncwatch.model.fleet import Fleet

BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the buckets, in seconds."""
OTHER: Final = "_OTHER"
"""OpenTelemetry's value for what has no value of its own."""
MOST_GROUPS: Final = 100
MOST_ERRORS: Final = 100
MOST_SERIES: Final = 300
"""Most pairs of a group and an error; later errors of a group are `OTHER`."""
_SETTLED_EVERY = 1.0
"""Seconds of the run between two times that durations are sorted into their buckets."""


class Durations:
    """Durations of attempts, in seconds, by bucket."""

    __slots__ = ("_new", "add", "count", "counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * len(BOUNDS)
        """How many are not above each of the `BOUNDS`."""
        self.count = 0
        self.total = 0.0
        """Their sum."""
        self._new: list[float] = []
        self.add = self._new.append
        """Take a duration."""

    def settle(self) -> None:
        """Sort what was taken into the buckets."""
        if not self._new:
            return
        new = sorted(self._new)
        self._new.clear()
        self.count += len(new)
        self.total += sum(new)
        place = 0
        for index, bound in enumerate(BOUNDS):
            place = bisect_right(new, bound, place)
            self.counts[index] += place


class Tally:
    """Counts the events of the run whose state is `fleet`.

    Labels are bounded: a run has at most `MOST_GROUPS` groups and `MOST_ERRORS` types of errors here, and all others
    are `OTHER`. A type of error is the qualified name of its class, as the event has it.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.retries: Counter[str] = Counter()
        """Retries that were scheduled, by group."""
        self.throttled: Counter[str] = Counter()
        """Attempts that were throttled, by group."""
        self.restarts: Counter[str] = Counter()
        """New incarnations, by group."""
        self._durations: dict[tuple[str, str], Durations] = {}
        self._successes: dict[str, Callable[[float], None]] = {}
        """Takes the duration of an attempt that succeeded, by the group of the fleet."""
        self._failures: dict[tuple[str, str], Callable[[float], None]] = {}
        """The same of one that failed, by group and error, for those that have labels of their own."""
        self._fleet = fleet
        self._labels: dict[str, str] = {}
        self._errors: set[str] = set()
        self._starts: dict[str, float] = {}
        """When the last attempt of a worker started, if it is not the first one of its incarnation."""
        self._folds: dict[type[Event], Callable[[Any], None]] = {
            WorkersQueued: self._queued,
            AttemptFailed: self._failed,
            PollFinished: self._polled,
            RetryScheduled: self._retried,
            WorkerRestarted: self._restarted,
            PollFailed: self._stopped,
            WorkerFailed: self._stopped,
            WorkerExhausted: self._stopped,
            WorkerCancelled: self._stopped,
            WorkerTimedOut: self._stopped,
            WorkerUnresponsive: self._stopped,
        }
        self._batch: Batch = ()
        self._settled_at = 0.0
        self._waited = 0.0
        self._waited_until = 0.0

    @property
    def groups(self) -> Iterator[str]:
        """The labels of the groups so far."""
        return iter(dict.fromkeys(self._labels.values()))

    def label(self, group: str) -> str:
        """Return the label of a group of the fleet."""
        label = self._labels.get(group)
        if label is None:
            if len(self._labels) >= MOST_GROUPS:
                return OTHER
            label = self._labels[group] = group
            for counter in (self.retries, self.throttled, self.restarts):
                counter[label] = 0
        return label

    def take(self, batch: Batch) -> None:
        """Take a batch just before it is applied to the fleet, and count the one before it, which was."""
        self._count()
        self._batch = batch
        if batch:
            at = batch[-1].at
            self._wait_until(at)
            if at - self._settled_at >= _SETTLED_EVERY:
                self._settled_at = at
                self._settle()

    def durations(self) -> dict[tuple[str, str], Durations]:
        """Return the durations of the attempts that ended by themselves, by group and type of error.

        The type is empty for those that succeeded.
        """
        self._count()
        self._settle()
        return self._durations

    def throttled_seconds(self, now: float) -> float:
        """Return how long workers have waited until `now` since they were throttled, all of them together."""
        self._count()
        self._wait_until(now)
        return self._waited

    def _wait_until(self, now: float) -> None:
        # As many as wait now have waited since the last time, which is a batch ago.
        if now > self._waited_until:
            self._waited += self._fleet.keys.total("throttled") * (now - self._waited_until)
            self._waited_until = now

    def _settle(self) -> None:
        for durations in self._durations.values():
            durations.settle()

    def _count(self) -> None:
        """Count a batch that was applied. The rows of the workers that it is about are still there."""
        batch, self._batch = self._batch, ()
        by_name, successes, starts, folds = self._fleet.by_name, self._successes, self._starts, self._folds
        for event in batch:
            # Nearly all events of a large batch are of the first two kinds.
            if type(event) is AttemptStarted:
                if event.attempt > 1:
                    starts[event.worker] = event.at
            elif type(event) is WorkerSucceeded:
                seconds = event.elapsed
                if event.attempts > 1:
                    seconds = self._since_start(event)
                try:
                    successes[by_name[event.worker].block.group](seconds)
                except KeyError:  # the first one of its group
                    self._succeeded(event.worker, seconds)
            elif (fold := folds.get(type(event))) is not None:
                fold(event)

    def _of(self, group: str, error_type: str) -> Durations:
        found = self._durations.get((group, error_type))
        if found is None:
            if error_type and len(self._durations) >= MOST_SERIES and error_type != OTHER:
                return self._of(group, OTHER)
            found = self._durations[group, error_type] = Durations()
        return found

    def _group_of(self, worker: str) -> str:
        row = self._fleet.by_name.get(worker)
        return OTHER if row is None else self.label(row.block.group)

    def _since_start(self, event: WorkerSucceeded) -> float:
        started = self._starts.pop(event.worker, None)
        return event.elapsed if started is None else max(0.0, event.at - started)

    def _succeeded(self, worker: str, seconds: float) -> None:
        row = self._fleet.by_name.get(worker)
        group = OTHER if row is None else row.group
        add = self._successes[group] = self._of(self.label(group), "").add
        add(seconds)

    def _queued(self, event: WorkersQueued) -> None:
        self.label(event.group)

    def _failed(self, event: AttemptFailed) -> None:
        if event.attempt > 1:
            self._starts.pop(event.worker, None)
        try:
            self._failures[self._fleet.by_name[event.worker].block.group, event.error_type](event.elapsed)
        except KeyError:
            self._failed_anew(event)
        if event.error_class == "throttled":
            self.throttled[self._group_of(event.worker)] += 1

    def _failed_anew(self, event: AttemptFailed) -> None:
        """Take a failure that may be the first one of its group and error."""
        group, error_type = self._group_of(event.worker), event.error_type
        if error_type not in self._errors:
            if len(self._errors) < MOST_ERRORS:
                self._errors.add(error_type)
            else:
                error_type = OTHER
        durations = self._of(group, error_type)
        durations.add(event.elapsed)
        if self._durations.get((group, error_type)) is durations:
            self._failures[group, error_type] = durations.add

    def _polled(self, event: PollFinished) -> None:
        self._starts.pop(event.worker, None)
        self._of(self._group_of(event.worker), "").add(event.elapsed)

    def _retried(self, event: RetryScheduled) -> None:
        if event.is_throttled:
            self._waited += event.delay
        else:
            try:
                self.retries[self._labels[self._fleet.by_name[event.worker].block.group]] += 1
            except KeyError:  # a group without a label of its own
                self.retries[OTHER] += 1

    def _restarted(self, event: WorkerRestarted) -> None:
        self._starts.pop(event.worker, None)
        self.restarts[self._group_of(event.worker)] += 1

    def _stopped(self, event: WorkerEvent) -> None:
        self._starts.pop(event.worker, None)
