"""A task that a worker leaves as it was is lent to the next one, and nobody finds in it what another one has left."""

from __future__ import annotations

import asyncio
import itertools
import sys
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

import pytest

from asyncwatch import Outcome, Supervisor, WorkerSpec, WorkerSpecs, WorkerState, current_worker
from asyncwatch.events import WorkerEnded
from asyncwatch.supervise.calls import LENDINGS, Calls
from asyncwatch.supervise.halt import Halt
from asyncwatch.supervise.report import Reporter
from asyncwatch.supervise.worker import Worker

task_number: ContextVar[int] = ContextVar("task_number")
colour: ContextVar[object] = ContextVar("colour", default="none")
kept: list[object] = []


@pytest.fixture(autouse=True)
def _numbered_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Number the tasks: what tells one from another must leave nothing in it."""
    attempt, numbers = Calls._attempt, itertools.count()

    async def numbered_attempt(calls: Calls, worker: Worker) -> Any:
        task_number.set(next(numbers))
        return await attempt(calls, worker)

    monkeypatch.setattr(Calls, "_attempt", numbered_attempt)


class Equal:
    """Is equal to whatever it is compared with."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class Incomparable:
    """Cannot be compared."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("not to be compared")

    def __hash__(self) -> int:
        return 0


def own_task() -> asyncio.Task[Any]:
    """Return the task that the caller runs in."""
    task = asyncio.current_task()
    assert task is not None
    return task


def numbered(target: Callable[..., Any], count: int) -> WorkerSpecs:
    """Return workers `0` to `count - 1`, each called with its number."""
    return WorkerSpecs(WorkerSpec("numbered", target), [str(n) for n in range(count)], range(count))


def gathered(run: Callable[..., Any], members: WorkerSpecs, concurrency: int = 1) -> list[Outcome]:
    """Return the outcomes of a batch."""
    found: list[Outcome] = run(lambda: Supervisor([members], concurrency=concurrency, seed=1).gather())
    return found


def test_workers_that_leave_nothing_share_a_task(run: Callable[..., Any]) -> None:
    """Whether they wait or not. It has the name of each of them as long as it is theirs."""

    async def tell(number: int) -> tuple[int, str]:
        if number % 2:
            await asyncio.sleep(0)
        return task_number.get(), own_task().get_name()

    results = [outcome.result for outcome in gathered(run, numbered(tell, 3 * LENDINGS))]
    assert {number for number, _ in results} == {0}
    assert [name for _, name in results] == [str(number) for number in range(3 * LENDINGS)]


def keep(task: asyncio.Task[Any]) -> None:
    """Keep the task."""
    kept.append(task)


def keep_weakly(task: asyncio.Task[Any]) -> None:
    """Keep the task as long as somebody else does."""
    kept.append(weakref.ref(task, kept.append))


def call_back(task: asyncio.Task[Any]) -> None:
    """Ask to be told of the end."""
    task.add_done_callback(kept.append)


def rename(task: asyncio.Task[Any]) -> None:
    """Give the task a name."""
    task.set_name("mine")


def take_back(task: asyncio.Task[Any]) -> None:
    """Take back a cancellation, which before Python 3.13 comes all the same. From then on nothing is left of it."""
    task.cancel()
    task.uncancel()


def catch(task: asyncio.Task[Any]) -> None:
    """Leave a cancellation that comes too late."""
    task.cancel()


def paint(_: asyncio.Task[Any]) -> None:
    """Set a context variable that had its default."""
    colour.set("red")


TRACES = [keep, keep_weakly, call_back, rename, take_back, catch, paint]

if sys.version_info >= (3, 12):

    def keep_context(task: asyncio.Task[Any]) -> None:
        """Keep the context, to set a variable in it later."""
        kept.append(task.get_context())

    TRACES.append(keep_context)


@pytest.mark.parametrize("leave", TRACES, ids=lambda leave: leave.__name__)
def test_whoever_leaves_something_is_the_last(run: Callable[..., Any], leave: Callable[[object], None]) -> None:
    """The next one has a task of its own, in which nothing is to be seen of it."""
    seen: dict[int, tuple[int, int, object]] = {}

    async def work(number: int) -> None:
        task = own_task()
        seen[number] = task_number.get(), task.cancelling(), colour.get()
        if number == 1:
            leave(task)

    try:
        outcomes = gathered(run, numbered(work, 4))
    finally:
        kept.clear()
    tasks = [seen[number][0] for number in range(4)]
    assert tasks[0] == tasks[1]
    assert tasks[2] == tasks[3]
    leaves_nothing = leave is take_back and sys.version_info >= (3, 13)
    assert (tasks[1] == tasks[2]) is leaves_nothing
    assert {seen[number][1:] for number in range(4)} == {(0, "none")}
    assert [outcomes[number].state for number in (0, 2, 3)] == [WorkerState.SUCCEEDED] * 3


def test_a_task_that_somebody_held_before_its_worker_began(run: Callable[..., Any]) -> None:
    """It is that of one worker only: who holds it may cancel it when another one would run in it."""

    async def work(number: int) -> int:
        if number == 1:
            kept.clear()
            kept.append(own_task())  # one reference more, in place of that one
        return task_number.get()

    async def main() -> list[Any]:
        running = asyncio.ensure_future(Supervisor([numbered(work, 4)], concurrency=1, seed=1).gather())
        while not (others := asyncio.all_tasks() - {own_task(), running}):  # noqa: ASYNC110  before its first step
            await asyncio.sleep(0)
        kept.extend(others)
        del others
        assert len(kept) == 1
        return [outcome.result for outcome in await running]

    try:
        assert run(main) == [0, 1, 2, 2]
    finally:
        kept.clear()


if sys.version_info >= (3, 12):

    def test_a_child_in_the_context_of_its_worker_stays_in_it(run: Callable[..., Any]) -> None:
        """It is in the worker that made it, also when that one has ended."""

        async def tell_later() -> str:
            await asyncio.sleep(0)
            worker = current_worker()
            return "" if worker is None else worker.name

        async def work(_: int) -> asyncio.Task[str]:
            context = own_task().get_context()
            # Not by an eager task factory, which cannot: the context is the one that is entered.
            return asyncio.Task(tell_later(), loop=asyncio.get_running_loop(), context=context)

        async def main() -> list[str]:
            outcomes = await Supervisor([numbered(work, 3)], concurrency=1, seed=1).gather()
            return [await outcome.result for outcome in outcomes]

        assert run(main) == ["0", "1", "2"]


@pytest.mark.parametrize("value", [Equal(), Incomparable(), "red"], ids=["equal", "incomparable", "text"])
def test_what_is_equal_is_not_the_same(run: Callable[..., Any], value: object) -> None:
    """A context variable with another value that is equal, or cannot be compared, is found by nobody else."""
    before = str(b"red", "ascii")  # another object than any "red" of this file

    async def work(number: int) -> bool:
        is_as_it_was = colour.get() is before
        if number == 1:
            colour.set(value)
        return is_as_it_was

    async def main() -> list[Any]:
        colour.set(before)
        outcomes = await Supervisor([numbered(work, 4)], concurrency=1, seed=1).gather()
        return [outcome.result for outcome in outcomes]

    assert run(main) == [True] * 4


def test_what_is_set_back_leaves_nothing(run: Callable[..., Any]) -> None:
    """A context variable that is reset, as most are, costs nobody the task."""

    async def work(_: int) -> int:
        token = colour.set("red")
        await asyncio.sleep(0)
        colour.reset(token)
        return task_number.get()

    async def main() -> set[int]:
        colour.set("blue")
        outcomes = await Supervisor([numbered(work, 4)], concurrency=1, seed=1).gather()
        return {outcome.result for outcome in outcomes}

    assert len(run(main)) == 1


def test_whoever_fails_or_is_stopped_is_the_last(run: Callable[..., Any]) -> None:
    """Its task ends with it, and the next one has another; each error is that of the worker that raised it."""
    tasks: dict[int, int] = {}
    has_come = asyncio.Event()

    async def work(number: int) -> int:
        tasks[number] = task_number.get()
        if number == 1:
            raise ValueError(number)
        if number == 3:
            raise SystemExit(number)
        if number == 5:
            has_come.set()
            await asyncio.Event().wait()
        return number

    async def main() -> list[Outcome]:
        supervisor = Supervisor([numbered(work, 8)], concurrency=1, seed=1)
        running = asyncio.ensure_future(supervisor.gather())
        await has_come.wait()
        supervisor.cancel("5")
        return await running

    outcomes = run(main)
    assert [outcome.error and repr(outcome.error) for outcome in outcomes] == [
        *(None, "ValueError(1)", None, "SystemExit(3)"),
        *[None] * 4,
    ]
    assert outcomes[5].state is WorkerState.CANCELLED
    assert [outcomes[number].result for number in (0, 2, 4, 6, 7)] == [0, 2, 4, 6, 7]
    groups = [[tasks[number] for number in pair] for pair in ((0, 1), (2, 3), (4, 5), (6, 7))]
    assert [len(set(group)) for group in groups] == [1] * 4
    assert len({group[0] for group in groups}) == 4


def test_the_loop_turns_while_many_return_at_once(run: Callable[..., Any]) -> None:
    """Somebody else on the loop gets their turn after so many workers at the most."""
    calls = 0
    seen: list[int] = []

    async def count(_: int) -> None:
        nonlocal calls
        calls += 1

    async def watch() -> None:
        while calls < 5 * LENDINGS:
            seen.append(calls)
            await asyncio.sleep(0)

    async def main() -> None:
        watching = asyncio.ensure_future(watch())
        await Supervisor([numbered(count, 5 * LENDINGS)], concurrency=3, seed=1).gather()
        await watching

    run(main)
    steps = [after - before for before, after in itertools.pairwise(seen)]
    assert LENDINGS < max(steps) <= LENDINGS + 3


def test_a_turn_that_takes_long_is_not_made_longer(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the time for it is over, everybody has a turn between two workers, which share their task all the same."""
    monkeypatch.setattr("asyncwatch.supervise.calls.LENT_FOR", -1.0)
    turns: list[object] = []

    async def tell(number: int) -> int:
        turns.append(number)
        asyncio.get_running_loop().call_soon(turns.append, "turn")
        return task_number.get()

    assert {outcome.result for outcome in gathered(run, numbered(tell, 4))} == {0}
    assert turns == [0, "turn", 1, "turn", 2, "turn", 3, "turn"]


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("how", ["wait", "as_completed", "task_group", "halt"])
def test_nobody_is_called_when_one_was_enough(run: Callable[..., Any], how: str, concurrency: int) -> None:
    """A runner that ends early, or a halt, ends the calls of targets then and there."""
    called: list[int] = []

    async def work(number: int) -> int:
        called.append(number)
        if number == 1 and how in {"task_group", "halt"}:
            raise ValueError(number)
        return number

    async def main() -> None:
        halt = Halt(failures=1) if how == "halt" else None
        supervisor = Supervisor([numbered(work, 50)], concurrency=concurrency, seed=1, halt=halt)
        if how == "wait":
            assert len((await supervisor.wait(return_when="FIRST_COMPLETED")).done) == concurrency
        elif how == "as_completed":
            outcomes = supervisor.as_completed()
            assert isinstance(outcomes, AsyncGenerator)
            async with aclosing(outcomes):
                await anext(outcomes)
        elif how == "task_group":
            with pytest.raises(ExceptionGroup):
                await supervisor.task_group()
        else:
            await supervisor.gather()

    run(main)
    assert len(called) <= (concurrency + 2 if how == "halt" else max(2, concurrency))


def test_the_supervisor_is_no_worker(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does in a task that it is about to lend, it does in nobody's name."""
    seen: list[object] = []
    succeeded = Reporter.succeeded

    def tell(report: Reporter, worker: Worker, result: object) -> WorkerEnded:
        seen.append(current_worker())
        return succeeded(report, worker, result)

    monkeypatch.setattr(Reporter, "succeeded", tell)

    async def work(_: int) -> None:
        assert current_worker() is not None

    gathered(run, numbered(work, 3))
    assert seen == [None] * 3
