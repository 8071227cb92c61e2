"""What a run does is the same wherever its attempts run: runners, luck by seed, retries, cancellation."""

# ruff: noqa: ASYNC110, ASYNC240  files say what has happened in another process

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import asyncwatch
from asyncwatch import BadLuck, NoResult, Outcome, RetryPolicy, WorkerSpec, WorkerState
from asyncwatch.engine.run import Run
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import AttemptFailed, AttemptStarted, Event
from asyncwatch.plan.cluster import cluster_for
from tests.cluster import targets
from tests.cluster.conftest import PATIENCE

QUICK = RetryPolicy(max_attempts=3, base=0.001, cap=0.01)


@asynccontextmanager
async def running(engine: str, specs: list[WorkerSpec], **settings: Any) -> Any:
    """Open a run of workers on an engine."""
    cluster = cluster_for(engine, list({spec.target: None for spec in specs}), None, "run")
    if cluster is not None:
        specs = [asyncwatch.WorkerSpec(s.name, cluster.remote(s.target), s.args, **options_of(s)) for s in specs]
    run: Run[Any] = Run(specs, **settings)
    if cluster is not None:
        cluster.join(control_of(run))
    async with run:
        yield run


def options_of(spec: WorkerSpec) -> dict[str, Any]:
    fields = ("retry", "bad_luck", "attempt_timeout", "deadline", "group")
    return {name: getattr(spec, name) for name in fields}


def doubles(count: int) -> list[WorkerSpec]:
    return [WorkerSpec(f"{n}", targets.double, (n,)) for n in range(count)]


async def gathered(run: Run[Any]) -> list[Any]:
    return await run.gather()


async def completed(run: Run[Any]) -> list[Any]:
    async with run.as_completed() as outcomes:
        return sorted([outcome.result async for outcome in outcomes])


async def waited(run: Run[Any]) -> list[Any]:
    done, pending = await run.wait()
    assert not pending
    return sorted(outcome.result for outcome in done)


async def grouped(run: Run[Any]) -> list[Any]:
    return await run.task_group()


@pytest.mark.parametrize("runner", [gathered, completed, waited, grouped])
async def test_runner_returns_all_results(engine: str, runner: Callable[[Run[Any]], Any]) -> None:
    async with running(engine, doubles(30), concurrency=7) as run:
        found = await runner(run)
    assert [outcome.result if isinstance(outcome, Outcome) else outcome for outcome in found] == list(range(0, 60, 2))


async def test_luck_is_that_of_the_seed(engine: str) -> None:
    """The draws, the faults and what follows from them are compared with those of a run in this very process."""

    async def story(where: str) -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
        luck = BadLuck(threshold=0.6)
        specs = [WorkerSpec(f"{n}", targets.double, (n,), retry=QUICK, bad_luck=luck) for n in range(12)]
        async with running(where, specs, seed=7) as run:
            queue = control_of(run).subscribe()
            done, _ = await run.wait()
            control_of(run).deliver_events()
            events: list[Event] = []
            while not queue.empty():
                events += queue.get_nowait()
        draws = [(e.worker, e.attempt, e.bad_luck) for e in events if isinstance(e, AttemptStarted)]
        faults = [(e.worker, e.attempt, e.error_type) for e in events if isinstance(e, AttemptFailed)]
        return sorted([*draws, *faults], key=str), {outcome.name: (outcome.state, outcome.result) for outcome in done}

    assert await story(engine) == await story("asyncio")


async def test_transient_error_is_retried_until_it_goes_away(engine: str) -> None:
    async with running(engine, [WorkerSpec("w", targets.fail_at_first, (1,), retry=QUICK)]) as run:
        (outcome,) = (await run.wait()).done
    assert (outcome.state, outcome.result, outcome.attempts) == (WorkerState.SUCCEEDED, 3, 3)


async def test_attempts_are_exhausted_and_the_error_is_that_of_the_function(engine: str) -> None:
    async with running(engine, [WorkerSpec("w", targets.fail, (1,), retry=QUICK)]) as run:
        (outcome,) = (await run.wait()).done
    assert (outcome.state, outcome.attempts) == (WorkerState.EXHAUSTED, 3)
    assert type(outcome.error) is ConnectionResetError


async def test_policy_by_class_of_the_error_counts(engine: str) -> None:
    retry = RetryPolicy(max_attempts=4, base=0.001, transient=lambda error: type(error).__name__ == "NotSentError")
    async with running(engine, [WorkerSpec("w", targets.fail_unsendable, (1,), retry=retry)]) as run:
        (outcome,) = (await run.wait()).done
    assert (outcome.state, outcome.attempts) == (WorkerState.EXHAUSTED, 4)


async def begun(path: Path) -> None:
    async with asyncio.timeout(PATIENCE):
        while not path.exists():
            await asyncio.sleep(0.005)


async def test_cancelled_worker_ends_in_the_middle_of_its_await(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "state"
    async with running(engine, [WorkerSpec("w", targets.sleep, (str(path),)), *doubles(3)]) as run:
        waiting = asyncio.create_task(run.wait())
        await begun(path)
        run.cancel("w")
        states = {outcome.name: outcome.state for outcome in (await waiting).done}
    assert states.pop("w") is WorkerState.CANCELLED
    assert set(states.values()) == {WorkerState.SUCCEEDED}
    assert path.read_text(encoding="utf-8") == "cancelled"


async def test_attempt_timeout_cancels_and_is_the_error(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "state"
    spec = WorkerSpec("w", targets.sleep, (str(path),), attempt_timeout=1.0, retry=RetryPolicy(max_attempts=1))
    async with running(engine, [spec]) as run:
        (outcome,) = (await run.wait()).done
    assert isinstance(outcome.error, asyncwatch.AttemptTimeout)
    assert path.read_text(encoding="utf-8") == "cancelled"


async def test_restart_begins_anew(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "state"
    async with running(engine, [WorkerSpec("w", targets.sleep, (str(path),))]) as run:
        waiting = asyncio.create_task(run.wait())
        await begun(path)
        path.unlink()
        run.restart("w")
        await begun(path)
        async with asyncio.timeout(PATIENCE):
            while not path.exists() or path.read_text(encoding="utf-8") in {"", "cancelled"}:
                await asyncio.sleep(0.005)
        run.cancel("w")
        (outcome,) = (await waiting).done
    assert (outcome.state, outcome.incarnation) == (WorkerState.CANCELLED, 2)


async def test_amap_returns_results_in_order_and_raises_all_errors(engine: str) -> None:
    assert await asyncwatch.amap(targets.double, range(5), engine=engine) == [0, 2, 4, 6, 8]
    with pytest.raises(ExceptionGroup) as raised:
        await asyncwatch.amap(targets.fail, range(2), engine=engine, retry=RetryPolicy(max_attempts=1))
    assert [str(error) for error in raised.value.exceptions] == ["no 0", "no 1"]


async def test_amap_gives_the_value_of_the_lifespan(engine: str) -> None:
    values = await asyncwatch.amap(targets.use, range(6), engine=engine, lifespan=targets.lifespan)
    assert all(value["entered"] >= 1 for value in values)


async def test_open_run_takes_functions_as_they_come(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "state"
    async with asyncwatch.open_run(engine=engine) as run:
        assert await run.start_soon(targets.double, 4) == 8
        handle = run.start_soon(targets.sleep, str(path))
        await begun(path)
        handle.cancel()
        with pytest.raises(NoResult):
            await handle
    assert path.read_text(encoding="utf-8") == "cancelled"
