"""OTP's cases of requests to a supervisor, and of many children."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable

from asyncwatch.engine.spec import WorkerSpec
from asyncwatch.engine.supervisor import Supervisor
from asyncwatch.engine.tree.specs import PoolSpec, SupervisorSpec
from asyncwatch.otp import (
    AlreadyPresent,
    AlreadyStarted,
    Ignore,
    NoSuchSupervisor,
    NotFound,
    Restarting,
    Running,
    SimpleOneForOne,
)
from asyncwatch.policies.restart import RestartBackoff
from asyncwatch.selftest.actors import (
    RESTARTING,
    RUNNING,
    STOPPED,
    Actor,
    calm,
    child,
    counts,
    end,
    expect,
    expect_error,
    expect_seconds,
    is_up,
    statuses,
    supervisor,
)


async def extra_return() -> None:
    """The value that a worker announces when it is ready is returned by its start and its restart."""
    actor = Actor("child1", value="extra")
    async with supervisor(child(actor)) as running:
        for ask in (running.terminate_child, running.delete_child, running.restart_child):
            await expect_error(NotFound, ask("hej"))
        await running.terminate_child("child1")
        expect("counts", counts(running), [1, 0, 0, 1])
        expect("value", (await running.restart_child("child1")).value, "extra")
        await running.terminate_child("child1")
        await running.terminate_child("child1")
        await running.delete_child("child1")
        expect("counts", counts(running), [0, 0, 0, 0])
        expect("value", (await running.start_child(child(actor))).value, "extra")
        await end(actor, "abnormal")
        expect("starts", (actor.starts, counts(running)), (4, [1, 1, 0, 1]))


async def child_adm() -> None:
    """Requests to start, stop, restart and delete a child are answered as by OTP, in each status of the child."""
    actor = Actor("child1")
    spec = child(actor)
    async with supervisor(spec) as running:
        await expect_error(AlreadyStarted, running.start_child(spec))
        await expect_error(NotFound, running.terminate_child("hej"))
        await running.terminate_child("child1")
        expect("children", statuses(running), {"child1": STOPPED})
        expect("counts", counts(running), [1, 0, 0, 1])
        await running.terminate_child("child1")
        await expect_error(AlreadyPresent, running.start_child(spec))
        await running.restart_child("child1")
        expect("counts", counts(running), [1, 1, 0, 1])
        await expect_error(Running, running.restart_child("child1"))
        await expect_error(NotFound, running.restart_child("child2"))
        await expect_error(Running, running.delete_child("child1"))
        await expect_error(NotFound, running.delete_child("hej"))
        await running.terminate_child("child1")
        await running.delete_child("child1")
        await expect_error(NotFound, running.restart_child("child1"))
        expect("children", statuses(running), {})
        await running.start_child(spec)
        expect("children", statuses(running), {"child1": RUNNING})
        for ask in (running.terminate_child, running.delete_child, running.restart_child):
            await expect_error(NoSuchSupervisor, ask("child1", under="foo"))
        await expect_error(NoSuchSupervisor, running.start_child(spec, under="foo"))


async def child_adm_simple() -> None:
    """A pool starts and stops children by key, and refuses to restart or delete a child."""
    async with supervisor(PoolSpec("pool", child(Actor("worker")))) as running:
        expect("counts", counts(running, "pool"), [1, 0, 0, 0])
        first = await running.start_child(under="pool")
        await running.start_child("b", under="pool")
        await expect_error(AlreadyStarted, running.start_child("b", under="pool"))
        expect("children", statuses(running, "pool"), {first.name: RUNNING, "b": RUNNING})
        expect("counts", counts(running, "pool"), [1, 2, 0, 2])
        await running.terminate_child(first.name, under="pool")
        expect("counts", counts(running, "pool"), [1, 1, 0, 1])
        await expect_error(NotFound, running.terminate_child(first.name, under="pool"))
        await expect_error(SimpleOneForOne, running.restart_child("b", under="pool"))
        await expect_error(SimpleOneForOne, running.delete_child("b", under="pool"))


async def which_children() -> None:
    """All children are listed in start order, with their kind and status."""
    specs = (child(Actor("b")), SupervisorSpec("a", (child(Actor("d")),)), PoolSpec("c", child(Actor("e"))))
    async with supervisor(*specs) as running:
        await running.terminate_child("a")
        kinds = [(found.name, found.kind, found.status.value) for found in running.which_children()]
        expected = [("b", "worker", RUNNING), ("a", "supervisor", STOPPED), ("c", "supervisor", RUNNING)]
        expect("children", kinds, expected)


async def which_children_simple_one_for_one() -> None:
    """The children of a pool are listed by key, in start order."""
    async with supervisor(PoolSpec("pool", child(Actor("worker")))) as running:
        for key in ("b", "a"):
            await running.start_child(key, under="pool")
        kinds = [(found.name, found.kind, found.status.value) for found in running.which_children(under="pool")]
        expect("children", kinds, [("b", "worker", RUNNING), ("a", "worker", RUNNING)])


async def _count(template: SupervisorSpec | None) -> None:
    kinds: Callable[[int], list[int]] = lambda number: [1, number, *((number, 0) if template else (0, number))]  # noqa: E731  a case's one formula
    async with supervisor(PoolSpec("pool", template or child(Actor("worker"), "temporary"))) as running:
        for number in (1000, 2000):
            for _ in range(1000):
                await running.start_child(under="pool")
            expect("counts", counts(running, "pool"), kinds(number))
            expect("children", len(running.which_children(under="pool")), number)
        for found in running.which_children(under="pool"):
            await running.terminate_child(found.name, under="pool")
        expect("counts", counts(running, "pool"), [1, 0, 0, 0])


async def count_children() -> None:
    """1,000 and then 2,000 workers are counted, and 0 when all have ended."""
    await _count(None)


async def count_children_supervisor() -> None:
    """1,000 and then 2,000 supervisors below a pool are counted, and 0 when all have ended."""
    await _count(SupervisorSpec("low", restart="temporary"))


async def count_restarting_children() -> None:
    """Children that are being restarted are counted, but not as active."""
    actors = {key: Actor(key) for key in "abc"}
    backoff = RestartBackoff(base=2.0, cap=2.0)
    specs = [child(actor, backoff=backoff, shutdown=0) for actor in actors.values()]
    async with supervisor(*specs, max_restarts=20, within=10) as running:
        expect("counts", counts(running), [3, 3, 0, 3])
        await end(actors["a"], "abnormal")
        await end(actors["b"], "abnormal")
        expect("counts", counts(running), [3, 1, 0, 3])
        expect("children", statuses(running), {"a": RESTARTING, "b": RESTARTING, "c": RUNNING})
        await _sleep(3)
        expect("counts", counts(running), [3, 3, 0, 3])


class _Deadlock(Actor):
    """An actor whose starts each take a second and fail while `is_broken`, as in OTP's tests."""

    is_broken = False

    async def __call__(self, *args: object) -> object:
        """Start, or fail to start."""
        if self.is_broken:
            self.starts += 1
            await asyncio.sleep(1)
            raise OSError("no start")
        return await super().__call__(*args)

    async def breaks(self) -> None:
        """End, and fail to start from now on. Two seconds pass until the next step of the case."""
        self.is_broken = True
        self.ends("abnormal")
        await _sleep(2)


async def _hanging(strategy: str) -> None:
    """Make all requests while a child keeps failing to start."""
    failing = _Deadlock("child2")
    specs = [
        child(Actor("child1")),
        child(failing, shutdown=0, announces_ready=True),
        child(Actor("child3")),
    ]
    async with supervisor(*specs, strategy=strategy, max_restarts=8, within=10) as running:
        await failing.breaks()
        await expect_error(AlreadyPresent, running.start_child(specs[1]))
        await expect_error(Restarting, running.restart_child("child2"))
        await expect_error(Restarting, running.delete_child("child2"))
        third = RUNNING if strategy == "one_for_one" else STOPPED
        expect("children", statuses(running), {"child1": RUNNING, "child2": RESTARTING, "child3": third})
        await running.terminate_child("child2")
        expect("children", statuses(running), {"child1": RUNNING, "child2": STOPPED, "child3": third})
        starts = failing.starts
        await _sleep(600)
        expect("starts", failing.starts, starts)
        failing.is_broken = False
        await running.restart_child("child2")
        await failing.breaks()
    expect("is up", is_up(running), expected=False)


async def hanging_restart_loop() -> None:
    """While a child keeps failing to start, all requests are answered, and the child can be stopped."""
    await _hanging("one_for_one")


async def hanging_restart_loop_rest_for_one() -> None:
    """While a child under rest_for_one keeps failing to start, it can be stopped; the siblings after it stay down."""
    await _hanging("rest_for_one")


async def hanging_restart_loop_simple() -> None:
    """While a child of a pool keeps failing to start, the child and the pool can be stopped."""
    failing = _Deadlock("worker")
    pool = PoolSpec("pool", child(failing, shutdown=0, announces_ready=True), max_restarts=8, within=10)
    async with supervisor(pool) as running:
        await running.start_child("a", under="pool")
        await failing.breaks()
        await expect_error(SimpleOneForOne, running.restart_child("a", under="pool"))
        expect("counts", counts(running, "pool"), [1, 0, 0, 1])
        await running.terminate_child("a", under="pool")
        expect("counts", counts(running, "pool"), [1, 0, 0, 0])
        failing.is_broken = False
        await running.start_child("a", under="pool")
        await failing.breaks()
    expect("is up", is_up(running), expected=False)


async def scale_start_stop_many_children(many: int = 100_000) -> None:
    """The cost of starting and stopping grows no faster than the number of children: 1,000 against 100,000."""
    small = min([await _seconds(_FEW) for _ in range(3)])
    large = await _seconds(many)
    if large > many / _FEW * small * _TOLERANCE:
        expect(f"seconds for {many:,} children, at most", large, many / _FEW * small * _TOLERANCE)


_FEW = 1_000
_TOLERANCE = 5
"""Ten times as many children cost ten times too much already if the cost grows with the square of their number."""


async def _seconds(number: int) -> float:
    """Return the seconds of processor time that starting and stopping so many children takes."""
    specs = [child(Actor(str(each))) for each in range(number)]
    was_enabled = gc.isenabled()
    gc.disable()  # its cost depends on all objects in the process
    try:
        began = time.process_time()
        async with supervisor(*specs) as running:
            expect("counts", counts(running), [number, number, 0, number])
        return time.process_time() - began
    finally:
        if was_enabled:
            gc.enable()


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)
    await calm()


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
