"""Facts about circuits, one for each key: which attempts may start."""

from __future__ import annotations

from asyncwatch.events.base import Event


class CircuitEvent(Event, frozen=True, gc=False):
    """A fact about the circuit of one key: a host, or what the workers name."""

    key: str


class CircuitOpened(CircuitEvent, frozen=True, gc=False):
    """Too many attempts failed (`failures` of `attempts`): none starts for the next `seconds`."""

    attempts: int
    failures: int
    seconds: float


class CircuitHalfOpened(CircuitEvent, frozen=True, gc=False):
    """As many as `probes` attempts may start now; they decide whether it closes or opens again."""

    probes: int


class CircuitProbed(CircuitEvent, frozen=True, gc=False):
    """A probe of a half-open circuit started, or ended without deciding.

    `under_way` probes run now, and `free` more may start.
    """

    under_way: int
    free: int


class CircuitClosed(CircuitEvent, frozen=True, gc=False):
    """Attempts start as they come: again, or because this is the first of the key."""


class CircuitIsolated(CircuitEvent, frozen=True, gc=False):
    """Somebody isolated it: no attempt starts until somebody closes it or lets it be probed."""
