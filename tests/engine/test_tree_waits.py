"""Starts that wait: only their caller waits for them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import CircuitPolicy, PoolSpec, Supervisor, SupervisorSpec, WorkerSpec
from asyncwatch.commands import ChangeSetting, CloseCircuit, IsolateCircuit
from asyncwatch.engine.run_control import control_of
from asyncwatch.otp import AlreadyStarted, NoSuchSupervisor, StartError
from asyncwatch.selftest.actors import Actor, calm, child, end, statuses


def _pause(supervisor: Supervisor, *, is_paused: bool = True) -> None:
    assert control_of(supervisor).carry_out(ChangeSetting("paused", is_paused))


def test_start_that_waits_delays_only_its_caller(run: Any) -> None:
    async def main() -> None:
        one, new = Actor("one"), Actor("new", value="ready")
        async with Supervisor([child(one)]) as supervisor:
            _pause(supervisor)
            starting = asyncio.create_task(supervisor.start_child(child(new)))
            await calm()
            assert statuses(supervisor) == {"one": "running", "new": "starting"}
            async with asyncio.timeout(1):
                await supervisor.terminate_child("one")
                with pytest.raises(AlreadyStarted):
                    await supervisor.start_child(child(new))
            assert not starting.done()
            _pause(supervisor, is_paused=False)
            assert (await starting).value == "ready"

    run(main)


def test_requested_restart_that_is_called_off_keeps_the_child(run: Any) -> None:
    """The caller that requested it gets an error."""

    async def main() -> None:
        one, two = Actor("one"), Actor("two")
        async with Supervisor([child(one), child(two)]) as supervisor:
            await supervisor.terminate_child("one")
            _pause(supervisor)
            starting = asyncio.create_task(supervisor.restart_child("one"))
            await calm()
            async with asyncio.timeout(1):
                await supervisor.terminate_child("two")
                await supervisor.terminate_child("one")
            with pytest.raises(StartError):
                await starting
            assert statuses(supervisor) == {"one": "stopped", "two": "stopped"}

    run(main)


@pytest.mark.parametrize("error", [None, OSError("no")], ids=["called off", "failed"])
def test_new_child_that_does_not_start_after_its_wait_is_not_kept(run: Any, error: BaseException | None) -> None:
    """Nor is its start tried again, also in a pool."""

    async def main() -> None:
        async def play(actor: Actor) -> object:
            return await actor()

        async with Supervisor([PoolSpec("pool", WorkerSpec("player", play, restart="permanent"))]) as supervisor:
            _pause(supervisor)
            actor = Actor("new", fails=[error])
            starting = asyncio.create_task(supervisor.start_child("key", actor, under="pool"))
            await calm()
            if error is None:
                await supervisor.terminate_child("key", under="pool")
            _pause(supervisor, is_paused=False)
            with pytest.raises(StartError):
                await starting
            assert (statuses(supervisor, "pool"), actor.starts) == ({}, 0 if error is None else 1)

    run(main)


def test_supervisor_whose_initial_start_waits_handles_requests(run: Any) -> None:
    """When the waiting child is stopped, the children after it start in order."""

    async def main() -> None:
        log: list[str] = []
        actors = [Actor(name, log) for name in "123"]
        pause: list[Supervisor] = []

        async def pausing() -> None:
            _pause(pause[0])
            await asyncio.sleep(1e6)

        low = SupervisorSpec("low", (WorkerSpec("first", pausing), *map(child, actors)))
        async with Supervisor([child(Actor("other"))]) as supervisor:
            pause.append(supervisor)
            starting = asyncio.create_task(supervisor.start_child(low))
            await calm()
            assert statuses(supervisor) == {"other": "running", "low": "starting"}
            assert statuses(supervisor, "low") == {"first": "running", **dict.fromkeys("123", "starting")}
            async with asyncio.timeout(1):
                await supervisor.terminate_child("1", under="low")
                await supervisor.terminate_child("other")
            assert (log, starting.done()) == ([], False)
            _pause(supervisor, is_paused=False)
            await starting
            assert log == ["+2", "+3"]
            assert statuses(supervisor, "low") == {"first": "running", "1": "stopped", "2": "running", "3": "running"}

    run(main)


def test_initial_start_that_fails_after_its_wait_ends_the_supervisor(run: Any) -> None:
    """The children before it stop, and the error names the child."""

    async def main() -> None:
        one = Actor("one")
        pause: list[Supervisor] = []

        async def pausing() -> None:
            _pause(pause[0])
            await asyncio.sleep(1e6)

        low = SupervisorSpec(
            "low", (child(one), WorkerSpec("pausing", pausing), child(Actor("bad", fails=[OSError()])))
        )
        async with Supervisor([]) as supervisor:
            pause.append(supervisor)
            starting = asyncio.create_task(supervisor.start_child(low))
            await calm()
            _pause(supervisor, is_paused=False)
            with pytest.raises(StartError, match="bad did not start"):
                await starting
            assert (one.log, statuses(supervisor)) == (["+one", "-one"], {})

    run(main)


def test_sibling_is_restarted_while_an_initial_start_waits(run: Any) -> None:
    async def main() -> None:
        one, two = Actor("one"), Actor("two")
        async with Supervisor([], max_restarts=5, circuit=CircuitPolicy()) as supervisor:
            control_of(supervisor).carry_out(IsolateCircuit("host"))
            low = SupervisorSpec("low", (child(one), child(two, key="host")))
            starting = asyncio.create_task(supervisor.start_child(low))
            await calm()
            await end(one, "abnormal")
            assert (one.starts, two.starts, statuses(supervisor, "low")["two"]) == (2, 0, "starting")
            control_of(supervisor).carry_out(CloseCircuit("host"))
            await starting
            assert two.starts == 1

    run(main)


def test_caller_of_a_waiting_start_learns_of_the_end_of_the_supervisor(run: Any) -> None:
    async def main() -> None:
        async with Supervisor([SupervisorSpec("low")]) as supervisor:
            _pause(supervisor)
            starting = asyncio.create_task(supervisor.start_child(child(Actor("new")), under="low"))
            await calm()
            await supervisor.terminate_child("low")
            with pytest.raises(NoSuchSupervisor):
                await starting

    run(main)
