"""Circuits of a run, by their keys. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from asyncwatch.events import (
    CircuitClosed,
    CircuitEvent,
    CircuitHalfOpened,
    CircuitIsolated,
    CircuitOpened,
    CircuitProbed,
    WorkerState,
)
from asyncwatch.model.rows import Row

CLOSED, OPEN, HALF_OPEN, ISOLATED = "closed", "open", "half open", "isolated"


class KnownCircuit(msgspec.Struct):
    """The circuit of one key. Times are in seconds since the run started."""

    key: str
    state: str = CLOSED
    """`closed`, `open`, `half open` or `isolated`."""
    since: float = 0.0
    """When it entered this state."""
    opened: int = 0
    """How often it has opened."""
    attempts: int = 0
    """Attempts that were counted when it last opened."""
    failures: int = 0
    """How many of these had failed."""
    open_until: float | None = None
    """When it will be half open; None unless it is open."""
    probes: int = 0
    """Attempts that may probe it; 0 unless it is half open."""
    probes_under_way: int = 0
    probes_free: int = 0
    """Probes that have not started."""


class Circuits:
    """The circuits that were ever not closed, or held back an attempt."""

    def __init__(self) -> None:
        self.by_key: dict[str, KnownCircuit] = {}

    @property
    def not_closed(self) -> list[KnownCircuit]:
        """Circuits that hold back attempts."""
        return [circuit for circuit in self.by_key.values() if circuit.state != CLOSED]

    def add(self, key: str) -> KnownCircuit:
        """Return the circuit of a key, a closed one if it is not known yet."""
        circuit = self.by_key.get(key)
        if circuit is None:
            circuit = self.by_key[key] = KnownCircuit(key)
        return circuit

    def changed(self, event: CircuitEvent) -> None:
        """Fold one event."""
        circuit = self.add(event.key)
        if isinstance(event, CircuitProbed):
            circuit.probes_under_way, circuit.probes_free = event.under_way, event.free
            return
        circuit.since = event.at
        circuit.open_until = None
        circuit.probes = circuit.probes_under_way = circuit.probes_free = 0
        match event:
            case CircuitOpened(attempts=attempts, failures=failures, seconds=seconds):
                circuit.state = OPEN
                circuit.opened += 1
                circuit.attempts, circuit.failures = attempts, failures
                circuit.open_until = event.at + seconds
            case CircuitHalfOpened(probes=probes):
                circuit.state = HALF_OPEN
                circuit.probes = circuit.probes_free = probes
            case CircuitIsolated():
                circuit.state = ISOLATED
            case CircuitClosed():
                circuit.state = CLOSED


def waiting_by_key(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the workers that wait for a circuit, by its key."""
    waiting: dict[str, list[Row]] = {}
    for row in rows:
        if row.state is WorkerState.WAITING:
            reason, _, key = row.held.partition(" ")
            if reason == "circuit":
                waiting.setdefault(key, []).append(row)
    return waiting
