"""Ends of a runner before all workers have ended: a timeout, its condition, a failure, or leaving its context."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import Run
from tests.engine.fleets import raiser, sleeper, states, worker


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
