"""Targets, errors, policies and log handlers that misbehave harm only their own worker."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from asyncwatch import RetryPolicy, Run, WorkerSpecs, WorkerState
from asyncwatch.events import CommandRefused, RunFinished, WorkerCancelled, WorkerUnresponsive
from asyncwatch.events.story import story
from tests.engine.fleets import Flaky, drain, later, raiser, sleeper, stubborn, worker


class BadCauseError(Exception):
    """Raises when its cause is read."""

    @property
    def __cause__(self) -> BaseException | None:  # type: ignore[override]  # the subject of the test
        raise SystemExit(1)


class BadGroup(ExceptionGroup[Exception]):
    """Raises when its members are read."""

    @property
    def exceptions(self) -> Any:
        raise SystemExit(1)


class BadStr(str):
    """Raises when it is read."""

    __slots__ = ()

    def isascii(self) -> bool:
        raise SystemExit(1)


class BadMessageError(Exception):
    """Has a message that raises."""

    def __str__(self) -> str:
        return BadStr("message")


class BadHeadersError(TimeoutError):
    """Raises when its wait is read."""

    @property
    def retry_after(self) -> float:
        raise SystemExit(1)


def raises(error: BaseException) -> bool:
    """Raise instead of classifying."""
    raise SystemExit(4)


@pytest.mark.parametrize(
    ("error", "policy"),
    [
        (BadCauseError(), RetryPolicy()),
        (BadGroup("g", [ValueError()]), RetryPolicy()),
        (BadMessageError(), RetryPolicy()),
        (BadHeadersError(), RetryPolicy()),
        (TimeoutError(), RetryPolicy(transient=raises)),
    ],
)
def test_error_that_raises_when_it_is_read_fails_its_worker_alone(
    run: Any, error: Exception, policy: RetryPolicy
) -> None:
    async def main() -> list[str]:
        specs = [worker("a", raiser, error, retry=policy), worker("b", sleeper, 1.0), worker("c", sleeper, 1.0)]
        return [outcome.state.value for outcome in await Run(specs, concurrency=1).gather()]

    assert run(main) == ["failed", "succeeded", "succeeded"]


@pytest.mark.usefixtures("raising_log")
def test_log_handler_that_raises_stops_no_retry(run: Any) -> None:
    async def main() -> list[str]:
        specs = [worker("a", Flaky(TimeoutError())), worker("b", raiser, ValueError())]
        return [outcome.state.value for outcome in await Run(specs).gather()]

    assert run(main) == ["succeeded", "failed"]


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError(), GeneratorExit(), KeyError()])
def test_log_handler_that_raises_anything_loses_no_worker(run: Any, error: BaseException) -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise error

    async def main() -> list[str]:
        specs = [worker("a", Flaky(TimeoutError())), worker("b", raiser, ValueError()), worker("c", stubborn)]
        batch = Run(specs, grace=1.0)
        later(2.0, lambda: batch.cancel("c"))
        return [outcome.state.value for outcome in await batch.gather()]

    logger, handler = logging.getLogger("asyncwatch"), Handler()
    logger.addHandler(handler)
    try:
        assert run(main) == ["succeeded", "failed", "unresponsive"]
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError(), GeneratorExit(), KeyError()])
def test_item_that_raises_anything_fails_its_worker_alone(run: Any, error: BaseException) -> None:
    class Items(list[int]):
        def __getitem__(self, place: Any) -> Any:
            if place == 1:
                raise error
            return place

        def __iter__(self) -> Iterator[int]:
            return (self[place] for place in range(len(self)))

    async def main() -> list[str]:
        specs = WorkerSpecs(worker("t", sleeper, 1.0), ["a", "b", "c"], Items(range(3)))
        return [outcome.state.value for outcome in await Run([specs], concurrency=1).gather()]

    assert run(main) == ["succeeded", "failed", "succeeded"]


class Opaque:
    """An awaitable that never ends and raises whenever an attribute is looked up that it has not."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        future = asyncio.get_running_loop().create_future()
        future._asyncio_future_blocking = True
        return future

    def throw(self, *_error: Any) -> Any:
        return next(self)

    def close(self) -> None:
        """End."""


def test_worker_stuck_in_an_awaitable_without_a_stack_is_abandoned(run: Any) -> None:
    async def stubborn_wait() -> None:
        await Opaque()

    async def main() -> None:
        batch = Run([worker("a", stubborn_wait)], grace=1.0)
        queue = batch.subscribe()
        later(1.0, lambda: batch.cancel("a"))
        await batch.gather()
        (event,) = [event for event in drain(queue) if isinstance(event, WorkerUnresponsive)]
        assert event.stack.endswith(".stubborn_wait")

    run(main)


def test_late_end_of_an_older_incarnation_is_not_the_outcome_of_the_current_one(run: Any) -> None:
    async def main() -> None:
        specs = [worker("a", stubborn, 10.0), worker("other", sleeper, 30.0)]
        batch = Run(specs, grace=1.0)
        queue = batch.subscribe()
        loop = asyncio.get_running_loop()
        loop.call_later(1.0, batch.cancel, "a")
        loop.call_later(5.0, batch.restart, "a")
        loop.call_later(6.0, batch.cancel, "a")
        await batch.gather()
        events = drain(queue)
        ends = [
            (round(event.at), event.incarnation)
            for event in events
            if isinstance(event, WorkerCancelled | WorkerUnresponsive)
        ]
        assert ends == [(2, 1), (7, 2), (10, 1), (15, 2)]
        assert batch.outcomes()[0].incarnation == 2
        assert batch.statistics().detached == 0

    run(main)


def test_restart_of_a_worker_that_swallows_its_cancellation_is_refused(run: Any) -> None:
    async def main() -> None:
        batch = Run([worker("a", stubborn, 10.0)], grace=1.0)
        queue = batch.subscribe()
        asyncio.get_running_loop().call_later(1.0, batch.restart, "a")
        await batch.gather()
        events = drain(queue)
        assert story(events, "a")[:4] == [
            "AttemptStarted",
            "CancelRequested",
            "CommandRefused",
            "WorkerUnresponsive",
        ]
        (refused,) = [event for event in events if isinstance(event, CommandRefused)]
        assert refused.reason == "it ignores its cancellation"

    run(main)


def test_dropped_iterator_of_as_completed_does_not_end_the_run_twice(run: Any) -> None:
    async def main() -> None:
        async with Run([worker("a", sleeper, 1.0), worker("b", sleeper, 9.0)]) as batch:
            queue = batch.subscribe()
            async with batch.as_completed() as outcomes:
                async for _ in outcomes:
                    break
        del outcomes
        gc.collect()
        await asyncio.sleep(1.0)
        events = drain(queue)
        assert [event for event in events if isinstance(event, RunFinished)] == events[-1:]

    run(main)


@pytest.mark.parametrize("timeout", ["x", float("nan"), -1.0])
def test_invalid_timeout_is_refused_before_any_worker_runs(run: Any, timeout: Any) -> None:
    called = []

    async def target() -> None:
        called.append(1)

    async def main() -> None:
        with pytest.raises((TypeError, ValueError)):
            await Run([worker("a", target)]).gather(timeout=timeout)

    run(main)
    assert not called
    with pytest.raises((TypeError, ValueError)):
        Run([], group_timeouts={"g": timeout})


def test_cancellation_of_an_attempt_that_has_just_ended_is_refused(run: Any) -> None:
    async def main() -> None:
        answers: list[bool] = []

        async def target() -> str:
            # Called when the task is done and its callback is still pending.
            asyncio.get_running_loop().call_soon(lambda: answers.append(batch.cancel("a")))
            return "done"

        batch = Run([worker("a", target), worker("b", sleeper, 1.0)])
        outcome, _ = await batch.gather()
        assert (outcome.state, outcome.result) == (WorkerState.SUCCEEDED, "done")
        assert answers == [False]

    run(main)


def test_wait_counts_a_restarted_worker_as_pending(run: Any) -> None:
    async def main() -> None:
        batch = Run([worker("a", sleeper, 3.0), worker("b", sleeper, 9.0)])
        asyncio.get_running_loop().call_later(4.0, batch.restart, "a")
        done, pending = await batch.wait(timeout=5.0)
        assert done == ()
        assert [outcome.name for outcome in pending] == ["a", "b"]

    run(main)


def test_result_whose_class_raises_is_a_result(run: Any) -> None:
    """As that of an unbound proxy."""

    class Proxy:
        @property  # type: ignore[misc]  # the subject of the test
        def __class__(self) -> Any:
            raise RuntimeError("not bound")

    async def return_proxy() -> Proxy:
        return Proxy()

    [outcome] = run(Run([worker("a", return_proxy)], seed=1).gather)
    assert outcome.state is WorkerState.SUCCEEDED
    assert type(outcome.result) is Proxy
