"""Retry budget: what retries cost, and how a run behaves that has spent it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import RetryBudget, RetryPolicy, Run, Supervisor, ThrottlePolicy, WorkerState
from asyncwatch.commands import CancelWorker, ChangeSetting, GiveUp, RestartWorker, RetryNow
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import AttemptHeld, RetryRefused, RetryScheduled, WorkerExhausted
from asyncwatch.events.story import story
from tests.engine.fleets import AT_ONCE, Flaky, drain, raiser, run_batch, sleeper, starts, worker


def test_retry_beyond_the_budget_is_refused_and_exhausts_the_worker(run: Any) -> None:
    async def main() -> None:
        budget = RetryBudget(tokens=19, mode="refuse")
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
            [worker("a", raiser, ConnectionError(), retry=AT_ONCE)],
            seed=1,
            retry_budget=RetryBudget(tokens=7, mode="refuse"),
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
        settings: dict[str, Any] = {"max_restarts": 100, "retry_budget": RetryBudget(tokens=20, mode="refuse")}
        async with Supervisor([service], seed=1, **settings) as supervisor:
            queue = supervisor.subscribe()
            await asyncio.sleep(20.5)
            retried = [event for event in drain(queue) if isinstance(event, RetryScheduled)]
        assert len(retried) == 4

    run(main)


def test_successes_pay_for_later_retries(run: Any) -> None:
    async def main() -> int:
        budget = RetryBudget(tokens=5, mode="refuse")
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
        supervisor = Run(specs, seed=1, retry_budget=RetryBudget(success_gain=0.0, mode="refuse"))
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


ONE_EACH_SECOND = RetryBudget(tokens=5, success_gain=0.0, time_gain=5.0)
"""A budget that is empty after one retry, and pays for another each second."""


def in_turn(count: int) -> list[Any]:
    """Return workers that fail at once and retry one after the other, within a tenth of a second."""
    waits = [n / 100 for n in range(count)]
    policies = [RetryPolicy(backoff="constant", base=wait, cap=wait) for wait in waits]
    return [worker(str(n), Flaky(ConnectionError()), retry=policy) for n, policy in enumerate(policies)]


def held(events: list[Any]) -> list[tuple[str, str, str]]:
    """Return the worker, the reason and the key of each report of a wait."""
    return [(event.worker, event.reason, event.key) for event in events if isinstance(event, AttemptHeld)]


def test_retries_beyond_the_budget_wait_for_tokens_in_order(run: Any) -> None:
    events, outcomes = run_batch(run, in_turn(4), retry_budget=ONE_EACH_SECOND)
    assert all(outcome.is_success for outcome in outcomes)
    assert [starts(events, str(n))[1] for n in range(4)] == pytest.approx([0, 1, 2, 3], abs=0.01)
    assert held(events) == [("1", "budget", ""), ("2", "budget", ""), ("3", "budget", "")]


def test_retry_that_comes_while_others_wait_for_tokens_does_not_overtake_them(run: Any) -> None:
    late = RetryPolicy(backoff="constant", base=2.0, cap=2.0)
    specs = [*in_turn(4), worker("x", Flaky(ConnectionError()), retry=late)]
    events, _ = run_batch(run, specs, retry_budget=ONE_EACH_SECOND)
    assert [starts(events, name)[1] for name in "0123x"] == pytest.approx([0, 1, 2, 3, 4], abs=0.01)


@pytest.mark.parametrize("by", ["key", "target"])
def test_retries_of_a_host_that_is_down_do_not_starve_those_of_another(run: Any, by: str) -> None:
    """Each gets every second token, in whatever order the retries came."""

    async def down() -> None:
        raise ConnectionError

    async def flaky(tried: list[str], name: str) -> None:
        if name not in tried:
            tried.append(name)
            raise ConnectionError

    async def main() -> tuple[list[Any], float]:
        tried = list[str]()
        late = RetryPolicy(backoff="constant", base=1.0, cap=1.0)
        keys = {"down": "down", "up": "up"} if by == "key" else {"down": None, "up": None}
        specs = [worker(f"down{n}", down, key=keys["down"], retry=AT_ONCE) for n in range(200)]
        specs += [worker(f"up{n}", flaky, tried, f"up{n}", key=keys["up"], retry=late) for n in range(10)]
        budget = RetryBudget(tokens=5, success_gain=0.0, time_gain=5.0)
        batch = Run(specs, seed=1, concurrency=210, retry_budget=budget)
        outcomes = await batch.gather()
        return outcomes, max(outcome.elapsed for outcome in outcomes[200:])

    outcomes, longest = run(main)
    assert all(outcome.is_success for outcome in outcomes[200:])
    assert longest == pytest.approx(21, abs=2)


def test_success_pays_for_a_retry_that_waits(run: Any) -> None:
    budget = RetryBudget(tokens=5, success_gain=2.5, time_gain=0.0)
    events, outcomes = run_batch(run, [*in_turn(2), worker("c", sleeper, 7.0)], retry_budget=budget)
    assert all(outcome.is_success for outcome in outcomes)
    assert (starts(events, "0"), starts(events, "1")) == ([0, 0], [0, 7])


@pytest.mark.parametrize(
    "settings",
    [
        {"throttle": ThrottlePolicy(patience=20.0), "retry_budget": RetryBudget(tokens=5, time_gain=0.0)},
        {"throttle": None, "retry_budget": RetryBudget(tokens=5, time_gain=0.0, patience=20.0)},
    ],
)
def test_retry_waits_for_tokens_no_longer_than_the_patience(run: Any, settings: dict[str, Any]) -> None:
    specs = [worker(name, raiser, ConnectionError(), retry=AT_ONCE) for name in "ab"]
    events, outcomes = run_batch(run, specs, **settings)
    assert [(o.state, o.attempts, o.elapsed) for o in outcomes] == [
        (WorkerState.EXHAUSTED, 2, pytest.approx(20, abs=0.1)),
        (WorkerState.EXHAUSTED, 1, pytest.approx(20, abs=0.1)),
    ]
    assert {event.reason for event in events if isinstance(event, RetryRefused)} == {"retry budget"}
    assert all(isinstance(outcome.error, ConnectionError) for outcome in outcomes)


def test_patience_of_a_retry_does_not_run_while_the_budget_pays_for_others(run: Any) -> None:
    """An outage that all workers met at once loses none of them: the retries are made one after another."""
    budget = RetryBudget(tokens=5, success_gain=0.0, time_gain=5.0, patience=20.0)
    specs = [worker(str(n), Flaky(ConnectionError()), retry=AT_ONCE) for n in range(60)]
    _, outcomes = run_batch(run, specs, concurrency=60, retry_budget=budget)
    assert all(outcome.is_success for outcome in outcomes)
    assert max(outcome.elapsed for outcome in outcomes) == pytest.approx(59, abs=1)


def test_patience_of_a_retry_ends_whatever_its_moment_is_rounded_to(run: Any) -> None:
    async def main() -> None:
        for n in range(100):
            budget = RetryBudget(tokens=5, time_gain=0.0, patience=3.3)
            batch = Run([worker("a", raiser, ConnectionError(), n * 0.1)], seed=1, retry_budget=budget)
            (outcome,) = await batch.gather(timeout=100.0)
            assert (outcome.state, outcome.attempts) == (WorkerState.EXHAUSTED, 2)

    run(main)


def test_patience_of_a_retry_that_waits_for_tokens_does_not_end_in_a_pause(run: Any) -> None:
    specs = [worker(name, raiser, ConnectionError(), retry=AT_ONCE) for name in "ab"]
    pause = (10.0, ChangeSetting("paused", True)), (50.0, ChangeSetting("paused", False))
    budget = RetryBudget(tokens=5, time_gain=0.0, patience=20.0)
    _, outcomes = run_batch(run, specs, *pause, retry_budget=budget)
    assert [outcome.elapsed for outcome in outcomes] == [pytest.approx(60, abs=0.1)] * 2


def test_retry_that_waits_for_tokens_ends_at_its_deadline(run: Any) -> None:
    specs = [worker("a", Flaky(ConnectionError())), worker("b", Flaky(ConnectionError()), deadline=7.0)]
    events, outcomes = run_batch(run, specs, retry_budget=RetryBudget(tokens=5, time_gain=0.0, success_gain=0.0))
    assert (outcomes[1].state, outcomes[1].elapsed) == (WorkerState.EXHAUSTED, 7.0)
    assert [event.reason for event in events if isinstance(event, RetryRefused)] == ["deadline"]


def test_retry_that_no_full_budget_could_pay_for_is_refused_at_once(run: Any) -> None:
    specs = [worker("a", raiser, ConnectionError(), retry=AT_ONCE)]
    events, (outcome,) = run_batch(run, specs, retry_budget=RetryBudget(tokens=4))
    assert (outcome.state, outcome.attempts, outcome.elapsed) == (WorkerState.EXHAUSTED, 1, 0.0)
    assert [event.reason for event in events if isinstance(event, RetryRefused)] == ["retry budget"]


def test_retry_that_waits_for_tokens_can_be_made_given_up_or_cancelled_and_costs_nothing(run: Any) -> None:
    specs = [worker(name, Flaky(ConnectionError())) for name in "abcde"]
    budget = RetryBudget(tokens=5, success_gain=0.0, time_gain=0.5)
    steps = (1.0, RetryNow("e", 1)), (1.0, GiveUp("b", 1)), (1.0, CancelWorker("c", 1))
    events, outcomes = run_batch(run, specs, *steps, retry_budget=budget)
    assert [outcome.state.value for outcome in outcomes] == [
        *("succeeded", "exhausted", "cancelled", "succeeded", "succeeded")
    ]
    assert (starts(events, "e"), starts(events, "d")) == ([0, 1], [0, 10])


def test_budget_that_is_never_empty_holds_no_retry(run: Any) -> None:
    specs = [worker(str(n), Flaky(ConnectionError(), TimeoutError())) for n in range(30)]
    events, outcomes = run_batch(run, specs)
    assert all(outcome.is_success for outcome in outcomes)
    assert not held(events)
