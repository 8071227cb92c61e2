"""A task that a worker leaves as it was is lent to the next one, and nobody finds in it what another one has left."""

from __future__ import annotations

import asyncio
import itertools
import sys
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from asyncwatch import Outcome, Supervisor, WorkerSpec, WorkerSpecs, WorkerState, current_worker
from asyncwatch.events import WorkerEnded
from asyncwatch.supervise.calls import LENDINGS
from asyncwatch.supervise.report import Reporter
from asyncwatch.supervise.worker import Worker

colour: ContextVar[object] = ContextVar("colour", default="none")
kept: list[object] = []


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
    """Whether they wait or not, as many as may in a turn."""

    async def name(number: int) -> str:
        if number % 2:
            await asyncio.sleep(0)
        return own_task().get_name()

    assert len({outcome.result for outcome in gathered(run, numbered(name, 10))}) == 1


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


TRACES = (keep, keep_weakly, call_back, rename, take_back, catch, paint)


@pytest.mark.parametrize("leave", TRACES, ids=lambda leave: leave.__name__)
def test_whoever_leaves_something_is_the_last(run: Callable[..., Any], leave: Callable[[object], None]) -> None:
    """The next one has a task of its own, in which nothing is to be seen of it."""
    seen: dict[int, tuple[str, int, object]] = {}

    async def work(number: int) -> None:
        task = own_task()
        seen[number] = task.get_name(), task.cancelling(), colour.get()
        if number == 1:
            leave(task)

    try:
        outcomes = gathered(run, numbered(work, 4))
    finally:
        kept.clear()
    names = [seen[number][0] for number in range(4)]
    assert names[0] == names[1]
    assert names[2] == names[3]
    leaves_nothing = leave is take_back and sys.version_info >= (3, 13)
    assert (names[1] == names[2]) is leaves_nothing
    assert {seen[number][1:] for number in range(4)} == {(0, "none")}
    assert [outcomes[number].state for number in (0, 2, 3)] == [WorkerState.SUCCEEDED] * 3


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

    async def work(_: int) -> str:
        token = colour.set("red")
        await asyncio.sleep(0)
        colour.reset(token)
        return own_task().get_name()

    async def main() -> set[str]:
        colour.set("blue")
        outcomes = await Supervisor([numbered(work, 4)], concurrency=1, seed=1).gather()
        return {outcome.result for outcome in outcomes}

    assert len(run(main)) == 1


def test_whoever_fails_or_is_stopped_is_the_last(run: Callable[..., Any]) -> None:
    """Its task ends with it, and the next one has another; each error is that of the worker that raised it."""
    names: dict[int, str] = {}
    has_come = asyncio.Event()

    async def work(number: int) -> int:
        names[number] = own_task().get_name()
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
    groups = [[names[number] for number in pair] for pair in ((0, 1), (2, 3), (4, 5), (6, 7))]
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
    assert LENDINGS <= max(steps) <= LENDINGS + 3


def test_a_slow_turn_is_not_made_slower(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the time for it is over, no task is lent before the loop has its next turn."""
    monkeypatch.setattr("asyncwatch.supervise.calls.LENT_FOR", -1.0)

    async def name(_: int) -> str:
        return own_task().get_name()

    assert len({outcome.result for outcome in gathered(run, numbered(name, 5))}) == 5


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
