"""What becomes of attempts: success, retries, exhaustion, failure, luck, and what targets do that they should not."""

from __future__ import annotations

import asyncio
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest

from asyncwatch import (
    AttemptTimeout,
    BadLuck,
    ClassifyBy,
    DeadlineExceeded,
    RetryPolicy,
    Run,
    WorkerState,
    current_worker,
)
from asyncwatch.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    RetryScheduled,
    RunFinished,
    RunStarted,
    WorkersQueued,
)
from tests.clock import run_jumping
from tests.engine.fleets import AT_ONCE, Flaky, completed, drain, raiser, sleeper, story, worker

ALWAYS = BadLuck(threshold=0.0)


def events_of(run: Any, *specs: Any, **settings: Any) -> tuple[list[Event], Run]:
    """Return all events of a run of `specs`, awaited by gather, and its supervisor."""

    async def main() -> tuple[list[Event], Run]:
        batch = Run(specs, **{"seed": 1, **settings})
        queue = batch.subscribe()
        await batch.gather()
        return drain(queue), batch

    answer: tuple[list[Event], Run] = run(main)
    return answer


def test_a_success_is_four_facts_and_a_frame(run: Any) -> None:
    """A worker that succeeds at once is queued, started and succeeded, between the run's first and last event."""
    events, batch = events_of(run, worker("a", sleeper, 2.0, "done"), name="trial", concurrency=7)
    assert [type(event).__name__ for event in events] == [
        "RunStarted",
        "WorkersQueued",
        "AttemptStarted",
        "WorkerSucceeded",
        "RunFinished",
    ]
    first, last = events[0], events[-1]
    assert isinstance(first, RunStarted)
    assert (first.run, first.workers, first.runner, first.seed, first.concurrency) == ("trial", 1, "gather", 1, 7)
    assert isinstance(last, RunFinished)
    assert (last.states, last.attempts, last.elapsed, last.interrupted) == ({"succeeded": 1}, 1, 2.0, False)
    (outcome,) = batch.outcomes()
    assert (outcome.result, outcome.attempts, outcome.elapsed, outcome.is_success) == ("done", 1, 2.0, True)


def test_seq_has_no_gap_and_time_never_goes_back(run: Any) -> None:
    """Events are numbered from 0 without a gap, and dated in order."""
    specs = [worker(str(n), Flaky(*[TimeoutError()] * (n % 4))) for n in range(50)]
    events, _ = events_of(run, *specs, concurrency=3)
    assert [event.seq for event in events] == list(range(len(events)))
    assert sorted(event.at for event in events) == [event.at for event in events]


@pytest.mark.parametrize(
    "error",
    [TimeoutError(), ConnectionResetError(), aiohttp.ServerDisconnectedError(), aiohttp.ServerTimeoutError()],
)
def test_transient_errors_are_retried(run: Any, error: Exception) -> None:
    """A transient error costs an attempt; the worker succeeds with the next one."""
    events, batch = events_of(run, worker("a", Flaky(error)))
    assert story(events, "a") == [
        "AttemptStarted",
        "AttemptFailed",
        "RetryScheduled",
        "AttemptStarted",
        "WorkerSucceeded",
    ]
    assert batch.outcomes()[0].attempts == 2


def test_the_last_attempt_exhausts(run: Any) -> None:
    """Three transient errors exhaust a worker of three attempts: status 0, and the last error is kept."""
    errors = [TimeoutError("1"), TimeoutError("2"), TimeoutError("3"), TimeoutError("never")]
    target = Flaky(*errors)
    _, batch = events_of(run, worker("a", target))
    (outcome,) = batch.outcomes()
    assert (outcome.state, outcome.status, outcome.attempts) == (WorkerState.EXHAUSTED, 0, 3)
    assert outcome.error is errors[2]
    assert target.calls == 3


def test_other_errors_fail_at_once_and_harm_nobody(run: Any) -> None:
    """An irrecoverable error fails its worker at its first attempt, with status 0; the others go on."""
    _, batch = events_of(run, worker("a", raiser, ValueError("no")), worker("b", sleeper, 1.0, 200))
    failed, succeeded = batch.outcomes()
    assert (failed.state, failed.status, failed.attempts) == (WorkerState.FAILED, 0, 1)
    assert (succeeded.state, succeeded.status) == (WorkerState.SUCCEEDED, 200)


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), BaseException("base"), GeneratorExit(), asyncio.CancelledError()]
)
def test_not_even_base_exceptions_get_out(error: BaseException) -> None:
    """Whatever a target raises is its worker's failure alone, and is never retried."""

    async def main() -> list[tuple[str, str, int]]:
        batch = Run([worker("a", raiser, error), worker("b", sleeper, 1.0)])
        return [(o.name, o.state.value, o.attempts) for o in await batch.gather()]

    with ThreadPoolExecutor(1) as thread:  # as in the engine: a KeyboardInterrupt of the main thread is a person's
        assert thread.submit(run_jumping, main).result() == [("a", "failed", 1), ("b", "succeeded", 1)]


def test_a_target_that_is_not_async_fails_clearly(run: Any) -> None:
    """A plain function as the target is a failure that says so."""
    _, batch = events_of(run, worker("a", lambda: 3))
    assert "await" in str(batch.outcomes()[0].error)


def test_an_attempt_timeout_is_transient(run: Any) -> None:
    """An attempt that takes too long is cancelled, fails with an error of its own class, and is retried."""
    events, batch = events_of(run, worker("a", sleeper, 10.0, attempt_timeout=1.5))
    (outcome,) = batch.outcomes()
    assert (outcome.state, outcome.attempts, outcome.elapsed) == (WorkerState.EXHAUSTED, 3, 4.5)
    failures = [event for event in events if isinstance(event, AttemptFailed)]
    assert {(failure.error_type, failure.error) for failure in failures} == {
        ("AttemptTimeout", "no result within 1.5 s")
    }
    assert isinstance(outcome.error, AttemptTimeout)
    assert isinstance(outcome.error, TimeoutError)


def test_an_attempt_timeout_is_told_from_the_targets_own(run: Any) -> None:
    """Classified by its class, an attempt that took too long is not retried, and a time-out of the target's is."""
    by_class = ClassifyBy({AttemptTimeout: "permanent"})
    specs = [
        worker("cut off", sleeper, 10.0, attempt_timeout=1.0, classify=by_class),
        worker("its own", raiser, TimeoutError(), attempt_timeout=1.0, classify=by_class),
    ]
    _, batch = events_of(run, *specs)
    assert [(outcome.state.value, outcome.attempts) for outcome in batch.outcomes()] == [
        ("failed", 1),
        ("exhausted", 3),
    ]


@pytest.mark.parametrize("limit", ["attempt_timeout", "deadline"])
def test_an_error_that_answers_the_timeout_is_its_cause(run: Any, limit: str) -> None:
    """A target that raises something else when its time is over has failed by that; the stack shows both."""

    async def tidy() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            raise ValueError("could not tidy up")

    events, batch = events_of(run, worker("a", tidy, **{limit: 1.0}))
    (outcome,) = batch.outcomes()
    kind = AttemptTimeout if limit == "attempt_timeout" else DeadlineExceeded
    assert (outcome.state, type(outcome.error)) == (WorkerState.EXHAUSTED, kind)
    assert outcome.error is not None
    assert isinstance(outcome.error.__cause__, ValueError)
    failure = next(event for event in events if isinstance(event, AttemptFailed))
    assert failure.error_type == kind.__name__
    assert "ValueError: could not tidy up\n\nThe above exception was the direct cause" in failure.stack


def test_a_timeout_excuses_no_exit(run: Any) -> None:
    """A request to exit that answers the timeout ends the worker, as at any other time."""

    async def leave() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            raise SystemExit(3)

    _, batch = events_of(run, worker("a", leave, attempt_timeout=1.0))
    (outcome,) = batch.outcomes()
    assert (outcome.state, type(outcome.error), outcome.attempts) == (WorkerState.FAILED, SystemExit, 1)


def test_an_error_of_the_very_moment_is_no_timeout(run: Any) -> None:
    """A target that failed in the turn of the loop in which its time was over failed by its own error."""

    async def block_and_fail() -> None:
        loop: Any = asyncio.get_running_loop()
        loop._jumping.now += 2.0
        await asyncio.sleep(0)
        raise ValueError

    _, batch = events_of(run, worker("a", block_and_fail, attempt_timeout=1.0))
    (outcome,) = batch.outcomes()
    assert (outcome.state, type(outcome.error)) == (WorkerState.FAILED, ValueError)


def test_a_result_that_beats_the_attempt_timeout_is_kept(run: Any) -> None:
    """A target that returns in spite of the cancellation by its timeout has succeeded: its result is not lost."""

    async def tidy() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "partial"
        return "whole"

    _, batch = events_of(run, worker("a", tidy, attempt_timeout=1.0))
    assert batch.outcomes()[0].result == "partial"


def test_backing_off_waits_and_holds_no_place(run: Any) -> None:
    """With one place, another worker runs while the first backs off, and the delay is the policy's, from the seed."""
    policy = RetryPolicy(base=8.0, cap=8.0)
    specs = worker("a", Flaky(TimeoutError()), retry=policy), worker("b", sleeper, 0.25)
    events, _ = events_of(run, *specs, concurrency=1)
    started = [event.worker for event in events if isinstance(event, AttemptStarted)]
    assert started == ["a", "b", "a"]
    (retry,) = [event for event in events if isinstance(event, RetryScheduled)]
    assert 0.25 < retry.delay < 8.0
    assert [event for event in events if isinstance(event, AttemptStarted)][2].at == pytest.approx(
        retry.delay, abs=1e-5
    )


def test_at_most_concurrency_tasks_live(run: Any) -> None:
    """However many workers there are, no more tasks exist than there are places."""
    most = 0

    async def count() -> None:
        nonlocal most
        most = max(most, len(asyncio.all_tasks()) - 1)
        await asyncio.sleep(1)

    async def main() -> None:
        await Run([worker(str(n), count) for n in range(500)], concurrency=20).gather()

    run(main)
    assert most == 20


def test_bad_luck_strikes_instead_of_the_call(run: Any) -> None:
    """Above the threshold the target is not called; the fault is marked as injected and has no stack."""
    target = Flaky()
    events, batch = events_of(run, worker("a", target, bad_luck=BadLuck(threshold=0.0, faults=(lambda: OSError("x"),))))
    assert target.calls == 0
    (failure,) = [event for event in events if isinstance(event, AttemptFailed)]
    assert (failure.injected, failure.error_type, failure.stack) == (True, "OSError", "")
    assert batch.outcomes()[0].state is WorkerState.FAILED


def test_luck_does_not_depend_on_scheduling(run: Any) -> None:
    """One seed gives every attempt the same luck and fault, whatever the concurrency and the runner."""

    async def tell(runner: str, concurrency: int) -> set[tuple[object, ...]]:
        luck = BadLuck(threshold=0.5)
        specs = [worker(str(n), sleeper, n % 7, bad_luck=luck) for n in range(40)]
        batch = Run(specs, seed=4127, concurrency=concurrency)
        queue = batch.subscribe()
        if runner == "as_completed":
            assert len([outcome async for outcome in completed(batch)]) == 40
        else:
            await getattr(batch, runner)()
        facts = set[tuple[object, ...]]()
        for event in drain(queue):
            if isinstance(event, AttemptStarted):
                facts.add((event.worker, event.attempt, event.bad_luck))
            elif isinstance(event, AttemptFailed):
                facts.add((event.worker, event.attempt, event.error_type))
            elif isinstance(event, RetryScheduled):
                facts.add((event.worker, event.attempt, event.delay))
        return facts

    runs = [run(lambda: tell("gather", 100)), run(lambda: tell("as_completed", 1)), run(lambda: tell("wait", 7))]
    assert runs[0] == runs[1] == runs[2]
    assert any("RuntimeError" in fact for fact in runs[0])


def test_a_worker_knows_itself(run: Any) -> None:
    """Inside an attempt, in tasks and threads below it too, current_worker() tells who is running."""
    seen: list[tuple[str, int, int]] = []

    def note() -> None:
        me = current_worker()
        assert me is not None
        seen.append((me.name, me.incarnation, me.attempt))

    async def below() -> None:
        note()

    async def target() -> None:
        note()
        await asyncio.create_task(below())

    events_of(run, worker("a", target))
    assert seen == [("a", 1, 1)] * 2
    assert current_worker() is None


def test_the_scenario_is_logged(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Bad luck, retries and failures are logged at the levels and with the words that were promised."""
    caplog.set_level(logging.DEBUG)
    unlucky = BadLuck(threshold=0.0, faults=(TimeoutError,))
    events_of(run, worker("7", sleeper, 1, bad_luck=unlucky), worker("8", raiser, KeyError("k")))
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if "asyncwatch" in record.name]
    assert lines[0][0] == "WARNING"
    assert lines[0][1].startswith("Status: failed, 7, 0.")
    assert len(lines[0][1].rsplit(", ", 1)[1]) == 4
    (failed,) = [text for level, text in lines if level == "ERROR"]
    assert re.fullmatch(r"8 failed: KeyError: 'k' at fleets\.py:\d+ raiser", failed)  # where, as it is not injected
    assert any(level == "WARNING" and "7: retry 1 of 2" in text for level, text in lines)
    assert any(level == "WARNING" and "7: retry 2 of 2" in text for level, text in lines)
    assert ("WARNING", "7 exhausted its 3 attempts: TimeoutError") in lines


def test_a_policy_that_raises_is_no_retry(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """If the user's own classification raises, the worker fails and the log says why."""

    def transient(error: BaseException) -> bool:
        raise RuntimeError("broken policy")

    spec = worker("a", raiser, TimeoutError(), retry=RetryPolicy(transient=transient))
    _, batch = events_of(run, spec)
    assert batch.outcomes()[0].state is WorkerState.FAILED
    assert "retry policy" in caplog.text


def test_workers_are_announced_by_group(run: Any) -> None:
    """WorkersQueued names all workers in order, one event for each stretch of one group and policy."""
    specs = [
        worker("a", sleeper, 0, group="x"),
        worker("b", sleeper, 0, group="x"),
        worker("c", sleeper, 0, group="y", retry=RetryPolicy(max_attempts=5)),
    ]
    events, _ = events_of(run, *specs)
    queued = [event for event in events if isinstance(event, WorkersQueued)]
    assert [(event.group, event.max_attempts, event.workers) for event in queued] == [
        ("x", 3, ("a", "b")),
        ("y", 5, ("c",)),
    ]


def test_an_empty_fleet_ends_at_once(run: Any) -> None:
    """No workers is no error."""
    events, batch = events_of(run)
    assert [type(event).__name__ for event in events] == ["RunStarted", "RunFinished"]
    assert batch.outcomes() == []


def test_bad_arguments_are_refused() -> None:
    """Every setting out of its range is a ValueError that names it."""
    for settings, word in [
        ({"concurrency": 0}, "concurrency"),
        ({"grace": -1.0}, "grace"),
        ({"grace": float("nan")}, "grace"),
        ({"seed": -1}, "seed"),
    ]:
        with pytest.raises(ValueError, match=word):
            Run([], **settings)  # type: ignore[arg-type]  # mixed on purpose
    with pytest.raises(ValueError, match="two workers are named 'a'"):
        Run([worker("a", sleeper), worker("a", sleeper)])
    with pytest.raises(ValueError, match="needs a name"):
        worker("", sleeper)
    with pytest.raises(TypeError, match="cannot be called"):
        worker("a", 3)
    with pytest.raises(ValueError, match="attempt_timeout"):
        worker("a", sleeper, attempt_timeout=0)


def test_a_supervisor_makes_one_run(run: Any) -> None:
    """A second runner on the same supervisor is refused."""

    async def main() -> None:
        batch = Run([worker("a", sleeper, 0)], seed=1)
        await batch.gather()
        with pytest.raises(RuntimeError, match="runs once"):
            await batch.gather()

    run(main)


def test_retries_of_three_attempts_in_all(run: Any) -> None:
    """max_attempts counts the first attempt too."""
    target = Flaky(*[TimeoutError()] * 9)
    events_of(run, worker("a", target, retry=RetryPolicy(max_attempts=1, base=0, cap=0)))
    assert target.calls == 1
    assert AT_ONCE.max_attempts == 3
