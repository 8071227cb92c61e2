"""What is counted agrees with the events of a run, however they come in batches, and its labels are bounded."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncwatch.events import (
    AttemptFailed,
    AttemptHeld,
    AttemptStarted,
    Event,
    PollFinished,
    RetryScheduled,
    WorkerCancelled,
    WorkerRestarted,
    WorkersQueued,
    WorkerSucceeded,
)
from asyncwatch.metrics.tally import BOUNDS, MOST_ERRORS, MOST_GROUPS, MOST_SERIES, OTHER, Durations, Tally
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from tests.clock import run_jumping
from tests.engine.fleets import run_batch, worker
from tests.engine.test_scheduler_properties import Step, fleets, run_fleet, steps
from tests.engine.test_throttle import Quota
from tests.model.stream import Stream, ended, failed

STARTED: dict[str, Any] = {"attempt": 1, "bad_luck": 0.5}


def tally_of(events: Sequence[Event], sizes: Sequence[int] = (1_000_000,)) -> Tally:
    """Return what was counted of the events, in batches of these sizes in turn."""
    fleet = Fleet()
    tally = Tally(fleet)
    start = number = 0
    while start < len(events):
        batch = tuple(events[start : start + sizes[number % len(sizes)]])
        tally.take(batch)
        apply(fleet, batch)
        start, number = start + len(batch), number + 1
    return tally


def counts_of(tally: Tally) -> dict[tuple[str, str], int]:
    return {pair: durations.count for pair, durations in tally.durations().items()}


@given(fleets, st.lists(steps, min_size=8, max_size=25), st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_counts_and_durations_agree_with_the_events_of_any_run(
    fleet: dict[str, Any], script: list[Step], random: Random
) -> None:
    _, events = run_fleet(fleet, script)
    groups = {name: event.group for event in events if isinstance(event, WorkersQueued) for name in event.workers}
    starts: dict[str, float] = {}
    counts: Counter[tuple[str, str]] = Counter()
    seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        match event:
            case AttemptStarted(at=at, worker=worker):
                starts[worker] = at
            case AttemptFailed(at=at, worker=worker, error_type=error_type):
                counts[groups[worker], error_type] += 1
                seconds[groups[worker], error_type] += at - starts[worker]
            case WorkerSucceeded(at=at, worker=worker) | PollFinished(at=at, worker=worker):
                counts[groups[worker], ""] += 1
                seconds[groups[worker], ""] += at - starts[worker]
    tally = tally_of(events, [random.choice((1, 3, 20)) for _ in range(10)])
    assert counts_of(tally) == counts
    assert not tally._starts  # of workers that have all ended
    assert {pair: durations.total for pair, durations in tally.durations().items()} == pytest.approx(seconds, abs=1e-4)
    retries = Counter(
        groups[each.worker] for each in events if isinstance(each, RetryScheduled) if not each.is_throttled
    )
    restarts = Counter(groups[each.worker] for each in events if isinstance(each, WorkerRestarted))
    throttled = Counter(
        groups[each.worker] for each in events if isinstance(each, AttemptFailed) and each.error_class == "throttled"
    )
    assert (+tally.retries, +tally.restarts, +tally.throttled) == (retries, restarts, throttled)


def test_service_that_succeeds_at_its_second_attempt_and_restarts_at_once_has_the_time_of_that_attempt() -> None:
    stream = Stream("a", group="g")
    stream.add(AttemptStarted, "a", **STARTED)
    stream.add(AttemptFailed, "a", **failed(elapsed=0.1))
    stream.now = 50.0
    stream.add(AttemptStarted, "a", attempt=2, bad_luck=0.5)
    stream.add(WorkerSucceeded, "a", **ended(2, 50.0))
    stream.add(WorkerRestarted, "a", 2)
    durations = tally_of(stream.events).durations()
    assert durations["g", ""].total == pytest.approx(0.1)
    assert durations["g", "OSError"].total == pytest.approx(0.1)


def test_attempts_that_were_stopped_are_no_durations_and_leave_nothing() -> None:
    stream = Stream("a", group="g")
    stream.add(AttemptStarted, "a", attempt=2, bad_luck=0.5)
    stream.add(WorkerCancelled, "a", **ended(2, 1.0))
    tally = tally_of(stream.events)
    assert not tally.durations()
    assert not tally._starts


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.0051, 0.3, 300.0, 301.0])
def test_bucket_holds_what_is_not_above_its_bound(seconds: float) -> None:
    durations = Durations()
    durations.add(seconds)
    durations.settle()
    durations.add(1e9)
    durations.settle()
    assert durations.counts == [int(seconds <= bound) for bound in BOUNDS]
    assert (durations.count, durations.total) == (2, seconds + 1e9)


@pytest.mark.parametrize(("batches", "count"), [(1, 0), (2, 1), (3, 1), (4, 3)])
def test_durations_are_sorted_into_buckets_once_a_second_although_nothing_reads_them(batches: int, count: int) -> None:
    stream = Stream("a", "b", "c", "d", group="g")
    for name, at in (("a", 0.5), ("b", 1.5), ("c", 2.0), ("d", 3.0)):
        stream.now = at
        stream.add(WorkerSucceeded, name, **ended())
    tally = tally_of(stream.events[: 2 + batches], [3, 1, 1, 1])
    assert sum(durations.count for durations in tally._durations.values()) == count


def test_throttled_seconds_are_those_of_all_workers_that_wait_for_their_key() -> None:
    stream = Stream("a", "b", group="g")
    stream.now = 1.0
    stream.add(AttemptHeld, "a", attempt=1, key="h", reason="throttled")
    stream.now = 2.0
    stream.add(AttemptHeld, "b", attempt=1, key="h", reason="throttled")
    stream.now = 5.0
    stream.add(AttemptStarted, "a", **STARTED)
    tally = tally_of(stream.events, [1])
    assert tally.throttled_seconds(5.0) == pytest.approx(1 + 2 * 3)
    assert tally.throttled_seconds(8.0) == pytest.approx(7 + 3)
    # A batch that arrives late takes nothing back: a counter never falls.
    stream.now = 7.0
    stream.add(AttemptStarted, "b", **STARTED)
    tally.take(stream.events[-1:])
    apply(tally._fleet, stream.events[-1:])
    assert tally.throttled_seconds(8.0) == tally.throttled_seconds(20.0) == pytest.approx(10)


def test_throttling_by_a_server_with_a_quota_is_counted_as_it_was() -> None:
    server = Quota(5, 2.0, retry_after=2.0)
    events, _ = run_batch(run_jumping, [worker(f"w{number}", server) for number in range(30)], concurrency=5)
    since: dict[str, float] = {}
    seconds = 0.0
    for event in events:
        if isinstance(event, (AttemptHeld, AttemptStarted)):
            seconds += event.at - since.pop(event.worker, event.at)
        if isinstance(event, AttemptHeld) and event.reason == "throttled":
            since[event.worker] = event.at
    tally = tally_of(events, [1])
    assert sum(tally.throttled.values()) == server.rejected > 3
    assert tally.throttled_seconds(0.0) == pytest.approx(seconds)
    assert seconds > 20


def test_backoff_of_a_throttled_attempt_is_throttled_time_and_no_retry() -> None:
    stream = Stream("a", group="g")
    stream.add(AttemptStarted, "a", **STARTED)
    stream.add(AttemptFailed, "a", **failed(error_class="throttled"))
    stream.add(RetryScheduled, "a", attempt=2, delay=2.5, is_throttled=True)
    tally = tally_of(stream.events)
    assert tally.throttled_seconds(0.0) == 2.5
    assert (tally.retries["g"], tally.throttled["g"]) == (0, 1)


def failing(groups: int, errors: int) -> list[Event]:
    """Return the events of groups with a worker each, whose attempts fail by so many types of errors."""
    stream = Stream("first", group="group 0")
    for group in range(groups):
        name = f"worker {group}"
        stream.add(WorkersQueued, group=f"group {group}", max_attempts=3, workers=(name,))
        for error in range(errors):
            stream.add(AttemptStarted, name, attempt=1 + error, bad_luck=0.5)
            stream.add(AttemptFailed, name, **failed(attempt=1 + error, error_type=f"Error{error}"))
    return stream.events


def test_types_of_errors_are_bounded() -> None:
    counts = counts_of(tally_of(failing(1, MOST_ERRORS + 20)))
    assert len(counts) == MOST_ERRORS + 1
    assert counts["group 0", OTHER] == 20


def test_groups_are_bounded() -> None:
    tally = tally_of(failing(MOST_GROUPS + 20, 1))
    counts = counts_of(tally)
    assert len(counts) == MOST_GROUPS + 1
    assert counts[OTHER, "Error0"] == 20
    assert len([*tally.groups]) == MOST_GROUPS


def test_pairs_are_bounded_and_none_is_lost() -> None:
    counts = counts_of(tally_of(failing(MOST_GROUPS, 30)))
    assert len(counts) <= MOST_SERIES + MOST_GROUPS
    assert sum(counts.values()) == MOST_GROUPS * 30
    assert counts["group 99", OTHER] == 30
