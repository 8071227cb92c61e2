"""Cancelling, timing out and restarting: by a person, by a runner, by whoever awaits the runner."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from asyncwatch import AttemptTimeout, RetryPolicy, Supervisor, WorkerState
from asyncwatch.commands import CancelWorker, RestartWorker, StopRun
from asyncwatch.events import CancelRequested, CommandRefused, RunFinished, WorkerCancelled, WorkerUnresponsive
from tests.supervise.fleets import Flaky, drain, raiser, sleeper, story, stubborn, worker


def later(seconds: float, *calls: Any) -> None:
    """Call each of `calls` after `seconds`."""
    for call in calls:
        asyncio.get_running_loop().call_later(seconds, call)


def states(supervisor: Supervisor) -> dict[str, str]:
    """Return the state of each worker that has settled."""
    return {outcome.name: outcome.state.value for outcome in supervisor.outcomes()}


def test_cancel_reaches_every_state(run: Any) -> None:
    """A running, a backing-off and a queued worker are all cancelled; one that has ended refuses."""

    async def main() -> None:
        patient = RetryPolicy(base=1e6, cap=1e6)
        supervisor = Supervisor(
            [
                worker("ended", sleeper, 0.0),
                worker("waits", Flaky(TimeoutError()), retry=patient),
                worker("runs", sleeper, 100.0),
                worker("queued", sleeper, 100.0),
            ],
            concurrency=1,
        )
        queue = supervisor.subscribe()
        answers: dict[str, bool] = {}

        def cancel(name: str) -> None:
            answers[name] = supervisor.cancel(name)

        for name in ("ended", "waits", "queued", "runs"):
            later(1.0, lambda name=name: cancel(name))
        await supervisor.gather()
        events = drain(queue)
        assert answers == {"ended": False, "waits": True, "runs": True, "queued": True}
        assert states(supervisor) == {
            "ended": "succeeded",
            "waits": "cancelled",
            "runs": "cancelled",
            "queued": "cancelled",
        }
        assert story(events, "runs") == ["AttemptStarted", "CancelRequested", "WorkerCancelled"]
        assert story(events, "queued") == ["WorkerCancelled"]
        assert [event.reason for event in events if isinstance(event, CommandRefused)] == ["it has ended: succeeded"]
        last = events[-1]
        assert isinstance(last, RunFinished)
        assert not last.interrupted

    run(main)


@pytest.mark.parametrize("runner", ["gather", "as_completed", "wait", "task_group"])
def test_cancelling_the_caller_cancels_all_and_is_not_swallowed(run: Any, runner: str) -> None:
    """A cancelled runner cancels its workers, waits for them, and passes the cancellation on."""
    cleaned: list[int] = []

    async def tidy(number: int) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(1)
            cleaned.append(number)

    async def main() -> None:
        supervisor = Supervisor([worker(str(n), tidy, n) for n in range(5)], concurrency=3)
        queue = supervisor.subscribe()

        async def call() -> None:
            if runner == "as_completed":
                async for _ in supervisor.as_completed():
                    pass
            else:
                await getattr(supervisor, runner)()

        task = asyncio.get_running_loop().create_task(call())
        later(2.0, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(cleaned) == [0, 1, 2]
        assert set(states(supervisor).values()) == {"cancelled"}
        events = drain(queue)
        last = events[-1]
        assert isinstance(last, RunFinished)
        assert last.interrupted
        assert last.states == {"cancelled": 5}
        assert len(asyncio.all_tasks()) == 1

    run(main)


def test_a_second_cancellation_does_not_abandon_workers(run: Any) -> None:
    """Cancelling the caller again while it waits for the workers changes nothing: it still waits."""

    async def main() -> None:
        supervisor = Supervisor([worker("a", stubborn, 3.0)], grace=10.0)
        task = asyncio.get_running_loop().create_task(supervisor.gather())
        later(1.0, task.cancel)
        later(2.0, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert states(supervisor) == {"a": "cancelled"}
        assert supervisor.outcomes()[0].elapsed == pytest.approx(3.0)

    run(main)


def test_an_error_in_the_clean_up_is_kept_and_not_retried(run: Any) -> None:
    """A worker whose clean-up raises a transient error is cancelled all the same, with that error."""

    async def untidy() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            raise TimeoutError("clean-up")

    async def main() -> None:
        supervisor = Supervisor([worker("a", untidy)])
        later(1.0, lambda: supervisor.cancel("a"))
        (outcome,) = await supervisor.gather()
        assert (outcome.state, outcome.attempts, str(outcome.error)) == (WorkerState.CANCELLED, 1, "clean-up")

    run(main)


def test_a_result_given_on_cancellation_is_kept(run: Any) -> None:
    """What a worker returns after it was asked to stop is not lost, and the worker is cancelled."""

    async def graceful() -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return "half"
        return "whole"

    async def main() -> None:
        supervisor = Supervisor([worker("a", graceful)])
        queue = supervisor.subscribe()
        later(1.0, lambda: supervisor.cancel("a"))
        (outcome,) = await supervisor.gather()
        assert (outcome.state, outcome.result) == (WorkerState.CANCELLED, "half")
        (event,) = [event for event in drain(queue) if isinstance(event, WorkerCancelled)]
        assert event.result == "half"

    run(main)


def test_who_swallows_cancellation_is_left_behind(run: Any) -> None:
    """After the grace period a worker is unresponsive, gives its place away, and cannot hold up the run."""

    async def main() -> None:
        supervisor = Supervisor([worker("a", stubborn), worker("b", sleeper, 1.0)], concurrency=1, grace=5.0)
        queue = supervisor.subscribe()
        later(1.0, lambda: supervisor.cancel("a"))
        later(2.0, lambda: supervisor.cancel("a"))
        await supervisor.gather()
        assert states(supervisor) == {"a": "unresponsive", "b": "succeeded"}
        (event,) = [event for event in drain(queue) if isinstance(event, WorkerUnresponsive)]
        assert event.cancels == 2
        assert event.at == pytest.approx(6.0)
        assert event.stack.endswith(" stubborn")
        assert supervisor.statistics().tasks == 1

    run(main)


def test_an_unresponsive_worker_that_ends_late_is_told(run: Any) -> None:
    """If it ends after all while the run is open, its state follows: cancelled by request, timed out by timeout."""

    async def main() -> None:
        specs = [worker("a", stubborn, 10.0), worker("b", stubborn, 10.0, group="g"), worker("c", sleeper, 20.0)]
        supervisor = Supervisor(specs, grace=1.0, group_timeouts={"g": 2.0})
        queue = supervisor.subscribe()
        later(1.0, lambda: supervisor.cancel("a"))
        await supervisor.gather()
        assert states(supervisor) == {"a": "cancelled", "b": "timed out", "c": "succeeded"}
        told = story(drain(queue), "a")
        assert told == ["AttemptStarted", "CancelRequested", "WorkerUnresponsive", "WorkerCancelled"]

    run(main)


def test_an_attempt_that_swallows_its_timeout_is_left_behind(run: Any) -> None:
    """An attempt timeout that is swallowed leads to unresponsive too; a late result is a success."""

    async def late() -> str:
        await stubborn(10.0)
        return "late"

    async def main() -> None:
        specs = [worker("a", late, attempt_timeout=1.0), worker("b", sleeper, 20.0)]
        supervisor = Supervisor(specs, grace=1.0)
        queue = supervisor.subscribe()
        await supervisor.gather()
        assert story(drain(queue), "a") == ["AttemptStarted", "WorkerUnresponsive", "WorkerSucceeded"]
        assert supervisor.outcomes()[0].result == "late"

    run(main)


def test_one_left_behind_by_its_timeout_fails_by_that(run: Any) -> None:
    """Whatever an attempt raises that ends at last, long after its time, it failed because that was over."""

    async def late(error: BaseException) -> None:
        await stubborn(10.0)
        raise error

    async def main() -> None:
        errors = asyncio.CancelledError(), ValueError()
        specs = [worker(str(n), late, error, attempt_timeout=1.0) for n, error in enumerate(errors)]
        supervisor = Supervisor([*specs, worker("b", sleeper, 20.0)], grace=1.0)
        for outcome, error in zip((await supervisor.gather())[:2], errors, strict=True):
            assert (outcome.state, type(outcome.error)) == (WorkerState.FAILED, AttemptTimeout)
            assert outcome.error is not None
            assert outcome.error.__cause__ is (error if isinstance(error, ValueError) else None)

    run(main)


def test_a_total_timeout_times_out_the_pending(run: Any) -> None:
    """gather() raises TimeoutError after the time; running and queued workers are timed out, the done stay done."""

    async def main() -> None:
        specs = [worker("a", sleeper, 1.0), worker("b", sleeper, 9.0), worker("c", sleeper, 9.0)]
        supervisor = Supervisor(specs, concurrency=2)
        with pytest.raises(TimeoutError, match="5 s"):
            await supervisor.gather(timeout=5.0)
        assert states(supervisor) == {"a": "succeeded", "b": "timed out", "c": "timed out"}

    run(main)


def test_a_group_has_its_own_timeout(run: Any) -> None:
    """Only the pending workers of the group are timed out, and nothing is raised for it."""

    async def main() -> None:
        specs = [worker("a", sleeper, 9.0, group="slow"), worker("b", sleeper, 9.0, group="other")]
        supervisor = Supervisor(specs, group_timeouts={"slow": 2.0})
        await supervisor.gather()
        assert states(supervisor) == {"a": "timed out", "b": "succeeded"}

    run(main)


def test_wait_ends_the_pending(run: Any) -> None:
    """wait() cancels who is pending when its condition is fulfilled and times out who is at the timeout."""

    async def main(return_when: Any, timeout: float | None) -> dict[str, str]:
        supervisor = Supervisor([worker("a", sleeper, 1.0), worker("b", sleeper, 9.0)])
        await supervisor.wait(timeout=timeout, return_when=return_when)
        return states(supervisor)

    assert run(lambda: main("FIRST_COMPLETED", None)) == {"a": "succeeded", "b": "cancelled"}
    assert run(lambda: main("ALL_COMPLETED", 2.0)) == {"a": "succeeded", "b": "timed out"}
    with pytest.raises(ValueError, match="return_when"):
        run(lambda: main("SOMETIMES", None))


def test_task_group_collects_the_clean_up_errors_too(run: Any) -> None:
    """The group holds the first failure and what the others raised while they were cancelled."""

    async def untidy() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            raise KeyError("clean-up")

    async def main() -> None:
        supervisor = Supervisor(
            [worker("a", raiser, ValueError("first"), 1.0), worker("b", untidy), worker("c", sleeper, 9)]
        )
        with pytest.raises(ExceptionGroup) as caught:
            await supervisor.task_group()
        assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]
        assert states(supervisor) == {"a": "failed", "b": "cancelled", "c": "cancelled"}

    run(main)


def test_exhaustion_does_not_end_a_task_group(run: Any) -> None:
    """An exhausted worker is an outcome, not a failure of the group."""

    async def main() -> None:
        supervisor = Supervisor([worker("a", raiser, TimeoutError()), worker("b", sleeper, 1.0)])
        await supervisor.task_group()
        assert states(supervisor) == {"a": "exhausted", "b": "succeeded"}

    run(main)


def test_leaving_as_completed_early_cancels_the_rest(run: Any) -> None:
    """Closing the iterator cancels the other workers and waits for them."""

    async def main() -> None:
        supervisor = Supervisor([worker("a", sleeper, 1.0), worker("b", sleeper, 9.0)])
        async with aclosing(supervisor.as_completed()) as outcomes:  # type: ignore[type-var]
            async for outcome in outcomes:
                assert outcome.name == "a"
                break
        assert states(supervisor) == {"a": "succeeded", "b": "cancelled"}

    run(main)


def test_restart_of_a_running_worker_cancels_it_first(run: Any) -> None:
    """The old incarnation ends as cancelled before the new one is queued; its outcome is the one that counts."""

    async def main() -> None:
        supervisor = Supervisor([worker("a", sleeper, 3.0, "x")])
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


def test_restart_while_the_runner_goes_on(run: Any) -> None:
    """A worker restarted during as_completed() yields a second outcome, of its new incarnation."""

    async def main() -> list[tuple[str, int, str]]:
        target = Flaky(ValueError("once"))
        supervisor = Supervisor([worker("a", target), worker("b", sleeper, 9.0)])
        later(1.0, lambda: supervisor.restart("a"))
        return [(outcome.name, outcome.incarnation, outcome.state.value) async for outcome in supervisor.as_completed()]

    assert run(main) == [("a", 1, "failed"), ("a", 2, "succeeded"), ("b", 1, "succeeded")]


def test_an_open_run_takes_restarts_after_its_runner(run: Any) -> None:
    """Within `async with` the run stays open: every finished state can be restarted, and RunFinished comes last."""

    async def main() -> None:
        specs = [worker("a", Flaky(ValueError())), worker("b", sleeper, 9.0), worker("c", Flaky(*[TimeoutError()] * 3))]
        async with Supervisor(specs) as supervisor:
            queue = supervisor.subscribe()
            with pytest.raises(TimeoutError):
                await supervisor.gather(timeout=1.0)
            assert states(supervisor) == {"a": "failed", "b": "timed out", "c": "exhausted"}
            assert all(supervisor.restart(name) for name in "abc")
            await supervisor.wait_settled()
            assert set(states(supervisor).values()) == {"succeeded"}
            assert not any(isinstance(event, RunFinished) for event in drain(queue))
        assert isinstance(drain(queue)[-1], RunFinished)

    run(main)


def test_stale_and_doubled_commands_are_refused(run: Any) -> None:
    """A command for an older incarnation, an unknown worker, or a restart under way is refused with a reason."""

    async def main() -> None:
        supervisor = Supervisor(
            [worker("a", stubborn, 5.0), worker("b", sleeper, 20.0), worker("q", sleeper, 1)], concurrency=2, grace=9
        )
        queue = supervisor.subscribe()

        def act() -> None:
            assert supervisor.carry_out(RestartWorker("a", 1))
            assert not supervisor.carry_out(RestartWorker("a", 1))
            assert supervisor.carry_out(RestartWorker("b", 1))
            assert not supervisor.carry_out(RestartWorker("q", 1))
            assert not supervisor.carry_out(CancelWorker("nobody", 1))

        later(1.0, act)
        later(2.0, lambda: supervisor.carry_out(CancelWorker("b", 1)))
        await supervisor.gather()
        reasons = [
            (event.command, event.worker, event.reason) for event in drain(queue) if isinstance(event, CommandRefused)
        ]
        assert reasons == [
            ("RestartWorker", "a", "it is being restarted already"),
            ("RestartWorker", "q", "it has not started yet"),
            ("CancelWorker", "nobody", "there is no such worker"),
            ("CancelWorker", "b", "that was incarnation 1, it is 2 now"),
        ]
        with pytest.raises(KeyError):
            supervisor.cancel("nobody")

    run(main)


def test_stop_wins_over_restart(run: Any) -> None:
    """A worker that is cancelled while it is being restarted stays cancelled."""

    async def main() -> None:
        supervisor = Supervisor([worker("a", stubborn, 5.0)], grace=60.0)
        later(1.0, lambda: supervisor.restart("a"))
        later(2.0, lambda: supervisor.cancel("a"))
        later(3.0, lambda: supervisor.restart("a"))
        (outcome,) = await supervisor.gather()
        assert (outcome.state, outcome.incarnation) == (WorkerState.CANCELLED, 1)

    run(main)


def test_restart_during_backoff_starts_over(run: Any) -> None:
    """A restart while backing off begins a new incarnation at once; the old retry never happens."""

    async def main() -> None:
        target = Flaky(TimeoutError())
        supervisor = Supervisor([worker("a", target, retry=RetryPolicy(base=1e6, cap=1e6))])
        later(1.0, lambda: supervisor.restart("a"))
        (outcome,) = await supervisor.gather()
        assert (outcome.incarnation, outcome.attempts, target.calls) == (2, 1, 2)

    run(main)


def test_cancel_all_leaves_the_run_open_and_stop_ends_it(run: Any) -> None:
    """After cancel_all() workers can be restarted; after StopRun they cannot, and the run was interrupted."""

    async def main() -> None:
        async with Supervisor([worker(str(n), sleeper, 5.0) for n in range(3)], concurrency=1) as supervisor:
            queue = supervisor.subscribe()
            later(1.0, supervisor.cancel_all)
            await supervisor.gather()
            assert set(states(supervisor).values()) == {"cancelled"}
            assert supervisor.restart("0")
            supervisor.carry_out(StopRun())
            await supervisor.wait_settled()
            assert not supervisor.restart("1")
        last = drain(queue)[-1]
        assert isinstance(last, RunFinished)
        assert last.interrupted

    run(main)
