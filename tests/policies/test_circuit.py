"""Circuit breaker: when it opens, and which attempts it lets pass."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch import CircuitPolicy
from asyncwatch.policies.circuit import Circuit, CircuitState

POLICY = CircuitPolicy(min_throughput=4, window=10.0, buckets=10, open_for=5.0, probes=2)


def ended(circuit: Circuit, outcomes: str, now: float) -> None:
    """Make attempts that end at once: `x` fails, `.` succeeds, `?` is neither."""
    for outcome in outcomes:
        circuit.leave(circuit.enter(), is_failure=None if outcome == "?" else outcome == "x", now=now)


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [("xxx", "closed"), ("xxxx", "open"), ("x.x.", "closed"), (".x.x", "open"), ("xxx?", "closed"), ("...x", "closed")],
)
def test_circuit_opens_by_ratio_and_throughput(outcomes: str, state: str) -> None:
    """Half of at least four attempts must fail, and a failure opens it."""
    circuit = Circuit(POLICY)
    ended(circuit, outcomes, 1.0)
    assert circuit.state == state


def test_circuit_forgets_failures_older_than_the_window() -> None:
    circuit = Circuit(POLICY)
    ended(circuit, "xx", 0.5)
    ended(circuit, "x", 9.5)
    assert circuit.counts(9.9) == (3, 3)
    assert circuit.counts(10.1) == (1, 1)
    ended(circuit, "xx", 10.1)
    assert circuit.state.value == "closed"
    ended(circuit, "x", 10.2)
    assert circuit.state.value == "open"
    assert circuit.opened_by == (4, 4)


def test_circuit_half_open_admits_its_probes_whose_success_closes_it() -> None:
    circuit = Circuit(POLICY)
    ended(circuit, "xxxx", 1.0)
    assert not circuit.is_passable(5.9)
    assert circuit.is_passable(6.0)
    assert circuit.state.value == "half open"
    first, second = circuit.enter(), circuit.enter()
    assert not circuit.is_passable(6.0)
    circuit.leave(first, is_failure=False, now=6.1)
    assert circuit.state.value == "half open"
    circuit.leave(second, is_failure=False, now=6.2)
    assert (str(circuit.state), circuit.counts(6.2)) == ("closed", (0, 0))


def test_circuit_opens_again_at_the_first_failed_probe() -> None:
    circuit = Circuit(POLICY)
    circuit.probe()
    first, second = circuit.enter(), circuit.enter()
    circuit.leave(first, is_failure=True, now=7.0)
    assert (circuit.state, circuit.open_until) == (CircuitState.OPEN, 12.0)
    circuit.leave(second, is_failure=False, now=7.1)
    assert circuit.state is CircuitState.OPEN


def test_circuit_replaces_a_stopped_probe() -> None:
    circuit = Circuit(POLICY)
    circuit.probe()
    ended(circuit, "??", 1.0)
    assert circuit.free_probes == 2


def test_circuit_half_open_and_probed_again_keeps_its_probes_in_flight() -> None:
    circuit = Circuit(POLICY)
    circuit.probe()
    first = circuit.enter()
    circuit.probe()
    second = circuit.enter()
    assert circuit.free_probes == 0
    for ticket in (first, second):
        circuit.leave(ticket, is_failure=False, now=1.0)
    assert str(circuit.state) == "closed"


def test_circuit_half_open_ignores_attempts_from_before_it_opened() -> None:
    circuit = Circuit(POLICY)
    old = circuit.enter()
    ended(circuit, "xxxx", 1.0)
    assert circuit.is_passable(6.0)
    circuit.leave(old, is_failure=True, now=6.1)
    assert (circuit.state, circuit.free_probes) == (CircuitState.HALF_OPEN, 2)


def test_circuit_isolated_admits_nothing_until_it_is_closed() -> None:
    circuit = Circuit(POLICY)
    circuit.isolate()
    assert not circuit.is_passable(1e9)
    circuit.close()
    assert circuit.is_passable(0.0)


@given(st.lists(st.tuples(st.sampled_from("x.?+"), st.floats(0, 3)), max_size=200))
def test_circuit_probes_never_exceed_the_quota(happenings: list[tuple[str, float]]) -> None:
    circuit, now, under_way = Circuit(POLICY), 0.0, list[tuple[int, bool]]()
    for happening, pause in happenings:
        now += pause
        if happening == "+" or not under_way:
            if circuit.is_passable(now):
                under_way.append((circuit.enter(), circuit.state is CircuitState.HALF_OPEN))
        else:
            ticket, _ = under_way.pop(0)
            circuit.leave(ticket, is_failure=None if happening == "?" else happening == "x", now=now)
        if circuit.state is CircuitState.HALF_OPEN:
            assert 0 <= circuit.free_probes <= 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("failure_ratio", 0.0),
        ("failure_ratio", 1.1),
        ("min_throughput", 0),
        ("buckets", 0),
        ("probes", 0),
        ("window", 0.0),
        ("open_for", float("inf")),
    ],
)
def test_circuit_setting_out_of_range_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        CircuitPolicy(**{field: value})


def test_circuit_is_idle_while_a_new_one_would_do_the_same() -> None:
    circuit = Circuit(CircuitPolicy(min_throughput=2, window=10.0, buckets=10, open_for=5.0))
    assert circuit.is_idle(0.0)
    ticket = circuit.enter()
    assert not circuit.is_idle(100.0)
    circuit.leave(ticket, is_failure=False, now=100.0)
    assert not circuit.is_idle(109.0)
    assert circuit.is_idle(110.0)
    tickets = [circuit.enter() for _ in range(3)]
    for ticket in tickets[:2]:
        circuit.leave(ticket, is_failure=True, now=200.0)
    assert (circuit.state, circuit.is_idle(300.0)) == (CircuitState.OPEN, False)
    circuit.close()
    assert not circuit.is_idle(300.0)
    circuit.leave(tickets[2], is_failure=True, now=300.0)
    assert circuit.is_idle(300.0)


def half_open(opened_at: float = 0.0) -> Circuit:
    """Return a circuit that opened at a time, by one failure, and became half open five seconds later."""
    circuit = Circuit(CircuitPolicy(min_throughput=1, window=10.0, open_for=5.0))
    circuit.leave(circuit.enter(), is_failure=True, now=opened_at)
    assert circuit.is_passable(opened_at + 5.0)
    return circuit


def test_half_open_circuit_is_idle_when_no_probe_has_come_for_a_window() -> None:
    circuit = half_open(100.0)
    assert [circuit.is_idle(now) for now in (105.0, 114.0, 115.0)] == [False, False, True]
    ticket = circuit.enter()
    assert not circuit.is_idle(200.0)
    circuit.leave(ticket, is_failure=None, now=200.0)
    assert (circuit.state, circuit.is_idle(200.0)) == (CircuitState.HALF_OPEN, True)


def test_circuit_that_a_person_isolated_and_probed_is_not_idle_until_it_is_decided() -> None:
    circuit = half_open()
    circuit.isolate()
    assert not circuit.is_idle(1e9)
    circuit.probe()
    assert not circuit.is_idle(1e9)
    circuit.leave(circuit.enter(), is_failure=False, now=1e9)
    assert (circuit.state, circuit.is_idle(1e9)) == (CircuitState.CLOSED, True)
