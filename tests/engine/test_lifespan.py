"""Lifespans: contexts around the attempts of a run, or of each of its slots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import pytest

from asyncwatch import Renew, RetryPolicy, Run, Supervisor, SupervisorSpec, WorkerSpec, WorkerState, amap
from asyncwatch.commands import StopRun
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import AttemptFailed, AttemptStarted
from tests.engine.fleets import drain, worker


class Recorded:
    """A lifespan that notes what happens to it. Its value is the number of the context."""

    def __init__(
        self,
        *,
        entry: Callable[[], Any] = lambda: asyncio.sleep(1),
        leaving: Callable[[], Any] = lambda: asyncio.sleep(1),
    ) -> None:
        self.story: list[str] = []
        self._entry, self._leaving = entry, leaving
        self._number = 0

    def __call__(self) -> AbstractAsyncContextManager[int]:
        return self._context()

    @asynccontextmanager
    async def _context(self) -> AsyncIterator[int]:
        self._number += 1
        number, task = self._number, asyncio.current_task()
        await self._entry()
        self.story.append(f"entered {number}")
        yield number
        assert asyncio.current_task() is task
        await self._leaving()
        self.story.append(f"left {number}")

    async def target(self, value: int) -> int:
        self.story.append(f"called with {value}")
        await asyncio.sleep(1)
        self.story.append("ended")
        return value


async def fails() -> None:
    raise ConnectionError("no server")


async def hangs() -> None:
    await asyncio.sleep(10_000)


def test_context_is_entered_before_the_first_attempt_and_left_after_the_last(run: Any) -> None:
    recorded = Recorded()

    async def main() -> None:
        specs = [worker(name, recorded.target) for name in "ab"]
        outcomes = await Run(specs, concurrency=1, lifespan=recorded).gather()
        assert [outcome.result for outcome in outcomes] == [1, 1]

    run(main)
    assert recorded.story == ["entered 1", *["called with 1", "ended"] * 2, "left 1"]


def test_value_is_the_last_argument(run: Any) -> None:
    async def target(first: str, second: int) -> tuple[str, int]:
        return first, second

    async def main() -> Any:
        return await amap(target, ["x"], lifespan=Recorded())

    assert run(main) == [("x", 1)]


def test_services_of_a_tree_share_the_value(run: Any) -> None:
    recorded = Recorded()

    async def main() -> None:
        nested = SupervisorSpec("below", (WorkerSpec("b", recorded.target, restart="transient"),))
        tree = Supervisor([WorkerSpec("a", recorded.target, restart="transient"), nested], lifespan=recorded)
        async with tree:
            await asyncio.sleep(5)
            assert [outcome.result for outcome in tree.outcomes()] == [1, 1]
        assert recorded.story[-1] == "left 1"

    run(main)
    assert recorded.story.count("entered 1") == 1
    assert recorded.story.count("called with 1") == 2


@pytest.mark.parametrize("per", ["run", "slot"])
def test_entry_that_fails_is_raised_and_nothing_is_attempted(run: Any, per: Any) -> None:
    recorded = Recorded(entry=fails)

    async def main() -> None:
        batch = Run([worker("a", recorded.target)], lifespan=recorded, lifespan_per=per)
        queue = batch.subscribe()
        with pytest.raises(ConnectionError, match="no server"):
            await batch.gather()
        services = [WorkerSpec("a", recorded.target, restart="permanent")]
        with pytest.raises(ConnectionError, match="no server"):
            async with Supervisor(services, lifespan=recorded, lifespan_per=per):
                pytest.fail("the tree has started")
        assert not [event for event in drain(queue) if isinstance(event, AttemptStarted)]

    run(main)
    assert recorded.story == []


@pytest.mark.parametrize("is_stubborn", [False, True])
def test_cancelling_the_caller_while_the_context_is_entered_takes_it_back(run: Any, is_stubborn: bool) -> None:
    async def entry() -> None:
        with suppress(*[asyncio.CancelledError] * is_stubborn):
            await asyncio.sleep(10_000)
        await asyncio.sleep(0.5)

    recorded = Recorded(entry=entry)

    async def main() -> None:
        task = asyncio.create_task(Run([worker("a", recorded.target)], lifespan=recorded, grace=5).gather())
        await asyncio.sleep(10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)
    assert recorded.story == (["entered 1", "left 1"] if is_stubborn else [])


def test_stop_while_the_context_is_entered_cancels_all_workers_before_they_start(run: Any) -> None:
    recorded = Recorded(entry=hangs)

    async def main() -> None:
        batch = Run([worker(name, recorded.target) for name in "ab"], lifespan=recorded)
        task = asyncio.create_task(batch.gather())
        await asyncio.sleep(1)
        control_of(batch).carry_out(StopRun())
        outcomes = await task
        assert [(outcome.state, outcome.attempts) for outcome in outcomes] == [(WorkerState.CANCELLED, 0)] * 2

    run(main)
    assert recorded.story == []


@pytest.mark.parametrize("ending", ["cancelled", "timeout", "failed"])
def test_context_is_left_however_the_run_ends(run: Any, ending: str) -> None:
    recorded = Recorded()

    async def target(value: int) -> None:
        recorded.story.append(f"called with {value}")
        if ending == "failed":
            raise KeyError
        await hangs()

    async def main() -> None:
        batch = Run([worker("a", target)], lifespan=recorded)
        task = asyncio.create_task(batch.task_group(timeout=2 if ending == "timeout" else None))
        await asyncio.sleep(5)
        if ending == "cancelled":
            task.cancel()
        with pytest.raises((asyncio.CancelledError, TimeoutError, ExceptionGroup)):
            await task

    run(main)
    assert recorded.story == ["entered 1", "called with 1", "left 1"]


@pytest.mark.parametrize("per", ["run", "slot"])
def test_error_of_the_exit_is_raised_and_logged(run: Any, per: Any, caplog: pytest.LogCaptureFixture) -> None:
    recorded = Recorded(leaving=fails)

    async def main() -> None:
        batch = Run([worker("a", recorded.target)], lifespan=recorded, lifespan_per=per)
        with pytest.raises(ConnectionError, match="no server"):
            await batch.gather()
        assert batch.is_finished
        assert batch.outcomes()[0].is_success

    run(main)
    assert "the lifespan failed on its exit: ConnectionError: no server" in caplog.text


def test_exit_that_hangs_is_cut_off_after_the_grace_period(run: Any) -> None:
    recorded = Recorded(leaving=hangs)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(TimeoutError, match="its exit took longer than 5 s"):
            await Run([worker("a", recorded.target)], lifespan=recorded, grace=5).gather()
        assert loop.time() - began < 10

    run(main)


def test_cancellation_while_the_context_is_left_comes_after_the_exit(run: Any) -> None:
    recorded = Recorded(leaving=lambda: asyncio.sleep(3))

    async def main() -> None:
        task = asyncio.create_task(Run([worker("a", recorded.target)], lifespan=recorded).gather())
        await asyncio.sleep(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)
    assert recorded.story[-1] == "left 1"


def test_slots_have_contexts_of_their_own_that_are_used_again(run: Any) -> None:
    recorded = Recorded()

    async def main() -> None:
        specs = [worker(str(number), recorded.target) for number in range(6)]
        outcomes = await Run(specs, concurrency=2, lifespan=recorded, lifespan_per="slot").gather()
        assert {outcome.result for outcome in outcomes} == {1, 2}

    run(main)
    assert sorted(each for each in recorded.story if each.startswith("left")) == ["left 1", "left 2"]
    assert sum(each.startswith("entered") for each in recorded.story) == 2


def test_renew_gives_the_slot_a_new_context_and_shows_its_cause(run: Any) -> None:
    recorded = Recorded()

    async def target(value: int) -> int:
        if value == 1:
            raise Renew from KeyError("crashed page")
        return value

    async def main() -> None:
        spec = worker("a", target, retry=RetryPolicy(max_attempts=2, base=5.0, cap=5.0))
        batch = Run([spec], lifespan=recorded, lifespan_per="slot")
        queue = batch.subscribe()
        (outcome,) = await batch.gather()
        assert (outcome.result, outcome.attempts) == (2, 2)
        (failed,) = [event for event in drain(queue) if isinstance(event, AttemptFailed)]
        assert (failed.error_type, failed.error, failed.transient) == ("KeyError", "'crashed page'", True)

    run(main)
    assert sorted(recorded.story) == ["entered 1", "entered 2", "left 1", "left 2"]


def then(entry: Callable[[], Any]) -> Callable[[], Any]:
    """Return an entry that succeeds once, and is `entry` from the second time on."""
    entries = iter([lambda: asyncio.sleep(0)])

    def first_or_later() -> Any:
        return next(entries, entry)()

    return first_or_later


def test_later_slot_whose_context_cannot_be_entered_fails_the_attempt(run: Any) -> None:
    recorded = Recorded(entry=then(fails))

    async def main() -> None:
        retry = RetryPolicy(max_attempts=2, base=0.0, cap=0.0)
        specs = [worker(name, recorded.target, retry=retry) for name in "ab"]
        first, second = await Run(specs, concurrency=2, lifespan=recorded, lifespan_per="slot").gather()
        assert (first.state, first.result) == (WorkerState.SUCCEEDED, 1)
        assert second.state is WorkerState.EXHAUSTED
        assert isinstance(second.error, ConnectionError)

    run(main)


def test_worker_cancelled_while_its_slot_is_entered_leaves_no_task(run: Any) -> None:
    recorded = Recorded(entry=then(hangs))

    async def main() -> None:
        specs = [worker(name, recorded.target) for name in "ab"]
        batch = Run(specs, concurrency=2, lifespan=recorded, lifespan_per="slot")
        task = asyncio.create_task(batch.gather())
        await asyncio.sleep(0.5)
        batch.cancel_all()
        outcomes = await task
        assert [outcome.state for outcome in outcomes] == [WorkerState.CANCELLED] * 2
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main)


@pytest.mark.parametrize(("per", "error"), [("worker", ValueError), ("run", TypeError)])
def test_wrong_lifespan_is_refused(per: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="lifespan"):
        Run([], lifespan=Recorded() if error is ValueError else 3, lifespan_per=per)  # type: ignore[arg-type]
