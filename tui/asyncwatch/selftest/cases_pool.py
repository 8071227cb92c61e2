"""OTP's cases of pools, its simple_one_for_one."""

from __future__ import annotations

import asyncio

from asyncwatch.engine.spec import WorkerSpec
from asyncwatch.engine.supervisor import Supervisor
from asyncwatch.engine.tree.specs import PoolSpec
from asyncwatch.otp import Ignore
from asyncwatch.selftest.actors import Actor, child, counts, end, expect, expect_seconds, statuses, supervisor


async def _run(actor: Actor) -> object:
    """Run the actor that a child of the pool was started with."""
    return await actor()


def _pool(max_restarts: int = 2, restart: str = "permanent", shutdown: float = 1.0) -> PoolSpec:
    template = WorkerSpec("worker", _run, restart=restart, shutdown=shutdown)  # type: ignore[arg-type]  # a literal each
    return PoolSpec("pool", template, max_restarts=max_restarts, within=3600, restart="temporary")


async def _fill(running: Supervisor, *actors: Actor) -> None:
    for actor in actors:
        await running.start_child(actor.name, actor, under="pool")


async def simple_one_for_one() -> None:
    """Only the child that ended is restarted, with its own arguments; too many restarts end the pool."""
    one, two = Actor("1"), Actor("2")
    async with supervisor(_pool()) as running:
        await _fill(running, one, two)
        await end(one, "abnormal")
        expect("starts", (one.starts, two.starts, counts(running, "pool")), (2, 1, [1, 2, 0, 2]))
        await end(two, "abnormal")
        await end(one, "abnormal")
        expect("children", statuses(running), {})
        expect("logs", (one.log[-1], two.log[-1]), ("-1", "-2"))


async def simple_one_for_one_extra() -> None:
    """The value that a child of a pool announces is returned by its start, and announced again after a restart."""
    actor = Actor("1", value="extra")
    async with supervisor(_pool()) as running:
        expect("value", (await running.start_child("1", actor, under="pool")).value, "extra")
        await end(actor, "abnormal")
        expect("value", [found.value for found in running.which_children(under="pool")], ["extra"])


async def simple_one_for_one_escalation() -> None:
    """A child that keeps failing to start reaches the restart limit, which ends the pool and all its children."""
    bad, good = Actor("bad", fails=[None, *[OSError("no start")] * 10]), Actor("good")
    async with supervisor(_pool(4)) as running:
        await _fill(running, bad, good)
        await end(bad, "abnormal")
        expect("children", statuses(running), {})
        expect("starts", (bad.starts, good.log[-1]), (5, "-good"))


async def simple_one_for_one_restart_ignore() -> None:
    """A child of a pool that ignores its restart is forgotten."""
    actor = Actor("1", fails=[None, Ignore()])
    async with supervisor(_pool()) as running:
        await _fill(running, actor)
        await end(actor, "abnormal")
        expect("counts", (actor.starts, counts(running, "pool")), (2, [1, 0, 0, 0]))


async def simple_one_for_one_shutdown() -> None:
    """Stopping many children takes as long as the slowest of them, and at most their shutdown time."""
    loop = asyncio.get_running_loop()
    for slowest, expected in ((1.0, 1.0), (5.0, 2.0)):
        async with supervisor(_pool(shutdown=2.0)) as running:
            await _fill(running, Actor("1", lingers=1.0), Actor("2", lingers=1.0), Actor("3", lingers=slowest))
            began = loop.time()
        expect_seconds(loop.time() - began, expected)


async def simple_one_for_one_scale_many_temporary_children() -> None:
    """The cost of ending many temporary children grows no faster than their number."""
    cost = {}
    for number in (100, 1000):
        actors = [Actor(str(each)) for each in range(number)]
        async with supervisor(_pool(restart="temporary")) as running:
            await _fill(running, *actors)
            before = running.statistics().events
            for actor in actors:
                actor.ends("normal")
            await asyncio.sleep(1)
            expect("counts", counts(running, "pool"), [1, 0, 0, 0])
            cost[number] = running.statistics().events - before
    expect("events", cost[1000], 10 * cost[100])


async def simple_one_for_one_default() -> None:
    """A pool numbers the children that are started without a key."""
    async with supervisor(PoolSpec("pool", child(Actor("worker")))) as running:
        names = [(await running.start_child(under="pool")).name for _ in range(3)]
        expect("names", names, ["1", "2", "3"])
