"""The mailbox of a supervisor: requests, which get a reply, and its own reminders, which get none."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from asyncwatch.engine.tree.errors import NoSuchSupervisor

Handler = Callable[..., Awaitable[Any]]
Message = tuple[Handler, tuple[Any, ...], "asyncio.Future[Any] | None"]
HANDLED_AT_ONCE = 50
"""Most messages handled in one loop iteration if none of them waits. As many restarts take about 1 ms."""


class Mailbox:
    """FIFO of messages, handled one after the other. A message is a handler and its arguments.

    `shown` is what the supervisor is called in errors.
    """

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._messages: deque[Message] = deque()
        self._arrival: asyncio.Future[None] | None = None
        """Set when a message comes while none is there to be handled."""
        self._handled = 0
        """Messages since the supervisor last waited for one, or gave way."""
        self._is_closed = False

    async def call(self, handler: Handler, *args: object) -> Any:
        """Run the handler after the messages before it; return its result or raise its error.

        Raises:
            NoSuchSupervisor: the mailbox was closed before.

        """
        if self._is_closed:
            raise self.closed_error()
        reply = asyncio.get_running_loop().create_future()
        self._put((handler, args, reply))
        try:
            return await reply
        finally:
            del reply  # the traceback of the error that it holds has this frame

    def post(self, handler: Handler, *args: object) -> None:
        """Run the handler after the messages before it, unless the mailbox is closed before."""
        if not self._is_closed:
            self._put((handler, args, None))

    def handle_now(self, action: Callable[..., bool], *args: object) -> bool:
        """Run an action in place of a message that would be handled next, if the supervisor is idle.

        Return whether it was done. The action waits for nothing; it returns False, and has done nothing, if that is not
        enough. An error that it raises is raised by `handle_next`.
        """
        arrival = self._arrival
        if arrival is None or arrival.done() or self._handled >= HANDLED_AT_ONCE:
            return False
        self._arrival = None  # the supervisor is busy: what is posted meanwhile is handled later
        self._handled += 1
        try:
            return action(*args)
        except Exception as error:
            self._put((_fail, (error,), None))
            return True
        finally:
            self._arrival = arrival
            if self._messages:
                self._wake()

    async def handle_next(self) -> None:
        """Wait for the next message and handle it, unless the mailbox is closed by then."""
        if not self._messages:
            await self._next_arrival()
        elif self._handled >= HANDLED_AT_ONCE:
            self._handled = 0
            await asyncio.sleep(0)
        self._handled += 1
        message = self._messages.popleft()
        handler, args, reply = message
        try:
            if self._is_closed:
                self._messages.append(message)  # `refuse_all` refuses it with the others
            elif reply is None:
                await handler(*args)
            else:
                await self._answer(handler, args, reply)
        finally:
            del message, args, reply  # as in `call`; on Python 3.13 a traceback holds the frames of its callers too

    def close(self) -> None:
        """Handle no further message. The one that is being handled goes on; `handle_next` stops waiting."""
        if not self._is_closed:
            self._is_closed = True
            self._put((_do_nothing, (), None))

    def refuse_all(self) -> None:
        """Answer the requests that were not handled: the supervisor has ended."""
        while self._messages:
            _, _, reply = self._messages.popleft()
            if reply is not None and not reply.done():
                reply.set_exception(self.closed_error())

    def closed_error(self) -> NoSuchSupervisor:
        """Return the error of a request that comes too late."""
        return NoSuchSupervisor(f"the supervisor {self._shown} has ended")

    def _put(self, message: Message) -> None:
        self._messages.append(message)
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def _next_arrival(self) -> None:
        self._handled = 0
        self._arrival = asyncio.get_running_loop().create_future()
        try:
            await self._arrival
        finally:
            self._arrival = None

    async def _answer(self, handler: Handler, args: tuple[Any, ...], reply: asyncio.Future[Any]) -> None:
        try:
            result = await handler(*args)
        except Exception as error:  # it belongs to the caller
            if not reply.done():
                reply.set_exception(error)
        except BaseException:  # the supervisor's own task is being cancelled
            if not reply.done():
                reply.set_exception(self.closed_error())
            raise
        else:
            if not reply.done():
                reply.set_result(result)
        finally:
            del reply  # as in `call`


async def _do_nothing() -> None:
    """Wake up `handle_next`."""


async def _fail(error: Exception) -> None:
    raise error
