"""When a run is healthy, and when it is ready."""

from __future__ import annotations

from typing import Any

import pytest

from asyncwatch.commands import Statistics
from asyncwatch.events import (
    LoopBlocked,
    RestartLimitReached,
    RunCancelRequested,
    RunFinished,
    RunStarted,
    SupervisorStarted,
    SupervisorTerminated,
    WorkerReady,
    WorkersQueued,
)
from asyncwatch.metrics.health import Health
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.policies.restart import DEFAULT_FLAPPING
from tests.model.stream import Stream
from tests.model.test_flapping import Services

CALM = Statistics()


def test_batch_is_ready_from_its_start_to_its_end() -> None:
    fleet = Fleet()
    health = Health(fleet)
    assert health.why_not_ready(CALM, 0.0) == "the run has not started yet"
    assert health.why_unhealthy(CALM) == ""
    stream = Stream("a")
    stream.fold(fleet)
    assert health.why_not_ready(CALM, 1.0) == ""
    stream.add(RunFinished, states={}, attempts=0, elapsed=1.0, interrupted=False)
    stream.fold(fleet)
    assert health.why_not_ready(CALM, 1.0) == health.why_unhealthy(CALM) == "the run has ended"


class Tree:
    """Two services that start one after the other."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.seq = 1
        apply(self.fleet, [RunStarted(0, 0.0, "shop", 2, "serve", 7, 10, None, 0.0, flapping=DEFAULT_FLAPPING)])
        self.add(SupervisorStarted, "root", "", "one_for_one", 1, 5.0, "never")

    def add(self, kind: Any, *facts: Any) -> None:
        apply(self.fleet, [kind(self.seq, 0.0, *facts)])
        self.seq += 1

    def queue(self, name: str) -> None:
        self.add(WorkersQueued, "root", 1, (name,))


def test_tree_is_ready_when_its_last_service_is() -> None:
    tree = Tree()
    health = Health(tree.fleet)
    assert health.why_not_ready(CALM, 0.0) == "2 services have not started yet"
    tree.queue("a")
    assert health.why_not_ready(CALM, 0.0) == "2 services have not started yet"
    tree.add(WorkerReady, "a", 1)
    assert health.why_not_ready(CALM, 0.0) == "1 service has not started yet"
    tree.queue("b")
    assert health.why_not_ready(CALM, 0.0) == "1 service has not started yet"
    assert health.why_unhealthy(CALM) == ""
    tree.add(WorkerReady, "b", 1)
    assert health.why_not_ready(CALM, 0.0) == ""
    # A child of a pool that joins later changes nothing.
    tree.queue("c")
    assert health.why_not_ready(CALM, 0.0) == ""


def test_tree_that_stops_is_not_ready_and_still_healthy() -> None:
    tree = Tree()
    tree.add(RunCancelRequested, "person")
    assert Health(tree.fleet).why_not_ready(CALM, 0.0) == "the run is stopping"
    assert Health(tree.fleet).why_unhealthy(CALM) == ""


def test_tree_that_gave_up_is_neither() -> None:
    tree = Tree()
    tree.add(RestartLimitReached, "root", 1, 5.0)
    tree.add(SupervisorTerminated, "root", "restart limit")
    health = Health(tree.fleet)
    reason = "no service runs any more: the restart limit was reached"
    assert health.why_not_ready(CALM, 0.0) == health.why_unhealthy(CALM) == reason


def test_services_that_flap_are_not_ready_until_they_do_not() -> None:
    services = Services()
    health = Health(services.fleet)
    assert health.why_not_ready(CALM, 0.0) == ""
    for at in (1.0, 2.0, 3.0):
        services.crash("web", at)
    assert health.why_not_ready(CALM, 4.0) == "1 service flaps"
    for at in (4.0, 5.0, 6.0):
        services.crash("db", at)
    assert health.why_not_ready(CALM, 7.0) == "2 services flap"
    assert health.why_unhealthy(CALM) == ""
    assert health.why_not_ready(CALM, 10_000.0) == ""


@pytest.mark.parametrize(("seconds", "reason"), [(29.0, ""), (31.4, "the event loop has been blocked for 31 s")])
def test_run_whose_loop_is_blocked_for_long_is_unhealthy(seconds: float, reason: str) -> None:
    fleet = Stream("secret-worker").fold()
    block = LoopBlocked(-1, 40.0, 9.0, seconds, "worker", "secret-worker", 1, 1)
    statistics = Statistics(blocked=block)
    assert Health(fleet).why_unhealthy(statistics) == Health(fleet).why_not_ready(statistics, 40.0) == reason
