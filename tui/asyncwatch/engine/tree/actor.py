"""A task with a mailbox: what changes an actor goes through it, one message after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from asyncwatch.engine.tree.crew import Crew
from asyncwatch.engine.tree.errors import NoSuchSupervisor
from asyncwatch.engine.tree.life import Ending
from asyncwatch.events.tree import shown_path

Handler = Callable[..., Awaitable[Any]]
Message = tuple[Handler, tuple[Any, ...], "asyncio.Future[Any] | None"]


class Actor:
    """Takes messages, until `ending` is set: requests, which are answered, and its own reminders, which are not."""

    def __init__(self, path: str, crew: Crew) -> None:
        self.path = path
        self.crew = crew
        self.ending: Ending | None = None
        """Set when it is to end, or has ended."""
        self._mailbox: asyncio.Queue[Message] = asyncio.Queue()

    @property
    def shown(self) -> str:
        """What it is called in texts."""
        return shown_path(self.path)

    async def call(self, handler: Handler, *args: object) -> Any:
        """Carry out a request when its turn comes; return or raise what comes of it.

        Raises:
            NoSuchSupervisor: the actor ends before.

        """
        if self.ending is not None:
            raise self._gone()
        reply = self.crew.report.loop.create_future()
        self._mailbox.put_nowait((handler, args, reply))
        try:
            return await reply
        finally:
            del reply  # the traceback of the error that it holds has this frame

    def post(self, handler: Handler, *args: object) -> None:
        """Carry something out when its turn comes, unless the actor ends before."""
        if self.ending is None:
            self._mailbox.put_nowait((handler, args, None))

    async def take_message(self) -> None:
        """Carry out what comes next, unless the actor is to end by then."""
        message = await self._mailbox.get()
        handler, args, reply = message
        if self.ending is not None:
            self._mailbox.put_nowait(message)  # to be refused with the others
        elif reply is None:
            await handler(*args)
        else:
            await self._answer(handler, args, reply)

    def finish(self, ending: Ending) -> None:
        """End after the message that is being carried out; the first ending counts."""
        if self.ending is None:
            self.ending = ending
            self._mailbox.put_nowait((_wake_up, (), None))

    def refuse_messages(self) -> None:
        """Tell who still waits for an answer that there will be none."""
        while not self._mailbox.empty():
            _, _, reply = self._mailbox.get_nowait()
            if reply is not None and not reply.done():
                reply.set_exception(self._gone())

    def _gone(self) -> NoSuchSupervisor:
        return NoSuchSupervisor(f"the supervisor {self.shown} has ended")

    async def _answer(self, handler: Handler, args: tuple[Any, ...], reply: asyncio.Future[Any]) -> None:
        try:
            result = await handler(*args)
        except Exception as error:  # the answer to the request
            if not reply.done():
                reply.set_exception(error)
        except BaseException:  # somebody ends the actor's own task
            if not reply.done():
                reply.set_exception(self._gone())
            raise
        else:
            if not reply.done():
                reply.set_result(result)
        finally:
            del reply  # as in `call`


async def _wake_up() -> None:
    """Do nothing but end a wait for messages."""
