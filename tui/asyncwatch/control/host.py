"""Serves runs of one's own program to other processes: their events are folded and sent on, in a thread of their own.

All runs of a process listen on one socket, which is there while there is one of them (`Entrance`).
"""

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
from asyncwatch.control.door import Door
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


class Follower(Protocol):
    """What else follows a run in the control thread, as `metrics.RunMetrics`."""

    async def open(self, fleet: Fleet, statistics: Callable[[], Statistics]) -> None:
        """Follow the run whose state is `fleet`, before its first event."""

    def take(self, batch: Batch) -> None:
        """Take a batch just before it is applied to the fleet."""

    async def close(self) -> None:
        """Let go of the run."""


class Entrance:
    """The listening socket of this process, by which the processes of its user find its runs.

    All methods belong to the control thread, except `close_after_fork`.
    """

    def __init__(self) -> None:
        self._servers: dict[str, ControlServer] = {}
        self._publication: Publication | None = None
        self._door: Door | None = None
        self._refreshing: asyncio.Task[None] | None = None

    def publish(self, name: str, run_id: str) -> str:
        """Make a run known under its ID, or under a new one; return that. `add` must follow in the same iteration.

        Raises:
            DiscoveryError: That is impossible.

        """
        publication = self._publication
        if publication is None:
            self._publication = publish(name, sys.argv, protocol=PROTOCOL, run_id=run_id)
            return self._publication.record.id
        with suppress(OSError, DiscoveryError):
            self._listen_again(publication)
        return publication.add(name, sys.argv, protocol=PROTOCOL, run_id=run_id).id

    def add(self, run_id: str, server: ControlServer) -> None:
        """Let clients of a run in that was published."""
        self._servers[run_id] = server
        if self._door is None and self._publication is not None:
            self._door = Door(self._servers, is_peer_trusted=_is_own)
            self._door.listen(self._publication.socket)
            self._refreshing = asyncio.create_task(self._refresh(self._publication))

    def remove(self, run_id: str) -> None:
        """Let no more clients of a run in."""
        self._servers.pop(run_id, None)

    async def end(self, run_id: str, status: int, summary: object) -> None:
        """Leave a record of a run that was removed, and close the socket if there is no other run."""
        publication, door = self._publication, self._door
        if publication is None or door is None:
            return
        is_last = len(publication.records) == 1
        with suppress(OSError, DiscoveryError):
            publication.end(status, summary, run_id=run_id)
        if is_last:
            self._publication = self._door = None
            if self._refreshing is not None:
                self._refreshing.cancel()
            await door.close()

    def close_after_fork(self) -> None:
        """Close the socket in a forked process, whose own runs get another one."""
        if self._door is not None:
            self._door.close_after_fork()
        self._servers.clear()
        self._publication = self._door = self._refreshing = None

    async def _refresh(self, publication: Publication) -> None:
        """Make folder and socket anew when they have gone, as after a log-out."""
        while True:
            await asyncio.sleep(REFRESH_EVERY)
            with suppress(OSError, DiscoveryError):
                self._listen_again(publication)

    def _listen_again(self, publication: Publication) -> None:
        if (listener := publication.refresh()) is not None and self._door is not None:
            self._door.listen(listener)


entrance = Entrance()
"""Of this process."""
os.register_at_fork(after_in_child=entrance.close_after_fork)


class HostedRun:
    """A run that is served in the control thread. All methods belong to that thread.

    With `is_published` the processes of its user find it. If that is impossible, `problem` says why. Call `open` in the
    loop iteration that makes it. `on_look` is called with whether there are clients that follow the run. A run that is
    recorded has the ID of its `journal`. A `follower` gets every batch too.
    """

    def __init__(
        self,
        port: Port,
        name: str,
        *,
        is_published: bool = True,
        on_look: Callable[[bool], object] = lambda _is_looked_at: None,
        journal: Path | None = None,
        follower: Follower | None = None,
    ) -> None:
        self.problem = ""
        self._follower = follower
        self._journal = "" if journal is None else str(journal)
        run_id = "" if journal is None else journal.stem
        self._port = port
        self._fleet = Fleet()
        self.id = ""
        if is_published:
            try:
                self.id = entrance.publish(name, run_id)
            except DiscoveryError as error:
                self.problem = str(error)
        self._is_published = bool(self.id)
        self.id = self.id or run_id or new_id()
        run = Run(
            self.id,
            name,
            os.getpid(),
            self._fleet,
            lambda commands: port.send(*commands),
            port.send_then,
            port.statistics,
        )
        self._server = ControlServer(run, on_change=self._note_clients)
        self._on_look = on_look
        self._following: asyncio.Task[None] | None = None
        close = WeakMethod(self._server.close_after_fork)
        os.register_at_fork(after_in_child=lambda: (method := close()) and method())

    async def open(self) -> None:
        """Listen to clients, and take the events of the run from now on."""
        self._server.open(PlanMade(self.id, notes=(), foreseen=(), journal=self._journal))
        if self._is_published:
            entrance.add(self.id, self._server)
        if self._follower is not None:
            await self._follower.open(self._fleet, self._port.statistics)
        self._following = asyncio.create_task(self._follow(self._port.events()))

    async def adopt(self, connection: socket.socket) -> None:
        """Serve a dashboard at the other end of `connection`."""
        await self._server.adopt(connection, Kind.VIEWER)

    async def close(self, status: int | None = None) -> None:
        """Tell clients that the run has ended, and end all connections.

        `status` is the exit status of the run; None for what became of its workers.
        """
        if self._following is not None:
            if self._fleet.run is not None:
                await asyncio.wait([self._following], timeout=LAST_EVENTS)
            self._following.cancel()
        summary = summarize(self._fleet)
        if status is None:
            status = 0 if self._fleet.finished is not None and not self._fleet.has_own_failures else 1
        self._server.end(Ended(status, (), msgspec.Raw(packed(summary))))
        entrance.remove(self.id)
        await self._server.close()
        if self._follower is not None:
            await self._follower.close()
        if self._is_published:
            await entrance.end(self.id, status, msgspec.to_builtins(summary))

    def _note_clients(self) -> None:
        self._on_look(self._server.followers > 0)

    async def _follow(self, queue: asyncio.Queue[Batch]) -> None:
        while self._fleet.finished is None:
            batch = await queue.get()
            self._server.take(batch)
            if self._follower is not None:
                self._follower.take(batch)
            apply(self._fleet, batch)
            await asyncio.sleep(0)  # clients come between two batches of many


def _is_own(connection: socket.socket) -> bool:
    try:
        check_peer(connection)
    except ForeignPeerError:
        return False
    return True
