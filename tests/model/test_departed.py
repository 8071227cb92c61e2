"""Removed children: their rows and branches are given up to new workers, and all totals stay."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from msgspec import structs

from asyncwatch.cli.session import exit_status
from asyncwatch.engine.registry import REMEMBERED
from asyncwatch.events import (
    AttemptFailed,
    AttemptStarted,
    CancelRequested,
    ChildRemoved,
    LoopBlocked,
    PollFailed,
    RestartCounted,
    RestartLimitReached,
    RestartScheduled,
    RunFinished,
    RunStarted,
    SupervisorStarted,
    SupervisorTerminated,
    WorkerCancelled,
    WorkerFailed,
    WorkerRestarted,
    WorkersQueued,
    WorkerState,
    WorkerSucceeded,
)
from asyncwatch.model import history as departed
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.model.rows import Row
from asyncwatch.model.summary import summarize
from asyncwatch.model.view.selection import View
from tests.model.stream import Stream, ended, failed

KEPT = 5
RESTARTS: dict[str, Any] = {"restarts": 1, "max_restarts": 1, "within": 5.0}


def pool() -> Stream:
    """Return the events of a run of one pool without children."""
    stream = Stream(group="root")
    for path, strategy in (("root", "one_for_one"), ("root/p", "simple_one_for_one")):
        above = path.rpartition("/")[0]
        limits: dict[str, Any] = {"max_restarts": 1, "within": 5.0, "auto_shutdown": "never"}
        stream.add(SupervisorStarted, name=path, parent=above, strategy=strategy, incarnation=1, **limits)
    return stream


def start(stream: Stream, key: str) -> None:
    """Start a child."""
    stream.add(WorkersQueued, group="root/p", max_attempts=1, workers=(f"p/{key}",))
    stream.add(AttemptStarted, f"p/{key}", attempt=1, bad_luck=0.5)


def leave(stream: Stream, key: str, how: str = "succeeds", incarnation: int = 1) -> None:
    """End a child, and forget it."""
    name = f"p/{key}"
    if how == "succeeds":
        stream.add(WorkerSucceeded, name, incarnation, **ended(result=1))
    elif how == "fails":
        stream.add(AttemptFailed, name, incarnation, **failed())
        stream.add(WorkerFailed, name, incarnation, error_type="OSError", error="boom", **ended())
    else:
        stream.add(CancelRequested, name, incarnation, reason=how)
        stream.add(WorkerCancelled, name, incarnation, reason=how, **ended(result=None))
    stream.add(ChildRemoved, supervisor="root/p", child=key)


def small_fleet() -> Fleet:
    """Return a Fleet that keeps few rows of children that have left."""
    return Fleet(departed_kept=KEPT, troubled_departed_kept=KEPT)


@pytest.mark.parametrize("ways", [["succeeds"], ["fails"], ["succeeds", "supervisor"], ["succeeds", "person", "fails"]])
def test_totals_include_children_whose_rows_were_replaced(ways: list[str]) -> None:
    stream = pool()
    start(stream, "stays")
    for number in range(60):
        start(stream, str(number))
        leave(stream, str(number), ways[number % len(ways)])
    leave(stream, "stays")
    stream.add(RunFinished, states={}, attempts=61, elapsed=stream.now, interrupted=False)
    whole = stream.fold()
    fleet = stream.fold(small_fleet())
    assert len(whole.rows) == 61
    assert len(fleet.rows) <= 1 + 2 * (KEPT + 1)
    assert fleet.get("p/stays") is fleet.rows[0]
    assert [row.index for row in fleet.rows] == list(range(len(fleet.rows)))
    assert fleet.workers == whole.workers == 61
    assert (fleet.counts, fleet.is_settled, exit_status(fleet)) == (whole.counts, True, exit_status(whole))
    assert +Counter(fleet.tree.branches["root/p"].counts) == +Counter(whole.tree.branches["root/p"].counts)
    assert fleet.services()[:2] == whole.services()[:2]
    summary, expected = summarize(fleet), summarize(whole)
    assert [(error.kind, error.workers, error.example_place) for error in summary.errors] == [
        (error.kind, error.workers, error.example_place) for error in expected.errors
    ]
    assert (summary.workers, summary.counts, summary.attempts) == (expected.workers, expected.counts, expected.attempts)
    view = View(fleet)
    view.lines()
    if ways == ["succeeds"]:
        assert view.left["root/p"] == 61


def test_batch_that_forgets_keeps_the_latest_rows_and_all_totals() -> None:
    whole, fleet, stream = Fleet(), Fleet(troubled_departed_kept=KEPT), Stream()
    stream.events.clear()
    facts: dict[str, Any] = {"run": "r", "workers": 0, "runner": "amap", "seed": 1, "concurrency": 1, "timeout": None}
    stream.add(RunStarted, rows_kept=KEPT, reads_items=True, started_at=0.0, **facts)
    stream.add(WorkersQueued, group="", max_attempts=3, workers=("slow",))
    stream.add(AttemptStarted, "slow", attempt=1, bad_luck=0.5)
    for number in range(40):
        name = f"w{number}"
        stream.add(WorkersQueued, group="", max_attempts=3, workers=(name,))
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.5)
        if number % 4:
            stream.add(WorkerSucceeded, name, **ended(result=1))
        else:
            stream.add(AttemptFailed, name, **failed())
            stream.add(WorkerFailed, name, error_type="OSError", error="boom", **ended())
    stream.add(WorkerRestarted, "w39", 2)
    stream.add(WorkersQueued, group="", max_attempts=3, workers=("last",))
    apply(fleet, stream.events)
    apply(whole, [structs.replace(stream.events[0], rows_kept=None), *stream.events[1:]])
    assert len(whole.rows) == 42
    assert len(fleet.rows) <= 2 * (KEPT + 1) + 3
    assert (fleet.workers, fleet.settled, fleet.counts) == (whole.workers, whole.settled, whole.counts)
    assert all(fleet.get(name) is not None for name in ("slow", "w38", "w39", "last"))
    assert fleet.get("w1") is None
    assert [error.workers for error in summarize(fleet).errors] == [10]


def kept_items(fleet: Fleet) -> int:
    """Return how many items are kept by the name or path of a worker, or in a list of all workers."""
    folded = (fleet, fleet.tree, fleet.restarts, fleet.polls, fleet.loop, fleet.departed)
    parts = map(vars, folded)
    items = sum(len(value) for part in parts for value in part.values() if isinstance(value, (dict, set, list)))
    return items + len(fleet.attempt_history)


def test_child_whose_row_was_replaced_leaves_nothing() -> None:
    stream = pool()
    fleet = small_fleet()
    sizes = []
    for number in range(100):
        start(stream, str(number))
        stream.add(RestartCounted, supervisor=f"root/p/{number}", child=str(number), **RESTARTS)
        stream.add(RestartScheduled, f"p/{number}", delay=0.0, cause="OSError")
        stream.add(WorkerRestarted, f"p/{number}", 2)
        stream.add(LoopBlocked, f"p/{number}", 2, began=stream.now, duration=0.1, cause="worker", attempt=1)
        stream.add(AttemptStarted, f"p/{number}", 2, attempt=1, bad_luck=0.5)
        polled: dict[str, Any] = {"error_type": "OSError", "error": "", "elapsed": 0.1, "delay": 1.0, "failures": 1}
        stream.add(PollFailed, f"p/{number}", 2, **polled)
        if number % 2:
            stream.add(RestartLimitReached, supervisor=f"root/p/{number}", restarts=2, within=5.0)
        leave(stream, str(number), "fails" if number % 2 else "person", incarnation=2)
        sizes.append(kept_items(stream.fold(fleet)))
    assert max(sizes) <= max(sizes[: 8 * KEPT])
    assert (fleet.restarts.total, fleet.polls.failed) == (100, 100)


def supervise(stream: Stream, path: str, strategy: str = "one_for_one", incarnation: int = 1) -> None:
    """Start a supervisor."""
    above = path.rpartition("/")[0]
    limits: dict[str, Any] = {"max_restarts": 1, "within": 5.0, "auto_shutdown": "never"}
    stream.add(SupervisorStarted, name=path, parent=above, strategy=strategy, incarnation=incarnation, **limits)


def queue(stream: Stream, group: str, key: str, incarnation: int = 1) -> str:
    """Queue and start a child of a supervisor; return its name."""
    name = f"{group}/{key}".partition("/")[2]
    if incarnation == 1:
        stream.add(WorkersQueued, group=group, max_attempts=1, workers=(name,))
    else:
        stream.add(WorkerRestarted, name, incarnation)
    stream.add(AttemptStarted, name, incarnation, attempt=1, bad_luck=0.5)
    return name


def fail(stream: Stream, name: str, incarnation: int = 1) -> None:
    """Let a worker fail."""
    stream.add(AttemptFailed, name, incarnation, **failed())
    stream.add(WorkerFailed, name, incarnation, error_type="OSError", error="boom", **ended())


def errors_of(fleet: Fleet) -> list[tuple[str, int]]:
    """Return each kind of error in the summary, and how many workers had it."""
    return [(error.kind, error.workers) for error in summarize(fleet).errors]


def add_supervisor(stream: Stream, key: str, incarnation: int = 1) -> None:
    """Start a child of the pool that is a supervisor of a worker and of a supervisor of another; it has a restart."""
    supervise(stream, f"root/p/{key}", "one_for_all", incarnation)
    queue(stream, f"root/p/{key}", "a", incarnation)
    supervise(stream, f"root/p/{key}/deep", incarnation=incarnation)
    queue(stream, f"root/p/{key}/deep", "b", incarnation)
    stream.add(RestartCounted, supervisor=f"root/p/{key}", child="a", **RESTARTS)


def remove_supervisor(stream: Stream, key: str, incarnation: int = 1) -> None:
    """Stop such a child and all below it, and forget it."""
    stream.add(WorkerSucceeded, f"p/{key}/deep/b", incarnation, **ended(result=1))
    stream.add(SupervisorTerminated, name=f"root/p/{key}/deep", reason="shutdown")
    fail(stream, f"p/{key}/a", incarnation)
    stream.add(SupervisorTerminated, name=f"root/p/{key}", reason="shutdown")
    stream.add(ChildRemoved, supervisor="root/p", child=key)


def test_nothing_is_kept_of_a_removed_supervisor_whose_last_row_was_replaced() -> None:
    stream = pool()
    fleet = small_fleet()
    sizes = []
    for number in range(60):
        add_supervisor(stream, str(number))
        remove_supervisor(stream, str(number))
        sizes.append(kept_items(stream.fold(fleet)))
    assert max(sizes) <= max(sizes[: 6 * KEPT])
    whole = stream.fold()
    assert len(whole.rows) == fleet.workers == 120
    assert fleet.counts == whole.counts
    assert +Counter(fleet.tree.branches["root/p"].counts) == +Counter(whole.tree.branches["root/p"].counts)
    assert {row.group for row in fleet.rows} <= fleet.tree.branches.keys()
    assert errors_of(fleet) == errors_of(whole) == [("OSError: boom", 60)]
    shown = sum(branch.parent is fleet.tree.branches["root/p"] for branch in fleet.tree.branches.values())
    view = View(fleet)
    view.lines()
    assert view.left["root/p"] == 60 - shown > 0


def test_a_removed_supervisor_without_rows_has_no_branch() -> None:
    stream = pool()
    supervise(stream, "root/p/a")
    supervise(stream, "root/p/a/deep")
    stream.add(ChildRemoved, supervisor="root/p/a", child="deep")
    assert list(stream.fold().tree.branches) == ["root", "root/p", "root/p/a"]
    supervise(stream, "root/p/a/deep")
    stream.add(ChildRemoved, supervisor="root/p", child="a")
    assert list(stream.fold().tree.branches) == ["root", "root/p"]


def test_a_removed_supervisor_that_is_started_again_keeps_its_rows_and_branches() -> None:
    stream = pool()
    add_supervisor(stream, "x")
    remove_supervisor(stream, "x")
    tree = stream.fold().tree
    assert tree.why_branch_not_restarted(tree.branches["root/p/x"]) == "forgotten by the supervisor above"
    add_supervisor(stream, "x", 2)
    for number in range(4 * KEPT):
        add_supervisor(stream, str(number))
        remove_supervisor(stream, str(number))
    fleet = stream.fold(small_fleet())
    rows = [fleet.get(name) for name in ("p/x/a", "p/x/deep/b")]
    assert [row.state for row in rows if row is not None] == [WorkerState.RUNNING] * 2
    assert {"root/p/x", "root/p/x/deep"} <= fleet.tree.branches.keys()
    assert fleet.tree.why_branch_not_restarted(fleet.tree.branches["root/p/x"]) == ""


@pytest.mark.parametrize("group", ["root", "root/s"])
def test_removed_children_outside_pools_have_a_bounded_number_of_rows(group: str) -> None:
    """Temporary children, children deleted by hand, and children lost when their supervisor restarts."""
    stream = pool()
    supervise(stream, "root/s", "rest_for_one")
    stays = queue(stream, group, "stays")
    fleet = small_fleet()
    sizes = []
    for number in range(60):
        name = queue(stream, group, str(number))
        if number % 2:
            fail(stream, name)
        else:
            stream.add(WorkerSucceeded, name, **ended(result=1))
        stream.add(ChildRemoved, supervisor=group, child=str(number))
        sizes.append(kept_items(stream.fold(fleet)))
    assert max(sizes) <= max(sizes[: 6 * KEPT])
    whole = stream.fold()
    assert (fleet.workers, fleet.counts, fleet.settled) == (whole.workers, whole.counts, whole.settled)
    assert fleet.tree.branches[group].counts == whole.tree.branches[group].counts
    assert errors_of(fleet) == errors_of(whole) == [("OSError: boom", 30)]
    assert fleet.get(stays) is fleet.rows[0]


def test_a_row_outside_pools_that_was_replaced_is_no_line_after_resort() -> None:
    stream = pool()
    fleet = small_fleet()
    view = View(stream.fold(fleet))
    for number in range(3 * KEPT):
        name = queue(stream, "root", str(number))
        stream.add(WorkerSucceeded, name, **ended(result=1))
        stream.add(ChildRemoved, supervisor="root", child=str(number))
        view.touched(apply(fleet, stream.events[fleet.last_seq + 1 :]))
        view.lines()
        view.resort()
        assert [line for line in view.lines() if isinstance(line, Row)] == [
            row for row in fleet.rows if not fleet.tree.has_left(row)
        ]


def test_a_name_that_the_engine_has_forgotten_gets_a_new_row() -> None:
    """Its incarnations are counted from 1 again."""
    stream = pool()
    start(stream, "a")
    leave(stream, "a", "fails")
    start(stream, "a")
    fleet = stream.fold()
    row = fleet.get("p/a")
    assert row is not None
    assert (row.state, row.index, fleet.rows) == (WorkerState.RUNNING, 0, [row])
    assert (fleet.workers, fleet.history("p/a")[0].outcome) == (2, "")
    assert fleet.counts[WorkerState.FAILED] == 1


def replace_first(stream: Stream) -> None:
    """Let so many children come and leave that the first one's row is replaced."""
    leave(stream, "first")
    for number in range(KEPT + 1):
        start(stream, str(number))
        leave(stream, str(number))


def test_row_replaced_loses_its_mark() -> None:
    """A command for the marked workers must not reach the worker that took over the row."""
    stream = pool()
    start(stream, "first")
    fleet = stream.fold(small_fleet())
    view = View(fleet)
    view.marks.toggle_worker("p/first")
    before = fleet.rows[0]
    replace_first(stream)
    stream.fold(fleet)
    assert fleet.rows[0] is not before
    assert (fleet.get("p/first"), fleet.history("p/first")) == (None, ())
    assert (before.name, before.state) == ("p/first", WorkerState.SUCCEEDED)
    assert (view.marks.rows(), list(view.marks), bool(view.marks), len(view.marks)) == ([], [], False, 0)
    view.marks.toggle_worker(fleet.rows[0].name)
    assert view.marks.rows() == [fleet.rows[0]]


def test_row_replaced_while_many_are_marked_is_not_marked() -> None:
    stream = pool()
    start(stream, "first")
    fleet = stream.fold(small_fleet())
    marks, before = View(fleet).marks, fleet.rows[0]
    marks.add([before])
    replace_first(stream)
    stream.fold(fleet)
    assert fleet.rows[0] is not before
    assert marks.rows() == []


def test_child_started_again_keeps_its_row() -> None:
    stream = pool()
    start(stream, "a")
    leave(stream, "a")
    stream.add(WorkerRestarted, "p/a", 2)
    stream.add(AttemptStarted, "p/a", 2, attempt=1, bad_luck=0.5)
    for number in range(4 * KEPT):
        start(stream, str(number))
        leave(stream, str(number))
    row = stream.fold(small_fleet()).get("p/a")
    assert row is not None
    assert (row.state, row.incarnation) == (WorkerState.RUNNING, 2)


def test_name_whose_incarnations_the_engine_counts_has_a_row() -> None:
    """The engine reports its next incarnation as a restart, which needs a row."""
    assert REMEMBERED < departed.KEPT < departed.TROUBLED_KEPT
