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
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.limits import Circuits, waiting_by_key
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


def test_waiting_workers_are_grouped_by_key() -> None:
    """A key is known from its first waiting worker on."""
    stream = Stream("a", "b", "c")
    stream.add(AttemptHeld, "a", attempt=1, key="h", reason="circuit")
    stream.add(AttemptHeld, "b", attempt=1, key="h", reason="rate")
    stream.add(AttemptHeld, "c", attempt=1, key="i", reason="circuit")
    fleet = stream.fold()
    assert {key: [row.name for row in rows] for key, rows in waiting_by_key(fleet.rows).items()} == {
        "h": ["a", "b"],
        "i": ["c"],
    }
    assert list(fleet.circuits.by_key) == ["h", "i"]


def test_closed_circuits_are_kept_up_to_a_number_and_all_others_for_ever() -> None:
    stream = Stream()
    for number in range(20):
        stream.add(CircuitClosed, key=f"closed {number}")
        stream.add(CircuitOpened, key=f"opened {number}", attempts=20, failures=12, seconds=5.0)
        stream.add(CircuitIsolated, key=f"isolated {number}")
    for number in range(20):
        stream.add(CircuitHalfOpened, key=f"opened {number}", probes=2)
        if number > 0:
            stream.add(CircuitClosed, key=f"opened {number}")
    stream.add(CircuitClosed, key="closed 17")
    fleet = Fleet()
    fleet.circuits = Circuits(closed_kept=3, opened_kept=4)
    known = stream.fold(fleet).circuits.by_key
    assert [key for key in known if key.startswith("closed")] == ["closed 17", "closed 18", "closed 19"]
    assert [key for key in known if key.startswith("opened")] == ["opened 0", *(f"opened {n}" for n in range(16, 20))]
    assert (known["opened 0"].state, known["opened 19"].opened) == ("half open", 1)
    assert len([key for key in known if key.startswith("isolated")]) == 20
    stream.add(CircuitClosed, key="closed 20")
    known = stream.fold(fleet).circuits.by_key
    assert [key for key in known if key.startswith("closed")] == ["closed 17", "closed 19", "closed 20"]
