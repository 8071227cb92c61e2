"""A supervisor that a person restarts or stops, with all below it, as the child that it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import PoolSpec, Supervisor, SupervisorSpec, WorkerSpec
from asyncwatch.commands import CancelBranch, RestartBranch, RestartWorker
from asyncwatch.events import ChildRemoved, CommandRefused, SupervisorStarted
from asyncwatch.selftest.actors import Actor, calm, child, end, statuses
from asyncwatch.selftest.actors import supervisor as running
from tests.engine.fleets import drain, sleeper, worker


def _cast(log: list[str]) -> list[Actor]:
    return [Actor(name, log) for name in "abcd"]


@pytest.mark.parametrize(
    ("strategy", "story"),
    [
        ("one_for_one", ["-c", "-b", "+b", "+c"]),
        ("rest_for_one", ["-d", "-c", "-b", "+b", "+c", "+d"]),
        ("one_for_all", ["-d", "-c", "-b", "-a", "+a", "+b", "+c", "+d"]),
    ],
)
def test_restart_of_a_branch_respects_the_strategy_above(run: Any, strategy: Any, story: list[str]) -> None:
    """All below ends in reverse order and starts anew, once; siblings go along as for any child; nothing is counted."""

    async def main() -> None:
        log: list[str] = []
        a, b, c, d = map(child, _cast(log))
        low = SupervisorSpec("low", (b, c))
        async with Supervisor([a, low, d], strategy=strategy, max_restarts=0) as supervisor:
            queue = supervisor.subscribe()
            log.clear()
            assert supervisor.carry_out(RestartBranch("root/low", 1))
            assert supervisor.carry_out(RestartBranch("root/low", 1))  # at once: the same incarnation is meant
            await calm()
            assert log == story
            await asyncio.sleep(1)
            events = drain(queue)
            starts = [event.incarnation for event in events if isinstance(event, SupervisorStarted)]
            (refused,) = [event for event in events if isinstance(event, CommandRefused)]
            assert starts == [1, 2]
            assert (refused.command, refused.reason) == (
                "RestartBranch",
                "low: that was incarnation 1, it is 2 now",
            )

    run(main)


def test_root_is_restarted_by_its_children(run: Any) -> None:
    """It has nobody above, so all its children end in reverse order and start in order."""

    async def main() -> None:
        log: list[str] = []
        children = map(child, _cast(log))
        async with Supervisor(children, max_restarts=0) as supervisor:
            log.clear()
            assert supervisor.carry_out(RestartBranch("root", 1))
            await calm()
            assert log == ["-d", "-c", "-b", "-a", "+a", "+b", "+c", "+d"]
            assert supervisor.carry_out(CancelBranch("root", 1))
            await calm()
            assert log[8:] == ["-d", "-c", "-b", "-a"]
            assert set(statuses(supervisor).values()) == {"stopped"}

    run(main)


def test_branch_that_was_stopped_can_be_restarted(run: Any) -> None:
    """A supervisor that a person stopped stays a child, and comes back by request, as a new incarnation."""

    async def main() -> None:
        log: list[str] = []
        a, b, _c, _d = map(child, _cast(log))
        async with Supervisor([SupervisorSpec("low", (a, b))]) as supervisor:
            assert supervisor.carry_out(CancelBranch("root/low", 1))
            await calm()
            assert (statuses(supervisor), log[2:]) == ({"low": "stopped"}, ["-b", "-a"])
            assert not supervisor.carry_out(CancelBranch("root/low", 1))
            assert supervisor.carry_out(RestartBranch("root/low", 1))
            await calm()
            assert statuses(supervisor, "low") == {"a": "running", "b": "running"}

    run(main)


def test_group_of_a_batch_is_restarted_and_cancelled(run: Any) -> None:
    """There is no supervisor above: each of its workers is restarted, or cancelled if it has not ended."""

    async def main() -> None:
        specs = [worker(name, sleeper, seconds, group="jobs") for name, seconds in (("quick", 1), ("slow", 100))]
        async with Supervisor([*specs, worker("other", sleeper, 1)]) as supervisor:
            running = asyncio.create_task(supervisor.gather())
            await asyncio.sleep(2)
            assert supervisor.carry_out(RestartBranch("jobs"))
            await asyncio.sleep(2)
            assert supervisor.carry_out(CancelBranch("jobs"))
            assert not supervisor.carry_out(RestartBranch("none"))
            await running
            assert [(o.name, o.incarnation, o.state) for o in supervisor.outcomes()] == [
                ("quick", 2, "succeeded"),
                ("slow", 2, "cancelled"),
                ("other", 1, "succeeded"),
            ]
            assert not supervisor.carry_out(CancelBranch("jobs"))

    run(main)


def _reasons(supervisor: Supervisor, queue: Any, *commands: Any) -> list[str]:
    for command in commands:
        assert not supervisor.carry_out(command)
    supervisor._machine.report.outbox.flush()
    return [event.reason for event in drain(queue) if isinstance(event, CommandRefused)]


def test_refusals_say_why(run: Any) -> None:
    """A child that was forgotten, and a tree that gave up, are named as what they are."""

    async def main() -> None:
        gone, flapping = Actor("gone"), Actor("flapping")
        async with running(child(gone, "temporary"), child(flapping), max_restarts=0, within=5) as supervisor:
            queue = supervisor.subscribe()
            await end(gone, "normal")
            (forgotten,) = _reasons(supervisor, queue, RestartWorker("gone", 1))
            assert forgotten.startswith("its supervisor has forgotten it: what is temporary")
            await end(flapping, "abnormal")
            ended = _reasons(supervisor, queue, RestartWorker("flapping", 1), RestartBranch("root", 1))
            why = "the tree has ended (RestartLimitError: root gave up: more than 0 restarts within 5 s): only"
            assert [why in reason for reason in ended] == [True, True]

    run(main)


def test_every_removal_is_told(run: Any) -> None:
    """Of a pool: who ended, who did not start, and who was there when the pool ended, once it starts anew."""

    async def main() -> None:
        async def play(actor: Actor) -> object:
            return await actor()

        pool = PoolSpec("pool", WorkerSpec("player", play, restart="temporary"))
        async with Supervisor([pool]) as supervisor:
            queue = supervisor.subscribe()
            for key in ("done", "there"):
                actor = Actor(key)
                await supervisor.start_child(key, actor, under="pool")
                if key == "done":
                    await end(actor, "normal")
            with pytest.raises(Exception, match="did not start"):
                await supervisor.start_child("bad", Actor("bad", fails=[OSError()]), under="pool")
            supervisor.carry_out(RestartBranch("root/pool", 1))
            await asyncio.sleep(1)
            removed = [event.child for event in drain(queue) if isinstance(event, ChildRemoved)]
            assert removed == ["done", "bad", "there"]
            assert supervisor.outcomes() == []

    run(main)
