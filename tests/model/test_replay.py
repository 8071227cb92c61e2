"""What holds for any list of events, even one that no supervisor would send."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.events import (
    AttemptFailed,
    AttemptStarted,
    CancelRequested,
    Event,
    RetryScheduled,
    WorkerCancelled,
    WorkerExhausted,
    WorkerFailed,
    WorkerRestarted,
    WorkersQueued,
    WorkerState,
    WorkerSucceeded,
    WorkerTimedOut,
    WorkerUnresponsive,
)
from asyncwatch.model.reducer import AttemptRecord, Fleet
from tests.model.stream import Stream, ended, failed
from tests.rows import columns_of

NAMES = ("a", "b", "c")
ERROR: dict[str, Any] = {"error_type": "ValueError", "error": "bad"}
KINDS: dict[type[Event], dict[str, object]] = {
    AttemptStarted: {"bad_luck": 0.5},
    AttemptFailed: failed(),
    RetryScheduled: {"delay": 0.2},
    CancelRequested: {"reason": "person"},
    WorkerRestarted: {},
    WorkerSucceeded: ended(result=200),
    WorkerFailed: ended(**ERROR),
    WorkerExhausted: ended(**ERROR),
    WorkerCancelled: ended(),
    WorkerTimedOut: ended(**ERROR),
    WorkerUnresponsive: ended(stack="x.py:1 f", cancels=1),
}
NUMBERED = (AttemptStarted, AttemptFailed, RetryScheduled)


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    """Events of any kind about any worker and incarnation, in any order; some workers are queued late or never."""
    stream = Stream(*NAMES[:2])
    steps = st.tuples(st.sampled_from(list(KINDS)), st.sampled_from(NAMES), st.integers(1, 2), st.integers(1, 2))
    for kind, name, incarnation, attempt in draw(st.lists(steps, max_size=40)):
        numbered = {"attempt": attempt} if kind in NUMBERED else {}
        stream.add(kind, name, incarnation, **(KINDS[kind] | numbered))
    if draw(st.booleans()):
        stream.add(WorkersQueued, group="late", max_attempts=1, workers=NAMES)
    return stream.events


Picture = tuple[list[dict[str, object]], dict[WorkerState, int], list[tuple[AttemptRecord, ...]], tuple[object, ...]]


def picture(fleet: Fleet) -> Picture:
    """Return all that can be seen of a Fleet."""
    totals = (fleet.attempts, fleet.events, fleet.latest, fleet.settled, fleet.settled_at)
    figures = (fleet.durations.count, fleet.durations.quantile(0.5), fleet.rate.series(fleet.latest, 5))
    rows = [columns_of(row) for row in fleet.rows]
    return rows, fleet.counts, [fleet.history(row.name) for row in fleet.rows], (*totals, *figures)


def fold(events: Sequence[Event], *, size: int) -> Fleet:
    """Return the Fleet of `events` that come in batches of `size`."""
    fleet = Fleet()
    for start in range(0, len(events), size):
        fleet.apply_batch(events[start : start + size])
    return fleet


@given(streams())
def test_totals_are_those_of_the_rows(events: list[Event]) -> None:
    """Counts and settled workers always equal what counting the rows would give."""
    fleet = Fleet()
    for event in events:
        fleet.apply(event)
        states = Counter(row.state for row in fleet.rows)
        assert {state: number for state, number in fleet.counts.items() if number} == states
        assert fleet.settled == sum(row.is_settled for row in fleet.rows)
        assert fleet.is_settled == (bool(fleet.rows) and all(row.is_settled for row in fleet.rows))
        assert (fleet.settled_at is not None) == fleet.is_settled
        assert all((row.ended_at is not None) == row.is_settled for row in fleet.rows)


@given(streams(), st.integers(1, 50))
def test_batches_make_no_difference(events: list[Event], size: int) -> None:
    """However events are cut into batches, the picture is the same."""
    assert picture(fold(events, size=size)) == picture(fold(events, size=len(events)))


@given(streams(), st.integers(0, 50))
def test_events_that_come_again_change_nothing(events: list[Event], start: int) -> None:
    """Folding events a second time, from any point on, leaves the picture as it is."""
    fleet = fold(events, size=8)
    before = picture(fold(events, size=8))
    assert fleet.apply_batch(events[start:]) == set()
    assert picture(fleet) == before


@given(streams())
def test_touched_rows_are_those_whose_version_grew(events: list[Event]) -> None:
    """A row is reported as changed exactly when its version says so."""
    fleet = Fleet()
    for event in events:
        before = {row.name: row.version for row in fleet.rows}
        touched = fleet.apply(event)
        grown = [row for row in fleet.rows if row.version > before.get(row.name, row.version)]
        assert grown == ([touched] if touched is not None else [])


@given(streams())
def test_history_has_one_record_an_attempt(events: list[Event]) -> None:
    """No attempt of an incarnation is recorded twice, and the row's own attempt is the last one."""
    fleet = fold(events, size=8)
    for row in fleet.rows:
        history = fleet.history(row.name)
        assert len({(record.incarnation, record.attempt, record.started_at) for record in history}) == len(history)
        if row.attempt:
            assert (history[-1].incarnation, history[-1].attempt) == (row.incarnation, row.attempt)
