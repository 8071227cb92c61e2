"""Attempts: success, retries, exhaustion, failure, bad luck, and targets that misbehave."""

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
    WorkerExhausted,
    WorkersQueued,
)
from asyncwatch.events.story import story
from tests.clock import run_jumping
from tests.engine.fleets import AT_ONCE, Flaky, completed, drain, raiser, sleeper, worker

ALWAYS = BadLuck(threshold=0.0)


def events_of(run: Any, *specs: Any, **settings: Any) -> tuple[list[Event], Run]:
    """Return all events of a run of `specs` by `gather`, and the batch."""

    async def main() -> tuple[list[Event], Run]:
        batch = Run(specs, **{"seed": 1, **settings})
        queue = batch.subscribe()
        await batch.gather()
        return drain(queue), batch

    answer: tuple[list[Event], Run] = run(main)
    return answer


def test_worker_that_succeeds_at_once_has_two_events_between_those_of_the_run(run: Any) -> None:
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


def test_events_are_numbered_without_a_gap_and_dated_in_order(run: Any) -> None:
    specs = [worker(str(n), Flaky(*[TimeoutError()] * (n % 4))) for n in range(50)]
    events, _ = events_of(run, *specs, concurrency=3)
    assert [event.seq for event in events] == list(range(len(events)))
    assert sorted(event.at for event in events) == [event.at for event in events]


@pytest.mark.parametrize(
    "error",
    [TimeoutError(), ConnectionResetError(), aiohttp.ServerDisconnectedError(), aiohttp.ServerTimeoutError()],
)
def test_transient_error_costs_one_attempt(run: Any, error: Exception) -> None:
    events, batch = events_of(run, worker("a", Flaky(error)))
    assert story(events, "a") == [
        "AttemptStarted",
        "AttemptFailed",
        "RetryScheduled",
        "AttemptStarted",
        "WorkerSucceeded",
    ]
    assert batch.outcomes()[0].attempts == 2


def test_last_attempt_with_a_transient_error_exhausts_the_worker(run: Any) -> None:
    errors = [TimeoutError("1"), TimeoutError("2"), TimeoutError("3"), TimeoutError("never")]
    target = Flaky(*errors)
    _, batch = events_of(run, worker("a", target))
    (outcome,) = batch.outcomes()
    assert (outcome.state, outcome.status, outcome.attempts) == (WorkerState.EXHAUSTED, 0, 3)
    assert outcome.error is errors[2]
    assert target.calls == 3


def test_irrecoverable_error_fails_its_worker_alone_at_the_first_attempt(run: Any) -> None:
    _, batch = events_of(run, worker("a", raiser, ValueError("no")), worker("b", sleeper, 1.0, 200))
    failed, succeeded = batch.outcomes()
    assert (failed.state, failed.status, failed.attempts) == (WorkerState.FAILED, 0, 1)
    assert (succeeded.state, succeeded.status) == (WorkerState.SUCCEEDED, 200)


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), BaseException("base"), GeneratorExit(), asyncio.CancelledError()]
)
def test_base_exception_of_a_target_fails_its_worker_alone_without_retry(error: BaseException) -> None:
    async def main() -> list[tuple[str, str, int]]:
        batch = Run([worker("a", raiser, error), worker("b", sleeper, 1.0)])
        return [(o.name, o.state.value, o.attempts) for o in await batch.gather()]

    with ThreadPoolExecutor(1) as thread:  # on the main thread a KeyboardInterrupt is Ctrl+C
        assert thread.submit(run_jumping, main).result() == [("a", "failed", 1), ("b", "succeeded", 1)]


def test_target_that_is_not_async_fails_with_a_message_that_says_so(run: Any) -> None:
    _, batch = events_of(run, worker("a", lambda: 3))
    assert "await" in str(batch.outcomes()[0].error)


def test_attempt_timeout_is_retried_and_has_its_own_error(run: Any) -> None:
    events, batch = events_of(run, worker("a", sleeper, 10.0, attempt_timeout=1.5))
    (outcome,) = batch.outcomes()
    assert (outcome.state, outcome.attempts, outcome.elapsed) == (WorkerState.EXHAUSTED, 3, 4.5)
    failures = [event for event in events if isinstance(event, AttemptFailed)]
    assert {(failure.error_type, failure.error) for failure in failures} == {
        ("AttemptTimeout", "no result within 1.5 s")
    }
    assert isinstance(outcome.error, AttemptTimeout)
    assert isinstance(outcome.error, TimeoutError)


def test_attempt_timeout_can_be_classified_apart_from_a_timeout_raised_by_the_target(run: Any) -> None:
    by_class = ClassifyBy({AttemptTimeout: "permanent"})
    specs = [
        worker("by the limit", sleeper, 10.0, attempt_timeout=1.0, classify=by_class),
        worker("by the target", raiser, TimeoutError(), attempt_timeout=1.0, classify=by_class),
    ]
    _, batch = events_of(run, *specs)
    assert [(outcome.state.value, outcome.attempts) for outcome in batch.outcomes()] == [
        ("failed", 1),
        ("exhausted", 3),
    ]


@pytest.mark.parametrize("limit", ["attempt_timeout", "deadline"])
def test_error_raised_at_the_timeout_is_the_cause_of_the_timeout_error(run: Any, limit: str) -> None:
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


def test_system_exit_raised_at_the_timeout_fails_the_worker(run: Any) -> None:
    async def leave() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            raise SystemExit(3)

    _, batch = events_of(run, worker("a", leave, attempt_timeout=1.0))
    (outcome,) = batch.outcomes()
    assert (outcome.state, type(outcome.error), outcome.attempts) == (WorkerState.FAILED, SystemExit, 1)


def test_error_raised_in_the_loop_iteration_of_the_timeout_is_the_error_of_the_attempt(run: Any) -> None:
    async def block_and_fail() -> None:
        loop: Any = asyncio.get_running_loop()
        loop._jumping.now += 2.0
        await asyncio.sleep(0)
        raise ValueError

    _, batch = events_of(run, worker("a", block_and_fail, attempt_timeout=1.0))
    (outcome,) = batch.outcomes()
    assert (outcome.state, type(outcome.error)) == (WorkerState.FAILED, ValueError)


def test_result_returned_in_spite_of_the_attempt_timeout_is_a_success(run: Any) -> None:
    async def tidy() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "partial"
        return "whole"

    _, batch = events_of(run, worker("a", tidy, attempt_timeout=1.0))
    assert batch.outcomes()[0].result == "partial"


def test_backoff_waits_the_drawn_delay_and_holds_no_slot(run: Any) -> None:
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


def test_tasks_alive_are_at_most_the_concurrency(run: Any) -> None:
    most = 0

    async def count() -> None:
        nonlocal most
        most = max(most, len(asyncio.all_tasks()) - 1)
        await asyncio.sleep(1)

    async def main() -> None:
        await Run([worker(str(n), count) for n in range(500)], concurrency=20).gather()

    run(main)
    assert most == 20


def test_bad_luck_injects_its_fault_instead_of_the_call(run: Any) -> None:
    target = Flaky()
    events, batch = events_of(run, worker("a", target, bad_luck=BadLuck(threshold=0.0, faults=(lambda: OSError("x"),))))
    assert target.calls == 0
    (failure,) = [event for event in events if isinstance(event, AttemptFailed)]
    assert (failure.injected, failure.error_type, failure.stack) == (True, "OSError", "")
    assert batch.outcomes()[0].state is WorkerState.FAILED


def test_bad_luck_and_delays_depend_on_the_seed_and_not_on_runner_or_concurrency(run: Any) -> None:
    async def drawn(runner: str, concurrency: int) -> set[tuple[object, ...]]:
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

    runs = [run(lambda: drawn("gather", 100)), run(lambda: drawn("as_completed", 1)), run(lambda: drawn("wait", 7))]
    assert runs[0] == runs[1] == runs[2]
    assert any("RuntimeError" in fact for fact in runs[0])


def test_current_worker_is_known_in_the_target_and_its_tasks(run: Any) -> None:
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


def test_bad_luck_retries_and_failures_are_logged_at_their_levels(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    unlucky = BadLuck(threshold=0.0, faults=(TimeoutError,))
    events_of(run, worker("7", sleeper, 1, bad_luck=unlucky), worker("8", raiser, KeyError("k")))
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if "asyncwatch" in record.name]
    assert lines[0][0] == "WARNING"
    assert re.fullmatch(r"7: bad luck 0\.\d\d injects a fault", lines[0][1])
    (failed,) = [text for level, text in lines if level == "ERROR"]
    assert re.fullmatch(r"8 failed: KeyError: 'k' at fleets\.py:\d+ raiser", failed)  # an injected fault has no place
    assert any(level == "WARNING" and "7: retry 1 of 2" in text for level, text in lines)
    assert any(level == "WARNING" and "7: retry 2 of 2" in text for level, text in lines)
    assert ("WARNING", "7 exhausted its 3 attempts: TimeoutError") in lines


class CountingError(TimeoutError):
    """Says how often its text was asked for."""

    times = 0

    def __str__(self) -> str:
        self.times += 1
        return f"asked {self.times} times"


@pytest.mark.parametrize("attempts", [1, 2])
def test_error_of_an_attempt_has_one_text_in_all_events_and_logs(
    run: Any, attempts: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise CountingError

    events, _ = events_of(run, worker("a", fail, retry=RetryPolicy(max_attempts=attempts)))
    errors = [event.error for event in events if isinstance(event, AttemptFailed | WorkerExhausted)]
    assert errors == ["asked 1 times"] * (attempts + 1)
    assert caplog.text.count("asked 1 times") == attempts


def test_retry_policy_that_raises_fails_the_worker_and_is_logged(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    def transient(error: BaseException) -> bool:
        raise RuntimeError("broken policy")

    spec = worker("a", raiser, TimeoutError(), retry=RetryPolicy(transient=transient))
    _, batch = events_of(run, spec)
    assert batch.outcomes()[0].state is WorkerState.FAILED
    assert "retry policy" in caplog.text


def test_workers_queued_names_workers_in_order_by_group_and_policy(run: Any) -> None:
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


def test_batch_without_workers_ends_at_once(run: Any) -> None:
    events, batch = events_of(run)
    assert [type(event).__name__ for event in events] == ["RunStarted", "RunFinished"]
    assert batch.outcomes() == []


def test_invalid_argument_is_refused_with_its_name() -> None:
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


def test_second_runner_on_a_batch_is_refused(run: Any) -> None:
    async def main() -> None:
        batch = Run([worker("a", sleeper, 0)], seed=1)
        await batch.gather()
        with pytest.raises(RuntimeError, match="runs once"):
            await batch.gather()

    run(main)


def test_max_attempts_counts_the_first_attempt(run: Any) -> None:
    target = Flaky(*[TimeoutError()] * 9)
    events_of(run, worker("a", target, retry=RetryPolicy(max_attempts=1, base=0, cap=0)))
    assert target.calls == 1
    assert AT_ONCE.max_attempts == 3


def test_added_latency_counts_against_the_attempt_timeout_and_precedes_a_fault(run: Any) -> None:
    async def main() -> list[Event]:
        slow = BadLuck(latency=(4.0, 4.0))
        struck = BadLuck(threshold=0.0, latency=(1.0, 1.0), faults=(ValueError,))
        specs = [
            worker("slow", sleeper, 1.0, bad_luck=slow, attempt_timeout=3.0),
            worker("b", sleeper, bad_luck=struck),
        ]
        batch = Run(specs, seed=1)
        queue = batch.subscribe()
        await batch.gather()
        return drain(queue)

    events = run(main)
    failures = [(e.worker, e.error_type, e.elapsed) for e in events if isinstance(e, AttemptFailed)]
    assert failures == [("b", "ValueError", 1.0), *[("slow", "AttemptTimeout", 3.0)] * 3]
    assert {e.worker: e.latency for e in events if isinstance(e, AttemptStarted)} == {"slow": 4.0, "b": 1.0}
