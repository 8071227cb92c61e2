"""Retry decisions: the policy of the error's class, the wait that the server requests, and the deadline."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import ClassifyBy, ErrorClass, RetryPolicy, Run, WorkerState
from asyncwatch.events import AttemptFailed, Event, RetryRefused, RetryScheduled
from asyncwatch.events.story import story
from asyncwatch.policies.classify import DeadlineExceeded
from tests.engine.errors import RetryAfterError, response_error
from tests.engine.fleets import AT_ONCE, Flaky, raiser, run_batch, sleeper, starts, worker

TRANSIENT: dict[str, Any] = {"classify": lambda error: "transient"}
CONSTANT = RetryPolicy(backoff="constant", base=4.0, cap=4.0)


def delays(events: list[Event]) -> list[float]:
    """Return the delay of each retry."""
    return [event.delay for event in events if isinstance(event, RetryScheduled)]


def test_retry_uses_the_policy_of_the_error_class_or_that_of_the_worker(run: Any) -> None:
    target = Flaky(response_error(429), response_error(500), response_error(504), response_error(500))
    slow = RetryPolicy(max_attempts=9, backoff="constant", base=2.0, cap=2.0)
    by_class = {ErrorClass.THROTTLED: slow, ErrorClass.SERVER: RetryPolicy(max_attempts=4, backoff="none")}
    spec = worker("a", target, retry=CONSTANT, retry_by_class=by_class)
    events, (outcome,) = run_batch(run, [spec], throttle=None)
    assert [e.error_class for e in events if isinstance(e, AttemptFailed)] == ["throttled", "server", "transient"]
    assert (outcome.state, outcome.attempts) == (WorkerState.EXHAUSTED, 3)
    assert delays(events) == [2.0, 0.0]
    assert [event.max_attempts for event in events if isinstance(event, RetryScheduled)] == [9, 4]


def test_permanent_error_is_retried_only_if_its_class_has_a_policy(run: Any) -> None:
    specs = worker("a", Flaky(ValueError())), worker("b", Flaky(ValueError()), retry_by_class={"permanent": AT_ONCE})
    events, outcomes = run_batch(run, list(specs))
    assert [outcome.state.value for outcome in outcomes] == ["failed", "succeeded"]
    assert [event.transient for event in events if isinstance(event, AttemptFailed)] == [False, True]


def test_classify_of_the_worker_decides_the_error_class(run: Any) -> None:
    spec = worker("a", Flaky(KeyError()), classify=ClassifyBy({LookupError: "server"}))
    events, (outcome,) = run_batch(run, [spec])
    assert outcome.is_success
    assert [event.error_class for event in events if isinstance(event, AttemptFailed)] == ["server"]


@pytest.mark.parametrize("is_transient", [True, False])
def test_transient_of_the_policy_overrules_the_error_class(run: Any, is_transient: bool) -> None:
    policy = RetryPolicy(backoff="none", transient=lambda error: is_transient)
    _, outcomes = run_batch(
        run, [worker(str(n), Flaky(e), retry=policy) for n, e in enumerate([KeyError(), OSError()])]
    )
    assert [outcome.is_success for outcome in outcomes] == [is_transient, is_transient]


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit()])
def test_cancellation_or_generator_exit_is_never_retried(run: Any, error: BaseException) -> None:
    spec = worker("a", raiser, error, classify=lambda error: "transient", retry_by_class={"transient": AT_ONCE})
    _, (outcome,) = run_batch(run, [spec])
    assert (outcome.state, outcome.attempts) == (WorkerState.FAILED, 1)


@pytest.mark.parametrize("answer", ["weird", None])
def test_unknown_error_class_is_permanent_and_logged(run: Any, answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    _, (outcome,) = run_batch(run, [worker("a", Flaky(OSError()), classify=lambda error: answer)])
    assert outcome.state is WorkerState.FAILED
    assert "could not classify" in caplog.text


@pytest.mark.parametrize(("requested", "waited"), [("7", 7.0), ("0", 0.0), ("90", 60.0)])
def test_retry_after_header_replaces_the_backoff_up_to_a_minute(run: Any, requested: str, waited: float) -> None:
    spec = worker("a", Flaky(response_error(429, retry_after=requested)), retry=CONSTANT)
    events, _ = run_batch(run, [spec], throttle=None)
    assert delays(events) == [waited]
    assert [event.is_asked_for for event in events if isinstance(event, RetryScheduled)] == [True]
    assert starts(events) == [0.0, waited]


def test_decorrelated_backoff_grows_from_the_wait_before(run: Any) -> None:
    policy = RetryPolicy(backoff="decorrelated", base=1.0, cap=1000.0, max_attempts=6)
    events, _ = run_batch(run, [worker("a", raiser, OSError(), classify=lambda error: "transient", retry=policy)])
    waits = delays(events)
    assert len(waits) == 5
    for previous, wait in zip([1.0, *waits], waits, strict=False):
        assert 1.0 <= wait <= 3 * previous
    assert max(waits) > 3.0


def test_retry_that_could_not_start_before_the_deadline_is_refused_at_once(run: Any) -> None:
    events, (outcome,) = run_batch(
        run, [worker("a", raiser, OSError(), 1.0, deadline=10.0, retry=CONSTANT, **TRANSIENT)]
    )
    assert starts(events) == [0.0, 5.0]
    assert (outcome.state, outcome.attempts, outcome.elapsed) == (WorkerState.EXHAUSTED, 2, 6.0)
    assert story(events, "a")[-2:] == ["RetryRefused", "WorkerExhausted"]
    assert [event.reason for event in events if isinstance(event, RetryRefused)] == ["deadline"]
    assert isinstance(outcome.error, DeadlineExceeded)
    assert isinstance(outcome.error.__cause__, OSError)
    assert str(outcome.error) == "not done within 10 s in all, after OSError"


def test_deadline_ends_a_running_later_attempt(run: Any) -> None:
    slow = Flaky(ConnectionError())

    async def target() -> None:
        if not slow.calls:
            await slow()
        await asyncio.sleep(100.0)

    spec = worker("a", target, deadline=10.0, retry=CONSTANT, attempt_timeout=8.0)
    events, (outcome,) = run_batch(run, [spec])
    assert (outcome.state, outcome.attempts, outcome.elapsed) == (WorkerState.EXHAUSTED, 2, 10.0)
    assert story(events, "a")[-2:] == ["RetryRefused", "WorkerExhausted"]
    failure = [event for event in events if isinstance(event, AttemptFailed)][-1]
    assert (failure.error_type, failure.error) == ("DeadlineExceeded", "not done within 10 s in all")
    assert isinstance(outcome.error, DeadlineExceeded)


def test_attempt_timeout_before_the_deadline_is_retried(run: Any) -> None:
    spec = worker("a", sleeper, 100.0, deadline=5.0, attempt_timeout=2.0)
    events, (outcome,) = run_batch(run, [spec])
    types = [event.error_type for event in events if isinstance(event, AttemptFailed)]
    assert types == ["AttemptTimeout", "AttemptTimeout", "DeadlineExceeded"]
    assert outcome.elapsed == 5.0


def test_deadline_exhausts_a_worker_whose_retry_waits_for_a_slot(run: Any) -> None:
    specs = worker("a", Flaky(ConnectionError()), deadline=10.0, retry=CONSTANT), worker("b", sleeper, 100.0)
    events, (first, second) = run_batch(run, list(specs), concurrency=1)
    assert (first.state, first.elapsed, second.state.value) == (WorkerState.EXHAUSTED, 10.0, "succeeded")
    assert [event.reason for event in events if isinstance(event, RetryRefused)] == ["deadline"]


def test_invalid_deadline_or_error_class_is_refused() -> None:
    for deadline in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="deadline"):
            worker("a", sleeper, deadline=deadline)
    with pytest.raises(ValueError, match="weird"):
        worker("a", sleeper, retry_by_class={"weird": AT_ONCE})


def test_retry_after_of_an_error_replaces_the_backoff(run: Any) -> None:
    """A date in the past requests no wait."""

    async def main(**request: object) -> float:
        policy = RetryPolicy(backoff="constant", base=1.0, cap=1.0, max_attempts=4, transient=lambda _error: True)
        error = RetryAfterError(**request)
        (outcome,) = await Run([worker("a", raiser, error, retry=policy)], seed=1, throttle=None).gather()
        return outcome.elapsed

    assert run(lambda: main(retry_after=2)) == 6.0
    assert run(lambda: main(retry_after=0)) == 0.0
    assert run(lambda: main(headers={"Retry-After": "0"})) == 0.0
    assert run(lambda: main(headers={"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"})) == 0.0
    assert run(main) == 3.0
