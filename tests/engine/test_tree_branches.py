"""Supervisors that a person restarts or stops together with their children."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import PoolSpec, Run, Supervisor, SupervisorSpec, WorkerSpec
from asyncwatch.commands import CancelBranch, RestartBranch, RestartWorker
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import ChildRemoved, CommandRefused, SupervisorStarted
from asyncwatch.otp import RestartLimitError
from asyncwatch.selftest.actors import Actor, calm, child, end, statuses
from asyncwatch.selftest.actors import supervisor as running
from tests.engine.fleets import drain, sleeper, worker


def _actors(log: list[str]) -> list[Actor]:
    return [Actor(name, log) for name in "abcd"]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("one_for_one", ["-c", "-b", "+b", "+c"]),
        ("rest_for_one", ["-d", "-c", "-b", "+b", "+c", "+d"]),
        ("one_for_all", ["-d", "-c", "-b", "-a", "+a", "+b", "+c", "+d"]),
    ],
)
def test_restart_of_a_supervisor_follows_the_strategy_above(run: Any, strategy: Any, expected: list[str]) -> None:
    """Its children stop in reverse order and start again, once. The restart does not count."""

    async def main() -> None:
        log: list[str] = []
        a, b, c, d = map(child, _actors(log))
        low = SupervisorSpec("low", (b, c))
        async with Supervisor([a, low, d], strategy=strategy, max_restarts=0) as supervisor:
            queue = supervisor.subscribe()
            log.clear()
            for _ in range(2):
                assert control_of(supervisor).carry_out(RestartBranch("root/low", 1))
            await calm()
            assert log == expected
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


def test_root_can_be_restarted_and_cancelled_with_all_its_children(run: Any) -> None:
    async def main() -> None:
        log: list[str] = []
        children = map(child, _actors(log))
        async with Supervisor(children, max_restarts=0) as supervisor:
            log.clear()
            assert control_of(supervisor).carry_out(RestartBranch("root", 1))
            await calm()
            assert log == ["-d", "-c", "-b", "-a", "+a", "+b", "+c", "+d"]
            assert control_of(supervisor).carry_out(CancelBranch("root", 1))
            await calm()
            assert log[8:] == ["-d", "-c", "-b", "-a"]
            assert set(statuses(supervisor).values()) == {"stopped"}

    run(main)


def test_supervisor_that_was_stopped_by_a_person_is_restarted_as_a_new_incarnation(run: Any) -> None:
    async def main() -> None:
        log: list[str] = []
        a, b, _c, _d = map(child, _actors(log))
        async with Supervisor([SupervisorSpec("low", (a, b))]) as supervisor:
            assert control_of(supervisor).carry_out(CancelBranch("root/low", 1))
            await calm()
            assert (statuses(supervisor), log[2:]) == ({"low": "stopped"}, ["-b", "-a"])
            assert not control_of(supervisor).carry_out(CancelBranch("root/low", 1))
            assert control_of(supervisor).carry_out(RestartBranch("root/low", 1))
            await calm()
            assert statuses(supervisor, "low") == {"a": "running", "b": "running"}

    run(main)


def test_group_of_a_batch_is_restarted_and_cancelled(run: Any) -> None:
    async def main() -> None:
        specs = [worker(name, sleeper, seconds, group="jobs") for name, seconds in (("quick", 1), ("slow", 100))]
        async with Run([*specs, worker("other", sleeper, 1)]) as supervisor:
            running = asyncio.create_task(supervisor.gather())
            await asyncio.sleep(2)
            assert control_of(supervisor).carry_out(RestartBranch("jobs"))
            await asyncio.sleep(2)
            assert control_of(supervisor).carry_out(CancelBranch("jobs"))
            assert not control_of(supervisor).carry_out(RestartBranch("none"))
            await running
            assert [(o.name, o.incarnation, o.state) for o in supervisor.outcomes()] == [
                ("quick", 2, "succeeded"),
                ("slow", 2, "cancelled"),
                ("other", 1, "succeeded"),
            ]
            assert not control_of(supervisor).carry_out(CancelBranch("jobs"))

    run(main)


def _reasons(supervisor: Supervisor, queue: Any, *commands: Any) -> list[str]:
    for command in commands:
        assert not control_of(supervisor).carry_out(command)
    supervisor._scheduler.reporter.outbox.flush()
    return [event.reason for event in drain(queue) if isinstance(event, CommandRefused)]


def test_refusal_of_a_command_says_why(run: Any) -> None:
    async def main() -> None:
        gone, flapping = Actor("gone"), Actor("flapping")
        async with running(child(gone, "temporary"), child(flapping), max_restarts=0, within=5) as supervisor:
            queue = supervisor.subscribe()
            await end(gone, "normal")
            (forgotten,) = _reasons(supervisor, queue, RestartWorker("gone", 1))
            assert forgotten.startswith("its supervisor has forgotten it: a child that is temporary")
            await end(flapping, "abnormal")
            ended = _reasons(supervisor, queue, RestartWorker("flapping", 1), RestartBranch("root", 1))
            why = "the tree has ended (RestartLimitError: root gave up: more than 0 restarts within 5 s): restart root"
            assert [why in reason for reason in ended] == [True, True]

    run(main)


def test_every_removal_from_a_pool_is_reported(run: Any) -> None:
    """The child ended or did not start, or its pool started again."""

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
            control_of(supervisor).carry_out(RestartBranch("root/pool", 1))
            await asyncio.sleep(1)
            removed = [event.child for event in drain(queue) if isinstance(event, ChildRemoved)]
            assert removed == ["done", "bad", "there"]
            assert supervisor.outcomes() == []

    run(main)


def test_root_that_gave_up_is_started_again_while_the_run_stays_open(run: Any) -> None:
    async def main() -> None:
        log: list[str] = []
        a, b = Actor("a", log), Actor("b", log)
        supervisor = Supervisor([child(a), child(b)], max_restarts=0)
        control = control_of(supervisor)
        async with supervisor:
            queue = supervisor.subscribe()
            again = None
            for incarnation in (1, 2):
                if again is not None:
                    await again
                await end(a, "abnormal")
                with pytest.raises(RestartLimitError):
                    await supervisor.serve()
                assert control.is_at_rest
                assert not control.carry_out(RestartBranch("root", incarnation))  # no viewer waits for it
                again = asyncio.ensure_future(control.tree_started_again())
                await asyncio.sleep(0)
                assert not control.carry_out(RestartBranch("root", incarnation + 5))
                log.clear()
                assert control.carry_out(RestartBranch("root", incarnation))
                await calm()
                assert log == ["+a", "+b"]
            await asyncio.sleep(1)
            events = drain(queue)
            assert [event.incarnation for event in events if isinstance(event, SupervisorStarted)] == [2, 3]
            reasons = [event.reason for event in events if isinstance(event, CommandRefused)]
            assert reasons[:2] == ["root: the run is ending", "root: that was incarnation 6, it is 1 now"]
            assert again is not None
            await again
        assert log[-2:] == ["-b", "-a"]

    run(main)
