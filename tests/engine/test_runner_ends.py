"""What ends a runner before all its workers have: a timeout, its condition, a failure, or who leaves it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import Run
from tests.engine.fleets import raiser, sleeper, states, worker


def test_a_total_timeout_times_out_the_pending(run: Any) -> None:
    """gather() raises TimeoutError after the time; running and queued workers are timed out, the done stay done."""

    async def main() -> None:
        specs = [worker("a", sleeper, 1.0), worker("b", sleeper, 9.0), worker("c", sleeper, 9.0)]
        batch = Run(specs, concurrency=2)
        with pytest.raises(TimeoutError, match="5 s"):
            await batch.gather(timeout=5.0)
        assert states(batch) == {"a": "succeeded", "b": "timed out", "c": "timed out"}

    run(main)


def test_a_group_has_its_own_timeout(run: Any) -> None:
    """Only the pending workers of the group are timed out, and nothing is raised for it."""

    async def main() -> None:
        specs = [worker("a", sleeper, 9.0, group="slow"), worker("b", sleeper, 9.0, group="other")]
        batch = Run(specs, group_timeouts={"slow": 2.0})
        await batch.gather()
        assert states(batch) == {"a": "timed out", "b": "succeeded"}

    run(main)


def test_wait_ends_the_pending(run: Any) -> None:
    """wait() cancels who is pending when its condition is fulfilled and times out who is at the timeout."""

    async def main(return_when: Any, timeout: float | None) -> dict[str, str]:
        batch = Run([worker("a", sleeper, 1.0), worker("b", sleeper, 9.0)])
        await batch.wait(timeout=timeout, return_when=return_when)
        return states(batch)

    assert run(lambda: main("FIRST_COMPLETED", None)) == {"a": "succeeded", "b": "cancelled"}
    assert run(lambda: main("ALL_COMPLETED", 2.0)) == {"a": "succeeded", "b": "timed out"}
    with pytest.raises(ValueError, match="return_when"):
        run(lambda: main("SOMETIMES", None))


def test_task_group_collects_the_clean_up_errors_too(run: Any) -> None:
    """The group holds the first failure and what the others raised while they were cancelled."""

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


def test_exhaustion_does_not_end_a_task_group(run: Any) -> None:
    """An exhausted worker is an outcome, not a failure of the group."""

    async def main() -> None:
        batch = Run([worker("a", raiser, TimeoutError()), worker("b", sleeper, 1.0)])
        await batch.task_group()
        assert states(batch) == {"a": "exhausted", "b": "succeeded"}

    run(main)


def test_leaving_as_completed_early_cancels_the_rest(run: Any) -> None:
    """Leaving the context cancels the other workers and waits for them."""

    async def main() -> None:
        batch = Run([worker("a", sleeper, 1.0), worker("b", sleeper, 9.0)])
        async with batch.as_completed() as outcomes:
            async for outcome in outcomes:
                assert outcome.name == "a"
                break
        assert states(batch) == {"a": "succeeded", "b": "cancelled"}

    run(main)
