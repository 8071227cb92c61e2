"""Restarts that wait, fail or are called off, and their effect on siblings and requests."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import pytest

from asyncwatch import (
    CircuitPolicy,
    PoolSpec,
    RestartBackoff,
    RetryPolicy,
    Supervisor,
    SupervisorSpec,
    WorkerSpec,
    WorkerState,
    ready,
)
from asyncwatch.commands import ChangeSetting, IsolateCircuit, RestartWorker
from asyncwatch.engine.run_control import control_of
from asyncwatch.engine.tree.mailbox import HANDLED_AT_ONCE
from asyncwatch.events import WorkerEnded
from asyncwatch.otp import Shutdown
from asyncwatch.policies.restart import RestartType
from asyncwatch.selftest.actors import Actor, calm, child, end, statuses
from tests.engine.fleets import AT_ONCE, drain, raiser, sleeper


async def _answers(supervisor: Supervisor, waiting: Actor, other: Actor) -> None:
    """Check that a sibling of a child with a waiting restart can be restarted and stopped."""
    assert statuses(supervisor) == {waiting.name: "restarting", other.name: "running"}
    await end(other, "abnormal")
    async with asyncio.timeout(1):
        if other.starts == 2:
            await supervisor.terminate_child(other.name)
            assert statuses(supervisor)[other.name] == "stopped"


@pytest.mark.parametrize("error", [ConnectionError("gone"), KeyError("k")])
def test_service_with_one_attempt_fails_by_any_error_and_with_retries_is_exhausted(run: Any, error: Exception) -> None:
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


@pytest.mark.parametrize(
    ("error", "base", "logged"),
    [
        (OSError("boom"), 0.0, ["ERROR a failed: OSError: boom"]),
        (OSError("boom"), 2.0, ["ERROR a failed: OSError: boom", "WARNING a: restart in "]),
        (Shutdown("done"), 0.0, ["WARNING a: restarted at once after Shutdown: done"]),
        (None, 0.0, ["WARNING a: restarted at once after it returned"]),
    ],
    ids=["failed", "failed and waits", "shut down", "returned"],
)
def test_restart_at_once_after_a_logged_failure_is_no_second_line_of_the_log(
    run: Any, caplog: pytest.LogCaptureFixture, error: Exception | None, base: float, logged: list[str]
) -> None:
    caplog.set_level(logging.INFO, "asyncwatch")

    async def main() -> None:
        target, args = (sleeper, (1.0,)) if error is None else (raiser, (error, 1.0))
        backoff = RestartBackoff(base=base)
        spec = WorkerSpec("a", target, args, restart="permanent", backoff=backoff)  # type: ignore[arg-type]  # they fit
        async with Supervisor([spec]):
            await asyncio.sleep(1.5)

    run(main)
    lines = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
    assert len(lines) == len(logged)
    assert all(line.startswith(start) for line, start in zip(lines, logged, strict=True))


def test_service_that_ended_is_restarted_in_the_call_that_reports_its_end(run: Any) -> None:
    """Its supervisor is idle, and has nothing to wait for: that takes one loop iteration less."""

    async def main() -> list[str]:
        log: list[str] = []

        def note(iterations: int) -> None:
            if iterations:
                asyncio.get_running_loop().call_soon(note, iterations - 1)
            else:
                log.append("two iterations after the end")

        async def target() -> None:
            log.append("start")
            if len(log) == 1:
                await asyncio.sleep(1.0)
                asyncio.get_running_loop().call_soon(note, 2)
                raise OSError("boom")
            await asyncio.sleep(1e6)

        async with Supervisor([WorkerSpec("a", target, restart="permanent")]):
            await asyncio.sleep(2.0)
        return log

    assert run(main) == ["start", "start", "two iterations after the end"]


def test_restarts_of_many_services_that_end_together_leave_the_loop_to_others(run: Any) -> None:
    count = 10 * HANDLED_AT_ONCE

    async def main() -> list[int]:
        turns: list[int] = []  # starts between two times that other code could run
        starts = 0

        def other_code() -> None:
            nonlocal starts
            turns.append(starts)
            starts = 0

        async def target() -> None:
            nonlocal starts
            starts += 1
            if starts == 1:
                asyncio.get_running_loop().call_soon(other_code)
            await asyncio.sleep(1.0)

        services = [WorkerSpec(str(number), target, restart="permanent") for number in range(count)]
        async with Supervisor(services, max_restarts=10 * count):
            turns.clear()
            await asyncio.sleep(2.5)
        return turns

    turns = run(main)
    assert sum(turns) == 2 * count
    assert max(turns) <= 2 * HANDLED_AT_ONCE


@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_stop_of_a_pool_child_whose_restart_has_just_failed_is_answered(run: Any, restart: RestartType) -> None:
    """The child is kept until the request is handled."""

    async def main() -> None:
        stopping: list[asyncio.Task[None]] = []
        calls = 0

        async def target() -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                await asyncio.sleep(1.0)
            else:  # the request begins after this has failed, and before its supervisor acts on that
                stop = partial(supervisor.terminate_child, "key", under="pool")
                asyncio.get_running_loop().call_soon(lambda: stopping.append(asyncio.create_task(stop())))
            raise OSError("boom")

        pool = PoolSpec("pool", WorkerSpec("template", target, restart=restart), max_restarts=10)
        async with Supervisor([pool]) as supervisor:
            await supervisor.start_child("key", under="pool")
            await asyncio.sleep(2.0)
            assert statuses(supervisor, "pool") == {}
            await stopping[0]
        assert calls == 2

    run(main)


def test_restart_in_a_paused_run_does_not_block_the_supervisor(run: Any) -> None:
    """It is made when the run goes on."""

    async def main() -> None:
        one, two = Actor("one"), Actor("two")
        async with Supervisor([child(one), child(two)], max_restarts=10) as supervisor:
            control_of(supervisor).carry_out(ChangeSetting("paused", value=True))
            await end(one, "abnormal")
            await end(two, "abnormal")
            assert statuses(supervisor) == {"one": "restarting", "two": "restarting"}
            async with asyncio.timeout(1):
                await supervisor.terminate_child("two")
            control_of(supervisor).carry_out(ChangeSetting("paused", value=False))
            await calm()
            assert statuses(supervisor) == {"one": "running", "two": "stopped"}
            assert (one.starts, two.starts) == (2, 1)

    run(main)


def test_restart_behind_an_open_circuit_does_not_block_the_supervisor(run: Any) -> None:
    async def main() -> None:
        one, two = Actor("one"), Actor("two")
        children = child(one, key="host"), child(two, key="other")
        async with Supervisor(children, max_restarts=10, circuit=CircuitPolicy()) as supervisor:
            control_of(supervisor).carry_out(IsolateCircuit("host"))
            await end(one, "abnormal")
            await _answers(supervisor, one, two)
            assert two.starts == 2

    run(main)


def test_restart_that_backs_off_between_retries_does_not_block_the_supervisor(run: Any) -> None:
    """The child is running once an attempt succeeds."""

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
def test_siblings_of_a_waiting_restart_start_in_order_after_it(run: Any, strategy: str) -> None:
    async def main() -> None:
        log: list[str] = []
        actors = [Actor(name, log) for name in "123"]
        async with Supervisor(map(child, actors), strategy=strategy) as supervisor:  # type: ignore[arg-type]  # a literal each
            control_of(supervisor).carry_out(ChangeSetting("paused", value=True))
            log.clear()
            await end(actors[0], "abnormal")
            assert log == ["-1", "-3", "-2"]
            control_of(supervisor).carry_out(ChangeSetting("paused", value=False))
            await calm()
            assert log[3:] == ["+1", "+2", "+3"]
            assert set(statuses(supervisor).values()) == {"running"}

    run(main)


def test_restart_of_a_supervisor_with_a_waiting_worker_does_not_block_the_one_above(run: Any) -> None:
    async def main() -> None:
        deep, other = Actor("deep"), Actor("other")
        low = SupervisorSpec("low", (child(deep),), max_restarts=0)
        async with Supervisor([low, child(other)], max_restarts=10) as supervisor:
            control_of(supervisor).carry_out(ChangeSetting("paused", value=True))
            await end(deep, "abnormal")
            assert statuses(supervisor) == {"low": "restarting", "other": "running"}
            async with asyncio.timeout(1):
                await supervisor.terminate_child("other")
            control_of(supervisor).carry_out(ChangeSetting("paused", value=False))
            await calm()
            assert statuses(supervisor, "low") == {"deep": "running"}
            assert statuses(supervisor)["low"] == "running"

    run(main)


def test_run_stops_at_once_while_a_restart_waits(run: Any) -> None:
    async def main() -> None:
        one = Actor("one")
        async with Supervisor([child(one), WorkerSpec("two", sleeper, (1e6,))], strategy="rest_for_one") as supervisor:
            control_of(supervisor).carry_out(ChangeSetting("paused", value=True))
            await end(one, "abnormal")
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 1
        assert supervisor.is_finished

    run(main)


def test_cancel_of_a_worker_that_stops_for_its_restart_stops_it_for_good(run: Any) -> None:
    async def main() -> None:
        actor = Actor("worker", lingers=2.0)
        async with Supervisor([child(actor, shutdown=5)]) as supervisor:
            supervisor.restart("worker")
            await calm()
            supervisor.cancel("worker")
            await asyncio.sleep(10)
            assert (statuses(supervisor), actor.starts) == ({"worker": "stopped"}, 1)

    run(main)


def test_cancel_of_a_worker_that_stops_for_a_sibling_stops_it_for_good(run: Any) -> None:
    async def main() -> None:
        one, two = Actor("one"), Actor("two", lingers=2.0)
        async with Supervisor([child(one), child(two, shutdown=5)], strategy="one_for_all") as supervisor:
            await end(one, "abnormal")
            supervisor.cancel("two")
            await asyncio.sleep(10)
            assert (statuses(supervisor), two.starts) == ({"one": "running", "two": "stopped"}, 1)

    run(main)


def test_restart_of_a_worker_that_is_being_stopped_for_good_is_refused(run: Any) -> None:
    async def main() -> None:
        one, two = Actor("one", lingers=2.0), Actor("two", lingers=2.0)
        async with Supervisor([child(one, shutdown=5), child(two, shutdown=5)]) as supervisor:
            supervisor.cancel("one")
            await calm()
            assert not control_of(supervisor).carry_out(RestartWorker("one", 1))
            terminating = asyncio.create_task(supervisor.terminate_child("two"))
            await calm()
            assert not control_of(supervisor).carry_out(RestartWorker("two", 1))
            await terminating
            assert statuses(supervisor) == {"one": "stopped", "two": "stopped"}
            await supervisor.restart_child("one")
            supervisor.restart("one")
            await asyncio.sleep(10)
            assert (one.starts, two.starts) == (3, 1)

    run(main)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_siblings_start_again_when_a_child_reaches_its_own_limit(run: Any, strategy: str) -> None:
    async def main() -> None:
        flapping, steady = Actor("flapping", fails=[None, *[OSError("no")] * 100]), Actor("steady")
        children = child(flapping, max_restarts=2, within=100.0), child(steady)
        async with Supervisor(children, strategy=strategy) as supervisor:  # type: ignore[arg-type]  # a literal each
            await end(flapping, "abnormal")
            assert statuses(supervisor) == {"flapping": "stopped", "steady": "running"}
            assert steady.starts == 2

    run(main)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_siblings_start_again_when_a_waiting_restart_is_called_off(run: Any, strategy: str) -> None:
    """The child backs off, or waits for its first attempt."""

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
            control_of(supervisor).carry_out(ChangeSetting("paused", value=True))
            supervisor.restart("one")
            await calm()
            control_of(supervisor).carry_out(ChangeSetting("paused", value=False))
            await calm()
            assert statuses(supervisor)["two"] == "running"

    run(main)


def test_child_whose_restart_a_failed_sibling_prevented_is_stopped(run: Any) -> None:
    """It can be started on request once the sibling is stopped."""

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


def test_siblings_start_after_an_interrupted_start(run: Any) -> None:
    """A start that is interrupted has not failed."""

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
