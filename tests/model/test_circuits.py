"""Circuits, folded from their events."""

from __future__ import annotations

from asyncwatch.events import (
    AttemptHeld,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitIsolated,
    CircuitOpened,
    CircuitProbed,
)
from asyncwatch.model.limits import waiting_by_key
from tests.model.stream import Stream


def test_circuit_passes_through_its_states() -> None:
    stream = Stream()
    stream.now = 2.0
    stream.add(CircuitOpened, key="h", attempts=20, failures=12, seconds=5.0)
    circuit = stream.fold().circuits.by_key["h"]
    assert (circuit.state, circuit.since, circuit.open_until) == ("open", 2.0, 7.0)
    assert (circuit.attempts, circuit.failures, circuit.opened) == (20, 12, 1)
    stream.now = 7.0
    stream.add(CircuitHalfOpened, key="h", probes=2)
    circuit = stream.fold().circuits.by_key["h"]
    assert (circuit.state, circuit.since, circuit.open_until, circuit.probes) == ("half open", 7.0, None, 2)
    assert (circuit.probes_under_way, circuit.probes_free) == (0, 2)
    stream.add(CircuitProbed, key="h", under_way=1, free=1)
    circuit = stream.fold().circuits.by_key["h"]
    assert (circuit.state, circuit.since, circuit.probes_under_way, circuit.probes_free) == ("half open", 7.0, 1, 1)
    stream.add(CircuitIsolated, key="h")
    assert [circuit.state for circuit in stream.fold().circuits.not_closed] == ["isolated"]
    stream.add(CircuitClosed, key="h")
    fleet = stream.fold()
    assert fleet.circuits.not_closed == []
    assert fleet.circuits.by_key["h"].opened == 1


def test_waiting_workers_are_grouped_by_circuit_key() -> None:
    """A key is known from its first waiting worker on."""
    stream = Stream("a", "b", "c")
    stream.add(AttemptHeld, "a", attempt=1, key="h", reason="circuit")
    stream.add(AttemptHeld, "b", attempt=1, key="h", reason="rate")
    stream.add(AttemptHeld, "c", attempt=1, key="i", reason="circuit")
    fleet = stream.fold()
    assert {key: [row.name for row in rows] for key, rows in waiting_by_key(fleet.rows).items()} == {
        "h": ["a"],
        "i": ["c"],
    }
    assert list(fleet.circuits.by_key) == ["h", "i"]
