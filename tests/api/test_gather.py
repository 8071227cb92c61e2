"""`gather` is `asyncio.gather`, in its plain, its limited and its supervised form."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

import asyncwatch
from asyncwatch import api
from asyncwatch.api import gather_supervised
from asyncwatch.commands import RestartWorker
from asyncwatch.control.discovery import alive
from asyncwatch.engine.run_control import control_of
from asyncwatch.testing import wait_until


def supervised(*awaitables: Any, return_exceptions: bool = False) -> Any:
    return gather_supervised(awaitables, return_exceptions=return_exceptions, limit=None)


FORMS: dict[str, Callable[..., Any]] = {
    "asyncio": asyncio.gather,
    "plain": asyncwatch.gather,
    "limited": partial(asyncwatch.gather, limit=100),
    "supervised": supervised,
    "watched": partial(asyncwatch.gather),
}


@pytest.fixture(params=FORMS)
def gather(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Each form, and asyncio's own to show that the tests are right."""
    with tempfile.TemporaryDirectory(prefix="aw-", dir="/tmp") as folder:  # with a short path, for sockets
        if request.param == "watched":
            monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
            monkeypatch.setenv("ASYNCWATCH", "attach")
        yield FORMS[request.param]
        assert request.param != "watched" or not [run for run in alive() if run.pid == os.getpid()]


@pytest.fixture
def run(run: Callable[..., Any], request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run a coroutine function on a jumping clock, and let the server of a watched gather end, in its own thread."""
    is_watched = "gather" in request.fixturenames and request.getfixturevalue("gather") is FORMS["watched"]

    async def to_the_end(main: Callable[[], Any]) -> Any:
        try:
            return await main()
        finally:
            deadline = time.monotonic() + 60
            while is_watched and api._gathering and time.monotonic() < deadline:
                time.sleep(0.001)  # noqa: ASYNC251  for the other thread, whose time does not jump
                await asyncio.sleep(0.01)

    return lambda main: run(partial(to_the_end, main))


async def after(seconds: float, result: object = None) -> object:
    await asyncio.sleep(seconds)
    return result


async def fails(error: BaseException, seconds: float = 0.0) -> None:
    await asyncio.sleep(seconds)
    raise error


def test_gather_results_are_in_the_order_of_the_arguments(run: Any, gather: Any) -> None:
    async def main() -> None:
        assert await gather(after(3, "a"), after(1, "b"), after(2, "c")) == ["a", "b", "c"]
        assert asyncio.get_running_loop().time() == pytest.approx(1003)

    run(main)


def test_gather_takes_coroutines_tasks_futures_and_awaitable_objects(run: Any, gather: Any) -> None:
    class Lazy:
        def __await__(self) -> Any:
            return after(1, "lazy").__await__()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        future, done = loop.create_future(), loop.create_future()
        done.set_result("done")
        loop.call_later(5, future.set_result, "future")
        task = asyncio.create_task(after(2, "task"))
        found = await gather(future, done, task, after(1, "coroutine"), Lazy())
        assert found == ["future", "done", "task", "coroutine", "lazy"]

    run(main)


def test_gather_same_awaitable_twice_is_awaited_once(run: Any, gather: Any) -> None:
    async def main() -> None:
        calls = []

        async def once() -> int:
            calls.append(1)
            await asyncio.sleep(0)
            return 7

        coroutine, task = once(), asyncio.create_task(after(1, "t"))
        assert await gather(coroutine, task, coroutine, after(0, "x"), task, coroutine) == [7, "t", 7, "x", "t", 7]
        assert calls == [1]

    run(main)


def test_gather_of_nothing_is_an_empty_list(run: Any, gather: Any) -> None:
    async def main() -> None:
        assert await gather() == []
        assert await gather(return_exceptions=True) == []

    run(main)


def test_gather_returns_a_future_that_runs_without_being_awaited(run: Any, gather: Any) -> None:
    async def main() -> None:
        future = gather(after(1, "a"), after(2, "b"))
        assert asyncio.isfuture(future)
        assert not future.done()
        await asyncio.sleep(3)
        assert future.done()
        assert future.result() == ["a", "b"]

    run(main)


def test_gather_raises_the_first_error_in_time_and_the_others_go_on(run: Any, gather: Any) -> None:
    async def main() -> None:
        went_on = []

        async def goes_on() -> None:
            await asyncio.sleep(5)
            went_on.append("to its end")

        first = ValueError("first")
        with pytest.raises(ValueError, match="first") as caught:
            await gather(goes_on(), fails(KeyError("late"), 2), fails(first, 1))
        assert caught.value is first
        assert asyncio.get_running_loop().time() == pytest.approx(1001)
        assert not went_on
        await asyncio.sleep(5)
        assert went_on == ["to its end"]

    run(main)


def test_gather_with_return_exceptions_has_errors_among_the_results(run: Any, gather: Any) -> None:
    async def main() -> None:
        error = ValueError("mine")
        cancelled = asyncio.create_task(after(9))
        asyncio.get_running_loop().call_later(1, cancelled.cancel)
        found = await gather(fails(error, 2), after(1, "b"), cancelled, return_exceptions=True)
        assert found[:2] == [error, "b"]
        assert isinstance(found[2], asyncio.CancelledError)

    run(main)


def test_gather_of_futures_that_have_failed_raises(run: Any, gather: Any) -> None:
    async def main() -> None:
        bad = asyncio.get_running_loop().create_future()
        bad.set_exception(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await gather(bad, after(1))
        await asyncio.sleep(2)

    run(main)


def test_gather_second_error_is_not_reported_as_never_retrieved(run: Any, gather: Any) -> None:
    async def main() -> None:
        reported: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
        with pytest.raises(ValueError, match="a"):
            await gather(fails(ValueError("a"), 1), fails(ValueError("b"), 1))
        await asyncio.sleep(2)
        gc.collect()
        assert reported == []

    run(main)


def test_gather_cancelled_cancels_every_child_with_the_message(run: Any, gather: Any) -> None:
    async def main() -> None:
        seen: list[tuple[Any, ...]] = []

        async def child() -> None:
            try:
                await asyncio.sleep(9)
            except asyncio.CancelledError as error:
                seen.append(error.args)
                raise

        future = gather(child(), child())
        await asyncio.sleep(1)
        assert future.cancel("enough")
        assert not future.done()
        with pytest.raises(asyncio.CancelledError) as caught:
            await future
        assert seen == [("enough",)] * 2
        assert caught.value.args == ("enough",)
        assert not future.cancelled()  # as asyncio has it: it was done when its children were
        assert not future.cancel()

    run(main)


def test_gather_in_a_cancelled_task_cancels_the_children(run: Any, gather: Any) -> None:
    async def main() -> None:
        ended = []

        async def child(name: str) -> None:
            try:
                await asyncio.sleep(9)
            finally:
                await asyncio.sleep(1)
                ended.append(name)

        async def outer() -> None:
            await gather(child("a"), child("b"))

        task = asyncio.create_task(outer())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["a", "b"]
        assert task.cancelled()

    run(main)


def test_gather_cancelled_with_return_exceptions_is_cancelled_too(run: Any, gather: Any) -> None:
    async def main() -> None:
        future = gather(after(9), after(9), return_exceptions=True)
        await asyncio.sleep(1)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future

    run(main)


def test_gather_cancelled_at_once_starts_no_child(run: Any, gather: Any) -> None:
    async def main() -> None:
        ran: list[int] = []

        async def child() -> None:
            await asyncio.sleep(0)
            ran.append(1)

        future = gather(child(), child())
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        await asyncio.sleep(1)
        assert ran == []

    run(main)


def test_gather_child_that_refuses_its_cancellation_is_waited_for(run: Any, gather: Any) -> None:
    async def main() -> None:
        async def refuses() -> str:
            for _ in range(2):
                try:
                    await asyncio.sleep(9)
                except asyncio.CancelledError:
                    await asyncio.sleep(100)
            return "at last"

        future = gather(refuses(), return_exceptions=True)
        await asyncio.sleep(1)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        assert asyncio.get_running_loop().time() == pytest.approx(1110)

    run(main)


def test_gather_child_that_is_cancelled_by_other_code_cancels_the_gather_alone(run: Any, gather: Any) -> None:
    async def main() -> None:
        tasks: list[Any] = []

        async def child() -> None:
            tasks.append(asyncio.current_task())
            await asyncio.sleep(9)

        other = asyncio.create_task(after(5, "goes on"))
        future = gather(child(), other)
        await asyncio.sleep(1)
        tasks[0].cancel("by name")
        with pytest.raises(asyncio.CancelledError) as caught:
            await future
        assert caught.value.args == ("by name",)
        assert await other == "goes on"

    run(main)


def test_gather_raised_cancelled_error_counts_as_a_cancellation(run: Any, gather: Any) -> None:
    async def main() -> None:
        (found,) = await gather(fails(asyncio.CancelledError("own")), return_exceptions=True)
        assert isinstance(found, asyncio.CancelledError)
        assert found.args == ("",)  # as asyncio has it

    run(main)


def test_gather_child_runs_in_a_copy_of_the_callers_context(run: Any, gather: Any) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="none")

    async def main() -> None:
        async def child(value: str) -> str:
            before = variable.get()
            variable.set(value)
            await asyncio.sleep(0)
            return before + variable.get()

        variable.set("caller ")
        future = gather(child("a"), child("b"))
        variable.set("later ")
        assert await future == ["caller a", "caller b"]
        assert variable.get() == "later "

    run(main)


def test_gather_nested_and_twice_at_once(run: Any, gather: Any) -> None:
    async def main() -> None:
        async def pair(number: int) -> Any:
            return await gather(after(1, number), after(2, number + 1))

        assert await gather(pair(1), pair(3)) == [[1, 2], [3, 4]]

    run(main)


def test_gather_children_have_a_task_each_with_timeouts(run: Any, gather: Any) -> None:
    async def main() -> None:
        async def child() -> Any:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await asyncio.sleep(9)
            return asyncio.current_task()

        one, two = await gather(child(), child())
        assert one is not two
        assert asyncio.get_running_loop().time() == pytest.approx(1001)

    run(main)


@pytest.mark.parametrize("argument", [3, "text", None])
def test_gather_of_no_awaitable_is_a_type_error_and_what_came_before_runs(run: Any, gather: Any, argument: Any) -> None:
    async def main() -> None:
        ran: list[int] = []

        async def child() -> None:
            await asyncio.sleep(0)
            ran.append(1)

        with pytest.raises(TypeError):
            gather(child(), argument)
        await asyncio.sleep(1)
        assert ran == [1]

    run(main)


@pytest.mark.parametrize("form", ["plain", "limited"])
def test_gather_without_a_running_loop_is_a_runtime_error_in_a_thread(form: str) -> None:
    async def main() -> None:
        def call() -> None:
            coroutine = after(1)
            try:
                FORMS[form](coroutine)
            finally:
                coroutine.close()

        with pytest.raises(RuntimeError, match="event loop"):
            await asyncio.to_thread(call)

    asyncio.run(main())


def test_gather_before_the_loop_runs_uses_that_of_the_first_future(gather: Any) -> None:
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        futures = [loop.create_future() for _ in range(2)]
        future = gather(*futures)
        assert future.get_loop() is loop
        for number, each in enumerate(futures):
            loop.call_soon(each.set_result, number)
        assert loop.run_until_complete(future) == [0, 1]


def test_gather_before_the_loop_runs_uses_the_current_one(gather: Any) -> None:
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        asyncio.set_event_loop(loop)
        try:
            assert gather().get_loop() is loop
            future = gather(after(0, "a"), after(0, "b"))
            assert loop.run_until_complete(future) == ["a", "b"]
        finally:
            asyncio.set_event_loop(None)


# The limit


@pytest.mark.parametrize("limit", [1, 3, 50])
def test_limit_bounds_how_many_run_at_a_time_in_order(run: Any, limit: int) -> None:
    async def main() -> None:
        running, most, started = 0, 0, []

        async def child(number: int) -> int:
            nonlocal running, most
            started.append(number)
            running += 1
            most = max(most, running)
            await asyncio.sleep(1)
            running -= 1
            return number

        assert await asyncwatch.gather(*map(child, range(20)), limit=limit) == list(range(20))
        assert most == min(limit, 20)
        assert started == list(range(20))

    run(main)


def test_limit_does_not_count_tasks_which_run_already(run: Any) -> None:
    async def main() -> None:
        tasks = [asyncio.create_task(after(9, n)) for n in range(3)]
        found = await asyncwatch.gather(*tasks, after(1, "a"), after(1, "b"), limit=1)
        assert found == [0, 1, 2, "a", "b"]
        assert asyncio.get_running_loop().time() == pytest.approx(1009)

    run(main)


def test_limit_cancelled_closes_coroutines_that_have_not_begun(run: Any) -> None:
    """A coroutine that is dropped unawaited would be a RuntimeWarning, which fails the test."""

    async def main() -> None:
        ran: list[int] = []

        async def child(number: int) -> None:
            ran.append(number)
            await asyncio.sleep(9)

        future = asyncwatch.gather(*map(child, range(5)), limit=2)
        await asyncio.sleep(1)
        future.cancel("stop")
        with pytest.raises(asyncio.CancelledError, match="stop"):
            await future
        assert ran == [0, 1]
        gc.collect()

    run(main)


def test_limit_below_one_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="limit"):
        _ = asyncwatch.gather(limit=0)


def test_limited_error_does_not_stop_the_waiting_ones(run: Any) -> None:
    async def main() -> None:
        ended: list[int] = []

        async def child(number: int) -> None:
            await asyncio.sleep(1)
            ended.append(number)
            if number == 0:
                raise ValueError(number)

        with pytest.raises(ValueError, match="0"):
            await asyncwatch.gather(*map(child, range(4)), limit=1)
        await wait_until(lambda: len(ended) == 4)

    run(main)


def test_gather_lets_no_person_restart_a_coroutine(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    controls: list[Any] = []

    def noted(of: Any) -> Any:
        controls.append(control_of(of))
        return controls[-1]

    monkeypatch.setattr("asyncwatch.api.control_of", noted)

    async def main() -> None:
        gathering = asyncio.ensure_future(supervised(after(1, "a"), after(2, "b")))
        await asyncio.sleep(1.5)
        assert not controls[0].carry_out(RestartWorker("after 1", 1))  # it has succeeded
        assert not controls[0].carry_out(RestartWorker("after 2", 1))  # it runs
        assert await gathering == ["a", "b"]

    run(main)
