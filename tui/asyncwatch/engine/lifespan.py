"""Lifespans: what a run, or each of its slots, opens before the work and closes after it, such as a client session.

An async context manager is entered and left in one task of its own, as those of anyio must be.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from contextvars import Context, copy_context
from typing import Any

from asyncwatch.engine.capture import log_safely
from asyncwatch.engine.describe import describe_error
from asyncwatch.engine.event_loop import note_abandoned
from asyncwatch.policies.runner import LIFESPAN_PER, LifespanPer
from asyncwatch.text import error_line

logger = logging.getLogger("asyncwatch.supervisor")

LifespanFactory = Callable[[], AbstractAsyncContextManager[Any]]
LAST_CHANCE = 1.0
"""Seconds that an exit gets once it is cancelled, because its time is over."""


class LifespanError(Exception):
    """The lifespan of a run cannot be entered, or has failed on its exit."""


class OpenLifespan:
    """One context, from its entry to its exit."""

    def __init__(self, factory: LifespanFactory, context: Context) -> None:
        self.value: Any = None
        """What the context manager returned on entry."""
        self.cancellation: asyncio.CancelledError | None = None
        """Of the caller of `close`, who has to be told afterwards."""
        self._factory = factory
        self._is_over = asyncio.Event()
        self._entered = asyncio.get_running_loop().create_future()
        self.task = asyncio.get_running_loop().create_task(self._hold(), name="asyncwatch lifespan", context=context)

    async def _hold(self) -> None:
        async with self._factory() as self.value:
            if not self._entered.done():
                self._entered.set_result(None)
            await self._is_over.wait()

    async def enter(self) -> None:
        """Wait until the context is entered; raise what that raised. A cancellation takes the entry back."""
        try:
            await asyncio.wait({self.task, self._entered}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.task.cancel()
            raise
        if not self._entered.done():
            self._entered.cancel()
            self.task.result()
            raise RuntimeError("the lifespan ended before it had begun")

    def leave(self) -> None:
        """Begin to leave the context."""
        self._is_over.set()

    async def close(self, seconds: float, grace: float) -> BaseException | None:
        """Leave the context, within so many `seconds` of the `grace` period.

        Return what that raised, or that it takes too long.
        A caller that is cancelled meanwhile waits on: see `cancellation`.
        """
        self.leave()
        if await self._wait(seconds):
            return None if self.task.cancelled() else self.task.exception()
        self.task.cancel()
        if not await self._wait(min(grace, LAST_CHANCE)):
            note_abandoned(self.task)
        return TimeoutError(f"its exit took longer than {grace:g} s, the grace period")

    async def _wait(self, seconds: float) -> bool:
        """Return whether the task ends in so many seconds, however often the caller is cancelled meanwhile."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        while not self.task.done() and (left := ends_at - loop.time()) > 0:
            try:
                await asyncio.wait({self.task}, timeout=left)
            except asyncio.CancelledError as error:
                self.cancellation = error
        return self.task.done()


class Lifespan:
    """The context around the attempts of a run, or one for each of its slots.

    All methods belong to the thread of the event loop.

    Args:
        factory: makes the context manager. Its value follows the arguments of the target.
        per: `run` for one that is entered before the first attempt, `slot` for one for each attempt in flight, used
            again by the next attempt. The first of them is entered before the first attempt, others when they are
            needed.
        name: of the factory, for messages. If there is one, errors of entry and exit are a `LifespanError`.
        targets: those that get the value; None for all.

    Raises:
        ValueError: `per` is neither.
        TypeError: the factory cannot be called.

    """

    def __init__(
        self,
        factory: LifespanFactory,
        per: LifespanPer = "run",
        *,
        name: str = "",
        targets: Collection[object] | None = None,
    ) -> None:
        if per not in LIFESPAN_PER:
            raise ValueError(f"lifespan_per must be run or slot, not {per!r}")
        if not callable(factory):
            raise TypeError(f"the lifespan must be a function that returns an async context manager, not {factory!r}")
        self.is_per_slot = per == "slot"
        self._factory = factory
        self._name = name
        self._targets = None if targets is None else [id(target) for target in targets]
        self._context = copy_context()
        self._opened: OpenLifespan | None = None
        self._all: list[OpenLifespan] = []
        """All that are open or being opened."""
        self._free: list[OpenLifespan] = []
        """Of slots: those that no attempt uses, the latest last."""
        self._entry: asyncio.Task[None] | None = None
        self._is_given_up = False
        self._is_closed = False

    def serves(self, target: object) -> bool:
        """Return whether a target gets the value."""
        return self._targets is None or id(target) in self._targets

    @property
    def value(self) -> Any:
        """The value of the context of the run."""
        return None if self._opened is None else self._opened.value

    async def open(self, patience: float) -> None:
        """Enter the context of the run, or of its first slot, once.

        Return when the entry is given up, too. It gets `patience` seconds to end then, or if the caller is cancelled.
        """
        if self._is_given_up or self._entry is not None:
            return
        self._context = copy_context()
        opened = OpenLifespan(self._factory, self._context.copy() if self.is_per_slot else self._context)
        if not self.is_per_slot:
            self._opened = opened
        self._all.append(opened)
        self._entry = asyncio.ensure_future(opened.enter())
        try:
            await asyncio.wait({self._entry})
        except asyncio.CancelledError:
            self._entry.cancel()
            await self._drop_entry(opened, patience)
            raise
        if self._entry.cancelled():
            await self._drop_entry(opened, patience)
        elif (error := self._entry.exception()) is not None:
            self._all.remove(opened)
            raise self._explained(error, "cannot be entered")
        elif self.is_per_slot:
            self._free.append(opened)

    async def _drop_entry(self, opened: OpenLifespan, patience: float) -> None:
        await opened.close(patience, patience)
        self._all.remove(opened)

    def give_up(self) -> None:
        """Take the entry back, or make none: the run is stopped before its first attempt."""
        self._is_given_up = True
        if self._entry is not None:
            self._entry.cancel()

    async def acquire(self) -> OpenLifespan:
        """Return the context of a free slot, a new one if there is none. Raises what its entry raises."""
        if self._free:
            return self._free.pop()
        opened = OpenLifespan(self._factory, self._context.copy())
        self._all.append(opened)
        try:
            await opened.enter()
        except BaseException:
            opened.task.add_done_callback(lambda _task: self._left(opened, is_entered=False))
            raise
        return opened

    def release(self, opened: OpenLifespan) -> None:
        """Let the next attempt use the context of a slot."""
        if not self._is_closed:
            self._free.append(opened)

    def renew(self, opened: OpenLifespan) -> None:
        """Leave the context of a slot, whose next attempt gets a new one. The end of the run waits for the exit."""
        opened.leave()
        opened.task.add_done_callback(lambda _task: self._left(opened))

    def _left(self, opened: OpenLifespan, *, is_entered: bool = True) -> None:
        if opened in self._all and not self._is_closed:
            self._all.remove(opened)
            if is_entered and not opened.task.cancelled() and (error := opened.task.exception()) is not None:
                self._log(self._explained(error, "failed on its exit"))

    async def close(self, patience: float) -> None:
        """Leave all contexts, at the same time, in at most `patience` seconds; once.

        Raises:
            BaseException: what the exit of one of them raised. All are logged.
            CancelledError: the caller was cancelled meanwhile.

        """
        if self._is_closed:
            return
        self._is_closed = True
        for opened in self._all:
            opened.leave()
        ends_at = asyncio.get_running_loop().time() + patience
        results = [
            await opened.close(max(0.0, ends_at - asyncio.get_running_loop().time()), patience) for opened in self._all
        ]
        errors = [self._explained(error, "failed on its exit") for error in results if error is not None]
        for error in errors:
            self._log(error)
        cancellations = [opened.cancellation for opened in self._all if opened.cancellation is not None]
        self._all.clear()
        if cancellations:
            raise cancellations[0]
        if errors:
            raise errors[0]

    def _log(self, error: BaseException) -> None:
        text = str(error) if isinstance(error, LifespanError) else f"the lifespan failed on its exit: {_line(error)}"
        log_safely(logger, logging.ERROR, "%s", text)

    def _explained(self, error: BaseException, what: str) -> BaseException:
        if not self._name:
            return error
        explained = LifespanError(f"the lifespan {self._name} {what}: {_line(error)}")
        explained.__cause__ = error
        return explained


def _line(error: BaseException) -> str:
    return error_line(*describe_error(error))
