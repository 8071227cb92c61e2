"""The figures of a run for Prometheus, and whether it is healthy and ready, over HTTP. Loaded only if asked for.

`listen` takes the address before a run starts, and returns what follows the run from its first event on. All of it runs
on the event loop that follows the events, never on that of the work.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from asyncwatch.commands import Statistics
from asyncwatch.events import Batch
from asyncwatch.text import split_address

if TYPE_CHECKING:
    from asyncwatch.metrics.exposition import Exposition
    from asyncwatch.metrics.server import Server
    from asyncwatch.model.fleet import Fleet

_BACKLOG = 1_024
"""Connections that wait in the kernel, where they take no open file of the process."""
_INSTALL = "pip install 'asyncwatch[metrics]'"


class MetricsError(RuntimeError):
    """Metrics cannot be served at the address, or not at all. Raised before the run starts."""


class RunMetrics:
    """Serves the metrics of one run at `listener`, a socket that listens already.

    `open`, `take` and `close` belong to the event loop on which the events are followed.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._exposition: Exposition | None = None
        self._server: Server | None = None
        host, port = listener.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"
        """Where the metrics are, with the port that was taken."""

    async def open(
        self, fleet: Fleet, statistics: Callable[[], Statistics], journal_lag: Callable[[], int] | None = None
    ) -> None:
        """Serve a run whose state is `fleet`, before its first event.

        `statistics` returns the engine's figures, and `journal_lag` how many events are not recorded yet; it is None if
        the run has no journal.
        """
        from asyncwatch.metrics.exposition import Exposition  # noqa: PLC0415  brings prometheus_client
        from asyncwatch.metrics.server import Server  # noqa: PLC0415  brings aiohttp

        self._exposition = Exposition(fleet, statistics, journal_lag, time.monotonic)
        self._server = Server(self._listener, self._exposition.pages)
        await self._server.open()

    def take(self, batch: Batch) -> None:
        """Take a batch just before it is applied to the fleet."""
        if self._exposition is not None:
            self._exposition.take(batch)

    async def close(self) -> None:
        """End all connections and stop listening."""
        if self._server is not None:
            await self._server.close()
        self.discard()

    def discard(self) -> None:
        """Give up the address of a run that does not start."""
        self._listener.close()


def listen(address: str) -> RunMetrics:
    """Listen at `address`: HOST:PORT, or a port of the loopback interface. Port 0 is any free one.

    Raises:
        MetricsError: the address cannot be used, or prometheus-client is not installed.
        ValueError: it is no address.

    """
    try:
        import asyncwatch.metrics.exposition  # noqa: PLC0415  as in `open`
        import asyncwatch.metrics.server  # noqa: F401, PLC0415
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "prometheus_client":
            raise
        raise MetricsError(f"metrics need prometheus-client: {_INSTALL}") from None
    host, port = split_address(address)
    try:
        return RunMetrics(_bind(host, port))
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]  # Python appends the address
        raise MetricsError(f"metrics cannot be served at {address}: {reason}") from None


def _bind(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, where = found[0]
    is_any = family == socket.AF_INET6 and where[0] == "::"
    return socket.create_server(
        where, family=family, backlog=_BACKLOG, dualstack_ipv6=is_any and socket.has_dualstack_ipv6()
    )
