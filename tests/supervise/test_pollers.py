"""A poller's calls are attempts like any others: let in, timed, retried, and drawn for one by one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any

from asyncwatch import BadLuck, CircuitPolicy, RateLimit, RetryPolicy, Supervisor, WorkerSpec
from asyncwatch.commands import ChangeSetting, IsolateCircuit, RetryNow
from asyncwatch.events import AttemptFailed, AttemptStarted, Event, PollFinished, RestartCounted
from tests.supervise.fleets import drain


def polls(run: Any, seconds: float, *specs: WorkerSpec, later: Any = (), **settings: Any) -> list[Event]:
    """Return the events of so many seconds of a tree, with commands sent at their times."""

    async def main() -> list[Event]:
        supervisor = Supervisor(specs, **{"seed": 1, "max_restarts": 1000, **settings})
        queue = supervisor.subscribe()
        async with supervisor:
            for moment, command in later:
                asyncio.get_running_loop().call_later(moment, supervisor.carry_out, command)
            await asyncio.sleep(seconds)
            return drain(queue)

    events: list[Event] = run(main)
    return events


def poller(name: str = "p", target: Any = None, every: float = 1.0, **treatment: Any) -> WorkerSpec:
    """Return a poller of a target that returns at once."""

    async def ok() -> str:
        return "ok"

    return WorkerSpec(name, target or ok, restart="permanent", every=every, **treatment)


def calls(events: list[Event]) -> list[float]:
    """Return when calls began, in whole tenths of a second."""
    return [round(event.at, 1) for event in events if isinstance(event, AttemptStarted)]


def test_each_call_is_an_attempt(run: Any) -> None:
    """Every call is announced, numbered 1, drawn for anew, and told when it is over; nothing is restarted."""
    events = polls(run, 3.5, poller())
    started = [event for event in events if isinstance(event, AttemptStarted)]
    assert calls(events) == [0.0, 1.0, 2.0, 3.0]
    assert {event.attempt for event in started} == {1}
    assert len({event.bad_luck for event in started}) == 4
    finished = [event for event in events if isinstance(event, PollFinished)]
    assert {(event.result, event.delay) for event in finished} == {("ok", 1.0)}
    assert not any(isinstance(event, RestartCounted) for event in events)


def test_calls_keep_to_the_rate(run: Any) -> None:
    """Ten pollers that would call a hundred times a second make five calls a second under such a limit."""
    specs = [poller(str(number), every=0.1) for number in range(10)]
    events = polls(run, 20.0, *specs, rate=RateLimit(per_second=5))
    started = calls(events)
    assert 4.9 <= len(started) / (started[-1] - started[0]) <= 5.2


def test_calls_stop_while_paused_or_isolated(run: Any) -> None:
    """No call begins while the run is paused, or the circuit of its key is isolated."""
    paused = polls(
        run, 9.5, poller(), later=[(2.5, ChangeSetting("paused", True)), (6.5, ChangeSetting("paused", False))]
    )
    assert not [at for at in calls(paused) if 2.5 <= at < 6.5]
    assert [at for at in calls(paused) if at >= 6.5]
    isolated = polls(run, 9.5, poller(key="host"), later=[(2.5, IsolateCircuit("host"))], circuit=CircuitPolicy())
    assert calls(isolated) == [0.0, 1.0, 2.0]


def test_a_call_is_retried_before_the_poller_is_restarted(run: Any) -> None:
    """A transient error costs an attempt of that call; the attempts of the next call count from 1 again."""
    errors = [TimeoutError(), None, TimeoutError(), TimeoutError(), None]

    async def flaky() -> str:
        if errors and (error := errors.pop(0)) is not None:
            raise error
        return "ok"

    policy = RetryPolicy(max_attempts=3, base=0.0, cap=0.0)
    events = polls(run, 3.5, poller(target=flaky, retry=policy))
    attempts = [event.attempt for event in events if isinstance(event, AttemptStarted)]
    assert attempts == [1, 2, 1, 2, 3, 1, 1]
    assert not any(isinstance(event, RestartCounted) for event in events)


def test_a_call_has_the_attempt_timeout(run: Any) -> None:
    """A call that takes too long fails, and the poller is restarted."""

    async def hang() -> None:
        await asyncio.sleep(1e6)

    events = polls(run, 2.5, poller(target=hang, attempt_timeout=1.0))
    assert len([event for event in events if isinstance(event, RestartCounted)]) == 2


def test_a_timeout_is_that_of_its_call(run: Any) -> None:
    """A call that returned after its time was over is a success; who cancels the next one is not its timeout."""
    number = itertools.count()

    async def target() -> None:
        match next(number):
            case 0:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(1e6)
            case 1:
                raise asyncio.CancelledError

    events = polls(run, 1.5, poller(target=target, attempt_timeout=0.1, retry=RetryPolicy()))
    (failure,) = [event for event in events if isinstance(event, AttemptFailed)]
    assert (failure.error_type, failure.transient) == ("CancelledError", False)


def test_luck_strikes_single_calls(run: Any) -> None:
    """With a threshold of one half some calls fail and some succeed, within one incarnation's draws."""
    policy = RetryPolicy(max_attempts=50, base=0.0, cap=0.0)
    luck = BadLuck(threshold=0.5, faults=(TimeoutError,))
    events = polls(run, 50.5, poller(bad_luck=luck, retry=policy))
    drawn = [event.bad_luck > 0.5 for event in events if isinstance(event, AttemptStarted)]
    assert 0.3 < sum(drawn) / len(drawn) < 0.7


def test_a_call_can_be_made_now(run: Any) -> None:
    """RetryNow ends the wait for the next call."""
    events = polls(run, 9.0, poller(every=100.0), later=[(5.0, RetryNow("p", 1))])
    assert calls(events) == [0.0, 5.0]
