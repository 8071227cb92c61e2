"""Workers that join the batch while it runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import Halt, Run, Supervisor, WorkerSpec
from asyncwatch.commands import CancelAll, CancelBranch, RestartWorker, StopRun
from asyncwatch.engine.feed import Feed
from asyncwatch.engine.run_control import control_of
from asyncwatch.engine.spec import BadItem, OwnSpec
from asyncwatch.events import (
    CommandRefused,
    ItemsRead,
    RunFinished,
    RunHalted,
    RunStarted,
    RunTimedOut,
    WorkersQueued,
    WorkerState,
)
from tests.engine.fleets import AT_ONCE, drain, later, raiser, sleeper, stubborn


class Source:
    """Adds items at the given seconds, one worker each, and ends at the time of an item that is `...`."""

    def __init__(self, *items: tuple[float, Any], target: Any = sleeper, group: str = "") -> None:
        self.template = WorkerSpec("template", target, retry=AT_ONCE, group=group)
        self.items = items
        self.is_stopped = False

    def start(self, feed: Feed) -> None:
        """Begin."""
        for seconds, item in self.items:
            later(seconds, feed.end if item is ... else lambda item=item: feed.add([f"w{item}"], [item]))

    def stop(self) -> None:
        """Note that no more is wanted."""
        self.is_stopped = True


class ManualSource(Source):
    """Leaves it to the test to add items to its `feed`."""

    feed: Feed

    def start(self, feed: Feed) -> None:
        """Keep the feed."""
        self.feed = feed


def fed(*sources: Source, **settings: Any) -> Run:
    """Return a run of a batch that has no workers yet."""
    batch = Run([], **settings)
    for source in sources:
        control_of(batch).open_feed(source)
    return batch


def test_run_waits_for_workers_that_join_and_for_the_end_of_their_source(run: Any) -> None:
    async def main() -> None:
        batch = fed(Source((0.0, 3), (1.0, 1), (9.0, 2), (20.0, ...)))
        events = batch.subscribe()
        outcomes = await batch.gather()
        assert [(outcome.name, outcome.state) for outcome in outcomes] == [
            ("w3", WorkerState.SUCCEEDED),
            ("w1", WorkerState.SUCCEEDED),
            ("w2", WorkerState.SUCCEEDED),
        ]
        seen = drain(events)
        assert isinstance(seen[0], RunStarted)
        assert (seen[0].workers, seen[0].reads_items) == (0, True)
        assert [event.workers for event in seen if isinstance(event, WorkersQueued)] == [("w3",), ("w1",), ("w2",)]
        assert [(event.at, event.workers) for event in seen if isinstance(event, ItemsRead)] == [(20.0, 3)]
        assert isinstance(seen[-1], RunFinished)
        assert seen[-1].at == 20.0

    run(main)


def test_workers_that_join_have_unique_names_and_slots_in_order(run: Any) -> None:
    async def main() -> None:
        started: list[str] = []

        async def target(item: str) -> None:
            started.append(item)
            await asyncio.sleep(1.0)

        source = ManualSource(target=target)
        gathering = asyncio.ensure_future(fed(source, concurrency=1).gather())
        await asyncio.sleep(1.0)
        source.feed.add(["a", "a", "b", "a#2"], ["1", "2", "3", "4"])
        await asyncio.sleep(0.5)
        source.feed.add(["b", "a"], ["5", "6"])
        source.feed.end()
        assert [outcome.name for outcome in await gathering] == ["a", "a#2", "b", "a#2#2", "b#2", "a#3"]
        assert started == list("123456")

    run(main)


def test_bad_item_is_a_failed_worker(run: Any) -> None:
    async def main() -> None:
        batch = fed(Source((0.0, BadItem("in:1: is odd")), (0.0, 1), (1.0, ...)))
        first, second = await batch.gather()
        assert (first.state, str(first.error)) == (WorkerState.FAILED, "in:1: is odd")
        assert second.state is WorkerState.SUCCEEDED

    run(main)


@pytest.mark.parametrize("command", [StopRun(), CancelAll(), CancelBranch("g", 0)])
def test_stop_closes_the_source_and_drops_what_it_still_adds(run: Any, command: Any) -> None:
    async def main() -> None:
        source = Source((0.0, 50), (0.2, 50), (2.0, 1), group="g")
        batch = fed(source, concurrency=1)
        later(1.0, lambda: control_of(batch).carry_out(command))
        outcomes = await batch.gather()
        assert [outcome.state for outcome in outcomes] == [WorkerState.CANCELLED] * 2
        assert source.is_stopped
        await asyncio.sleep(2.0)

    run(main)


def test_stop_of_a_run_whose_workers_have_all_ended_interrupts_it(run: Any) -> None:
    async def main() -> None:
        batch = fed(Source((0.0, 1)))
        events = batch.subscribe()
        later(5.0, lambda: control_of(batch).carry_out(StopRun()))
        assert [outcome.state for outcome in await batch.gather()] == [WorkerState.SUCCEEDED]
        last = drain(events)[-1]
        assert isinstance(last, RunFinished)
        assert last.interrupted

    run(main)


def test_group_that_is_cancelled_ends_its_source_alone(run: Any) -> None:
    async def main() -> None:
        one, two = Source((0.0, 1), group="one"), Source((3.0, 2), (6.0, ...), group="two")
        batch = fed(one, two)
        later(2.0, lambda: control_of(batch).carry_out(CancelBranch("one", 0)))
        assert [outcome.name for outcome in await batch.gather()] == ["w1", "w2"]
        assert (one.is_stopped, two.is_stopped) == (True, False)

    run(main)


def test_total_timeout_counts_the_workers_that_have_joined(run: Any) -> None:
    async def main() -> None:
        source = Source((0.0, 1), (0.0, 50))
        batch = fed(source)
        events = batch.subscribe()
        with pytest.raises(TimeoutError):
            await batch.gather(timeout=10)
        assert [event.pending for event in drain(events) if isinstance(event, RunTimedOut)] == [1]
        assert source.is_stopped

    run(main)


def test_halt_in_percent_is_of_the_items_read_so_far(run: Any) -> None:
    async def target(item: int) -> None:
        if item >= 4:
            await raiser(ValueError(str(item)))

    async def main() -> None:
        source = Source(*((float(n), n) for n in range(10)), (11.0, ...), target=target)
        batch = fed(source, halt=Halt(share=0.4))
        events = batch.subscribe()
        assert len(await batch.gather()) == 7
        # Of 5 items 1 had failed, of 6 items 2 had, and of 7 items 3: the first share of 40 % and more.
        assert [event.failures for event in drain(events) if isinstance(event, RunHalted)] == [3]
        assert source.is_stopped

    run(main)


def test_first_failure_of_a_task_group_closes_the_source(run: Any) -> None:
    async def target(item: int) -> None:
        await raiser(ValueError(str(item)), 1.0)

    async def main() -> None:
        source = Source((0.0, 1), target=target)
        with pytest.raises(ExceptionGroup):
            await fed(source).task_group()
        assert source.is_stopped

    run(main)


@pytest.mark.parametrize("return_when", ["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"])
def test_wait_returns_although_the_source_ends_last(run: Any, return_when: Any) -> None:
    async def main() -> None:
        done, pending = await fed(Source((0.0, 1), (5.0, ...))).wait(return_when=return_when)
        assert [outcome.name for outcome in done] == ["w1"]
        assert not pending

    run(main)


def test_worker_is_restarted_while_others_still_join(run: Any) -> None:
    async def main() -> None:
        batch = fed(Source((0.0, 1), (5.0, 2), (9.0, ...)))
        later(3.0, lambda: batch.restart("w1"))
        assert [(outcome.name, outcome.incarnation) for outcome in await batch.gather()] == [("w1", 2), ("w2", 1)]

    run(main)


def test_as_completed_yields_workers_that_joined(run: Any) -> None:
    async def main() -> None:
        batch = fed(Source((0.0, 5), (1.0, 1), (8.0, ...)))
        async with batch.as_completed() as outcomes:
            assert [outcome.name async for outcome in outcomes] == ["w1", "w5"]

    run(main)


def test_workers_of_two_sources_join_in_turn(run: Any) -> None:
    async def main() -> None:
        low = Source((0.0, 1), (0.2, 3), (1.0, ...), group="low")
        high = Source((0.1, 2), (0.3, 4), (1.0, ...), group="high")
        batch = fed(low, high, concurrency=1)
        assert [outcome.name for outcome in await batch.gather()] == ["w1", "w2", "w3", "w4"]
        assert [worker.spec.group for worker in batch._scheduler.registry.batch] == ["low", "high", "low", "high"]

    run(main)


def test_workers_join_a_batch_beside_a_tree(run: Any) -> None:
    async def main() -> None:
        source = Source((0.0, 1), (2.0, 1000))
        supervisor = Supervisor([WorkerSpec("service", sleeper, (1e6,), restart="permanent")])
        control_of(supervisor).open_feed(source)
        later(5.0, lambda: control_of(supervisor).carry_out(StopRun()))
        await supervisor.serve()
        states = {outcome.name: outcome.state for outcome in supervisor.outcomes()}
        assert states == {
            "w1": WorkerState.SUCCEEDED,
            "w1000": WorkerState.CANCELLED,
            "service": WorkerState.CANCELLED,
        }
        assert source.is_stopped

    run(main)


def test_stop_before_the_start_never_starts_the_source(run: Any) -> None:
    async def main() -> None:
        source = Source((0.0, 1), (1.0, ...))
        batch = fed(source)
        control_of(batch).carry_out(StopRun())
        assert await batch.gather() == []
        assert source.is_stopped

    run(main)


def test_many_workers_join_at_a_cost_that_does_not_grow(run: Any) -> None:
    """Each chunk is looked at once: the calls of the registry grow with the workers, not with their square."""

    async def main() -> None:
        source = ManualSource()
        batch = fed(source, concurrency=10)
        gathering = asyncio.ensure_future(batch.gather())
        await asyncio.sleep(1)
        registry = batch._scheduler.registry.batch
        calls = 0
        part_call = registry._worker

        def counted(index: int) -> Any:
            nonlocal calls
            calls += 1
            return part_call(index)

        registry._worker = counted  # type: ignore[method-assign]
        for chunk in range(200):
            source.feed.add([f"{chunk}.{n}" for n in range(10)], [0] * 10)
            await asyncio.sleep(0.01)
        source.feed.end()
        assert len(await gathering) == 2000
        assert calls < 100
        assert len(registry._parts) == 2

    run(main)


# Very many workers


def forgetting(source: ManualSource, **settings: Any) -> Run:
    """Return a run of `source` that keeps only the latest three settled workers or a few more."""
    batch = fed(source, **settings)
    control_of(batch).keep_latest(3)
    return batch


async def join(source: ManualSource, first: int, last: int) -> None:
    """Let workers that end at once join one by one, each named by its number."""
    for number in range(first, last + 1):
        source.feed.add([f"w{number}"], [0.0])
        await asyncio.sleep(0.1)


def test_old_workers_are_forgotten_and_counted(run: Any) -> None:
    async def main() -> None:
        source = ManualSource()
        batch = forgetting(source)
        gathering = asyncio.ensure_future(batch.gather())
        await asyncio.sleep(0)
        await join(source, 1, 20)
        scheduler = batch._scheduler
        scheduler.validate_state()
        known = [number for number in range(1, 21) if scheduler.registry.get(f"w{number}") is not None]
        assert known == list(range(known[0], 21))
        assert 3 <= len(known) <= 7
        assert len(scheduler.registry) == 20
        assert scheduler.registry.states() == {"succeeded": 20}
        source.feed.end()
        assert [outcome.name for outcome in await gathering] == [f"w{number}" for number in known]

    run(main)


def test_forgotten_worker_cannot_be_restarted(run: Any) -> None:
    async def main() -> None:
        source = ManualSource()
        batch = forgetting(source)
        events = batch.subscribe()
        gathering = asyncio.ensure_future(batch.gather())
        await asyncio.sleep(0)
        await join(source, 1, 20)
        assert not control_of(batch).carry_out(RestartWorker("w1", 1))
        assert control_of(batch).carry_out(RestartWorker("w20", 1))
        with pytest.raises(KeyError):
            batch.restart("w1")
        source.feed.end()
        await gathering
        refused = [event.reason for event in drain(events) if isinstance(event, CommandRefused)]
        assert refused == ["it is not one of the latest workers"]

    run(main)


def test_worker_under_way_is_not_forgotten(run: Any) -> None:
    """It can be restarted and cancelled, whatever ended after it; then it is forgotten like those around it."""

    async def main() -> None:
        source = ManualSource()
        batch = forgetting(source)
        gathering = asyncio.ensure_future(batch.gather())
        await asyncio.sleep(0)
        source.feed.add(["slow", "slower", "w0"], [60.0, 90.0, 0.0])
        await join(source, 1, 20)
        registry = batch._scheduler.registry
        assert batch.restart("slow")
        await join(source, 21, 30)
        batch._scheduler.validate_state()
        slow = registry.get("slow")
        assert slow is not None
        assert (slow.state, slow.incarnation) == (WorkerState.RUNNING, 2)
        assert [worker.name for worker in registry.batch.unsettled()] == ["slow", "slower"]
        assert registry.states() == {"succeeded": 31, "running": 2}
        assert batch.cancel("slower")
        await join(source, 31, 40)
        assert registry.get("slower") is None
        assert registry.states() == {"succeeded": 41, "running": 1, "cancelled": 1}
        source.feed.add(["slower", "slow"], [0.0, 0.0])
        await asyncio.sleep(100)
        batch._scheduler.validate_state()
        assert registry.get("slow") is None
        assert registry.get("slower") is not None
        assert registry.get("slow#2") is not None
        source.feed.end()
        await gathering

    run(main)


def test_unresponsive_worker_is_not_forgotten_before_its_end(run: Any) -> None:
    async def main() -> None:
        source = ManualSource(target=stubborn)
        batch = forgetting(source, grace=1.0)
        gathering = asyncio.ensure_future(batch.gather())
        await asyncio.sleep(0)
        source.feed.add(["stuck", "again"], [50.0, 50.0])
        await asyncio.sleep(1)
        for name in ("stuck", "again"):
            batch.cancel(name)
        await asyncio.sleep(2)
        await join(source, 1, 20)
        registry = batch._scheduler.registry
        batch._scheduler.validate_state()
        assert registry.states() == {"succeeded": 20, "unresponsive": 2}
        assert batch.restart("again")
        batch._scheduler.validate_state()
        await asyncio.sleep(48)
        batch._scheduler.validate_state()
        assert registry.states() == {"succeeded": 20, "cancelled": 1, "running": 1}
        batch.cancel("again")
        source.feed.end()
        await gathering

    run(main)


def test_workers_that_have_not_begun_are_not_forgotten(run: Any) -> None:
    async def main() -> None:
        source = ManualSource()
        batch = forgetting(source, concurrency=1)
        gathering = asyncio.ensure_future(batch.gather())
        await asyncio.sleep(0)
        for number in range(40):
            source.feed.add([f"w{number}"], [1.0])
        await asyncio.sleep(20.5)
        source.feed.add(["last"], [1.0])
        batch._scheduler.validate_state()
        batch.cancel("last")
        assert batch._scheduler.registry.states() == {"succeeded": 20, "running": 1, "queued": 19, "cancelled": 1}
        source.feed.end()
        await gathering
        assert batch._scheduler.registry.states() == {"succeeded": 40, "cancelled": 1}

    run(main)


def test_batch_with_known_workers_forgets_none() -> None:
    with pytest.raises(ValueError, match="join while it runs"):
        control_of(Run([WorkerSpec("a", sleeper, (1.0,))])).keep_latest(3)


def test_worker_of_its_own_spec_joins_with_its_key(run: Any) -> None:
    async def main() -> None:
        source = ManualSource()
        batch = fed(source, max_per_key=1)
        gathering = asyncio.ensure_future(batch.gather())
        await asyncio.sleep(0)
        own = [OwnSpec(WorkerSpec(name, later_result, (name,), key="k", retry=AT_ONCE)) for name in "ab"]
        assert source.feed.add(["a", "b"], own) == ["a", "b"]
        source.feed.end()
        outcomes = await gathering
        assert [outcome.result for outcome in outcomes] == ["a at 1", "b at 2"]
        assert source.feed.add(["c"], own) == []

    async def later_result(name: str) -> str:
        await asyncio.sleep(1)
        return f"{name} at {asyncio.get_running_loop().time() - 1000:.0f}"

    run(main)
