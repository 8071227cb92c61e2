"""Workers that do not wait for anything are called one after the other in one task, and must not notice."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from asyncwatch import Outcome, Supervisor, WorkerSpec, WorkerSpecs, WorkerState, current_worker
from asyncwatch.supervise.attempts import CALLS_IN_A_TASK

colour: ContextVar[str] = ContextVar("colour", default="none")


def named(target: Callable[..., Any], count: int) -> WorkerSpecs:
    """Return workers `0` to `count - 1`, each called with its number."""
    return WorkerSpecs(WorkerSpec("named", target), [str(n) for n in range(count)], range(count))


def gathered(run: Callable[..., Any], *members: WorkerSpec | WorkerSpecs, concurrency: int = 1) -> list[Outcome]:
    """Return the outcomes of a batch."""
    found: list[Outcome] = run(lambda: Supervisor(members, concurrency=concurrency, seed=1).gather())
    return found


def test_a_few_that_return_at_once_share_a_task(run: Callable[..., Any]) -> None:
    """No more than so many, so that the loop turns; one that has waited has a task that nobody else gets."""
    tasks: list[asyncio.Task[Any] | None] = []

    async def note(number: int) -> None:
        tasks.append(asyncio.current_task())
        if number == 2:
            await asyncio.sleep(0)

    gathered(run, named(note, 3 * CALLS_IN_A_TASK))
    assert tasks[0] is tasks[1] is tasks[2]
    assert tasks[3] is not tasks[2]
    assert tasks[3] is tasks[2 + CALLS_IN_A_TASK]
    assert tasks[3 + CALLS_IN_A_TASK] is not tasks[3]


def test_a_context_variable_stays_with_its_worker(run: Callable[..., Any]) -> None:
    """The next one finds what the caller of the run has set."""

    async def paint(number: int) -> str:
        found = colour.get()
        colour.set(f"{found} and {number}")
        return found

    async def main() -> list[Any]:
        colour.set("red")
        outcomes = await Supervisor([named(paint, 5)], concurrency=1, seed=1).gather()
        return [outcome.result for outcome in outcomes]

    assert run(main) == ["red"] * 5


def test_a_cancellation_of_the_task_hits_no_other_worker(run: Callable[..., Any]) -> None:
    """A worker that cancels its own task and returns at once is followed in another task."""

    async def cancel_self(number: int) -> int:
        task = asyncio.current_task()
        assert task is not None
        if number == 1:
            task.cancel()
        return number

    states = [outcome.state for outcome in gathered(run, named(cancel_self, 4))]
    assert states == [WorkerState.SUCCEEDED, WorkerState.FAILED, WorkerState.SUCCEEDED, WorkerState.SUCCEEDED]


def test_each_is_its_own_current_worker(run: Callable[..., Any]) -> None:
    """Also in a task that it leaves behind."""

    async def name(_: object) -> tuple[str | None, asyncio.Task[str | None]]:
        return current_name(), asyncio.ensure_future(name_later())

    async def name_later() -> str | None:
        await asyncio.sleep(0)
        return current_name()

    async def main() -> list[tuple[str | None, str | None]]:
        outcomes = await Supervisor([named(name, 3)], concurrency=1, seed=1).gather()
        return [(outcome.result[0], await outcome.result[1]) for outcome in outcomes]

    assert run(main) == [("0", "0"), ("1", "1"), ("2", "2")]


def current_name() -> str | None:
    """Return the name of the current worker."""
    worker = current_worker()
    return None if worker is None else worker.name


def test_what_fails_ends_with_its_task(run: Callable[..., Any]) -> None:
    """An error, and an exit of the program, are those of the worker that raised them."""

    async def fail(number: int) -> int:
        if number == 1:
            raise ValueError(number)
        if number == 2:
            raise SystemExit(number)
        return number

    outcomes = gathered(run, named(fail, 4), concurrency=2)
    assert [repr(outcome.error) for outcome in outcomes] == ["None", "ValueError(1)", "SystemExit(2)", "None"]


def test_the_loop_turns_while_many_return_at_once(run: Callable[..., Any]) -> None:
    """Somebody else on the loop gets their turn after each task's share of calls."""
    calls = 0
    seen: list[int] = []

    async def count(_: object) -> None:
        nonlocal calls
        calls += 1

    async def watch() -> None:
        while calls < 20 * CALLS_IN_A_TASK:
            seen.append(calls)
            await asyncio.sleep(0)

    async def main() -> None:
        watching = asyncio.ensure_future(watch())
        await Supervisor([named(count, 20 * CALLS_IN_A_TASK)], concurrency=2, seed=1).gather()
        await watching

    run(main)
    steps = [after - before for before, after in itertools.pairwise(seen)]
    assert max(steps) <= 2 * CALLS_IN_A_TASK
