"""Halt: how a batch stops after too many failures."""

from __future__ import annotations

import asyncio
from typing import Any

from asyncwatch import Outcome, RetryPolicy, Run, parse_halt
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import AttemptStarted, CancelRequested, Event, RetryRefused, RunHalted, WorkerCancelled
from asyncwatch.events.story import story
from tests.engine.fleets import Flaky, completed, drain, raiser, sleeper, stubborn, worker


def run_as_completed(run: Any, specs: list[Any], **settings: Any) -> tuple[list[Event], list[Outcome]]:
    """Return the events of a run by `as_completed`, and the outcomes as they came."""

    async def main() -> tuple[list[Event], list[Outcome]]:
        supervisor = Run(specs, seed=1, **settings)
        queue = supervisor.subscribe()
        outcomes = [outcome async for outcome in completed(supervisor)]
        return drain(queue), outcomes

    answer: tuple[list[Event], list[Outcome]] = run(main)
    return answer


def states(outcomes: list[Outcome]) -> dict[str, str]:
    """Return the state of each worker."""
    return {outcome.name: outcome.state.value for outcome in outcomes}


def fleet() -> list[Any]:
    """Return seven workers: two fail after 1 and 2 s, one retries, one takes long, and three are queued."""
    slow = RetryPolicy(backoff="constant", base=5.0, cap=5.0)
    return [
        worker("a", raiser, ValueError(), 1.0),
        worker("b", raiser, ConnectionError(), 2.0, retry=RetryPolicy(max_attempts=1)),
        worker("retrying", Flaky(ConnectionError()), retry=slow),
        worker("long", sleeper, 9.0),
        worker("filler", sleeper, 9.0),
        worker("queued", sleeper, 1.0),
        worker("last", sleeper, 1.0),
    ]


def test_halt_soon_finishes_running_attempts_and_starts_no_other(run: Any) -> None:
    # Three slots: "long" gets that of the worker that backs off, and "filler" that of "a".
    events, outcomes = run_as_completed(run, fleet(), halt=parse_halt("2"), concurrency=3)
    assert states(outcomes) == {
        "a": "failed",
        "b": "exhausted",
        "retrying": "exhausted",
        "long": "succeeded",
        "filler": "succeeded",
        "queued": "cancelled",
        "last": "cancelled",
    }
    (halted,) = [event for event in events if isinstance(event, RunHalted)]
    assert (halted.at, halted.failures, halted.mode, halted.stopped) == (2.0, 2, "soon", 3)
    assert {event.reason for event in events if isinstance(event, WorkerCancelled)} == {"halt"}
    assert story(events, "retrying")[-2:] == ["RetryRefused", "WorkerExhausted"]
    assert {event.reason for event in events if isinstance(event, RetryRefused)} == {"halt"}
    assert {event.at for event in events if isinstance(event, AttemptStarted) and event.at > 2.0} == set()


def test_halt_allows_another_attempt_only_after_a_restart_by_a_person(run: Any) -> None:
    async def main() -> tuple[list[Event], list[Any]]:
        specs = [worker("a", raiser, ValueError(), 1.0), worker("b", raiser, ConnectionError(), 2.0)]
        async with Run(specs, seed=1, halt=parse_halt("first")) as supervisor:
            queue = supervisor.subscribe()
            await supervisor.gather()
            supervisor.restart("b")
            await control_of(supervisor).wait_settled()
            return drain(queue), supervisor.outcomes()

    events, outcomes = run(main)
    assert story(events, "b")[:4] == ["AttemptStarted", "AttemptFailed", "RetryRefused", "WorkerExhausted"]
    assert (outcomes[1].incarnation, outcomes[1].attempts) == (2, 3)


def test_halt_now_cancels_running_workers_too(run: Any) -> None:
    events, outcomes = run_as_completed(run, fleet(), halt=parse_halt("2", "now"), concurrency=3)
    assert set(states(outcomes).values()) == {"failed", "exhausted", "cancelled"}
    assert {event.reason for event in events if isinstance(event, CancelRequested)} == {"halt"}
    assert max(event.at for event in events) == 2.0


def test_halt_happens_once_and_not_below_its_limit(run: Any) -> None:
    specs = [worker(str(n), raiser, ValueError(), n) for n in range(6)]
    events, _ = run_as_completed(run, specs, halt=parse_halt("50%"))
    assert [event.failures for event in events if isinstance(event, RunHalted)] == [3]
    events, _ = run_as_completed(run, specs, halt=parse_halt("7"))
    assert not [event for event in events if isinstance(event, RunHalted)]


def test_restart_of_a_failed_worker_takes_back_one_failure(run: Any) -> None:
    async def main() -> list[Event]:
        specs = [worker("a", raiser, ValueError(), 1.0), worker("b", sleeper, 9.0)]
        supervisor = Run(specs, seed=1, halt=parse_halt("2"))
        queue = supervisor.subscribe()
        async for outcome in completed(supervisor):
            if outcome.name == "a" and outcome.incarnation < 5:
                supervisor.restart("a")
        return drain(queue)

    assert not [event for event in run(main) if isinstance(event, RunHalted)]


def test_halt_counts_workers_that_ignore_their_timeout_and_not_those_that_ignore_a_person(run: Any) -> None:
    specs = [worker("stuck", stubborn, attempt_timeout=1.0), *[worker(str(n), sleeper, 1.0) for n in range(5)]]
    _, outcomes = run_as_completed(run, specs, halt=parse_halt("first"), concurrency=1, grace=0.5)
    assert list(states(outcomes).values()) == ["unresponsive", *["cancelled"] * 5]

    async def main() -> dict[str, str]:
        supervisor = Run(specs, seed=1, halt=parse_halt("first"), concurrency=1, grace=0.5)
        asyncio.get_running_loop().call_later(0.5, supervisor.cancel, "stuck")
        return states(await supervisor.gather())

    assert list(run(main).values()) == ["unresponsive", *["succeeded"] * 5]
