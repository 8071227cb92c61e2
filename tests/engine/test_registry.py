"""Registry of the workers of a batch: few bytes for each, and all facts about one on request."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from asyncwatch import BadLuck, Outcome, Run, Supervisor, WorkerSpec, WorkerSpecs, WorkerState
from asyncwatch.engine.registry import BatchRegistry
from asyncwatch.engine.run import complete_all
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import WorkersQueued

MANY = 20_000


async def double(number: int) -> int:
    """Return twice the number, or fail for 3."""
    if number == 3:
        raise RuntimeError("three")
    return 2 * number


async def double_later(number: int) -> int:
    """Return twice the number, after a second."""
    await asyncio.sleep(1)
    return 2 * number


async def shout(greeting: str, name: str) -> str:
    """Return a greeting."""
    return f"{greeting}, {name}!"


def alike(count: int) -> WorkerSpecs:
    """Return workers that are called with their numbers."""
    return WorkerSpecs(WorkerSpec("double", double), [str(n) for n in range(count)], range(count))


def test_worker_specs_end_as_the_same_workers_given_one_by_one(run: Callable[..., Any]) -> None:
    def outcomes(specs: list[Any]) -> list[Outcome]:
        found: list[Outcome] = run(lambda: Run(specs, seed=1).gather())
        return found

    def facts(found: list[Outcome]) -> list[tuple[Any, ...]]:
        return [(each.name, each.state, each.result, repr(each.error), each.attempts) for each in found]

    one_by_one = [WorkerSpec(str(n), double, (n,)) for n in range(6)]
    assert facts(outcomes([alike(6)])) == facts(outcomes(list(one_by_one)))
    mixed = outcomes([WorkerSpec("first", double, (7,)), alike(2), WorkerSpec("last", double, (3,))])
    assert [(each.name, each.result) for each in mixed] == [("first", 14), ("0", 0), ("1", 2), ("last", None)]


def test_worker_specs_append_the_item_to_the_args_of_the_template() -> None:
    target: Any = shout  # untyped, because the item is the second argument
    template = WorkerSpec("template", target, ("hello",), group="g", bad_luck=BadLuck(threshold=0.5))
    first, second = WorkerSpecs(template, ["a", "b"], ["ann", "bob"])
    assert (first.name, first.args, second.args) == ("a", ("hello", "ann"), ("hello", "bob"))
    assert (first.group, first.bad_luck) == (template.group, template.bad_luck)
    assert [spec.args for spec in WorkerSpecs(template, ["a", "b"])] == [("hello",), ("hello",)]
    assert len(WorkerSpecs(template, ["a", "b"])) == 2


def test_worker_specs_with_fewer_items_than_names_are_refused() -> None:
    with pytest.raises(ValueError, match="1 items for 2 names"):
        WorkerSpecs(WorkerSpec("t", double), ["a", "b"], [1])


def test_name_clash_with_worker_specs_is_refused() -> None:
    with pytest.raises(ValueError, match="two workers are named '1'"):
        Run([alike(2), WorkerSpec("1", double)])


def test_worker_specs_of_services_are_children_of_the_root(run: Callable[..., Any]) -> None:
    async def serve() -> list[str]:
        names = ["a", "b"]
        async with Supervisor([WorkerSpecs(WorkerSpec("t", asyncio.Event().wait, restart="permanent"), names)]) as tree:
            return [child.name for child in tree.which_children()]

    assert sorted(run(serve)) == ["a", "b"]
    with pytest.raises(ValueError, match="services"):
        Supervisor([], batch=[WorkerSpecs(WorkerSpec("t", double, restart="permanent"), ["a"])])


def test_workers_queued_names_many_workers_of_one_group(run: Callable[..., Any]) -> None:
    async def announced() -> list[tuple[str, tuple[str, ...]]]:
        one = WorkerSpec("x", double, (1,), group="g")
        supervisor = Run([alike(3), one, WorkerSpec("y", double, (1,), group="h")], seed=1)
        queue = supervisor.subscribe()
        await supervisor.gather()
        events = [event for _ in range(queue.qsize()) for event in queue.get_nowait()]
        return [(event.group, event.workers) for event in events if isinstance(event, WorkersQueued)]

    assert run(announced) == [("", ("0", "1", "2")), ("g", ("x",)), ("h", ("y",))]


def test_worker_cancelled_in_the_queue_never_starts_and_can_be_restarted(run: Callable[..., Any]) -> None:
    async def story() -> tuple[list[Outcome], list[Outcome]]:
        waiting = WorkerSpecs(WorkerSpec("double_later", double_later), ["0", "1", "2"], range(3))
        async with Run([waiting], concurrency=1, seed=1) as supervisor:
            gathering = asyncio.ensure_future(supervisor.gather())
            await asyncio.sleep(0)
            assert supervisor.statistics().queued == 2
            assert supervisor.cancel("2")
            before = await gathering
            assert supervisor.restart("2")
            await control_of(supervisor).wait_settled()
            return before, supervisor.outcomes()

    before, after = run(story)
    assert [outcome.state for outcome in before] == [WorkerState.SUCCEEDED] * 2 + [WorkerState.CANCELLED]
    assert (before[2].attempts, before[2].incarnation) == (0, 1)
    assert (after[2].state, after[2].result, after[2].incarnation) == (WorkerState.SUCCEEDED, 4, 2)


def test_batch_costs_few_bytes_a_worker_before_and_after_its_run(run: Callable[..., Any]) -> None:
    """Besides the names, at most 100 bytes for the index and 34 for the columns."""
    specs = alike(MANY)
    tracemalloc.start()
    try:
        supervisor = Run([specs], seed=1)
        queued = tracemalloc.get_traced_memory()[0] / MANY
        run(lambda: _run(supervisor))
        done = tracemalloc.get_traced_memory()[0] / MANY
    finally:
        tracemalloc.stop()
    assert queued < 140
    assert done < 180  # includes the results of the targets


async def _run(supervisor: Run) -> None:
    async with supervisor:
        await complete_all(supervisor)


def test_registry_has_objects_only_for_workers_under_way() -> None:
    """Any other worker is made on request."""
    registry = BatchRegistry([alike(5)])
    first = next(registry.start_next())
    assert registry.get("0") is first
    assert registry.under_way() == [first]
    assert (registry.fresh, len(registry)) == (4, 5)
    queued = registry.get("3")
    assert queued is not None
    assert (queued.name, queued.args, queued.state, queued.index) == ("3", (3,), WorkerState.QUEUED, 3)
    assert [worker.name for worker in registry.unsettled()] == ["0", "1", "2", "3", "4"]
    assert registry.states() == {"queued": 5}
    assert registry.get("9") is None


def test_item_that_cannot_be_read_fails_its_worker_alone_in_every_incarnation(run: Callable[..., Any]) -> None:
    class Items(Sequence[int]):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: Any) -> Any:
            if index in {1, 4}:
                raise OSError("no such page")
            return index

    async def double(number: int) -> int:
        """Return twice the number, or fail for 3."""
        return 2 * number

    async def main() -> tuple[list[Outcome], list[Outcome]]:
        names = [str(number) for number in range(5)]
        async with Run([WorkerSpecs(WorkerSpec("d", double), names, Items())], seed=1) as supervisor:
            once = await supervisor.gather()
            supervisor.restart("1")
            await asyncio.sleep(1)
        return once, supervisor.outcomes()

    for outcomes in run(main):
        assert [outcome.result for outcome in outcomes] == [0, None, 4, 6, None]
        assert [outcome.state.value for outcome in outcomes] == [
            *("succeeded", "failed", "succeeded", "succeeded", "failed")
        ]
        assert str(outcomes[1].error) == "its item cannot be read: OSError('no such page')"
    assert outcomes[1].incarnation == 2


def test_results_and_errors_are_not_kept_after_keep_no_values(run: Callable[..., Any]) -> None:
    """An error would keep all frames it passed through alive."""
    errors: list[weakref.ref[Exception]] = []

    class OwnError(Exception):
        pass

    async def half(number: int) -> int:
        if number % 2:
            error = OwnError(number)
            errors.append(weakref.ref(error))
            raise error
        return number

    async def main() -> list[Outcome]:
        names = [str(number) for number in range(6)]
        supervisor = Run([WorkerSpecs(WorkerSpec("h", half), names, range(6))], seed=1)
        control_of(supervisor).keep_no_values()
        return await supervisor.gather()

    outcomes = run(main)
    assert [outcome.is_success for outcome in outcomes] == [True, False] * 3
    assert {(outcome.result, outcome.error) for outcome in outcomes} == {(None, None)}
    gc.collect()
    assert [error() for error in errors] == [None] * 3
