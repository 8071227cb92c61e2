"""A run without an engine, and clients of its server on the same event loop."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import msgspec

from asyncwatch.commands import Command, Disconnected, Moment, Problem, SnapshotPart, Statistics, Update
from asyncwatch.control import protocol, server
from asyncwatch.control.client import Connection, RunClient
from asyncwatch.control.door import Door
from asyncwatch.control.protocol import Kind
from asyncwatch.control.server import ControlServer
from asyncwatch.events import Batch, LogRecorded
from asyncwatch.model.fleet import Fleet

PLAN = protocol.PlanMade("r1", ("a note",), ())
ENDED = protocol.Ended(3, ("a problem",), msgspec.Raw(protocol.packed({"workers": 1})))


class History(Fleet):
    """Counts events in place of a state, so that a client can tell which it got."""

    seen = 0


class CountingSnapshot:
    """A snapshot of a `History` in `PARTS` parts of `SIZE` bytes. Checks that it hears of every batch."""

    PARTS = 4
    SIZE = 40
    made: ClassVar[list[CountingSnapshot]] = []

    def __init__(self, fleet: History) -> None:
        self.made.append(self)
        self.fleet = fleet
        self.heard = 0
        self.seen = self.announced = fleet.seen

    def before(self, batch: Batch) -> None:
        self.heard += 1
        assert self.fleet.seen == batch[0].seq == self.announced
        self.announced += len(batch)

    def parts(self) -> Iterator[SnapshotPart]:
        for number in range(self.PARTS):
            assert self.announced == self.fleet.seen
            data = json.dumps([self.seen, number]).encode().ljust(self.SIZE)
            yield SnapshotPart(data, number == 0, number == self.PARTS - 1)


class FakeRun:
    """A run whose events are logged lines, and which answers commands when told to."""

    def __init__(
        self, monkeypatch: Any, *, is_peer_trusted: Callable[[socket.socket], bool] = lambda _peer: True, **kwargs: Any
    ) -> None:
        monkeypatch.setattr(server, "Snapshot", CountingSnapshot)
        CountingSnapshot.made.clear()
        self.fleet = History()
        self.commands: list[Command] = []
        self.callbacks: list[Callable[[int], None]] = []
        self.known = Statistics()
        self.is_narrow = False
        self._sockets: list[socket.socket] = []
        run = server.Run("r1", "demo", 1, self.fleet, self.commands.extend, self._send_then, lambda: self.known)
        self.server = ControlServer(run, **kwargs)
        self.door = Door({"r1": self.server}, is_peer_trusted=is_peer_trusted)

    def emit(self, events: int, text: str = "line") -> None:
        """Let a batch happen."""
        first = self.fleet.seen
        batch = tuple(LogRecorded(first + n, 0.0, None, "INFO", "test", text) for n in range(events))
        self.server.take(batch)
        self.fleet.seen += events

    async def connect(self, kind: Kind, **kwargs: Any) -> Connection:
        """Return a connection that the server has adopted."""
        ours, theirs = socket.socketpair()
        if self.is_narrow:  # the system keeps a few kilobytes for each client, not some hundred
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self._sockets.append(ours)
        await self.server.adopt(theirs, kind)
        return Connection(ours, kind, **kwargs)

    async def join(self, kind: Kind = Kind.VIEWER, **kwargs: Any) -> Viewer:
        """Return a client that the server has adopted."""
        return Viewer(await self.connect(kind, **kwargs))

    async def close(self) -> None:
        """End all clients, and the server."""
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            if sock.fileno() >= 0:
                loop.remove_reader(sock)
                sock.close()
        await self.door.close()
        await self.server.close()
        await settle()

    def _send_then(self, commands: Sequence[Command], callback: Callable[[int], None]) -> None:
        self.commands.extend(commands)
        self.callbacks.append(callback)


class Viewer:
    """A client that checks what it gets: a snapshot first, and then every event once."""

    def __init__(self, connection: Connection) -> None:
        self.messages: list[protocol.Message] = []
        self.client = RunClient(connection, self.messages.append)
        self.queue = self.client.events()
        self.seen = 0
        """Events known, from a snapshot or one by one."""
        self.snapshots = 0
        self.problems: list[str] = []
        self.lost: Disconnected | None = None
        self._next_part = 0

    def take(self, update: Update) -> None:
        """Check an update."""
        assert self.lost is None
        if isinstance(update, Disconnected):
            self.lost = update
        elif isinstance(update, Problem):
            self.problems.append(update.text)
        elif isinstance(update, SnapshotPart):
            seen, number = json.loads(update.data)
            assert update.is_first == (number == 0)
            assert number in (0, self._next_part)
            assert seen >= self.seen
            self._next_part = number + 1
            if update.is_last:
                self.seen, self._next_part = seen, 0
                self.snapshots += 1
        else:
            assert not isinstance(update, Moment)
            assert self._next_part == 0
            assert [event.seq for event in update] == list(range(self.seen, self.seen + len(update)))
            self.seen += len(update)

    def read(self, most: int = 1_000_000) -> None:
        """Take what has come."""
        while most and not self.queue.empty():
            self.take(self.queue.get_nowait())
            most -= 1

    async def catch_up(self, run: FakeRun) -> None:
        """Read until all events are known."""
        async with asyncio.timeout(100):
            while self.seen < run.fleet.seen:
                self.read()
                await asyncio.sleep(0.001)

    def of(self, kind: type[protocol.Message]) -> list[Any]:
        """Return the messages of a class."""
        return [message for message in self.messages if isinstance(message, kind)]


async def settle(iterations: int = 50) -> None:
    """Let all that takes no time happen."""
    for _ in range(iterations):
        await asyncio.sleep(0)
