"""Serves a run of one's own program to other processes: its events are folded and sent on, in a thread of their own."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from weakref import WeakMethod

import msgspec

from asyncwatch.commands import Command, Statistics
from asyncwatch.control.discovery import DiscoveryError, ForeignPeerError, Publication, check_peer, new_id, publish
from asyncwatch.control.protocol import PROTOCOL, Ended, Kind, PlanMade, packed
from asyncwatch.control.server import ControlServer, Run
from asyncwatch.events import Batch
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.model.summary import summarize

REFRESH_EVERY = 5.0
"""Seconds between two looks at whether the socket is still there."""
LAST_EVENTS = 2.0
"""Seconds that the last events of a run get to arrive."""


class Port(Protocol):
    """What a run lets others see and steer from another thread, as `engine.port.RunPort`."""

    def events(self) -> asyncio.Queue[Batch]:
        """Return the queue of all event batches for the running event loop; once."""

    def send(self, *commands: Command) -> None:
        """Pass commands on."""

    def send_then(self, commands: Sequence[Command], callback: Callable[[int], object]) -> None:
        """Pass commands on, and call back on the loop of `events` when they are carried out."""

    def statistics(self) -> Statistics:
        """Return the latest figures."""


class HostedRun:
    """A run that is served in the control thread. All methods belong to that thread.

    With `is_published` it listens on a socket, by which the processes of its user find it. If that is impossible,
    `problem` says why. `on_look` is called with whether there are clients that follow the run. A run that is recorded
    has the ID of its `journal`.
    """

    def __init__(
        self,
        port: Port,
        name: str,
        *,
        is_published: bool,
        on_look: Callable[[bool], object] = lambda _is_looked_at: None,
        journal: Path | None = None,
    ) -> None:
        self.problem = ""
        self._journal = "" if journal is None else str(journal)
        run_id = "" if journal is None else journal.stem
        self._port = port
        self._fleet = Fleet()
        self._publication: Publication | None = None
        if is_published:
            try:
                self._publication = publish(name, sys.argv, protocol=PROTOCOL, run_id=run_id)
            except DiscoveryError as error:
                self.problem = str(error)
        self.id = run_id or new_id() if self._publication is None else self._publication.record.id
        run = Run(
            self.id,
            name,
            os.getpid(),
            self._fleet,
            lambda commands: port.send(*commands),
            port.send_then,
            port.statistics,
        )
        self._server = ControlServer(run, is_peer_trusted=_is_own, on_change=self._note_clients)
        self._on_look = on_look
        self._tasks: list[asyncio.Task[None]] = []
        close = WeakMethod(self._server.close_after_fork)
        os.register_at_fork(after_in_child=lambda: (method := close()) and method())

    async def open(self) -> None:
        """Listen to clients, and take the events of the run from now on."""
        self._server.open(PlanMade(self.id, notes=(), foreseen=(), journal=self._journal))
        if self._publication is not None:
            await self._server.listen(self._publication.socket)
            self._tasks.append(asyncio.create_task(self._refresh(self._publication)))
        self._tasks.insert(0, asyncio.create_task(self._follow(self._port.events())))

    async def adopt(self, connection: socket.socket) -> None:
        """Serve a dashboard at the other end of `connection`."""
        await self._server.adopt(connection, Kind.VIEWER)

    async def close(self, status: int | None = None) -> None:
        """Tell clients that the run has ended, and end all connections.

        `status` is the exit status of the run; None for what became of its workers.
        """
        if self._fleet.run is not None:
            await asyncio.wait(self._tasks[:1], timeout=LAST_EVENTS)
        for task in self._tasks:
            task.cancel()
        summary = summarize(self._fleet)
        if status is None:
            status = 0 if self._fleet.finished is not None and not self._fleet.has_own_failures else 1
        self._server.end(Ended(status, (), msgspec.Raw(packed(summary))))
        await self._server.close()
        if self._publication is not None:
            with suppress(OSError, DiscoveryError):
                self._publication.end(status, msgspec.to_builtins(summary))

    def _note_clients(self) -> None:
        self._on_look(self._server.followers > 0)

    async def _follow(self, queue: asyncio.Queue[Batch]) -> None:
        while self._fleet.finished is None:
            batch = await queue.get()
            self._server.take(batch)
            apply(self._fleet, batch)
            await asyncio.sleep(0)  # clients come between two batches of many

    async def _refresh(self, publication: Publication) -> None:
        """Make folder and socket anew when they have gone, as after a log-out."""
        while True:
            await asyncio.sleep(REFRESH_EVERY)
            with suppress(OSError, DiscoveryError):
                if (listener := publication.refresh()) is not None:
                    await self._server.listen(listener)


def _is_own(connection: socket.socket) -> bool:
    try:
        check_peer(connection)
    except ForeignPeerError:
        return False
    return True
