"""Supervision trees beyond OTP: backoff, restart limits of single children, pollers and commands of a person."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from asyncwatch import (
    PoolSpec,
    RestartBackoff,
    Supervisor,
    SupervisorSpec,
    WorkerSpec,
    WorkerState,
    current_worker,
    ready,
)
from asyncwatch.commands import CancelAll, CancelWorker, RestartWorker, StopRun
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import (
    AttemptStarted,
    CommandRefused,
    PollFinished,
    RestartLimitReached,
    RestartScheduled,
    RunFinished,
    SupervisorStarted,
    SupervisorTerminated,
    WorkersQueued,
)
from asyncwatch.events.story import story
from asyncwatch.otp import NoSuchSupervisor, RestartLimitError, StartError
from asyncwatch.selftest.actors import Actor, calm, child, end, statuses
from tests.engine.fleets import drain, raiser, sleeper, stubborn


def test_restart_backoff_grows_up_to_its_cap_and_is_reset_when_stable(run: Any) -> None:
    async def main() -> None:
        actor = Actor("flapping")
        backoff = RestartBackoff(base=1.0, cap=4.0, stable_after=50.0)
        async with Supervisor([child(actor, backoff=backoff)], max_restarts=100, within=3600, seed=1) as supervisor:
            queue = supervisor.subscribe()
            for wait in (1, 1, 1, 1, 60):
                await asyncio.sleep(wait)
                await end(actor, "abnormal")
                assert statuses(supervisor) == {"flapping": "restarting"}
                await asyncio.sleep(4)
        delays = [event.delay for event in drain(queue) if isinstance(event, RestartScheduled)]
        caps = [1, 2, 4, 4, 1]
        assert [cap / 2 <= delay < cap for delay, cap in zip(delays, caps, strict=True)] == [True] * 5

    run(main)


def test_child_at_its_own_restart_limit_stays_down_alone(run: Any) -> None:
    async def main() -> None:
        flapping, steady = Actor("flapping"), Actor("steady")
        children = child(flapping, max_restarts=2, within=10), child(steady)
        async with Supervisor(children, max_restarts=0, within=10) as supervisor:
            queue = supervisor.subscribe()
            for _ in range(3):
                await end(flapping, "abnormal")
            assert statuses(supervisor) == {"flapping": "stopped", "steady": "running"}
            assert steady.starts == 1
        reached = [event for event in drain(queue) if isinstance(event, RestartLimitReached)]
        assert [(event.supervisor, event.restarts) for event in reached] == [("root/flapping", 3)]

    run(main)


def test_child_at_its_own_restart_limit_that_escalates_ends_its_supervisor(run: Any) -> None:
    async def main() -> None:
        flapping = Actor("flapping")
        async with Supervisor([child(flapping, max_restarts=0, within=10, escalates=True)]) as supervisor:
            flapping.ends("abnormal")
            with pytest.raises(RestartLimitError, match="flapping gave up"):
                await supervisor.serve()

    run(main)


def test_root_that_gave_up_raises_at_the_end_of_the_block(run: Any) -> None:
    """A program that never calls `serve` gets the error from `async with`."""

    async def main() -> None:
        actor = Actor("flapping")
        with pytest.raises(RestartLimitError):
            async with Supervisor([child(actor)], max_restarts=0):
                await end(actor, "abnormal")

    run(main)


def test_poller_is_called_again_after_its_period_in_the_same_incarnation(run: Any) -> None:
    async def main() -> None:
        calls: list[float] = []

        async def poll() -> int:
            calls.append(asyncio.get_running_loop().time() - began)
            await asyncio.sleep(1)
            if len(calls) == 3:
                raise OSError("gone")
            return len(calls)

        began = asyncio.get_running_loop().time()
        supervisor = Supervisor([WorkerSpec("poller", poll, restart="permanent", every=30.0)])
        async with supervisor:
            queue = supervisor.subscribe()
            await asyncio.sleep(100)
        polls = [(event.incarnation, event.result) for event in drain(queue) if isinstance(event, PollFinished)]
        assert calls == pytest.approx([0, 31, 62, 93])
        assert polls == [(1, 1), (1, 2), (1, 4)]

    run(main)


def test_request_under_a_worker_is_refused_because_it_is_no_supervisor(run: Any) -> None:
    async def main() -> None:
        async with Supervisor([child(Actor("cache"))]) as supervisor:
            with pytest.raises(NoSuchSupervisor, match=r"that is a worker of root$"):
                supervisor.which_children(under="cache")
            with pytest.raises(NoSuchSupervisor, match=r"running supervisor 'x'$"):
                supervisor.which_children(under="x")

    run(main)


def test_child_that_announces_ready_delays_the_next_child_until_then(run: Any) -> None:
    async def main() -> None:
        log: list[str] = []

        async def slow() -> None:
            await asyncio.sleep(5)
            log.append("ready")
            await ready({"port": 80})
            await asyncio.sleep(1e6)

        children = WorkerSpec("slow", slow, restart="permanent", announces_ready=True), child(Actor("next", log))
        async with Supervisor(children) as supervisor:
            assert log == ["ready", "+next"]
            assert supervisor.which_children()[0].value == {"port": 80}

    run(main)


def test_stop_interrupts_a_start_that_hangs(run: Any) -> None:
    async def main() -> None:
        hanging = WorkerSpec("hanging", sleeper, (1e6,), restart="permanent", announces_ready=True)
        supervisor = Supervisor([child(Actor("first")), hanging])
        asyncio.get_running_loop().call_later(3, control_of(supervisor).carry_out, StopRun())
        began = asyncio.get_running_loop().time()
        await supervisor.serve()
        assert asyncio.get_running_loop().time() - began == pytest.approx(3)
        assert supervisor.is_finished

    run(main)


def test_second_restart_and_stale_cancel_of_an_incarnation_are_refused(run: Any) -> None:
    async def main() -> None:
        actor = Actor("worker")
        async with Supervisor([child(actor)]) as supervisor:
            queue = supervisor.subscribe()
            control_of(supervisor).carry_out(RestartWorker("worker", 1))
            control_of(supervisor).carry_out(RestartWorker("worker", 1))
            await calm()
            assert (actor.starts, supervisor.which_children()[0].incarnation) == (2, 2)
            assert not control_of(supervisor).carry_out(CancelWorker("worker", 1))
        assert len([event for event in drain(queue) if isinstance(event, CommandRefused)]) == 2

    run(main)


def test_cancel_during_a_backoff_or_a_restart_stops_the_worker_for_good(run: Any) -> None:
    async def main() -> None:
        waiting, running = Actor("waiting"), Actor("running")
        backoff = RestartBackoff(base=10.0, cap=10.0)
        async with Supervisor([child(waiting, backoff=backoff), child(running)]) as supervisor:
            queue = supervisor.subscribe()
            await end(waiting, "abnormal")
            control_of(supervisor).carry_out(CancelWorker("waiting", 1))
            control_of(supervisor).carry_out(RestartWorker("running", 1))
            control_of(supervisor).carry_out(CancelWorker("running", 1))
            await asyncio.sleep(100)
            assert statuses(supervisor) == {"waiting": "stopped", "running": "stopped"}
            assert waiting.starts == 1
        assert story(drain(queue), "waiting")[-1] == "WorkerCancelled"

    run(main)


def test_unresponsive_child_is_restarted_beside_its_abandoned_incarnation(run: Any) -> None:
    async def main() -> None:
        spec = WorkerSpec("stubborn", stubborn, (50.0,), restart="permanent", shutdown=1.0)
        async with Supervisor([spec], max_restarts=10) as supervisor:
            await supervisor.terminate_child("stubborn")
            assert supervisor.outcomes()[0].state is WorkerState.UNRESPONSIVE
            assert supervisor.statistics().detached == 1
            await asyncio.sleep(30)
            await supervisor.restart_child("stubborn")
            await asyncio.sleep(25)
            assert supervisor.statistics().detached == 0
            assert [(found.status.value, found.incarnation) for found in supervisor.which_children()] == [
                ("running", 2)
            ]

    run(main)


def test_cancel_all_stops_the_workers_and_keeps_the_supervisors(run: Any) -> None:
    async def main() -> None:
        low = SupervisorSpec("low", (child(Actor("a")), child(Actor("b"))))
        async with Supervisor([low]) as supervisor:
            control_of(supervisor).carry_out(CancelAll())
            await calm()
            assert statuses(supervisor, "low") == {"a": "stopped", "b": "stopped"}
            await supervisor.restart_child("a", under="low")

    run(main)


def test_worker_names_and_groups_are_paths(run: Any) -> None:
    async def main() -> None:
        names: list[str] = []

        async def target() -> None:
            worker = current_worker()
            assert worker is not None
            names.append(worker.name)
            await asyncio.sleep(1e6)

        spec = WorkerSpec("same", target)
        pool = PoolSpec("pool", spec)
        supervisor = Supervisor([spec, SupervisorSpec("low", (spec, pool))], seed=1)
        queue = supervisor.subscribe()
        async with supervisor:
            await supervisor.start_child("key", under="low/pool")
        assert names == ["same", "low/same", "low/pool/key"]
        events = drain(queue)
        assert [event.group for event in events if isinstance(event, WorkersQueued)] == [
            "root",
            "root/low",
            "root/low/pool",
        ]
        nodes = [event.name for event in events if isinstance(event, SupervisorStarted)]
        assert nodes == ["root", "root/low", "root/low/pool"]
        assert [event.name for event in events if isinstance(event, SupervisorTerminated)] == nodes[::-1]
        assert isinstance(events[-1], RunFinished)

    run(main)


def test_supervisor_whose_shutdown_time_is_over_abandons_all_workers_below(run: Any) -> None:
    async def main() -> None:
        slow = [child(Actor(name, lingers=1e5), shutdown=1e5) for name in "ab"]
        async with Supervisor([SupervisorSpec("low", tuple(slow), shutdown=2.0)], max_restarts=1) as supervisor:
            began = asyncio.get_running_loop().time()
            await supervisor.terminate_child("low")
            assert asyncio.get_running_loop().time() - began == pytest.approx(2)
            assert supervisor.statistics().detached == 2

    run(main)


def test_serve_raises_a_failed_start_and_the_run_is_finished(run: Any) -> None:
    async def main() -> None:
        supervisor = Supervisor([child(Actor("bad", fails=[OSError("no")]))])
        with pytest.raises(StartError):
            await supervisor.serve()
        assert supervisor.is_finished

    run(main)


@pytest.mark.parametrize("kind", ["worker", "supervisor"])
def test_restart_jitter_is_drawn_for_each_incarnation(run: Any, kind: str) -> None:
    """Also when the child was stable and the count of its restarts begins again."""

    async def main() -> list[float]:
        backoff = RestartBackoff(base=10.0, cap=10.0, stable_after=1.0)
        spec = WorkerSpec("a", raiser, (ValueError(), 5.0), restart="permanent", backoff=backoff)
        low = SupervisorSpec(
            "low", (WorkerSpec("a", raiser, (ValueError(), 5.0), restart="permanent"),), max_restarts=0, backoff=backoff
        )
        supervisor = Supervisor([spec if kind == "worker" else low], seed=1, max_restarts=100)
        queue = supervisor.subscribe()
        async with supervisor:
            await asyncio.sleep(60.0)
        began = [event.at for event in drain(queue) if isinstance(event, AttemptStarted)]
        return [round(after - before - 5.0, 6) for before, after in itertools.pairwise(began)]

    delays = run(main)
    assert len(delays) >= 3
    assert len(set(delays)) == len(delays)
    assert all(5.0 <= delay <= 10.0 for delay in delays)
