"""The mailbox of a supervisor: requests, which get a reply, and its own reminders, which get none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from asyncwatch.engine.tree.errors import NoSuchSupervisor

Handler = Callable[..., Awaitable[Any]]
Message = tuple[Handler, tuple[Any, ...], "asyncio.Future[Any] | None"]


class Mailbox:
    """FIFO of messages, handled one after the other. A message is a handler and its arguments.

    `shown` is what the supervisor is called in errors.
    """

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._is_closed = False

    async def call(self, handler: Handler, *args: object) -> Any:
        """Run the handler after the messages before it; return its result or raise its error.

        Raises:
            NoSuchSupervisor: the mailbox was closed before.

        """
        if self._is_closed:
            raise self.closed_error()
        reply = asyncio.get_running_loop().create_future()
        self._messages.put_nowait((handler, args, reply))
        try:
            return await reply
        finally:
            del reply  # the traceback of the error that it holds has this frame

    def post(self, handler: Handler, *args: object) -> None:
        """Run the handler after the messages before it, unless the mailbox is closed before."""
        if not self._is_closed:
            self._messages.put_nowait((handler, args, None))

    async def handle_next(self) -> None:
        """Wait for the next message and handle it, unless the mailbox is closed by then."""
        message = await self._messages.get()
        handler, args, reply = message
        try:
            if self._is_closed:
                self._messages.put_nowait(message)  # `refuse_all` refuses it with the others
            elif reply is None:
                await handler(*args)
            else:
                await self._answer(handler, args, reply)
        finally:
            del message, reply  # as in `call`; on Python 3.13 a traceback holds the frames of its callers too

    def close(self) -> None:
        """Handle no further message. The one that is being handled goes on; `handle_next` stops waiting."""
        if not self._is_closed:
            self._is_closed = True
            self._messages.put_nowait((_do_nothing, (), None))

    def refuse_all(self) -> None:
        """Answer the requests that were not handled: the supervisor has ended."""
        while not self._messages.empty():
            _, _, reply = self._messages.get_nowait()
            if reply is not None and not reply.done():
                reply.set_exception(self.closed_error())

    def closed_error(self) -> NoSuchSupervisor:
        """Return the error of a request that comes too late."""
        return NoSuchSupervisor(f"the supervisor {self._shown} has ended")

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
