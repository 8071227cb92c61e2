"""One run from its plan to the exit status, with a fake engine and a fake dashboard."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from asyncwatch.cli import headless, output, session
from asyncwatch.cli.headless import StdoutError
from asyncwatch.commands import Command, StopRun
from asyncwatch.config.load import demo_config
from asyncwatch.engine.tree.errors import RestartLimitError
from asyncwatch.events import (
    AttemptStarted,
    CancelRequested,
    Event,
    RunCancelRequested,
    RunFinished,
    RunStarted,
    SupervisorStarted,
    WorkerCancelled,
    WorkerFailed,
    WorkersQueued,
    WorkerSucceeded,
)
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.plan.plan import Overrides, Plan, make_plan

ALL = [
    RunStarted(0, 0.0, "demo", 1, "gather", 7, 5, None, 0.0),
    WorkersQueued(1, 0.0, "", 1, ("a",)),
    WorkerSucceeded(2, 0.1, "a", 1, 1, 0.1, 200),
    RunFinished(3, 0.2, {"succeeded": 1}, 1, 0.2, interrupted=False),
]
INTERRUPTED = [*ALL[:2], RunFinished(2, 0.2, {"cancelled": 1}, 0, 0.2, interrupted=True)]
STOPPED: list[Event] = [
    RunStarted(0, 0.0, "demo", 2, "gather", 7, 5, None, 0.0),
    WorkersQueued(1, 0.0, "", 1, ("a", "b")),
    AttemptStarted(2, 0.1, "a", 1, 1, 0.5),
    WorkerFailed(3, 1.0, "a", 1, 1, 0.9, "ChildProcessError", "killed"),
    RunCancelRequested(4, 1.09, "person"),
    RunCancelRequested(5, 2.5, "at once"),
    WorkerCancelled(6, 2.5, "b", 1, 1, 0.1),
    RunFinished(7, 2.5, {"failed": 1, "cancelled": 1}, 0, 2.5, interrupted=True),
]
FAILED = [*ALL[:2], RunFinished(2, 0.2, {"failed": 1}, 0, 0.2, interrupted=False)]


class FakeEngine:
    """Records its calls; runs nothing."""

    error: BaseException | None = None
    ends = True

    def __init__(self, *_parts: Any, stays_open: bool, log_level: int, threads: int, loop_thread: object) -> None:
        self.stays_open = stays_open
        self.log_level = log_level
        self.calls: list[Any] = []

    def start(self) -> None:
        """Record the start."""
        self.calls.append("start")

    def events(self) -> None:
        """Stand in for the queue."""

    def add_listener(self, _listener: object) -> None:
        """Drop the listener."""

    def statistics(self) -> None:
        """Stand in for the statistics."""

    def send_then(self, *_request: Any) -> None:
        """Do nothing."""

    def send(self, *commands: Command) -> None:
        """Record the commands."""
        self.calls.extend(commands)

    def join(self, timeout: float | None = None) -> bool:
        """Record how long the caller would wait."""
        self.calls.append(timeout)
        return self.ends

    def record_log(self, *record: str | None) -> None:
        """Record a line that a worker printed."""
        self.calls.append(record)


class Stage:
    """A session whose engine and headless run are fakes that show `events`."""

    def __init__(self) -> None:
        self.events: list[Event] = list(ALL)
        self.engines: list[FakeEngine] = []
        self.breaks: Exception | None = None

    def make_engine(self, *parts: Any, **options: Any) -> FakeEngine:
        """Stand in for `EngineThread`."""
        self.engines.append(FakeEngine(*parts, **options))
        return self.engines[-1]

    async def follow(
        self, controller: Any, *, on_batch: Callable[[list[Event]], None], fleet: Fleet, **_rest: Any
    ) -> Fleet:
        """Stand in for `run_headless`."""
        if self.breaks:
            raise self.breaks
        controller.events()
        on_batch(self.events)
        apply(fleet, self.events)
        return fleet

    def run(self, plan: Plan | None = None) -> int:
        """Return the exit status of a run."""
        return session.run_plan(plan or make_plan(demo_config()), is_json=False)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Return a session with fakes."""
    stage = Stage()
    monkeypatch.setattr(session, "EngineThread", stage.make_engine)
    monkeypatch.setattr(headless, "run_headless", stage.follow)
    return stage


@pytest.mark.parametrize(
    ("events", "status"), [(ALL, 0), (FAILED, 1), (INTERRUPTED, 130), (ALL[:2], 130), ([*ALL[:1], ALL[3]], 0)]
)
def test_exit_status_is_the_end_of_the_run(stage: Stage, events: list[Event], status: int) -> None:
    stage.events = events
    assert stage.run() == status


@pytest.mark.parametrize(("error", "status"), [(BrokenPipeError(), 141), (OSError("full"), 1)])
def test_exit_status_of_a_lost_stdout_says_whether_the_reader_left(stage: Stage, error: OSError, status: int) -> None:
    stage.breaks = StdoutError(error)
    assert stage.run() == status


def test_engine_is_started_stopped_and_waited_for(stage: Stage) -> None:
    plan = make_plan(demo_config(), overrides=Overrides())
    stage.run(plan)
    (engine,) = stage.engines
    assert not engine.stays_open
    assert engine.log_level == logging.INFO
    assert engine.calls == ["start", StopRun(), 2, 0]


def test_run_that_fails_is_reported_on_one_line_without_secrets(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FakeEngine, "error", OSError("no port\nhttp://u:secret@h"))
    assert stage.run() == 1
    assert capsys.readouterr().err == "asyncwatch: The run failed: OSError: no port\\nhttp://***@h\n"


def test_tree_that_gave_up_is_reported_by_its_own_message(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FakeEngine, "error", RestartLimitError("root", 3, 5, None))
    assert stage.run() == 1
    assert capsys.readouterr().err == "asyncwatch: root gave up: more than 3 restarts within 5 s\n"


TREE = [
    RunStarted(0, 0.0, "demo", 1, "serve", 7, 5, None, 0.0),
    SupervisorStarted(1, 0.0, "root", "", "one_for_one", 1, 5.0, "never"),
]


@pytest.mark.parametrize(("group", "status"), [("root", 0), ("batch", 1)])
def test_exit_status_of_services_shut_down_by_their_tree_is_0(stage: Stage, group: str, status: int) -> None:
    queued = WorkersQueued(2, 0.0, group, 1, ("a",))
    last = RunFinished(4, 0.2, {"cancelled": 1}, 1, 0.2, interrupted=False)
    stage.events = [*TREE, queued, WorkerCancelled(3, 0.1, "a", 1, 1, 0.1), last]
    assert stage.run() == status


def test_output_file_gets_every_batch(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    assert stage.run(make_plan(demo_config(), overrides=Overrides(output=str(path)))) == 0
    assert '"name":"a","state":"succeeded"' in path.read_text()


def test_output_file_with_unwritten_lines_is_reported_with_status_1(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(demo_config(), overrides=Overrides(output="/dev/full.csv"))

    class Full:
        problem = "cannot write output file 'x': No space left on device (1 line is not written)"
        write = close = begin = staticmethod(lambda *_batch: None)

    monkeypatch.setattr(output, "OutputFile", lambda _path, **_before: Full())
    assert stage.run(plan) == 1
    assert "No space left on device" in capsys.readouterr().err


def test_output_file_that_cannot_be_opened_starts_no_engine(stage: Stage, tmp_path: Path) -> None:
    plan = make_plan(demo_config(), overrides=Overrides(output=str(tmp_path / "none" / "out.csv")))
    with pytest.raises(session.OutputError, match="No such file or directory"):
        stage.run(plan)
    assert stage.engines == []


def test_blocked_thread_does_not_hold_up_the_exit(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []

    def leave(status: int) -> None:
        left.append(status)
        raise SystemExit(status)

    monkeypatch.setattr(FakeEngine, "ends", False)
    monkeypatch.setattr("os._exit", leave)
    with pytest.raises(SystemExit):
        stage.run()
    assert left == [0]


def test_exit_status_of_a_service_that_a_person_cancelled_is_1(stage: Stage) -> None:
    queued = WorkersQueued(2, 0.0, "root", 1, ("a",))
    last = RunFinished(5, 0.2, {"cancelled": 1}, 1, 0.2, interrupted=False)
    asked = CancelRequested(3, 0.1, "a", 1, "person")
    stage.events = [*TREE, queued, asked, WorkerCancelled(4, 0.1, "a", 1, 1, 0.1), last]
    assert stage.run() == 1


@pytest.mark.parametrize(
    ("events", "status"),
    [
        (INTERRUPTED, 0),
        (STOPPED, 0),
        ([*STOPPED[:3], replace(STOPPED[3], at=0.9), *STOPPED[4:]], 1),
        (STOPPED[:5], 130),
        (FAILED, 1),
        (ALL, 0),
    ],
    ids=["stopped", "failed by the signal", "failed before", "left before its end", "not stopped", "succeeded"],
)
def test_stop_that_is_no_failure_ends_with_0_unless_a_worker_failed(
    stage: Stage, events: list[Event], status: int
) -> None:
    stage.events = events
    assert stage.run(make_plan(demo_config(), overrides=Overrides(stop_ok=True))) == status
