"""A run and who watches it: exit statuses, the summary, the output file, and what happens when a part breaks."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncwatch.cli import headless, output, session
from asyncwatch.cli.headless import StdoutError
from asyncwatch.commands import Command, StopRun
from asyncwatch.config.load import demo_config
from asyncwatch.engine.tree.errors import RestartLimitError
from asyncwatch.events import (
    CancelRequested,
    Event,
    RunFinished,
    RunStarted,
    SupervisorStarted,
    WorkerCancelled,
    WorkersQueued,
    WorkerSucceeded,
)
from asyncwatch.model.reducer import Fleet
from asyncwatch.plan.plan import Overrides, Plan, make_plan
from asyncwatch.ui import app

ALL = [
    RunStarted(0, 0.0, "demo", 1, "gather", 7, 5, None, 0.0),
    WorkersQueued(1, 0.0, "", 1, ("a",)),
    WorkerSucceeded(2, 0.1, "a", 1, 1, 0.1, 200),
    RunFinished(3, 0.2, {"succeeded": 1}, 1, 0.2, interrupted=False),
]
INTERRUPTED = [*ALL[:2], RunFinished(2, 0.2, {"cancelled": 1}, 0, 0.2, interrupted=True)]
FAILED = [*ALL[:2], RunFinished(2, 0.2, {"failed": 1}, 0, 0.2, interrupted=False)]


class FakeEngine:
    """Takes what the real one takes; runs nothing."""

    error: BaseException | None = None
    ends = True

    def __init__(self, *_parts: Any, stays_open: bool, log_level: int) -> None:
        self.stays_open = stays_open
        self.log_level = log_level
        self.calls: list[Any] = []

    def start(self) -> None:
        """Note the start."""
        self.calls.append("start")

    def events(self) -> None:
        """Stand in for the queue."""

    def statistics(self) -> None:
        """Stand in for the figures."""

    def send(self, *commands: Command) -> None:
        """Note the commands."""
        self.calls.extend(commands)

    def join(self, timeout: float | None = None) -> bool:
        """Note for how long the caller would wait."""
        self.calls.append(timeout)
        return self.ends

    def record_log(self, *record: str | None) -> None:
        """Note a line that a worker printed."""
        self.calls.append(record)


class Stage:
    """A session whose engine and watchers are fakes that show `events`."""

    def __init__(self) -> None:
        self.events: list[Event] = list(ALL)
        self.engines: list[FakeEngine] = []
        self.breaks: Exception | None = None

    def make_engine(self, *parts: Any, **options: Any) -> FakeEngine:
        """Stand in for `Engine`."""
        self.engines.append(FakeEngine(*parts, **options))
        return self.engines[-1]

    def show(self, controller: Any, *, on_batch: Callable[[list[Event]], None], **_rest: Any) -> Fleet:
        """Stand in for `run_dashboard`."""
        if self.breaks:
            raise self.breaks
        controller.events()
        fleet = Fleet()
        on_batch(self.events)
        fleet.apply_batch(self.events)
        return fleet

    async def follow(self, controller: Any, **options: Any) -> Fleet:
        """Stand in for `run_headless`."""
        return self.show(controller, **options)

    def run(self, plan: Plan | None = None, *, is_dashboard: bool = False) -> int:
        """Return the exit status of a run."""
        plan = plan or make_plan(demo_config())
        return session.run_plan(plan, is_dashboard=is_dashboard, is_json=False)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Return a session with fakes."""
    stage = Stage()
    monkeypatch.setattr(session, "Engine", stage.make_engine)
    monkeypatch.setattr(headless, "run_headless", stage.follow)
    monkeypatch.setattr(app, "run_dashboard", stage.show)
    monkeypatch.setattr(session, "exclusive_terminal", lambda _on_line: contextlib.nullcontext())
    return stage


@pytest.mark.parametrize("is_dashboard", [False, True])
@pytest.mark.parametrize(
    ("events", "status"), [(ALL, 0), (FAILED, 1), (INTERRUPTED, 130), (ALL[:2], 130), ([*ALL[:1], ALL[3]], 0)]
)
def test_the_status_tells_how_the_run_ended(stage: Stage, events: list[Event], status: int, is_dashboard: bool) -> None:
    """0 for success of all, 1 if some did not succeed, 130 if it was interrupted or left before its end."""
    stage.events = events
    assert stage.run(is_dashboard=is_dashboard) == status


@pytest.mark.parametrize(("error", "status"), [(BrokenPipeError(), 141), (OSError("full"), 1)])
def test_a_lost_stdout_has_its_status(stage: Stage, error: OSError, status: int) -> None:
    """A reader that has enough is no interrupt, and a full disk is an error although the run was stopped for it."""
    stage.breaks = StdoutError(error)
    assert stage.run() == status


def test_the_engine_is_started_and_ended(stage: Stage) -> None:
    """The dashboard keeps the run open; whoever watched it to its end, the engine's thread gets a moment to end."""
    plan = make_plan(demo_config(), overrides=Overrides())
    stage.run(plan, is_dashboard=True)
    stage.run(plan)
    dashboard, follower = stage.engines
    assert (dashboard.stays_open, follower.stays_open) == (True, False)
    assert dashboard.log_level == logging.INFO
    assert dashboard.calls == follower.calls == ["start", StopRun(), 2, 0]


def test_the_summary_stays_after_the_dashboard(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """The normal screen has the counts once the dashboard has closed."""
    stage.run(is_dashboard=True)
    assert "1 succeeded" in capsys.readouterr().out


def test_a_broken_dashboard_is_told(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """The run is stopped, the message is one line, and the status is 1."""
    stage.breaks = app.DashboardError("it broke")
    assert stage.run(is_dashboard=True) == 1
    assert capsys.readouterr().err == "asyncwatch: it broke\n"
    assert stage.engines[0].calls == [StopRun(), None, 0]


def test_an_interrupt_ends_the_wait_for_workers_that_nobody_watches(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the dashboard broke they have their time to end; Ctrl+C leaves them none."""

    def join(engine: FakeEngine, timeout: float | None = None) -> bool:
        engine.calls.append(timeout)
        if timeout is None:
            raise KeyboardInterrupt
        return True

    stage.breaks = app.DashboardError("it broke")
    monkeypatch.setattr(FakeEngine, "join", join)
    assert stage.run(is_dashboard=True) == 1
    assert stage.engines[0].calls == [StopRun(), None, StopRun(at_once=True), 2, 0]


def test_a_broken_run_is_told_without_secrets(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error that ended the engine is told in one line with status 1."""
    monkeypatch.setattr(FakeEngine, "error", OSError("no port\nhttp://u:secret@h"))
    assert stage.run() == 1
    assert capsys.readouterr().err == "asyncwatch: the run broke: OSError: no port\\x0ahttp://***@h\n"


def test_a_tree_that_gave_up_is_told_as_what_it_is(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its message stands alone, with status 1 although every worker has succeeded."""
    monkeypatch.setattr(FakeEngine, "error", RestartLimitError("root", 3, 5, None))
    assert stage.run() == 1
    assert capsys.readouterr().err == "asyncwatch: root gave up: more than 3 restarts within 5 s\n"


TREE = [
    RunStarted(0, 0.0, "demo", 1, "serve", 7, 5, None, 0.0),
    SupervisorStarted(1, 0.0, "root", "", "one_for_one", 1, 5.0, "never"),
]


@pytest.mark.parametrize(("group", "status"), [("root", 0), ("batch", 1)])
def test_a_tree_that_ended_by_itself_is_no_failure(stage: Stage, group: str, status: int) -> None:
    """Services that were stopped as their tree shut down ended well; workers of a batch beside it did not."""
    queued = WorkersQueued(2, 0.0, group, 1, ("a",))
    last = RunFinished(4, 0.2, {"cancelled": 1}, 1, 0.2, interrupted=False)
    stage.events = [*TREE, queued, WorkerCancelled(3, 0.1, "a", 1, 1, 0.1), last]
    assert stage.run() == status


def test_the_output_file_gets_every_batch(stage: Stage, tmp_path: Path) -> None:
    """`--output` has a line for the worker that ended."""
    path = tmp_path / "out.jsonl"
    assert stage.run(make_plan(demo_config(), overrides=Overrides(output=str(path)))) == 0
    assert '"name":"a","state":"succeeded"' in path.read_text()


def test_lines_that_could_not_be_written_are_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk makes status 1 of a run in which all succeeded."""
    plan = make_plan(demo_config(), overrides=Overrides(output="/dev/full.csv"))

    class Full:
        problem = "cannot write output file 'x': No space left on device (1 line is not written)"
        write = close = staticmethod(lambda *_batch: None)

    monkeypatch.setattr(output, "OutputFile", lambda _path: Full())
    assert stage.run(plan) == 1
    assert "No space left on device" in capsys.readouterr().err


def test_an_output_file_that_cannot_be_opened_starts_nothing(stage: Stage, tmp_path: Path) -> None:
    """The engine is not even made."""
    plan = make_plan(demo_config(), overrides=Overrides(output=str(tmp_path / "none" / "out.csv")))
    with pytest.raises(session.OutputError, match="No such file or directory"):
        stage.run(plan)
    assert stage.engines == []


def test_a_blocked_thread_does_not_hold_up_the_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that blocks its thread would keep the interpreter alive; the process leaves with its status."""
    left: list[int] = []

    def leave(status: int) -> None:
        left.append(status)
        raise SystemExit(status)

    monkeypatch.setattr(FakeEngine, "ends", False)
    monkeypatch.setattr("os._exit", leave)
    with pytest.raises(SystemExit):
        stage.run()
    assert left == [0]


def test_the_streams_are_put_back(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prints of workers are caught while the dashboard is open, below what Textual does, and not after it."""
    before = sys.stdout, sys.stderr

    def show(controller: Any, *, on_batch: Callable[[list[Event]], None], **rest: Any) -> Fleet:
        outer = sys.stdout
        assert outer is not before[0]
        monkeypatch.setattr(sys, "stdout", object())
        controller.events()
        assert sys.stdout is outer
        return stage.show(controller, on_batch=on_batch)

    monkeypatch.setattr(app, "run_dashboard", show)
    stage.run(is_dashboard=True)
    assert (sys.stdout, sys.stderr) == before


def test_a_service_that_a_person_cancelled_did_not_succeed(stage: Stage) -> None:
    """A tree all of whose workers were cancelled by hand did not shut down by itself."""
    queued = WorkersQueued(2, 0.0, "root", 1, ("a",))
    last = RunFinished(5, 0.2, {"cancelled": 1}, 1, 0.2, interrupted=False)
    asked = CancelRequested(3, 0.1, "a", 1, "person")
    stage.events = [*TREE, queued, asked, WorkerCancelled(4, 0.1, "a", 1, 1, 0.1), last]
    assert stage.run() == 1
