"""How failed attempts go on: the policy of their class, what the server asks for, and the deadline."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import ClassifyBy, ErrorClass, Outcome, RetryPolicy, Run, WorkerSpec, WorkerState
from asyncwatch.events import AttemptFailed, AttemptStarted, Event, RetryRefused, RetryScheduled
from asyncwatch.policies.classify import DeadlineExceeded
from tests.engine.errors import response_error
from tests.engine.fleets import AT_ONCE, Flaky, drain, raiser, sleeper, story, worker

TRANSIENT: dict[str, Any] = {"classify": lambda error: "transient"}
CONSTANT = RetryPolicy(backoff="constant", base=4.0, cap=4.0)


def tell(run: Any, *specs: WorkerSpec, **settings: Any) -> tuple[list[Event], list[Outcome]]:
    """Return the events and the outcomes of a run."""

    async def main() -> tuple[list[Event], list[Outcome]]:
        batch = Run(specs, **{"seed": 1, **settings})
        queue = batch.subscribe()
        outcomes = await batch.gather()
        return drain(queue), outcomes

    answer: tuple[list[Event], list[Outcome]] = run(main)
    return answer


def delays(events: list[Event]) -> list[float]:
    """Return the waits of all retries."""
    return [event.delay for event in events if isinstance(event, RetryScheduled)]


def test_each_class_has_its_policy(run: Any) -> None:
    """An error falls under the policy of its class, or else under the worker's own."""
    target = Flaky(response_error(429), response_error(500), response_error(504), response_error(500))
    slow = RetryPolicy(max_attempts=9, backoff="constant", base=2.0, cap=2.0)
    by_class = {ErrorClass.THROTTLED: slow, ErrorClass.SERVER: RetryPolicy(max_attempts=4, backoff="none")}
    events, (outcome,) = tell(run, worker("a", target, retry=CONSTANT, retry_by_class=by_class))
    assert [e.error_class for e in events if isinstance(e, AttemptFailed)] == ["throttled", "server", "transient"]
    assert (outcome.state, outcome.attempts) == (WorkerState.EXHAUSTED, 3)
    assert delays(events) == [2.0, 0.0]
    assert [event.max_attempts for event in events if isinstance(event, RetryScheduled)] == [9, 4]


def test_permanent_errors_need_a_policy_of_their_own(run: Any) -> None:
    """A permanent error is retried only if its class has a policy."""
    specs = worker("a", Flaky(ValueError())), worker("b", Flaky(ValueError()), retry_by_class={"permanent": AT_ONCE})
    events, outcomes = tell(run, *specs)
    assert [outcome.state.value for outcome in outcomes] == ["failed", "succeeded"]
    assert [event.transient for event in events if isinstance(event, AttemptFailed)] == [False, True]


def test_ones_own_classification(run: Any) -> None:
    """A worker's own function says of which class its errors are."""
    spec = worker("a", Flaky(KeyError()), classify=ClassifyBy({LookupError: "server"}))
    events, (outcome,) = tell(run, spec)
    assert outcome.is_success
    assert [event.error_class for event in events if isinstance(event, AttemptFailed)] == ["server"]


@pytest.mark.parametrize("worth", [True, False])
def test_yes_or_no_in_place_of_a_class(run: Any, worth: bool) -> None:
    """A policy's own `transient` has the last word on whether an error is retried."""
    policy = RetryPolicy(backoff="none", transient=lambda error: worth)
    _, outcomes = tell(run, *[worker(str(n), Flaky(e), retry=policy) for n, e in enumerate([KeyError(), OSError()])])
    assert [outcome.is_success for outcome in outcomes] == [worth, worth]


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit()])
def test_cancellations_are_beyond_every_policy(run: Any, error: BaseException) -> None:
    """No classification makes a stray CancelledError, or what is no Exception, worth a retry."""
    spec = worker("a", raiser, error, classify=lambda error: "transient", retry_by_class={"transient": AT_ONCE})
    _, (outcome,) = tell(run, spec)
    assert (outcome.state, outcome.attempts) == (WorkerState.FAILED, 1)


@pytest.mark.parametrize("answer", ["weird", None])
def test_a_class_that_does_not_exist_is_permanent(run: Any, answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What the function of a worker calls by no known name is not retried, and the log says so."""
    _, (outcome,) = tell(run, worker("a", Flaky(OSError()), classify=lambda error: answer))
    assert outcome.state is WorkerState.FAILED
    assert "could not classify" in caplog.text


@pytest.mark.parametrize(("asked", "waited"), [("7", 7.0), ("0", 0.0), ("90", 60.0)])
def test_retry_after_beats_the_backoff(run: Any, asked: str, waited: float) -> None:
    """The wait is what the server asks for, up to a minute, or none."""
    events, _ = tell(run, worker("a", Flaky(response_error(429, retry_after=asked)), retry=CONSTANT))
    assert delays(events) == [waited]
    assert [event.is_asked_for for event in events if isinstance(event, RetryScheduled)] == [True]
    assert [event.at for event in events if isinstance(event, AttemptStarted)] == [0.0, waited]


def test_decorrelated_waits_follow_from_each_other(run: Any) -> None:
    """Each wait is drawn from the one before, starting anew with the base in another incarnation."""
    policy = RetryPolicy(backoff="decorrelated", base=1.0, cap=1000.0, max_attempts=6)
    events, _ = tell(run, worker("a", raiser, OSError(), classify=lambda error: "transient", retry=policy))
    waits = delays(events)
    assert len(waits) == 5
    for previous, wait in zip([1.0, *waits], waits, strict=False):
        assert 1.0 <= wait <= 3 * previous
    assert max(waits) > 3.0


def test_no_retry_starts_after_the_deadline(run: Any) -> None:
    """If the next attempt could not start before the deadline, the worker gives up now and does not wait for it."""
    events, (outcome,) = tell(run, worker("a", raiser, OSError(), 1.0, deadline=10.0, retry=CONSTANT, **TRANSIENT))
    assert [event.at for event in events if isinstance(event, AttemptStarted)] == [0.0, 5.0]
    assert (outcome.state, outcome.attempts, outcome.elapsed) == (WorkerState.EXHAUSTED, 2, 6.0)
    assert story(events, "a")[-2:] == ["RetryRefused", "WorkerExhausted"]
    assert [event.reason for event in events if isinstance(event, RetryRefused)] == ["deadline"]
    assert isinstance(outcome.error, DeadlineExceeded)
    assert isinstance(outcome.error.__cause__, OSError)
    assert str(outcome.error) == "not done within 10 s in all, after OSError"


def test_a_running_attempt_ends_at_the_deadline(run: Any) -> None:
    """The deadline counts from the first attempt and ends a later one: its time is up, whatever it was doing."""
    slow = Flaky(ConnectionError())

    async def target() -> None:
        if not slow.calls:
            await slow()
        await asyncio.sleep(100.0)

    spec = worker("a", target, deadline=10.0, retry=CONSTANT, attempt_timeout=8.0)
    events, (outcome,) = tell(run, spec)
    assert (outcome.state, outcome.attempts, outcome.elapsed) == (WorkerState.EXHAUSTED, 2, 10.0)
    assert story(events, "a")[-2:] == ["RetryRefused", "WorkerExhausted"]
    failure = [event for event in events if isinstance(event, AttemptFailed)][-1]
    assert (failure.error_type, failure.error) == ("DeadlineExceeded", "not done within 10 s in all")
    assert isinstance(outcome.error, DeadlineExceeded)


def test_the_attempt_timeout_comes_first_if_it_is_shorter(run: Any) -> None:
    """An attempt that times out before the deadline is retried as ever."""
    spec = worker("a", sleeper, 100.0, deadline=5.0, attempt_timeout=2.0)
    events, (outcome,) = tell(run, spec)
    types = [event.error_type for event in events if isinstance(event, AttemptFailed)]
    assert types == ["AttemptTimeout", "AttemptTimeout", "DeadlineExceeded"]
    assert outcome.elapsed == 5.0


def test_the_deadline_ends_the_wait_for_a_place(run: Any) -> None:
    """A worker that stands in line for its retry when the deadline comes gives up there and then."""
    specs = worker("a", Flaky(ConnectionError()), deadline=10.0, retry=CONSTANT), worker("b", sleeper, 100.0)
    events, (first, second) = tell(run, *specs, concurrency=1)
    assert (first.state, first.elapsed, second.state.value) == (WorkerState.EXHAUSTED, 10.0, "succeeded")
    assert [event.reason for event in events if isinstance(event, RetryRefused)] == ["deadline"]


def test_bad_settings_are_refused() -> None:
    """A deadline that is not above 0 and an unknown class of errors are ValueErrors."""
    for deadline in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="deadline"):
            worker("a", sleeper, deadline=deadline)
    with pytest.raises(ValueError, match="weird"):
        worker("a", sleeper, retry_by_class={"weird": AT_ONCE})
