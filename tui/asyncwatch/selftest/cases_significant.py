"""Supervisors that shut down with their significant children."""

from __future__ import annotations

from asyncwatch.selftest.actors import Actor, calm, child, end, expect, is_up, supervisor
from asyncwatch.supervise.tree.specs import PoolSpec, SupervisorSpec

_MODES = ("never", "any_significant", "all_significant")
_WAYS = ("supervisor", "kill", "abnormal", "normal")


async def _ends_with(
    auto_shutdown: str, restart: str, ways: tuple[str, ...], *, significant: bool = True
) -> list[bool]:
    """End child 1, 2, ... in these ways; return after each whether the supervisor runs."""
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
    """Any end of a temporary significant child counts, but not a request to stop it."""
    for how in _WAYS:
        expect(f"any, {how}", await _ends_with("any_significant", "temporary", (how,)), [how == "supervisor"])
    expect("all", await _ends_with("all_significant", "temporary", ("normal", "normal")), [True, False])


async def significant_transient() -> None:
    """Only the normal end of a transient significant child counts: after another it is restarted."""
    for how in _WAYS:
        expect(f"any, {how}", await _ends_with("any_significant", "transient", (how,)), [how != "normal"])
    expect("all", await _ends_with("all_significant", "transient", ("normal", "normal")), [True, False])


async def significant_simple() -> None:
    """The same in a pool."""
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
    """A significant child that is stopped because a sibling is restarted does not end the supervisor."""
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
    """A supervisor that shuts down with its significant child takes along the one above only if it is significant."""
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
