"""Stopping runs of very many workers: the loop turns meanwhile, and who ends at once is not told to be stuck."""

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
from asyncwatch.engine.scheduler import Scheduler
from asyncwatch.events import AttemptHeld, AttemptStarted, RetryRefused, RunFinished, RunHalted, WorkerUnresponsive
from asyncwatch.slices import SLICE as SECONDS
from asyncwatch.slices import SlicedWork
from tests.clock import run_jumping
from tests.engine.fleets import Flaky, drain, raiser, sleeper, stubborn, worker

QUEUED, RUNNING = 20_000, 20
GRACE = 1.0
SLICE = 2_000
"""Workers in a time slice, on a clock that each of them moves on."""


@pytest.fixture(autouse=True)
def slices_of_equal_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every time slice one of `SLICE` workers, whatever the speed of the scheduler."""
    looks = itertools.count()

    def clock() -> float:
        return next(looks) * SECONDS / SLICE

    monkeypatch.setattr(bulk, "SlicedWork", functools.partial(SlicedWork, clock=clock))


@pytest.fixture
def slow_stop(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[int]]:
    """Return what lets each worker that is stopped take some seconds of the clock; it returns how many were so far."""

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
    """Return workers that call `target` with `args`, named by their numbers."""

    async def call(_number: int) -> None:
        await target(*args)

    template = WorkerSpec("-", call)
    return WorkerSpecs(template, [str(number) for number in range(count)], list(range(count)))


@pytest.mark.parametrize("command", [StopRun(), CancelAll()])
def test_a_stop_that_outlasts_the_grace_leaves_nobody_behind(slow_stop: Any, command: Command) -> None:
    """All that run end at once when they are cancelled, so all are cancelled; the loop turns, and none starts."""
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
            batch.control.carry_out(command)
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


def test_all_that_run_are_asked_in_one_turn(slow_stop: Any) -> None:
    """However many places there are: those that run get their grace period from the beginning on, before the queue."""
    running = 3 * SLICE
    stopped = slow_stop(0.0)
    asked_after: list[int] = []

    async def note() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            asked_after.append(stopped[0])

    async def main() -> None:
        batch = Run([many(note)], concurrency=running)
        asyncio.get_running_loop().call_later(1.0, batch.control.carry_out, CancelAll())
        await batch.gather()

    run_jumping(main)
    assert len(asked_after) == running
    assert max(asked_after) <= running + SLICE


async def stopping(batch: Run, count: int = QUEUED) -> asyncio.Task[list[Outcome]]:
    """Return the task of a run of which all workers were asked to stop, and some of the queue were stopped."""
    gathered = asyncio.get_running_loop().create_task(batch.gather())
    await asyncio.sleep(1.0)
    batch.control.carry_out(CancelAll())
    for _ in range(4):
        await asyncio.sleep(0)
    assert 0 < batch._scheduler.active < count - SLICE
    return gathered


def test_who_is_restarted_while_others_are_stopped_runs_again() -> None:
    """One that ran and one that was queued begin anew, are left alone, and get places after the last was stopped."""

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


def test_who_waits_for_another_attempt_can_be_restarted_before_its_turn_to_stop() -> None:
    """The person asks after the stop, so the new incarnation stays although the stop has not come to it yet."""

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


def test_a_stop_of_the_run_reaches_who_was_restarted_during_a_stop_of_all() -> None:
    """The second stop spares nobody."""

    async def main() -> None:
        batch = Run([many(sleeper, QUEUED, 100.0)], concurrency=RUNNING)
        gathered = await stopping(batch)
        assert batch.restart("3")
        batch.control.carry_out(StopRun())
        outcomes = await gathered
        assert Counter(outcome.state.value for outcome in outcomes) == {"cancelled": QUEUED}
        assert asyncio.get_running_loop().time() < 1010

    run_jumping(main)


@pytest.mark.parametrize("mode", ["now", "soon"])
def test_a_halt_of_very_many_is_counted_before_it_is_done(mode: Any) -> None:
    """The event tells of all that end by it, though most of them do so later; none of them starts."""

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


def test_a_group_stops_and_the_others_go_on() -> None:
    """Those beside it are neither asked to stop nor forgotten when their places are free again."""

    async def main() -> None:
        groups = [worker(f"{group}{n}", sleeper, 1.0, group=group) for group in "ab" for n in range(3 * SLICE)]
        batch = Run(groups, concurrency=RUNNING, group_timeouts={"a": 0.5})
        outcomes = await batch.gather()
        assert Counter((outcome.name[0], outcome.state.value) for outcome in outcomes) == {
            ("a", "timed out"): 3 * SLICE,
            ("b", "succeeded"): 3 * SLICE,
        }

    run_jumping(main)


def test_a_loop_that_was_kept_past_the_grace_period_gives_turns_to_end() -> None:
    """Who was kept from ending by another one is not left behind; who does not end even so is."""

    async def main() -> None:
        batch = Run([worker("a", sleeper, 1e6), worker("b", stubborn)], grace=GRACE)
        queue = batch.subscribe()
        loop = asyncio.get_running_loop()

        def stop() -> None:
            batch.control.carry_out(StopRun())
            loop._jumping.now += 10 * GRACE  # type: ignore[attr-defined]  # as above

        loop.call_later(1.0, stop)
        outcomes = await batch.gather()
        assert [outcome.state.value for outcome in outcomes] == ["cancelled", "unresponsive"]
        assert [event.worker for event in drain(queue) if isinstance(event, WorkerUnresponsive)] == ["b"]

    run_jumping(main)


@pytest.mark.parametrize("state", ["queued", "ended"])
def test_a_large_group_is_cancelled_or_restarted_in_slices(state: str) -> None:
    """The loop turns meanwhile, the other group is left alone, and a restarted one may start before the last is."""
    turns, began = [0], list[int]()

    async def target() -> None:
        began.append(turns[0])
        await asyncio.sleep(0.0 if state == "ended" else 1e6)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        groups = [worker(f"{group}{n}", target, group=group) for group in "ab" for n in range(5 * SLICE)]
        batch = Run(groups, concurrency=RUNNING)
        scheduler = batch._scheduler

        def count_turns() -> None:
            turns[0] += 1
            loop.call_soon(count_turns)

        async with batch:
            gathered = loop.create_task(batch.gather())
            await asyncio.sleep(1.0)
            began.clear()
            request = CancelBranch("b") if state == "queued" else RestartBranch("b")
            loop.call_soon(count_turns)
            assert batch.control.carry_out(request)
            if state == "queued":
                assert 0 < 10 * SLICE - scheduler.active <= 2 * SLICE
                batch.control.carry_out(StopRun())
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


def test_what_cannot_be_done_to_a_group_is_told() -> None:
    """There is nobody in it, nobody has started, or all have ended."""

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
def test_very_many_who_wait_are_told_in_slices(command: Command) -> None:
    """They try again in order, or none does; the loop turns meanwhile. Who was stopped since is left alone."""
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
        assert batch.control.carry_out(command)
        last, first = f"w{count - 1}", "w0"
        told = {event.worker for event in drain(queue) if isinstance(event, AttemptHeld | RetryRefused)}
        assert len(told) <= SLICE
        stopped = first if isinstance(command, RetryAllNow) else last
        assert batch.cancel(stopped)
        await gathered
        states = {outcome.name: outcome.state.value for outcome in batch.outcomes()}
        assert states.pop(stopped) == "cancelled"
        assert set(states.values()) == {"succeeded" if isinstance(command, RetryAllNow) else "exhausted"}
        again = [event.worker for event in drain(queue) if isinstance(event, AttemptStarted)]
        assert again == ([f"w{n}" for n in range(1, count)] if isinstance(command, RetryAllNow) else [])

    run_jumping(main)
