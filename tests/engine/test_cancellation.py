"""Cancellation of workers by a person, and by cancelling the caller of the runner."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import RetryPolicy, Run, WorkerState
from asyncwatch.commands import StopRun
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import CommandRefused, RunFinished, WorkerCancelled
from asyncwatch.events.story import story
from tests.engine.fleets import Flaky, drain, later, sleeper, states, stubborn, worker


def test_cancel_reaches_running_backing_off_and_queued_workers_and_refuses_ended_ones(run: Any) -> None:
    async def main() -> None:
        patient = RetryPolicy(base=1e6, cap=1e6)
        batch = Run(
            [
                worker("ended", sleeper, 0.0),
                worker("waits", Flaky(TimeoutError()), retry=patient),
                worker("runs", sleeper, 100.0),
                worker("queued", sleeper, 100.0),
            ],
            concurrency=1,
        )
        queue = batch.subscribe()
        answers: dict[str, bool] = {}

        def cancel(name: str) -> None:
            answers[name] = batch.cancel(name)

        for name in ("ended", "waits", "queued", "runs"):
            later(1.0, lambda name=name: cancel(name))
        await batch.gather()
        events = drain(queue)
        assert answers == {"ended": False, "waits": True, "runs": True, "queued": True}
        assert states(batch) == {
            "ended": "succeeded",
            "waits": "cancelled",
            "runs": "cancelled",
            "queued": "cancelled",
        }
        assert story(events, "runs") == ["AttemptStarted", "CancelRequested", "WorkerCancelled"]
        assert story(events, "queued") == ["WorkerCancelled"]
        assert [event.reason for event in events if isinstance(event, CommandRefused)] == ["it has ended: succeeded"]
        last = events[-1]
        assert isinstance(last, RunFinished)
        assert not last.interrupted

    run(main)


@pytest.mark.parametrize("runner", ["gather", "as_completed", "wait", "task_group"])
def test_cancelled_runner_cancels_its_workers_waits_for_them_and_raises(run: Any, runner: str) -> None:
    cleaned: list[int] = []

    async def tidy(number: int) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(1)
            cleaned.append(number)

    async def main() -> None:
        batch = Run([worker(str(n), tidy, n) for n in range(5)], concurrency=3)
        queue = batch.subscribe()

        async def call() -> None:
            if runner == "as_completed":
                async with batch.as_completed() as outcomes:
                    async for _ in outcomes:
                        pass
            else:
                await getattr(batch, runner)()

        task = asyncio.get_running_loop().create_task(call())
        later(2.0, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(cleaned) == [0, 1, 2]
        assert set(states(batch).values()) == {"cancelled"}
        events = drain(queue)
        last = events[-1]
        assert isinstance(last, RunFinished)
        assert last.interrupted
        assert last.states == {"cancelled": 5}
        assert len(asyncio.all_tasks()) == 1

    run(main)


def test_second_cancellation_of_the_caller_still_waits_for_the_workers(run: Any) -> None:
    async def main() -> None:
        batch = Run([worker("a", stubborn, 3.0)], grace=10.0)
        task = asyncio.get_running_loop().create_task(batch.gather())
        later(1.0, task.cancel)
        later(2.0, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert states(batch) == {"a": "cancelled"}
        assert batch.outcomes()[0].elapsed == pytest.approx(3.0)

    run(main)


def test_transient_error_of_the_clean_up_is_kept_and_not_retried(run: Any) -> None:
    async def untidy() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            raise TimeoutError("clean-up")

    async def main() -> None:
        batch = Run([worker("a", untidy)])
        later(1.0, lambda: batch.cancel("a"))
        (outcome,) = await batch.gather()
        assert (outcome.state, outcome.attempts, str(outcome.error)) == (WorkerState.CANCELLED, 1, "clean-up")

    run(main)


def test_result_returned_on_cancellation_is_kept(run: Any) -> None:
    async def graceful() -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return "half"
        return "whole"

    async def main() -> None:
        batch = Run([worker("a", graceful)])
        queue = batch.subscribe()
        later(1.0, lambda: batch.cancel("a"))
        (outcome,) = await batch.gather()
        assert (outcome.state, outcome.result) == (WorkerState.CANCELLED, "half")
        (event,) = [event for event in drain(queue) if isinstance(event, WorkerCancelled)]
        assert event.result == "half"

    run(main)


def test_cancel_all_allows_restarts_and_stop_run_does_not(run: Any) -> None:
    async def main() -> None:
        async with Run([worker(str(n), sleeper, 5.0) for n in range(3)], concurrency=1) as batch:
            queue = batch.subscribe()
            later(1.0, batch.cancel_all)
            await batch.gather()
            assert set(states(batch).values()) == {"cancelled"}
            assert batch.restart("0")
            control_of(batch).carry_out(StopRun())
            await control_of(batch).wait_settled()
            assert not batch.restart("1")
        last = drain(queue)[-1]
        assert isinstance(last, RunFinished)
        assert last.interrupted

    run(main)
