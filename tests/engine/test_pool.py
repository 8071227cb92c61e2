"""Pools: initial children, which OTP does not have."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import PoolSpec, Supervisor, SupervisorSpec, WorkerSpec, ready
from asyncwatch.events import RunStarted, WorkerReady
from asyncwatch.otp import DuplicateName, InvalidName, InvalidTemplate, StartError
from tests.engine.fleets import drain, raiser


async def serve(*given: object) -> None:
    """Log the arguments, run for ever, and take a second to end."""
    await ready(list(given))
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(1)


TEMPLATE = WorkerSpec("template", serve, ("common",), restart="transient", announces_ready=True, shutdown=5)
INITIAL = (("a", (1,)), ("b", (2,)))


def test_pool_starts_its_initial_children_and_stops_all_at_once(run: Any) -> None:
    """Stopping all takes as long as stopping one."""

    async def main() -> None:
        supervisor = Supervisor([PoolSpec("pool", TEMPLATE, initial=INITIAL)])
        queue = supervisor.subscribe()
        async with supervisor:
            assert supervisor.count_children(under="pool").specs == 1
            await supervisor.start_child("c", 3, under="pool")
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began == pytest.approx(1)
        events = drain(queue)
        announced = [(event.worker, event.value) for event in events if isinstance(event, WorkerReady)]
        assert announced == [("pool/a", ["common", 1]), ("pool/b", ["common", 2]), ("pool/c", ["common", 3])]
        assert [event.workers for event in events if isinstance(event, RunStarted)] == [2]

    run(main)


def test_restarted_pool_has_its_initial_children_again(run: Any) -> None:
    """A terminated one too, but none that was added."""

    async def main() -> None:
        async with Supervisor([PoolSpec("pool", TEMPLATE, initial=INITIAL)]) as supervisor:
            await supervisor.terminate_child("a", under="pool")
            await supervisor.start_child("c", under="pool")
            assert [child.name for child in supervisor.which_children(under="pool")] == ["b", "c"]
            await supervisor.terminate_child("pool")
            await supervisor.restart_child("pool")
            assert [child.name for child in supervisor.which_children(under="pool")] == ["a", "b"]

    run(main)


def test_pool_whose_initial_child_fails_does_not_start(run: Any) -> None:
    async def main() -> None:
        template = WorkerSpec("template", raiser, (ValueError("no"),), restart="permanent", announces_ready=True)
        with pytest.raises(StartError, match="pool/a did not start"):
            await Supervisor([PoolSpec("pool", template, initial=(("a", ()),))]).serve()

    run(main)


def test_pool_with_invalid_initial_children_is_refused() -> None:
    with pytest.raises(DuplicateName, match="two children of a pool have the key 'a'"):
        PoolSpec("pool", TEMPLATE, initial=(("a", ()), ("a", ())))
    with pytest.raises(InvalidName):
        PoolSpec("pool", TEMPLATE, initial=(("", ()),))
    with pytest.raises(InvalidTemplate, match="takes no arguments"):
        PoolSpec("pool", SupervisorSpec("template"), initial=INITIAL)
