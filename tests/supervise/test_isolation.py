"""Whatever a worker does to its task and its context stays with it, also if it returns without any wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from asyncwatch import Outcome, Supervisor, WorkerSpec, WorkerSpecs, WorkerState, current_worker

colour: ContextVar[str] = ContextVar("colour", default="none")


def named(target: Callable[..., Any], count: int) -> WorkerSpecs:
    """Return workers `0` to `count - 1`, each called with its number."""
    return WorkerSpecs(WorkerSpec("named", target), [str(n) for n in range(count)], range(count))


def gathered(run: Callable[..., Any], *members: WorkerSpec | WorkerSpecs, concurrency: int = 1) -> list[Outcome]:
    """Return the outcomes of a batch."""
    found: list[Outcome] = run(lambda: Supervisor(members, concurrency=concurrency, seed=1).gather())
    return found


def test_a_context_variable_stays_with_its_worker(run: Callable[..., Any]) -> None:
    """The next one finds what the caller of the run has set."""

    async def paint(number: int) -> str:
        found = colour.get()
        colour.set("red" if number else "blue")
        return found

    async def main() -> list[Any]:
        colour.set("red")
        outcomes = await Supervisor([named(paint, 5)], concurrency=1, seed=1).gather()
        return [outcome.result for outcome in outcomes]

    assert run(main) == ["red"] * 5


def test_a_cancellation_of_the_task_hits_no_other_worker(run: Callable[..., Any]) -> None:
    """Neither a request that comes too late, nor one that was taken back."""

    async def cancel_self(number: int) -> int:
        task = asyncio.current_task()
        assert task is not None
        if number == 1:
            task.cancel()
        if number == 2:
            task.cancel()
            task.uncancel()
            return number
        await asyncio.sleep(0)
        return number

    states = [outcome.state for outcome in gathered(run, named(cancel_self, 4))]
    # Whether the one that took its request back has succeeded depends on the version of Python.
    assert (states[0], states[1], states[3]) == (WorkerState.SUCCEEDED, WorkerState.FAILED, WorkerState.SUCCEEDED)


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
