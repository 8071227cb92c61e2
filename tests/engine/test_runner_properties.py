"""The four runners compared with asyncio's functions of the same names, over generated batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from asyncwatch import Outcome, Run, WorkerState
from asyncwatch.policies.runner import RETURN_WHEN, ReturnWhen
from tests.clock import run_jumping
from tests.engine.fleets import completed, worker

TICK = 1 / 1024
"""Seconds. Sums of whole ticks are exact, so both sides agree on the order."""


class Behaviour(msgspec.Struct, frozen=True):
    """What a worker does: transient failures after some ticks each, then its end after `ticks`."""

    failures: tuple[int, ...]
    ticks: int
    end: Literal["returns", "raises", "cancels itself"]

    def duration(self) -> float:
        """Return the seconds that three attempts take."""
        attempts = [*self.failures, self.ticks][:3]
        return sum(attempts) * TICK


class Target:
    """Behaves as described, once."""

    def __init__(self, name: str, behaviour: Behaviour) -> None:
        self.name = name
        self.behaviour = behaviour
        self.failures = list(behaviour.failures)

    async def __call__(self) -> str:
        if self.failures:
            await asyncio.sleep(self.failures.pop(0) * TICK)
            raise TimeoutError(self.name)
        await asyncio.sleep(self.behaviour.ticks * TICK)
        if self.behaviour.end == "raises":
            raise ValueError(self.name)
        if self.behaviour.end == "cancels itself":
            raise asyncio.CancelledError
        return f"result of {self.name}"

    async def retried(self) -> str:
        """Make three attempts, as a caller of asyncio would write it."""
        for attempt in (1, 2, 3):
            try:
                return await self()
            except TimeoutError:
                if attempt == 3:
                    raise
        raise AssertionError("unreachable")


behaviours = st.builds(
    Behaviour,
    failures=st.lists(st.integers(1, 400), max_size=3).map(tuple),
    ticks=st.integers(1, 2000),
    end=st.sampled_from(["returns", "returns", "raises", "cancels itself"]),
)
fleets = st.lists(behaviours, min_size=1, max_size=8, unique_by=Behaviour.duration)
timeouts = st.one_of(st.none(), st.integers(1, 3000).map(lambda ticks: ticks * TICK + TICK / 2))


def targets(fleet: list[Behaviour]) -> list[Target]:
    """Return new targets of that behaviour."""
    return [Target(str(number), behaviour) for number, behaviour in enumerate(fleet)]


def batch(fleet: list[Behaviour]) -> Run:
    """Return a batch of new workers of that behaviour."""
    return Run(worker(target.name, target) for target in targets(fleet))


def shown_outcome(outcome: Outcome) -> tuple[str, str]:
    """Return the result or the error of an outcome in comparable form."""
    return shown(outcome.error if outcome.error is not None else outcome.result)


def shown(value: object) -> tuple[str, str]:
    """Return the class and the text of a value. Texts of cancellations differ."""
    return type(value).__name__, "" if isinstance(value, asyncio.CancelledError) else str(value)


async def outcome_of(make: Callable[[], Awaitable[Any]]) -> Any:
    """Return the result of `make()`, or the name of the class of its error."""
    try:
        return await make()
    except Exception as error:
        return type(error).__name__


@given(fleets, timeouts)
def test_gather_matches_asyncio(fleet: list[Behaviour], timeout: float | None) -> None:
    async def theirs() -> list[tuple[str, str]]:
        async with asyncio.timeout(timeout):
            results = await asyncio.gather(*(t.retried() for t in targets(fleet)), return_exceptions=True)
        return [shown(result) for result in results]

    async def ours() -> list[tuple[str, str]]:
        return [shown_outcome(outcome) for outcome in await batch(fleet).gather(timeout=timeout)]

    assert run_jumping(lambda: outcome_of(ours)) == run_jumping(lambda: outcome_of(theirs))


@given(fleets, timeouts)
def test_as_completed_matches_asyncio(fleet: list[Behaviour], timeout: float | None) -> None:
    async def theirs() -> list[object]:
        tasks = [asyncio.ensure_future(target.retried()) for target in targets(fleet)]
        seen: list[object] = []
        try:
            for completed in asyncio.as_completed(tasks, timeout=timeout):
                done = asyncio.ensure_future(completed)
                await asyncio.wait([done])
                error = asyncio.CancelledError() if done.cancelled() else done.exception()
                if isinstance(error, TimeoutError) and str(error) == "":
                    seen.append("TimeoutError")
                    break
                seen.append(shown(error or done.result()))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return seen

    async def ours() -> list[object]:
        seen: list[object] = []
        try:
            async for outcome in completed(batch(fleet), timeout):
                seen.append(shown_outcome(outcome))  # noqa: PERF401  outcomes before the TimeoutError count
        except TimeoutError:
            seen.append("TimeoutError")
        return seen

    def cut(seen: list[object]) -> list[object]:
        return seen[: seen.index("TimeoutError") + 1] if "TimeoutError" in seen else seen

    assert run_jumping(ours) == cut(run_jumping(theirs))


@given(fleets, timeouts, st.sampled_from(RETURN_WHEN))
def test_wait_matches_asyncio(fleet: list[Behaviour], timeout: float | None, return_when: ReturnWhen) -> None:
    async def theirs() -> tuple[set[str], set[str]]:
        tasks = [asyncio.create_task(target.retried(), name=target.name) for target in targets(fleet)]
        done, pending = await asyncio.wait(tasks, timeout=timeout, return_when=return_when)
        answer = {task.get_name() for task in done}, {task.get_name() for task in pending}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return answer

    async def ours() -> tuple[set[str], set[str]]:
        done, pending = msgspec.structs.astuple(await batch(fleet).wait(timeout=timeout, return_when=return_when))
        ended = {WorkerState.TIMED_OUT, WorkerState.CANCELLED}
        assert all(outcome.state in ended for outcome in pending)
        assert not any(outcome.state in ended for outcome in done)
        return {outcome.name for outcome in done}, {outcome.name for outcome in pending}

    assert run_jumping(ours) == run_jumping(theirs)


@given(fleets)
def test_task_group_matches_asyncio(fleet: list[Behaviour]) -> None:
    # An exhausted worker is an outcome here and an error in a TaskGroup.
    assume(all(len(behaviour.failures) < 3 for behaviour in fleet))

    async def theirs() -> list[tuple[str, str]]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(target.retried()) for target in targets(fleet)]
        except ExceptionGroup as errors:
            return [shown(error) for error in errors.exceptions]
        return [shown(asyncio.CancelledError() if task.cancelled() else task.result()) for task in tasks]

    async def ours() -> list[tuple[str, str]]:
        try:
            return [shown_outcome(outcome) for outcome in await batch(fleet).task_group()]
        except ExceptionGroup as errors:
            return [shown(error) for error in errors.exceptions]

    assert run_jumping(ours) == run_jumping(theirs)
