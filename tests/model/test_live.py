"""The live order: kept up to date as rows change, it is that of a sort of all rows."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncwatch.events import WorkerState
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.rows import BLOCK, Block, Row
from asyncwatch.model.view import live
from asyncwatch.model.view.live import LiveOrder, live_key
from asyncwatch.model.view.selection import View

STATES = [*WorkerState]


def rows_of(count: int) -> list[Row]:
    """Return queued workers."""
    rows: list[Row] = []
    for start in range(0, count, BLOCK):
        block = Block(start, min(BLOCK, count - start), "g", 3)
        block.started, block.ended = block.column(), block.column()
        rows += [Row(f"w{start + offset}", block, offset) for offset in range(block.size)]
    return rows


def enter(row: Row, state: WorkerState, at: float) -> None:
    """Let a row be in a state since `at`."""
    row.state = state
    row.block.ended[row.offset] = at if row.is_settled else float("nan")
    if live.RANKS[state] == live.RUNNING:
        row.block.started[row.offset] = at


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 900), st.booleans())
def test_head_is_that_of_a_sort_of_all_rows(seed: int, count: int, has_history: bool) -> None:
    randomly = random.Random(seed)
    rows = rows_of(count)
    now = 0.0

    def move(order: LiveOrder | None) -> None:
        nonlocal now
        for _step in range(randomly.randrange(1, 300)):
            now += 1.0
            row = randomly.choice(rows)
            enter(row, randomly.choice(STATES), now)
            if order is not None:
                order.touched([row])

    if has_history:
        move(None)
    order = LiveOrder(rows, sorted(rows, key=live_key) if has_history else ())
    for _update in range(4):
        move(order)
        order.update()
        head = order.head()
        assert len(head) == len(set(head)) == min(live.HEAD, count)
        expected = sorted(rows, key=live_key)[: len(head)]
        # Of waiting and of restarted workers the one that came first is first.
        assert [live.RANKS[row.state] for row in head] == [live.RANKS[row.state] for row in expected]
        timed = {live.RUNNING, live.FAILED, live.SUCCEEDED}
        assert [row for row in head if live.RANKS[row.state] in timed] == [
            row for row in expected if live.RANKS[row.state] in timed
        ]


def test_late_event_about_an_ended_worker_does_not_move_it() -> None:
    rows = rows_of(3)
    order = LiveOrder(rows)
    for at, row in enumerate(rows):
        enter(row, WorkerState.SUCCEEDED, float(at))
        order.touched([row])
        order.update()
    order.touched([rows[0]])
    order.update()
    assert order.head() == rows[::-1]


def test_queued_workers_are_found_behind_many_others_in_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_SCANNED", 512)
    rows = rows_of(3_000)
    for row in rows[1:2_000]:
        enter(row, WorkerState.SUCCEEDED, 1.0)
    order = LiveOrder(rows, sorted(rows, key=live_key))
    for _update in range(8):
        order.update()
    assert order.head()[:2] == [rows[0], rows[2_000]]


@pytest.mark.parametrize("at_once", [10, 100_000])
def test_held_rows_stay_and_the_others_follow_below(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr("asyncwatch.model.view.selection.AT_ONCE", at_once)
    fleet = Fleet()
    fleet.rows.extend(rows_of(2_000))
    view = View(fleet)
    view.follow()
    enter(fleet.rows[1_500], WorkerState.RUNNING, 1.0)
    view.touched([fleet.rows[1_500]])
    assert view.resort()
    before = [*view.order()[:100]]
    assert before[0] is fleet.rows[1_500]
    view.hold()
    enter(fleet.rows[1_900], WorkerState.RUNNING, 2.0)
    view.touched([fleet.rows[1_900]])
    assert view.order()[:100] == before
    while view.work(lambda: False):
        pass
    order = view.order()
    assert order[:100] == before
    if at_once == 10:  # else they were sorted at once
        assert order[live.HEAD] is fleet.rows[1_900]
    assert sorted(row.index for row in order) == list(range(2_000))
    assert not view.resort()
    assert view.place(order[1_950]) == 1_950
    view.follow()
    assert view.order()[:2] == [fleet.rows[1_500], fleet.rows[1_900]]


def test_live_order_of_a_run_with_a_past_is_sorted_first() -> None:
    fleet = Fleet()
    fleet.rows.extend(rows_of(50))
    fleet.attempts = 3
    for number, state in enumerate((WorkerState.SUCCEEDED, WorkerState.FAILED, WorkerState.RUNNING)):
        enter(fleet.rows[number], state, float(number))
    view = View(fleet)
    view.follow()
    assert [row.name for row in view.order()[:3]] == ["w2", "w1", "w3"]
    assert view.place(fleet.rows[1]) == 1
    assert view.over(Fleet()).sort == "queue"
