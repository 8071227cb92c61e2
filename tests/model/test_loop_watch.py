"""LoopWatch: blocks of the event loop, and the attempts whose durations they distort."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.events import AttemptStarted, LoopBlocked, WorkersQueued
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.model.statistics import SPANS_KEPT, LoopWatch


def block(at: float, duration: float, worker: str = "", incarnation: int = 1, seq: int = 0) -> LoopBlocked:
    """Return a block that ended at `at`."""
    return LoopBlocked(seq, at, at - duration, duration, "worker" if worker else "many", worker, incarnation, 1)


GAPS = st.integers(1, 4) | st.integers(6, 300)
"""Hundredths of a second. Blocks less than 5 apart are adjacent; at exactly 5, rounding would decide."""


@given(
    st.lists(st.tuples(GAPS, st.integers(1, 300)), max_size=12),
    st.integers(0, 3000),
    st.integers(0, 3000),
)
def test_late_within_equals_a_count_by_hundredths_with_adjacent_blocks_joined(
    gaps: list[tuple[int, int]], start: int, length: int
) -> None:
    watch = LoopWatch()
    late: set[int] = set()
    now = 0
    for number, (gap, duration) in enumerate(gaps):
        began = now + gap
        if number and gap < 5:
            late |= set(range(now, began))
        late |= set(range(began, began + duration))
        now = began + duration
        watch.blocked(block(now / 100, duration / 100))
    expected = sum(start <= moment < start + length for moment in late)
    assert abs(watch.late_within(start / 100, (start + length) / 100) - expected / 100) < 1e-6
    assert abs(watch.seconds - len(late) / 100) < 1e-6


def test_attempt_is_distorted_if_the_loop_was_late_for_a_tenth_of_it() -> None:
    watch = LoopWatch()
    watch.blocked(block(10.0, 1.0))
    assert watch.is_distorted(8.0, 9.9)
    assert not watch.is_distorted(8.0, 10.1)
    assert watch.is_distorted(9.5, 0.1)
    assert not watch.is_distorted(8.0, 1.0)
    assert not watch.is_distorted(10.0, 1.0)
    assert not watch.is_distorted(9.5, None)
    assert not watch.is_distorted(None, None)


def test_block_changes_the_row_of_its_worker() -> None:
    fleet = Fleet()
    apply(fleet, [WorkersQueued(0, 0.0, "g", 1, ("a", "b")), AttemptStarted(1, 0.0, "a", 1, 1, 0.5)])
    row = fleet.get("a")
    assert row is not None
    version = row.version
    assert apply(fleet, [block(1.0, 0.3, "a", seq=2)]) == {row}
    assert row.version > version
    assert apply(fleet, [block(2.0, 0.2, seq=3), block(3.0, 0.2, "gone", seq=4)]) == set()
    assert [event.at for event in fleet.loop.blocks] == [1.0, 2.0, 3.0]
    assert fleet.loop.blocks_of("a") == (fleet.loop.blocks[0],)
    assert fleet.loop.blocks_of("b") == ()
    assert fleet.loop.longest is fleet.loop.blocks[0]


def test_late_spans_beyond_the_limit_are_dropped_and_summed() -> None:
    watch = LoopWatch()
    for number in range(3 * SPANS_KEPT):
        watch.blocked(block(2.0 * number + 1, 1.0))
    assert SPANS_KEPT <= len(watch._ends) < 2 * SPANS_KEPT
    assert (watch.count, watch.seconds) == (3 * SPANS_KEPT, 3.0 * SPANS_KEPT)
    end = 6.0 * SPANS_KEPT
    assert watch.late_within(end - 100.5, end) == 50.0
    assert watch.is_distorted(end - 100.5, 100.0)
