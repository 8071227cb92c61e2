"""The circuit breaker: when it opens, whom it lets pass, and what workers do meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import CircuitPolicy, RetryPolicy, Run, WorkerState
from asyncwatch.commands import CloseCircuit, Command, IsolateCircuit, ProbeCircuit
from asyncwatch.events import (
    AttemptHeld,
    AttemptStarted,
    CircuitEvent,
    CircuitOpened,
    CircuitProbed,
    CommandRefused,
    Event,
)
from tests.engine.fleets import AT_ONCE, Flaky, drain, raiser, sleeper, story, worker

POLICY = CircuitPolicy(min_throughput=4, window=10.0, buckets=10, open_for=5.0, probes=2)
ONE_AT_A_TIME = RetryPolicy(backoff="none", max_attempts=1)


def tell(run: Any, specs: list[Any], *later: tuple[float, Command], **settings: Any) -> tuple[list[Event], list[Any]]:
    """Return the events and the outcomes of a run of workers of the key `host`, with commands sent at their times."""

    async def main() -> tuple[list[Event], list[Any]]:
        batch = Run(specs, **{"seed": 1, "circuit": POLICY, **settings})
        queue = batch.subscribe()
        for seconds, command in later:
            asyncio.get_running_loop().call_later(seconds, batch.control.carry_out, command)
        outcomes = await batch.gather()
        assert batch.statistics().held == 0
        return drain(queue), outcomes

    answer: tuple[list[Event], list[Any]] = run(main)
    return answer


def starts(events: list[Event]) -> list[float]:
    """Return when attempts started."""
    return [event.at for event in events if isinstance(event, AttemptStarted)]


def circuits(events: list[Event]) -> list[tuple[str, float]]:
    """Return what became of circuits after the first event of each, and when."""
    known = set[str]()
    changes = []
    for event in events:
        if isinstance(event, CircuitEvent) and not isinstance(event, CircuitProbed):
            if event.key in known:
                changes.append((type(event).__name__, event.at))
            known.add(event.key)
    return changes


def test_every_circuit_is_told_when_its_first_attempt_asks(run: Any) -> None:
    """A circuit that never opens is known too, so that a person can isolate it; once, and as closed."""
    specs = [worker(str(n), sleeper, 1.0, key=f"host{n % 2}") for n in range(6)]
    events, _ = tell(run, specs)
    assert [(type(event).__name__, event.key) for event in events if isinstance(event, CircuitEvent)] == [
        ("CircuitClosed", "host0"),
        ("CircuitClosed", "host1"),
    ]


def test_workers_of_an_open_circuit_wait(run: Any) -> None:
    """They use no attempt and no place, and go on when probes have closed it."""
    bad = [worker(f"bad{n}", raiser, ConnectionError(), key="host", retry=ONE_AT_A_TIME) for n in range(4)]
    good = [worker(f"good{n}", sleeper, 1.0, key="host") for n in range(6)]
    other = worker("other", sleeper, 1.0, key="elsewhere")
    events, outcomes = tell(run, [*bad, *good, other], concurrency=1)
    assert circuits(events) == [("CircuitOpened", 0.0), ("CircuitHalfOpened", 5.0), ("CircuitClosed", 7.0)]
    (opened,) = [event for event in events if isinstance(event, CircuitOpened)]
    assert (opened.key, opened.attempts, opened.failures, opened.seconds) == ("host", 4, 4, 5.0)
    assert starts(events) == [0.0] * 5 + [5.0, 6.0, 7.0, 8.0, 9.0, 10.0]
    assert story(events, "good0") == ["AttemptHeld", "AttemptStarted", "WorkerSucceeded"]
    held = [(event.key, event.reason, event.attempt) for event in events if isinstance(event, AttemptHeld)]
    # Two start when it has half opened, and one when it has closed; three more stand in line then.
    assert held == [("host", "circuit", 1)] * 6 + [("", "place", 1)] * 4
    probes = [(event.under_way, event.free, event.at) for event in events if isinstance(event, CircuitProbed)]
    assert probes == [(1, 1, 5.0), (0, 1, 6.0), (1, 0, 6.0)]
    assert [outcome.attempts for outcome in outcomes] == [1] * 11


def test_a_failed_probe_makes_them_wait_again(run: Any) -> None:
    """The circuit opens again, and the rest goes on only after the next probes."""
    flaky = Flaky(*[ConnectionError()] * 5)
    specs = [worker(str(n), flaky, key="host", retry=ONE_AT_A_TIME) for n in range(9)]
    events, outcomes = tell(run, specs, concurrency=1)
    assert [name for name, _ in circuits(events)] == [
        "CircuitOpened",
        "CircuitHalfOpened",
        "CircuitOpened",
        "CircuitHalfOpened",
        "CircuitClosed",
    ]
    assert [outcome.is_success for outcome in outcomes] == [False] * 5 + [True] * 4


def test_only_failures_of_the_server_count(run: Any) -> None:
    """Errors that are the worker's own do not open a circuit; nor does one key open another's."""
    own = [worker(str(n), raiser, ValueError(), key="host") for n in range(9)]
    spread = [worker(f"s{n}", raiser, OSError(), key=f"host{n % 3}", retry=ONE_AT_A_TIME) for n in range(9)]
    events, _ = tell(run, [*own, *spread])
    assert not circuits(events)


def test_the_key_can_be_made_of_the_arguments(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A function of the arguments, or the target's own, names the key; one that fails leaves the worker without."""

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
    events, _ = tell(run, specs)
    assert [event.key for event in events if isinstance(event, CircuitOpened)] == ["A", "own b"]
    assert "could not be made" in caplog.text


def test_by_hand(run: Any) -> None:
    """An isolated circuit holds its workers until it is probed or closed; both are events."""
    specs = [worker(str(n), sleeper, 1.0, key="host") for n in range(6)]
    later = [(0.5, IsolateCircuit("host")), (50.0, ProbeCircuit("host")), (50.5, CloseCircuit("host"))]
    events, _ = tell(run, specs, *later, concurrency=1)
    assert circuits(events)[:1] == [("CircuitIsolated", 0.5)]
    assert circuits(events)[1:] == [("CircuitHalfOpened", 50.0), ("CircuitClosed", 50.5)]
    assert starts(events) == [0.0, 50.0, 51.0, 52.0, 53.0, 54.0]


def test_a_probe_by_hand_while_one_is_under_way(run: Any) -> None:
    """Asking for probes of a half-open circuit again holds nobody for ever."""
    flaky = Flaky(*[ConnectionError()] * 2)

    async def target() -> None:
        await flaky()
        await asyncio.sleep(3.0)

    specs = [worker(str(n), target, key="host") for n in range(4)]
    policy = CircuitPolicy(min_throughput=2, open_for=5.0)
    events, outcomes = tell(run, specs, (6.0, ProbeCircuit("host")), concurrency=2, circuit=policy)
    assert circuits(events) == [("CircuitOpened", 0.0), ("CircuitHalfOpened", 5.0), ("CircuitClosed", 8.0)]
    assert all(outcome.is_success for outcome in outcomes)


def test_without_circuits_there_is_nothing_to_control(run: Any) -> None:
    """Commands about circuits are refused in a run that has none, with the key in the reason."""
    events, _ = tell(run, [worker("a", sleeper, 1.0)], (0.5, CloseCircuit("host")), circuit=None)
    (refused,) = [event for event in events if isinstance(event, CommandRefused)]
    assert refused.reason == "host: this run has no circuits"


def test_only_isolation_comes_before_the_first_attempt(run: Any) -> None:
    """To close or probe what nobody has asked for is refused, and makes no circuit; it can be isolated."""
    later = [(0.1, CloseCircuit("x")), (0.2, ProbeCircuit("x")), (0.3, IsolateCircuit("x")), (0.4, CloseCircuit("x"))]
    events, _ = tell(run, [worker("a", sleeper, 1.0)], *later)
    refused = [event.reason for event in events if isinstance(event, CommandRefused)]
    assert refused == ["x: there is no such circuit"] * 2
    assert circuits(events) == [("CircuitIsolated", 0.3), ("CircuitClosed", 0.4)]


def test_waiting_workers_can_be_stopped(run: Any) -> None:
    """A worker that waits for a circuit can be cancelled and restarted, without an attempt."""

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
        # When the circuit has closed it has to wait for the only place.
        assert story(events, "2") == ["AttemptHeld", "WorkerCancelled", *held_again[1:3], *held_again[2:]]

    run(main)


def test_a_stopped_probe_is_replaced(run: Any) -> None:
    """If the probe is cancelled before it has an answer, the next in line probes."""

    async def main() -> list[str]:
        specs = [worker(str(n), sleeper, 1.0, key="host") for n in range(3)]
        batch = Run(specs, seed=1, concurrency=1, circuit=CircuitPolicy())
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, batch.control.carry_out, IsolateCircuit("host"))
        loop.call_later(5.0, batch.control.carry_out, ProbeCircuit("host"))
        loop.call_later(5.5, batch.cancel, "1")
        return [outcome.state.value for outcome in await batch.gather()]

    assert run(main) == ["succeeded", "cancelled", "succeeded"]


def test_a_probe_that_somebody_else_cancels_says_nothing(run: Any) -> None:
    """A probe that ended in a cancellation nobody asked for closes no circuit: another decides."""
    answers = iter([ConnectionError, ConnectionError, asyncio.CancelledError, ConnectionError])

    async def target() -> None:
        raise next(answers)

    specs = [worker(str(n), target, key="host", retry=ONE_AT_A_TIME) for n in range(4)]
    events, _ = tell(run, specs, concurrency=1, circuit=CircuitPolicy(min_throughput=2, open_for=5.0))
    assert [name for name, _ in circuits(events)] == ["CircuitOpened", "CircuitHalfOpened", "CircuitOpened"]


def test_a_deadline_ends_the_wait(run: Any) -> None:
    """A worker that has begun does not wait for a circuit beyond its deadline."""
    flaky = Flaky(*[ConnectionError()] * 99)
    specs = [worker(str(n), flaky, key="host", retry=AT_ONCE, deadline=2.0) for n in range(4)]
    events, outcomes = tell(run, specs)
    assert {(o.state, o.elapsed) for o in outcomes} == {(WorkerState.EXHAUSTED, 2.0)}
    assert "CircuitHalfOpened" not in {name for name, _ in circuits(events)}


def test_a_deadline_that_cuts_an_attempt_is_a_failure(run: Any) -> None:
    """A server that never answers opens its circuit, whichever limit of time ended the attempts."""
    specs = [worker(str(n), sleeper, 1e6, key="host", deadline=2.0) for n in range(5)]
    events, _ = tell(run, specs, concurrency=4, circuit=CircuitPolicy(min_throughput=4))
    assert circuits(events)[0] == ("CircuitOpened", 2.0)
