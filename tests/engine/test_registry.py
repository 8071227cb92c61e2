"""The workers of a batch as they are kept: few bytes each, and all that is known of one when it is asked for."""

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
from asyncwatch.events import WorkersQueued

MANY = 20_000


async def double(number: int) -> int:
    """Return twice as much, or fail for 3."""
    if number == 3:
        raise RuntimeError("three")
    return 2 * number


async def later(number: int) -> int:
    """Return twice as much, after a second."""
    await asyncio.sleep(1)
    return 2 * number


async def shout(greeting: str, name: str) -> str:
    """Return a greeting."""
    return f"{greeting}, {name}!"


def alike(count: int) -> WorkerSpecs:
    """Return workers that are called with their numbers."""
    return WorkerSpecs(WorkerSpec("double", double), [str(n) for n in range(count)], range(count))


def test_workers_given_together_end_as_those_given_one_by_one(run: Callable[..., Any]) -> None:
    """Names, args, results, errors and the order are the same."""

    def outcomes(specs: list[Any]) -> list[Outcome]:
        found: list[Outcome] = run(lambda: Run(specs, seed=1).gather())
        return found

    def facts(found: list[Outcome]) -> list[tuple[Any, ...]]:
        return [(each.name, each.state, each.result, repr(each.error), each.attempts) for each in found]

    one_by_one = [WorkerSpec(str(n), double, (n,)) for n in range(6)]
    assert facts(outcomes([alike(6)])) == facts(outcomes(list(one_by_one)))
    mixed = outcomes([WorkerSpec("first", double, (7,)), alike(2), WorkerSpec("last", double, (3,))])
    assert [(each.name, each.result) for each in mixed] == [("first", 14), ("0", 0), ("1", 2), ("last", None)]


def test_an_item_follows_the_args_of_the_template() -> None:
    """Each spec is the template's, but for the name and one more argument; without items only for the name."""
    target: Any = shout  # of a template: the item is its second argument
    template = WorkerSpec("template", target, ("hello",), group="g", bad_luck=BadLuck(threshold=0.5))
    first, second = WorkerSpecs(template, ["a", "b"], ["ann", "bob"])
    assert (first.name, first.args, second.args) == ("a", ("hello", "ann"), ("hello", "bob"))
    assert (first.group, first.bad_luck) == (template.group, template.bad_luck)
    assert [spec.args for spec in WorkerSpecs(template, ["a", "b"])] == [("hello",), ("hello",)]
    assert len(WorkerSpecs(template, ["a", "b"])) == 2


def test_items_and_names_go_together() -> None:
    """One item too few is told at once."""
    with pytest.raises(ValueError, match="1 items for 2 names"):
        WorkerSpecs(WorkerSpec("t", double), ["a", "b"], [1])


def test_a_name_that_comes_twice_is_refused() -> None:
    """Also between workers given together and one by one."""
    with pytest.raises(ValueError, match="two workers are named '1'"):
        Run([alike(2), WorkerSpec("1", double)])


def test_services_given_together_are_children_of_a_tree(run: Callable[..., Any]) -> None:
    """Each is a child of the root."""

    async def serve() -> list[str]:
        names = ["a", "b"]
        async with Supervisor([WorkerSpecs(WorkerSpec("t", asyncio.Event().wait, restart="permanent"), names)]) as tree:
            return [child.name for child in tree.which_children()]

    assert sorted(run(serve)) == ["a", "b"]
    with pytest.raises(ValueError, match="services"):
        Supervisor([], batch=[WorkerSpecs(WorkerSpec("t", double, restart="permanent"), ["a"])])


def test_all_are_announced_in_order_with_their_groups(run: Callable[..., Any]) -> None:
    """One event names many workers of the same group."""

    async def announced() -> list[tuple[str, tuple[str, ...]]]:
        one = WorkerSpec("x", double, (1,), group="g")
        supervisor = Run([alike(3), one, WorkerSpec("y", double, (1,), group="h")], seed=1)
        queue = supervisor.subscribe()
        await supervisor.gather()
        events = [event for _ in range(queue.qsize()) for event in queue.get_nowait()]
        return [(event.group, event.workers) for event in events if isinstance(event, WorkersQueued)]

    assert run(announced) == [("", ("0", "1", "2")), ("g", ("x",)), ("h", ("y",))]


def test_one_stopped_before_its_turn_never_starts_and_can_be_restarted(run: Callable[..., Any]) -> None:
    """What is known of it is kept although it was never under way."""

    async def story() -> tuple[list[Outcome], list[Outcome]]:
        waiting = WorkerSpecs(WorkerSpec("later", later), ["0", "1", "2"], range(3))
        async with Run([waiting], concurrency=1, seed=1) as supervisor:
            gathering = asyncio.ensure_future(supervisor.gather())
            await asyncio.sleep(0)
            assert supervisor.statistics().queued == 2
            assert supervisor.cancel("2")
            before = await gathering
            assert supervisor.restart("2")
            await supervisor.control.wait_settled()
            return before, supervisor.outcomes()

    before, after = run(story)
    assert [outcome.state for outcome in before] == [WorkerState.SUCCEEDED] * 2 + [WorkerState.CANCELLED]
    assert (before[2].attempts, before[2].incarnation) == (0, 1)
    assert (after[2].state, after[2].result, after[2].incarnation) == (WorkerState.SUCCEEDED, 4, 2)


def test_a_batch_costs_few_bytes_a_worker_before_and_after_it_ran(run: Callable[..., Any]) -> None:
    """Beside the names: an entry of the index (100 bytes at the most) and some columns (34)."""
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
    assert done < 180  # with the objects that the targets returned


async def _run(supervisor: Run) -> None:
    async with supervisor:
        await supervisor.complete_all()


def test_few_workers_exist_as_objects_at_a_time() -> None:
    """As many as have begun and not settled; the others are made when they are asked for, and are the same again."""
    roster = BatchRegistry([alike(5)])
    first = next(roster.start_next())
    assert roster.get("0") is first
    assert roster.under_way() == [first]
    assert (roster.fresh, len(roster)) == (4, 5)
    asked = roster.get("3")
    assert asked is not None
    assert (asked.name, asked.args, asked.state, asked.index) == ("3", (3,), WorkerState.QUEUED, 3)
    assert [worker.name for worker in roster.unsettled()] == ["0", "1", "2", "3", "4"]
    assert roster.states() == {"queued": 5}
    assert roster.get("9") is None


def test_an_item_that_cannot_be_read_fails_its_worker_alone(run: Callable[..., Any]) -> None:
    """Items may come from anywhere, one by one; the worker says why, also when it is restarted."""

    class Items(Sequence[int]):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, place: Any) -> Any:
            if place in {1, 4}:
                raise OSError("no such page")
            return place

    async def double(number: int) -> int:
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


def test_what_nobody_asks_for_is_not_kept(run: Callable[..., Any]) -> None:
    """Results and errors are told by events, and gone: an error would hold all frames that it came through."""
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
        supervisor.control.keep_no_values()
        return await supervisor.gather()

    outcomes = run(main)
    assert [outcome.is_success for outcome in outcomes] == [True, False] * 3
    assert {(outcome.result, outcome.error) for outcome in outcomes} == {(None, None)}
    gc.collect()
    assert [error() for error in errors] == [None] * 3
