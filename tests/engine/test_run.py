"""`asyncwatch.run` is `asyncio.run`, but for workers that were left behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import asyncwatch
from asyncwatch import Run, WorkerSpec, WorkerState

PROGRAM_LIMIT = 30
"""Seconds: a program that waits for a worker that was left behind never ends."""


async def stubborn() -> None:
    """Swallow every cancellation."""
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def done() -> str:
    """Return at once."""
    return "done"


def batch() -> Run:
    """Return one that leaves a worker behind as soon as its time is over."""
    return Run([WorkerSpec("s", stubborn), WorkerSpec("d", done)], grace=0)


@pytest.mark.timeout(PROGRAM_LIMIT)
def test_a_worker_left_behind_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The error of the program arrives, the outcomes are there, and nothing is said of a destroyed task."""
    made = batch()
    with pytest.raises(TimeoutError, match="still pending"):
        asyncwatch.run(made.gather(timeout=0.01))
    assert [outcome.state for outcome in made.outcomes()] == [WorkerState.UNRESPONSIVE, WorkerState.SUCCEEDED]
    assert "destroyed" not in caplog.text


@pytest.mark.timeout(PROGRAM_LIMIT)
def test_a_worker_left_behind_by_a_task_that_is_ended_holds_up_nobody() -> None:
    """A supervisor in a task that is still there at the end gets the time to stop its workers, and no more."""
    made = batch()

    async def main() -> str:
        task = asyncio.ensure_future(made.gather())
        for _ in range(3):  # it starts, and then its workers do
            await asyncio.sleep(0)
        assert made.statistics().in_flight == 1
        assert not task.done()
        return "left"

    assert asyncwatch.run(main()) == "left"
    assert made.is_finished


@pytest.mark.parametrize("run", [asyncio.run, asyncwatch.run])
def test_all_else_is_as_with_asyncio(run: Callable[..., Any]) -> None:
    """Other tasks are cancelled and waited for, generators are closed, and a result or an error arrives."""
    closed = []

    async def generate() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            closed.append("generator")

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            closed.append("task")

    async def main(error: Exception | None) -> int:
        global kept  # noqa: PLW0603  a generator that nobody refers to is closed before the end
        kept = generate(), asyncio.ensure_future(linger())
        await anext(kept[0])
        if error is not None:
            raise error
        return 7

    assert run(main(None)) == 7
    with pytest.raises(KeyError):
        run(main(KeyError("x")))
    assert closed == ["task", "generator"] * 2


kept: tuple[AsyncIterator[int], asyncio.Future[None]]


async def test_it_cannot_be_called_where_a_loop_runs() -> None:
    """As with asyncio's function, that is an error at once."""
    with pytest.raises(RuntimeError, match="where an event loop runs"):
        asyncwatch.run(done())
