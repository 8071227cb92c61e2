"""Parts of the scheduler on their own, and what it refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import Run, Supervisor, SupervisorSpec, WorkerSpec, WorkerState
from asyncwatch.engine.bulk import BulkActions
from asyncwatch.engine.ready_queue import ReadyQueue
from asyncwatch.engine.scheduler import IllegalTransitionError, InvalidStateError
from asyncwatch.engine.worker import Worker
from asyncwatch.events.story import story
from tests.clock import run_jumping
from tests.engine.fleets import drain, sleeper, worker


def ready(*names: str, attempt: int = 0) -> list[Worker]:
    """Return workers that are ready."""
    return [Worker(name, (), worker(name, sleeper), attempt=attempt, is_ready=True) for name in names]


def popped(queue: ReadyQueue) -> str:
    """Empty the queue and return the names in order."""
    names = ""
    while (found := queue.pop()) is not None:
        names += found.name
    return names


def test_ready_queue_resumed_workers_come_before_fresh_and_restarted_ones() -> None:
    queue = ReadyQueue()
    queue.feed(iter(ready("c", "d")))
    (restarted,) = ready("e")
    queue.push_restarted(restarted)
    for resumed in ready("a", "b", attempt=1):
        queue.push(resumed)
    assert popped(queue) == "abcde"
    assert not queue.is_fed


def test_ready_queue_worker_put_back_is_popped_next() -> None:
    queue = ReadyQueue()
    queue.feed(iter(ready("a", "b")))
    first = queue.pop()
    assert first is not None
    queue.put_back(first)
    assert len(queue) == 1
    assert popped(queue) == "ab"


def test_ready_queue_passes_over_workers_that_are_no_longer_ready() -> None:
    queue = ReadyQueue()
    workers = ready("a", "b", "c")
    for each in workers:
        queue.push(each)
    workers[0].is_ready = False
    assert queue.remove(workers[1])
    assert not queue.remove(workers[1])
    assert popped(queue) == "c"


def test_bulk_action_that_raises_for_one_worker_reaches_the_others(caplog: pytest.LogCaptureFixture) -> None:
    seen = []

    def act(each: Worker) -> None:
        if each.name == "a":
            raise ValueError
        seen.append(each.name)

    bulk = BulkActions(lambda: seen.append("done"))
    assert not bulk.for_each(iter(ready("a", "b")), act, freezes=True, then=lambda: seen.append("then"))
    assert seen == ["b", "done", "then"]
    assert not bulk.freezes
    assert "an action failed" in caplog.text


@pytest.mark.parametrize(("part", "count"), [("", "active"), ("_runner", "slots_taken")])
def test_validate_state_finds_a_wrong_count(run: Any, part: str, count: str) -> None:
    async def main() -> None:
        batch = Run([worker("a", sleeper, 5.0), worker("b", sleeper, 5.0)], concurrency=1)
        running = asyncio.create_task(batch.gather())
        await asyncio.sleep(1.0)
        scheduler = batch._scheduler
        scheduler.validate_state()
        owner = getattr(scheduler, part) if part else scheduler
        right = getattr(owner, count)
        setattr(owner, count, right + 1)
        with pytest.raises(InvalidStateError, match="counted"):
            scheduler.validate_state()
        setattr(owner, count, right)
        await running

    run(main)


def test_illegal_transition_is_refused(run: Any) -> None:
    async def main() -> None:
        batch = Run([worker("a", sleeper, 0.0)])
        await batch.gather()
        found = batch._scheduler.registry.get("a")
        assert found is not None
        with pytest.raises(IllegalTransitionError, match="cannot become running"):
            batch._scheduler._transition(found, WorkerState.RUNNING)

    run(main)


@pytest.mark.parametrize("kind", ["service", "supervisor", "poller"])
def test_run_of_a_service_poller_or_supervisor_is_refused(kind: str) -> None:
    members: dict[str, Any] = {
        "service": worker("s", sleeper, restart="permanent"),
        "poller": worker("p", sleeper, every=1.0),
        "supervisor": SupervisorSpec("below"),
    }
    with pytest.raises(ValueError, match="children of a Supervisor"):
        Run([members[kind]])


def test_as_completed_keeps_outcomes_from_before_its_first_step(run: Any) -> None:
    async def main() -> list[str]:
        batch = Run([worker(name, sleeper, float(number)) for number, name in enumerate("abc")])
        async with batch.as_completed() as outcomes:
            await asyncio.sleep(10.0)
            return [outcome.name async for outcome in outcomes]

    assert run(main) == ["a", "b", "c"]


def test_as_completed_left_early_in_an_open_run_ends_the_remaining_workers(run: Any) -> None:
    async def main() -> tuple[list[WorkerState], float]:
        loop = asyncio.get_running_loop()
        async with Run([worker("a", sleeper, 1.0), worker("b", sleeper, 50.0)]) as batch:
            start = loop.time()
            async with batch.as_completed() as outcomes:
                async for _ in outcomes:
                    break
            assert not batch.is_finished
            return [outcome.state for outcome in batch.outcomes()], round(loop.time() - start, 6)

    assert run(main) == ([WorkerState.SUCCEEDED, WorkerState.CANCELLED], 1.0)


def test_supervisor_of_temporary_workers_reports_cancel_requests_as_a_tree() -> None:
    async def main() -> list[str]:
        spec = WorkerSpec("a", sleeper, (5.0,))
        async with Supervisor([spec]) as supervisor:
            queue = supervisor.subscribe()
            supervisor.cancel("a")
            await asyncio.sleep(1.0)
            return story(drain(queue), "a")

    assert run_jumping(main)[-2:] == ["CancelRequested", "WorkerCancelled"]
