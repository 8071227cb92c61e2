"""Workers that swallow their cancellation: they are abandoned, and reported if they end later."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import AttemptTimeout, Run, WorkerState
from asyncwatch.engine.attempts import LAST_ITERATIONS
from asyncwatch.events import WorkerUnresponsive
from asyncwatch.events.story import story
from tests.engine.fleets import drain, later, sleeper, states, stubborn, worker


def test_worker_that_swallows_its_cancellation_is_abandoned_after_the_grace_period(run: Any) -> None:
    async def main() -> None:
        batch = Run([worker("a", stubborn), worker("b", sleeper, 1.0)], concurrency=1, grace=5.0)
        queue = batch.subscribe()
        later(1.0, lambda: batch.cancel("a"))
        later(2.0, lambda: batch.cancel("a"))
        await batch.gather()
        assert states(batch) == {"a": "unresponsive", "b": "succeeded"}
        (event,) = [event for event in drain(queue) if isinstance(event, WorkerUnresponsive)]
        assert event.cancels == 2
        assert event.at == pytest.approx(6.0)
        assert event.stack.endswith(" stubborn")
        assert batch.statistics().tasks == 1

    run(main)


@pytest.mark.parametrize("iterations", range(LAST_ITERATIONS - 2, LAST_ITERATIONS + 1))
def test_worker_that_ends_in_its_last_loop_iteration_is_not_abandoned(run: Any, iterations: int) -> None:
    async def slow() -> None:
        try:
            await asyncio.sleep(1e9)
        finally:
            for _ in range(iterations):
                await asyncio.sleep(0)

    async def main() -> None:
        batch = Run([worker("a", slow, shutdown=0.0)])
        queue = batch.subscribe()
        later(1.0, lambda: batch.cancel("a"))
        await batch.gather()
        assert story(drain(queue), "a") == ["AttemptStarted", "CancelRequested", "WorkerCancelled"]

    run(main)


def test_unresponsive_worker_that_ends_late_is_reported(run: Any) -> None:
    async def main() -> None:
        specs = [worker("a", stubborn, 10.0), worker("b", stubborn, 10.0, group="g"), worker("c", sleeper, 20.0)]
        batch = Run(specs, grace=1.0, group_timeouts={"g": 2.0})
        queue = batch.subscribe()
        later(1.0, lambda: batch.cancel("a"))
        await batch.gather()
        assert states(batch) == {"a": "cancelled", "b": "timed out", "c": "succeeded"}
        assert story(drain(queue), "a") == [
            "AttemptStarted",
            "CancelRequested",
            "WorkerUnresponsive",
            "WorkerCancelled",
        ]

    run(main)


def test_attempt_that_swallows_its_timeout_is_abandoned_and_may_succeed_late(run: Any) -> None:
    async def late() -> str:
        await stubborn(10.0)
        return "late"

    async def main() -> None:
        specs = [worker("a", late, attempt_timeout=1.0), worker("b", sleeper, 20.0)]
        batch = Run(specs, grace=1.0)
        queue = batch.subscribe()
        await batch.gather()
        assert story(drain(queue), "a") == ["AttemptStarted", "WorkerUnresponsive", "WorkerSucceeded"]
        assert batch.outcomes()[0].result == "late"

    run(main)


def test_late_error_of_an_attempt_abandoned_at_its_timeout_is_that_timeout(run: Any) -> None:
    async def late(error: BaseException) -> None:
        await stubborn(10.0)
        raise error

    async def main() -> None:
        errors = asyncio.CancelledError(), ValueError()
        specs = [worker(str(n), late, error, attempt_timeout=1.0) for n, error in enumerate(errors)]
        batch = Run([*specs, worker("b", sleeper, 20.0)], grace=1.0)
        for outcome, error in zip((await batch.gather())[:2], errors, strict=True):
            assert (outcome.state, type(outcome.error)) == (WorkerState.FAILED, AttemptTimeout)
            assert outcome.error is not None
            assert outcome.error.__cause__ is (error if isinstance(error, ValueError) else None)

    run(main)
