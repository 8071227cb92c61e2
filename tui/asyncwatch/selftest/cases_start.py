"""OTP's cases of specs, and of how supervisors start and stop."""

from __future__ import annotations

import asyncio
import itertools
import math
from functools import partial
from typing import Any

from asyncwatch import otp
from asyncwatch.engine.spec import WorkerSpec
from asyncwatch.engine.supervisor import Supervisor
from asyncwatch.engine.tree.specs import PoolSpec, SupervisorSpec
from asyncwatch.otp import DuplicateName, Ignore, InvalidChild, InvalidName, InvalidStrategy, NotFound, StartError
from asyncwatch.policies.restart import RestartBackoff
from asyncwatch.selftest.actors import (
    FOREVER,
    RUNNING,
    STOPPED,
    Actor,
    calm,
    child,
    counts,
    expect,
    expect_error,
    expect_raise,
    expect_seconds,
    is_up,
    statuses,
    supervisor,
)

_ACTOR = Actor("child")
_WORKER_FIELDS: tuple[tuple[dict[str, Any], type[otp.SpecError]], ...] = (
    ({"restart": "prmanent"}, otp.InvalidRestartType),
    ({"shutdown": -10}, otp.InvalidShutdown),
    ({"shutdown": math.nan}, otp.InvalidShutdown),
    ({"shutdown": "soon"}, otp.InvalidShutdown),
    ({"significant": "maybe"}, otp.InvalidFlag),
    ({"significant": True, "restart": "permanent"}, otp.BadCombination),
    ({"announces_ready": 1}, otp.InvalidFlag),
    ({"every": 0}, otp.InvalidPeriod),
    ({"max_restarts": -1}, otp.InvalidIntensity),
    ({"max_restarts": 1, "within": 0}, otp.InvalidPeriod),
    ({"escalates": True}, otp.BadCombination),
    ({"escalates": ""}, otp.InvalidFlag),
    ({"significant": 0}, otp.InvalidFlag),
    ({"within": 0}, otp.InvalidPeriod),
    ({"within": -1}, otp.InvalidPeriod),
    ({"within": math.nan}, otp.InvalidPeriod),
    ({"args": 5}, otp.InvalidArguments),
    ({"backoff": None}, otp.InvalidBackoff),
    ({"backoff": 3}, otp.InvalidBackoff),
)
_FLAGS: tuple[tuple[dict[str, Any], type[otp.SpecError]], ...] = (
    ({"strategy": "none_for_one"}, otp.InvalidStrategy),
    ({"max_restarts": math.inf}, otp.InvalidIntensity),
    ({"max_restarts": -1}, otp.InvalidIntensity),
    ({"max_restarts": True}, otp.InvalidIntensity),
    ({"within": 0}, otp.InvalidPeriod),
    ({"within": math.inf}, otp.InvalidPeriod),
    ({"auto_shutdown": "sometimes"}, otp.InvalidAutoShutdown),
)


async def child_specs() -> None:
    """Each invalid field of a worker, supervisor or pool has its own error; all combinations of valid ones pass."""
    for fields, error in _WORKER_FIELDS:
        expect_raise(error, partial(WorkerSpec, "child", _ACTOR, **fields))
    significant = WorkerSpec("child", _ACTOR, significant=True)
    expect_raise(otp.BadCombination, lambda: SupervisorSpec("low", (significant,)))
    expect_raise(otp.BadCombination, lambda: PoolSpec("low", significant))
    expect_raise(otp.DuplicateName, lambda: SupervisorSpec("low", (child(_ACTOR), child(_ACTOR))))
    expect_raise(otp.InvalidTemplate, lambda: PoolSpec("low", (child(_ACTOR), child(_ACTOR))))  # type: ignore[arg-type]  # the point
    expect_raise(otp.InvalidTemplate, lambda: PoolSpec("low", ()))  # type: ignore[arg-type]  # the point
    expect_raise(otp.InvalidName, lambda: SupervisorSpec("low/er"))
    expect_raise(otp.InvalidName, lambda: WorkerSpec(5, _ACTOR))  # type: ignore[arg-type]  # the point
    beside = (WorkerSpec("a/b", _ACTOR), SupervisorSpec("a"))
    expect_raise(otp.InvalidName, lambda: SupervisorSpec("low", beside))
    expect_raise(otp.InvalidChild, lambda: SupervisorSpec("low", 5))  # type: ignore[arg-type]  # the point
    expect_raise(otp.InvalidBackoff, lambda: SupervisorSpec("low", backoff=3))  # type: ignore[arg-type]  # the point
    expect_raise(otp.InvalidBackoff, lambda: RestartBackoff(base=True))
    expect_raise(otp.InvalidBackoff, lambda: RestartBackoff(base="x"))  # type: ignore[arg-type]  # the point
    expect_raise(otp.InvalidBackoff, lambda: RestartBackoff(base=2.0, cap=1.0))
    expect_raise(otp.InvalidBackoff, lambda: RestartBackoff(factor=0.5))
    async with supervisor() as running:
        await expect_error(otp.InvalidChild, running.start_child("hej"))
        await running.start_child(PoolSpec("pool", child(_ACTOR)))
        await expect_error(otp.InvalidName, running.start_child(WorkerSpec("pool/b", _ACTOR)))
        await expect_error(otp.InvalidName, running.start_child("", under="pool"))
        await running.start_child(WorkerSpec("a/b", _ACTOR))
        await expect_error(otp.InvalidName, running.start_child(SupervisorSpec("a")))
        await expect_error(otp.BadCombination, running.start_child(significant))
    _accept_all()


def _accept_all() -> None:
    for restart, shutdown, flag, auto in itertools.product(
        ("permanent", "transient", "temporary"),
        (0, 1.0, math.inf),
        (True, False),
        ("never", "any_significant", "all_significant"),
    ):
        if flag and (restart == "permanent" or auto == "never"):
            continue
        common: dict[str, Any] = {"restart": restart, "shutdown": shutdown, "significant": flag}
        worker = WorkerSpec("worker", _ACTOR, **common)
        for strategy in ("one_for_one", "one_for_all", "rest_for_one"):
            low = SupervisorSpec("low", **common)
            pool = PoolSpec("pool", worker, auto_shutdown=auto, **common)  # type: ignore[arg-type]  # any of them is valid
            SupervisorSpec("top", (worker, low, pool), strategy=strategy, auto_shutdown=auto)  # type: ignore[arg-type]  # as above


async def sup_flags() -> None:
    """Each invalid flag of a supervisor has its own error, and an unknown flag is refused."""
    for flags, error in _FLAGS:
        expect_raise(error, partial(SupervisorSpec, "low", **flags))
        expect_raise(error, partial(Supervisor, [], **flags))
        if "strategy" not in flags:
            expect_raise(error, partial(PoolSpec, "low", child(_ACTOR), **flags))
    expect_raise(TypeError, lambda: SupervisorSpec("low", silly_flag=True))  # type: ignore[call-arg]  # the point
    await calm(1)


async def sup_start_normal() -> None:
    """A supervisor without children starts, and stops."""
    async with supervisor() as running:
        expect("counts", counts(running), [0, 0, 0, 0])
    expect("is up", is_up(running), expected=False)


async def sup_start_ignore_child() -> None:
    """A permanent child that ignores its start is kept, not running; the next child starts."""
    async with supervisor() as running:
        ignored = await running.start_child(child(Actor("child1", fails=[Ignore()])))
        expect("ignored", ignored.status.value, STOPPED)
        await running.start_child(child(Actor("child2")))
        expect("children", statuses(running), {"child1": STOPPED, "child2": RUNNING})
        expect("counts", counts(running), [2, 1, 0, 2])


async def sup_start_ignore_temporary_child() -> None:
    """A temporary child that ignores its start is not kept."""
    children = child(Actor("child1", fails=[Ignore()]), "temporary"), child(Actor("child2"), "temporary")
    async with supervisor(*children) as running:
        expect("children", statuses(running), {"child2": RUNNING})
        expect("counts", counts(running), [1, 1, 0, 1])


async def sup_start_ignore_temporary_child_start_child() -> None:
    """A temporary child that is added and ignores its start is not kept."""
    async with supervisor() as running:
        await running.start_child(child(Actor("child1", fails=[Ignore()]), "temporary"))
        await running.start_child(child(Actor("child2"), "temporary"))
        expect("children", statuses(running), {"child2": RUNNING})
        expect("counts", counts(running), [1, 1, 0, 1])


async def sup_start_ignore_permanent_child_start_child_simple() -> None:
    """A child of a pool that ignores its start is not kept, whatever its restart type."""
    for restart in ("temporary", "permanent"):
        async with supervisor(PoolSpec("pool", child(Actor("worker", fails=[Ignore()]), restart))) as running:
            expect("ignored", (await running.start_child(under="pool")).status.value, STOPPED)
            await running.start_child(under="pool")
            expect("counts", counts(running, "pool"), [1, 1, 0, 1])
        expect("is up", is_up(running), expected=False)


async def sup_start_ignore_temporary_child_start_child_simple() -> None:
    """A temporary child of a pool that ignores its start is not kept; the next child starts."""
    actor = Actor("worker", fails=[Ignore(), None])
    async with supervisor(PoolSpec("pool", child(actor, "temporary"))) as running:
        expect("ignored", (await running.start_child(under="pool")).status.value, STOPPED)
        await running.start_child(under="pool")
        expect("children", list(statuses(running, "pool").values()), [RUNNING])
        expect("counts", counts(running, "pool"), [1, 1, 0, 1])


async def sup_start_error_return() -> None:
    """A supervisor with an invalid spec does not start."""
    expect_raise(InvalidChild, lambda: Supervisor(["invalid"], max_restarts=1))  # type: ignore[list-item]  # the point
    expect_raise(InvalidStrategy, lambda: Supervisor([], strategy="invalid"))  # type: ignore[arg-type]  # the point


async def sup_start_fail() -> None:
    """If a child fails to start, those before it stop in reverse order; the error names the child and the cause."""
    log: list[str] = []
    bad = child(Actor("c", log, fails=[OSError("no port")]))
    good = [child(Actor(name, log)) for name in "abd"]
    nested = SupervisorSpec("low", (good[1], bad, good[2]))
    error = await expect_error(StartError, Supervisor([good[0], nested], seed=1).serve())
    expect("log", log, ["+a", "+b", "-b", "-a"])
    expect("message", str(error), "low did not start: low/c did not start: OSError: no port")
    expect("cause", str(error.__cause__.__cause__), "no port")


async def sup_start_child_returns_error() -> None:
    """A child that fails to start when it is added is not kept; the error names the cause."""
    async with supervisor() as running:
        error = await expect_error(StartError, running.start_child(child(Actor("child1", fails=[OSError("reason")]))))
        expect("child", (error.child, str(error.error)), ("root/child1", "reason"))
        expect("children", statuses(running), {})
        expect("is up", is_up(running), expected=True)


async def sup_start_child_returns_error_simple() -> None:
    """A child of a pool that fails to start is not kept."""
    async with supervisor(PoolSpec("pool", child(Actor("worker", fails=[OSError("reason")])))) as running:
        await expect_error(StartError, running.start_child(under="pool"))
        expect("counts", counts(running, "pool"), [1, 0, 0, 0])


async def sup_start_restart_child_returns_error() -> None:
    """A child that fails to start when it is restarted by request is kept, not running."""
    async with supervisor(child(Actor("child1", fails=[None, OSError("reason")]))) as running:
        await running.terminate_child("child1")
        await expect_error(StartError, running.restart_child("child1"))
        expect("children", statuses(running), {"child1": STOPPED})
        expect("status", (await running.restart_child("child1")).status.value, RUNNING)


async def sup_start_map() -> None:
    """Fields that are not given have their defaults, and the spec of a child can be read."""
    specs = (
        WorkerSpec("child1", Actor("child1")),
        WorkerSpec("child2", Actor("child2"), shutdown=0),
        SupervisorSpec("child3"),
    )
    async with supervisor(*specs) as running:
        for spec in specs:
            expect("spec", running.get_childspec(spec.name) is spec, expected=True)
        expect_raise(NotFound, lambda: running.get_childspec("child4"))
    worker, low = specs[0], specs[2]
    assert isinstance(low, SupervisorSpec)  # noqa: S101  for the type checker
    expect("worker", (worker.restart, worker.shutdown, worker.significant), ("temporary", None, False))
    expect("restart of a supervisor", (low.restart, low.shutdown, low.significant), ("permanent", FOREVER, False))
    flags = (low.strategy, low.max_restarts, low.within, low.auto_shutdown)
    expect("flags", flags, ("one_for_one", 1, 5.0, "never"))


async def sup_start_map_simple() -> None:
    """The spec of a child of a pool is the pool's template."""
    template = WorkerSpec("worker", Actor("worker"))
    async with supervisor(PoolSpec("pool", template)) as running:
        await running.start_child("a", under="pool")
        expect("spec", running.get_childspec("a", under="pool") is template, expected=True)
        expect_raise(NotFound, lambda: running.get_childspec("b", under="pool"))


async def sup_start_map_faulty_specs() -> None:
    """A spec without a name or a target, with an unknown field, or of an unknown type is refused."""
    actor = Actor("actor")
    expect_raise(InvalidName, lambda: WorkerSpec("", actor))
    expect_raise(TypeError, lambda: WorkerSpec("child2", None))  # type: ignore[arg-type]  # the point
    expect_raise(TypeError, lambda: WorkerSpec("child3", actor, silly_flag=True))  # type: ignore[call-arg]  # the point
    expect_raise(InvalidChild, lambda: SupervisorSpec("low", ("child4",)))
    expect_raise(DuplicateName, lambda: SupervisorSpec("low", (child(actor), child(actor))))
    await calm(1)


async def _stop(*actors: tuple[Actor, float | None]) -> tuple[float, dict[str, str]]:
    """Stop a supervisor of these actors with these shutdown times; return the seconds and the state of each."""
    loop = asyncio.get_running_loop()
    async with supervisor(*[child(actor, shutdown=shutdown) for actor, shutdown in actors]) as running:
        began = loop.time()
    return loop.time() - began, {outcome.name: outcome.state.value for outcome in running.outcomes()}


async def sup_stop_infinity() -> None:
    """A worker with no limit may take as long as it needs to stop."""
    seconds, ends = await _stop((Actor("slow", lingers=1e5), FOREVER), (Actor("quick"), FOREVER))
    expect_seconds(seconds, 1e5)
    expect("ends", ends, {"slow": "cancelled", "quick": "cancelled"})


async def sup_stop_timeout() -> None:
    """A worker that does not stop within its shutdown time is abandoned; the others stop."""
    seconds, ends = await _stop((Actor("child1"), 1.0), (Actor("stubborn", lingers=FOREVER), 1.0))
    expect_seconds(seconds, 1.0)
    expect("ends", ends, {"child1": "cancelled", "stubborn": "unresponsive"})


async def sup_stop_brutal_kill() -> None:
    """A worker with no shutdown time is not waited for; one that obeys is cancelled all the same."""
    seconds, ends = await _stop((Actor("child1"), 1.0), (Actor("stubborn", lingers=FOREVER), 0), (Actor("child3"), 0))
    expect_seconds(seconds, 0.0)
    expect("ends", ends, {"child1": "cancelled", "stubborn": "unresponsive", "child3": "cancelled"})


async def sup_stop_timeout_dynamic() -> None:
    """Children of a pool that do not stop in time are abandoned, all at the same time."""
    loop = asyncio.get_running_loop()
    async with supervisor(PoolSpec("pool", child(Actor("worker", lingers=FOREVER), shutdown=1.0))) as running:
        for _ in range(10):
            await running.start_child(under="pool")
        began = loop.time()
    expect_seconds(loop.time() - began, 1.0)
    expect("ends", {outcome.state.value for outcome in running.outcomes()}, {"unresponsive"})


async def sup_stop_brutal_kill_dynamic() -> None:
    """Children of a pool with no shutdown time are not waited for."""
    loop = asyncio.get_running_loop()
    async with supervisor(PoolSpec("pool", child(Actor("worker", lingers=FOREVER), shutdown=0))) as running:
        for _ in range(10):
            await running.start_child(under="pool")
        began = loop.time()
    expect_seconds(loop.time() - began, 0.0)
    expect("ends", [outcome.state.value for outcome in running.outcomes()], ["unresponsive"] * 10)


async def sup_stop_non_shutdown_exit_dynamic() -> None:
    """A child of a pool that raises when it is cancelled does not delay the end of the pool."""

    async def raises() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise OSError("while it stops") from None

    for shutdown in (0, 1.0, FOREVER):
        async with supervisor(PoolSpec("pool", WorkerSpec("worker", raises, shutdown=shutdown))) as running:
            for _ in range(10):
                await running.start_child(under="pool")
        expect("is up", is_up(running), expected=False)
        expect("ends", {outcome.state.value for outcome in running.outcomes()}, {"cancelled"})


async def sup_stop_race() -> None:
    """Children that end while the supervisor stops are not restarted, however they end."""
    first = Actor("first")
    racers = [
        (Actor(f"{restart}-{how}"), restart, how)
        for restart in ("temporary", "transient", "permanent")
        for how in ("normal", "shutdown", "abnormal")
    ]
    last = Actor("last", lingers=1.0)
    specs = [child(first), *[child(actor, restart) for actor, restart, _ in racers], child(last, shutdown=2)]
    async with supervisor(*specs) as running:
        for actor, _, how in racers:
            asyncio.get_running_loop().call_later(0.2, actor.ends, how)
    expect("is up", is_up(running), expected=False)
    expect("starts", [actor.starts for actor, _, _ in racers], [1] * len(racers))
    expect("log", (first.log, last.log), (["+first", "-first"], ["+last", "-last"]))
