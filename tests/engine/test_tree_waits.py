"""Starts that have to wait: whoever asked waits for them, and nobody else does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import CircuitPolicy, PoolSpec, Supervisor, SupervisorSpec, WorkerSpec
from asyncwatch.commands import ChangeSetting, CloseCircuit, IsolateCircuit
from asyncwatch.engine.tree.errors import AlreadyStarted, NoSuchSupervisor, StartError
from asyncwatch.selftest.actors import Actor, calm, child, end, statuses


def _pause(supervisor: Supervisor, *, is_paused: bool = True) -> None:
    assert supervisor.carry_out(ChangeSetting("paused", is_paused))


def test_start_that_waits_holds_up_nobody_but_who_asked(run: Any) -> None:
    """While a new child waits for the end of a pause, its supervisor answers; then who asked has the answer."""

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


def test_restart_by_request_waits_likewise_and_is_kept_when_it_is_called_off(run: Any) -> None:
    """A stop ends the wait of a child that was to start again: who asked is told, and the child stays."""

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
def test_new_child_whose_wait_ends_in_no_start_is_not_kept(run: Any, error: BaseException | None) -> None:
    """It is neither tried again nor kept, in a pool too."""

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


def test_first_start_that_waits_leaves_the_supervisor_free(run: Any) -> None:
    """A supervisor whose child waits when it starts answers; a stop of the child lets the others start in order."""

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


def test_first_start_that_fails_after_its_wait_ends_the_supervisor(run: Any) -> None:
    """It is as any failed start: what started before is stopped, and the error says which child it was."""

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


def test_sibling_is_restarted_while_another_waits_for_its_first_start(run: Any) -> None:
    """One that crashes meanwhile does not have to wait for the whole supervisor to be up."""

    async def main() -> None:
        one, two = Actor("one"), Actor("two")
        async with Supervisor([], max_restarts=5, circuit=CircuitPolicy()) as supervisor:
            supervisor.carry_out(IsolateCircuit("host"))
            low = SupervisorSpec("low", (child(one), child(two, key="host")))
            starting = asyncio.create_task(supervisor.start_child(low))
            await calm()
            await end(one, "abnormal")
            assert (one.starts, two.starts, statuses(supervisor, "low")["two"]) == (2, 0, "starting")
            supervisor.carry_out(CloseCircuit("host"))
            await starting
            assert two.starts == 1

    run(main)


def test_end_of_the_supervisor_ends_the_wait(run: Any) -> None:
    """Who waits for the start of a child learns that its supervisor has ended."""

    async def main() -> None:
        async with Supervisor([SupervisorSpec("low")]) as supervisor:
            _pause(supervisor)
            starting = asyncio.create_task(supervisor.start_child(child(Actor("new")), under="low"))
            await calm()
            await supervisor.terminate_child("low")
            with pytest.raises(NoSuchSupervisor):
                await starting

    run(main)
