"""Restarts of workers of a batch, in every state."""

from __future__ import annotations

from typing import Any

import pytest

from asyncwatch import RetryPolicy, Run, WorkerState
from asyncwatch.commands import CancelWorker, RestartWorker
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import CancelRequested, CommandRefused, RunFinished
from asyncwatch.events.story import story
from tests.engine.fleets import Flaky, completed, drain, later, sleeper, states, stubborn, worker


def test_restart_of_a_running_worker_cancels_it_first(run: Any) -> None:
    async def main() -> None:
        supervisor = Run([worker("a", sleeper, 3.0, "x")])
        queue = supervisor.subscribe()
        later(1.0, lambda: supervisor.restart("a"))
        (outcome,) = await supervisor.gather()
        assert (outcome.incarnation, outcome.state, outcome.elapsed) == (2, WorkerState.SUCCEEDED, 3.0)
        events = drain(queue)
        assert story(events, "a") == [
            "AttemptStarted",
            "CancelRequested",
            "WorkerCancelled",
            "WorkerRestarted",
            "AttemptStarted",
            "WorkerSucceeded",
        ]
        assert [event.reason for event in events if isinstance(event, CancelRequested)] == ["restart"]

    run(main)


def test_restart_during_as_completed_yields_a_second_outcome(run: Any) -> None:
    async def main() -> list[tuple[str, int, str]]:
        target = Flaky(ValueError("once"))
        supervisor = Run([worker("a", target), worker("b", sleeper, 9.0)])
        later(1.0, lambda: supervisor.restart("a"))
        return [(outcome.name, outcome.incarnation, outcome.state.value) async for outcome in completed(supervisor)]

    assert run(main) == [("a", 1, "failed"), ("a", 2, "succeeded"), ("b", 1, "succeeded")]


def test_open_run_allows_restarts_after_its_runner_has_ended(run: Any) -> None:
    async def main() -> None:
        specs = [worker("a", Flaky(ValueError())), worker("b", sleeper, 9.0), worker("c", Flaky(*[TimeoutError()] * 3))]
        async with Run(specs) as supervisor:
            queue = supervisor.subscribe()
            with pytest.raises(TimeoutError):
                await supervisor.gather(timeout=1.0)
            assert states(supervisor) == {"a": "failed", "b": "timed out", "c": "exhausted"}
            assert all(supervisor.restart(name) for name in "abc")
            await control_of(supervisor).wait_settled()
            assert set(states(supervisor).values()) == {"succeeded"}
            assert not any(isinstance(event, RunFinished) for event in drain(queue))
        assert isinstance(drain(queue)[-1], RunFinished)

    run(main)


def test_command_for_an_older_incarnation_unknown_worker_or_pending_restart_is_refused(run: Any) -> None:
    async def main() -> None:
        supervisor = Run(
            [worker("a", stubborn, 5.0), worker("b", sleeper, 20.0), worker("q", sleeper, 1)], concurrency=2, grace=9
        )
        queue = supervisor.subscribe()

        def act() -> None:
            assert control_of(supervisor).carry_out(RestartWorker("a", 1))
            assert not control_of(supervisor).carry_out(RestartWorker("a", 1))
            assert control_of(supervisor).carry_out(RestartWorker("b", 1))
            assert not control_of(supervisor).carry_out(RestartWorker("q", 1))
            assert not control_of(supervisor).carry_out(CancelWorker("unknown", 1))

        later(1.0, act)
        later(2.0, lambda: control_of(supervisor).carry_out(CancelWorker("b", 1)))
        await supervisor.gather()
        reasons = [
            (event.command, event.worker, event.reason) for event in drain(queue) if isinstance(event, CommandRefused)
        ]
        assert reasons == [
            ("RestartWorker", "a", "it is being restarted already"),
            ("RestartWorker", "q", "it has not started yet"),
            ("CancelWorker", "unknown", "there is no such worker"),
            ("CancelWorker", "b", "that was incarnation 1, it is 2 now"),
        ]
        with pytest.raises(KeyError):
            supervisor.cancel("unknown")

    run(main)


def test_cancel_during_a_restart_wins(run: Any) -> None:
    async def main() -> None:
        supervisor = Run([worker("a", stubborn, 5.0)], grace=60.0)
        later(1.0, lambda: supervisor.restart("a"))
        later(2.0, lambda: supervisor.cancel("a"))
        later(3.0, lambda: supervisor.restart("a"))
        (outcome,) = await supervisor.gather()
        assert (outcome.state, outcome.incarnation) == (WorkerState.CANCELLED, 1)

    run(main)


def test_restart_during_a_backoff_starts_a_new_incarnation_at_once(run: Any) -> None:
    async def main() -> None:
        target = Flaky(TimeoutError())
        supervisor = Run([worker("a", target, retry=RetryPolicy(base=1e6, cap=1e6))])
        later(1.0, lambda: supervisor.restart("a"))
        (outcome,) = await supervisor.gather()
        assert (outcome.incarnation, outcome.attempts, target.calls) == (2, 1, 2)

    run(main)
