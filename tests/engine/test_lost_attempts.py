"""An attempt that is lost with its process: it counts for nothing, unless that happens again and again."""

from __future__ import annotations

from asyncwatch import RetryBudget, RetryPolicy, WorkerSpec, WorkerState
from asyncwatch.engine.run import Run
from asyncwatch.policies.classify import MOST_LOST, AttemptLost

ONCE = RetryPolicy(max_attempts=1)


class Losing:
    """A target of which so many attempts are lost before it returns, or raises `error`."""

    def __init__(self, lost: int, error: Exception | None = None) -> None:
        self.left = lost
        self.error = error
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise AttemptLost("its process ended")
        if self.error is not None:
            raise self.error
        return "done"


async def outcome_of(target: Losing, retry: RetryPolicy = ONCE, budget: RetryBudget | None = None) -> WorkerState:
    async with Run([WorkerSpec("w", target, retry=retry)], retry_budget=budget) as run:
        (outcome,) = (await run.wait()).done
    return outcome.state


async def test_lost_attempt_uses_up_no_attempt() -> None:
    target = Losing(MOST_LOST - 1)
    assert await outcome_of(target) is WorkerState.SUCCEEDED
    assert target.calls == MOST_LOST


async def test_worker_lost_again_and_again_is_exhausted() -> None:
    target = Losing(99)
    assert await outcome_of(target) is WorkerState.EXHAUSTED
    assert target.calls == MOST_LOST


async def test_losses_beyond_the_limit_count_like_errors() -> None:
    target = Losing(99)
    retry = RetryPolicy(max_attempts=4, base=0.0)
    assert await outcome_of(target, retry) is WorkerState.EXHAUSTED
    assert target.calls == MOST_LOST - 1 + 4


async def test_errors_after_a_loss_have_all_their_attempts() -> None:
    target = Losing(1, TimeoutError("slow"))
    assert await outcome_of(target, RetryPolicy(max_attempts=3, base=0.0)) is WorkerState.EXHAUSTED
    assert target.calls == 1 + 3


async def test_lost_attempt_costs_no_token() -> None:
    target = Losing(MOST_LOST - 1)
    assert await outcome_of(target, budget=RetryBudget(tokens=0)) is WorkerState.SUCCEEDED
