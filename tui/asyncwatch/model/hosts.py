"""Processes of a cluster, as events report them. Pure."""

from __future__ import annotations

import msgspec

from asyncwatch.events import AttemptPlaced, HostFigures, HostJoined, HostLost, HostsReported
from asyncwatch.text import share

LOST_KEPT = 50
"""Lost processes that are kept, the latest ones."""


class KnownHost(msgspec.Struct, gc=False):
    """One process. Times are in seconds since the run started."""

    host: str
    slots: int
    pid: int
    joined_at: float
    attempts: int = 0
    """In flight, as reported last; for a lost process, those that were lost with it."""
    cpu: float = 0.0
    """In percent of one core."""
    memory: int = 0
    """In bytes."""
    lag: float = 0.0
    heard_at: float = 0.0
    lost_at: float | None = None
    reason: str = ""
    """Why it was lost."""


class Hosts:
    """The processes of the cluster, and where the latest attempt of each worker ran."""

    def __init__(self) -> None:
        self.by_address: dict[str, KnownHost] = {}
        """In the order in which they joined; lost ones too."""
        self.by_worker: dict[str, str] = {}
        self.lost = 0
        """All that were lost."""

    @property
    def present(self) -> list[KnownHost]:
        """Those that take attempts."""
        return [host for host in self.by_address.values() if host.lost_at is None]

    def joined(self, event: HostJoined) -> None:
        """Note a process that takes attempts."""
        self.by_address.pop(event.host, None)
        self.by_address[event.host] = KnownHost(event.host, event.slots, event.pid, event.at, heard_at=event.at)

    def left(self, event: HostLost) -> None:
        """Note a process that has gone."""
        host = self.by_address.get(event.host)
        if host is None or host.lost_at is not None:
            return
        host.lost_at, host.reason, host.attempts = event.at, event.reason, event.attempts
        self.lost += 1
        gone = [each.host for each in self.by_address.values() if each.lost_at is not None]
        for address in gone[:-LOST_KEPT]:
            del self.by_address[address]

    def reported(self, event: HostsReported) -> None:
        """Note the figures of all processes."""
        for figures in event.hosts:
            host = self.by_address.get(figures.host)
            if host is not None and host.lost_at is None:
                _note(host, figures, event.at)

    def placed(self, event: AttemptPlaced) -> None:
        """Note where the latest attempt of a worker runs."""
        self.by_worker[event.worker] = share(event.host)


def _note(host: KnownHost, figures: HostFigures, at: float) -> None:
    host.attempts, host.cpu, host.memory = figures.attempts, figures.cpu, figures.memory
    host.lag, host.heard_at = figures.lag, at - figures.silent
