"""The lines of a view of a tree: branches, folds, and the order within a branch."""

from __future__ import annotations

from asyncwatch.events import AttemptFailed, AttemptStarted
from asyncwatch.model.reducer import apply
from asyncwatch.model.rows import Row
from asyncwatch.model.view.filter import parse_query
from asyncwatch.model.view.selection import View
from tests.model.stream import Stream, failed
from tests.model.test_tree import queue, tree_stream


def shown(view: View) -> list[str]:
    """Return the lines: names of workers, paths of branches with a slash in front."""
    return [line.name if isinstance(line, Row) else f"/{line.path}" for line in view.lines()]


def test_lines_of_a_plain_batch_are_the_rows_of_the_fleet() -> None:
    fleet = Stream("a", "b").fold()
    assert View(fleet).lines() is fleet.rows


def test_branches_in_queue_order_are_among_their_siblings() -> None:
    view = View(tree_stream("one_for_one").fold())
    assert shown(view) == [
        *("/root", "first", "/root/a", "a/1", "a/2", "/root/a/deep", "a/deep/x", "a/3", "last"),
    ]
    assert [view.place(line) for line in view.lines()] == list(range(9))


def test_branch_folded_hides_the_lines_below() -> None:
    fleet = tree_stream("one_for_one").fold()
    view = View(fleet)
    view.fold(fleet.tree.branches["root/a"], is_folded=True)
    assert shown(view) == ["/root", "first", "/root/a", "last"]
    assert len(view.order()) == 6
    assert view.position("a/1") is None
    view.mark_all_visible()
    assert set(view.marks) == {"first", "last"}
    view.fold(fleet.tree.branches["root/a"], is_folded=False)
    assert len(shown(view)) == 9


def test_rows_are_sorted_within_their_branch_above_its_branches() -> None:
    view = View(tree_stream("one_for_one").fold())
    view.reverse = True
    assert shown(view) == [
        *("/root", "last", "first", "/root/a", "a/3", "a/2", "a/1", "/root/a/deep", "a/deep/x"),
    ]


def test_filter_hides_branches_without_a_match() -> None:
    view = View(tree_stream("one_for_one").fold())
    view.query = parse_query("deep")
    assert shown(view) == ["/root", "/root/a", "/root/a/deep", "a/deep/x"]


def test_filter_unfolds_branches_until_it_is_cleared() -> None:
    fleet = tree_stream("one_for_one").fold()
    view, inner = View(fleet), fleet.tree.branches["root/a"]
    view.fold(fleet.tree.branches["root"], is_folded=True)
    assert shown(view) == ["/root"]
    view.query = parse_query("deep")
    assert shown(view) == ["/root", "/root/a", "/root/a/deep", "a/deep/x"]
    view.fold(inner, is_folded=True)
    assert shown(view) == ["/root", "/root/a"]
    view.query = parse_query("a/")
    assert "a/deep/x" in shown(view)
    view.query = parse_query("")
    assert shown(view) == ["/root"]


def test_workers_queued_later_are_listed_in_their_branch() -> None:
    stream = tree_stream("one_for_one")
    fleet = stream.fold()
    view = View(fleet)
    view.lines()
    for group, name in (("root", "late"), ("root/a", "a/4"), ("elsewhere", "new")):
        queue(stream, group, name)
        apply(fleet, stream.events[-1:])
    assert shown(view)[-5:] == ["a/4", "last", "late", "/elsewhere", "new"]


def test_neighbour_skips_branches() -> None:
    fleet = tree_stream("one_for_one").fold()
    view, first = View(fleet), fleet.rows[0]
    assert view.neighbour(first, 1).name == "a/1"
    assert view.neighbour(first, -1) is first


def test_filter_of_cluster_shows_workers_of_its_kind_and_place() -> None:
    stream = Stream("a", "b", "c")
    for name, error in (("a", "row 1"), ("b", "row 2"), ("c", "column")):
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.1)
        stream.add(AttemptFailed, name, **failed(error, stack='  File "x.py", line 3, in f\n'))
    view = View(stream.fold())
    view.cluster = ("OSError: row …", "x.py:3 f")
    assert shown(view) == ["a", "b"]
    assert view.is_filtered
    view.cluster = ("OSError: row …", "y.py:3 f")
    assert shown(view) == []
