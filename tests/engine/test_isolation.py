"""Isolation of attempts: each has a task and a context of its own, even if it returns without waiting."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from asyncwatch import Outcome, RetryPolicy, Run, WorkerSpec, WorkerSpecs, WorkerState, current_worker
from asyncwatch.commands import ChangeSetting
from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.run_control import control_of
from asyncwatch.engine.worker import Worker
from asyncwatch.events import WorkerEnded
from asyncwatch.policies.halt import Halt
from tests.engine.fleets import worker

colour: ContextVar[str] = ContextVar("colour", default="none")


def named(target: Callable[..., Any], count: int) -> WorkerSpecs:
    """Return workers named `0` to `count - 1`, each called with its number."""
    return WorkerSpecs(WorkerSpec("named", target), [str(n) for n in range(count)], range(count))


def gathered(run: Callable[..., Any], *members: WorkerSpec | WorkerSpecs, concurrency: int = 1) -> list[Outcome]:
    """Return the outcomes of a batch."""
    found: list[Outcome] = run(lambda: Run(members, concurrency=concurrency, seed=1).gather())
    return found


def own_task() -> asyncio.Task[Any]:
    """Return the task of the caller."""
    task = asyncio.current_task()
    assert task is not None
    return task


@pytest.mark.parametrize("concurrency", [1, 3])
def test_task_attributes_set_by_one_worker_are_on_no_other_task(run: Callable[..., Any], concurrency: int) -> None:
    """Libraries keep the context of a request there (`aiotask-context`)."""

    async def keep(number: int) -> tuple[object, object]:
        task = own_task()
        before = getattr(task, "request_id", None)
        task.request_id = number  # type: ignore[attr-defined]
        if number % 2:
            await asyncio.sleep(0)
        return before, getattr(own_task(), "request_id", None)

    outcomes = gathered(run, named(keep, 10), concurrency=concurrency)
    assert [outcome.result for outcome in outcomes] == [(None, number) for number in range(10)]


def test_task_is_new_for_every_attempt(run: Callable[..., Any]) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def work(calls: list[int]) -> None:
        task = own_task()
        assert not hasattr(task, "request_id")
        task.request_id = len(tasks)  # type: ignore[attr-defined]
        tasks.append(task)
        calls.append(1)
        if len(calls) % 3:
            raise ConnectionError

    async def main() -> list[Outcome]:
        specs = [worker(name, work, [], retry=RetryPolicy(max_attempts=3, base=0.0, cap=0.0)) for name in "ab"]
        async with Run(specs, concurrency=1, seed=1, retry_budget=None) as supervisor:
            await supervisor.gather()
            supervisor.restart("a")
            await control_of(supervisor).wait_settled()
            return supervisor.outcomes()

    assert [(outcome.state, outcome.incarnation) for outcome in run(main)] == [
        (WorkerState.SUCCEEDED, 2),
        (WorkerState.SUCCEEDED, 1),
    ]
    assert len(tasks) == len({id(task) for task in tasks}) == 9


def test_task_has_the_name_of_its_worker(run: Callable[..., Any]) -> None:
    """Even after another worker has renamed its own task."""

    async def rename(_: int) -> str:
        name = own_task().get_name()
        own_task().set_name("mine")
        return name

    assert [outcome.result for outcome in gathered(run, named(rename, 4))] == ["0", "1", "2", "3"]


def test_done_callbacks_of_a_task_are_called_before_the_next_worker_starts(run: Callable[..., Any]) -> None:
    order: list[object] = []

    def note(task: asyncio.Task[Any]) -> None:
        order.append((task.get_name(), task.done()))

    async def call_back(number: int) -> None:
        order.append(number)
        own_task().add_done_callback(note)

    gathered(run, named(call_back, 3))
    assert order == [0, ("0", True), 1, ("1", True), 2, ("2", True)]


def test_context_variable_set_by_a_worker_is_unset_for_the_next(run: Callable[..., Any]) -> None:
    async def paint(number: int) -> str:
        found = colour.get()
        colour.set("red" if number else "blue")
        return found

    async def main() -> list[Any]:
        colour.set("red")
        outcomes = await Run([named(paint, 5)], concurrency=1, seed=1).gather()
        return [outcome.result for outcome in outcomes]

    assert run(main) == ["red"] * 5


def test_worker_restarted_by_another_runs_in_the_context_of_the_run(run: Callable[..., Any]) -> None:
    supervisor = Run([])
    seen: list[tuple[str | None, str]] = []

    async def look() -> None:
        seen.append((current_name(), colour.get()))

    async def restart() -> None:
        colour.set("red")
        await asyncio.sleep(1)
        supervisor.restart("look")

    async def main() -> None:
        nonlocal supervisor
        colour.set("blue")
        supervisor = Run([worker("look", look), worker("restart", restart)], concurrency=2, seed=1)
        await supervisor.gather()

    run(main)
    assert seen == [("look", "blue")] * 2


def test_worker_that_cancels_its_own_task_cancels_no_other(run: Callable[..., Any]) -> None:
    async def cancel_self(number: int) -> int:
        task = asyncio.current_task()
        assert task is not None
        if number == 1:
            task.cancel()
        if number == 2:
            task.cancel()
            task.uncancel()
            return number
        await asyncio.sleep(0)
        return number

    states = [outcome.state for outcome in gathered(run, named(cancel_self, 4))]
    # Whether worker 2 succeeds depends on the version of Python.
    assert (states[0], states[1], states[3]) == (WorkerState.SUCCEEDED, WorkerState.FAILED, WorkerState.SUCCEEDED)


def test_current_worker_is_kept_in_tasks_that_outlive_the_worker(run: Callable[..., Any]) -> None:
    async def name(_: object) -> tuple[str | None, asyncio.Task[str | None]]:
        return current_name(), asyncio.ensure_future(name_later())

    async def name_later() -> str | None:
        await asyncio.sleep(0)
        return current_name()

    async def main() -> list[tuple[str | None, str | None]]:
        outcomes = await Run([named(name, 3)], concurrency=1, seed=1).gather()
        return [(outcome.result[0], await outcome.result[1]) for outcome in outcomes if outcome.result is not None]

    assert run(main) == [("0", "0"), ("1", "1"), ("2", "2")]


def current_name() -> str | None:
    """Return the name of the current worker."""
    worker = current_worker()
    return None if worker is None else worker.name


def test_error_or_exit_is_that_of_the_worker_that_raised_it(run: Callable[..., Any]) -> None:
    async def fail(number: int) -> int:
        if number == 1:
            raise ValueError(number)
        if number == 2:
            raise SystemExit(number)
        return number

    outcomes = gathered(run, named(fail, 4), concurrency=2)
    assert [repr(outcome.error) for outcome in outcomes] == ["None", "ValueError(1)", "SystemExit(2)", "None"]


if sys.version_info >= (3, 12):

    def test_child_task_in_the_context_of_its_worker_keeps_it_after_the_end(run: Callable[..., Any]) -> None:
        async def name_later() -> str | None:
            await asyncio.sleep(0)
            return current_name()

        async def work(_: int) -> asyncio.Task[str | None]:
            context = own_task().get_context()
            # An eager task factory cannot start it, because the context is entered already.
            return asyncio.Task(name_later(), loop=asyncio.get_running_loop(), context=context)

        async def main() -> list[str | None]:
            outcomes = await Run([named(work, 3)], concurrency=1, seed=1).gather()
            return [await outcome.result for outcome in outcomes]

        assert run(main) == ["0", "1", "2"]


def test_end_of_a_worker_is_reported_outside_the_context_of_any_worker(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = Run([])
    seen: list[tuple[str, object]] = []
    succeeded = Reporter.succeeded

    def report(reporter: Reporter, ended: Worker, result: object) -> WorkerEnded:
        seen.append((ended.name, current_worker()))
        return succeeded(reporter, ended, result)

    monkeypatch.setattr(Reporter, "succeeded", report)

    async def restart(number: int) -> None:
        assert current_worker() is not None
        if number == 2:
            await asyncio.sleep(1)
            supervisor.restart("0")

    async def main() -> None:
        nonlocal supervisor
        supervisor = Run([named(restart, 3)], concurrency=4, seed=1)
        await supervisor.gather()

    run(main)
    assert sorted(name for name, _ in seen) == ["0", "0", "1", "2"]
    assert {current for _, current in seen} == {None}


@pytest.mark.parametrize("concurrency", [1, 100, 3_000])
def test_loop_iterates_while_thousands_of_workers_return_at_once(run: Callable[..., Any], concurrency: int) -> None:
    calls = 0
    seen: list[int] = []

    async def count(_: int) -> None:
        nonlocal calls
        calls += 1

    async def watch() -> None:
        while calls < 3_000:
            seen.append(calls)
            await asyncio.sleep(0)

    async def main() -> int:
        watching = asyncio.ensure_future(watch())
        outcomes = await Run([named(count, 3_000)], concurrency=concurrency, seed=1).gather()
        await watching
        return sum(outcome.state is WorkerState.SUCCEEDED for outcome in outcomes)

    assert run(main) == 3_000
    assert max(after - before for before, after in itertools.pairwise([*seen, calls])) <= 500


def test_raised_concurrency_starts_some_hundred_workers_in_a_loop_iteration(run: Callable[..., Any]) -> None:
    started: list[int] = []
    seen: list[int] = []

    async def hold(number: int) -> None:
        started.append(number)
        await asyncio.sleep(10)

    async def main() -> None:
        supervisor = Run([named(hold, 2_000)], concurrency=1, seed=1)
        running = asyncio.ensure_future(supervisor.gather())
        await asyncio.sleep(1)
        control_of(supervisor).carry_out(ChangeSetting("concurrency", 1_500))
        for _ in range(50):
            seen.append(len(started))
            await asyncio.sleep(0)
        await running

    run(main)
    assert seen[0] == 1
    assert seen[-1] == 1_500
    assert max(after - before for before, after in itertools.pairwise(seen)) <= 500
    assert started == list(range(2_000))


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("how", ["wait", "as_completed", "task_group", "halt"])
def test_target_is_not_called_after_the_run_decided_to_end(run: Callable[..., Any], how: str, concurrency: int) -> None:
    called: list[int] = []

    async def work(number: int) -> int:
        called.append(number)
        if number == 1 and how in {"task_group", "halt"}:
            raise ValueError(number)
        return number

    async def main() -> None:
        halt = Halt(failures=1) if how == "halt" else None
        supervisor = Run([named(work, 50)], concurrency=concurrency, seed=1, halt=halt)
        if how == "wait":
            assert len((await supervisor.wait(return_when="FIRST_COMPLETED")).done) == concurrency
        elif how == "as_completed":
            async with supervisor.as_completed() as outcomes:
                await anext(outcomes)
        elif how == "task_group":
            with pytest.raises(ExceptionGroup):
                await supervisor.task_group()
        else:
            await supervisor.gather()

    run(main)
    assert len(called) <= (concurrency + 2 if how == "halt" else max(2, concurrency))
