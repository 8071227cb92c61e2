"""Services that are restarted because they give no sign of life."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time
from typing import Any

import pytest

from asyncwatch import RetryPolicy, Run, Supervisor, WorkerSpec, current_worker, ready
from asyncwatch.events import AttemptFailed, AttemptStarted, RestartScheduled, WorkerCancelled
from asyncwatch.otp import BadCombination
from tests.engine.fleets import drain


def alive() -> None:
    me = current_worker()
    assert me is not None
    me.alive()


def events_of(run: Any, target: Any, seconds: float, **treatment: Any) -> list[Any]:
    """Return the events of a service that is served for so many seconds."""

    async def main() -> list[Any]:
        spec = WorkerSpec("a", target, **{"restart": "permanent", "liveness": 10.0, **treatment})
        tree = Supervisor([spec], max_restarts=100, within=1, grace=5)
        queue = tree.subscribe()
        async with tree:
            await asyncio.sleep(seconds)
        return drain(queue)

    events: list[Any] = run(main)
    return events


def starts(events: list[Any]) -> list[float]:
    return [event.at for event in events if isinstance(event, AttemptStarted)]


def test_service_without_a_sign_of_life_is_restarted_for_that_reason(run: Any) -> None:
    async def target() -> None:
        await asyncio.sleep(10_000)

    events = events_of(run, target, 25)
    first, second, third = starts(events)
    assert 10 <= second - first <= 11
    assert 10 <= third - second <= 11
    causes = {event.cause for event in events if isinstance(event, RestartScheduled)}
    assert causes == {"LivenessTimeout: no sign of life for 10 s"}
    assert {event.error_type for event in events if isinstance(event, AttemptFailed)} == {"LivenessTimeout"}


def test_service_that_gives_signs_of_life_goes_on_until_they_end(run: Any) -> None:
    async def target() -> None:
        for _ in range(10):
            alive()
            await asyncio.sleep(9.9)
        await asyncio.sleep(10_000)

    first, second = starts(events_of(run, target, 150))
    assert 89.1 + 10 <= second - first <= 89.1 + 11


def test_time_begins_when_the_service_is_ready(run: Any) -> None:
    async def target() -> None:
        await asyncio.sleep(60)
        await ready()
        await asyncio.sleep(10_000)

    first, second = starts(events_of(run, target, 20, announces_ready=True))
    assert 70 <= second - first <= 71


def test_service_that_ignores_its_cancellation_is_abandoned_and_restarted(run: Any) -> None:
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(10_000)
            except asyncio.CancelledError:
                continue

    events = events_of(run, stubborn, 20)
    first, second = starts(events)
    assert 15 <= second - first <= 16
    causes = {event.cause for event in events if isinstance(event, RestartScheduled)}
    assert causes == {"LivenessTimeout: no sign of life for 10 s"}


def test_service_that_returns_when_it_is_cancelled_is_restarted_as_after_an_error(run: Any) -> None:
    async def polite() -> str:
        try:
            await asyncio.sleep(10_000)
        except asyncio.CancelledError:
            return "done"
        return ""

    events = events_of(run, polite, 12, restart="transient")
    assert len(starts(events)) == 2
    (failed,) = (event for event in events if isinstance(event, AttemptFailed))
    assert (failed.error_type, failed.stack) == ("LivenessTimeout", "")


def test_service_that_is_stopped_meanwhile_is_not_restarted(run: Any) -> None:
    async def slow() -> None:
        try:
            await asyncio.sleep(10_000)
        finally:
            await asyncio.sleep(4)

    events = events_of(run, slow, 12)
    assert len(starts(events)) == 1
    assert [event.elapsed for event in events if isinstance(event, WorkerCancelled)] == [
        pytest.approx(12)
    ]  # the finally was cut short


async def test_time_in_which_the_loop_stands_still_does_not_count() -> None:
    ticks = 0

    async def target() -> None:
        nonlocal ticks
        while True:
            alive()
            ticks += 1
            await asyncio.sleep(0.001)

    async with Supervisor([WorkerSpec("a", target, restart="permanent", liveness=0.1)]) as tree:
        queue = tree.subscribe()
        time.sleep(0.15)  # noqa: ASYNC251  the loop stands still for longer than the worker may be silent
        while ticks < 20:  # noqa: ASYNC110  this loop never waits
            await asyncio.sleep(0)
    assert not [event for event in drain(queue) if isinstance(event, AttemptFailed)]


def test_signs_of_life_come_from_any_thread(run: Any) -> None:
    async def target() -> None:
        for _ in range(30):
            thread = threading.Thread(target=contextvars.copy_context().run, args=(alive,))
            thread.start()
            thread.join()
            await asyncio.sleep(9)

    assert len(starts(events_of(run, target, 200))) == 1


def test_code_of_an_earlier_attempt_gives_no_sign_for_the_next_one(run: Any) -> None:
    beating: list[asyncio.Task[None]] = []

    async def target() -> None:
        if not beating:
            beating.append(asyncio.create_task(beat()))
            raise ConnectionError("try again")
        await asyncio.sleep(10_000)

    async def beat() -> None:
        for _ in range(20):
            alive()
            await asyncio.sleep(1)

    first, second, third, *_ = starts(events_of(run, target, 25, retry=RetryPolicy(max_attempts=2, base=0.0)))
    assert second - first < 1
    assert 10 <= third - second <= 11


def test_calls_of_a_poller_are_watched_one_by_one(run: Any) -> None:
    async def target() -> None:
        await asyncio.sleep(5)

    events = events_of(run, target, 100, every=20.0)
    assert len(starts(events)) == 4
    assert not [event for event in events if isinstance(event, AttemptFailed)]


@pytest.mark.parametrize("liveness", [0.0, -1.0, math.inf, "5s"])
def test_liveness_that_is_no_period_is_refused(liveness: Any) -> None:
    with pytest.raises(ValueError, match="liveness"):
        WorkerSpec("a", asyncio.sleep, (1,), restart="permanent", liveness=liveness)


def test_liveness_of_a_worker_that_is_never_restarted_is_refused() -> None:
    with pytest.raises(BadCombination, match="'a' has a liveness, but is never restarted"):
        WorkerSpec("a", asyncio.sleep, (1,), liveness=1.0)
    with pytest.raises(ValueError, match="a batch has no services"):
        Run([WorkerSpec("a", asyncio.sleep, (1,), restart="permanent", liveness=1.0)])
