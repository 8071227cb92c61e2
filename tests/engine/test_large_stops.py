"""Stops of runs with very many workers: the loop iterates meanwhile, and workers that end at once are not abandoned."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from asyncwatch import Halt, Outcome, RetryPolicy, Run, WorkerSpec, WorkerSpecs
from asyncwatch.commands import CancelAll, CancelBranch, Command, GiveUpAll, RestartBranch, RetryAllNow, StopRun
from asyncwatch.engine import bulk
from asyncwatch.engine.run_control import control_of
from asyncwatch.engine.scheduler import Scheduler
from asyncwatch.events import AttemptHeld, AttemptStarted, RetryRefused, RunFinished, RunHalted, WorkerUnresponsive
from asyncwatch.slices import SLICE as SECONDS
from asyncwatch.slices import SlicedWork
from tests.clock import run_jumping
from tests.engine.fleets import Flaky, drain, raiser, sleeper, stubborn, worker

QUEUED, RUNNING = 20_000, 20
GRACE = 1.0
SLICE = 2_000
"""Workers in a time slice, on a clock that advances with each of them."""


@pytest.fixture(autouse=True)
def slices_of_equal_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every time slice one of `SLICE` workers, whatever the speed of the scheduler."""
    looks = itertools.count()

    def clock() -> float:
        return next(looks) * SECONDS / SLICE

    monkeypatch.setattr(bulk, "SlicedWork", functools.partial(SlicedWork, clock=clock))


@pytest.fixture
def slow_stop(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[int]]:
    """Return a function that makes the stop of each worker take seconds of the clock, and returns the count so far."""

    def slow_down(seconds: float) -> list[int]:
        stopped = [0]
        stop = Scheduler._stop

        def slow(scheduler: Scheduler, *args: Any) -> None:
            stop(scheduler, *args)
            stopped[0] += 1
            asyncio.get_running_loop()._jumping.now += seconds  # type: ignore[attr-defined]  # the clock of the tests

        monkeypatch.setattr(Scheduler, "_stop", slow)
        return stopped

    return slow_down


def many(target: Any, count: int = QUEUED + RUNNING, *args: Any) -> WorkerSpecs:
    """Return workers that call `target` with `args` and are named by their numbers."""

    async def call(_number: int) -> None:
        await target(*args)

    template = WorkerSpec("-", call)
    return WorkerSpecs(template, [str(number) for number in range(count)], list(range(count)))


@pytest.mark.parametrize("command", [StopRun(), CancelAll()])
def test_stop_longer_than_the_grace_period_cancels_all_and_abandons_none(slow_stop: Any, command: Command) -> None:
    stopped = slow_stop(10 * GRACE / QUEUED)

    async def main() -> None:
        batch = Run([many(sleeper, QUEUED + RUNNING, 1e6)], concurrency=RUNNING, grace=GRACE)
        queue = batch.subscribe()
        loop = asyncio.get_running_loop()
        seen: list[int] = []

        def look() -> None:
            seen.append(stopped[0])
            if stopped[0] < QUEUED + RUNNING:
                loop.call_soon(look)

        def stop() -> None:
            control_of(batch).carry_out(command)
            look()

        loop.call_later(1.0, stop)
        await batch.gather()
        events = drain(queue)
        last = events[-1]
        assert isinstance(last, RunFinished)
        assert last.states == {"cancelled": QUEUED + RUNNING}
        assert not any(isinstance(event, WorkerUnresponsive) for event in events)
        assert sum(isinstance(event, AttemptStarted) for event in events) == RUNNING
        assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) <= SLICE + RUNNING
        assert len(seen) > QUEUED / SLICE

    run_jumping(main)


def test_running_workers_are_all_cancelled_at_once_before_the_queue(slow_stop: Any) -> None:
    running = 3 * SLICE
    stopped = slow_stop(0.0)
    cancelled_after: list[int] = []

    async def note() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            cancelled_after.append(stopped[0])

    async def main() -> None:
        batch = Run([many(note)], concurrency=running)
        asyncio.get_running_loop().call_later(1.0, control_of(batch).carry_out, CancelAll())
        await batch.gather()

    run_jumping(main)
    assert len(cancelled_after) == running
    assert max(cancelled_after) <= running + SLICE


async def stopping(batch: Run, count: int = QUEUED) -> asyncio.Task[list[Outcome]]:
    """Return the task of a run whose workers are being cancelled: the stop has passed some of the queue."""
    gathered = asyncio.get_running_loop().create_task(batch.gather())
    await asyncio.sleep(1.0)
    control_of(batch).carry_out(CancelAll())
    for _ in range(4):
        await asyncio.sleep(0)
    assert 0 < batch._scheduler.active < count - SLICE
    return gathered


def test_worker_restarted_during_a_stop_runs_again_after_it() -> None:
    async def main() -> None:
        batch = Run([many(sleeper, QUEUED, 100.0)], concurrency=RUNNING)
        gathered = await stopping(batch)
        for number in (3, RUNNING):
            assert batch.restart(str(number))
        await gathered
        outcomes = batch.outcomes()
        assert Counter(outcome.state.value for outcome in outcomes) == {"cancelled": QUEUED - 2, "succeeded": 2}
        assert [outcome.name for outcome in outcomes if outcome.incarnation == 2] == ["3", str(RUNNING)]

    run_jumping(main)


def test_worker_in_backoff_restarted_before_the_stop_reaches_it_runs_again() -> None:
    async def main() -> None:
        patient = RetryPolicy(base=1e12, cap=1e12)
        count = 10 * SLICE
        waiting = [worker(f"w{n}", Flaky(TimeoutError()), retry=patient) for n in range(count)]
        batch = Run(waiting, concurrency=RUNNING, retry_budget=None, seed=1)
        gathered = await stopping(batch, count)
        last = f"w{count - 1}"
        assert batch.restart(last)
        await gathered
        states = {outcome.name: outcome.state.value for outcome in batch.outcomes()}
        assert states.pop(last) == "succeeded"
        assert set(states.values()) == {"cancelled"}

    run_jumping(main)


def test_stop_of_the_run_cancels_workers_restarted_during_an_earlier_stop() -> None:
    async def main() -> None:
        batch = Run([many(sleeper, QUEUED, 100.0)], concurrency=RUNNING)
        gathered = await stopping(batch)
        assert batch.restart("3")
        control_of(batch).carry_out(StopRun())
        outcomes = await gathered
        assert Counter(outcome.state.value for outcome in outcomes) == {"cancelled": QUEUED}
        assert asyncio.get_running_loop().time() < 1010

    run_jumping(main)


@pytest.mark.parametrize("mode", ["now", "soon"])
def test_halt_event_counts_all_workers_that_it_will_stop(mode: Any) -> None:
    async def main() -> None:
        first = worker("bad", raiser, ValueError(), 1.0)
        batch = Run([first, many(sleeper, QUEUED, 5.0)], concurrency=RUNNING, halt=Halt(failures=1, mode=mode))
        queue = batch.subscribe()
        await batch.gather()
        events = drain(queue)
        last = events[-1]
        assert isinstance(last, RunFinished)
        running = RUNNING - 1
        (halted,) = (event for event in events if isinstance(event, RunHalted))
        expected = {"cancelled": QUEUED} if mode == "now" else {"cancelled": QUEUED - running, "succeeded": running}
        assert last.states == {"failed": 1, **expected}
        assert halted.stopped == expected["cancelled"]
        assert last.attempts == RUNNING

    run_jumping(main)


def test_timeout_of_a_large_group_leaves_the_other_group_running() -> None:
    async def main() -> None:
        groups = [worker(f"{group}{n}", sleeper, 1.0, group=group) for group in "ab" for n in range(3 * SLICE)]
        batch = Run(groups, concurrency=RUNNING, group_timeouts={"a": 0.5})
        outcomes = await batch.gather()
        assert Counter((outcome.name[0], outcome.state.value) for outcome in outcomes) == {
            ("a", "timed out"): 3 * SLICE,
            ("b", "succeeded"): 3 * SLICE,
        }

    run_jumping(main)


def test_loop_blocked_past_the_grace_period_lets_cancelled_workers_end() -> None:
    async def main() -> None:
        batch = Run([worker("a", sleeper, 1e6), worker("b", stubborn)], grace=GRACE)
        queue = batch.subscribe()
        loop = asyncio.get_running_loop()

        def stop() -> None:
            control_of(batch).carry_out(StopRun())
            loop._jumping.now += 10 * GRACE  # type: ignore[attr-defined]  # as above

        loop.call_later(1.0, stop)
        outcomes = await batch.gather()
        assert [outcome.state.value for outcome in outcomes] == ["cancelled", "unresponsive"]
        assert [event.worker for event in drain(queue) if isinstance(event, WorkerUnresponsive)] == ["b"]

    run_jumping(main)


@pytest.mark.parametrize("state", ["queued", "ended"])
def test_large_group_is_cancelled_or_restarted_in_slices(state: str) -> None:
    """The other group is left alone."""
    iterations, began = [0], list[int]()

    async def target() -> None:
        began.append(iterations[0])
        await asyncio.sleep(0.0 if state == "ended" else 1e6)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        groups = [worker(f"{group}{n}", target, group=group) for group in "ab" for n in range(5 * SLICE)]
        batch = Run(groups, concurrency=RUNNING)
        scheduler = batch._scheduler

        def count_iterations() -> None:
            iterations[0] += 1
            loop.call_soon(count_iterations)

        async with batch:
            gathered = loop.create_task(batch.gather())
            await asyncio.sleep(1.0)
            began.clear()
            request = CancelBranch("b") if state == "queued" else RestartBranch("b")
            loop.call_soon(count_iterations)
            assert control_of(batch).carry_out(request)
            if state == "queued":
                assert 0 < 10 * SLICE - scheduler.active <= 2 * SLICE
                control_of(batch).carry_out(StopRun())
                await gathered
                assert not began
            else:
                assert 0 < scheduler.active <= 2 * SLICE
                await scheduler.wait_settled()
                assert len(began) == 5 * SLICE
                assert min(began) < 2
                assert {o.incarnation for o in batch.outcomes() if o.name[0] == "b"} == {2}
                assert {o.incarnation for o in batch.outcomes() if o.name[0] == "a"} == {1}

    run_jumping(main)


def test_group_command_that_is_impossible_returns_the_reason() -> None:
    async def main() -> None:
        batch = Run([worker("a", sleeper, 1.0, group="a"), worker("b", sleeper, 1.0, group="b")])
        scheduler = batch._scheduler
        scheduler.change_slots(1, is_paused=False)
        async with batch:
            gathered = asyncio.get_running_loop().create_task(batch.gather())
            await asyncio.sleep(0.5)
            assert scheduler.restart_group("b") == "it has not started yet"
            assert scheduler.restart_group("c") == scheduler.cancel_group("c") == "there is no such group"
            await gathered
            assert scheduler.cancel_group("a") == "all its workers have ended"

    run_jumping(main)


@pytest.mark.parametrize("command", [RetryAllNow(), GiveUpAll()])
def test_retry_all_now_and_give_up_all_work_in_slices_and_skip_cancelled_workers(command: Command) -> None:
    count = 5 * SLICE

    async def main() -> None:
        patient = RetryPolicy(base=1e12, cap=1e12)
        flaky = {f"w{n}": Flaky(TimeoutError()) for n in range(count)}
        waiting = [worker(name, target, retry=patient) for name, target in flaky.items()]
        batch = Run(waiting, concurrency=RUNNING, retry_budget=None, seed=1)
        queue = batch.subscribe()
        gathered = asyncio.get_running_loop().create_task(batch.gather())
        await asyncio.sleep(1.0)
        drain(queue)
        assert control_of(batch).carry_out(command)
        last, first = f"w{count - 1}", "w0"
        reached = {event.worker for event in drain(queue) if isinstance(event, AttemptHeld | RetryRefused)}
        assert len(reached) <= SLICE
        stopped = first if isinstance(command, RetryAllNow) else last
        assert batch.cancel(stopped)
        await gathered
        states = {outcome.name: outcome.state.value for outcome in batch.outcomes()}
        assert states.pop(stopped) == "cancelled"
        assert set(states.values()) == {"succeeded" if isinstance(command, RetryAllNow) else "exhausted"}
        again = [event.worker for event in drain(queue) if isinstance(event, AttemptStarted)]
        assert again == ([f"w{n}" for n in range(1, count)] if isinstance(command, RetryAllNow) else [])

    run_jumping(main)
