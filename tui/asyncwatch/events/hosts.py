"""Events about the processes of a cluster in which attempts run."""

from __future__ import annotations

import msgspec

from asyncwatch.events.base import Event, WorkerEvent


class HostJoined(Event, frozen=True, gc=False):
    """A process of the cluster takes attempts from now on.

    `host` is its address, such as `10.0.0.7:40123`. `slots` are the threads that the cluster gives it: attempts are
    shared out by them, and any number runs at a time. `pid` is the number of the process on its machine.
    """

    host: str
    slots: int
    pid: int


class HostLost(Event, frozen=True, gc=False):
    """A process of the cluster has gone, for `reason`, and with it the `attempts` that were in flight there."""

    host: str
    reason: str
    attempts: int


class HostFigures(msgspec.Struct, frozen=True, gc=False):
    """What is known of a process: its address, and figures of the last seconds."""

    host: str
    attempts: int
    """In flight."""
    cpu: float
    """Processor time in percent of one core."""
    memory: int
    """Bytes."""
    lag: float
    """Seconds that its event loop was late, at most, since the figures before."""
    silent: float
    """Seconds since it was last heard."""


class HostsReported(Event, frozen=True, gc=False):
    """The figures of all processes of the cluster, every few seconds."""

    hosts: tuple[HostFigures, ...]


class AttemptPlaced(WorkerEvent, frozen=True, gc=False):
    """The attempt runs in the process `host` of the cluster."""

    attempt: int
    host: str
