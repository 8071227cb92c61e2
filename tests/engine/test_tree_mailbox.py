"""The mailbox of a supervisor."""

from __future__ import annotations

import asyncio
import gc
import weakref
from itertools import pairwise
from typing import Any

import pytest

from asyncwatch.engine.tree.mailbox import HANDLED_AT_ONCE, Mailbox
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


def test_action_is_done_at_once_only_while_the_supervisor_waits_for_a_message(run: Any) -> None:
    async def main() -> None:
        mailbox, echo, done = Mailbox("low"), Echo(), list[int]()

        def act(number: int, *posted: int) -> bool:
            done.append(number)
            for each in posted:
                assert not mailbox.handle_now(act, each)
                mailbox.post(echo, each)
            return True

        assert not mailbox.handle_now(act, 1)  # it is about to look for messages
        handling = asyncio.create_task(_handle(mailbox, 3))
        await asyncio.sleep(0)
        assert mailbox.handle_now(act, 2)
        assert not mailbox.handle_now(lambda: False)
        assert mailbox.handle_now(act, 3, 4, 5)
        assert not mailbox.handle_now(act, 6)  # two messages are before it
        await asyncio.sleep(0)
        assert (done, echo.log) == ([2, 3], [4, 5])
        mailbox.close()
        assert not mailbox.handle_now(act, 7)
        await handling

    run(main)


def test_error_of_an_action_that_was_done_at_once_is_raised_in_the_supervisor(run: Any) -> None:
    async def main() -> None:
        mailbox = Mailbox("low")
        handling = asyncio.create_task(mailbox.handle_next())
        await asyncio.sleep(0)

        def fail() -> bool:
            raise OSError("no")

        assert mailbox.handle_now(fail)
        with pytest.raises(OSError, match="no"):
            await handling

    run(main)


def test_mailbox_gives_way_between_many_messages_and_many_actions(run: Any) -> None:
    async def main() -> None:
        mailbox, echo = Mailbox("low"), Echo()
        for number in range(3 * HANDLED_AT_ONCE):
            mailbox.post(echo, number)
        handled = [0]
        handling = asyncio.create_task(_handle(mailbox, 3 * HANDLED_AT_ONCE + 1))
        for _ in range(4):  # an eager task begins at once
            handled.append(len(echo.log))
            await asyncio.sleep(0)
        assert handled[-1] == 3 * HANDLED_AT_ONCE
        assert max(after - before for before, after in pairwise(handled)) == HANDLED_AT_ONCE
        assert sum(mailbox.handle_now(lambda: True) for _ in range(3 * HANDLED_AT_ONCE)) == HANDLED_AT_ONCE
        mailbox.post(echo, "last")
        await handling

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
