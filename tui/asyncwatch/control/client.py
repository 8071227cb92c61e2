"""The client's end of a connection to a run."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import UNSET

import asyncwatch
from asyncwatch.commands import Command, Disconnected, Problem, SnapshotPart, Statistics, Update
from asyncwatch.control import protocol
from asyncwatch.control.protocol import FrameReader, Kind, Message, ProtocolError, Received

ENOUGH = 64
"""Updates that wait for the reader, about. While there are more, nothing is read from the socket."""
MOST_UNSENT = 10_000
"""Calls of `send` that wait for the run to read. Later ones are dropped."""
LAST_WRITES = 1.0
"""Seconds that the run gets to read the last commands."""
_READ = 1 << 18
_FRAMES_AT_ONCE = 8
_SOCKET_FOLLOWS = 0.5
"""Seconds in which the socket of a run appears, whose record precedes it."""
_AGAIN = 0.01
"""Seconds between two attempts to connect to a run that has too many clients to accept."""


class ConnectionRefusedByRunError(Exception):
    """The run does not take this client; the message says why. `kind` is that of `protocol.Refused`."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class RunGoneError(Exception):
    """The process of the run has ended, or closed the connection."""


class Connection:
    """A connection that is used without an event loop: a message is waited for.

    The constructor says hello, to the `run` with this ID if several listen on the socket. `connection` is a connected
    socket, which belongs to this object.
    """

    def __init__(self, connection: socket.socket, kind: Kind, *, is_read_only: bool = False, run: str = "") -> None:
        self.socket = connection
        self.welcome: protocol.Welcome | None = None
        """What the run said first; None before."""
        self._reader = FrameReader(protocol.LARGEST_FROM_RUN, is_run=True)
        self._received: deque[Received] = deque()
        self._error: ProtocolError | None = None
        self.send(protocol.Hello(protocol.PROTOCOL, asyncwatch.__version__, kind, is_read_only, run or UNSET))

    def send(self, message: Message) -> None:
        """Send a message. Blocks while the run does not read. Only `receive` reports that the connection has ended."""
        self._write(protocol.message_frame(message))

    def send_commands(self, commands: Sequence[Command], token: int) -> None:
        """Send any number of commands. The run answers `Carried` with the `token`. Otherwise as `send`."""
        for frame in protocol.command_frames(commands, token):
            self._write(frame)

    def _write(self, frame: bytes) -> None:
        with contextlib.suppress(OSError):
            self.socket.sendall(frame)

    def receive(self, timeout: float | None = None) -> Received | None:
        """Return the next message, or None after `timeout` seconds without one.

        Raises:
            RunGoneError: The connection has ended.
            ConnectionRefusedByRunError: The run does not take this client.
            ProtocolError: The run does not follow the protocol.

        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._received:
            if self._error is not None:
                raise self._error
            self.socket.settimeout(None if deadline is None else max(0.0, deadline - time.monotonic()))
            try:
                data = self.socket.recv(_READ)
            except (TimeoutError, BlockingIOError):
                return None
            except OSError:
                data = b""
            finally:
                self.socket.settimeout(None)
            if not data:
                raise RunGoneError("the process of the run has gone")
            try:
                self._received.extend(self._reader.feed(data))
            except ProtocolError as error:  # raised after what came before
                self._error = error
        received = self._received.popleft()
        if isinstance(received, protocol.Refused):
            raise ConnectionRefusedByRunError(received.kind, received.reason)
        if isinstance(received, protocol.Welcome):
            self.welcome = received
        return received

    def close(self) -> None:
        """End the connection."""
        self.socket.close()

    def take_over(self) -> tuple[FrameReader, deque[Received]]:
        """Return the reader of frames, with what it has of the next one, and the messages not taken yet."""
        return self._reader, self._received


class RunClient:
    """A run in another process, for the user interface. Implements `commands.Controller`.

    Args:
        connection: to the run.
        on_message: gets every message that is no update and no statistics, on the event loop of `events`.
        lifeline: a connection to a process without which this one is to end: its end disconnects the client.

    """

    def __init__(
        self,
        connection: Connection,
        on_message: Callable[[Message], None] = lambda _message: None,
        lifeline: socket.socket | None = None,
    ) -> None:
        self.ended: protocol.Ended | None = None
        """How the run has ended, once it has."""
        self.journal = ""
        """The path of the run's journal, once the run has said it; empty if it is not recorded."""
        self.run_id = connection.welcome.run if connection.welcome is not None else ""
        """The id of the run; empty before its first message."""
        self.lost = asyncio.Event()
        """Set when the run cannot be reached any more."""
        self.is_refused = False
        """Whether that is because one side does not understand the other, or the run does not take this client."""
        self._socket = connection.socket
        self._on_message = on_message
        self._lifeline = lifeline
        self._reader, self._early = connection.take_over()
        self._statistics = Statistics()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.get_ident()
        self._updates = _Updates(self._read_on)
        self._is_reading = False
        self._is_writing = False
        self._is_closed = False
        self._unsent: deque[Iterator[bytes]] = deque()
        self._frame = memoryview(b"")  # the rest of the one that is being sent
        self._socket.setblocking(False)

    def events(self) -> asyncio.Queue[Update]:
        """Return the queue of all updates, for the running event loop; once."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        while self._early and not self.lost.is_set():
            self._take(self._early.popleft())
        if not self.lost.is_set():
            self._is_reading = True
            self._loop.add_reader(self._socket, self._read)
            if self._lifeline is not None:
                self._loop.add_reader(self._lifeline, self._lose, "The command of this dashboard has ended.")
            self._write()
        return self._updates

    def statistics(self) -> Statistics:
        """Return the latest figures of the engine."""
        return self._statistics

    def send(self, *commands: Command) -> None:
        """Pass commands on, from any thread. Never waits. They are dropped if the run cannot be reached."""
        self._send(protocol.command_frames(commands))

    def detach(self) -> None:
        """Let the run go on without the command that started it."""
        self.send_message(protocol.Detach())

    def send_message(self, message: Message) -> None:
        """Send a message, from any thread. Never waits."""
        self._send(iter((protocol.message_frame(message),)))

    def close(self) -> None:
        """End the connection, after what was sent has been written, if the run reads it within `LAST_WRITES`."""
        if self._is_closed:
            return
        self._is_closed = True
        self._stop()
        deadline = time.monotonic() + LAST_WRITES
        with contextlib.suppress(OSError):
            while not self.lost.is_set() and time.monotonic() < deadline and self._next_frame():
                self._socket.settimeout(max(0.001, deadline - time.monotonic()))
                self._frame = self._frame[self._socket.send(self._frame) :]
        self._socket.close()

    # -- its own

    def _send(self, frames: Iterator[bytes]) -> None:
        if threading.get_ident() == self._thread:
            self._add(frames)
        elif self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._add, frames)

    def _add(self, frames: Iterator[bytes]) -> None:
        if self._is_closed or self.lost.is_set():
            return
        if len(self._unsent) >= MOST_UNSENT:
            self._updates.put_nowait(Problem("The run takes no commands at the moment: it does not read them."))
            return
        self._unsent.append(frames)
        if not self._is_writing:
            self._write()

    def _write(self) -> None:
        """Write some frames, and the rest when the socket takes more."""
        try:
            for _ in range(_FRAMES_AT_ONCE):
                if self._next_frame():
                    self._frame = self._frame[self._socket.send(self._frame) :]
        except BlockingIOError:
            pass
        except OSError:  # reading tells that the connection has ended
            self._unsent.clear()
            self._frame = memoryview(b"")
        if not self._next_frame():
            self._stop_writing()
        elif self._loop is not None and not self._is_writing:
            self._is_writing = True
            self._loop.add_writer(self._socket, self._write)

    def _next_frame(self) -> bool:
        """Return whether there is something to write."""
        while not self._frame and self._unsent:
            if (frame := next(self._unsent[0], None)) is None:
                self._unsent.popleft()
            else:
                self._frame = memoryview(frame)
        return bool(self._frame)

    def _stop_writing(self) -> None:
        if self._is_writing and self._loop is not None:
            self._is_writing = False
            self._loop.remove_writer(self._socket)

    def _stop_reading(self) -> None:
        if self._is_reading and self._loop is not None:
            self._is_reading = False
            self._loop.remove_reader(self._socket)

    def _stop(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._stop_reading()
            self._stop_writing()
            if self._lifeline is not None:
                self._loop.remove_reader(self._lifeline)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            for received in self._reader.feed(data):
                self._take(received)
                if self.lost.is_set():
                    return
        except ProtocolError as error:
            reason = f"The run sent what asyncwatch {asyncwatch.__version__} does not understand: {error}."
            self._lose(reason, is_refused=True)
        if not data:
            self._lose("The run has ended." if self.ended is not None else "The process of the run has gone.")
        if self._updates.qsize() >= ENOUGH:
            self._stop_reading()

    def _read_on(self) -> None:
        if not self._is_reading and self._loop is not None and not self._is_closed and not self.lost.is_set():
            self._is_reading = True
            self._loop.add_reader(self._socket, self._read)

    def _take(self, received: Received) -> None:
        match received:
            case tuple() | SnapshotPart():
                self._updates.put_nowait(received)
            case protocol.Figures(statistics):
                self._statistics = statistics
            case protocol.Problem(text):
                self._updates.put_nowait(Problem(text))
            case protocol.Refused(_, reason):
                self._lose(f"The run does not take this dashboard: {reason}.", is_refused=True)
            case _:
                if isinstance(received, protocol.Ended):
                    self.ended = received
                elif isinstance(received, protocol.Welcome):
                    self.run_id = received.run
                elif isinstance(received, protocol.PlanMade):
                    self.journal = received.journal
                self._on_message(received)

    def _lose(self, reason: str, *, is_refused: bool = False) -> None:
        if not self.lost.is_set():
            self.is_refused = is_refused
            self.lost.set()
            self._stop()
            self._updates.put_nowait(Disconnected(reason))


class _Updates(asyncio.Queue[Update]):
    """A queue that says when there is room in it."""

    def __init__(self, on_room: Callable[[], None]) -> None:
        super().__init__()
        self._on_room = on_room

    def _get(self) -> Update:
        update: Update = super()._get()
        if self.qsize() <= ENOUGH // 2:
            self._on_room()
        return update


def connect(path: str, kind: Kind, *, is_read_only: bool = False, timeout: float = 5.0) -> Connection:
    """Connect to the run that listens on the socket `path`, `<id>.sock`, within `timeout` seconds.

    Raises:
        RunGoneError: Nothing listens there, it accepts no connection, or it is a process of another user.

    """
    # A dashboard whose command has connected it does without.
    from asyncwatch.control.discovery import ForeignPeerError, check_peer  # noqa: PLC0415

    deadline = time.monotonic() + timeout
    appears_by = min(deadline, time.monotonic() + _SOCKET_FOLLOWS)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    while True:
        try:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            connection.connect(path)
            check_peer(connection)
        except BlockingIOError as error:  # more clients than the system queues for it
            if time.monotonic() < deadline:
                time.sleep(_AGAIN)
                continue
            connection.close()
            raise RunGoneError("the run accepts no connection") from error
        except (OSError, ForeignPeerError) as error:
            if isinstance(error, FileNotFoundError) and time.monotonic() < appears_by:
                time.sleep(_AGAIN)
                continue
            connection.close()
            raise RunGoneError(getattr(error, "strerror", None) or str(error)) from error
        connection.settimeout(None)
        run = Path(path).name.partition(".")[0]
        return Connection(connection, kind, is_read_only=is_read_only, run=run)


def ask_info(path: str, timeout: float) -> protocol.RunInfo | None:
    """Return the state of the run that listens on the socket `path`; None if it does not answer in `timeout` seconds.

    Raises:
        RunGoneError: Nothing listens there, or the run ends.
        ConnectionRefusedByRunError: The run does not answer this client.
        ProtocolError: The run does not follow the protocol.

    """
    deadline = time.monotonic() + timeout
    connection = connect(path, Kind.ASKER, timeout=timeout)
    with contextlib.closing(connection):
        connection.send(protocol.Ask())
        for message in _received(connection, deadline):
            if isinstance(message, protocol.RunInfo):
                return message
    return None


def _received(connection: Connection, deadline: float) -> Iterator[Received]:
    while (received := connection.receive(max(0.0, deadline - time.monotonic()))) is not None:
        yield received
