"""The main thread of the engine's process: it sees signals and clients however many batches wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncwatch.cli import engine as module
from asyncwatch.cli.engine import EngineHost
from asyncwatch.cli.headless import run_headless
from asyncwatch.cli.reports import ReportFiles
from asyncwatch.cli.session import Session
from asyncwatch.cli.stray import EVERY
from asyncwatch.commands import Command, Disconnected, Statistics, StopRun, Update
from asyncwatch.config.schema import Config
from asyncwatch.control.client import Connection
from asyncwatch.control.discovery import DiscoveryError
from asyncwatch.control.protocol import Ended, Kind
from asyncwatch.events import Batch, LogRecorded, RunFinished, RunStarted
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.plan.keys import WorkerKeys
from tests.clock import run_jumping

BATCHES = 100


class FakeEngine:
    """An engine whose batches have all come."""

    error = None
    is_at_rest = False

    def __init__(self) -> None:
        self.on_command: Callable[[Command], None] = lambda _command: None

    def events(self) -> asyncio.Queue[Batch]:
        queue: asyncio.Queue[Batch] = asyncio.Queue()
        for number in range(BATCHES):
            queue.put_nowait((LogRecorded(number, 0.0, None, "INFO", "test", "line"),))
        queue.put_nowait((RunFinished(BATCHES, 0.0, {}, 0, 0.0, interrupted=True),))
        return queue

    def send(self, *commands: Command) -> None:
        for command in commands:
            self.on_command(command)

    def send_then(self, *_args: Any) -> None: ...

    def start(self) -> None: ...

    def join(self, timeout: float | None = None) -> bool:
        return True

    def statistics(self) -> Statistics:
        return Statistics()


class FakePlan:
    """A plan of nothing."""

    name = "demo"
    config = Config()
    resumption = None
    groups = ()


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (ZeroDivisionError("odd"), "the run cannot be followed: ZeroDivisionError: odd; its traceback is in "),
        (RuntimeError("can't start new thread"), "the run cannot be followed: the system starts no more threads"),
    ],
)
def test_error_of_the_process_is_reported_to_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, problem: str
) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module, "foreseen_events", lambda _plan: ())

    def start() -> None:
        raise error

    engine: Any = FakeEngine()
    engine.start = start
    plan: Any = FakePlan()
    stray: Any = None
    ours, theirs = socket.socketpair()
    with contextlib.closing(Connection(ours, Kind.COMMAND)) as command:
        host = EngineHost(Session(plan, engine, None, WorkerKeys(plan)), stray)
        status = asyncio.run(host.serve([(theirs, Kind.COMMAND)], []))
        while not isinstance(ended := command.receive(5.0), Ended):
            assert ended is not None
    assert (status, ended.status) == (1, 1)
    assert ended.problems[0].startswith(problem)
    for trace in tmp_path.glob("asyncwatch-engine-*.txt"):
        assert "ZeroDivisionError: odd" in trace.read_text()


def test_signal_is_seen_between_two_batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(module, "foreseen_events", lambda _plan: ())
    seen, stopped_after = 0, 0

    def count(fleet: Fleet, batch: Batch) -> None:
        nonlocal seen
        seen += 1
        apply(fleet, batch)
        if seen == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    def stop(command: Command) -> None:
        nonlocal stopped_after
        if command == StopRun() and not stopped_after:
            stopped_after = seen

    monkeypatch.setattr(module, "apply", count)
    engine: Any = FakeEngine()
    plan: Any = FakePlan()
    stray: Any = None
    host = EngineHost(Session(plan, engine, None, WorkerKeys(plan)), stray)
    monkeypatch.setattr(host._server, "is_detached", True)
    engine.on_command = stop
    handler = signal.getsignal(signal.SIGTERM)
    try:
        asyncio.run(host.serve((), []))
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert seen == BATCHES + 1
    assert 3 <= stopped_after < 10
    assert host._server.is_stopping


@pytest.fixture
def _unpublished(monkeypatch: pytest.MonkeyPatch) -> None:
    """No run has a socket."""

    def publish(*_args: object, **_options: object) -> None:
        raise DiscoveryError("no folder")

    monkeypatch.setattr("asyncwatch.control.discovery.publish", publish)


class FakeOutput:
    """Stray output, of which nothing comes."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, _record: object) -> bool:
        self.reads += 1
        return False


@pytest.mark.usefixtures("_unpublished")
def test_stray_output_is_looked_at_seldom_until_something_happens() -> None:
    async def main() -> None:
        engine: Any = FakeEngine()
        engine.record_log = None
        plan: Any = FakePlan()
        stray: Any = FakeOutput()
        host = EngineHost(Session(plan, engine, None, WorkerKeys(plan)), stray)
        started = RunStarted(0, 0.0, "run", 1, "gather", 0, 1, None, 0.0)
        host._receive((started,))
        host._read_later(EVERY)
        await asyncio.sleep(10.0)
        assert 18 <= stray.reads <= 22
        host._receive((LogRecorded(1, 0.0, None, "INFO", "test", "line"),))
        before = stray.reads
        await asyncio.sleep(EVERY * 1.01)
        assert stray.reads == before + 1

    run_jumping(main)


@pytest.mark.usefixtures("_unpublished")
@pytest.mark.parametrize("looks_at_rest", [0, 3])
def test_end_is_looked_for_after_events_until_the_runner_has_returned(looks_at_rest: int) -> None:
    class Returning(FakeEngine):
        looks = 0

        @property
        def is_at_rest(self) -> bool:  # type: ignore[override]  # it changes
            self.looks += 1
            return self.looks > 2 * looks_at_rest

    async def main() -> None:
        engine: Any = Returning()
        sent: list[Command] = []
        engine.on_command = sent.append
        plan: Any = FakePlan()
        stray: Any = FakeOutput()
        host = EngineHost(Session(plan, engine, None, WorkerKeys(plan)), stray)
        host._server.is_detached = True
        await asyncio.sleep(10.0)
        assert not engine.looks
        host._receive((LogRecorded(0, 0.0, None, "INFO", "test", "line"),))
        await asyncio.sleep(10.0)
        assert sent == [StopRun()]

    run_jumping(main)


async def test_lost_run_of_which_nothing_is_known_has_no_summary() -> None:
    class Lost:
        """A run that cannot be reached any more."""

        def events(self) -> asyncio.Queue[Update]:
            queue: asyncio.Queue[Update] = asyncio.Queue()
            queue.put_nowait(Disconnected("it has ended"))
            return queue

        def send(self, *_commands: Command) -> None:
            """Do nothing."""

        def statistics(self) -> Statistics:
            return Statistics()

    stdout, stderr = io.BytesIO(), io.StringIO()
    fleet = await run_headless(Lost(), json=False, stdout=stdout, stderr=stderr)
    assert fleet.run is None
    assert (stdout.getvalue(), stderr.getvalue()) == (b"", "")


def test_files_of_the_end_are_written_before_clients_hear_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(module, "foreseen_events", lambda _plan: ())
    (tmp_path / "gone").mkdir()
    reports = ReportFiles(str(tmp_path / "summary.json"), str(tmp_path / "gone" / "junit.xml"))
    (tmp_path / "gone").rmdir()
    engine: Any = FakeEngine()
    plan: Any = FakePlan()
    stray: Any = None
    ours, theirs = socket.socketpair()
    with contextlib.closing(Connection(ours, Kind.COMMAND)) as command:
        host = EngineHost(Session(plan, engine, None, WorkerKeys(plan), reports=reports), stray)
        status = asyncio.run(host.serve([(theirs, Kind.COMMAND)], []))
        while not isinstance(ended := command.receive(5.0), Ended):
            assert ended is not None
    assert (status, ended.status) == (130, 130)
    assert [problem.partition(" '")[0] for problem in ended.problems] == ["cannot write JUnit file"]
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == 130
