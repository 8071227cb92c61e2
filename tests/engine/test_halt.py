"""Halting a batch after too many failures."""

from __future__ import annotations

import asyncio
from typing import Any

from asyncwatch import Outcome, RetryPolicy, Run, parse_halt
from asyncwatch.events import AttemptStarted, CancelRequested, Event, RetryRefused, RunHalted, WorkerCancelled
from tests.engine.fleets import Flaky, completed, drain, raiser, sleeper, story, stubborn, worker


def tell(run: Any, specs: list[Any], **settings: Any) -> tuple[list[Event], list[Outcome]]:
    """Return the events and the outcomes of a run."""

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
    """Return two workers that fail after 1 and 2 s, one that retries, one that takes long, and two that wait."""
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


def test_soon_finishes_what_runs(run: Any) -> None:
    """Running attempts go on to their end; what has not begun is cancelled, and no retry is made."""
    # Three places: the third is given up by the one that backs off, and taken by "long"; those of "a" by "filler".
    events, outcomes = tell(run, fleet(), halt=parse_halt("2"), concurrency=3)
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


def test_what_fails_after_a_halt_is_not_tried_again(run: Any) -> None:
    """An attempt that ran when the batch halted is its worker's last, until a person restarts the worker."""

    async def main() -> tuple[list[Event], list[Any]]:
        specs = [worker("a", raiser, ValueError(), 1.0), worker("b", raiser, ConnectionError(), 2.0)]
        async with Run(specs, seed=1, halt=parse_halt("first")) as supervisor:
            queue = supervisor.subscribe()
            await supervisor.gather()
            supervisor.restart("b")
            await supervisor.control.wait_settled()
            return drain(queue), supervisor.outcomes()

    events, outcomes = run(main)
    assert story(events, "b")[:4] == ["AttemptStarted", "AttemptFailed", "RetryRefused", "WorkerExhausted"]
    assert (outcomes[1].incarnation, outcomes[1].attempts) == (2, 3)


def test_now_cancels_everything(run: Any) -> None:
    """With `now` running workers are cancelled too, for that reason."""
    events, outcomes = tell(run, fleet(), halt=parse_halt("2", "now"), concurrency=3)
    assert set(states(outcomes).values()) == {"failed", "exhausted", "cancelled"}
    assert {event.reason for event in events if isinstance(event, CancelRequested)} == {"halt"}
    assert max(event.at for event in events) == 2.0


def test_one_halt_is_enough(run: Any) -> None:
    """Failures after the halt do not halt again; fewer than the limit do not halt at all."""
    specs = [worker(str(n), raiser, ValueError(), n) for n in range(6)]
    events, _ = tell(run, specs, halt=parse_halt("50%"))
    assert [event.failures for event in events if isinstance(event, RunHalted)] == [3]
    events, _ = tell(run, specs, halt=parse_halt("7"))
    assert not [event for event in events if isinstance(event, RunHalted)]


def test_a_restart_takes_its_failure_back(run: Any) -> None:
    """A worker that was restarted counts no longer, and once at the most."""

    async def main() -> list[Event]:
        specs = [worker("a", raiser, ValueError(), 1.0), worker("b", sleeper, 9.0)]
        supervisor = Run(specs, seed=1, halt=parse_halt("2"))
        queue = supervisor.subscribe()
        async for outcome in completed(supervisor):
            if outcome.name == "a" and outcome.incarnation < 5:
                supervisor.restart("a")
        return drain(queue)

    assert not [event for event in run(main) if isinstance(event, RunHalted)]


def test_workers_that_hang_count(run: Any) -> None:
    """One that ignores the end of its time has failed; one that ignores a person has not."""
    specs = [worker("stuck", stubborn, attempt_timeout=1.0), *[worker(str(n), sleeper, 1.0) for n in range(5)]]
    _, outcomes = tell(run, specs, halt=parse_halt("first"), concurrency=1, grace=0.5)
    assert list(states(outcomes).values()) == ["unresponsive", *["cancelled"] * 5]

    async def main() -> dict[str, str]:
        supervisor = Run(specs, seed=1, halt=parse_halt("first"), concurrency=1, grace=0.5)
        asyncio.get_running_loop().call_later(0.5, supervisor.cancel, "stuck")
        return states(await supervisor.gather())

    assert list(run(main).values()) == ["unresponsive", *["succeeded"] * 5]
