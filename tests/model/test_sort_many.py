"""Filtering and sorting of many rows in steps."""

from __future__ import annotations

import gc
import itertools
import math
import random
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncwatch.events import (
    AttemptFailed,
    AttemptHeld,
    AttemptStarted,
    WorkerFailed,
    WorkerRestarted,
    WorkersQueued,
    WorkerState,
    WorkerSucceeded,
    WorkerUnresponsive,
)
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.model.rows import Row
from asyncwatch.model.view import columns, marks, outline, selection
from asyncwatch.model.view import sort as orders
from asyncwatch.model.view import sort as sort_keys
from asyncwatch.model.view import sort as sorting
from asyncwatch.model.view.filter import Query, parse_query
from asyncwatch.model.view.live import live_key
from asyncwatch.model.view.selection import View
from asyncwatch.model.view.sort import SORTS, Order, Ordering, place_of, reinsert, run_all, sort
from tests.model.stream import Stream, ended, failed
from tests.rows import a_row

MODULES: tuple[ModuleType, ...] = (orders, sorting, marks, outline, selection)


@pytest.fixture(autouse=True)
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Process 8 rows a step, in fleets of any size."""
    for module in MODULES:
        monkeypatch.setattr(module, "STEP", 8)
    monkeypatch.setattr(sorting, "_SAMPLE_SHARE", 2)
    monkeypatch.setattr(sorting, "_SCATTERED", 2)
    monkeypatch.setattr(sorting, "_PER_BUCKET", 2)
    monkeypatch.setattr(sorting, "_FEW_KEYS", 3)
    monkeypatch.setattr(selection, "AT_ONCE", 0)


EVENTS_A_WORKER = 4
PLAIN_KEYS: dict[str, Callable[[Row, float], Any]] = {
    "queue": lambda row, now: row.index,
    "state": lambda row, now: list(WorkerState).index(row.state),
    "retries": lambda row, now: (row.retries, row.throttled),
    "waits": lambda row, now: row.throttled,
    "luck": lambda row, now: row.bad_luck,
    "progress": lambda row, now: row.part_done,
    "result": lambda row, now: None if row.result is None else int(row.result),
    "last": lambda row, now: row.last_duration,
    "elapsed": lambda row, now: row.elapsed(now),
    "error": lambda row, now: row.error.casefold() or None,
    "restarts": lambda row, now: row.incarnation,
    "live": lambda row, now: live_key(row),
    "name": lambda row, now: (row.name.rstrip("0123456789"), int(row.name.lstrip("abcdefghijklmnopqrstuvwxyz"))),
}
"""For each order, the value that a row is sorted by; None comes last."""
PLAIN_CONDITIONS: dict[str, Callable[[Row], bool]] = {
    "": lambda row: True,
    "W1": lambda row: "w1" in row.name or "w1" in row.error.casefold(),
    "oserror": lambda row: "oserror" in row.error.casefold(),
    "state:fail": lambda row: row.state is WorkerState.FAILED,
    "state:r": lambda row: row.state in {WorkerState.RUNNING, WorkerState.RESTARTING},
    "retries>0": lambda row: row.retries > 0,
    "retries<=1": lambda row: row.retries <= 1,
    "throttled>0": lambda row: row.throttled > 0,
    "luck>0.5": lambda row: row.bad_luck is not None and row.bad_luck > 0.5,
    "luck<0.5": lambda row: row.bad_luck is not None and row.bad_luck < 0.5,
    "error:A": lambda row: "a" in row.error.casefold(),
    "group:First": lambda row: "first" in row.group,
    "1 retries:0 luck>=0.1": lambda row: (
        ("1" in row.name or "1" in row.error) and row.retries == 0 and row.bad_luck is not None and row.bad_luck >= 0.1
    ),
}


class Crowd:
    """A fleet of a few hundred workers with random events, and a view of it."""

    def __init__(self, seed: int, workers: int = 200, *groups: str) -> None:
        self.random = random.Random(seed)
        self.names = [f"w{index}" for index in range(workers)]
        self.stream = Stream(*self.names, group="first")
        for group in groups:
            more = tuple(f"{group}{index}" for index in range(workers // 4))
            self.names += more
            self.stream.add(WorkersQueued, group=group, max_attempts=3, workers=more)
        self.fleet = self.stream.fold()
        self.view = View(self.fleet)
        for _ in range(workers):
            self.happen()

    def happen(self, name: str | None = None) -> None:
        """Emit a random event of a worker, by default of a random one."""
        row = self.fleet.get(name or self.random.choice(self.names))
        assert row is not None
        number, before = row.attempt + 1, len(self.stream.events)
        match self.random.randrange(7):
            case 0:
                self.stream.add(
                    AttemptStarted, row.name, row.incarnation, attempt=number, bad_luck=self.random.random()
                )
            case 1:
                error = failed(self.random.choice("abc"), attempt=row.attempt, elapsed=self.random.random())
                error["error_class"] = self.random.choice(["", "throttled"])
                self.stream.add(AttemptFailed, row.name, row.incarnation, **error)
            case 2:
                self.stream.add(
                    WorkerSucceeded, row.name, row.incarnation, **ended(result=self.random.choice([1, 20, None]))
                )
            case 3:
                self.stream.add(WorkerRestarted, row.name, row.incarnation + 1)
            case 4:
                self.stream.add(
                    WorkerFailed, row.name, row.incarnation, **ended(error_type="Aerror", error=f"w{number}")
                )
            case 5:
                self.stream.add(WorkerUnresponsive, row.name, row.incarnation, **ended(stack="f:1", cancels=1))
            case 6:
                self.stream.add(AttemptHeld, row.name, row.incarnation, attempt=number, key="h", reason="throttled")
        self.view.touched(apply(self.fleet, self.stream.events[before:]))

    def expected(self) -> list[Row]:
        """Return the order of a new view with the same settings."""
        fresh = View(self.fleet)
        fresh.sort, fresh.reverse, fresh.query = self.view.sort, self.view.reverse, self.view.query
        return order_of(fresh)


def order_of(view: View, between: Callable[[], object] = lambda: None) -> list[Row]:
    """Take all steps, call `between` after each, and return the order."""
    view.order()
    while view.work(lambda: True):
        between()
    return list(view.order())


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("key", [key for key, _ in SORTS])
@pytest.mark.parametrize("query", ["", "retries>0"])
def test_rows_changed_between_steps_are_placed_as_by_a_new_view(key: str, query: str, is_reversed: bool) -> None:
    crowd = Crowd(seed=len(key))
    view = crowd.view
    view.sort, view.reverse, view.query = key, is_reversed, parse_query(query)
    order_of(view, crowd.happen)
    for _ in range(5):
        crowd.happen()
        view.resort()
        order_of(view, crowd.happen)
    view.resort()
    assert order_of(view) == crowd.expected()
    assert all(view.place(row) == place for place, row in enumerate(view.order()))


@pytest.mark.parametrize("key", [key for key, _ in SORTS])
@given(st.integers(), st.sampled_from(list(PLAIN_CONDITIONS)), st.booleans(), st.booleans())
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_view_equals_sorted_and_a_comprehension(
    key: str, seed: int, query: str, is_reversed: bool, is_trouble_only: bool
) -> None:
    crowd = Crowd(seed, 60)
    view, rows, now = crowd.view, crowd.fleet.rows, crowd.fleet.latest
    view.sort, view.reverse, view.query, view.trouble_only = key, is_reversed, parse_query(query), is_trouble_only
    matching = [row for row in rows if PLAIN_CONDITIONS[query](row) and (row.is_in_trouble or not is_trouble_only)]
    values = {row: PLAIN_KEYS[key](row, now) for row in matching}
    known = [row for row in matching if values[row] is not None]
    expected = sorted(known, key=values.__getitem__, reverse=is_reversed)
    assert order_of(view) == expected + [row for row in matching if values[row] is None]


@given(st.integers(), st.integers(1, 5), st.integers(0, 40), st.booleans())
@settings(max_examples=40)
def test_columns_equal_the_properties_of_rows(seed: int, step: int, start: int, is_one_each: bool) -> None:
    crowd = Crowd(seed, 1 if is_one_each else 60, *(["more"] if not is_one_each else ()))
    if is_one_each:
        for name in map("x{}".format, range(40)):
            crowd.stream.add(WorkersQueued, group="first", max_attempts=3, workers=(name,))
            crowd.names.append(name)
        crowd.stream.fold(crowd.fleet)
    for _ in range(EVENTS_A_WORKER * len(crowd.names)):
        crowd.happen()
    rows, now = crowd.fleet.rows[start::step], crowd.fleet.latest

    def unknown_for_none(values: Iterable[float | None]) -> list[float]:
        return [-1.0 if value is None or math.isnan(value) else value for value in values]

    assert columns.retries(rows) == [row.retries for row in rows]
    assert columns.throttled(rows) == [row.throttled for row in rows]
    assert columns.retry_rank(rows) == [row.retry_rank for row in rows]
    assert unknown_for_none(columns.bad_luck(rows)) == unknown_for_none(row.bad_luck for row in rows)
    assert columns.elapsed(rows, now, -1.0) == unknown_for_none(row.elapsed(now) for row in rows)
    assert columns.last_duration(rows, -1.0) == unknown_for_none(row.last_duration for row in rows)
    assert columns.error(rows) == [row.error for row in rows]
    assert columns.is_in_trouble(rows) == [row.is_in_trouble for row in rows]
    assert columns.unended(rows) == [row for row in rows if row.ended_at is None]
    for key, _ in SORTS:
        for is_reversed in (False, True):
            by = sort_keys.ordering(key, is_reversed=is_reversed, now=now)
            assert by.keys(rows) == [by.key(row) for row in rows]


def test_lines_stay_until_the_last_step() -> None:
    crowd = Crowd(1)
    view = crowd.view
    assert view.lines() is crowd.fleet.rows
    view.sort = "luck"
    before = view.lines()
    assert (view.is_busy, view.is_behind) == (True, True)
    steps = 1
    while view.work(lambda: True):
        assert view.lines() is before
        steps += 1
    assert steps > len(crowd.names) // (2 * 8)
    assert view.lines() is not before
    assert (view.is_busy, view.is_behind) == (False, False)


@pytest.mark.parametrize("begun", ["", "retries>0"])
def test_new_order_or_filter_replaces_one_in_progress(begun: str) -> None:
    crowd, asked = Crowd(7), list[Row]()

    def is_asked(rows: Sequence[Row]) -> list[bool]:
        asked.extend(rows)
        return [True] * len(rows)

    view = crowd.view
    view.sort, view.query = "luck", Query(begun, (is_asked,) if begun else ())
    before = view.order()
    for _ in range(len(crowd.names) // 8 + 5):
        view.work(lambda: True)
    assert asked or not begun
    asked.clear()
    view.query, view.sort = parse_query("w1"), "name"
    assert view.order() is before
    assert view.is_filtering
    assert order_of(view) == crowd.expected()
    assert not asked
    view.sort = "state"
    view.order()
    assert (view.is_behind, view.is_filtering) == (True, False)


def test_column_of_trouble_equals_the_property_in_any_state() -> None:
    rows = [
        a_row("w", state=state, attempt=attempt, is_between_polls=is_between_polls, failed_polls=failed_polls)
        for state in WorkerState
        for attempt in range(3)
        for is_between_polls in (False, True)
        for failed_polls in range(2)
    ]
    assert columns.is_in_trouble(rows) == [row.is_in_trouble for row in rows]


def test_resort_filters_only_changed_rows() -> None:
    crowd, asked = Crowd(2), list[str]()

    def is_asked(rows: Sequence[Row]) -> list[bool]:
        asked.extend(row.name for row in rows)
        return [row.retries == 0 for row in rows]

    crowd.view.query = Query("counted", (is_asked,))
    order_of(crowd.view)
    assert sorted(asked) == sorted(crowd.names)
    asked.clear()
    for name in ("w3", "w5", "w3"):
        crowd.happen(name)
    assert not crowd.view.resort()
    order_of(crowd.view)
    assert set(asked) <= {"w3", "w5"}
    assert len(asked) <= 2


def count_keys(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Return the rows whose keys views ask for from now on."""
    asked: list[Row] = []

    def counted(key: str, *, is_reversed: bool, now: float) -> Ordering:
        by = sort_keys.ordering(key, is_reversed=is_reversed, now=now)

        def count(row: Row) -> object:
            asked.append(row)
            return by.key(row)

        return Ordering(count, is_reversed)

    monkeypatch.setattr(selection, "ordering", counted)
    return asked


def change(crowd: Crowd, name: str) -> None:
    """Change the row of a worker."""
    row = crowd.fleet.get(name)
    assert row is not None
    version = row.version
    while row.version == version:
        crowd.happen(name)


def test_resort_of_one_row_among_1000_takes_about_ten_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd(3, workers=1000)
    crowd.view.sort = "luck"
    order_of(crowd.view)
    asked = count_keys(monkeypatch)
    change(crowd, "w500")
    crowd.view.resort()
    order_of(crowd.view)
    assert 0 < len(asked) <= 14


def test_filter_of_sorted_rows_asks_for_keys_near_changed_rows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd(3, workers=1000)
    view = crowd.view
    view.sort = "luck"
    order_of(view)
    asked = count_keys(monkeypatch)
    for query in ("w", "retries:0", ""):
        change(crowd, "w500")
        view.query = parse_query(query)
        order_of(view)
        assert 0 < len(asked) <= 14
        asked.clear()


def test_filter_places_workers_queued_since_the_sort() -> None:
    crowd = Crowd(5)
    crowd.view.sort = "name"
    order_of(crowd.view)
    crowd.stream.add(WorkersQueued, group="first", max_attempts=3, workers=("w1a",))
    crowd.stream.fold(crowd.fleet)
    assert order_of(crowd.view)[-1].name == "w1a"
    crowd.view.query = parse_query("w1")
    assert order_of(crowd.view) == crowd.expected()


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("key", [key for key, _ in SORTS])
@given(
    seed=st.integers(),
    filters=st.lists(st.tuples(st.sampled_from(list(PLAIN_CONDITIONS)), st.integers(0, 60)), max_size=8),
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_filters_of_sorted_rows_show_them_as_a_new_view(
    key: str, *, is_reversed: bool, seed: int, filters: list[tuple[str, int]]
) -> None:
    """Filters replace each other before and after the last step, while rows change and others are added."""
    crowd = Crowd(seed, 40)
    view = crowd.view
    view.sort, view.reverse = key, is_reversed
    order_of(view)
    for query, steps in filters:
        view.query = parse_query(query)
        view.order()
        for _ in range(steps):
            crowd.happen()
            view.work(lambda: True)
        if not steps % 5:
            crowd.names.append(f"w{len(crowd.names)}")
            crowd.stream.add(WorkersQueued, group="first", max_attempts=3, workers=(crowd.names[-1],))
            crowd.stream.fold(crowd.fleet)
            view.order()
        else:
            view.resort()
    order_of(view)
    view.resort()
    assert order_of(view) == crowd.expected()


def test_resort_in_queue_order_has_nothing_to_do() -> None:
    crowd = Crowd(4)
    crowd.view.order()
    crowd.happen()
    assert not crowd.view.resort()
    assert not crowd.view.is_busy


@pytest.mark.parametrize("key", ["queue", "luck"])
def test_branches_are_outlined_in_steps_and_folding_sorts_nothing(key: str) -> None:
    crowd = Crowd(5, 100, "second", "third")
    view = crowd.view
    view.sort = key
    rows = order_of(view)
    groups = [row.group for row in rows]
    assert groups == sorted(groups)
    assert len(view.lines()) == len(rows) + 3
    view.fold(crowd.fleet.tree.branches["first"], is_folded=True)
    assert len(view.lines()) == len(rows) + 3
    order_of(view)
    assert len(view.lines()) == len(rows) + 3 - 100
    assert [view.place(line) for line in view.lines()] == list(range(len(view.lines())))


def test_workers_queued_between_steps_come_last_until_resort() -> None:
    crowd = Crowd(6)
    crowd.view.sort = "name"
    crowd.view.reverse = True
    crowd.view.order()
    crowd.stream.add(WorkersQueued, group="first", max_attempts=3, workers=("zz",))
    crowd.view.work(lambda: True)
    apply(crowd.fleet, crowd.stream.events[-1:])
    assert order_of(crowd.view)[-1].name == "zz"
    crowd.view.resort()
    assert order_of(crowd.view)[0].name == "zz"


def test_sort_keeps_rows_and_keys_except_a_sample_from_the_garbage_collector() -> None:
    # The collector visits every item of a young list. Only the sample of keys is in one.
    rows = [a_row(f"w{index * 7 % 400}", index, bad_luck=index * 3 % 400 / 400) for index in range(400)]
    most = 0
    gc.collect()
    gc.freeze()
    for key in ("name", "luck", "queue"):
        for _ in sort(Order(rows, range(len(rows))), sort_keys.ordering(key, is_reversed=True, now=0.0)):
            most = max(most, sum(len(each) for each in gc.get_objects() if isinstance(each, (list, tuple, dict))))
    gc.unfreeze()
    sample = len(rows) // 2
    assert sample < most < sample + len(rows) // 2


def test_order_finds_rows_by_place_slice_and_identity() -> None:
    # The bytes of two adjacent indexes can contain those of a third.
    rows = [a_row(f"w{index}", index) for index in range(600)]
    order = Order(rows, [256, 1, 0, 599, 512])
    assert order[1] is rows[1]
    assert order[-2:] == [rows[599], rows[512]]
    assert list(order) == [rows[256], rows[1], rows[0], rows[599], rows[512]]
    assert [order.index(row) for row in order] == [0, 1, 2, 3, 4]
    for absent in (rows[2], rows[511]):
        with pytest.raises(ValueError, match="is not there"):
            order.index(absent)
    with pytest.raises(ValueError, match="is not there"):
        order.index(rows[256], 1)


@pytest.mark.parametrize("is_reversed", [False, True])
def test_sort_keys_in_a_pattern_make_no_large_bucket(*, is_reversed: bool) -> None:
    sort_bucket = sorting._Bucket.sorted
    for period in (2, 4, 8, 16):
        rows = [a_row(f"w{index}", index) for index in range(4096)]
        by = Ordering(lambda row, period=period: (row.index % period, row.index * 7 % 4096), is_reversed)  # type: ignore[misc]  # bound now
        sizes = list[int]()

        def counted(bucket: sorting._Bucket, sizes: list[int] = sizes) -> list[int]:
            sizes.append(len(bucket.indexes))
            return sort_bucket(bucket)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sorting._Bucket, "sorted", counted)
            order = run_all(sort(Order(rows, range(4096)), by))
        assert list(order) == sorted(rows, key=by.key, reverse=is_reversed)
        assert max(sizes) <= 6 * 8


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5, 0.9]), max_size=80), st.booleans())
def test_sort_equals_sorted_with_many_equal_keys(lucks: list[float], is_reversed: bool) -> None:
    rows = [a_row(f"w{index}", index, bad_luck=luck) for index, luck in enumerate(lucks)]
    by = Ordering(lambda row: row.bad_luck, is_reversed)
    order = run_all(sort(Order(rows, range(len(rows))), by))
    assert list(order) == sorted(rows, key=lambda row: row.bad_luck or 0.0, reverse=is_reversed)
    assert [place_of(order, row, by, ()) for row in order] == list(range(len(order)))


@pytest.mark.parametrize("is_reversed", [False, True])
def test_sort_by_few_keys_compares_no_keys_of_rows(*, is_reversed: bool) -> None:
    compared = 0

    class Key(int):
        def __lt__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return isinstance(other, int) and int(self) < int(other)

    rows = [a_row(f"w{index}", index) for index in range(400)]
    # The last row's key is in no sample: it has to be found all the same.
    by = Ordering(lambda row: Key(7 if row.index == 399 else row.index % 3), is_reversed)
    order = run_all(sort(Order(rows, range(400)), by))
    assert compared < 20
    assert list(order) == sorted(rows, key=by.key, reverse=is_reversed)


def test_sort_empty_fleet_is_empty() -> None:
    view = View(Fleet())
    view.sort = "name"
    assert order_of(view) == []


def test_reinsert_places_rows_by_their_keys_of_one_moment() -> None:
    rows = [a_row(f"w{index}", index) for index in range(9)]
    values = {row: float(row.index) for row in rows}
    order, busy = Order(rows, range(9)), rows[0]
    values[busy] = 5.5
    moved = Order(rows, [0])
    steps = reinsert(order, moved, moved, Ordering(values.__getitem__, is_reversed=False), {busy})
    assert list(run_all(steps)) == [*rows[1:6], busy, *rows[6:]]


class Counted(set[Row]):
    """Set of rows that counts membership tests."""

    asked = 0

    def __contains__(self, row: object) -> bool:
        self.asked += 1
        return super().__contains__(row)


@pytest.mark.parametrize("is_reversed", [False, True])
def test_reinsert_passes_stale_neighbours_a_few_times_only(*, is_reversed: bool) -> None:
    rows = [a_row(f"w{index}", index) for index in range(4000)]
    order, moved, stale = Order(rows, range(4000)), Order(rows, range(400)), Counted(rows[400:1600])
    by = Ordering(lambda row: row.retries, is_reversed)
    asked, before, done = list[int](), 0, object()
    job = reinsert(order, moved, moved, by, stale)
    changing = iter(rows[1600:2800])
    while next(job, done) is not done:
        asked.append(stale.asked - before)
        before = stale.asked
        stale.update(itertools.islice(changing, 2))
    searches = len(moved) * len(rows).bit_length()
    assert searches < sum(asked) < 3 * searches + 2 * len(stale)
    assert max(asked) <= 4 * 8


def test_reinsert_of_all_rows_places_at_most_8_in_a_step() -> None:
    rows = [a_row(f"w{index}", index) for index in range(800)]
    by = Ordering(lambda row: row.index, is_reversed=False)
    order = Order(rows, range(len(rows)))
    steps_to_sort = sum(1 for _ in sort(order, by))
    steps = sum(1 for _ in reinsert(order, order, order, by, ()))
    steps_to_look = 3 * len(rows) // 8
    assert steps >= steps_to_look + steps_to_sort + len(rows) // 8 - 1
