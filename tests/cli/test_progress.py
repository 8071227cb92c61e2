"""The progress of services, which run for ever, and of a batch beside them."""

from __future__ import annotations

from asyncwatch.cli.progress import progress_line
from asyncwatch.events import (
    AttemptFailed,
    AttemptHeld,
    AttemptStarted,
    Event,
    ItemsRead,
    KeyThrottled,
    PollFailed,
    PollFinished,
    RestartScheduled,
    RunCancelRequested,
    RunFinished,
    RunStarted,
    SupervisorStarted,
    WorkerReady,
    WorkerRestarted,
    WorkersQueued,
)
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from tests.cli.script import FakeController, run
from tests.model.stream import Stream, failed
from tests.ui.fakes import FakeController as FakeRun
from tests.ui.trees import tree_run


def fleet_of(fake: FakeRun) -> Fleet:
    """Return the state after all its events."""
    fleet = Fleet()
    for batch in fake.early:
        apply(fleet, batch)
    return fleet


def test_progress_of_services_shows_how_many_are_up() -> None:
    fake = FakeRun()
    tree_run(fake)
    line = progress_line(fleet_of(fake), 10.0)
    assert line.startswith("00:10.0  7/10 up, 1 backing off, 1 restarting, 1 waiting")
    assert "  1 restart  " in line
    assert "/10  " not in line


def test_progress_while_items_are_read_says_that_more_may_follow() -> None:
    start = RunStarted(0, 0.0, "demo", 0, "gather", 7, 1, None, 0.0, reads_items=True)
    events: list[Event] = [start, WorkersQueued(1, 0.0, "", 1, ("a", "b"))]
    fleet = Fleet()
    apply(fleet, events)
    assert progress_line(fleet, 1.0).startswith("00:01.0  0/2+  2 queued")
    apply(fleet, [ItemsRead(2, 0.5, 2)])
    assert progress_line(fleet, 1.0).startswith("00:01.0  0/2  2 queued")


SERVICES: list[Event] = [
    RunStarted(
        seq=0, at=0.0, run="shop", workers=2, runner="serve", seed=7, concurrency=1, timeout=None, started_at=0.0
    ),
    SupervisorStarted(1, 0.0, "root", "", "one_for_one", 1, 5.0, "never"),
    WorkersQueued(seq=2, at=0.0, group="root", max_attempts=1, workers=("a",)),
    AttemptStarted(seq=3, at=0.0, worker="a", incarnation=1, attempt=1, bad_luck=0.5),
]
UP: list[Event] = [
    WorkerReady(seq=4, at=3.0, worker="a", incarnation=1, value=None),
    WorkersQueued(seq=5, at=3.0, group="root", max_attempts=1, workers=("b",)),
    AttemptStarted(seq=6, at=3.0, worker="b", incarnation=1, attempt=1, bad_luck=0.5),
    WorkerReady(seq=7, at=3.0, worker="b", incarnation=1, value=None),
]


def test_progress_of_pollers_shows_how_many_fail() -> None:
    fake = FakeRun()
    tree_run(fake)
    facts = {"worker": "prices", "incarnation": 1, "elapsed": 0.1, "delay": 30.0}
    fake.emit(PollFailed, 10.0, error_type="OSError", error="gone", failures=1, **facts)
    assert "7/10 up, 1 backing off, 1 restarting, 1 waiting, 1 failing  " in progress_line(fleet_of(fake), 10.0)
    fake.emit(PollFinished, 10.5, result=None, **facts)
    assert "failing" not in progress_line(fleet_of(fake), 10.5)


async def test_progress_of_services_in_a_log_is_shown_when_it_changes() -> None:
    seconds = [1.0] * 1_000
    restart = [RestartScheduled(8, 500.0, "b", 1, 0.0, "OSError"), WorkerRestarted(9, 500.0, "b", 2)]
    end = RunFinished(seq=10, at=600.0, states={"cancelled": 2}, attempts=2, elapsed=600.0, interrupted=True)
    script = FakeController(SERVICES, *seconds[:2], UP, *seconds[:496], restart, *seconds[:90], [end])
    _, err = await run(script)
    assert [line.partition("  attempts")[0].rstrip() for line in err.splitlines()] == [
        "00:01.0  1/2 up  waiting for a to be ready  0 restarts  0 attempts/s",
        "00:11.0  2/2 up  0 restarts  0 attempts/s",
        "05:11.0  2/2 up  0 restarts  0 attempts/s",
        "08:20.0  1/2 up, 1 queued  1 restart  0 attempts/s",
        "10:00.0  0/2  1 queued, 1 running",
    ]


def test_progress_of_a_tree_stopped_while_it_starts_waits_for_no_worker() -> None:
    fleet = Fleet()
    apply(fleet, [*SERVICES, RunCancelRequested(seq=4, at=1.0, reason="person")])
    assert progress_line(fleet, 2.0).startswith("00:02.0  1/1 up  0 restarts")


def test_progress_of_a_batch_beside_services_shows_both() -> None:
    fake = FakeRun()
    tree_run(fake)
    fake.emit(WorkersQueued, 10.0, group="batch", max_attempts=1, workers=("x", "y"))
    fake.attempt("x", 10.0)
    fake.succeed("x", 10.2)
    assert "7/10 up" in progress_line(fleet_of(fake), 10.2)
    assert "  1/2  1 queued, 1 succeeded  " in progress_line(fleet_of(fake), 10.2)
    fake.finish(10.3)
    assert "  1/12  " in progress_line(fleet_of(fake), 10.3)


def test_progress_names_what_a_throttled_key_holds_up() -> None:
    stream = Stream("a", "b")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    stream.add(AttemptFailed, "a", **failed("429", error_class="throttled"))
    stream.add(KeyThrottled, key="a.example", seconds=2.0, retry_after=2.0, refused=1)
    for name in "ab":
        stream.add(AttemptHeld, name, attempt=2, key="a.example", reason="throttled")
    fleet = stream.fold()
    assert progress_line(fleet, fleet.latest).endswith("  a.example asked for 2 s, 2 s left, 2 wait")


def test_progress_names_the_retry_budget_while_retries_wait_for_it() -> None:
    stream = Stream("a", "b")
    for name, text in (("a", "retry budget: 1 retry waits"), ("b", "retry budget: 2 retries wait")):
        stream.add(AttemptHeld, name, attempt=2, key="", reason="budget")
        fleet = stream.fold()
        assert progress_line(fleet, fleet.latest).endswith(f"  {text}")
    for name in "ab":
        stream.add(AttemptStarted, name, attempt=2, bad_luck=0.1)
    fleet = stream.fold()
    assert "budget" not in progress_line(fleet, fleet.latest)
