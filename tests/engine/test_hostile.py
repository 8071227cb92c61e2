"""Targets, errors, policies and log handlers that misbehave harm their own worker alone."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from asyncwatch import RetryPolicy, Run, WorkerState
from asyncwatch.events import CommandRefused, RunFinished, WorkerCancelled, WorkerUnresponsive
from tests.engine.fleets import Flaky, drain, raiser, sleeper, story, stubborn, worker


class BadCauseError(Exception):
    """Raises when its cause is looked at."""

    @property
    def __cause__(self) -> BaseException | None:  # type: ignore[override]  # the subject of the test
        raise SystemExit(1)


class BadGroup(ExceptionGroup[Exception]):
    """Raises when its members are looked at."""

    @property
    def exceptions(self) -> Any:
        """Raise."""
        raise SystemExit(1)


class BadStr(str):
    """Raises when it is looked at."""

    __slots__ = ()

    def isascii(self) -> bool:
        """Raise."""
        raise SystemExit(1)


class BadMessageError(Exception):
    """Has a message that raises."""

    def __str__(self) -> str:
        return BadStr("message")


class BadHeadersError(TimeoutError):
    """Raises when it is asked how long to wait."""

    @property
    def retry_after(self) -> float:
        """Raise."""
        raise SystemExit(1)


def raises(error: BaseException) -> bool:
    """Classify nothing: raise."""
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
def test_an_error_that_raises_when_looked_at_fails_its_worker_alone(
    run: Any, error: Exception, policy: RetryPolicy
) -> None:
    """With one place, the workers behind the hostile one still run, and the run ends."""

    async def main() -> list[str]:
        specs = [worker("a", raiser, error, retry=policy), worker("b", sleeper, 1.0), worker("c", sleeper, 1.0)]
        return [outcome.state.value for outcome in await Run(specs, concurrency=1).gather()]

    assert run(main) == ["failed", "succeeded", "succeeded"]


class BrokenHandler(logging.Handler):
    """Raises at every record."""

    def emit(self, record: logging.LogRecord) -> None:
        """Raise."""
        raise RuntimeError("broken handler")


@pytest.fixture
def broken_logging() -> Iterator[None]:
    """Log through a handler that raises."""
    handler = BrokenHandler()
    logging.getLogger("asyncwatch").addHandler(handler)
    yield
    logging.getLogger("asyncwatch").removeHandler(handler)


@pytest.mark.usefixtures("broken_logging")
def test_a_log_handler_that_raises_stops_nobody(run: Any) -> None:
    """Retries and failures go on although logging them raises."""

    async def main() -> list[str]:
        specs = [worker("a", Flaky(TimeoutError())), worker("b", raiser, ValueError())]
        return [outcome.state.value for outcome in await Run(specs).gather()]

    assert run(main) == ["succeeded", "failed"]


def test_the_late_end_of_an_older_incarnation_is_not_that_of_the_present_one(run: Any) -> None:
    """When both were left behind, the end of each is told as its own, and only the present one's is the outcome."""

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


def test_a_restart_that_cannot_be_is_refused_visibly(run: Any) -> None:
    """A worker that swallows the cancellation of its restart is left behind, and the restart is refused."""

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


def test_an_abandoned_iterator_does_not_end_the_run_twice(run: Any) -> None:
    """Breaking out of as_completed() and dropping the iterator later leaves one RunFinished, the last event."""

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
def test_a_timeout_that_is_none_starts_nothing(run: Any, timeout: Any) -> None:
    """A timeout that is no number of seconds is refused before any worker runs."""
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


def test_an_attempt_that_ended_in_the_same_turn_is_not_cancelled(run: Any) -> None:
    """A result that is there when the cancellation comes is a success; the cancellation is refused."""

    async def main() -> None:
        answers: list[bool] = []

        async def target() -> str:
            # Called in the turn in which the task is done and its callback has not come yet.
            asyncio.get_running_loop().call_soon(lambda: answers.append(batch.cancel("a")))
            return "done"

        batch = Run([worker("a", target), worker("b", sleeper, 1.0)])
        outcome, _ = await batch.gather()
        assert (outcome.state, outcome.result) == (WorkerState.SUCCEEDED, "done")
        assert answers == [False]

    run(main)


def test_wait_counts_a_worker_that_was_restarted_as_pending(run: Any) -> None:
    """A worker that had ended, was restarted and had not ended again at the timeout is pending."""

    async def main() -> None:
        batch = Run([worker("a", sleeper, 3.0), worker("b", sleeper, 9.0)])
        asyncio.get_running_loop().call_later(4.0, batch.restart, "a")
        waited = await batch.wait(timeout=5.0)
        assert waited.done == ()
        assert [outcome.name for outcome in waited.pending] == ["a", "b"]

    run(main)


def test_a_result_that_is_no_object_like_others_is_a_result(run: Any) -> None:
    """What raises when it is asked for its class, as an unbound proxy does, settles its worker all the same."""

    class Proxy:
        @property  # type: ignore[misc]  # the subject of the test
        def __class__(self) -> Any:
            raise RuntimeError("not bound")

    async def return_proxy() -> Proxy:
        asyncio.current_task().set_name("mine")  # type: ignore[union-attr]  # what it leaves is seen when it is done
        return Proxy()

    [outcome] = run(Run([worker("a", return_proxy)], seed=1).gather)
    assert outcome.state is WorkerState.SUCCEEDED
    assert type(outcome.result) is Proxy
