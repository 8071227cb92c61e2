"""Pollers: each poll is an attempt like any other, and a failed poll is no crash of the poller."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

from asyncwatch import (
    BadLuck,
    CircuitPolicy,
    PoolSpec,
    RateLimit,
    RetryPolicy,
    Supervisor,
    SupervisorSpec,
    WorkerSpec,
    parse_halt,
    ready,
)
from asyncwatch.commands import (
    CancelWorker,
    ChangeSetting,
    CloseCircuit,
    Command,
    GiveUp,
    GiveUpAll,
    IsolateCircuit,
    RestartWorker,
    RetryAllNow,
    RetryNow,
)
from asyncwatch.engine.run_control import control_of
from asyncwatch.engine.tree.errors import Ignore, Shutdown
from asyncwatch.events import (
    AttemptFailed,
    AttemptHeld,
    AttemptStarted,
    CommandRefused,
    Event,
    PollFailed,
    PollFinished,
    RestartCounted,
    RunHalted,
    WorkerCancelled,
    WorkerEnded,
    WorkerFailed,
    WorkerReady,
    WorkerRestarted,
    WorkerUnresponsive,
)
from tests.engine.fleets import drain, stubborn


def polls(
    run: Any, seconds: float, *specs: WorkerSpec | SupervisorSpec, later: Any = (), **settings: Any
) -> list[Event]:
    """Return the events of the first `seconds` of a tree, with commands sent at the given times."""

    async def main() -> list[Event]:
        supervisor = Supervisor(specs, **{"seed": 1, "max_restarts": 1000, **settings})
        queue = supervisor.subscribe()
        async with supervisor:
            for moment, command in later:
                asyncio.get_running_loop().call_later(moment, control_of(supervisor).carry_out, command)
            await asyncio.sleep(seconds)
            return drain(queue)

    events: list[Event] = run(main)
    return events


def poller(name: str = "p", target: Any = None, every: float = 1.0, **treatment: Any) -> WorkerSpec:
    """Return a poller whose target returns at once by default."""

    async def ok() -> str:
        return "ok"

    return WorkerSpec(name, target or ok, restart="permanent", every=every, **treatment)


def calls(events: list[Event]) -> list[float]:
    """Return the start times of polls in seconds, rounded to tenths."""
    return [round(event.at, 1) for event in events if isinstance(event, AttemptStarted)]


def test_poll_is_an_attempt_with_its_own_draw_and_no_restart(run: Any) -> None:
    events = polls(run, 3.5, poller())
    started = [event for event in events if isinstance(event, AttemptStarted)]
    assert calls(events) == [0.0, 1.0, 2.0, 3.0]
    assert {event.attempt for event in started} == {1}
    assert len({event.bad_luck for event in started}) == 4
    finished = [event for event in events if isinstance(event, PollFinished)]
    assert {(event.result, event.delay) for event in finished} == {("ok", 1.0)}
    assert not any(isinstance(event, RestartCounted) for event in events)


def test_pollers_keep_to_the_rate_of_the_run(run: Any) -> None:
    specs = [poller(str(number), every=0.1) for number in range(10)]
    events = polls(run, 20.0, *specs, rate=RateLimit(per_second=5))
    started = calls(events)
    assert 4.9 <= len(started) / (started[-1] - started[0]) <= 5.2


def test_poller_makes_no_poll_in_a_pause_or_with_an_isolated_circuit(run: Any) -> None:
    paused = polls(
        run, 9.5, poller(), later=[(2.5, ChangeSetting("paused", True)), (6.5, ChangeSetting("paused", False))]
    )
    assert not [at for at in calls(paused) if 2.5 <= at < 6.5]
    assert [at for at in calls(paused) if at >= 6.5]
    isolated = polls(run, 9.5, poller(key="host"), later=[(2.5, IsolateCircuit("host"))], circuit=CircuitPolicy())
    assert calls(isolated) == [0.0, 1.0, 2.0]


def test_poll_with_a_transient_error_is_retried_and_the_next_counts_from_one(run: Any) -> None:
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


def test_timeout_that_a_poll_swallowed_does_not_explain_the_cancellation_of_the_next(run: Any) -> None:
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


def test_bad_luck_is_drawn_for_each_poll(run: Any) -> None:
    policy = RetryPolicy(max_attempts=50, base=0.0, cap=0.0)
    luck = BadLuck(threshold=0.5, faults=(TimeoutError,))
    events = polls(run, 50.5, poller(bad_luck=luck, retry=policy))
    drawn = [event.bad_luck > 0.5 for event in events if isinstance(event, AttemptStarted)]
    assert 0.3 < sum(drawn) / len(drawn) < 0.7


def test_retry_now_starts_the_next_poll(run: Any) -> None:
    events = polls(run, 9.0, poller(every=100.0), later=[(5.0, RetryNow("p", 1))])
    assert calls(events) == [0.0, 5.0]


def failing(*errors: BaseException | None) -> Callable[[], Any]:
    """Return a target that raises these errors in turn, `None` meaning success, and then the last one for ever."""
    coming: Iterator[BaseException | None] = itertools.chain(errors, itertools.repeat(errors[-1]))

    async def target() -> str:
        if (error := next(coming)) is not None:
            raise error
        return "ok"

    return target


async def serve() -> NoReturn:
    """Run for ever."""
    await asyncio.Event().wait()
    raise AssertionError


def service(name: str = "service") -> WorkerSpec:
    """Return a service that runs for ever."""
    return WorkerSpec(name, serve, restart="permanent")


def of(events: list[Event], *kinds: type[Any]) -> list[Any]:
    """Return the events of these classes."""
    return [event for event in events if isinstance(event, kinds)]


def failures(events: list[Event]) -> list[tuple[float, int]]:
    """Return the time of each failed poll, and its place in the series of failures."""
    return [(round(event.at, 1), event.failures) for event in of(events, PollFailed)]


def test_failed_poll_is_reported_and_the_next_follows_after_the_period(run: Any) -> None:
    """No restart is counted, so the default restart limit of OTP is enough."""
    events = polls(run, 3.5, poller(target=failing(OSError("gone"))), service(), max_restarts=1)
    assert calls(events)[1:] == [0.0, 1.0, 2.0, 3.0]  # the first attempt is the service's
    assert failures(events) == [(0.0, 1), (1.0, 2), (2.0, 3), (3.0, 4)]
    assert {(event.error_type, event.error, event.delay) for event in of(events, PollFailed)} == {
        ("OSError", "gone", 1.0)
    }
    assert not of(events, RestartCounted, WorkerEnded, WorkerRestarted)


def test_poller_whose_first_poll_fails_is_ready_for_its_siblings(run: Any) -> None:
    async def slow() -> NoReturn:
        await asyncio.sleep(0.5)
        raise OSError("late")

    events = polls(run, 1.8, poller("a", failing(OSError())), poller("b", slow), service())
    assert [event.worker for event in of(events, WorkerReady)] == ["a", "b", "service"]
    assert failures(events) == [(0.0, 1), (0.5, 1), (1.0, 2)]


def test_successful_poll_resets_the_count_of_failures(run: Any) -> None:
    target = failing(OSError(), ValueError(), None, OSError(), None)
    events = polls(run, 5.5, poller(target=target))
    assert failures(events) == [(0.0, 1), (1.0, 2), (3.0, 1)]
    assert [round(event.at, 1) for event in of(events, PollFinished)] == [2.0, 4.0, 5.0]


def test_poll_that_exhausts_its_retries_fails(run: Any) -> None:
    policy = RetryPolicy(max_attempts=3, base=0.1, backoff="constant", cap=1.0)
    events = polls(run, 2.0, poller(target=failing(TimeoutError()), retry=policy))
    assert [event.attempt for event in of(events, AttemptStarted)] == [1, 2, 3, 1, 2, 3]
    assert failures(events) == [(0.2, 1), (1.4, 2)]
    assert {round(event.elapsed, 3) for event in of(events, PollFailed)} == {0.2}


def test_backoff_of_a_poll_starts_anew(run: Any) -> None:
    policy = RetryPolicy(max_attempts=4, base=1.0, backoff="decorrelated", cap=1000.0)
    events = polls(run, 100.0, poller(target=failing(TimeoutError()), retry=policy))
    waits = [b - a for a, b in itertools.pairwise(event.at for event in of(events, AttemptStarted))]
    assert len(waits) > 8
    assert all(wait <= 3.001 for wait in waits[::4])


@pytest.mark.parametrize("treatment", [{"attempt_timeout": 0.5}, {"deadline": 0.5}])
def test_poll_over_its_attempt_timeout_or_deadline_fails(run: Any, treatment: dict[str, Any]) -> None:
    events = polls(run, 3.8, poller(target=serve, **treatment))
    assert failures(events) == [(0.5, 1), (2.0, 2), (3.5, 3)]
    expected = "AttemptTimeout" if "attempt_timeout" in treatment else "DeadlineExceeded"
    assert {event.error_type.rpartition(".")[2] for event in of(events, PollFailed)} == {expected}


def test_poll_whose_deadline_ends_a_backoff_or_a_hold_fails(run: Any) -> None:
    policy = RetryPolicy(max_attempts=5, base=9.0, cap=9.0, backoff="constant")
    events = polls(run, 2.5, poller(target=failing(TimeoutError()), retry=policy, deadline=5.0))
    assert failures(events) == [(0.0, 1), (1.0, 2), (2.0, 3)]
    policy = RetryPolicy(max_attempts=5, base=0.5, backoff="constant")
    isolate = [(1.2, IsolateCircuit("host"))]
    spec = poller(target=failing(None, TimeoutError()), retry=policy, deadline=3.0, key="host")
    events = polls(run, 9.0, spec, later=isolate, circuit=CircuitPolicy())
    assert failures(events) == [(4.0, 1)]
    assert not of(events, WorkerEnded, RestartCounted)


def test_injected_fault_fails_its_poll_alone(run: Any) -> None:
    luck = BadLuck(threshold=0.5)
    events = polls(run, 40.5, poller(bad_luck=luck), max_restarts=0)
    failed, finished = of(events, PollFailed), of(events, PollFinished)
    assert len(failed) + len(finished) == 41
    assert 10 < len(failed) < 31
    assert not of(events, RestartCounted)


@pytest.mark.parametrize(
    "error", [ValueError("v"), asyncio.CancelledError(), Ignore(), ExceptionGroup("g", [OSError()])]
)
def test_poll_with_any_error_fails(run: Any, error: BaseException) -> None:
    """A stray cancellation too, and `Ignore` once the poller is ready."""
    events = polls(run, 1.5, poller(target=failing(None, error)), max_restarts=0)
    assert failures(events) == [(1.0, 1)]
    assert not of(events, WorkerEnded)


def test_poll_whose_retry_policy_raises_fails(run: Any) -> None:
    class Odd(RetryPolicy, frozen=True):
        def delay(self, retry: int, jitter: float, previous: float | None = None) -> float:
            raise LookupError("no such backoff")

    events = polls(run, 1.5, poller(target=failing(TimeoutError()), retry=Odd(max_attempts=3)), max_restarts=0)
    assert [event.error_type for event in of(events, PollFailed)] == ["LookupError", "LookupError"]
    assert not of(events, WorkerEnded)


def test_poll_that_raises_system_exit_crashes_the_poller(run: Any) -> None:
    events = polls(run, 1.5, poller(target=failing(None, SystemExit(3), None)))
    assert not failures(events)
    assert [event.error_type for event in of(events, WorkerFailed)] == ["SystemExit"]
    assert len(of(events, RestartCounted)) == 1


def test_poll_that_ignores_its_cancellation_crashes_the_poller(run: Any) -> None:
    """Its task is abandoned, so the restart limit bounds their number."""
    spec = poller(target=stubborn, attempt_timeout=1.0, shutdown=1.0)
    events = polls(run, 2.5, spec)
    assert len(of(events, WorkerUnresponsive)) == len(of(events, RestartCounted)) == 1


def test_unresponsive_poll_counts_only_its_own_cancels(run: Any) -> None:
    coming: Iterator[Callable[[], Any]] = itertools.chain([serve, serve], itertools.repeat(stubborn))

    async def target() -> None:
        await next(coming)()

    events = polls(run, 6.5, poller(target=target, attempt_timeout=1.0, shutdown=1.0))
    assert failures(events) == [(1.0, 1), (3.0, 2)]
    assert [event.cancels for event in of(events, WorkerUnresponsive)] == [1]


def test_poller_ends_on_shutdown_and_on_ignore_in_its_first_poll(run: Any) -> None:
    specs = [
        WorkerSpec("s", failing(OSError(), Shutdown()), restart="transient", every=1.0),
        WorkerSpec("i", failing(Ignore()), restart="permanent", every=1.0),
        service(),
    ]
    events = polls(run, 5.0, *specs)
    assert {event.worker: round(event.at, 1) for event in of(events, WorkerCancelled)} == {"s": 1.0, "i": 0.0}
    assert failures(events) == [(0.0, 1)]
    assert not of(events, RestartCounted)


def test_significant_poller_with_a_failed_poll_does_not_shut_its_supervisor_down(run: Any) -> None:
    specs = [
        WorkerSpec(restart, failing(OSError()), restart=restart, every=1.0, significant=True)
        for restart in ("temporary", "transient")
    ]
    tree = SupervisorSpec("feeds", (*specs, service()), auto_shutdown="any_significant")
    events = polls(run, 2.5, tree)
    assert [number for _, number in failures(events)] == [1, 1, 2, 2, 3, 3]
    assert not of(events, WorkerEnded)


def test_pool_keeps_a_poller_whose_first_poll_fails(run: Any) -> None:
    async def main() -> tuple[list[str], list[Event]]:
        template = WorkerSpec("p", failing(OSError()), restart="permanent", every=1.0)
        async with Supervisor([PoolSpec("pool", template)], max_restarts=0) as supervisor:
            queue = supervisor.subscribe()
            for key in "ab":
                await supervisor.start_child(key, under="pool")
            await asyncio.sleep(1.5)
            return [child.status.value for child in supervisor.which_children(under="pool")], drain(queue)

    statuses, events = run(main)
    assert statuses == ["running", "running"]
    assert [number for _, number in failures(events)] == [1, 1, 2, 2]


def test_poller_that_announces_ready_is_awaited_over_failed_polls(run: Any) -> None:
    """The supervisor handles requests meanwhile."""
    errors: list[BaseException | None] = [OSError(), OSError()]

    async def target() -> None:
        if errors and (error := errors.pop(0)) is not None:
            raise error
        await ready()

    spec = poller(target=target, announces_ready=True)

    events = polls(run, 2.5, spec, service(), max_restarts=0)
    assert [(event.worker, round(event.at, 1)) for event in of(events, WorkerReady)] == [("p", 2.0), ("service", 2.0)]
    assert failures(events) == [(0.0, 1), (1.0, 2)]


def test_batch_beside_a_tree_is_not_halted_by_failed_polls(run: Any) -> None:
    batch = [WorkerSpec(str(number), failing(OSError()) if number == 1 else serve) for number in range(4)]
    settings = {"batch": batch, "halt": parse_halt("2"), "concurrency": 4}
    events = polls(run, 3.5, poller(target=failing(OSError())), **settings)
    assert not of(events, RunHalted)
    assert len(failures(events)) == 4


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (RetryNow("p", 1), [0.0, 5.0, 105.0]),
        (RestartWorker("p", 1), [0.0, 5.0, 105.0]),
        (CancelWorker("p", 1), [0.0]),
        (GiveUp("p", 1), [0.0, 100.0, 200.0]),
        (GiveUpAll(), [0.0, 100.0, 200.0]),
    ],
)
@pytest.mark.parametrize("error", [None, OSError()])
def test_poller_between_polls_can_be_retried_restarted_and_cancelled_but_not_given_up(
    run: Any, command: Command, expected: list[float], error: BaseException | None
) -> None:
    events = polls(run, 200.5, poller(target=failing(error), every=100.0), later=[(5.0, command)])
    assert calls(events) == expected
    assert len(of(events, WorkerRestarted)) == isinstance(command, RestartWorker)
    assert len(of(events, CommandRefused)) == isinstance(command, GiveUp | GiveUpAll)
    if isinstance(command, RestartWorker) and error is not None:
        assert failures(events) == [(0.0, 1), (5.0, 1), (105.0, 2)]


PARKED: dict[str, tuple[dict[str, Any], Command, Command]] = {
    "paused": ({}, ChangeSetting("paused", True), ChangeSetting("paused", False)),
    "circuit": ({"circuit": CircuitPolicy()}, IsolateCircuit("host"), CloseCircuit("host")),
    "rate": ({}, ChangeSetting("rate", "1/h", "host"), ChangeSetting("rate", None, "host")),
    "rate of the run": ({}, ChangeSetting("rate", "1/h"), ChangeSetting("rate", None)),
}
"""The settings of a run, and commands that hold back attempts and release them."""


@pytest.mark.parametrize("parked_by", PARKED)
@pytest.mark.parametrize("command", [GiveUp("p", 1), GiveUpAll()])
def test_poller_whose_next_poll_is_held_back_goes_on_when_all_are_given_up(
    run: Any, parked_by: str, command: Command
) -> None:
    settings, hold, release = PARKED[parked_by]
    later = [(5.0, hold), (25.0, command), (30.0, release)]
    events = polls(run, 45.5, poller(key="host", every=10.0), later=later, **settings)
    held_at = 20.0 if "rate" in parked_by else 10.0  # a limit lets its first attempt pass
    assert calls(events) == [*range(0, int(held_at), 10), 30.0, 40.0]
    assert [event.at for event in of(events, AttemptHeld)] == [held_at]
    assert [event.reason for event in of(events, CommandRefused)] == [
        "no worker is waiting for another attempt"
        if isinstance(command, GiveUpAll)
        else "it waits for its next poll: there is no attempt to give up"
    ]
    assert not of(events, WorkerCancelled)


def test_poller_whose_first_poll_is_held_back_goes_on_when_all_are_given_up(run: Any) -> None:
    async def main() -> list[Event]:
        async with Supervisor([], circuit=CircuitPolicy()) as supervisor:
            queue, carry_out = supervisor.subscribe(), control_of(supervisor).carry_out
            carry_out(IsolateCircuit("host"))
            starting = asyncio.create_task(supervisor.start_child(poller(key="host", every=10.0)))
            await asyncio.sleep(1.0)
            assert not carry_out(GiveUp("p", 1))
            assert not carry_out(GiveUpAll())
            carry_out(CloseCircuit("host"))
            await starting
            await asyncio.sleep(10.5)
            return drain(queue)

    events = run(main)
    assert calls(events) == [1.0, 11.0]


def test_retry_of_a_poll_that_is_held_back_is_given_up_and_the_next_follows(run: Any) -> None:
    policy = RetryPolicy(max_attempts=3, base=5.0, backoff="constant", cap=5.0)
    spec = poller(target=failing(None, TimeoutError()), every=10.0, retry=policy, key="host")
    later = [(11.0, IsolateCircuit("host")), (20.0, GiveUpAll()), (25.0, CloseCircuit("host"))]
    events = polls(run, 34.5, spec, later=later, circuit=CircuitPolicy())
    assert failures(events) == [(20.0, 1)]
    assert calls(events) == [0.0, 10.0, 30.0]


def test_poll_that_a_circuit_holds_back_is_made_when_it_is_retried(run: Any) -> None:
    later = [(5.0, IsolateCircuit("host")), (11.0, RetryAllNow()), (12.0, RetryNow("p", 1))]
    events = polls(run, 25.5, poller(key="host", every=10.0), later=later, circuit=CircuitPolicy())
    assert calls(events) == [0.0, 12.0]
    assert [event.at for event in of(events, AttemptHeld)] == [10.0, 22.0]


@pytest.mark.parametrize("parked_by", [None, *PARKED])
def test_poller_stopped_between_polls_reports_its_attempts_and_seconds(run: Any, parked_by: str | None) -> None:
    settings, hold, _ = PARKED[parked_by] if parked_by else ({}, RetryNow("p", 1), None)
    later = [(5.0, hold), (25.0, CancelWorker("p", 1))]
    events = polls(run, 26.0, poller(key="host", every=10.0), later=later, **settings)
    (ended,) = of(events, WorkerCancelled)
    assert (ended.attempts, ended.elapsed) == (len(calls(events)), 25.0)
    assert ended.attempts > 0


def test_poll_given_up_in_its_backoff_fails_and_the_next_follows(run: Any) -> None:
    policy = RetryPolicy(max_attempts=3, base=50.0, backoff="constant", cap=50.0)
    spec = poller(target=failing(None, TimeoutError()), every=10.0, retry=policy)
    events = polls(run, 25.5, spec, later=[(15.0, GiveUp("p", 1))])
    assert failures(events) == [(15.0, 1)]
    assert calls(events) == [0.0, 10.0, 25.0]


def test_circuit_opens_by_failed_polls(run: Any) -> None:
    policy = CircuitPolicy(failure_ratio=0.5, min_throughput=2, open_for=10.0)
    events = polls(run, 9.0, poller(target=failing(TimeoutError()), key="host"), circuit=policy)
    assert calls(events) == [0.0, 1.0]


def test_poller_that_fails_is_stopped_between_polls_and_in_a_backoff(run: Any) -> None:
    async def main() -> list[Event]:
        policy = RetryPolicy(max_attempts=3, base=50.0, backoff="constant", cap=50.0)
        specs = [poller("a", failing(OSError())), poller("b", failing(None, TimeoutError()), retry=policy)]
        supervisor = Supervisor(specs)
        queue = supervisor.subscribe()
        async with supervisor:
            await asyncio.sleep(2.5)
        return drain(queue)

    events = run(main)
    assert [event.worker for event in of(events, WorkerCancelled)] == ["b", "a"]


def test_first_failed_poll_and_the_next_success_are_logged_once_each(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asyncwatch")
    policy = RetryPolicy(max_attempts=2, base=0.0, cap=0.0)
    target = failing(*[OSError("gone")] * 3, TimeoutError(), TimeoutError(), None)
    polls(run, 9.5, poller(target=target, retry=policy))
    logged = [(record.levelname, record.getMessage().partition(" at ")[0]) for record in caplog.records]
    assert logged == [
        ("WARNING", "p: a poll failed, the next one follows in 1 s: OSError: gone"),
        ("INFO", "p: a poll succeeded again, after 4 polls that failed"),
    ]
