"""The mailbox of a supervisor."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from asyncwatch.engine.tree.mailbox import Mailbox
from asyncwatch.otp import NoSuchSupervisor

LATE = "the supervisor low has ended"


class RefusedError(Exception):
    """An error that supports weak references."""


class Echo:
    """A handler that logs its messages, and raises those that are errors."""

    def __init__(self) -> None:
        self.log: list[object] = []

    async def __call__(self, value: object) -> object:
        self.log.append(value)
        if isinstance(value, BaseException):
            raise value
        return value


async def _handle(mailbox: Mailbox, number: int) -> None:
    for _ in range(number):
        await mailbox.handle_next()


def test_mailbox_handles_messages_in_order_and_replies_to_requests(run: Any) -> None:
    async def main() -> None:
        mailbox, echo = Mailbox("low"), Echo()
        request = asyncio.create_task(mailbox.call(echo, 1))
        await asyncio.sleep(0)
        mailbox.post(echo, 2)
        await _handle(mailbox, 2)
        assert await request == 1
        assert echo.log == [1, 2]

    run(main)


def test_mailbox_raises_the_error_of_a_request_in_its_caller_alone(run: Any) -> None:
    async def main() -> None:
        mailbox, echo = Mailbox("low"), Echo()
        request = asyncio.create_task(mailbox.call(echo, OSError("no")))
        await _handle(mailbox, 1)
        with pytest.raises(OSError, match="no"):
            await request

    run(main)


def test_mailbox_raises_the_error_of_a_reminder_in_its_supervisor(run: Any) -> None:
    async def main() -> None:
        mailbox, echo = Mailbox("low"), Echo()
        mailbox.post(echo, OSError("no"))
        with pytest.raises(OSError, match="no"):
            await mailbox.handle_next()

    run(main)


def test_closed_mailbox_refuses_pending_and_later_requests(run: Any) -> None:
    async def main() -> None:
        mailbox, echo = Mailbox("low"), Echo()
        pending = asyncio.create_task(mailbox.call(echo, 1))
        await asyncio.sleep(0)
        mailbox.close()
        mailbox.post(echo, 2)
        await mailbox.handle_next()
        assert not pending.done()
        mailbox.refuse_all()
        for request in (pending, mailbox.call(echo, 3)):
            with pytest.raises(NoSuchSupervisor, match=LATE):
                await request
        assert echo.log == []

    run(main)


def test_mailbox_that_is_closed_while_it_waits_returns(run: Any) -> None:
    async def main() -> None:
        mailbox = Mailbox("low")
        waiting = asyncio.create_task(mailbox.handle_next())
        await asyncio.sleep(0)
        mailbox.close()
        await waiting

    run(main)


def test_request_is_refused_when_the_supervisor_is_cancelled_while_it_handles_it(run: Any) -> None:
    async def main() -> None:
        mailbox = Mailbox("low")

        async def forever() -> None:
            await asyncio.Event().wait()

        request = asyncio.create_task(mailbox.call(forever))
        handling = asyncio.create_task(mailbox.handle_next())
        await asyncio.sleep(1)
        handling.cancel()
        with pytest.raises(NoSuchSupervisor, match=LATE):
            await request
        with pytest.raises(asyncio.CancelledError):
            await handling

    run(main)


def test_failed_request_leaves_nothing_to_the_garbage_collector(run: Any) -> None:
    """Neither its error nor its reply is part of a cycle."""

    async def main() -> None:
        mailbox = Mailbox("low")
        errors: list[weakref.ref[BaseException]] = []

        async def refuse() -> None:
            raise RefusedError

        async def request() -> None:
            try:
                await mailbox.call(refuse)
            except RefusedError as error:
                errors.append(weakref.ref(error))

        await asyncio.gather(request(), mailbox.handle_next())
        await asyncio.sleep(1)
        assert [reference() for reference in errors] == [None]

    gc.collect()
    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()
