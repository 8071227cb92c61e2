"""The map of a fleet: the worst state of each bucket, kept up to date as rows change."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.events import WorkerState
from asyncwatch.model.view.map import SEVERITY, StateMap
from tests.model.test_live import rows_of


def test_every_state_has_a_severity() -> None:
    assert {*SEVERITY} == {*WorkerState}


@given(st.integers(0, 2**32), st.integers(1, 700), st.integers(1, 300))
def test_cells_are_the_worst_states_of_their_buckets(seed: int, count: int, most: int) -> None:
    randomly = random.Random(seed)
    rows = rows_of(count)
    state_map = StateMap(rows, is_new=True)
    for _change in range(3):
        moved = randomly.choices(rows, k=randomly.randrange(1, 50))
        for row in moved:
            row.state = randomly.choice(SEVERITY)
        state_map.touched(moved)
        cells = state_map.cells(most)
        assert len(cells) <= most
        size = state_map.size
        buckets = [rows[start : start + size] for start in range(0, count, size)]
        assert [*cells] == [min(SEVERITY.index(row.state) for row in bucket) for bucket in buckets]
        for cell, bucket in enumerate(buckets):
            worst = state_map.row_at(cell)
            assert worst in bucket
            assert SEVERITY.index(worst.state) == cells[cell]
    assert state_map.row_at(len(buckets)) is None
    assert state_map.row_at(-1) is None


@pytest.mark.parametrize("is_new", [False, True])
def test_rows_that_come_later_are_read_in_parts(*, is_new: bool) -> None:
    rows = rows_of(5_000)
    state_map = StateMap(rows, is_new=is_new)
    rows += rows_of(5_000)
    rows[9_999].state = WorkerState.FAILED
    parts = 0
    while state_map.is_behind:
        state_map.read()
        parts += 1
    assert parts == (2 if is_new else 3)
    assert [*state_map.cells(10)] == [10] * 9 + [1]
