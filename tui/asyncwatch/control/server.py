"""Serves a run to its clients, on the event loop of the process's main thread, never on that of the workers.

The run never waits for a client. One that reads too slowly gets no more batches, and a new snapshot once it has read
what was sent. What a batch costs does not depend on the size of the fleet: snapshots are made in parts, between
batches. Clients that come soon after each other share one.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol

import msgspec

import asyncwatch
from asyncwatch.commands import Command, Statistics, StopRun, WatchStack, WorkerStack
from asyncwatch.control import protocol
from asyncwatch.control.protocol import FOLLOWING, LOOKING, Kind, Message, ProtocolError
from asyncwatch.events import Batch
from asyncwatch.events.run import recording_sentence
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.snapshot import Snapshot

BACKLOG = 8 << 20
"""Bytes that wait for a client. It gets no more batches until it has read them."""
MOST_WAITING = 1_000
"""Frames that wait for a client, at most: asyncio counts them at every write."""
HELLO_TIMEOUT = 5.0
"""Seconds that a client may take for its first message."""
FIGURES_EVERY, FIGURES_AT_REST_EVERY = 0.25, 1.0
"""Seconds between two `Figures`, and while nothing happens: then the lag of the loop is all that changes."""
LAST_WRITES = 1.0
"""Seconds that clients get to read the last frames."""
STALLED_AFTER = 1.0
"""Seconds without reading after which a client loses its place in a snapshot: what that keeps of the past needs
memory."""
SHARED_SIZE = BACKLOG // 4
"""Bytes of batches since a snapshot up to which another client gets the same one, and the batches."""
SHARED_FOR = 1.0
"""Seconds for which a snapshot is kept for another client."""
_ROOM = 1 << 17
"""Bytes that wait for a client while it is sent a snapshot. Few: a client that comes and goes costs what was made."""
_READ = 1 << 14
"""Bytes read at a time: what a client sends is handled a few milliseconds at a time."""
_READ_AFTER_END = 64
"""Most reads after the end of a connection."""


class Run(NamedTuple):
    """What a server shows. All functions belong to the server's thread.

    `send` passes commands on. `send_then` also calls its second argument when they are carried out, with the number of
    events so far.
    """

    id: str
    name: str
    pid: int
    fleet: Fleet
    send: Callable[[Sequence[Command]], None]
    send_then: Callable[[Sequence[Command], Callable[[int], None]], None]
    statistics: Callable[[], Statistics]


class Home(Protocol):
    """Where a client belongs: to a `ControlServer`, or before it has said which one it means, to a `Door`."""

    buffer: bytearray
    """Where clients read to, one at a time."""

    def went(self, client: Client) -> None:
        """Remove a client whose connection has ended."""

    def server_for(self, client: Client, run: str) -> ControlServer | None:
        """Return the server of the run with this ID, to which the client belongs from now on; None if there is none.

        Raises:
            ProtocolError: The client names no run, and there are several.

        """


class ControlServer:
    """The clients of one run. Those of a listening socket come through a `Door`.

    Call `take` for every batch, just before it is applied to the fleet of the run.

    Args:
        run: the run.
        on_change: called when a client comes, goes or detaches the run.
        on_hang_up: called when the terminal of the command has gone.

    """

    def __init__(
        self,
        run: Run,
        *,
        on_change: Callable[[], None] = lambda: None,
        on_hang_up: Callable[[], None] = lambda: None,
    ) -> None:
        self.run = run
        self.is_detached = False
        """Whether the run goes on without the command that started it."""
        self.is_stopping = False
        """Whether the run was asked to stop."""
        self.on_change = on_change
        self.on_hang_up = on_hang_up
        self.has_begun = False
        """Whether there were events."""
        self.buffer = bytearray(_READ)
        """Where clients read to, one at a time."""
        self._clients: set[Client] = set()
        self._plan: protocol.PlanMade | None = None
        self._ended: protocol.Ended | None = None
        self.taken = 0
        """Events so far."""
        self._answers: deque[tuple[int, Client, protocol.Carried]] = deque()  # each waits until so many were taken
        self._figures_timer: asyncio.TimerHandle | None = None
        self._reported: tuple[object, ...] = ()  # what has to be reported soon, of the last figures
        self._reported_at = 0.0
        self._snapshots: list[_Snapshot] = []  # those that are made or kept, the oldest first
        self._turns = _Turns()
        self._watches = _Watches(run.send)

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._clients)

    @property
    def clients(self) -> int:
        """How many clients there are, the command included."""
        return sum(client.has_said_hello for client in self._clients)

    @property
    def viewers(self) -> int:
        """How many dashboards show the run, or are about to."""
        return sum(client.kind in LOOKING for client in self._clients)

    @property
    def followers(self) -> int:
        """How many clients get events."""
        return sum(client.is_following for client in self._clients)

    @property
    def has_owner(self) -> bool:
        """Whether the command that started the run is connected."""
        return any(client.kind is Kind.COMMAND for client in self._clients)

    # -- connections

    async def adopt(self, connection: socket.socket, kind: Kind) -> None:
        """Take a client that is connected already, and counts as one of this kind before it says hello."""
        client = Client(self, connection, kind)
        self._clients.add(client)
        connection.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: client, connection)

    def server_for(self, client: Client, run: str) -> ControlServer:
        """Return itself: the client is that of this run, whatever ID it gives."""
        del run
        self._clients.add(client)
        return self

    async def close(self) -> None:
        """End all connections, after clients have read what was sent, or `LAST_WRITES` seconds."""
        if self._figures_timer is not None:
            self._figures_timer.cancel()
        clients = [*self._clients]
        for client in clients:
            client.finish()
        if clients:
            await asyncio.wait([client.closed for client in clients], timeout=LAST_WRITES)
        for client in clients:
            client.abort()
        self._turns.stop()

    def close_after_fork(self) -> None:
        """Close all sockets in a forked process: clients are to see the end of this one, not of its children."""
        for client in self._clients:
            with suppress(OSError):
                client.connection.close()

    # -- what clients get

    def open(self, plan: protocol.PlanMade) -> None:
        """Announce the run: its plan was made."""
        self._plan = plan
        for client in self._clients:
            if client.has_said_hello:
                self._introduce(client)

    def report(self, problem: str) -> None:
        """Tell dashboards of a problem that is no part of the run."""
        for client in self._clients:
            if client.is_following:
                client.send(protocol.Problem(problem))

    def take(self, batch: Batch) -> None:
        """Send a batch to all clients. Call it before the batch is applied to the fleet."""
        if not batch:
            return
        if not self.has_begun:
            self.has_begun = True
            if self._plan is not None:  # a million names are not needed any more
                self._plan = msgspec.structs.replace(self._plan, foreseen=())
        frame: bytes | None = None
        for snapshot in self._snapshots:
            frame = frame or protocol.batch_frame(batch)
            snapshot.take(batch, frame)
        for client in self._clients:
            if client.expects(batch):
                frame = frame or protocol.batch_frame(batch)
                client.take(frame, batch[-1].seq + 1)
        self.taken = batch[-1].seq + 1
        self._answer()

    def end(self, ended: protocol.Ended) -> None:
        """Tell all clients that the run has ended."""
        self._ended = ended
        self._answer()
        for client in self._clients:
            if client.kind is not None:  # or was adopted, and its hello is not read yet
                client.send_after_events(ended)

    def _introduce(self, client: Client) -> None:
        """Send what a client gets first."""
        if self._plan is not None and client.kind is not Kind.ASKER:
            foreseen = self._plan.foreseen if client.is_following else ()
            client.send(msgspec.structs.replace(self._plan, foreseen=foreseen))
        self._begin_to_follow(client)

    def _begin_to_follow(self, client: Client) -> None:
        if client.is_following:
            if self.has_begun:
                client.request_snapshot()
            self._plan_figures()

    def _plan_figures(self) -> None:
        if self._figures_timer is None:
            self._figures_timer = asyncio.get_running_loop().call_later(FIGURES_EVERY, self._send_figures)

    def _send_figures(self) -> None:
        self._figures_timer = None
        following = [client for client in self._clients if client.is_following]
        if not following:
            return
        self._plan_figures()
        known, now = self.run.statistics(), asyncio.get_running_loop().time()
        self._watches.note(known.stack)
        self._watches.next()
        work = self.taken, known.events, known.in_flight, known.queued, known.held
        urgent = work, known.blocked, known.stack, self.viewers, len(following)
        if urgent == self._reported and now < self._reported_at + FIGURES_AT_REST_EVERY - FIGURES_EVERY / 2:
            return
        self._reported, self._reported_at = urgent, now
        known = msgspec.structs.replace(known, viewers=self.viewers)
        for client in following:
            stack = self._watches.stack_for(client)
            client.show(msgspec.structs.replace(known, stack=stack, skipped=client.skipped))

    # -- what clients ask for

    def came(self, client: Client) -> None:
        """Greet a client, which has said hello."""
        client.send(protocol.Welcome(asyncwatch.__version__, self.run.id, self.run.name, self.run.pid))
        self._introduce(client)
        if self._ended is not None:
            client.send_after_events(self._ended)
        self.on_change()

    def went(self, client: Client) -> None:
        """Remove a client whose connection has ended."""
        self._clients.discard(client)
        self._watches.drop(client)
        self.on_change()

    def receive(self, client: Client, message: Message) -> None:
        """Do what a client asks for.

        Raises:
            ProtocolError: No client sends this.

        """
        match message:
            case protocol.Commands(commands, token):
                if len(commands) > protocol.COMMANDS_A_FRAME:
                    raise ProtocolError(f"{len(commands):,} commands in a frame")
                others: list[Command] = []
                for command in commands:
                    if isinstance(command, WatchStack):
                        self._watches.watch(client, command.worker)
                    elif not client.is_read_only:
                        others.append(command)
                self._carry_out(client, others, token)
            case protocol.Ask():
                client.send(self._info())
            case protocol.Detach() if client.kind in (Kind.COMMAND, Kind.DASHBOARD):
                self.detach()
            case protocol.Follow() if client.kind is Kind.COMMAND:
                if not client.is_following:
                    client.is_following = True
                    self._begin_to_follow(client)
            case protocol.HangUp() if client.kind is Kind.COMMAND:
                self.on_hang_up()
            case protocol.Hello():
                raise ProtocolError("a second Hello")
            case _:
                pass  # not for this client to say

    def queue(self, client: Client) -> None:
        """Let a client send parts of its snapshot, in turns with others, as long as it can."""
        self._turns.add(client)

    def snapshot_since(self, events: int) -> _Snapshot:
        """Return a snapshot of a state that so many events or more led to. It is in use until `release`."""
        newest = self._snapshots[-1] if self._snapshots else None
        if newest is None or newest.batches is None or newest.size > SHARED_SIZE or newest.start < events:
            newest = _Snapshot(self.run.fleet, self.taken)
            self._snapshots.append(newest)
        newest.users += 1
        return newest

    def release(self, snapshot: _Snapshot) -> None:
        """Forget a snapshot soon, if no client uses it by then."""
        snapshot.users -= 1
        if snapshot.batches is None:
            self._forget(snapshot)
        else:
            asyncio.get_running_loop().call_later(SHARED_FOR, self._forget, snapshot)

    def _forget(self, snapshot: _Snapshot) -> None:
        if not snapshot.users and snapshot in self._snapshots:
            self._snapshots.remove(snapshot)

    def detach(self) -> None:
        """Let the run go on without the command that started it."""
        self.is_detached = True
        for client in self._clients:
            if client.kind is Kind.COMMAND:
                client.send(protocol.Detached())
        self.on_change()

    def _carry_out(self, client: Client, commands: list[Command], token: int) -> None:
        if any(isinstance(command, StopRun) for command in commands):
            self.is_stopping = True
        if token and self._ended is None:
            self.run.send_then(commands, partial(self._carried, client, token))
        elif token:
            client.send_after_events(protocol.Carried(token))
        elif commands:
            self.run.send(commands)

    def _carried(self, client: Client, token: int, events: int) -> None:
        self._answers.append((events, client, protocol.Carried(token)))
        self._answer()

    def _answer(self) -> None:
        while self._answers and (self._answers[0][0] <= self.taken or self._ended is not None):
            _, client, answer = self._answers.popleft()
            client.send_after_events(answer)

    def _info(self) -> protocol.RunInfo:
        fleet = self.run.fleet
        return protocol.RunInfo(
            has_begun=self.has_begun,
            workers=fleet.workers,
            settled=fleet.settled,
            counts={state.value: number for state, number in fleet.counts.items() if number},
            elapsed=fleet.end,
            viewers=self.viewers,
            is_detached=self.is_detached,
            is_stopping=self.is_stopping,
            not_recorded="" if fleet.not_recorded is None else recording_sentence(fleet.not_recorded),
            flapping=fleet.services(self._now()).flapping,
        )

    def _now(self) -> float:
        """Return the seconds since the run started: time goes on without events."""
        fleet = self.run.fleet
        if fleet.run is None or fleet.is_settled:
            return fleet.end
        return max(fleet.latest, time.time() - fleet.run.started_at)


class _Snapshot:
    """The state after `start` events, in frames that are made when a client is the first to need them.

    `batches` are the frames of what followed; None if there are too many, so that its clients need another snapshot.
    """

    def __init__(self, fleet: Fleet, start: int) -> None:
        self.start = start
        self.users = 0
        self.is_whole = False
        self.batches: list[bytes] | None = []
        self.size = 0
        """Bytes of `batches`."""
        self._snapshot = Snapshot(fleet)
        self._parts = self._snapshot.parts()
        self._frames: list[bytes] = []

    def take(self, batch: Batch, frame: bytes) -> None:
        """Note a batch, which is about to be applied to the fleet."""
        if not self.is_whole:
            self._snapshot.before(batch)
        if self.batches is not None:
            self.batches.append(frame)
            self.size += len(frame)
            if self.size > BACKLOG:
                self.batches = None

    def frame(self, number: int) -> bytes:
        """Return a frame. No client asks for one after the last."""
        if number == len(self._frames):
            part = next(self._parts)
            self.is_whole = part.is_last
            self._frames.append(protocol.snapshot_frame(part))
        return self._frames[number]

    def is_last(self, number: int) -> bool:
        """Return whether this is the number of the last frame."""
        return self.is_whole and number == len(self._frames) - 1


class _Turns:
    """Clients that are sent snapshots: one part for one of them in a loop iteration.

    As much time is left to others as a part took: the workers need the interpreter, too.
    """

    def __init__(self) -> None:
        self._clients: dict[Client, None] = {}
        self._next: asyncio.Handle | None = None

    def add(self, client: Client) -> None:
        self._clients[client] = None
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._take)

    def stop(self) -> None:
        self._clients.clear()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _take(self) -> None:
        self._next = None
        loop = asyncio.get_running_loop()
        start = loop.time()
        while self._clients:
            client = next(iter(self._clients))
            del self._clients[client]
            if client.wants_part:
                client.send_part()
                self._clients[client] = None
                break
        if self._clients:
            self._next = loop.call_later(loop.time() - start, self._take)


class _Watches:
    """The workers whose stacks clients watch. The engine follows one at a time, so several take turns."""

    def __init__(self, send: Callable[[Sequence[Command]], None]) -> None:
        self._send = send
        self._by_client: dict[Client, str] = {}
        self._stacks: dict[str, WorkerStack] = {}
        self._watched: str | None = None

    def watch(self, client: Client, worker: str | None) -> None:
        self._by_client.pop(client, None)
        if worker is not None:
            self._by_client[client] = worker
            self._follow(worker)
        else:
            self.next()

    def drop(self, client: Client) -> None:
        if self._by_client.pop(client, None) is not None:
            self.next()

    def note(self, stack: WorkerStack | None) -> None:
        if stack is not None:
            self._stacks[stack.worker] = stack

    def next(self) -> None:
        """Follow the next worker."""
        names = [*dict.fromkeys(self._by_client.values())]
        if not names:
            self._stacks.clear()
            self._follow(None)
        elif names != [self._watched]:
            place = names.index(self._watched) + 1 if self._watched in names else 0
            self._stacks = {name: stack for name, stack in self._stacks.items() if name in names}
            self._follow(names[place % len(names)])

    def stack_for(self, client: Client) -> WorkerStack | None:
        worker = self._by_client.get(client)
        return None if worker is None else self._stacks.get(worker)

    def _follow(self, worker: str | None) -> None:
        if worker != self._watched:
            self._watched = worker
            self._send((WatchStack(worker),))


class Client(asyncio.BufferedProtocol):
    """One connection."""

    def __init__(self, home: Home, connection: socket.socket, adopted_as: Kind | None = None) -> None:
        self.kind = adopted_as
        self.is_read_only = False
        self.has_said_hello = False
        self.is_following = False
        """Whether it gets events."""
        self.skipped = 0
        """Events that were not sent."""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._home = home
        self.connection = connection
        self._is_adopted = adopted_as is not None
        self._is_refused = False
        self._is_finishing = False
        self._reader = protocol.FrameReader(protocol.LARGEST_HELLO, is_run=False)
        self._transport: asyncio.Transport | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self._figures: Statistics | None = None
        self._full_since: float | None = None
        self._waiting = 0
        self._is_behind = False
        self._needs_snapshot = False
        self._snapshot: _Snapshot | None = None
        self._next_frame = 0
        self._known = 0  # events that were sent, in batches or as the state that they led to
        self._messages: list[Message] = []  # what follows the snapshot and the batches after it

    # -- as asyncio calls it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first message."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  a stream socket
        self._transport = transport
        transport.set_write_buffer_limits(high=_ROOM, low=_ROOM // 4)
        if not self._is_adopted:  # a process that was forked may import Textual first
            loop = asyncio.get_running_loop()
            self._timeout = loop.call_later(HELLO_TIMEOUT, self._refuse, "no message came in time")

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return where to read to."""
        del sizehint
        return self._home.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Do what the messages say."""
        self._receive(memoryview(self._home.buffer)[:nbytes])

    def eof_received(self) -> None:
        """End the connection: the client has gone, and reads nothing."""
        self.abort()

    def pause_writing(self) -> None:
        """Make no more of the snapshot: the client has enough to read."""
        self._full_since = asyncio.get_running_loop().time()

    def resume_writing(self) -> None:
        """Go on: the client has read most of what was sent."""
        self._full_since = None
        self._waiting = 0
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()
        if self.wants_part:
            self._server.queue(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._transport = None
        if exc is not None:  # while writing: what the client sent before it went is still to be read
            with suppress(OSError):
                for _ in range(_READ_AFTER_END):
                    if not (data := self.connection.recv(_READ)):
                        break
                    self._receive(data)
        self._leave_snapshot()
        self._needs_snapshot = False
        if self._timeout is not None:
            self._timeout.cancel()
        if not self.closed.done():
            self.closed.set_result(None)
        self._home.went(self)

    # -- as the server calls it

    @property
    def wants_part(self) -> bool:
        """Whether the client is to be sent a part of a snapshot, and reads."""
        is_missing = self._needs_snapshot or self._snapshot is not None
        return is_missing and self._full_since is None and self._transport is not None

    def expects(self, batch: Batch) -> bool:
        """Return whether the client gets a batch now, not after or in a snapshot."""
        if self._snapshot is not None and self._is_stalled:
            self._fall_behind()
        if self._is_behind:
            self.skipped += len(batch)
        return self.is_following and not self._needs_snapshot and self._snapshot is None

    def take(self, frame: bytes, end: int) -> None:
        """Send a batch of the events before `end`."""
        self._write(frame)
        self._known = end
        size = 0 if self._transport is None else self._transport.get_write_buffer_size()
        if size > BACKLOG or self._waiting > MOST_WAITING:
            self._fall_behind()

    def request_snapshot(self) -> None:
        """Send a snapshot, and then batches."""
        self._needs_snapshot = True
        if self.wants_part:
            self._server.queue(self)

    def send_part(self) -> None:
        """Send a part of the snapshot; after the last one, what followed meanwhile."""
        if self._snapshot is None:
            self._needs_snapshot = self._is_behind = False
            self._snapshot = self._server.snapshot_since(self._known)
            self._next_frame = 0
        snapshot, number = self._snapshot, self._next_frame
        self._write(snapshot.frame(number))
        self._next_frame += 1
        if not snapshot.is_last(number):
            return
        if snapshot.batches is None:
            self._known = snapshot.start
            self._fall_behind()
        else:
            self._known = self._server.taken
            self._leave_snapshot()
            self._write(b"".join(snapshot.batches))
            self._send_messages()

    def send(self, message: Message) -> None:
        """Send a message now."""
        self._write(protocol.message_frame(message))

    def send_after_events(self, message: Message) -> None:
        """Send a message after the events so far, or the snapshot that stands for them."""
        self._messages.append(message)
        self._send_messages()
        if len(self._messages) > MOST_WAITING:
            self.abort()  # it asks and asks, and does not read the answers

    def show(self, figures: Statistics) -> None:
        """Send figures if they are new, and the client has all events, as far as the run can know."""
        has_all = self._snapshot is None and not self._needs_snapshot and self._full_since is None
        if has_all and figures != self._figures:
            self._figures = figures
            self.send(protocol.Figures(figures))

    def finish(self) -> None:
        """Close the connection after all that the client is to get."""
        self._is_finishing = True
        self._send_messages()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # -- its own

    @property
    def _server(self) -> ControlServer:
        assert isinstance(self._home, ControlServer)  # noqa: S101  the client has said hello, or was adopted
        return self._home

    @property
    def _is_stalled(self) -> bool:
        now = asyncio.get_running_loop().time()
        return self._full_since is not None and now - self._full_since > STALLED_AFTER

    def _receive(self, data: bytes | memoryview) -> None:
        try:
            for message in self._reader.feed(data):
                if self._is_refused:
                    return
                assert isinstance(message, Message)  # noqa: S101  clients send nothing else
                if self.has_said_hello:
                    self._server.receive(self, message)
                else:
                    self._begin(message)
        except ProtocolError as error:
            self._refuse(str(error))

    def _begin(self, message: Message) -> None:
        if not isinstance(message, protocol.Hello):
            raise ProtocolError("the first message is not Hello")
        if message.protocol != protocol.PROTOCOL:
            theirs, ours = f"asyncwatch {message.version}", f"asyncwatch {asyncwatch.__version__}"
            raise ProtocolError(f"the run is of {ours}, which does not understand {theirs}")
        if message.kind == Kind.COMMAND and not self._is_adopted:
            raise ProtocolError("a run has one command")
        try:
            self.kind = Kind(message.kind)
        except ValueError:
            raise ProtocolError("an unknown kind of client") from None
        if self._timeout is not None:
            self._timeout.cancel()
        server = self._home.server_for(self, message.run or "")
        if server is None:  # the run has ended meanwhile
            self._is_refused = True
            self.abort()
            return
        self._home = server
        self._reader.largest = protocol.LARGEST_FROM_CLIENT
        self.has_said_hello = True
        self.is_read_only = message.is_read_only
        self.is_following = self.kind in FOLLOWING
        self._server.came(self)

    def _refuse(self, reason: str) -> None:
        self._is_refused = True
        self._leave_snapshot()
        self.is_following = self._needs_snapshot = self._is_behind = False
        self.send(protocol.Refused("protocol", reason))
        self.finish()
        if self._transport is not None:
            self._timeout = asyncio.get_running_loop().call_later(LAST_WRITES, self.abort)

    def _write(self, frame: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(frame)
        if self._full_since is not None:
            self._waiting += 1
            if self._waiting > 2 * MOST_WAITING:
                self._transport.pause_reading()  # as above

    def _send_messages(self) -> None:
        if self._snapshot is not None or self._needs_snapshot:
            return
        messages, self._messages = self._messages, []
        for message in messages:
            self.send(message)
        if self._is_finishing and self._transport is not None:
            self._transport.close()

    def _leave_snapshot(self) -> None:
        if self._snapshot is not None:
            snapshot, self._snapshot = self._snapshot, None
            self._server.release(snapshot)

    def _fall_behind(self) -> None:
        """Send no more batches: a snapshot takes their place once the client has read what was sent."""
        if self._snapshot is not None:
            self.skipped += self._server.taken - self._snapshot.start
            self._leave_snapshot()
        self._is_behind = self._needs_snapshot = True
