"""The lines of a view over a tree: branches, what is folded, and the order within them."""

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


def test_a_plain_batch_has_rows_only() -> None:
    """Without branches to show, the lines are the very list of the fleet."""
    fleet = Stream("a", "b").fold()
    assert View(fleet).lines() is fleet.rows


def test_branches_stand_where_they_were_started() -> None:
    """In queue order a supervisor stands among its siblings in start order."""
    view = View(tree_stream("one_for_one").fold())
    assert shown(view) == [
        *("/root", "first", "/root/a", "a/1", "a/2", "/root/a/deep", "a/deep/x", "a/3", "last"),
    ]
    assert [view.place(line) for line in view.lines()] == list(range(9))


def test_a_folded_branch_hides_what_is_below() -> None:
    """Its workers have no place then, but they still match the filter."""
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


def test_rows_are_sorted_within_their_branch() -> None:
    """Another order than the queue's moves rows within their branch only, and branches below them."""
    view = View(tree_stream("one_for_one").fold())
    view.reverse = True
    assert shown(view) == [
        *("/root", "last", "first", "/root/a", "a/3", "a/2", "a/1", "/root/a/deep", "a/deep/x"),
    ]


def test_a_filter_leaves_out_empty_branches() -> None:
    """Only branches that lead to a row that matches are shown."""
    view = View(tree_stream("one_for_one").fold())
    view.query = parse_query("deep")
    assert shown(view) == ["/root", "/root/a", "/root/a/deep", "a/deep/x"]


def test_a_filter_looks_into_folded_branches() -> None:
    """What was folded does not hide a match; it can be folded anew, and is as it was when the filter is gone."""
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


def test_workers_that_join_later_come_into_their_branch() -> None:
    """At the end, or in the middle of the tree; and a new branch is seen at once."""
    stream = tree_stream("one_for_one")
    fleet = stream.fold()
    view = View(fleet)
    view.lines()
    for group, name in (("root", "late"), ("root/a", "a/4"), ("elsewhere", "new")):
        queue(stream, group, name)
        apply(fleet, stream.events[-1:])
    assert shown(view)[-5:] == ["a/4", "last", "late", "/elsewhere", "new"]


def test_neighbours_of_a_row_are_rows() -> None:
    """Branches between two workers are passed over."""
    fleet = tree_stream("one_for_one").fold()
    view, first = View(fleet), fleet.rows[0]
    assert view.neighbour(first, 1).name == "a/1"
    assert view.neighbour(first, -1) is first


def test_a_cluster_shows_the_workers_with_its_error() -> None:
    """Kind and place must both be those of the cluster."""
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
