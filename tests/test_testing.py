"""`asyncwatch.testing`, the tools for tests of supervised code."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from asyncwatch import RestartBackoff, Supervisor, WorkerSpec
from asyncwatch.events import WorkerRestarted, WorkerSucceeded
from asyncwatch.testing import START, EventRecorder, JumpingLoop, run_jumping, run_on, wait_until

HOUR = 3600.0


async def crash() -> None:
    await asyncio.sleep(HOUR)
    raise OSError("crashed")


async def nothing() -> None:
    """Return at once."""


def test_jumping_loop_runs_timers_in_order_without_waiting() -> None:
    fired: list[str] = []

    async def main() -> float:
        loop = asyncio.get_running_loop()
        for delay, name in ((2 * HOUR, "late"), (HOUR, "early")):
            loop.call_later(delay, fired.append, name)
        await asyncio.sleep(3 * HOUR)
        return loop.time()

    began = time.monotonic()
    assert run_jumping(main) == pytest.approx(START + 3 * HOUR)
    assert time.monotonic() - began < HOUR / 2
    assert fired == ["early", "late"]


def test_jumping_loop_is_a_loop_factory_of_a_runner() -> None:
    async def main() -> str:
        await asyncio.sleep(HOUR)
        return "done"

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        assert runner.run(main()) == "done"


def test_jumping_loop_where_nothing_can_happen_raises() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="deadlock"):
        run_jumping(main)


def test_run_jumping_uses_the_task_factory() -> None:
    made: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(coro.__name__)
        return asyncio.Task(coro, loop=loop, **options)

    async def main() -> None:
        await asyncio.create_task(nothing())

    run_jumping(main, factory)
    assert "nothing" in made


def test_run_on_returns_although_a_task_swallows_its_cancellation() -> None:
    async def swallow() -> None:
        while True:
            try:
                await asyncio.sleep(HOUR)
            except asyncio.CancelledError:
                continue

    async def main() -> int:
        task = asyncio.create_task(swallow())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.sleep(1)
        return len(asyncio.all_tasks())

    loop = JumpingLoop()
    assert run_on(loop, main) == 2
    assert loop.is_closed()


def test_wait_until_lets_time_jump() -> None:
    async def main() -> float:
        reached = asyncio.Event()
        asyncio.get_running_loop().call_later(HOUR, reached.set)
        await wait_until(reached.is_set, steps=10)
        return asyncio.get_running_loop().time()

    assert run_jumping(main) == pytest.approx(START + HOUR)


def test_wait_until_returns_before_time_jumps_again() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ticks: list[float] = []
        for delay in (1.0, 2.0, 3.0):
            loop.call_later(delay, lambda: ticks.append(loop.time()))
        await wait_until(lambda: len(ticks) == 2)
        assert loop.time() == ticks[-1]

    run_jumping(main)


@pytest.mark.parametrize("loop_factory", [JumpingLoop, asyncio.new_event_loop])
def test_wait_until_a_condition_that_never_holds_times_out(loop_factory: type[JumpingLoop]) -> None:
    """Whether nothing happens at all, or a task is busy all the time."""

    async def spin() -> None:
        for _ in range(100):
            await asyncio.sleep(0)

    async def main() -> None:
        checks = 0

        def never() -> bool:
            nonlocal checks
            checks += 1
            return False

        with pytest.raises(TimeoutError, match="within 5 loop iterations"):
            await wait_until(never, steps=5)
        assert checks == 6
        busy = asyncio.create_task(spin())
        with pytest.raises(TimeoutError):
            await wait_until(never, steps=5)
        busy.cancel()

    run_on(loop_factory(), main)


def test_wait_until_is_cancelled_alone() -> None:
    async def main() -> None:
        reached = asyncio.Event()
        asyncio.get_running_loop().call_later(HOUR, reached.set)
        first, second = (asyncio.create_task(wait_until(reached.is_set)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await second
        assert first.cancelled()

    run_jumping(main)


def test_event_recorder_has_the_events_of_a_run() -> None:
    async def main() -> EventRecorder:
        backoff = RestartBackoff(base=HOUR, cap=HOUR)
        specs = [WorkerSpec("a", crash, restart="permanent", backoff=backoff), WorkerSpec("b", nothing)]
        supervisor = Supervisor(specs, max_restarts=10)
        recorder = EventRecorder(supervisor)
        async with supervisor:
            await wait_until(lambda: len(recorder.of(WorkerRestarted)) == 2)
        return recorder

    recorder = run_jumping(main)
    assert [event.incarnation for event in recorder.of(WorkerRestarted, "a")] == [2, 3]
    assert recorder.of(WorkerRestarted, "b") == []
    assert [event.worker for event in recorder.of(WorkerSucceeded)] == ["b"]
    assert recorder.story("b") == ["AttemptStarted", "WorkerReady", "WorkerSucceeded"]
    assert [event.seq for event in recorder.events] == list(range(len(recorder.events)))
