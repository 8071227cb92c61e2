"""Cancelling workers: by a person, or by cancelling whoever awaits the runner."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import RetryPolicy, Run, WorkerState
from asyncwatch.commands import StopRun
from asyncwatch.events import CommandRefused, RunFinished, WorkerCancelled
from tests.engine.fleets import Flaky, drain, later, sleeper, states, story, stubborn, worker


def test_cancel_reaches_every_state(run: Any) -> None:
    """A running, a backing-off and a queued worker are all cancelled; one that has ended refuses."""

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
def test_cancelling_the_caller_cancels_all_and_is_not_swallowed(run: Any, runner: str) -> None:
    """A cancelled runner cancels its workers, waits for them, and passes the cancellation on."""
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


def test_a_second_cancellation_does_not_abandon_workers(run: Any) -> None:
    """Cancelling the caller again while it waits for the workers changes nothing: it still waits."""

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


def test_an_error_in_the_clean_up_is_kept_and_not_retried(run: Any) -> None:
    """A worker whose clean-up raises a transient error is cancelled all the same, with that error."""

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


def test_a_result_given_on_cancellation_is_kept(run: Any) -> None:
    """What a worker returns after it was asked to stop is not lost, and the worker is cancelled."""

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


def test_cancel_all_leaves_the_run_open_and_stop_ends_it(run: Any) -> None:
    """After cancel_all() workers can be restarted; after StopRun they cannot, and the run was interrupted."""

    async def main() -> None:
        async with Run([worker(str(n), sleeper, 5.0) for n in range(3)], concurrency=1) as batch:
            queue = batch.subscribe()
            later(1.0, batch.cancel_all)
            await batch.gather()
            assert set(states(batch).values()) == {"cancelled"}
            assert batch.restart("0")
            batch.control.carry_out(StopRun())
            await batch.control.wait_settled()
            assert not batch.restart("1")
        last = drain(queue)[-1]
        assert isinstance(last, RunFinished)
        assert last.interrupted

    run(main)
