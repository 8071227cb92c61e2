"""OTP's cases of restarts: after which end, with which siblings, up to which limit; and of significant children."""

from __future__ import annotations

import asyncio

from asyncwatch.engine.tree.specs import PoolSpec, SupervisorSpec
from asyncwatch.otp import NoSuchSupervisor, RestartLimitError
from asyncwatch.selftest.actors import (
    RUNNING,
    STOPPED,
    Actor,
    calm,
    child,
    counts,
    end,
    expect,
    expect_error,
    is_up,
    statuses,
    supervisor,
)

_ACTIVE, _KEPT, _FORGOTTEN = [1, 1, 0, 1], [1, 0, 0, 1], [0, 0, 0, 0]


async def _terminations(restart: str, ways: tuple[str, ...], expected: list[int]) -> None:
    """End a child in each of these ways; compare the counts of its supervisor and the number of its starts."""
    for how in ways:
        actor = Actor("child1")
        async with supervisor(child(actor, restart)) as running:
            await end(actor, how)
            expect(f"counts after {how}", counts(running), expected)
            expect("starts", actor.starts, 1 + expected[1])
        expect("log", actor.log, ["+child1", "-child1"] * actor.starts)


async def permanent_normal() -> None:
    """A permanent child that returned is restarted."""
    await _terminations("permanent", ("normal",), _ACTIVE)


async def transient_normal() -> None:
    """A transient child that returned is not restarted."""
    await _terminations("transient", ("normal",), _KEPT)


async def temporary_normal() -> None:
    """A temporary child that returned is not restarted."""
    await _terminations("temporary", ("normal",), _FORGOTTEN)


async def permanent_shutdown() -> None:
    """A permanent child that raised Shutdown is restarted."""
    await _terminations("permanent", ("shutdown",), _ACTIVE)


async def transient_shutdown() -> None:
    """A transient child that raised Shutdown is not restarted."""
    await _terminations("transient", ("shutdown",), _KEPT)


async def temporary_shutdown() -> None:
    """A temporary child that raised Shutdown is not restarted."""
    await _terminations("temporary", ("shutdown",), _FORGOTTEN)


async def permanent_abnormal() -> None:
    """A permanent child that raised, or was cancelled from outside, is restarted."""
    await _terminations("permanent", ("abnormal", "kill"), _ACTIVE)


async def transient_abnormal() -> None:
    """A transient child that raised, or was cancelled from outside, is restarted."""
    await _terminations("transient", ("abnormal", "kill"), _ACTIVE)


async def temporary_abnormal() -> None:
    """A temporary child that raised, or was cancelled from outside, is not restarted."""
    await _terminations("temporary", ("abnormal", "kill"), _FORGOTTEN)


async def temporary_bystander() -> None:
    """A temporary sibling that a restart stops is forgotten, not restarted."""
    for strategy in ("one_for_all", "rest_for_one"):
        one, two = Actor("child1"), Actor("child2")
        async with supervisor(child(one), child(two, "temporary"), strategy=strategy) as running:
            await end(one, "normal")
            expect("children", statuses(running), {"child1": RUNNING})
            expect("starts", (one.starts, two.starts), (2, 1))


async def multiple_restarts() -> None:
    """Restarts that are far enough apart never reach the limit."""
    actor = Actor("child1")
    async with supervisor(child(actor, shutdown=0), max_restarts=1, within=1) as running:
        for starts in range(2, 6):
            await end(actor, "abnormal")
            expect("starts", actor.starts, starts)
            await asyncio.sleep(2.1)
        await running.terminate_child("child1")
        await running.delete_child("child1")


async def one_for_one() -> None:
    """Only the child that ended is restarted; with a limit of two, the third restart ends the supervisor."""
    one, two = Actor("child1"), Actor("child2")
    async with supervisor(child(one), child(two)) as running:
        await end(one, "abnormal")
        expect("starts", (one.starts, two.starts, counts(running)), (2, 1, [2, 2, 0, 2]))
        await end(two, "abnormal")
        await end(one, "abnormal")
        await expect_error(RestartLimitError, running.serve())
        expect("logs", (one.log[-1], two.log[-1]), ("-child1", "-child2"))
        await expect_error(NoSuchSupervisor, running.restart_child("child1"))


async def _escalation(strategy: str, failing: int) -> None:
    actors = [Actor("child1"), Actor("child2")]
    actors[failing].fails = [None, *[OSError("no start")] * 10]
    async with supervisor(*map(child, actors), strategy=strategy, max_restarts=4) as running:
        await end(actors[0], "abnormal")
        expect("is up", is_up(running), expected=False)
        expect("starts", actors[failing].starts, 5)
        await expect_error(RestartLimitError, running.serve())
    expect("logs", [actor.log[-1] for actor in actors], ["-child1", "-child2"])


async def one_for_one_escalation() -> None:
    """A child that keeps failing to start reaches the restart limit, which ends the supervisor."""
    await _escalation("one_for_one", 0)


async def one_for_all() -> None:
    """All children stop in reverse order and start again in order."""
    log: list[str] = []
    one, two = Actor("1", log), Actor("2", log)
    async with supervisor(child(one), child(two), strategy="one_for_all") as running:
        await end(one, "abnormal")
        expect("log", log, ["+1", "+2", "-1", "-2", "+1", "+2"])
        expect("counts", counts(running), [2, 2, 0, 2])
        await end(two, "abnormal")
        await end(one, "abnormal")
        expect("is up", is_up(running), expected=False)


async def one_for_all_escalation() -> None:
    """A sibling that keeps failing to start reaches the restart limit, which ends the supervisor."""
    await _escalation("one_for_all", 1)


async def one_for_all_other_child_fails_restart() -> None:
    """If a later sibling fails to start, the children that were restarted stop again, and all start over."""
    log: list[str] = []
    one, two = Actor("1", log), Actor("2", log, fails=[None, OSError("no start")])
    async with supervisor(child(one), child(two), strategy="one_for_all", max_restarts=3) as running:
        await end(one, "abnormal")
        expect("log", log, ["+1", "+2", "-1", "-2", "+1", "-1", "+1", "+2"])
        expect("counts", counts(running), [2, 2, 0, 2])


async def rest_for_one() -> None:
    """The child that ended and the children after it are restarted; the children before it are not."""
    log: list[str] = []
    actors = [Actor(name, log) for name in "123"]
    async with supervisor(*map(child, actors), strategy="rest_for_one") as running:
        await end(actors[1], "abnormal")
        expect("log", log, ["+1", "+2", "+3", "-2", "-3", "+2", "+3"])
        expect("counts", counts(running), [3, 3, 0, 3])
        await end(actors[2], "abnormal")
        await end(actors[1], "abnormal")
        expect("is up", is_up(running), expected=False)


async def rest_for_one_escalation() -> None:
    """A later sibling that keeps failing to start reaches the restart limit, which ends the supervisor."""
    await _escalation("rest_for_one", 1)


async def rest_for_one_other_child_fails_restart() -> None:
    """If a later sibling fails to start, the children that were restarted stay up."""
    log: list[str] = []
    one, two = Actor("1", log), Actor("2", log, fails=[None, OSError("no start")])
    async with supervisor(child(one), child(two), strategy="rest_for_one", max_restarts=3) as running:
        await end(one, "abnormal")
        expect("log", log, ["+1", "+2", "-1", "-2", "+1", "+2"])
        expect("counts", counts(running), [2, 2, 0, 2])


async def order_of_children() -> None:
    """Children start in order and stop in reverse order, also in a restart."""
    log: list[str] = []
    names = ["ch7", "ch3", "ch10", "ch2", "ch5"]
    actors = {name: Actor(name, log) for name in names}
    async with supervisor(*map(child, actors.values()), strategy="rest_for_one"):
        expect("starts", log, [f"+{name}" for name in names])
        log.clear()
        await end(actors["ch10"], "abnormal")
        expect("restart", log, ["-ch10", "-ch5", "-ch2", "+ch10", "+ch2", "+ch5"])
        log.clear()
    expect("stops", log, [f"-{name}" for name in reversed(names)])


async def tree() -> None:
    """A supervisor that gave up is restarted by the one above, without the children that were added to it."""
    one, two, four = Actor("child1"), Actor("child2"), Actor("child4")
    three = Actor("child3", fails=[None, *[OSError("no start")] * 10])
    flags = {"max_restarts": 4, "within": 3600}
    low1 = SupervisorSpec("low1", (child(one), child(two)), **flags)  # type: ignore[arg-type]  # mypy takes the dict's values for all fields
    low2 = SupervisorSpec("low2", **flags)  # type: ignore[arg-type]  # as above
    low3 = SupervisorSpec("low3", restart="transient", **flags)  # type: ignore[arg-type]  # as above
    async with supervisor(low1, low2, low3, strategy="one_for_all", max_restarts=4) as running:
        await running.terminate_child("low3")
        expect("counts", (counts(running), counts(running, "low1")), ([3, 2, 3, 0], [2, 2, 0, 2]))
        await running.start_child(child(three), under="low2")
        await running.start_child(child(four), under="root/low2")
        await end(four, "abnormal")
        expect("starts", [actor.starts for actor in (one, two, three, four)], [1, 1, 1, 2])
        await end(three, "abnormal")
        await calm()
        expect("top", (counts(running), statuses(running)["low3"]), ([3, 3, 3, 0], RUNNING))
        below = [counts(running, name) for name in ("low1", "low2", "low3")]
        expect("below", below, [[2, 2, 0, 2], [0, 0, 0, 0], [0, 0, 0, 0]])
        expect("starts", (one.starts, two.starts), (2, 2))


async def do_not_save_child_specs_for_temporary_children() -> None:
    """A temporary child that ended is forgotten; the spec of any other child is kept."""
    for strategy in ("one_for_one", "one_for_all", "rest_for_one"):
        for how in ("normal", "abnormal", "kill", "supervisor"):
            actor = Actor("child1")
            async with supervisor(child(actor, "temporary"), strategy=strategy) as running:
                await (running.terminate_child("child1") if how == "supervisor" else end(actor, how))
                expect("children", statuses(running), {})
                await running.start_child(child(actor, "transient"))
                await running.terminate_child("child1")
                expect("children", statuses(running), {"child1": STOPPED})


_MODES = ("never", "any_significant", "all_significant")
_WAYS = ("supervisor", "kill", "abnormal", "normal")


async def _ends_with(
    auto_shutdown: str, restart: str, ways: tuple[str, ...], *, significant: bool = True
) -> list[bool]:
    """End child 1, 2, ... in these ways; return after each end whether the supervisor runs."""
    actors = [Actor(f"child{number}") for number in (1, 2)]
    specs = [child(actor, restart, significant=significant) for actor in actors]
    bystander = child(Actor("child3"), restart)
    ups = []
    async with supervisor(*specs, bystander, auto_shutdown=auto_shutdown, max_restarts=5) as running:
        for actor, how in zip(actors, ways, strict=False):
            await (running.terminate_child(actor.name) if how == "supervisor" else end(actor, how))
            await calm()
            ups.append(is_up(running))
    return ups


async def _insignificant(restart: str) -> None:
    for mode in _MODES:
        for how in _WAYS:
            ups = await _ends_with(mode, restart, (how, how), significant=False)
            expect(f"{mode} after {how}", ups, [True, True])


async def nonsignificant_temporary() -> None:
    """The end of a temporary child that is not significant never ends the supervisor."""
    await _insignificant("temporary")


async def nonsignificant_transient() -> None:
    """The end of a transient child that is not significant never ends the supervisor."""
    await _insignificant("transient")


async def significant_temporary() -> None:
    """Any end of a significant temporary child ends the supervisor, except a requested one."""
    for how in _WAYS:
        expect(f"any, {how}", await _ends_with("any_significant", "temporary", (how,)), [how == "supervisor"])
    expect("all", await _ends_with("all_significant", "temporary", ("normal", "normal")), [True, False])


async def significant_transient() -> None:
    """The normal end of a significant transient child ends the supervisor; after any other it is restarted."""
    for how in _WAYS:
        expect(f"any, {how}", await _ends_with("any_significant", "transient", (how,)), [how != "normal"])
    expect("all", await _ends_with("all_significant", "transient", ("normal", "normal")), [True, False])


async def significant_simple() -> None:
    """The end of any, or of the last, significant child of a pool ends the pool."""
    for mode, expected in (("any_significant", [False]), ("all_significant", [True, False])):
        template = child(Actor("worker"), "temporary", significant=True)
        pool = PoolSpec("pool", template, auto_shutdown=mode, restart="transient")  # type: ignore[arg-type]  # a literal each
        async with supervisor(pool) as running:
            await running.start_child("1", under="pool")
            first = template.target
            assert isinstance(first, Actor)  # noqa: S101  for the type checker
            orders = [first._order]  # noqa: SLF001  two children share one actor
            await running.start_child("2", under="pool")
            orders.append(first._order)  # noqa: SLF001  as above
            ups = []
            for order in orders[: len(expected)]:
                assert order is not None  # noqa: S101  both have started
                order.set_result(None)
                await calm()
                ups.append(is_up(running, "pool"))
            expect(mode, ups, expected)


async def significant_bystander() -> None:
    """A significant child that is stopped for the restart of a sibling does not end the supervisor."""
    for strategy in ("one_for_one", "one_for_all", "rest_for_one"):
        for mode in _MODES[1:]:
            one, two, three = Actor("child1"), Actor("child2"), Actor("child3")
            specs = (
                child(one, "transient", significant=True),
                child(two, "transient"),
                child(three, "transient", significant=True),
            )
            async with supervisor(*specs, strategy=strategy, auto_shutdown=mode, max_restarts=5) as running:
                await end(two, "kill")
                expect("is up", is_up(running), expected=True)
                expect("starts", two.starts, 2)


async def significant_escalation() -> None:
    """A supervisor that a significant child ended ends the supervisor above only if it is significant itself."""
    for significant in (True, False):
        actor = Actor("child1")
        low = SupervisorSpec(
            "low",
            (child(actor, "transient", significant=True),),
            auto_shutdown="any_significant",
            restart="transient",
            significant=significant,
        )
        async with supervisor(low, auto_shutdown="any_significant") as running:
            await end(actor, "normal")
            await calm()
            expect("low is up", is_up(running, "low"), expected=False)
            expect("top is up", is_up(running), expected=not significant)
