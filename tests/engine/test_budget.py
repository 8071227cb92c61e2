"""Retry budget: what retries cost, and how a run behaves that has spent it."""

from __future__ import annotations

import asyncio
from typing import Any

from asyncwatch import RetryBudget, RetryPolicy, Run, Supervisor, WorkerState
from asyncwatch.commands import CancelWorker, GiveUp, RestartWorker
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import RetryRefused, RetryScheduled, WorkerExhausted
from asyncwatch.events.story import story
from tests.engine.fleets import AT_ONCE, Flaky, drain, raiser, sleeper, worker


def test_retry_beyond_the_budget_is_refused_and_exhausts_the_worker(run: Any) -> None:
    async def main() -> None:
        budget = RetryBudget(tokens=19)
        specs = [worker(name, raiser, ConnectionError(), retry=AT_ONCE) for name in "ab"]
        supervisor = Run(specs, seed=1, retry_budget=budget)
        queue = supervisor.subscribe()
        outcomes = await supervisor.gather()
        assert [(o.state, o.attempts) for o in outcomes] == [(WorkerState.EXHAUSTED, 3), (WorkerState.EXHAUSTED, 2)]
        events = drain(queue)
        assert story(events, "b")[-3:] == ["AttemptFailed", "RetryRefused", "WorkerExhausted"]
        (refused,) = [event for event in events if isinstance(event, RetryRefused)]
        assert (refused.worker, refused.attempt, refused.reason) == ("b", 3, "retry budget")
        ends = [event.refusal for event in events if isinstance(event, WorkerExhausted)]
        assert sorted(ends) == ["", "retry budget"]
        statistics = supervisor.statistics()
        assert (statistics.retry_tokens, statistics.retry_capacity) == (4, 19)

    run(main)


def test_requested_restart_makes_all_its_attempts_outside_the_budget(run: Any) -> None:
    async def main() -> None:
        async with Run(
            [worker("a", raiser, ConnectionError(), retry=AT_ONCE)], seed=1, retry_budget=RetryBudget(tokens=7)
        ) as supervisor:
            (first,) = await supervisor.gather()
            assert (first.attempts, supervisor.statistics().retry_tokens) == (2, 2)
            assert supervisor.restart("a")
            await control_of(supervisor).wait_settled()
            (again,) = supervisor.outcomes()
            assert (again.incarnation, again.attempts, supervisor.statistics().retry_tokens) == (2, 3, 2)

    run(main)


def test_restarts_by_a_supervisor_share_one_budget_for_all_incarnations(run: Any) -> None:
    async def main() -> None:
        service = worker("s", raiser, ConnectionError(), 1.0, restart="permanent")
        settings: dict[str, Any] = {"max_restarts": 100, "retry_budget": RetryBudget(tokens=20)}
        async with Supervisor([service], seed=1, **settings) as supervisor:
            queue = supervisor.subscribe()
            await asyncio.sleep(20.5)
            retried = [event for event in drain(queue) if isinstance(event, RetryScheduled)]
        assert len(retried) == 4

    run(main)


def test_successes_pay_for_later_retries(run: Any) -> None:
    async def main() -> int:
        budget = RetryBudget(tokens=5)
        supervisor = Run(
            [
                worker("first", Flaky(OSError(), ConnectionError())),
                worker("paid", Flaky(ConnectionError())),
                *[worker(str(n), sleeper, 1.0) for n in range(5)],
                worker("later", fail_last),
            ],
            seed=1,
            retry_budget=budget,
        )
        return (await supervisor.gather())[-1].attempts

    assert run(main) == 2


async def fail_last() -> None:
    """Fail after the others have succeeded."""
    await sleeper(2.0)
    raise ConnectionError


def test_run_without_a_budget_makes_every_retry(run: Any) -> None:
    async def main() -> list[int]:
        specs = [worker(str(n), raiser, TimeoutError()) for n in range(200)]
        return [outcome.attempts for outcome in await Run(specs, retry_budget=None).gather()]

    assert run(main) == [3] * 200


def test_retry_that_is_not_made_costs_nothing(run: Any) -> None:
    """Its worker is given up, cancelled or restarted during the backoff."""

    async def main() -> list[float | None]:
        patient = RetryPolicy(backoff="constant", base=100.0, cap=100.0)
        errors = [ConnectionError(), TimeoutError(), ConnectionError()]
        specs = [worker(str(n), Flaky(error), retry=patient) for n, error in enumerate(errors)]
        supervisor = Run(specs, seed=1, retry_budget=RetryBudget(success_gain=0.0))
        left: list[float | None] = []

        async def act() -> None:
            for step in (GiveUp("0", 1), CancelWorker("1", 1), RestartWorker("2", 1)):
                await asyncio.sleep(1.0)
                left.append(supervisor.statistics().retry_tokens)
                control_of(supervisor).carry_out(step)
            left.append(supervisor.statistics().retry_tokens)

        acting = asyncio.create_task(act())
        await supervisor.gather()
        await acting
        return left

    assert run(main) == [480.0, 485.0, 495.0, 500.0]
