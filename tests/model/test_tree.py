"""Branches of a run: their workers, restart limits and sibling restarts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from asyncwatch.events import (
    AttemptFailed,
    AttemptHeld,
    AttemptStarted,
    ChildRemoved,
    PollFailed,
    PollFinished,
    RestartCounted,
    RestartLimitReached,
    RestartScheduled,
    RetryRefused,
    SupervisorStarted,
    SupervisorTerminated,
    WorkerCancelled,
    WorkerFailed,
    WorkerReady,
    WorkerRestarted,
    WorkersQueued,
    WorkerState,
    WorkerSucceeded,
)
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.history import FIRST_KEPT, LAST_KEPT
from asyncwatch.model.reducer import apply
from asyncwatch.model.tree import Branch, Gauge, label_of
from asyncwatch.model.view.filter import parse_query
from asyncwatch.model.view.groups import Cluster, Clustering
from asyncwatch.model.view.selection import View
from tests.model.stream import Stream, ended, failed


def supervise(stream: Stream, path: str, strategy: str = "one_for_one", max_restarts: int = 3) -> None:
    """Start a supervisor."""
    stream.add(
        SupervisorStarted,
        name=path,
        parent=path.rpartition("/")[0],
        strategy=strategy,
        max_restarts=max_restarts,
        within=5.0,
        auto_shutdown="never",
    )


def queue(stream: Stream, group: str, *names: str) -> None:
    """Queue the workers of a supervisor."""
    stream.add(WorkersQueued, group=group, max_attempts=1, workers=names)


def tree_stream(strategy: str) -> Stream:
    """Return a run with a root, and below it a worker, a supervisor with four children, and another worker."""
    stream = Stream()
    supervise(stream, "root")
    queue(stream, "root", "first")
    supervise(stream, "root/a", strategy)
    queue(stream, "root/a", "a/1")
    queue(stream, "root/a", "a/2")
    supervise(stream, "root/a/deep")
    queue(stream, "root/a/deep", "a/deep/x")
    queue(stream, "root/a", "a/3")
    queue(stream, "root", "last")
    return stream


def clusters_of(fleet: Fleet) -> list[Cluster]:
    """Return the clusters of errors."""
    clustering = Clustering(fleet.notable(), fleet.stack)
    assert not clustering.work(lambda: False)
    return clustering.clusters()


def restarted_with(fleet: Fleet, name: str) -> list[str]:
    """Return the workers that are restarted together with `name`."""
    row = fleet.get(name)
    assert row is not None
    return [row.name for row in fleet.tree.restarted_with([row])]


@pytest.mark.parametrize(
    ("strategy", "name", "names"),
    [
        ("one_for_one", "a/2", []),
        ("one_for_all", "a/2", ["a/1", "a/deep/x", "a/3"]),
        ("rest_for_one", "a/2", ["a/deep/x", "a/3"]),
        ("rest_for_one", "a/3", []),
        ("one_for_all", "a/deep/x", []),
        ("one_for_all", "first", []),
    ],
)
def test_restart_of_child_restarts_siblings_by_strategy(strategy: str, name: str, names: list[str]) -> None:
    assert restarted_with(tree_stream(strategy).fold(), name) == names


def test_child_removed_is_not_restarted_with_siblings() -> None:
    stream = tree_stream("rest_for_one")
    stream.add(ChildRemoved, supervisor="root/a", child="3")
    assert restarted_with(stream.fold(), "a/2") == ["a/deep/x"]
    stream.add(WorkerRestarted, "a/3", 2)
    assert restarted_with(stream.fold(), "a/2") == ["a/deep/x", "a/3"]


def test_to_request_omits_workers_restarted_with_others() -> None:
    fleet = tree_stream("one_for_all").fold()
    assert [row.name for row in fleet.tree.to_request(fleet.rows)] == ["first", "a/1", "last"]


def test_branch_counts_workers_of_all_branches_below() -> None:
    stream = tree_stream("one_for_one")
    stream.add(AttemptStarted, "a/deep/x", attempt=1, bad_luck=0.5)
    tree = stream.fold().tree
    running = {path: branch.counts.get(WorkerState.RUNNING, 0) for path, branch in tree.branches.items()}
    assert running == {"root": 1, "root/a": 1, "root/a/deep": 1}
    assert {path: branch.workers for path, branch in tree.branches.items()} == {
        "root": 6,
        "root/a": 4,
        "root/a/deep": 1,
    }
    assert [row.name for row in tree.rows_below(tree.branches["root/a"])] == ["a/1", "a/2", "a/deep/x", "a/3"]


def test_branch_is_counted_anew_once_a_batch_and_not_for_a_restart_within_it() -> None:
    stream = tree_stream("one_for_one")
    stream.add(AttemptStarted, "first", attempt=1, bad_luck=0.5)
    fleet = stream.fold()
    root = fleet.tree.branches["root"]
    counts, version = +Counter(root.counts), root.version
    stream.add(WorkerSucceeded, "first", **ended())
    stream.add(WorkerRestarted, "first", 2)
    stream.add(AttemptStarted, "first", 2, attempt=1, bad_luck=0.5)
    stream.fold(fleet)
    assert (+Counter(root.counts), root.version) == (counts, version)
    stream.add(WorkerSucceeded, "first", 2, **ended())
    stream.fold(fleet)
    assert root.counts[WorkerState.SUCCEEDED] == 1
    assert root.version > version


def test_gauge_restart_counts_until_it_expires() -> None:
    stream = Stream()
    supervise(stream, "root", max_restarts=3)
    tree = stream.fold().tree
    assert tree.gauge(tree.branches["root"], 0.1) == Gauge(3, 3, None)
    for number, at in ((1, 1.0), (2, 2.0)):
        stream.now = at
        stream.add(RestartCounted, supervisor="root", child="w", restarts=number, max_restarts=3, within=5.0)
    tree = stream.fold().tree
    root = tree.branches["root"]
    assert tree.gauge(root, 2.0) == Gauge(1, 3, 4.0)
    assert tree.gauge(root, 6.5) == Gauge(2, 3, 0.5)
    assert tree.gauge(root, 8.0) == Gauge(3, 3, None)


def test_supervisor_started_again_has_all_its_restarts() -> None:
    stream = Stream()
    supervise(stream, "root", max_restarts=0)
    stream.add(RestartCounted, supervisor="root", child="w", restarts=1, max_restarts=0, within=5.0)
    stream.add(RestartLimitReached, supervisor="root", restarts=1, within=5.0)
    stream.add(SupervisorTerminated, name="root", reason="shutdown")
    root = stream.fold().tree.branches["root"]
    assert (root.is_limit_reached, root.ending) == (True, "shutdown")
    supervise(stream, "root")
    tree = stream.fold().tree
    assert (tree.branches["root"].is_limit_reached, tree.branches["root"].ending) == (False, "")
    assert tree.gauge(tree.branches["root"], stream.now).expires_in is None


def test_group_alone_is_not_counted_until_there_is_a_second() -> None:
    stream = Stream("a", "b", group="x")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.5)
    tree = stream.fold().tree
    assert not tree.is_shown
    assert tree.branches["x"].counts == {}
    queue(stream, "y", "c")
    tree = stream.fold().tree
    assert tree.is_shown
    assert (tree.branches["x"].workers, tree.branches["y"].workers) == (2, 1)
    assert tree.branches["x"].counts[WorkerState.RUNNING] == 1


def test_events_of_unknown_supervisor_change_nothing() -> None:
    stream = Stream("a")
    stream.add(SupervisorTerminated, name="root/ghost", reason="x")
    stream.add(RestartCounted, supervisor="root/ghost", child="w", restarts=0, max_restarts=0, within=5.0)
    stream.add(RestartLimitReached, supervisor="root/ghost", restarts=1, within=5.0)
    stream.add(ChildRemoved, supervisor="root/ghost", child="w")
    stream.add(RestartScheduled, "ghost", delay=1.0, cause="x")
    stream.add(WorkerReady, "ghost")
    stream.add(PollFinished, "ghost", result=1, elapsed=0.1, delay=1.0)
    fleet = stream.fold()
    assert list(fleet.tree.branches) == [""]
    assert restarted_with(fleet, "a") == []


def test_worker_with_scheduled_restart_is_not_settled() -> None:
    stream = tree_stream("one_for_one")
    stream.add(AttemptStarted, "first", attempt=1, bad_luck=0.5)
    stream.add(AttemptFailed, "first", **failed(error_class="transient"))
    stream.add(WorkerFailed, "first", **ended(error_type="OSError", error="boom"))
    assert stream.fold().settled == 1
    stream.now = 3.0
    stream.add(RestartScheduled, "first", delay=2.5, cause="OSError: boom")
    fleet = stream.fold()
    row = fleet.get("first")
    assert row is not None
    assert (row.state, row.retry_at, row.error, fleet.settled) == (WorkerState.RESTARTING, 5.5, "OSError: boom", 0)
    assert [type(wait) for wait in fleet.waits_of("first")] == [RestartScheduled]
    stream.add(WorkerCancelled, "first", **ended())
    assert stream.fold().settled == 1


def test_polls_and_readiness_last_until_the_next_incarnation() -> None:
    stream = tree_stream("one_for_one")
    stream.add(AttemptStarted, "first", attempt=1, bad_luck=0.5)
    stream.add(WorkerReady, "first")
    stream.now = 4.0
    stream.add(PollFinished, "first", result={"eur": 1}, elapsed=0.25, delay=30.0)
    row = stream.fold().get("first")
    assert row is not None
    assert (row.is_ready, row.is_poller, row.retry_at, row.result) == (True, True, 34.0, '{"eur":1}')
    assert row.calls == 1
    stream.add(WorkerRestarted, "first", 2)
    row = stream.fold().get("first")
    assert row is not None
    assert (row.is_ready, row.is_poller, row.retry_at, row.calls) == (False, False, None, 0)


def test_poller_whose_next_poll_is_held_back_is_between_polls_until_that_starts() -> None:
    stream = tree_stream("one_for_one")
    stream.add(AttemptStarted, "first", attempt=1, bad_luck=0.5)
    stream.add(PollFinished, "first", result=1, elapsed=0.1, delay=30.0)
    stream.add(AttemptHeld, "first", attempt=1, key="host", reason="circuit")
    fleet = stream.fold()
    row = fleet.rows[0]
    assert (row.state, row.is_between_polls, row.is_in_trouble) == (WorkerState.WAITING, True, False)
    assert [record.outcome for record in fleet.history("first")] == ["succeeded"]

    stream.add(AttemptStarted, "first", attempt=1, bad_luck=0.5)
    assert not stream.fold().rows[0].is_between_polls
    stream.add(AttemptFailed, "first", **failed("error"))
    stream.add(AttemptHeld, "first", attempt=2, key="host", reason="circuit")
    row = stream.fold().rows[0]
    assert (row.state, row.is_between_polls, row.is_in_trouble) == (WorkerState.WAITING, False, True)


def test_poller_whose_last_poll_succeeded_in_its_second_attempt_is_in_no_trouble() -> None:
    stream = tree_stream("one_for_one")
    stream.add(AttemptStarted, "first", attempt=1, bad_luck=0.5)
    stream.add(AttemptFailed, "first", **failed("error"))
    stream.add(AttemptStarted, "first", attempt=2, bad_luck=0.5)
    assert stream.fold().rows[0].is_in_trouble
    stream.add(PollFinished, "first", result=1, elapsed=0.1, delay=30.0)
    assert not stream.fold().rows[0].is_in_trouble
    stream.add(WorkerCancelled, "first", **ended())
    assert not stream.fold().rows[0].is_between_polls


def test_poller_with_failed_polls_is_in_trouble_until_one_succeeds() -> None:
    stream = tree_stream("one_for_one")
    for number in (1, 2):
        stream.add(AttemptStarted, "first", attempt=1, bad_luck=0.5)
        stream.add(AttemptFailed, "first", **failed(f"error {number}"))
        stream.add(RetryRefused, "first", attempt=2, reason="deadline")
        stream.now = round(stream.now, 1)
        at = stream.now
        facts: dict[str, Any] = {"error_type": "OSError", "error": f"error {number}", "elapsed": 0.1, "delay": 30.0}
        stream.add(PollFailed, "first", failures=number, **facts)
    fleet = stream.fold()
    row = fleet.get("first")
    assert row is not None
    assert (row.state, row.failed_polls, row.error) == (WorkerState.RUNNING, 2, "OSError: error 2")
    assert (row.is_in_trouble, row.is_between_polls, row.retry_at, row.refusal) == (True, True, at + 30.0, "")
    assert [record.outcome for record in fleet.history("first")] == ["OSError: error 1", "OSError: error 2"]
    assert [cluster.kind for cluster in clusters_of(fleet)] == ["OSError: error …"]
    assert fleet.polls.failing == {"first"}

    stream.add(AttemptStarted, "first", attempt=1, bad_luck=0.5)
    assert stream.fold().rows[0].failed_polls == 2
    stream.add(PollFinished, "first", result=1, elapsed=0.1, delay=30.0)
    fleet = stream.fold()
    row = fleet.rows[0]
    assert (row.failed_polls, row.error, row.is_in_trouble) == (0, "", False)
    assert [record.outcome for record in fleet.history("first")][-1] == "succeeded"
    assert (clusters_of(fleet), fleet.polls.failing) == ([], set())


@pytest.mark.parametrize("is_restarted", [False, True])
def test_poller_ended_or_restarted_is_not_failing(is_restarted: bool) -> None:
    stream = tree_stream("one_for_one")
    stream.add(AttemptStarted, "first", attempt=1, bad_luck=0.5)
    stream.add(PollFailed, "first", error_type="OSError", error="", elapsed=0.1, delay=1.0, failures=1)
    assert [record.outcome for record in stream.fold().history("first")] == ["OSError"]
    stream.add(WorkerCancelled, "first", **ended())
    if is_restarted:
        stream.add(WorkerRestarted, "first", 2)
    fleet = stream.fold()
    assert (fleet.rows[0].failed_polls, fleet.polls.failing) == (0, set())


def test_memory_of_poller_that_fails_forever_is_bounded() -> None:
    stream = tree_stream("one_for_one")
    for number in range(2 * LAST_KEPT):
        stream.add(AttemptStarted, "first", attempt=1, bad_luck=0.5)
        stream.add(AttemptFailed, "first", **failed(str(number)))
        stream.add(PollFailed, "first", error_type="OSError", error="", elapsed=0.1, delay=1.0, failures=number + 1)
    history = stream.fold().history("first")
    assert len(history) == FIRST_KEPT + LAST_KEPT
    assert history[-1].outcome == f"OSError: {2 * LAST_KEPT - 1}"


def test_label_is_the_name_within_the_supervisor() -> None:
    fleet = tree_stream("one_for_one").fold()
    assert [label_of(row) for row in fleet.rows] == ["first", "1", "2", "x", "3", "last"]


def test_why_not_restarted_names_ended_supervisor_or_removal() -> None:
    stream = tree_stream("one_for_one")
    queue(stream, "batch", "item")
    stream.add(ChildRemoved, supervisor="root/a", child="1")
    stream.add(SupervisorTerminated, name="root/a/deep", reason="shutdown")
    fleet = stream.fold()
    told = {row.name: why for row in fleet.rows if (why := fleet.tree.why_not_restarted(row))}
    assert told == {"a/1": "forgotten by the supervisor above", "a/deep/x": "the supervisor above has ended"}
    stream.add(WorkerRestarted, "a/1", 2)
    supervise(stream, "root/a/deep")
    fleet = stream.fold()
    assert not any(fleet.tree.why_not_restarted(row) for row in fleet.rows)


def test_worker_at_its_own_limit_is_so_until_restarted() -> None:
    stream = tree_stream("one_for_one")
    stream.add(RestartCounted, supervisor="root/first", child="first", restarts=1, max_restarts=1, within=5.0)
    stream.add(RestartCounted, supervisor="root/first", child="first", restarts=2, max_restarts=1, within=5.0)
    stream.add(RestartLimitReached, supervisor="root/first", restarts=2, within=5.0)
    fleet = stream.fold()
    assert [row.name for row in fleet.rows if fleet.tree.is_at_limit(row)] == ["first"]
    assert not fleet.tree.branches["root"].is_limit_reached
    stream.add(WorkerRestarted, "first", 2)
    fleet = stream.fold()
    assert not any(fleet.tree.is_at_limit(row) for row in fleet.rows)


def test_pool_child_removed_has_no_line_unless_it_failed() -> None:
    stream = Stream()
    supervise(stream, "root")
    supervise(stream, "root/pool", "simple_one_for_one")
    queue(stream, "root/pool", "pool/good", "pool/bad")
    for name in ("pool/good", "pool/bad"):
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.5)
    view = View(stream.fold())
    assert len(view.lines()) == 4
    before = len(stream.events)
    stream.add(WorkerSucceeded, "pool/good", **ended(result=1))
    stream.add(WorkerFailed, "pool/bad", **ended(error_type="OSError", error="boom"))
    stream.add(ChildRemoved, supervisor="root/pool", child="good")
    stream.add(ChildRemoved, supervisor="root/pool", child="bad")
    apply(view.fleet, stream.events[before:])
    assert len(view.lines()) == 4
    assert view.resort()
    assert [line.path if isinstance(line, Branch) else line.name for line in view.lines()] == [
        *("root", "root/pool", "pool/bad"),
    ]
    assert view.left == {"root/pool": 1}
    assert not view.resort()
    stream.add(WorkerRestarted, "pool/good", 2)
    apply(view.fleet, stream.events[-1:])
    view.query = parse_query("pool")
    assert view.position("pool/good") == 2
