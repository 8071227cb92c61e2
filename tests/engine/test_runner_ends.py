"""Ends of a runner before all workers have ended: a timeout, its condition, a failure, or leaving its context."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from asyncwatch import Outcome, Run, Supervisor, ready
from asyncwatch.commands import StopRun
from asyncwatch.engine.run import complete_all
from asyncwatch.engine.run_control import control_of
from asyncwatch.engine.tree.errors import RestartLimitError, StartError
from asyncwatch.events import CommandRefused, RunFinished, RunTimedOut
from tests.engine.fleets import drain, later, raiser, sleeper, states, worker


def test_gather_timeout_times_out_pending_workers_and_raises(run: Any) -> None:
    async def main() -> None:
        specs = [worker("a", sleeper, 1.0), worker("b", sleeper, 9.0), worker("c", sleeper, 9.0)]
        batch = Run(specs, concurrency=2)
        with pytest.raises(TimeoutError, match="5 s"):
            await batch.gather(timeout=5.0)
        assert states(batch) == {"a": "succeeded", "b": "timed out", "c": "timed out"}

    run(main)


def test_group_timeout_times_out_only_its_group_and_raises_nothing(run: Any) -> None:
    async def main() -> None:
        specs = [worker("a", sleeper, 9.0, group="slow"), worker("b", sleeper, 9.0, group="other")]
        batch = Run(specs, group_timeouts={"slow": 2.0})
        await batch.gather()
        assert states(batch) == {"a": "timed out", "b": "succeeded"}

    run(main)


def test_wait_cancels_pending_workers_at_its_condition_and_times_them_out_at_its_timeout(run: Any) -> None:
    async def main(return_when: Any, timeout: float | None) -> dict[str, str]:
        batch = Run([worker("a", sleeper, 1.0), worker("b", sleeper, 9.0)])
        await batch.wait(timeout=timeout, return_when=return_when)
        return states(batch)

    assert run(lambda: main("FIRST_COMPLETED", None)) == {"a": "succeeded", "b": "cancelled"}
    assert run(lambda: main("ALL_COMPLETED", 2.0)) == {"a": "succeeded", "b": "timed out"}
    with pytest.raises(ValueError, match="return_when"):
        run(lambda: main("SOMETIMES", None))


def test_task_group_raises_the_first_failure_with_errors_of_clean_ups(run: Any) -> None:
    async def untidy() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            raise KeyError("clean-up")

    async def main() -> None:
        batch = Run([worker("a", raiser, ValueError("first"), 1.0), worker("b", untidy), worker("c", sleeper, 9)])
        with pytest.raises(ExceptionGroup) as caught:
            await batch.task_group()
        assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]
        assert states(batch) == {"a": "failed", "b": "cancelled", "c": "cancelled"}

    run(main)


def test_task_group_goes_on_after_an_exhausted_worker(run: Any) -> None:
    async def main() -> None:
        batch = Run([worker("a", raiser, TimeoutError()), worker("b", sleeper, 1.0)])
        await batch.task_group()
        assert states(batch) == {"a": "exhausted", "b": "succeeded"}

    run(main)


def test_as_completed_left_early_cancels_the_other_workers(run: Any) -> None:
    async def main() -> None:
        batch = Run([worker("a", sleeper, 1.0), worker("b", sleeper, 9.0)])
        async with batch.as_completed() as outcomes:
            async for outcome in outcomes:
                assert outcome.name == "a"
                break
        assert states(batch) == {"a": "succeeded", "b": "cancelled"}

    run(main)


async def instant() -> None:
    """End in the first step."""


async def tidy() -> None:
    """Take 2 seconds to end after a cancellation."""
    try:
        await asyncio.sleep(1e9)
    finally:
        await asyncio.sleep(2.0)


async def cancel_gather(batch: Run) -> None:
    runner = asyncio.ensure_future(batch.gather())
    later(1.0, runner.cancel)
    with suppress(asyncio.CancelledError):
        await runner


async def leave_as_completed(batch: Run) -> None:
    async with batch.as_completed() as outcomes:
        await anext(outcomes)


async def fail_in_as_completed(batch: Run) -> None:
    with suppress(KeyError):
        async with batch.as_completed() as outcomes:
            await anext(outcomes)
            raise KeyError


async def wait_for_the_first(batch: Run) -> None:
    await batch.wait(return_when="FIRST_COMPLETED")


async def fail_in_task_group(batch: Run) -> None:
    with suppress(ExceptionGroup):
        await batch.task_group()


async def time_out(batch: Run) -> None:
    with suppress(TimeoutError):
        await batch.gather(timeout=1.0)


async def leave_the_run(batch: Run) -> None:
    async with batch:
        runner = asyncio.ensure_future(batch.gather())
        await asyncio.sleep(1.0)
    await runner


ENDS = [
    cancel_gather,
    leave_as_completed,
    fail_in_as_completed,
    wait_for_the_first,
    fail_in_task_group,
    time_out,
    leave_the_run,
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_restart_while_a_runner_ends_is_refused(run: Any, end: Callable[[Run], Awaitable[None]]) -> None:
    async def main() -> None:
        first = worker("first", raiser, ValueError(), 1.0)
        batch = Run([first, worker("slow", tidy), worker("quick", sleeper, 1e9)])
        queue, started = batch.subscribe(), asyncio.get_running_loop().time()
        answers: list[bool] = []
        later(2.0, lambda: answers.append(batch.restart("quick")), lambda: answers.append(batch.restart("first")))
        await end(batch)
        assert asyncio.get_running_loop().time() - started == pytest.approx(3.0)
        assert answers == [False, False]
        events = drain(queue)
        refusals = [(event.worker, event.reason) for event in events if isinstance(event, CommandRefused)]
        assert refusals == [("quick", "the run is ending"), ("first", "the run is ending")]
        assert all(outcome.incarnation == 1 for outcome in batch.outcomes())
        assert [event for event in events if isinstance(event, RunFinished)] == events[-1:]

    run(main)


@pytest.mark.parametrize("end", ENDS[:-1], ids=lambda end: end.__name__)
def test_open_run_accepts_restarts_again_when_its_runner_has_ended(
    run: Any, end: Callable[[Run], Awaitable[None]]
) -> None:
    async def main() -> None:
        first = worker("first", raiser, ValueError(), 1.0)
        async with Run([first, worker("slow", tidy), worker("quick", sleeper, 1e9)]) as batch:
            await end(batch)
            assert batch.restart("quick")
        assert [outcome.incarnation for outcome in batch.outcomes()] == [1, 1, 2]

    run(main)


def test_restart_in_the_batch_of_a_tree_that_has_ended_is_refused(run: Any) -> None:
    async def main() -> None:
        service = worker("s", raiser, ValueError(), 1.0, restart="permanent")
        async with Supervisor([service], max_restarts=0, batch=[worker("b", sleeper, 1e9)]) as tree:
            queue = tree.subscribe()
            with pytest.raises(RestartLimitError):
                await tree.serve()
            tree.restart("b")
        assert [event.reason for event in drain(queue) if isinstance(event, CommandRefused)] == ["the run is ending"]
        assert states(tree)["b"] == "cancelled"

    run(main)


@pytest.mark.parametrize("runner", ["gather", "wait", "task_group"])
def test_run_left_while_its_runner_waits_elsewhere_finishes_once(run: Any, runner: str) -> None:
    async def main() -> None:
        async with Run([worker("a", sleeper, 9.0)]) as batch:
            queue = batch.subscribe()
            task = asyncio.ensure_future(getattr(batch, runner)())
            await asyncio.sleep(1.0)
        await task
        events = drain(queue)
        assert [event for event in events if isinstance(event, RunFinished)] == events[-1:]

    run(main)


def test_tree_left_while_it_is_served_twice_elsewhere_finishes_once(run: Any) -> None:
    async def main() -> None:
        async with Supervisor([worker("a", sleeper, 1e9, restart="permanent")]) as tree:
            queue = tree.subscribe()
            tasks = [asyncio.ensure_future(tree.serve()) for _ in range(2)]
            await asyncio.sleep(1.0)
        await asyncio.gather(*tasks)
        events = drain(queue)
        assert [event for event in events if isinstance(event, RunFinished)] == events[-1:]

    run(main)


def test_tree_served_twice_finishes_once_when_one_caller_is_cancelled(run: Any) -> None:
    async def main() -> None:
        tree = Supervisor([worker("a", sleeper, 1e9, restart="permanent"), worker("b", tidy, restart="permanent")])
        queue = tree.subscribe()
        tasks = [asyncio.ensure_future(tree.serve()) for _ in range(2)]
        later(1.0, tasks[0].cancel)
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [True, False]
        events = drain(queue)
        assert [event for event in events if isinstance(event, RunFinished)] == events[-1:]

    run(main)


async def read(outcomes: AsyncIterator[Outcome]) -> list[str]:
    return [outcome.name async for outcome in outcomes]


def test_as_completed_read_by_two_tasks_yields_each_outcome_once_and_ends_for_both(run: Any) -> None:
    async def main() -> None:
        batch = Run([worker(name, sleeper, seconds) for seconds, name in enumerate("abcde")])
        async with batch.as_completed() as outcomes:
            names = await asyncio.gather(read(outcomes), read(outcomes))
        assert sorted([*names[0], *names[1]]) == list("abcde")

    run(main)


def test_as_completed_that_times_out_raises_for_each_reader(run: Any) -> None:
    async def main() -> None:
        async with Run([worker("a", sleeper, 9.0)]).as_completed(timeout=1.0) as outcomes:
            errors = await asyncio.gather(read(outcomes), read(outcomes), return_exceptions=True)
        assert [type(error) for error in errors] == [TimeoutError, TimeoutError]

    run(main)


def test_as_completed_left_early_ends_for_every_reader(run: Any) -> None:
    async def main() -> None:
        async with Run([worker("a", sleeper, 1.0), worker("b", sleeper, 9.0)]) as batch:
            async with batch.as_completed() as outcomes:
                other = asyncio.ensure_future(read(outcomes))
                await asyncio.sleep(2.0)
            assert await other == ["a"]
            assert batch.restart("b")
            assert await read(outcomes) == []

    run(main)


@pytest.mark.parametrize("end", [Run.gather, Run.task_group, complete_all])
def test_timeout_of_zero_passes_workers_that_end_at_their_first_step(run: Any, end: Any) -> None:
    async def main() -> None:
        batch = Run([worker("a", instant), worker("b", instant)])
        queue = batch.subscribe()
        await end(batch, timeout=0.0)
        assert states(batch) == {"a": "succeeded", "b": "succeeded"}
        assert not [event for event in drain(queue) if isinstance(event, RunTimedOut)]

    run(main)


def test_timeout_lets_no_further_worker_start(run: Any) -> None:
    async def main() -> None:
        batch = Run([worker("a", instant), worker("b", instant)], concurrency=1)
        with pytest.raises(TimeoutError):
            await batch.gather(timeout=0.0)
        assert [(outcome.state.value, outcome.attempts) for outcome in batch.outcomes()] == [
            ("succeeded", 1),
            ("timed out", 0),
        ]

    run(main)


@pytest.mark.parametrize("return_when", ["FIRST_COMPLETED", "ALL_COMPLETED"])
def test_wait_counts_all_workers_that_end_together_as_done(run: Any, return_when: Any) -> None:
    async def main() -> None:
        batch = Run([worker(name, instant) for name in "ab"] + [worker("c", sleeper, 9.0)])
        done, pending = await batch.wait(timeout=0.0, return_when=return_when)
        assert [outcome.name for outcome in done] == ["a", "b"]
        assert [outcome.name for outcome in pending] == ["c"]

    run(main)


@pytest.mark.parametrize("kind", [Run, Supervisor])
def test_context_of_a_run_that_is_over_is_refused(run: Any, kind: Any) -> None:
    async def main() -> None:
        finished = kind([worker("a", sleeper, 1.0)])
        async with finished:
            if isinstance(finished, Run):
                await finished.gather()
        with pytest.raises(RuntimeError, match="runs once"):
            async with finished:
                pass

    run(main)


@pytest.mark.parametrize("iterations", range(5))
def test_tree_stopped_before_its_first_child_runs_is_interrupted(run: Any, iterations: int) -> None:
    async def main() -> None:
        tree = Supervisor([worker("a", sleeper, 1e9, restart="permanent")])
        queue = tree.subscribe()
        serving = asyncio.ensure_future(tree.serve())
        for _ in range(iterations):
            await asyncio.sleep(0)
        control_of(tree).carry_out(StopRun())
        await serving
        events = drain(queue)
        last = events[-1]
        assert isinstance(last, RunFinished)
        assert last.interrupted

    run(main)


def test_tree_that_cannot_start_for_its_first_request_is_finished(run: Any) -> None:
    async def main() -> None:
        tree = Supervisor([worker("bad", raiser, ValueError(), restart="permanent", announces_ready=True)])
        queue = tree.subscribe()
        with pytest.raises(StartError):
            await tree.start_child(worker("a", sleeper, 1.0))
        assert isinstance(drain(queue)[-1], RunFinished)

    run(main)


def test_tree_stopped_while_it_starts_starts_no_batch_and_no_timer(run: Any) -> None:
    async def slow() -> None:
        await asyncio.sleep(5.0)
        await ready()

    async def main() -> None:
        tree = Supervisor(
            [worker("a", slow, restart="permanent", announces_ready=True)],
            batch=[worker("b", sleeper, 9.0, group="g")],
            group_timeouts={"g": 50.0},
        )
        serving = asyncio.ensure_future(tree.serve())
        request = asyncio.ensure_future(tree.start_child(worker("c", sleeper, 9.0)))
        later(1.0, serving.cancel)
        await asyncio.wait([serving, request])
        assert states(tree) == {"a": "cancelled", "b": "cancelled"}
        loop: Any = asyncio.get_running_loop()
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []

    run(main)
