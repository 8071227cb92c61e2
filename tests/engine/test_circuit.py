"""Circuit breaker: when it opens, which attempts it lets pass, and what waiting workers do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import CircuitPolicy, RetryPolicy, Run, WorkerState
from asyncwatch.commands import CloseCircuit, Command, IsolateCircuit, ProbeCircuit
from asyncwatch.events import (
    AttemptHeld,
    CircuitEvent,
    CircuitOpened,
    CircuitProbed,
    CommandRefused,
    Event,
)
from asyncwatch.events.story import story
from tests.engine.fleets import AT_ONCE, Flaky, drain, raiser, run_batch, sleeper, starts, worker

POLICY = CircuitPolicy(min_throughput=4, window=10.0, buckets=10, open_for=5.0, probes=2)
ONE_AT_A_TIME = RetryPolicy(backoff="none", max_attempts=1)


def run_with_circuit(
    run: Any, specs: list[Any], *commands: tuple[float, Command], **settings: Any
) -> tuple[list[Event], list[Any]]:
    """Return the events and outcomes of a batch, with commands sent at the given times, under `POLICY` by default."""
    return run_batch(run, specs, *commands, **{"circuit": POLICY, **settings})


def circuits(events: list[Event]) -> list[tuple[str, float]]:
    """Return the names and times of circuit events, without the first event of each circuit."""
    known = set[str]()
    changes = []
    for event in events:
        if isinstance(event, CircuitEvent) and not isinstance(event, CircuitProbed):
            if event.key in known:
                changes.append((type(event).__name__, event.at))
            known.add(event.key)
    return changes


def test_circuit_is_reported_once_at_its_first_attempt_as_closed(run: Any) -> None:
    """A person can then isolate it."""
    specs = [worker(str(n), sleeper, 1.0, key=f"host{n % 2}") for n in range(6)]
    events, _ = run_with_circuit(run, specs)
    assert [(type(event).__name__, event.key) for event in events if isinstance(event, CircuitEvent)] == [
        ("CircuitClosed", "host0"),
        ("CircuitClosed", "host1"),
    ]


def test_workers_behind_an_open_circuit_use_no_attempt_or_slot_until_probes_close_it(run: Any) -> None:
    bad = [worker(f"bad{n}", raiser, ConnectionError(), key="host", retry=ONE_AT_A_TIME) for n in range(4)]
    good = [worker(f"good{n}", sleeper, 1.0, key="host") for n in range(6)]
    other = worker("other", sleeper, 1.0, key="elsewhere")
    events, outcomes = run_with_circuit(run, [*bad, *good, other], concurrency=1)
    assert circuits(events) == [("CircuitOpened", 0.0), ("CircuitHalfOpened", 5.0), ("CircuitClosed", 7.0)]
    (opened,) = [event for event in events if isinstance(event, CircuitOpened)]
    assert (opened.key, opened.attempts, opened.failures, opened.seconds) == ("host", 4, 4, 5.0)
    assert starts(events) == [0.0] * 5 + [5.0, 6.0, 7.0, 8.0, 9.0, 10.0]
    assert story(events, "good0") == ["AttemptHeld", "AttemptStarted", "WorkerSucceeded"]
    held = [(event.key, event.reason, event.attempt) for event in events if isinstance(event, AttemptHeld)]
    # Two start as probes, one when the circuit closes. Three more are queued then.
    assert held == [("host", "circuit", 1)] * 6 + [("", "place", 1)] * 4
    probes = [(event.under_way, event.free, event.at) for event in events if isinstance(event, CircuitProbed)]
    assert probes == [(1, 1, 5.0), (0, 1, 6.0), (1, 0, 6.0)]
    assert [outcome.attempts for outcome in outcomes] == [1] * 11


def test_failed_probe_opens_the_circuit_again(run: Any) -> None:
    flaky = Flaky(*[ConnectionError()] * 5)
    specs = [worker(str(n), flaky, key="host", retry=ONE_AT_A_TIME) for n in range(9)]
    events, outcomes = run_with_circuit(run, specs, concurrency=1)
    assert [name for name, _ in circuits(events)] == [
        "CircuitOpened",
        "CircuitHalfOpened",
        "CircuitOpened",
        "CircuitHalfOpened",
        "CircuitClosed",
    ]
    assert [outcome.is_success for outcome in outcomes] == [False] * 5 + [True] * 4


def test_permanent_errors_and_failures_of_other_keys_do_not_open_a_circuit(run: Any) -> None:
    own = [worker(str(n), raiser, ValueError(), key="host") for n in range(9)]
    spread = [worker(f"s{n}", raiser, OSError(), key=f"host{n % 3}", retry=ONE_AT_A_TIME) for n in range(9)]
    events, _ = run_with_circuit(run, [*own, *spread])
    assert not circuits(events)


def test_key_comes_from_a_function_of_the_arguments_or_from_the_target(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker whose key function raises has no key."""

    class Target:
        def key_of(self, host: str) -> str:
            return host.upper()

        async def __call__(self, host: str) -> None:
            raise ConnectionError

    def broken(host: str) -> str:
        raise KeyError(host)

    common: dict[str, Any] = {"retry": ONE_AT_A_TIME}
    specs = [worker(f"a{n}", Target(), "a", **common) for n in range(4)]
    specs += [worker(f"b{n}", Target(), "b", key=lambda host: f"own {host}", **common) for n in range(4)]
    specs += [worker(f"c{n}", Target(), "c", key=broken, **common) for n in range(4)]
    events, _ = run_with_circuit(run, specs)
    assert [event.key for event in events if isinstance(event, CircuitOpened)] == ["A", "own b"]
    assert "could not be made" in caplog.text


def test_isolated_circuit_holds_its_workers_until_it_is_probed_and_closed(run: Any) -> None:
    specs = [worker(str(n), sleeper, 1.0, key="host") for n in range(6)]
    later = [(0.5, IsolateCircuit("host")), (50.0, ProbeCircuit("host")), (50.5, CloseCircuit("host"))]
    events, _ = run_with_circuit(run, specs, *later, concurrency=1)
    assert circuits(events)[:1] == [("CircuitIsolated", 0.5)]
    assert circuits(events)[1:] == [("CircuitHalfOpened", 50.0), ("CircuitClosed", 50.5)]
    assert starts(events) == [0.0, 50.0, 51.0, 52.0, 53.0, 54.0]


def test_probe_requested_during_a_probe_does_not_hold_workers_for_ever(run: Any) -> None:
    flaky = Flaky(*[ConnectionError()] * 2)

    async def target() -> None:
        await flaky()
        await asyncio.sleep(3.0)

    specs = [worker(str(n), target, key="host") for n in range(4)]
    policy = CircuitPolicy(min_throughput=2, open_for=5.0)
    events, outcomes = run_with_circuit(run, specs, (6.0, ProbeCircuit("host")), concurrency=2, circuit=policy)
    assert circuits(events) == [("CircuitOpened", 0.0), ("CircuitHalfOpened", 5.0), ("CircuitClosed", 8.0)]
    assert all(outcome.is_success for outcome in outcomes)


def test_circuit_command_in_a_run_without_circuits_is_refused(run: Any) -> None:
    events, _ = run_with_circuit(run, [worker("a", sleeper, 1.0)], (0.5, CloseCircuit("host")), circuit=None)
    (refused,) = [event for event in events if isinstance(event, CommandRefused)]
    assert refused.reason == "host: this run has no circuits"


def test_unknown_circuit_can_be_isolated_but_not_closed_or_probed(run: Any) -> None:
    later = [(0.1, CloseCircuit("x")), (0.2, ProbeCircuit("x")), (0.3, IsolateCircuit("x")), (0.4, CloseCircuit("x"))]
    events, _ = run_with_circuit(run, [worker("a", sleeper, 1.0)], *later)
    refused = [event.reason for event in events if isinstance(event, CommandRefused)]
    assert refused == ["x: there is no such circuit"] * 2
    assert circuits(events) == [("CircuitIsolated", 0.3), ("CircuitClosed", 0.4)]


def test_worker_held_by_a_circuit_can_be_cancelled_and_restarted(run: Any) -> None:
    async def main() -> None:
        specs = [worker(str(n), sleeper, 1.0, key="host") for n in range(4)]
        batch = Run(specs, seed=1, concurrency=1, circuit=CircuitPolicy())
        queue = batch.subscribe()
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, batch.control.carry_out, IsolateCircuit("host"))
        loop.call_later(1.5, batch.restart, "1")
        loop.call_later(2.0, batch.cancel, "2")
        loop.call_later(2.5, batch.restart, "2")
        loop.call_later(3.0, batch.control.carry_out, ProbeCircuit("host"))
        outcomes = await batch.gather()
        assert [(outcome.state.value, outcome.attempts) for outcome in outcomes] == [("succeeded", 1)] * 4
        held_again = ["AttemptHeld", "WorkerRestarted", "AttemptHeld", "AttemptStarted", "WorkerSucceeded"]
        events = drain(queue)
        assert story(events, "1") == held_again
        # Once the circuit is closed, it waits for the only slot.
        assert story(events, "2") == ["AttemptHeld", "WorkerCancelled", *held_again[1:3], *held_again[2:]]

    run(main)


def test_cancelled_probe_is_replaced_by_the_next_worker(run: Any) -> None:
    async def main() -> list[str]:
        specs = [worker(str(n), sleeper, 1.0, key="host") for n in range(3)]
        batch = Run(specs, seed=1, concurrency=1, circuit=CircuitPolicy())
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, batch.control.carry_out, IsolateCircuit("host"))
        loop.call_later(5.0, batch.control.carry_out, ProbeCircuit("host"))
        loop.call_later(5.5, batch.cancel, "1")
        return [outcome.state.value for outcome in await batch.gather()]

    assert run(main) == ["succeeded", "cancelled", "succeeded"]


def test_probe_that_ends_in_a_stray_cancellation_does_not_close_the_circuit(run: Any) -> None:
    answers = iter([ConnectionError, ConnectionError, asyncio.CancelledError, ConnectionError])

    async def target() -> None:
        raise next(answers)

    specs = [worker(str(n), target, key="host", retry=ONE_AT_A_TIME) for n in range(4)]
    events, _ = run_with_circuit(run, specs, concurrency=1, circuit=CircuitPolicy(min_throughput=2, open_for=5.0))
    assert [name for name, _ in circuits(events)] == ["CircuitOpened", "CircuitHalfOpened", "CircuitOpened"]


def test_deadline_ends_the_wait_for_a_circuit(run: Any) -> None:
    flaky = Flaky(*[ConnectionError()] * 99)
    specs = [worker(str(n), flaky, key="host", retry=AT_ONCE, deadline=2.0) for n in range(4)]
    events, outcomes = run_with_circuit(run, specs)
    assert {(o.state, o.elapsed) for o in outcomes} == {(WorkerState.EXHAUSTED, 2.0)}
    assert "CircuitHalfOpened" not in {name for name, _ in circuits(events)}


def test_deadline_that_ends_an_attempt_counts_as_a_failure(run: Any) -> None:
    specs = [worker(str(n), sleeper, 1e6, key="host", deadline=2.0) for n in range(5)]
    events, _ = run_with_circuit(run, specs, concurrency=4, circuit=CircuitPolicy(min_throughput=4))
    assert circuits(events)[0] == ("CircuitOpened", 2.0)
