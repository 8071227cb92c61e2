"""`asyncwatch.run` behaves as `asyncio.run`, except that it does not wait for abandoned workers."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import asyncwatch
from asyncwatch import Run, WorkerSpec, WorkerState
from asyncwatch.engine.event_loop import new_event_loop
from asyncwatch.testing import START, JumpingLoop
from tests.clock import run_jumping
from tests.engine.fleets import stubborn

PROGRAM_LIMIT = 30
"""Seconds. A program that waited for an abandoned worker would never end."""


async def done() -> str:
    return "done"


def batch() -> Run:
    """Return a batch that abandons a worker as soon as its time is over."""
    return Run([WorkerSpec("s", stubborn), WorkerSpec("d", done)], grace=0)


@pytest.mark.timeout(PROGRAM_LIMIT)
def test_run_raises_the_error_of_the_program_in_spite_of_an_abandoned_worker(caplog: pytest.LogCaptureFixture) -> None:
    made = batch()
    with pytest.raises(TimeoutError, match="still pending"):
        asyncwatch.run(made.gather(timeout=0.01))
    assert [outcome.state for outcome in made.outcomes()] == [WorkerState.UNRESPONSIVE, WorkerState.SUCCEEDED]
    assert "destroyed" not in caplog.text


@pytest.mark.timeout(PROGRAM_LIMIT)
def test_run_gives_a_leftover_batch_the_time_to_stop_its_workers() -> None:
    made = batch()

    async def main() -> str:
        task = asyncio.ensure_future(made.gather())
        for _ in range(3):  # the task starts, then its workers
            await asyncio.sleep(0)
        assert made.statistics().in_flight == 1
        assert not task.done()
        return "left"

    assert asyncwatch.run(main()) == "left"
    assert made.is_finished


def test_run_stops_waiting_for_a_worker_that_is_abandoned_while_it_waits() -> None:
    loop = JumpingLoop()

    async def nested() -> None:
        await Run([WorkerSpec("inner", stubborn)], grace=5.0).gather()

    async def main() -> list[str]:
        outer = Run([WorkerSpec("outer", nested)], grace=1.0)
        with pytest.raises(TimeoutError):
            await outer.gather(timeout=1.0)
        return [outcome.state.value for outcome in outer.outcomes()]

    assert asyncwatch.run(main(), loop_factory=lambda: loop) == ["unresponsive"]
    assert loop.time() - START == pytest.approx(6.0)


def test_run_leaves_a_worker_abandoned_on_the_loop_of_another_thread_alone() -> None:
    ended: list[str] = []

    async def elsewhere() -> None:
        batch = Run([WorkerSpec("a", stubborn, shutdown=0.0)])
        await batch.wait(timeout=1.0)
        ended.extend(outcome.state.value for outcome in batch.outcomes())

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(run_jumping, elsewhere)

    async def main() -> None:
        tasks.append(asyncio.ensure_future(linger()))
        await asyncio.sleep(0)

    tasks: list[asyncio.Future[None]] = []
    asyncwatch.run(main(), debug=True)  # it reports calls of a loop from another thread than its own
    assert ended == ["unresponsive"]


@pytest.mark.parametrize("run", [asyncio.run, asyncwatch.run])
def test_run_cancels_tasks_closes_generators_and_returns_or_raises_as_asyncio(run: Callable[..., Any]) -> None:
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
        global kept  # noqa: PLW0603  an unreferenced generator is closed before the end
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


async def test_run_within_a_running_loop_is_refused() -> None:
    with pytest.raises(RuntimeError, match="where an event loop runs"):
        asyncwatch.run(done())


def _broken() -> asyncio.AbstractEventLoop:
    raise SystemExit(3)


@pytest.mark.parametrize("uvloop", [None, types.SimpleNamespace(new_event_loop=_broken), object()])
def test_engine_has_the_loop_of_asyncio_where_uvloop_does_not_work(
    uvloop: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", uvloop)
    loop = new_event_loop()
    assert isinstance(loop, asyncio.BaseEventLoop)
    loop.close()
