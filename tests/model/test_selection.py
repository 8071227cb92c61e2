"""Order, filter and marks of a view."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.events import AttemptFailed, AttemptStarted, RetryScheduled, WorkersQueued, WorkerState, WorkerSucceeded
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.model.view.filter import parse_query
from asyncwatch.model.view.selection import AT_ONCE, View
from asyncwatch.model.view.sort import SORTS, Order, natural, naturals, ordering, run_all, sort
from tests.model.stream import Stream, ended, failed
from tests.rows import a_row


def names(view: View) -> list[str]:
    """Return the names of the visible rows from top to bottom."""
    return [row.name for row in view.order()]


@pytest.fixture
def stream() -> Stream:
    """Four workers: w10 succeeded, w2 backs off, w1 runs, w3 is queued."""
    stream = Stream("w10", "w2", "w1", "w3")
    stream.add(AttemptStarted, "w10", attempt=1, bad_luck=0.2)
    stream.add(WorkerSucceeded, "w10", **ended(result=200))
    stream.add(AttemptStarted, "w2", attempt=1, bad_luck=0.95)
    stream.add(AttemptFailed, "w2", **failed(elapsed=0.5))
    stream.add(RetryScheduled, "w2", attempt=2, delay=1.0)
    stream.add(AttemptStarted, "w1", attempt=1, bad_luck=0.5)
    return stream


def test_order_without_filter_and_sort_is_the_list_of_the_fleet(stream: Stream) -> None:
    fleet = stream.fold()
    view = View(fleet)
    assert view.order() is fleet.rows
    assert view.position("w1") == 2
    assert view.position("nobody") is None
    assert not view.resort()


@pytest.mark.parametrize(
    ("key", "up", "down"),
    [
        ("queue", ["w10", "w2", "w1", "w3"], ["w3", "w1", "w2", "w10"]),
        ("name", ["w1", "w2", "w3", "w10"], ["w10", "w3", "w2", "w1"]),
        ("state", ["w3", "w1", "w2", "w10"], ["w10", "w2", "w1", "w3"]),
        ("retries", ["w10", "w2", "w1", "w3"], ["w10", "w2", "w1", "w3"]),
        ("luck", ["w10", "w1", "w2", "w3"], ["w2", "w1", "w10", "w3"]),
        ("result", ["w10", "w2", "w1", "w3"], ["w10", "w2", "w1", "w3"]),
        ("last", ["w10", "w2", "w1", "w3"], ["w2", "w10", "w1", "w3"]),
        ("elapsed", ["w1", "w10", "w2", "w3"], ["w2", "w10", "w1", "w3"]),
        ("error", ["w2", "w10", "w1", "w3"], ["w2", "w10", "w1", "w3"]),
    ],
)
def test_sort_rows_without_value_come_last_in_both_directions(
    stream: Stream, key: str, up: list[str], down: list[str]
) -> None:
    view = View(stream.fold())
    view.sort = key
    assert names(view) == up
    view.reverse = True
    assert names(view) == down


def test_sorts_are_the_orders_of_the_dashboard() -> None:
    assert [key for key, _ in SORTS] == [
        "queue",
        "state",
        "retries",
        "waits",
        "luck",
        "progress",
        "result",
        "last",
        "elapsed",
        "error",
        "restarts",
        "name",
        "live",
    ]


def test_sort_unknown_order_raises(stream: Stream) -> None:
    view = View(stream.fold())
    with pytest.raises(ValueError, match="no order 'size'"):
        view.sort = "size"
    with pytest.raises(ValueError, match="no order 'size'"):
        ordering("size", is_reversed=False, now=0.0)


def test_rows_changed_stay_in_place_until_resort(stream: Stream) -> None:
    fleet = stream.fold()
    view = View(fleet)
    view.sort = "state"
    view.query = parse_query("w")
    before = names(view)
    stream.add(AttemptStarted, "w3", attempt=1, bad_luck=0.1)
    stream.add(WorkerSucceeded, "w3", **ended(result=1))
    view.touched(apply(fleet, stream.events))
    assert names(view) == before == ["w3", "w1", "w2", "w10"]
    assert view.resort()
    assert names(view) == ["w1", "w2", "w10", "w3"]
    assert not view.resort()


def test_view_filter_and_trouble_only_hide_rows(stream: Stream) -> None:
    view = View(stream.fold())
    view.query = parse_query("w1")
    assert names(view) == ["w10", "w1"]
    assert view.position("w1") == 1
    assert view.position("w2") is None
    view.query = parse_query("")
    view.trouble_only = True
    assert names(view) == ["w2"]
    assert view.is_filtered


def test_workers_queued_later_come_last_until_resort(stream: Stream) -> None:
    fleet = stream.fold()
    view = View(fleet)
    view.sort = "name"
    view.query = parse_query("w1")
    assert names(view) == ["w1", "w10"]
    stream.add(WorkersQueued, group="", max_attempts=3, workers=("w11", "x", "w0-w1"))
    apply(fleet, stream.events)
    assert names(view) == ["w1", "w10", "w11", "w0-w1"]
    assert view.position("w11") == 2
    view.resort()
    assert names(view) == ["w0-w1", "w1", "w10", "w11"]


def test_resort_by_elapsed_time_needs_no_touched_row(stream: Stream) -> None:
    view = View(stream.fold())
    view.sort = "elapsed"
    assert names(view)
    assert view.resort()


def test_marks_of_hidden_workers_stay(stream: Stream) -> None:
    view = View(stream.fold())
    assert view.marks.toggle_worker("w3")
    view.query = parse_query("w1")
    view.mark_all_visible()
    assert [row.name for row in view.marks.rows()] == ["w10", "w1", "w3"]
    assert not view.marks.toggle_worker("w10")
    assert set(view.marks) == {"w1", "w3"}
    view.marks.clear()
    assert view.marks.rows() == []


def test_natural_sorts_numbers_by_value_and_ignores_case() -> None:
    ordered = ["", "2", "10", "010x", f"{'9' * 5000}", "a", "A1b", "a1c", "a2", "a10", "b"]
    shuffled = random.Random(3).sample(ordered, len(ordered))
    assert sorted(shuffled, key=natural) == ordered


@given(st.lists(st.text(alphabet="ab019é²٣ "), max_size=20))
def test_natural_keys_of_any_names_can_be_compared(texts: list[str]) -> None:
    assert len(sorted(texts, key=natural)) == len(texts)


@given(
    st.sampled_from(["", "w", "A-", "7b", "é²"]), st.lists(st.from_regex("[0-9٣ab]{0,4}", fullmatch=True), max_size=9)
)
def test_naturals_equal_natural_of_each_text(start: str, ends: list[str]) -> None:
    texts = [start + end for end in [*ends, "9" * 40][: len(ends) + len(start) % 2]]
    assert naturals(texts) == list(map(natural, texts))


@given(
    st.lists(st.tuples(st.sampled_from(list(WorkerState)), st.sampled_from([None, 0.1, 0.5])), max_size=20),
    st.sampled_from([key for key, _ in SORTS]),
    st.booleans(),
)
def test_sort_by_any_order_keeps_every_row_once(
    values: list[tuple[WorkerState, float | None]], key: str, reverse: bool
) -> None:
    rows = [a_row(f"w{index}", index, state=state, bad_luck=luck) for index, (state, luck) in enumerate(values)]
    ordered = run_all(sort(Order(rows, range(len(rows))), ordering(key, is_reversed=reverse, now=1.0)))
    assert sorted(row.index for row in ordered) == list(range(len(rows)))
    if key == "luck":
        without = [row for row in rows if row.bad_luck is None]
        assert ordered[len(rows) - len(without) :] == without


def test_view_of_empty_fleet_shows_and_marks_nothing() -> None:
    view = View(Fleet())
    view.sort = "name"
    view.mark_all_visible()
    assert not view.order()
    assert not view.marks


def test_mark_all_many_rows_takes_steps_only_if_some_are_hidden() -> None:
    fleet = Fleet()
    everybody = tuple(f"w{number}" for number in range(3 * AT_ONCE))
    apply(fleet, [WorkersQueued(seq=0, at=0.0, group="", max_attempts=1, workers=everybody)])
    view = View(fleet)
    view.mark_all_visible()
    assert not view.is_busy
    assert set(view.marks) == set(everybody)
    view.marks.clear()
    view.query = parse_query("w1")
    view.lines()
    view.work(lambda: False)
    view.mark_all_visible()
    assert view.is_busy
    assert not view.is_behind
    view.work(lambda: True)
    assert 0 < len(view.marks) < len(view.lines())
    assert view.marks.toggle_worker("w0")
    assert {row.name for row in view.marks.rows()} == {"w0", *(name for name in everybody if "w1" in name)}
    assert not view.is_busy
    assert not view.marks.toggle_worker("w0")
    assert not view.marks.toggle_worker("nobody")


def test_toggle_spans_marks_them_unless_all_are_marked() -> None:
    fleet = Stream("a", "b", "c").fold()
    view = View(fleet)
    view.marks.toggle_worker("b")
    view.marks.toggle([slice(0, 2)])
    assert list(view.marks) == ["a", "b"]
    view.marks.toggle([slice(0, 1), slice(1, 2)])
    assert not view.marks
    view.mark_all_visible()
    apply(fleet, [WorkersQueued(seq=9, at=0.0, group="", max_attempts=1, workers=("d",))])
    assert "d" not in view.marks
    assert [row.name for row in view.marks.rows()] == ["a", "b", "c"]


def test_view_over_another_fleet_keeps_filter_order_and_folds(stream: Stream) -> None:
    view = View(stream.fold())
    view.query, view.trouble_only, view.cluster = parse_query("w"), True, ("kind", "place")
    view.sort, view.reverse = "state", True
    view.marks.toggle_worker("w1")
    (path,) = view.fleet.tree.branches
    view.fold(view.fleet.tree.branches[path], is_folded=True)
    other = view.over(stream.fold())
    assert (other.query.text, other.trouble_only, other.cluster) == ("w", True, ("kind", "place"))
    assert (other.sort, other.reverse) == ("state", True)
    assert other.is_folded(other.fleet.tree.branches[path])
    assert not other.marks


def test_matches_are_of_the_present_and_without_the_kept_row(stream: Stream) -> None:
    fleet = stream.fold()
    view = View(fleet)
    view.query = parse_query("state:running")
    assert names(view) == ["w1"]
    view.keep(fleet.get("w1"))
    stream.add(WorkerSucceeded, "w1", **ended(result=200))
    stream.add(AttemptStarted, "w3", attempt=1, bad_luck=0.5)
    apply(fleet, stream.events[-2:])
    assert names(view) == ["w1"]
    assert view.matches() == [fleet.get("w3")]


def test_matches_of_many_are_unknown_until_they_are_found() -> None:
    stream = Stream(*(f"w{number}" for number in range(AT_ONCE + 1)))
    fleet = stream.fold()
    view = View(fleet)
    view.query = parse_query("w5")
    assert view.matches() is None
    while view.work(lambda: False):
        pass
    assert view.matches() == [row for row in fleet.rows if row.name.startswith("w5")]


def test_matches_of_many_leave_out_the_kept_row() -> None:
    stream = Stream(*(f"w{number}" for number in range(AT_ONCE + 1)))
    fleet = stream.fold()
    view = View(fleet)
    view.query = parse_query("state:queued")
    view.order()
    while view.work(lambda: False):
        pass
    view.keep(fleet.get("w51"))
    stream.add(AttemptStarted, "w51", attempt=1, bad_luck=0.5)
    apply(fleet, stream.events[-1:])
    assert view.matches() == [row for row in fleet.rows if row.name != "w51"]
