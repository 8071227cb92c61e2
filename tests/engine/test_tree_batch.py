"""A batch beside a tree: its workers have no supervisor, and have retries, slots and a halt as in any batch."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import BadLuck, Halt, PoolSpec, Supervisor, SupervisorSpec
from asyncwatch.commands import ChangeSetting, RestartWorker
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import RunHalted, RunStarted, WorkersQueued
from asyncwatch.selftest.actors import Actor, calm, child, end, statuses
from asyncwatch.selftest.actors import supervisor as running
from tests.engine.fleets import Flaky, drain, raiser, sleeper, worker


def _jobs(number: int, seconds: float = 1.0) -> list[Any]:
    return [worker(f"job {n}", sleeper, seconds, group="jobs") for n in range(number)]


def test_batch_beside_a_tree_needs_slots_and_services_do_not(run: Any) -> None:
    async def main() -> None:
        one, two = Actor("one"), Actor("two")
        async with Supervisor([child(one), child(two)], concurrency=2, batch=_jobs(6)) as supervisor:
            await calm()
            figures = supervisor.statistics()
            assert (figures.in_flight, figures.queued, figures.tasks) == (4, 4, 4)
            await end(one, "abnormal")
            assert (one.starts, statuses(supervisor)) == (2, {"one": "running", "two": "running"})
            await asyncio.sleep(2.5)
            assert len(supervisor.outcomes()) == 4
            await asyncio.sleep(1)
            assert len(supervisor.outcomes()) == 6
            assert control_of(supervisor).carry_out(ChangeSetting("concurrency", 5))

    run(main)


def test_batch_beside_a_tree_is_retried_and_restarted(run: Any) -> None:
    async def main() -> None:
        flaky = Flaky(ConnectionError("once"))
        supervisor = Supervisor([child(Actor("one"))], batch=[worker("job", flaky, group="jobs")])
        queue = supervisor.subscribe()
        async with supervisor:
            await asyncio.sleep(1)
            assert [(o.state, o.attempts) for o in supervisor.outcomes()] == [("succeeded", 2)]
            assert control_of(supervisor).carry_out(RestartWorker("job", 1))
            await asyncio.sleep(1)
            assert [(o.state, o.incarnation) for o in supervisor.outcomes()] == [("succeeded", 2)]
            groups = [event.group for event in drain(queue) if isinstance(event, WorkersQueued)]
            assert groups == ["jobs", "root"]

    run(main)


def test_batch_beside_a_tree_halts_alone(run: Any) -> None:
    """Only failures of the batch count, and the services go on."""

    async def main() -> None:
        jobs = [worker(f"bad {n}", raiser, ValueError(), group="jobs") for n in range(2)] + _jobs(2, 100)
        service = Actor("one")
        halt = Halt(share=0.5, mode="now")
        async with Supervisor([child(service)], max_restarts=9, batch=jobs, halt=halt) as supervisor:
            queue = supervisor.subscribe()
            await asyncio.sleep(1)
            assert [event.stopped for event in drain(queue) if isinstance(event, RunHalted)] == [2]
            assert statuses(supervisor) == {"one": "running"}

    run(main)


def test_end_of_the_tree_ends_the_batch(run: Any) -> None:
    """If the tree does not start, the batch never begins."""

    async def main() -> None:
        service = Actor("one")
        async with running(child(service), max_restarts=0, batch=_jobs(2, 100)) as supervisor:
            serving = asyncio.create_task(supervisor.serve())
            await calm()
            await end(service, "abnormal")
            await asyncio.wait([serving])
            assert serving.exception() is not None
            await calm()
            assert [o.state for o in supervisor.outcomes()] == ["cancelled", "cancelled", "failed"]
        bad = Supervisor([child(Actor("bad", fails=[OSError()]))], batch=_jobs(1))
        with pytest.raises(Exception, match="bad did not start"):
            await bad.serve()
        assert [(o.state, o.attempts) for o in bad.outcomes()] == [("cancelled", 0), ("failed", 1)]

    run(main)


def test_group_timeout_beside_a_tree_counts_from_the_start_of_the_batch(run: Any) -> None:
    async def main() -> None:
        async with Supervisor([], max_restarts=1, batch=_jobs(1, 100), group_timeouts={"jobs": 3}) as supervisor:
            await asyncio.sleep(4)
            assert [o.state for o in supervisor.outcomes()] == ["timed out"]

    run(main)


def test_service_in_the_batch_beside_a_tree_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch has no services"):
        Supervisor([], batch=[child(Actor("one"))])


@pytest.mark.parametrize("thresholds", [(0.98, 0.98), (0.98, 0.99), (1.0, 0.98)])
def test_reported_bad_luck_includes_services_and_pool_templates(run: Any, thresholds: tuple[float, float]) -> None:
    async def main() -> None:
        job, service = (BadLuck(threshold=threshold) for threshold in thresholds)
        jobs = [worker("job", sleeper, 1.0, bad_luck=job)]
        for spec in (child(Actor("one"), bad_luck=service), PoolSpec("pool", child(Actor("one"), bad_luck=service))):
            supervisor = Supervisor([SupervisorSpec("below", (spec,))], batch=jobs, seed=1)
            queue = supervisor.subscribe()
            async with supervisor:
                await calm()
            assert [event.bad_luck for event in drain(queue) if isinstance(event, RunStarted)] == [
                thresholds[0] if len(set(thresholds)) == 1 else None
            ]

    run(main)
