"""The listening socket of a process, which all of its runs share. The first message of a client says which it means."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from asyncwatch.control import protocol
from asyncwatch.control.protocol import ProtocolError
from asyncwatch.control.server import Client, ControlServer
from asyncwatch.process import file_limit

MOST_CLIENTS = 256
FILES_SHARE = 8
"""Clients use at most this part of the open files that the process may have: workers need them."""
ACCEPT_AGAIN = 1.0
"""Seconds until connections are accepted again after the system had no descriptor left for one."""
_ACCEPTED_AT_ONCE = 16
"""Most connections accepted in a loop iteration."""
_READ = protocol.LARGEST_HELLO


class Door:
    """Accepts clients, and passes each on to the server of its run.

    Args:
        servers: those of the runs, by ID. They can come and go.
        is_peer_trusted: whether a client belongs to this user.

    """

    def __init__(
        self,
        servers: dict[str, ControlServer],
        *,
        is_peer_trusted: Callable[[socket.socket], bool] = lambda _peer: True,
    ) -> None:
        self.buffer = bytearray(_READ)
        """Where clients read to, one at a time."""
        self._servers = servers
        self._is_peer_trusted = is_peer_trusted
        self._newcomers: set[Client] = set()
        self._listener: socket.socket | None = None
        self._listen_again: asyncio.TimerHandle | None = None
        self._accepting: set[asyncio.Task[object]] = set()

    def listen(self, listener: socket.socket) -> None:
        """Take clients from a listening socket from now on, in place of an earlier one. The door closes it."""
        self._stop_listening()
        listener.setblocking(False)
        self._listener = listener
        self._start_listening()

    async def close(self) -> None:
        """Listen no more, and end the connections of clients that have not said which run they mean."""
        self._stop_listening()
        if self._accepting:
            await asyncio.wait(self._accepting)
        for client in [*self._newcomers]:
            client.abort()

    def close_after_fork(self) -> None:
        """Close all sockets in a forked process: clients are to see the end of this one, not of its children."""
        sockets = [client.connection for client in self._newcomers]
        for each in sockets if self._listener is None else [*sockets, self._listener]:
            with suppress(OSError):
                each.close()

    # -- as clients call it

    def went(self, client: Client) -> None:
        """Forget a client whose connection has ended."""
        self._newcomers.discard(client)

    def server_for(self, client: Client, run: str) -> ControlServer | None:
        """Return the server of the run with this ID, to which the client belongs from now on; None if there is none.

        Raises:
            ProtocolError: The client names no run, and there are several.

        """
        servers = [*self._servers.values()]
        if not run and len(servers) > 1:
            raise ProtocolError("several runs listen here, and the client names none")
        server = self._servers.get(run) if run else next(iter(servers), None)
        if server is not None:
            self._newcomers.discard(client)
            server.server_for(client, run)
        return server

    # -- its own

    def _start_listening(self) -> None:
        self._listen_again = None
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def _stop_listening(self) -> None:
        if self._listen_again is not None:
            self._listen_again.cancel()
            self._listen_again = None
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # there are too few descriptors, also for workers
                loop.remove_reader(listener)
                self._listen_again = loop.call_later(ACCEPT_AGAIN, self._start_listening)
                return
            if not self._is_peer_trusted(connection):
                _turn_away(connection, protocol.Refused("stranger", "the run belongs to another user"))
            elif self._connections >= min(MOST_CLIENTS, file_limit() // FILES_SHARE):
                _turn_away(connection, protocol.Refused("full", "the run has too many clients"))
            else:
                self._serve(connection)

    @property
    def _connections(self) -> int:
        return len(self._newcomers) + sum(server.connections for server in self._servers.values())

    def _serve(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        client = Client(self, connection)
        self._newcomers.add(client)
        coming = asyncio.get_running_loop().connect_accepted_socket(lambda: client, connection)
        task: asyncio.Task[object] = asyncio.ensure_future(coming)
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)


def _turn_away(connection: socket.socket, refusal: protocol.Refused) -> None:
    with connection, suppress(OSError):
        connection.setblocking(False)
        connection.send(protocol.message_frame(refusal))
