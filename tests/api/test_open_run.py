"""`open_run`: workers that the program starts one by one."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest

import asyncwatch.api
from asyncwatch import Handle, NoResult, OpenRun, RetryPolicy, WorkerState, current_worker, open_run
from asyncwatch.commands import StopRun
from tests.engine.fleets import AT_ONCE, Flaky, raiser, sleeper


def now() -> float:
    return asyncio.get_running_loop().time() - 1000


def test_handle_awaited_is_the_result_or_the_error(run: Any) -> None:
    async def main() -> None:
        async with open_run() as opened:
            good = opened.start_soon(sleeper, 2, "result")
            bad = opened.start_soon(raiser, ValueError("bad"), 1)
            assert await good == "result"
            assert await good == "result"
            with pytest.raises(ValueError, match="bad"):
                await bad
            outcome = await bad.outcome()
            assert (outcome.state, outcome.attempts) == (WorkerState.FAILED, 1)

    run(main)


def test_handle_has_the_name_and_state_of_its_worker(run: Any) -> None:
    async def main() -> None:
        async with open_run(concurrency=1) as opened:
            first, second = (opened.start_soon(sleeper, 1, name="a") for _ in range(2))
            third = opened.start_soon(sleeper, 1)
            assert [handle.name for handle in (first, second, third)] == ["a", "a#2", "sleeper 3"]
            assert [first.state, second.state] == [WorkerState.RUNNING, WorkerState.QUEUED]
            assert repr(second) == "<Handle of 'a#2': queued>"
            await second
            assert [first.state, second.state] == [WorkerState.SUCCEEDED] * 2
        assert third.state is WorkerState.SUCCEEDED
        assert await third is None

    run(main)


def test_handle_cancel_ends_the_worker_and_is_no_result(run: Any) -> None:
    async def main() -> None:
        async with open_run(concurrency=1) as opened:
            running, queued = (opened.start_soon(sleeper, 9, name=name) for name in "ab")
            await asyncio.sleep(1)
            assert queued.cancel()
            assert running.cancel()
            for handle in (running, queued):
                with pytest.raises(NoResult, match=f"{handle.name}: cancelled"):
                    await handle
                assert not handle.cancel()
        assert now() == pytest.approx(1)

    run(main)


def test_handle_restart_runs_the_worker_again(run: Any) -> None:
    async def main() -> None:
        calls: list[int] = []

        async def target() -> int:
            calls.append(1)
            await asyncio.sleep(1)
            if len(calls) == 1:
                raise ValueError("first")
            return len(calls)

        async with open_run() as opened:
            handle = opened.start_soon(target)
            with pytest.raises(ValueError, match="first"):
                await handle
            assert handle.restart()
            assert handle.state is WorkerState.RUNNING
            assert await handle == 2
            assert handle.restart()
            await asyncio.sleep(0.5)
            assert handle.restart()
            assert await handle == 4
            assert (await handle.outcome()).incarnation == 4
        assert not handle.restart()

    run(main)


def test_handle_awaiting_task_that_is_cancelled_leaves_the_worker(run: Any) -> None:
    async def main() -> None:
        async with open_run() as opened:
            handle = opened.start_soon(sleeper, 2, "result")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await handle
            assert await handle == "result"

    run(main)


def test_open_run_waits_for_its_workers_at_its_end(run: Any) -> None:
    async def main() -> None:
        ended = []

        async def target(seconds: int) -> None:
            await asyncio.sleep(seconds)
            ended.append(seconds)

        async with open_run(concurrency=2) as opened:
            for seconds in (3, 1, 2):
                _ = opened.start_soon(target, seconds)
        assert ended == [1, 3, 2]
        async with open_run():
            pass

    run(main)


def test_open_run_raises_errors_that_reached_no_one(run: Any) -> None:
    async def main() -> None:
        async def body() -> None:
            async with open_run() as opened:
                _ = opened.start_soon(raiser, ValueError("a"))
                _ = opened.start_soon(raiser, KeyError("b"), 1)
                seen = opened.start_soon(raiser, ValueError("seen"))
                late = opened.start_soon(raiser, ValueError("late"), 1)
                _ = opened.start_soon(sleeper, 1).cancel()
                with pytest.raises(ValueError, match="seen"):
                    await seen
                await asyncio.sleep(2)
                with pytest.raises(ValueError, match="late"):
                    await late

        with pytest.raises(ExceptionGroup, match="2 workers failed and nothing awaited them") as caught:
            await body()
        assert [str(error) for error in caught.value.exceptions] == ["a", "'b'"]

    run(main)


def test_open_run_error_that_a_restart_has_mended_is_not_raised(run: Any) -> None:
    async def main() -> None:
        async with open_run() as opened:
            handle = opened.start_soon(Flaky(ValueError("first")))
            await asyncio.sleep(1)
            assert handle.state is WorkerState.FAILED
            handle.restart()

    run(main)


def test_open_run_error_of_the_body_cancels_the_workers(run: Any) -> None:
    async def main() -> None:
        ended = []

        async def target() -> None:
            try:
                await asyncio.sleep(90)
            finally:
                await asyncio.sleep(1)
                ended.append(now())

        async def body(*, fails: bool) -> None:
            async with open_run() as opened:
                _ = opened.start_soon(target)
                _ = opened.start_soon(raiser, KeyError("of a worker"))
                await asyncio.sleep(1)
                if fails:
                    raise ValueError("of the body")
                await asyncio.sleep(90)

        with pytest.raises(ValueError, match="of the body"):
            await body(fails=True)
        task = asyncio.create_task(body(fails=False))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == pytest.approx([2, 4])

    run(main)


def test_as_completed_yields_outcomes_and_lets_more_workers_start(run: Any) -> None:
    """A crawler with a queue that grows."""

    async def main() -> None:
        links = {"a": ["b", "c"], "b": ["d"], "c": [], "d": []}

        async def fetch(page: str) -> list[str]:
            await asyncio.sleep(1)
            return links[page]

        found = []
        async with open_run() as opened:
            _ = opened.start_soon(fetch, "a", name="a")
            async with opened.as_completed() as outcomes:
                async for outcome in outcomes:
                    found.append(outcome.name)
                    for link in outcome.result or ():
                        _ = opened.start_soon(fetch, link, name=link)
        assert found == ["a", "b", "c", "d"]

    run(main)


def test_as_completed_failures_count_as_awaited_and_several_readers_share(run: Any) -> None:
    async def main() -> None:
        seen: list[str] = []

        async def read(outcomes: Any) -> None:
            async for outcome in outcomes:
                seen.append(outcome.name)
                await asyncio.sleep(0)

        async with open_run() as opened, opened.as_completed() as outcomes, opened.as_completed() as others:
            for number in range(4):
                _ = opened.start_soon(raiser, ValueError(number), number, name=f"w{number}")
            await asyncio.gather(read(outcomes), read(outcomes))
            assert sorted(seen) == ["w0", "w1", "w2", "w3"]
            assert [outcome.name async for outcome in others] == ["w0", "w1", "w2", "w3"]
            assert [outcome async for outcome in others] == []

    run(main)


def test_as_completed_left_early_ends_nothing(run: Any) -> None:
    async def main() -> None:
        async with open_run() as opened:
            handles = [opened.start_soon(sleeper, seconds, seconds) for seconds in (1, 2)]
            async with opened.as_completed() as outcomes:
                assert (await anext(outcomes)).result == 1
            assert await handles[1] == 2

    run(main)


def test_open_run_options_hold_for_its_workers_and_those_of_start_soon_first(run: Any) -> None:
    async def main() -> None:
        starts: list[float] = []

        async def noting() -> str:
            starts.append(now())
            worker = current_worker()
            assert worker is not None
            return worker.name

        async with open_run(retry=AT_ONCE, rate="1/s burst 1") as opened:
            assert await opened.start_soon(Flaky(ConnectionError())) == "done"
            once = opened.start_soon(Flaky(ConnectionError()), retry=RetryPolicy(max_attempts=1))
            with pytest.raises(ConnectionError):
                await once
            assert opened.statistics().in_flight == 0
            names = [opened.start_soon(noting, key="k") for _ in range(2)]
            assert [await name for name in names] == ["noting 3", "noting 4"]
        assert starts == pytest.approx([3, 4], abs=0.01)

    run(main)


def test_open_run_unknown_option_is_a_type_error(run: Any) -> None:
    async def main() -> None:
        wrong: dict[str, Any] = {"speed": 3}
        with pytest.raises(TypeError, match=r"open_run.*speed"):
            async with open_run(**wrong):
                pass
        async with open_run() as opened:
            for name in ("speed", "rate"):
                wrong = {name: "3/s"}
                with pytest.raises(TypeError, match=f"start_soon.*{name}"):
                    _ = opened.start_soon(sleeper, 1, **wrong)

    run(main)


def test_open_run_takes_no_worker_when_it_is_over_or_stopped(run: Any) -> None:
    async def main() -> None:
        async with open_run() as opened:
            handle = opened.start_soon(sleeper, 9)
            opened._control.carry_out(StopRun())
            with pytest.raises(RuntimeError, match="takes no more workers"):
                _ = opened.start_soon(sleeper, 1)
            with pytest.raises(NoResult):
                await handle
        with pytest.raises(RuntimeError, match="takes no more workers"):
            _ = opened.start_soon(sleeper, 1)

    run(main)


def test_open_run_forgets_old_workers_but_not_those_of_handles(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncwatch.api, "ROWS_KEPT", 100)

    async def main() -> None:
        async with open_run() as opened:
            slow = opened.start_soon(sleeper, 1e6, "slow")
            kept = opened.start_soon(sleeper, 0, "kept")
            sizes = []
            for _ in range(3):
                for _ in range(2_000):
                    await opened.start_soon(sleeper, 0)
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
            assert sizes[2] - sizes[1] < 100_000
            assert slow.state.value == "running"
            assert await kept == "kept"
            assert kept.state is WorkerState.SUCCEEDED
            assert not kept.cancel()
            assert not kept.restart()
            assert slow.restart()
            assert await slow == "slow"
            assert slow.state.value == "succeeded"

    tracemalloc.start()
    try:
        run(main)
    finally:
        tracemalloc.stop()


def test_handle_of_a_forgotten_worker_is_not_that_of_a_later_one_of_its_name(run: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(asyncwatch.api, "ROWS_KEPT", 5)

    async def main() -> None:
        async with open_run() as opened:
            old = opened.start_soon(sleeper, 0, "old", name="same")
            for _ in range(30):
                await opened.start_soon(sleeper, 0)
            new = opened.start_soon(sleeper, 9, "new", name="same")
            assert (old.name, new.name) == ("same", "same")
            assert (old.state, new.state) == (WorkerState.SUCCEEDED, WorkerState.RUNNING)
            assert not old.cancel()
            assert not old.restart()
            assert (await old, await new) == ("old", "new")

    run(main)


def test_start_soon_worker_has_the_context_of_its_caller(run: Any) -> None:
    """Like a task; each attempt in a copy of its own."""
    request: ContextVar[str] = ContextVar("request", default="none")
    other: ContextVar[str] = ContextVar("other", default="none")

    async def main() -> None:
        seen: list[str] = []

        async def handle(error: bool = False) -> str:
            seen.append(request.get() + other.get())
            request.set("changed")
            await asyncio.sleep(0)
            if error and len(seen) < 4:
                raise ConnectionError
            worker = current_worker()
            assert worker is not None
            return worker.name

        request.set("of the run ")
        async with open_run(retry=AT_ONCE) as opened:
            first = opened.start_soon(handle, name="first")
            request.set("of a caller ")
            other.set("too")
            assert await opened.start_soon(handle, True, name="second") == "second"
            assert await first == "first"
            assert opened.start_soon(handle).name == "handle 3"
        assert seen == ["of the run none", *["of a caller too"] * 4]
        assert request.get() == "of a caller "

    run(main)


async def test_open_run_and_handle_are_public_types() -> None:
    async with open_run() as opened:
        assert type(opened) is OpenRun
        assert type(opened.start_soon(asyncio.sleep, 0)) is Handle


def test_lifespan_is_the_last_argument_and_is_closed_after_the_last_attempt(run: Any) -> None:
    log: list[str] = []

    @asynccontextmanager
    async def connection() -> AsyncIterator[str]:
        log.append("open")
        yield "connection"
        log.append("closed")

    async def use(number: int, text: str, connection: str) -> str:
        await asyncio.sleep(number)
        log.append(text)
        return f"{text} by {connection}"

    async def main() -> None:
        async with open_run(lifespan=connection) as opened:
            handles = [opened.start_soon(use, 2, "b"), opened.start_soon(use, 1, "a")]
            assert await handles[0] == "b by connection"
        assert log == ["open", "a", "b", "closed"]

    run(main)
