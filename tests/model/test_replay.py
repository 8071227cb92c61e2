"""Properties of the fold of any list of events, even one that no run would emit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from asyncwatch.events import (
    AttemptFailed,
    AttemptHeld,
    AttemptStarted,
    CancelRequested,
    Event,
    KeyLimitChanged,
    KeyReleased,
    KeyThrottled,
    RetryScheduled,
    WorkerCancelled,
    WorkerExhausted,
    WorkerFailed,
    WorkerRestarted,
    WorkersQueued,
    WorkerSucceeded,
    WorkerTimedOut,
    WorkerUnresponsive,
)
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import FOLDS, apply
from tests.model.stream import Stream, ended, failed
from tests.rows import columns_of

NAMES = ("a", "b", "c")
ERROR: dict[str, Any] = {"error_type": "ValueError", "error": "bad"}
KINDS: dict[type[Event], dict[str, object]] = {
    AttemptStarted: {"bad_luck": 0.5},
    AttemptHeld: {},
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
KEY_KINDS: dict[type[Event], dict[str, Any]] = {
    KeyThrottled: {"seconds": 2.0, "retry_after": 2.0, "refused": 3},
    KeyReleased: {},
    KeyLimitChanged: {"limit": 2, "rate": 5.0, "in_flight": 1, "refused": 4},
}
HOLDS = [("h", "rate"), ("h", "throttled"), ("i", "throttled"), ("i", "share"), ("", "budget"), ("", "place")]
NUMBERED = (AttemptStarted, AttemptHeld, AttemptFailed, RetryScheduled)


COMMON: list[type[Event]] = [AttemptStarted, WorkerSucceeded]
"""Drawn as often as all others together: what most workers of a batch do."""
NUMBERS = st.sampled_from([1, 1, 1, 2])


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    """Events of any kind about any worker and incarnation, in any order; some workers are queued late or never."""
    stream = Stream(*NAMES[:2])
    common = [kind for kind in COMMON for _ in range(len(KINDS) // 2)]
    kinds: st.SearchStrategy[type[Event]] = st.sampled_from([*KINDS, *common, *KEY_KINDS, WorkersQueued])
    for kind, name, incarnation, attempt in draw(
        st.lists(st.tuples(kinds, st.sampled_from(NAMES), NUMBERS, NUMBERS), max_size=40)
    ):
        if kind is WorkersQueued:
            stream.add(WorkersQueued, group=draw(st.sampled_from(["", "late"])), max_attempts=1, workers=NAMES)
        elif kind in KEY_KINDS:
            stream.add(kind, key=draw(st.sampled_from("hi")), **KEY_KINDS[kind])
        else:
            numbered = {"attempt": attempt} if kind in NUMBERED else {}
            latency = {"latency": draw(st.sampled_from([0.0, 0.0, 0.5]))} if kind is AttemptStarted else {}
            hold = (
                dict(zip(("key", "reason"), draw(st.sampled_from(HOLDS)), strict=True)) if kind is AttemptHeld else {}
            )
            refused = {"error_class": draw(st.sampled_from(["server", "throttled"]))} if kind is AttemptFailed else {}
            stream.add(kind, name, incarnation, **(KINDS[kind] | numbered | latency | hold | refused))
    return stream.events


def state_of(fleet: Fleet) -> tuple[object, ...]:
    """Return the visible state of a Fleet."""
    totals = (fleet.attempts, fleet.events, fleet.latest, fleet.settled, fleet.settled_at)
    figures = (fleet.durations.count, fleet.durations.quantile(0.5), fleet.rate.series(fleet.latest, 5))
    rows = [columns_of(row) for row in fleet.rows]
    branches = [(path, +Counter(branch.counts)) for path, branch in fleet.tree.branches.items()]
    histories = [fleet.history(row.name) for row in fleet.rows]
    keys = (list(fleet.keys.by_key.values()), fleet.keys.refused)
    return rows, fleet.counts, histories, branches, totals, figures, fleet.abandoned, keys


def fold(events: Sequence[Event], *, size: int) -> Fleet:
    """Return the Fleet of `events`, applied in batches of `size`."""
    fleet = Fleet()
    for start in range(0, len(events), size):
        apply(fleet, events[start : start + size])
    return fleet


@given(streams())
def test_totals_equal_those_counted_from_the_rows(events: list[Event]) -> None:
    fleet = Fleet()
    for event in events:
        apply(fleet, [event])
        states = Counter(row.state for row in fleet.rows)
        assert {state: number for state, number in fleet.counts.items() if number} == states
        assert fleet.settled == sum(row.is_settled for row in fleet.rows)
        assert fleet.is_settled == (bool(fleet.rows) and all(row.is_settled for row in fleet.rows))
        assert (fleet.settled_at is not None) == fleet.is_settled
        assert all((row.ended_at is not None) == row.is_settled for row in fleet.rows)
        held = Counter(row.held for row in fleet.rows if row.held)
        waiting = {reason: fleet.keys.waiting(reason) for _, reason in HOLDS}
        assert {
            f"{reason} {key}".rstrip(): number for reason in waiting for key, number in waiting[reason].items()
        } == held
        assert all(fleet.keys.total(reason) == sum(keys.values()) for reason, keys in waiting.items())


@given(streams(), st.integers(1, 50))
def test_batches_of_any_size_give_the_same_state(events: list[Event], size: int) -> None:
    assert state_of(fold(events, size=size)) == state_of(fold(events, size=len(events)))


@settings(max_examples=400)
@given(streams())
def test_apply_inlined_handlers_equal_the_table(events: list[Event]) -> None:
    expected, touched = Fleet(), set[str]()
    for number, event in enumerate(events, start=1):
        row = FOLDS[type(event)](expected, event)
        touched |= {row.name} if row is not None else set()
        expected.last_seq, expected.events, expected.latest = event.seq, number, max(expected.latest, event.at)
    expected.tree.count_moves()
    fleet = Fleet()
    assert {row.name for row in apply(fleet, events)} == touched
    assert state_of(fleet) == state_of(expected)


@given(streams(), st.integers(0, 50))
def test_events_applied_again_change_nothing(events: list[Event], start: int) -> None:
    fleet = fold(events, size=8)
    before = state_of(fold(events, size=8))
    assert apply(fleet, events[start:]) == set()
    assert state_of(fleet) == before


@given(streams())
def test_changed_rows_are_those_whose_version_grew(events: list[Event]) -> None:
    fleet = Fleet()
    for event in events:
        before = {row.name: row.version for row in fleet.rows}
        changed = apply(fleet, [event])
        assert changed == {row for row in fleet.rows if row.version > before.get(row.name, row.version)}


@given(streams())
def test_history_has_one_record_for_each_attempt_and_ends_with_the_current_one(events: list[Event]) -> None:
    fleet = fold(events, size=8)
    for row in fleet.rows:
        history = fleet.history(row.name)
        assert len({(record.incarnation, record.attempt, record.started_at) for record in history}) == len(history)
        if row.attempt:
            assert (history[-1].incarnation, history[-1].attempt) == (row.incarnation, row.attempt)
