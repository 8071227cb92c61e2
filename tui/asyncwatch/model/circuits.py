"""The circuits of a run as its events tell of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from asyncwatch.events import (
    AttemptHeld,
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
    """When it came into this state."""
    opened: int = 0
    """How often it has opened."""
    attempts: int = 0
    failures: int = 0
    """How many of the attempts had failed when it opened last."""
    open_until: float | None = None
    """When it will be half open; None unless it is open."""
    probes: int = 0
    """How many attempts may probe it in all; 0 unless it is half open."""
    probes_under_way: int = 0
    """How many of them run now."""
    probes_free: int = 0
    """How many of them have not started."""


class Circuits:
    """Every circuit that ever was not closed, or that held an attempt."""

    def __init__(self) -> None:
        self.by_key: dict[str, KnownCircuit] = {}

    @property
    def not_closed(self) -> list[KnownCircuit]:
        """Those that do not let everything pass."""
        return [circuit for circuit in self.by_key.values() if circuit.state != CLOSED]

    def apply(self, event: CircuitEvent) -> None:
        """Fold one event."""
        circuit = self._circuit(event.key)
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

    def held(self, event: AttemptHeld) -> None:
        """Learn of a key by an attempt that has to wait for its circuit."""
        if event.reason == "circuit":
            self._circuit(event.key)

    def _circuit(self, key: str) -> KnownCircuit:
        circuit = self.by_key.get(key)
        if circuit is None:
            circuit = self.by_key[key] = KnownCircuit(key)
        return circuit


def waiting_by_key(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the workers that wait for a circuit, by its key."""
    waiting: dict[str, list[Row]] = {}
    for row in rows:
        if row.state is WorkerState.WAITING:
            reason, _, key = row.held.partition(" ")
            if reason == "circuit":
                waiting.setdefault(key, []).append(row)
    return waiting
