"""`amap`: results in order, or as they come, of iterables of any length."""

from __future__ import annotations

import asyncio
import io
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from aiohttp import ClientSession, web

import asyncwatch.api
from asyncwatch import (
    AttemptTimeout,
    BadLuck,
    CircuitPolicy,
    DeadlineExceeded,
    Halt,
    ItemOutcome,
    NoResult,
    RateLimit,
    Renew,
    RetryPolicy,
    Run,
    WorkerState,
    amap,
    current_worker,
)
from asyncwatch.events import RunStarted, WorkersQueued
from tests.engine.fleets import AT_ONCE, Flaky, stubborn


async def double(number: int) -> int:
    await asyncio.sleep(1 / (number + 1))  # the last one ends first
    return 2 * number


async def picky(number: int) -> int:
    await asyncio.sleep(1)
    if number % 3 == 2:
        raise ValueError(number)
    return number


async def counting(size: int) -> AsyncIterator[int]:
    for number in range(size):
        await asyncio.sleep(0)
        yield number


KINDS: dict[str, Any] = {
    "list": lambda size: list(range(size)),
    "range": range,
    "iterator": lambda size: iter(range(size)),
    "async": counting,
}


@pytest.fixture(params=KINDS)
def numbers(request: pytest.FixtureRequest) -> Any:
    """Makes an iterable of the first numbers, of each kind."""
    return KINDS[request.param]


def now() -> float:
    return asyncio.get_running_loop().time() - 1000


# Results


def test_amap_awaited_has_results_in_the_order_of_the_items(run: Any, numbers: Any) -> None:
    async def main() -> None:
        assert await amap(double, numbers(300), concurrency=7) == [2 * number for number in range(300)]
        assert await amap(double, numbers(0)) == []

    run(main)


def test_amap_iterated_yields_results_as_they_come(run: Any, numbers: Any) -> None:
    async def main() -> None:
        assert [result async for result in amap(double, numbers(5))] == [8, 6, 4, 2, 0]
        assert [result async for result in amap(double, numbers(0))] == []

    run(main)


def test_amap_is_a_coroutine_for_tasks_and_asyncio_run(run: Any) -> None:
    async def main() -> None:
        task = asyncio.create_task(amap(double, [1, 2]))
        assert "amap()" in repr(task)
        assert await task == [2, 4]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(amap(double, [number, number])) for number in range(3)]
        assert [task.result() for task in tasks] == [[0, 0], [2, 2], [4, 4]]

    run(main)
    assert asyncio.run(amap(asyncio.sleep, [0, 0])) == [None, None]


def test_amap_runs_once(run: Any) -> None:
    async def main() -> None:
        mapped = amap(double, [1])
        assert await mapped == [2]
        with pytest.raises(RuntimeError, match="runs once"):
            await mapped
        with pytest.raises(RuntimeError, match="runs once"):
            aiter(mapped)

    run(main)


def test_amap_that_is_neither_awaited_nor_iterated_over_is_warned_of() -> None:
    mapped: Any = amap(double, [1])
    with pytest.warns(RuntimeWarning, match="neither awaited nor iterated over"):
        del mapped


def test_amap_concurrency_bounds_the_attempts_in_flight(run: Any, numbers: Any) -> None:
    async def main() -> None:
        running = most = 0

        async def counted(_number: int) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(1)
            running -= 1

        await amap(counted, numbers(30), concurrency=4)
        assert most == 4
        assert now() == pytest.approx(8)

    run(main)


# Errors


def test_amap_errors_are_raised_together_at_the_end_in_order(run: Any, numbers: Any) -> None:
    async def main() -> None:
        done = []

        async def noting(number: int) -> None:
            done.append(await picky(number))

        with pytest.raises(ExceptionGroup, match="3 of 9 workers failed") as caught:
            await amap(noting, numbers(9), concurrency=2)
        assert [error.args for error in caught.value.exceptions] == [(2,), (5,), (8,)]
        assert done == [0, 1, 3, 4, 6, 7]

    run(main)


def test_amap_iterated_raises_the_errors_after_the_results(run: Any, numbers: Any) -> None:
    async def main() -> None:
        results = []

        async def read() -> None:
            async for result in amap(picky, numbers(6)):
                results.append(result)  # noqa: PERF401  the loop raises

        with pytest.raises(ExceptionGroup) as caught:
            await read()
        assert sorted(results) == [0, 1, 3, 4]
        assert len(caught.value.exceptions) == 2

    run(main)


def test_amap_with_on_error_return_has_outcomes_with_their_items(run: Any, numbers: Any) -> None:
    async def main() -> None:
        first, _, third = outcomes = await amap(picky, numbers(3), on_error="return")
        assert all(type(outcome) is ItemOutcome for outcome in outcomes)
        assert (first.item, first.result, first.error, first.attempts) == (0, 0, None, 1)
        assert first.is_success
        assert first.elapsed == pytest.approx(1)
        assert (third.item, third.result, third.state) == (2, None, WorkerState.FAILED)
        assert isinstance(third.error, ValueError)
        seen = {outcome.item: outcome.is_success async for outcome in amap(picky, numbers(3), on_error="return")}
        assert seen == {0: True, 1: True, 2: False}

    run(main)


def test_amap_request_to_exit_is_a_base_exception_group(run: Any) -> None:
    async def leaves(_item: int) -> None:
        raise SystemExit(3)

    async def main() -> None:
        with pytest.raises(BaseExceptionGroup) as caught:
            await amap(leaves, [1])
        assert isinstance(caught.value.exceptions[0], SystemExit)

    run(main)


@pytest.mark.parametrize("is_async", [False, True])
def test_amap_error_of_the_iterable_cancels_the_workers_and_is_raised(run: Any, is_async: bool) -> None:
    async def main() -> None:
        cancelled = []

        async def noting(number: int) -> None:
            try:
                await asyncio.sleep(9)
            except asyncio.CancelledError:
                cancelled.append(number)
                raise

        def broken() -> Iterator[int]:
            yield from range(3)
            raise OSError("no more")

        async def broken_async() -> AsyncIterator[int]:
            for number in range(3):
                yield number
            await asyncio.sleep(1)
            raise OSError("no more")

        async def count_async() -> list[None]:
            return [result async for result in amap(noting, broken_async() if is_async else broken())]

        with pytest.raises(OSError, match="no more"):
            await amap(noting, broken_async() if is_async else broken())
        assert cancelled == ([0, 1, 2] if is_async else [])
        with pytest.raises(OSError, match="no more"):
            await count_async()

    run(main)


def test_amap_iterable_that_raises_cancelled_error_ends_the_call(run: Any) -> None:
    async def main() -> None:
        async def broken() -> AsyncIterator[int]:
            yield 1
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await amap(double, broken())

    run(main)


@pytest.mark.parametrize("kind", ["list", "iterator"])
def test_amap_name_function_that_raises_ends_the_call(run: Any, kind: str) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await amap(double, KINDS[kind](3), name=lambda number: str(1 // number))

    run(main)


def test_amap_stopped_workers_are_no_result(run: Any) -> None:
    async def main() -> None:
        async def stops_itself(number: int) -> int:
            if number == 1:
                raise asyncio.CancelledError
            return number

        with pytest.raises(BaseExceptionGroup) as caught:
            await amap(stops_itself, range(3))
        assert isinstance(caught.value.exceptions[0], asyncio.CancelledError)
        with pytest.raises(ExceptionGroup) as group:
            await amap(stubborn, [9.0], attempt_timeout=1, grace=1, retry=RetryPolicy(max_attempts=1))
        assert [str(error) for error in group.value.exceptions] == ["9.0: unresponsive"]
        assert isinstance(group.value.exceptions[0], NoResult)
        await asyncio.sleep(9)

    run(main)


# The end from outside


def test_amap_cancelled_cancels_the_workers_and_waits_for_them(run: Any, numbers: Any) -> None:
    async def main() -> None:
        ended = []

        async def slow(number: int) -> None:
            try:
                await asyncio.sleep(90)
            finally:
                await asyncio.sleep(1)
                ended.append(number)

        task = asyncio.create_task(amap(slow, numbers(1_000), concurrency=3))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [0, 1, 2]
        assert now() == pytest.approx(2)

    run(main)


def test_amap_iteration_that_is_left_cancels_the_others(run: Any, numbers: Any) -> None:
    async def main() -> None:
        ended = []

        async def slow(number: int) -> int:
            try:
                await asyncio.sleep(number)
            finally:
                ended.append(number)
            return number

        async with amap(slow, numbers(1_000), concurrency=50) as results:
            async for result in results:
                if result == 2:
                    break
        assert sorted(ended) == list(range(52))  # two had ended, and made room for two more
        async for _ in amap(slow, numbers(3)):
            break
        await asyncio.sleep(1)  # the loop closes the iterator
        assert len(ended) == 55

    run(main)


def test_amap_that_is_left_closes_an_async_generator_that_nothing_else_holds(run: Any) -> None:
    async def main() -> None:
        closed = asyncio.Event()

        async def rows() -> AsyncIterator[int]:
            try:
                for number in range(1_000):
                    yield number
            finally:
                closed.set()

        async with amap(double, rows(), concurrency=3) as results:
            async for _ in results:
                break
            mapped = results
        await asyncio.wait_for(closed.wait(), 1)
        del mapped

    run(main)


@pytest.mark.parametrize("is_busy", [False, True])
def test_amap_stopped_before_all_items_were_read_is_no_result(run: Any, monkeypatch: Any, is_busy: bool) -> None:
    runs: list[Run[Any]] = []

    def remembered(*args: Any, **settings: Any) -> Run[Any]:
        runs.append(Run(*args, **settings))
        return runs[-1]

    monkeypatch.setattr(asyncwatch.api, "Run", remembered)

    async def slowly() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(9)
        yield 2

    async def wait(_item: int) -> None:
        await asyncio.sleep(7 if is_busy else 1)

    async def main() -> None:
        expected = "1: cancelled" if is_busy else "not all items were read"
        for on_error in ("raise", "return"):
            mapped: Any = amap(wait, slowly(), on_error=on_error)
            task = asyncio.create_task(mapped)
            await asyncio.sleep(5)
            runs[-1].cancel_all()
            if on_error == "return":
                assert [outcome.item for outcome in await task] == [1]
                continue
            with pytest.raises(ExceptionGroup) as caught:
                await task
            assert [(type(error), str(error)) for error in caught.value.exceptions] == [(NoResult, expected)]

    run(main)


def test_amap_timeout_ends_the_workers_and_raises(run: Any, numbers: Any) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await amap(asyncio.sleep, numbers(1_000), timeout=3)
        assert now() == pytest.approx(3)
        with pytest.raises(TimeoutError):
            assert [result async for result in amap(asyncio.sleep, numbers(9), timeout=3)]

    run(main)


# Policies


def test_amap_retries_by_its_policy(run: Any) -> None:
    async def main() -> None:
        flaky = [Flaky(ConnectionError(), ConnectionError()), Flaky(*[ConnectionError()] * 3)]
        first, second = await amap(lambda call: call(), flaky, retry=AT_ONCE, on_error="return")
        assert (first.result, first.attempts, second.state) == ("done", 3, WorkerState.EXHAUSTED)

    run(main)


@pytest.mark.parametrize("rate", ["2/s burst 1", RateLimit(per_second=2, burst=1)])
def test_amap_rate_is_a_text_or_a_limit(run: Any, numbers: Any, rate: Any) -> None:
    async def main() -> None:
        starts: list[float] = []

        async def noting(_number: int) -> None:
            starts.append(now())

        await amap(noting, numbers(5), rate=rate)
        assert starts == pytest.approx([0, 0.5, 1, 1.5, 2], abs=0.01)

    run(main)


def test_amap_rate_per_key_holds_each_key_alone(run: Any, numbers: Any) -> None:
    async def main() -> None:
        starts: list[tuple[int, float]] = []

        async def noting(number: int) -> None:
            starts.append((number % 2, round(now(), 1)))

        await amap(noting, numbers(6), key=lambda number: f"k{number % 2}", rate_per_key="1/s burst 1")
        assert sorted(starts) == [(key, float(second)) for key in (0, 1) for second in (0, 1, 2)]

    run(main)


def test_amap_circuit_halt_deadline_timeout_and_bad_luck(run: Any, numbers: Any) -> None:
    async def main() -> None:
        async def down(_number: int) -> None:
            raise ConnectionError("down")

        once = RetryPolicy(max_attempts=1)
        circuit = CircuitPolicy(min_throughput=2, open_for=100)
        with pytest.raises(TimeoutError):
            await amap(down, numbers(30), concurrency=1, key="k", circuit=circuit, retry=once, timeout=50)
        for halt in ("2", Halt(failures=2)):
            with pytest.raises(ExceptionGroup) as caught:
                await amap(down, numbers(1_000), concurrency=1, halt=halt, retry=once)
            assert len(caught.value.exceptions) == 2
        options: list[tuple[Any, type[BaseException]]] = [
            ({"attempt_timeout": 1, "retry": once}, AttemptTimeout),
            ({"deadline": 1}, DeadlineExceeded),
            ({"bad_luck": BadLuck(threshold=0.0, faults=(OSError,)), "retry": once}, OSError),
        ]
        for option, error in options:
            (outcome,) = await amap(asyncio.sleep, [9], on_error="return", **option)
            assert isinstance(outcome.error, error)

    run(main)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"retries": 3}, TypeError, r"amap\(\) got an unexpected keyword argument 'retries'"),
        ({"rate": "fast"}, ValueError, "fast"),
        ({"concurrency": 0}, ValueError, "concurrency"),
        ({"on_error": "ignore"}, ValueError, "on_error"),
        ({"attempt_timeout": 0}, ValueError, "attempt_timeout"),
        ({"items": 3}, TypeError, "not iterable"),
        ({"func": 3}, TypeError, "cannot be called"),
    ],
)
def test_amap_wrong_argument_is_refused_at_once(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        _ = amap(**{"func": double, "items": [1], **options})


# Names


def test_amap_workers_are_named_by_their_items(run: Any) -> None:
    async def named(_item: object) -> str:
        worker = current_worker()
        assert worker is not None
        return worker.name

    async def main() -> None:
        items = ["a", "b", "a", 7, None, "", "x" * 200, "http://me:secret@a.example/"]
        names = await amap(named, items)
        assert names[:4] == ["a", "b", "a#2", "7"]
        assert names[4:6] == ["named 5", "named 6"]
        assert len(names[6]) == 100
        assert "secret" not in names[7]
        assert await amap(named, iter(items[:3]), name=lambda item: f"<{item}>") == ["<a>", "<b>", "<a>#2"]

    run(main)


# Memory


def test_amap_reads_few_items_ahead(run: Any) -> None:
    async def main() -> None:
        read = 0

        def reading() -> Iterator[int]:
            nonlocal read
            for item in range(1, 10_000):
                read = item
                yield item

        most = done = 0

        async def noting(_item: int) -> None:
            nonlocal most, done
            await asyncio.sleep(1)
            most = max(most, read - done)
            done += 1

        await amap(noting, reading(), concurrency=5)
        assert read == done == 9_999
        assert most <= 2 * 5 + 100

    run(main)


def test_amap_slow_reader_holds_back_the_items(run: Any) -> None:
    async def main() -> None:
        started = 0

        async def counted(_item: int) -> None:
            nonlocal started
            started += 1

        async with amap(counted, iter(range(100_000)), concurrency=5) as results:
            await anext(results)
            await asyncio.sleep(100)
            assert started <= 2 * 5 + 101

    run(main)


def test_amap_slow_items_join_one_by_one(run: Any) -> None:
    async def main() -> None:
        starts: list[float] = []

        async def slowly() -> AsyncIterator[int]:
            for number in range(3):
                await asyncio.sleep(10)
                yield number

        async def noting(_item: int) -> None:
            starts.append(now())

        await amap(noting, slowly())
        assert starts == pytest.approx([10, 20, 30])

    run(main)


@pytest.mark.parametrize("has_straggler", [False, True])
def test_amap_memory_does_not_grow_with_the_items(run: Any, monkeypatch: Any, has_straggler: bool) -> None:
    monkeypatch.setattr(asyncwatch.api, "ROWS_KEPT", 500)

    async def quick(item: int) -> None:
        await asyncio.sleep(1e6 if has_straggler and item == 3 else 0)

    async def main() -> None:
        count = 0
        sizes: list[int] = []
        async for _ in amap(quick, iter(range(12_000)), concurrency=20):
            count += 1
            if count in {4_000, 11_000}:
                sizes.append(tracemalloc.get_traced_memory()[0])
        assert count == 12_000
        assert sizes[1] - sizes[0] < 100_000  # 14 bytes an item; to keep them takes 400

    tracemalloc.start()
    try:
        run(main)
    finally:
        tracemalloc.stop()


def test_amap_of_an_iterator_reports_how_many_rows_are_kept(run: Any, monkeypatch: Any) -> None:
    events: list[Any] = []

    def listened(*args: Any, **settings: Any) -> Any:
        made: Run[Any] = Run(*args, **settings)
        events.append(made.subscribe())
        return made

    monkeypatch.setattr(asyncwatch.api, "Run", listened)

    async def main() -> None:
        await amap(double, iter(range(3)))
        await amap(double, range(3))

    run(main)
    lazy, known = ([event for batch in queue._queue for event in batch] for queue in events)
    for found, kept, queued in ((lazy, 100_000, [("0",), ("1",), ("2",)]), (known, None, [("0", "1", "2")])):
        assert isinstance(found[0], RunStarted)
        assert (found[0].run, found[0].runner, found[0].rows_kept) == ("double", "amap", kept)
        assert [event.workers for event in found if isinstance(event, WorkersQueued)] == queued


# Surroundings


def test_amap_nested_and_twice_at_once(run: Any) -> None:
    async def main() -> None:
        async def row(number: int) -> list[int]:
            return await amap(double, [number, number + 1], concurrency=1)

        both = await asyncio.gather(amap(row, range(3), concurrency=2), amap(row, iter(range(3))))
        assert list(both) == [[[0, 2], [2, 4], [4, 6]]] * 2

    run(main)


def test_amap_workers_run_in_copies_of_the_callers_context(run: Any) -> None:
    variable: ContextVar[int] = ContextVar("variable", default=0)

    async def main() -> None:
        async def add(number: int) -> int:
            variable.set(variable.get() + number)
            return variable.get()

        variable.set(10)
        assert await amap(add, [1, 2, 3]) == [11, 12, 13]
        assert variable.get() == 10

    run(main)


def test_amap_prints_and_logs_nothing_by_itself(run: Any, capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup):
            await amap(picky, range(3))

    run(main)
    assert capfd.readouterr() == ("", "")


def test_amap_on_uvloop() -> None:
    async def main() -> None:
        async def slow(number: int) -> int:
            await asyncio.sleep(0.001)
            return number

        assert await amap(slow, iter(range(500))) == list(range(500))
        assert list(await asyncwatch.gather(slow(1), slow(2), limit=1)) == [1, 2]

    uvloop.run(main())


async def test_amap_in_a_test_of_pytest_asyncio_and_a_web_server() -> None:
    async def handle(request: web.Request) -> web.Response:
        async def square(number: int) -> int:
            await asyncio.sleep(0)
            return number * number

        return web.json_response(await amap(square, range(int(request.query["size"]))))

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        (address,) = runner.addresses
        async with ClientSession() as session:

            async def ask(size: int) -> list[int]:
                async with session.get(f"http://127.0.0.1:{address[1]}/?size={size}") as answer:
                    found: list[int] = await answer.json()
                    return found

            assert await amap(ask, [2, 3]) == [[0, 1], [0, 1, 4]]
    finally:
        await runner.cleanup()


# The progress line


class Screen(io.StringIO):
    """A stderr that says whether it is a terminal."""

    is_terminal = True

    def isatty(self) -> bool:
        return self.is_terminal


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Replace stderr by a terminal."""
    screen = Screen()
    monkeypatch.setattr("asyncwatch.api.sys", SimpleNamespace(stderr=screen))  # pytest sets sys.stderr after fixtures
    return screen


def test_progress_is_a_line_that_is_drawn_again_and_stays(run: Any, screen: Screen) -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup):
            await amap(picky, range(20), concurrency=10, progress=True)

    run(main)
    lines = screen.getvalue().split("\r")
    assert lines[0] == ""
    assert lines[1].startswith("picky  0 of 20  0 %")
    assert 15 < len(lines) < 30  # ten a second, for two seconds
    assert lines[-1].startswith("picky  20 of 20  100 %  6 failed  ")
    assert lines[-1].endswith("\n")
    assert "\n" not in "".join(lines[:-1])


def test_progress_of_an_iterator_has_no_total_and_of_several_one_is_shown(run: Any, screen: Screen) -> None:
    async def main() -> None:
        await asyncio.gather(amap(double, iter(range(5)), progress=True), amap(asyncio.sleep, [0.5], progress=True))

    run(main)
    assert "double  5  " in screen.getvalue()
    assert "sleep" not in screen.getvalue()


def test_progress_is_not_shown_elsewhere_but_in_a_notebook(run: Any, screen: Screen) -> None:
    async def main() -> None:
        await amap(double, range(5), progress=True)

    screen.is_terminal = False
    run(main)
    assert screen.getvalue() == ""
    Screen.__module__, before = "ipykernel.iostream", Screen.__module__
    try:
        run(main)
    finally:
        Screen.__module__ = before
    assert "double  5 of 5" in screen.getvalue()


def test_progress_is_not_drawn_while_a_dashboard_has_the_terminal(run: Any, screen: Screen) -> None:
    async def taken(number: int) -> int:
        screen.is_terminal = False
        await asyncio.sleep(1)
        screen.is_terminal = number == 1
        return number

    async def main() -> None:
        await amap(taken, range(2), concurrency=1, progress=True)

    run(main)
    (first, last) = screen.getvalue().split("\r")[1:]
    assert first.startswith("taken  0 of 2")
    assert last.startswith("taken  2 of 2")


def test_progress_survives_a_terminal_that_goes(run: Any, screen: Screen) -> None:
    async def main() -> None:
        async def closes(number: int) -> int:
            screen.close()
            await asyncio.sleep(1)
            return number

        assert await amap(closes, range(5), progress=True) == [0, 1, 2, 3, 4]

    run(main)


def connections(log: list[str]) -> Any:
    @asynccontextmanager
    async def connection() -> AsyncIterator[str]:
        name = f"connection {len(log)}"
        log.append(name)
        yield name
        log.append(f"closed {name}")

    return connection


@pytest.mark.parametrize("kind", KINDS)
def test_lifespan_is_the_second_argument_and_is_closed_after_the_last_attempt(run: Any, kind: str) -> None:
    log: list[str] = []

    async def use(number: int, connection: str) -> str:
        await asyncio.sleep(1)
        assert log == ["connection 0"]
        return f"{number} by {connection}"

    async def main() -> None:
        results = await amap(use, KINDS[kind](3), lifespan=connections(log), concurrency=2)
        assert results == [f"{number} by connection 0" for number in range(3)]
        assert log == ["connection 0", "closed connection 0"]

    run(main)


def test_lifespan_for_each_slot_is_renewed_after_an_error_that_says_so(run: Any) -> None:
    log: list[str] = []
    used: list[str] = []

    async def use(number: int, connection: str) -> None:
        used.append(connection)
        await asyncio.sleep(1)
        if number == 1 and len(used) < 3:
            raise Renew from ConnectionResetError("gone")

    async def main() -> None:
        slots: Any = {"lifespan": connections(log), "lifespan_per": "slot"}
        await amap(use, range(3), concurrency=1, retry=RetryPolicy(base=0.0), **slots)
        assert len(used) == 4
        assert len(set(used)) == 2
        assert sorted(log) == sorted([*set(used), *(f"closed {name}" for name in set(used))])

    run(main)


def test_lifespan_that_cannot_be_entered_fails_the_call_before_any_attempt(run: Any) -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[str]:
        raise OSError("no database")
        yield "never"

    async def use(number: int, connection: str) -> None:
        raise AssertionError(number, connection)

    async def main() -> None:
        with pytest.raises(OSError, match="no database"):
            await amap(use, range(3), lifespan=broken)

    run(main)
