"""Events of a small tree: a restarted service, a poller, siblings that restart together, workers that wait."""

from __future__ import annotations

from asyncwatch.events import (
    AttemptHeld,
    AttemptStarted,
    CircuitOpened,
    PollFinished,
    RestartCounted,
    RestartScheduled,
    RunStarted,
    SupervisorStarted,
    WorkerReady,
    WorkersQueued,
)
from tests.ui.fakes import FakeController


def supervise(
    controller: FakeController, path: str, strategy: str = "one_for_one", max_restarts: int = 3, incarnation: int = 1
) -> None:
    """Start a supervisor."""
    controller.emit(
        SupervisorStarted,
        0.0,
        name=path,
        parent=path.rpartition("/")[0],
        strategy=strategy,
        max_restarts=max_restarts,
        within=30.0,
        auto_shutdown="never",
        incarnation=incarnation,
    )


def run(controller: FakeController, group: str, *names: str, ready: bool = True, max_attempts: int = 3) -> None:
    """Queue and start workers of a supervisor."""
    controller.emit(WorkersQueued, 0.0, group=group, max_attempts=max_attempts, workers=names)
    for name in names:
        controller.attempt(name, 0.1)
        if ready:
            controller.emit(WorkerReady, 0.1, worker=name, incarnation=1)


def hold(controller: FakeController, name: str, at: float, key: str = "example.org", reason: str = "circuit") -> None:
    """Let an attempt of a worker be held."""
    controller.emit(AttemptHeld, at, worker=name, incarnation=1, attempt=2, key=key, reason=reason)


def _start(controller: FakeController, workers: int) -> None:
    controller.emit(
        RunStarted,
        0.0,
        run="shop",
        workers=workers,
        runner="serve",
        seed=7,
        concurrency=100,
        timeout=None,
        started_at=0.0,
    )


def service_run(controller: FakeController) -> None:
    """Tell of two services that are never retried."""
    _start(controller, 2)
    supervise(controller, "root")
    run(controller, "root", "web", "mail", max_attempts=1)


def tree_run(controller: FakeController) -> None:
    """Tell of ten workers below four supervisors, up to ten seconds after the start."""
    _start(controller, 10)
    supervise(controller, "root")
    supervise(controller, "root/stream", "one_for_all")
    run(controller, "root/stream", "stream/db", "stream/cache", "stream/api")
    supervise(controller, "root/ingest", "rest_for_one")
    run(controller, "root/ingest", "ingest/reader")
    run(controller, "root/ingest", "ingest/parser")
    run(controller, "root/ingest", "ingest/writer", ready=False)
    run(controller, "root", "prices")
    supervise(controller, "root/urls")
    run(controller, "root/urls", "urls/a", "urls/b", "urls/c")
    controller.emit(PollFinished, 4.0, worker="prices", incarnation=1, result=1.5, elapsed=0.05, delay=30.0)
    controller.emit(
        RestartCounted, 5.0, supervisor="root/ingest", child="parser", restarts=1, max_restarts=3, within=30.0
    )
    controller.fail("ingest/parser", 9.0)
    controller.break_down("ingest/parser", 9.0, error="ConnectionResetError", text="the stream closed")
    controller.emit(
        RestartCounted, 9.0, supervisor="root/ingest", child="parser", restarts=2, max_restarts=3, within=30.0
    )
    controller.emit(
        RestartScheduled,
        9.0,
        worker="ingest/parser",
        incarnation=1,
        delay=4.5,
        cause="ConnectionResetError: the stream closed",
    )
    controller.fail("urls/a", 9.5)
    controller.back_off("urls/a", 9.5, delay=2.0)
    controller.fail("urls/b", 9.6)
    controller.emit(CircuitOpened, 9.6, key="example.org", attempts=20, failures=12, seconds=5.0)
    hold(controller, "urls/b", 10.0)


def loop_run(controller: FakeController) -> None:
    """Tell of a service that is up, and of one that crashes every two seconds, up to ten seconds after the start."""
    _start(controller, 2)
    supervise(controller, "root", max_restarts=99)
    run(controller, "root", "web", "mail", max_attempts=1)
    for incarnation, at in enumerate((2.0, 4.0, 6.0, 8.0), start=1):
        crashed = {"worker": "mail", "incarnation": incarnation}
        controller.emit(RestartScheduled, at, delay=0.0, cause="OSError: the queue is gone", **crashed)
        controller.restart("mail", at, incarnation + 1)
        controller.emit(AttemptStarted, at, worker="mail", incarnation=incarnation + 1, attempt=1, bad_luck=0.5)
        controller.emit(WorkerReady, at, worker="mail", incarnation=incarnation + 1)
