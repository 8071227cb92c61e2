"""Restarts that wait, fail or are called off: what becomes of the child, of its siblings, and of requests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import (
    CircuitPolicy,
    RestartBackoff,
    RetryPolicy,
    Supervisor,
    SupervisorSpec,
    WorkerSpec,
    WorkerState,
    ready,
)
from asyncwatch.commands import ChangeSetting, IsolateCircuit
from asyncwatch.events import WorkerEnded
from asyncwatch.selftest.actors import Actor, calm, child, end, statuses
from tests.engine.fleets import AT_ONCE, drain, raiser, sleeper


async def _answers(supervisor: Supervisor, waiting: Actor, other: Actor) -> None:
    """Check that a sibling of a child whose restart waits is restarted, and can be stopped."""
    assert statuses(supervisor) == {waiting.name: "restarting", other.name: "running"}
    await end(other, "abnormal")
    async with asyncio.timeout(1):
        if other.starts == 2:
            await supervisor.terminate_child(other.name)
            assert statuses(supervisor)[other.name] == "stopped"


@pytest.mark.parametrize("error", [ConnectionError("gone"), KeyError("k")])
def test_a_service_of_one_attempt_fails_whatever_its_error(run: Any, error: Exception) -> None:
    """That an error is transient says nothing where there is no retry; one with retries is exhausted by them."""

    async def main() -> None:
        specs = [
            WorkerSpec("single", raiser, (error, 1.0), restart="permanent"),
            WorkerSpec("retrying", raiser, (error, 1.0), restart="permanent", retry=AT_ONCE),
        ]
        async with Supervisor(specs, max_restarts=100) as supervisor:
            queue = supervisor.subscribe()
            await asyncio.sleep(3.5)
            ends = {(event.worker, event.state) for event in drain(queue) if isinstance(event, WorkerEnded)}
        is_transient = isinstance(error, ConnectionError)
        retrying = WorkerState.EXHAUSTED if is_transient else WorkerState.FAILED
        assert ends == {("single", WorkerState.FAILED), ("retrying", retrying)}

    run(main)


def test_restart_in_a_paused_run_waits_without_blocking(run: Any) -> None:
    """While no attempt may start, a supervisor answers; what was to be restarted is when the run goes on."""

    async def main() -> None:
        one, two = Actor("one"), Actor("two")
        async with Supervisor([child(one), child(two)], max_restarts=10) as supervisor:
            supervisor.carry_out(ChangeSetting("paused", value=True))
            await end(one, "abnormal")
            await end(two, "abnormal")
            assert statuses(supervisor) == {"one": "restarting", "two": "restarting"}
            async with asyncio.timeout(1):
                await supervisor.terminate_child("two")
            supervisor.carry_out(ChangeSetting("paused", value=False))
            await calm()
            assert statuses(supervisor) == {"one": "running", "two": "stopped"}
            assert (one.starts, two.starts) == (2, 1)

    run(main)


def test_restart_behind_an_open_circuit_waits_without_blocking(run: Any) -> None:
    """A child whose circuit is open holds up nobody but itself."""

    async def main() -> None:
        one, two = Actor("one"), Actor("two")
        children = child(one, key="host"), child(two, key="other")
        async with Supervisor(children, max_restarts=10, circuit=CircuitPolicy()) as supervisor:
            supervisor.carry_out(IsolateCircuit("host"))
            await end(one, "abnormal")
            await _answers(supervisor, one, two)
            assert two.starts == 2

    run(main)


def test_restart_that_backs_off_by_its_own_retries_waits_without_blocking(run: Any) -> None:
    """A child with a retry policy of its own holds up nobody while it backs off, and runs when an attempt succeeds."""

    async def main() -> None:
        one, two = Actor("one", fails=[None, *[ConnectionError("no")] * 3]), Actor("two")
        policy = RetryPolicy(max_attempts=10, base=20.0, cap=60.0)
        async with Supervisor([child(one, retry=policy), child(two)], max_restarts=10) as supervisor:
            await end(one, "abnormal")
            await _answers(supervisor, one, two)
            await asyncio.sleep(1000)
            assert statuses(supervisor)["one"] == "running"
            assert supervisor.which_children()[0].incarnation == 2

    run(main)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_siblings_follow_when_the_wait_is_over(run: Any, strategy: str) -> None:
    """Siblings that a restart stopped start in order when the one that has to wait is ready."""

    async def main() -> None:
        log: list[str] = []
        actors = [Actor(name, log) for name in "123"]
        async with Supervisor(map(child, actors), strategy=strategy) as supervisor:  # type: ignore[arg-type]  # a literal each
            supervisor.carry_out(ChangeSetting("paused", value=True))
            log.clear()
            await end(actors[0], "abnormal")
            assert log == ["-1", "-3", "-2"]
            supervisor.carry_out(ChangeSetting("paused", value=False))
            await calm()
            assert log[3:] == ["+1", "+2", "+3"]
            assert set(statuses(supervisor).values()) == {"running"}

    run(main)


def test_restart_of_a_supervisor_whose_worker_has_to_wait_does_not_block_the_one_above(run: Any) -> None:
    """A wait deep in the tree holds up the supervisors on the way down, and no others."""

    async def main() -> None:
        deep, other = Actor("deep"), Actor("other")
        low = SupervisorSpec("low", (child(deep),), max_restarts=0)
        async with Supervisor([low, child(other)], max_restarts=10) as supervisor:
            supervisor.carry_out(ChangeSetting("paused", value=True))
            await end(deep, "abnormal")
            assert statuses(supervisor) == {"low": "restarting", "other": "running"}
            async with asyncio.timeout(1):
                await supervisor.terminate_child("other")
            supervisor.carry_out(ChangeSetting("paused", value=False))
            await calm()
            assert statuses(supervisor, "low") == {"deep": "running"}
            assert statuses(supervisor)["low"] == "running"

    run(main)


def test_run_stops_while_a_restart_waits(run: Any) -> None:
    """Leaving the run while a child waits for its first attempt ends it at once."""

    async def main() -> None:
        one = Actor("one")
        async with Supervisor([child(one), WorkerSpec("two", sleeper, (1e6,))], strategy="rest_for_one") as supervisor:
            supervisor.carry_out(ChangeSetting("paused", value=True))
            await end(one, "abnormal")
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 1
        assert supervisor.is_finished

    run(main)


def test_cancel_wins_over_a_restart_that_is_stopping_the_worker(run: Any) -> None:
    """A cancel while a worker is stopped for its restart stops it for good; it is not started once more."""

    async def main() -> None:
        actor = Actor("worker", lingers=2.0)
        async with Supervisor([child(actor, shutdown=5)]) as supervisor:
            assert supervisor.restart("worker")
            await calm()
            assert supervisor.cancel("worker")
            await asyncio.sleep(10)
            assert (statuses(supervisor), actor.starts) == ({"worker": "stopped"}, 1)

    run(main)


def test_cancel_wins_over_the_restart_of_a_sibling(run: Any) -> None:
    """A worker that is cancelled while a sibling's restart stops it stays down; the sibling is restarted."""

    async def main() -> None:
        one, two = Actor("one"), Actor("two", lingers=2.0)
        async with Supervisor([child(one), child(two, shutdown=5)], strategy="one_for_all") as supervisor:
            await end(one, "abnormal")
            assert supervisor.cancel("two")
            await asyncio.sleep(10)
            assert (statuses(supervisor), two.starts) == ({"one": "running", "two": "stopped"}, 1)

    run(main)


def test_restart_of_a_worker_that_is_being_stopped_for_good_is_refused(run: Any) -> None:
    """No restart comes between a cancel, or a request to terminate, and the end; it is refused, visibly."""

    async def main() -> None:
        one, two = Actor("one", lingers=2.0), Actor("two", lingers=2.0)
        async with Supervisor([child(one, shutdown=5), child(two, shutdown=5)]) as supervisor:
            assert supervisor.cancel("one")
            await calm()
            assert not supervisor.restart("one")
            terminating = asyncio.create_task(supervisor.terminate_child("two"))
            await calm()
            assert not supervisor.restart("two")
            await terminating
            assert statuses(supervisor) == {"one": "stopped", "two": "stopped"}
            await supervisor.restart_child("one")
            assert supervisor.restart("one")
            await asyncio.sleep(10)
            assert (one.starts, two.starts) == (3, 1)

    run(main)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_siblings_come_back_when_a_child_reaches_its_own_limit(run: Any, strategy: str) -> None:
    """A limit of its own that does not escalate leaves its child down, and nobody else."""

    async def main() -> None:
        flapping, steady = Actor("flapping", fails=[None, *[OSError("no")] * 100]), Actor("steady")
        children = child(flapping, max_restarts=2, within=100.0), child(steady)
        async with Supervisor(children, strategy=strategy) as supervisor:  # type: ignore[arg-type]  # a literal each
            await end(flapping, "abnormal")
            assert statuses(supervisor) == {"flapping": "stopped", "steady": "running"}
            assert steady.starts == 2

    run(main)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_siblings_come_back_when_the_wait_is_called_off(run: Any, strategy: str) -> None:
    """Who stops a child that backs off, or has to wait for its first attempt, does not stop its siblings."""

    async def main() -> None:
        one, two, gone = Actor("one"), Actor("two"), Actor("gone")
        backoff = RestartBackoff(base=10.0, cap=10.0)
        children = child(one, backoff=backoff), child(two), child(gone)
        async with Supervisor(children, strategy=strategy, max_restarts=5) as supervisor:  # type: ignore[arg-type]  # a literal each
            await supervisor.terminate_child("gone")
            await end(one, "abnormal")
            assert statuses(supervisor)["two"] == "stopped"
            await supervisor.terminate_child("one")
            assert statuses(supervisor) == {"one": "stopped", "two": "running", "gone": "stopped"}
            await supervisor.restart_child("one")
            supervisor.carry_out(ChangeSetting("paused", value=True))
            assert supervisor.restart("one")
            await calm()
            supervisor.carry_out(ChangeSetting("paused", value=False))
            await calm()
            assert statuses(supervisor)["two"] == "running"

    run(main)


def test_originator_is_stopped_when_the_restart_fails_before_it_comes_to_it(run: Any) -> None:
    """Who ended first can be started by request when another child failed to start and was stopped by request."""

    async def main() -> None:
        one, two = Actor("one", fails=[None, *[OSError("no")] * 100]), Actor("two")
        async with Supervisor([child(one), child(two)], strategy="one_for_all", max_restarts=50) as supervisor:
            two.ends("abnormal")
            await calm(7)
            await supervisor.terminate_child("one")
            await calm()
            assert statuses(supervisor) == {"one": "stopped", "two": "stopped"}
            await supervisor.restart_child("two")

    run(main)


def test_siblings_go_on_when_a_start_that_hangs_is_called_off(run: Any) -> None:
    """A start that is called off has not failed: those that come after it in the restart are started."""

    async def main() -> None:
        starts = 0

        async def hanging() -> None:
            nonlocal starts
            starts += 1
            if starts == 1:
                await ready()
            await asyncio.sleep(1e6)

        two = Actor("two")
        one = WorkerSpec("one", hanging, restart="permanent", announces_ready=True)
        async with Supervisor([one, child(two)], strategy="one_for_all") as supervisor:
            await end(two, "abnormal")
            await supervisor.terminate_child("one")
            await calm()
            assert statuses(supervisor) == {"one": "stopped", "two": "running"}
            await supervisor.delete_child("one")

    run(main)
