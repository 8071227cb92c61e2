"""Circuit breaker: when it opens, which attempts it lets pass, and what waiting workers do."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from asyncwatch import CircuitPolicy, PoolSpec, RateLimit, RetryPolicy, Run, Supervisor, WorkerState
from asyncwatch.commands import CloseCircuit, Command, IsolateCircuit, ProbeCircuit
from asyncwatch.engine import admission
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import (
    AttemptHeld,
    AttemptStarted,
    CircuitClosed,
    CircuitEvent,
    CircuitOpened,
    CircuitProbed,
    CommandRefused,
    Event,
)
from asyncwatch.events.story import story
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
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
    # Two start as probes, one when the circuit closes. The others wait for its slot then.
    assert held == [("host", "circuit", 1)] * 6 + [("host", "share", 1)] * 3
    probes = [(event.under_way, event.free, event.at) for event in events if isinstance(event, CircuitProbed)]
    assert probes == [(1, 1, 5.0), (0, 1, 6.0), (1, 0, 6.0)]
    assert [outcome.attempts for outcome in outcomes] == [1] * 11


@pytest.mark.parametrize("has_another", [False, True])
def test_circuit_that_opens_again_and_again_reports_each_worker_a_few_times(run: Any, has_another: bool) -> None:
    calls = itertools.count()

    async def mostly_down() -> None:
        await asyncio.sleep(0.01)
        if next(calls) % 8:
            raise ConnectionError

    def reports(count: int) -> int:
        specs = [worker(str(n), mostly_down, key="host", retry=ONE_AT_A_TIME) for n in range(count)]
        specs += [worker("other", sleeper, 1e5, key="elsewhere")] if has_another else []
        events, _ = run_with_circuit(run, specs, concurrency=10, circuit=CircuitPolicy(open_for=5.0))
        assert sum(isinstance(event, CircuitOpened) for event in events) > count / 20
        return sum(isinstance(event, AttemptHeld) for event in events)

    assert reports(1_000) < 6 * 1_000


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
        loop.call_later(0.5, control_of(batch).carry_out, IsolateCircuit("host"))
        loop.call_later(1.5, batch.restart, "1")
        loop.call_later(2.0, batch.cancel, "2")
        loop.call_later(2.5, batch.restart, "2")
        loop.call_later(3.0, control_of(batch).carry_out, ProbeCircuit("host"))
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
        loop.call_later(0.5, control_of(batch).carry_out, IsolateCircuit("host"))
        loop.call_later(5.0, control_of(batch).carry_out, ProbeCircuit("host"))
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


async def ends(key: str, seconds: float, error: Exception | None = None) -> str:
    """Raise the error, if there is one, after `seconds`."""
    await asyncio.sleep(seconds)
    if error is not None:
        raise error
    return key


def run_pool(run: Any, *calls: tuple[float, Any], **limits: Any) -> list[Event]:
    """Return the events of a pool whose workers have a key. Each call has a time, and is of the supervisor.

    Workers with new keys start four times a second, and so look at idle keys.
    """

    async def main() -> list[Event]:
        once = worker("t", ends, key=lambda key, *_: key, retry=ONE_AT_A_TIME)
        others = [(n / 4, start(f"other {n}", 0.01)) for n in range(200)]
        async with Supervisor([PoolSpec("p", once)], retry_budget=None, **limits) as supervisor:
            queue = supervisor.subscribe()
            began = asyncio.get_running_loop().time()
            for at, call in sorted((*calls, *others), key=lambda item: item[0]):
                await asyncio.sleep(began + at - asyncio.get_running_loop().time())
                await call(supervisor)
        return drain(queue)

    events: list[Event] = run(main)
    return events


def start(key: str, seconds: float, error: Exception | None = None) -> Any:
    """Return a call that starts a worker of the pool, and waits for nothing."""

    async def call(supervisor: Supervisor) -> None:
        starting = asyncio.ensure_future(supervisor.start_child(None, key, seconds, error, under="p"))
        starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.sleep(0)

    return call


def send(command: Command) -> Any:
    """Return a call that carries out a command."""

    async def call(supervisor: Supervisor) -> None:
        assert control_of(supervisor).carry_out(command)

    return call


@pytest.fixture
def _no_idle_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine drop every idle key except one."""
    monkeypatch.setattr(admission, "KEYS_KEPT", 1)


@pytest.mark.usefixtures("_no_idle_keys")
@pytest.mark.parametrize(
    ("calls", "opened_at"),
    [
        ([(at, start("host", 0.01, ConnectionError())) for at in (0.0, 3.0, 6.0, 9.0)], 9.01),
        ([(at, start("host", 30.0 - at, ConnectionError())) for at in (0.0, 3.0, 6.0, 9.0)], 30.0),
    ],
    ids=["failures in the window", "attempts in flight"],
)
def test_circuit_that_counts_attempts_is_not_dropped(run: Any, calls: list[Any], opened_at: float) -> None:
    events = run_pool(run, *calls, circuit=POLICY)
    (opened,) = [event for event in events if isinstance(event, CircuitOpened)]
    assert opened.key == "host"
    assert opened.at == pytest.approx(opened_at, abs=0.001)


@pytest.mark.usefixtures("_no_idle_keys")
def test_idle_circuit_is_dropped_and_reported_again_at_its_next_attempt(run: Any) -> None:
    events = run_pool(
        run, (0.0, start("host", 0.01)), (5.0, start("host", 0.01)), (40.0, start("host", 0.01)), circuit=POLICY
    )
    closed = [event.at for event in events if isinstance(event, CircuitClosed) and event.key == "host"]
    assert closed == [pytest.approx(0.0, abs=0.001), pytest.approx(40.0, abs=0.001)]


@pytest.mark.usefixtures("_no_idle_keys")
@pytest.mark.parametrize(
    ("probe", "states"),
    [
        ([], [("CircuitOpened", 0), ("CircuitHalfOpened", 5), ("CircuitClosed", 17)]),
        (
            [(14.0, start("host", 25.0, ConnectionError()))],
            [("CircuitOpened", 0), ("CircuitHalfOpened", 5), ("CircuitOpened", 39), ("CircuitHalfOpened", 44)],
        ),
    ],
    ids=["no probe", "a probe in flight"],
)
def test_half_open_circuit_is_dropped_as_closed_unless_it_is_probed(
    run: Any, probe: list[Any], states: list[tuple[str, int]]
) -> None:
    """It is looked at some seconds after its window is over, and then only if there are new keys."""
    policy = CircuitPolicy(min_throughput=1, window=10.0, open_for=5.0)
    events = run_pool(run, (0.0, start("host", 0.01, ConnectionError())), *probe, circuit=policy)
    own = [event for event in events if isinstance(event, CircuitEvent) and event.key == "host"]
    changes = [(type(event).__name__, int(event.at)) for event in own if not isinstance(event, CircuitProbed)]
    assert changes == [("CircuitClosed", 0), *states]


KEYS_KEPT = 10


def test_long_run_keeps_few_circuits_of_keys_that_failed_once(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "KEYS_KEPT", KEYS_KEPT)
    policy = CircuitPolicy(min_throughput=1, window=2.0, open_for=1.0)

    async def main() -> None:
        once = worker("t", ends, key=lambda key, *_: key, retry=ONE_AT_A_TIME)
        async with Supervisor([PoolSpec("p", once)], retry_budget=None, circuit=policy) as supervisor:
            queue, fleet = supervisor.subscribe(), Fleet()
            for number in range(500):  # four new keys a second, each in use for three
                await start(f"host {number}", 0.01, ConnectionError())(supervisor)
                await asyncio.sleep(0.25)
                apply(fleet, drain(queue))
                kept = len(supervisor._scheduler.admission._gates)
                assert kept <= 4 * KEYS_KEPT
                assert len(fleet.circuits.not_closed) <= kept
            assert sum(circuit.opened for circuit in fleet.circuits.by_key.values()) == 500

    run(main)


@pytest.mark.usefixtures("_no_idle_keys")
def test_isolated_circuit_is_not_dropped(run: Any) -> None:
    calls = [(0.0, send(IsolateCircuit("host"))), (40.0, start("host", 0.01)), (45.0, send(CloseCircuit("host")))]
    events = run_pool(run, *calls, circuit=POLICY)
    own = [type(event).__name__ for event in events if isinstance(event, CircuitEvent) and event.key == "host"]
    assert own == ["CircuitClosed", "CircuitIsolated", "CircuitClosed"]
    (held,) = [event for event in events if isinstance(event, AttemptHeld) and event.reason == "circuit"]
    assert held.at == pytest.approx(40.0, abs=0.001)


@pytest.mark.usefixtures("_no_idle_keys")
def test_closed_circuit_may_be_dropped_before_its_time_to_open_is_over(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[Any] = [(n / 100, start("host", 0.01, ConnectionError())) for n in range(4)]
    events = run_pool(
        run, *calls, (1.0, send(CloseCircuit("host"))), circuit=CircuitPolicy(min_throughput=4, open_for=30.0)
    )
    assert [event.key for event in events if isinstance(event, CircuitOpened)] == ["host"]
    assert "Exception in callback" not in caplog.text


@pytest.mark.usefixtures("_no_idle_keys")
def test_bucket_of_a_key_is_kept_until_it_is_full(run: Any) -> None:
    calls = [(at, start("host", 0.01)) for at in (0.0, 10.0, 11.0)]
    events = run_pool(run, *calls, rate_per_key=RateLimit(per_second=1 / 20))
    assert sum(isinstance(event, AttemptStarted) for event in events) > 200
    held = [event.at for event in events if isinstance(event, AttemptHeld) and event.key == "host"]
    assert held == [pytest.approx(10.0, abs=0.001), pytest.approx(11.0, abs=0.001)]
