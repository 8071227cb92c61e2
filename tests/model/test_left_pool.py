"""Children that come to a pool and leave it for as long as it runs: their rows are given up, and all totals stay."""

from __future__ import annotations

from typing import Any

import pytest

from asyncwatch.cli.session import exit_status
from asyncwatch.engine.tree.crew import REMEMBERED
from asyncwatch.events import (
    AttemptFailed,
    AttemptStarted,
    CancelRequested,
    ChildRemoved,
    LoopBlocked,
    RestartCounted,
    RestartLimitReached,
    RestartScheduled,
    RunFinished,
    SupervisorStarted,
    WorkerCancelled,
    WorkerFailed,
    WorkerRestarted,
    WorkersQueued,
    WorkerState,
    WorkerSucceeded,
)
from asyncwatch.model import reducer as fold
from asyncwatch.model.fleet import BROKEN_LEFT_KEPT, LEFT_KEPT
from asyncwatch.model.reducer import Fleet
from asyncwatch.model.services import services_of
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


def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep few rows."""
    monkeypatch.setattr(fold, "LEFT_KEPT", KEPT)
    monkeypatch.setattr(fold, "BROKEN_LEFT_KEPT", KEPT)


@pytest.mark.parametrize("ways", [["succeeds"], ["fails"], ["succeeds", "supervisor"], ["succeeds", "person", "fails"]])
def test_totals_are_those_of_all_children_that_there_were(monkeypatch: pytest.MonkeyPatch, ways: list[str]) -> None:
    """Counts by state, errors, restarts, the exit status: whether rows are given up makes no difference."""
    stream = pool()
    start(stream, "stays")
    for number in range(60):
        start(stream, str(number))
        leave(stream, str(number), ways[number % len(ways)])
    leave(stream, "stays")
    stream.add(RunFinished, states={}, attempts=61, elapsed=stream.now, interrupted=False)
    whole = stream.fold()
    limit(monkeypatch)
    fleet = stream.fold()
    assert len(whole.rows) == 61
    assert len(fleet.rows) <= 1 + 2 * (KEPT + 1)
    assert fleet.get("p/stays") is fleet.rows[0]
    assert [row.index for row in fleet.rows] == list(range(len(fleet.rows)))
    assert fleet.workers == whole.workers == 61
    assert (fleet.counts, fleet.is_settled, exit_status(fleet)) == (whole.counts, True, exit_status(whole))
    assert fleet.tree.branches["root/p"].counts == whole.tree.branches["root/p"].counts
    assert services_of(fleet)[:2] == services_of(whole)[:2]
    told, expected = summarize(fleet), summarize(whole)
    assert [(error.kind, error.workers, error.example_place) for error in told.errors] == [
        (error.kind, error.workers, error.example_place) for error in expected.errors
    ]
    assert (told.workers, told.counts, told.attempts) == (expected.workers, expected.counts, expected.attempts)
    left = View(fleet)
    left.lines()
    if ways == ["succeeds"]:
        assert left.left["root/p"] == 61


def held(fleet: Fleet) -> int:
    """Return how many things are held by the name or the path of a worker, or in a list of all."""
    records = {"records": fleet.attempt_records._records}
    parts = (vars(fleet), vars(fleet.tree), vars(fleet.restarts), vars(fleet.loop), records)
    kinds = (dict, set, list)
    return sum(len(value) for part in parts for value in part.values() if isinstance(value, kinds))


def test_nothing_is_kept_of_a_child_without_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by its name nor by its path."""
    limit(monkeypatch)
    stream = pool()
    fleet = stream.fold()
    sizes = []
    for number in range(100):
        start(stream, str(number))
        stream.add(RestartCounted, supervisor=f"root/p/{number}", child=str(number), **RESTARTS)
        stream.add(RestartScheduled, f"p/{number}", delay=0.0, cause="OSError")
        stream.add(WorkerRestarted, f"p/{number}", 2)
        stream.add(LoopBlocked, f"p/{number}", 2, began=stream.now, duration=0.1, cause="worker", attempt=1)
        stream.add(AttemptStarted, f"p/{number}", 2, attempt=1, bad_luck=0.5)
        if number % 2:
            stream.add(RestartLimitReached, supervisor=f"root/p/{number}", restarts=2, within=5.0)
        leave(stream, str(number), "fails" if number % 2 else "person", incarnation=2)
        fleet.apply_batch(stream.events)
        sizes.append(held(fleet))
    assert max(sizes) <= max(sizes[: 4 * KEPT])
    assert fleet.restarts.total == 100


def test_a_row_that_is_given_up_leaves_its_mark_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command for the marked workers must not reach the worker that took the place."""
    limit(monkeypatch)
    stream = pool()
    start(stream, "first")
    fleet = stream.fold()
    view = View(fleet)
    view.toggle_mark("p/first")
    before = fleet.rows[0]
    leave(stream, "first")
    for number in range(KEPT + 1):
        start(stream, str(number))
        leave(stream, str(number))
    fleet.apply_batch(stream.events)
    assert fleet.rows[0] is not before
    assert (fleet.get("p/first"), fleet.history("p/first")) == (None, ())
    assert (before.name, before.state) == ("p/first", WorkerState.SUCCEEDED)
    assert view.marked() == []


def test_a_child_that_comes_again_keeps_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no longer among those that have left, however long ago it did."""
    limit(monkeypatch)
    stream = pool()
    start(stream, "a")
    leave(stream, "a")
    stream.add(WorkerRestarted, "p/a", 2)
    stream.add(AttemptStarted, "p/a", 2, attempt=1, bad_luck=0.5)
    for number in range(4 * KEPT):
        start(stream, str(number))
        leave(stream, str(number))
    fleet = stream.fold()
    row = fleet.get("p/a")
    assert row is not None
    assert (row.state, row.incarnation) == (WorkerState.RUNNING, 2)


def test_a_name_that_the_engine_remembers_has_a_row() -> None:
    """Its next incarnation is reported as a restart, which is of no use without a row."""
    assert REMEMBERED < LEFT_KEPT < BROKEN_LEFT_KEPT
