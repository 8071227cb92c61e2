"""Stops during a restart: the stop wins, and stops no other child."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import PoolSpec, RestartBackoff, SupervisorSpec, WorkerSpec, ready
from asyncwatch.otp import SimpleOneForOne, StartError
from asyncwatch.selftest.actors import Actor, calm, child, end, is_up, statuses
from asyncwatch.selftest.actors import supervisor as running

WAITS = RestartBackoff(base=10, cap=10)


class _Slow(Actor):
    """An actor that is ready only after half a second, or fails then if it is broken."""

    is_broken = False

    async def __call__(self, *args: object) -> object:
        await asyncio.sleep(0.5)
        if self.is_broken:
            raise OSError("no")
        return await super().__call__(*args)


@pytest.mark.parametrize("is_pool", [False, True])
def test_supervisor_whose_shutdown_time_is_over_starts_no_child_again(run: Any, *, is_pool: bool) -> None:
    async def main() -> None:
        low, late = Actor("low"), Actor("late", lingers=50)
        below = PoolSpec("below", child(low)) if is_pool else SupervisorSpec("below", (child(low),))
        async with running(SupervisorSpec("top", (below, child(late, shutdown=100)), shutdown=2)) as supervisor:
            if is_pool:
                await supervisor.start_child("1", under="below")
        assert low.log == ["+low", "-low"]

    run(main)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@pytest.mark.parametrize("is_person", [False, True])
def test_stop_of_one_child_within_a_group_restart_stops_no_other(run: Any, strategy: str, *, is_person: bool) -> None:
    """The children after it are started, because an interrupted start has not failed."""

    async def main() -> None:
        actors = [Actor("a"), _Slow("b"), Actor("c")]
        children = [child(actor, announces_ready=actor.name == "b") for actor in actors]
        async with running(*children, strategy=strategy) as supervisor:
            await end(actors[0], "abnormal")
            assert statuses(supervisor) == {"a": "running", "b": "starting", "c": "stopped"}
            if is_person:
                supervisor.cancel("b")
            else:
                await supervisor.terminate_child("b")
            await asyncio.sleep(100)
            assert statuses(supervisor) == {"a": "running", "b": "stopped", "c": "running"}

    run(main)


@pytest.mark.parametrize("is_terminated", [False, True])
def test_significant_child_that_is_down_for_a_failing_restart_does_not_count(run: Any, *, is_terminated: bool) -> None:
    """As in OTP, the supervisor ends with its last running significant child, even if a restart is pending."""

    async def main() -> None:
        first, slow, last = Actor("first"), _Slow("slow"), Actor("last")
        children = (
            child(first, "transient", significant=True),
            child(slow, announces_ready=True),
            child(last, "transient", significant=True),
        )
        flags = {"strategy": "rest_for_one", "auto_shutdown": "all_significant", "max_restarts": 1000}
        async with running(*children, **flags) as supervisor:
            slow.is_broken = True
            await end(slow, "abnormal")
            await asyncio.sleep(2.6)
            if is_terminated:
                await supervisor.terminate_child("slow")
            first.ends("normal")
            await asyncio.sleep(3)
            assert not is_up(supervisor)

    run(main)


def test_end_of_a_wait_starts_only_the_children_that_were_stopped_for_it(run: Any) -> None:
    """No child that waits with another one, or whose restart was given up, starts with a third."""

    async def main() -> None:
        one, two, other = Actor("one"), Actor("two"), Actor("other")
        children = child(one, backoff=WAITS), child(two)
        async with running(*children, strategy="rest_for_one", max_restarts=100) as supervisor:
            await end(one, "abnormal")
            await supervisor.start_child(child(other, backoff=WAITS))
            await end(other, "abnormal")
            await supervisor.terminate_child("other")
            await calm()
            assert statuses(supervisor) == {"one": "restarting", "two": "stopped", "other": "stopped"}

    run(main)


@pytest.mark.parametrize("is_person", [False, True])
def test_sibling_that_is_stopped_during_a_backoff_stays_down_after_it(run: Any, *, is_person: bool) -> None:
    """The next restart includes it."""

    async def main() -> None:
        one, two = Actor("one"), Actor("two")
        async with running(child(one, backoff=WAITS), child(two), strategy="one_for_all") as supervisor:
            await end(one, "abnormal")
            if is_person:
                supervisor.cancel("two")
            else:
                await supervisor.terminate_child("two")
            await asyncio.sleep(30)
            assert statuses(supervisor) == {"one": "running", "two": "stopped"}
            await end(one, "abnormal")
            await asyncio.sleep(30)
            assert statuses(supervisor) == {"one": "running", "two": "running"}

    run(main)


def test_terminate_of_a_child_that_is_being_added_succeeds(run: Any) -> None:
    """The caller that added the child gets an error that says why it did not start."""

    async def main() -> None:
        async def hanging() -> None:
            await asyncio.sleep(1e6)
            await ready()

        async with running() as supervisor:
            spec = WorkerSpec("worker", hanging, restart="permanent", announces_ready=True)
            starting = asyncio.create_task(supervisor.start_child(spec))
            await calm()
            await supervisor.terminate_child("worker")
            with pytest.raises(StartError, match="stopped by request before it was ready"):
                await starting
            assert statuses(supervisor) == {}

    run(main)


def test_pool_finds_its_template_by_name(run: Any) -> None:
    """Even in an empty pool. The template is no child that could be stopped."""

    async def main() -> None:
        template = child(Actor("template"))
        async with running(PoolSpec("pool", template)) as supervisor:
            assert supervisor.get_childspec("template", under="pool") is template
            with pytest.raises(SimpleOneForOne):
                await supervisor.terminate_child("template", under="pool")

    run(main)
