"""Scripted workers and the assertions of the cases."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from asyncwatch.engine.spec import WorkerSpec
from asyncwatch.engine.supervisor import Supervisor
from asyncwatch.engine.tree.child import ChildCounts, ChildStatus, ready
from asyncwatch.engine.tree.specs import ChildSpec
from asyncwatch.otp import NoSuchSupervisor, RestartLimitError, Shutdown
from asyncwatch.testing import JumpingLoop


class CaseFailed(Exception):  # noqa: N818  the case found a defect; it has none itself
    """A case does not hold."""


def expect(what: str, actual: object, expected: object) -> None:
    """Raise `CaseFailed` unless `actual` equals `expected`."""
    if actual != expected:
        raise CaseFailed(f"{what}: expected {expected!r}, got {actual!r}")


def expect_seconds(actual: float, expected: float) -> None:
    """Raise `CaseFailed` unless exactly so many seconds passed, to the millisecond, on a jumping clock.

    On any other clock the seconds depend on the machine, and are not checked.
    """
    if isinstance(asyncio.get_running_loop(), JumpingLoop):
        expect("seconds", round(actual, 3), expected)


async def expect_error(kind: type[BaseException], awaitable: Awaitable[Any]) -> Any:
    """Return the error that `awaitable` raises; raise `CaseFailed` unless it is exactly of this kind."""
    try:
        result = await awaitable
    except Exception as error:
        expect("error", type(error), kind)
        return error
    raise CaseFailed(f"expected {kind.__name__}, got the result {result!r}")


def expect_raise(kind: type[BaseException], call: Callable[[], Any]) -> Any:
    """Return the error that `call` raises; raise `CaseFailed` unless it is exactly of this kind."""
    try:
        result = call()
    except Exception as error:
        expect("error", type(error), kind)
        return error
    raise CaseFailed(f"expected {kind.__name__}, got {result!r}")


class Actor:
    """A target that runs until a case ends it.

    Args:
        name: its name in the log.
        log: gets `+name` at each start and `-name` at each end; several actors can share it.
        fails: errors that the next starts raise, one each; None for a start that succeeds.
        value: the value that it announces when it is ready.
        lingers: seconds of its clean-up when it is cancelled; inf swallows every cancellation.

    """

    def __init__(
        self,
        name: str,
        log: list[str] | None = None,
        *,
        fails: list[BaseException | None] | None = None,
        value: object = None,
        lingers: float = 0.0,
    ) -> None:
        self.name = name
        self.log: list[str] = [] if log is None else log
        self.fails = fails or []
        self.value = value
        self.lingers = lingers
        self.starts = 0
        self._order: asyncio.Future[object] | None = None

    async def __call__(self, *args: object) -> object:
        """Start, and wait for `ends`."""
        self.starts += 1
        if self.fails and (error := self.fails.pop(0)) is not None:
            raise error
        self.log.append(f"+{self.name}")
        self._order = asyncio.get_running_loop().create_future()
        await ready(args or self.value)
        try:
            return await self._order
        except asyncio.CancelledError:
            await self._stubborn(self.lingers)
            raise
        finally:
            self.log.append(f"-{self.name}")

    async def _stubborn(self, seconds: float) -> None:
        deadline = asyncio.get_running_loop().time() + min(seconds, 1e6)
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                continue

    def ends(self, how: str) -> None:
        """End it: `normal`, `shutdown`, `abnormal`, or `kill`, a cancellation that the supervisor did not request."""
        order = self._order
        assert order is not None  # noqa: S101  it has been started
        if how == "normal":
            order.set_result("done")
        elif how == "shutdown":
            order.set_exception(Shutdown("on purpose"))
        elif how == "kill":
            order.cancel()
        else:
            order.set_exception(RuntimeError("abnormal"))


def child(actor: Any, restart: str = "permanent", **fields: Any) -> WorkerSpec:
    """Return the spec of an actor, named after it, with OTP's default restart type."""
    return WorkerSpec(actor.name, actor, restart=restart, **fields)  # type: ignore[arg-type]  # a case may pass any text


@asynccontextmanager
async def supervisor(*children: ChildSpec, **flags: Any) -> AsyncIterator[Supervisor]:
    """Run a supervisor with the flags of OTP's tests, 2 restarts in 3600 s. That it gives up is no error here."""
    try:
        async with Supervisor(children, **{"max_restarts": 2, "within": 3600, "seed": 1, **flags}) as running:
            yield running
    except RestartLimitError:
        return


async def calm(iterations: int = 60) -> None:
    """Let everything happen that takes no time."""
    for _ in range(iterations):
        await asyncio.sleep(0)


async def end(actor: Actor, how: str) -> None:
    """End an actor and let its supervisor act on the end."""
    actor.ends(how)
    await calm()


def counts(running: Supervisor, under: str | None = None) -> list[int]:
    """Return the numbers of specs, active children, supervisors and workers, as in OTP's test module."""
    found: ChildCounts = running.count_children(under=under)
    return [found.specs, found.active, found.supervisors, found.workers]


def statuses(running: Supervisor, under: str | None = None) -> dict[str, str]:
    """Return the status of each child, in start order."""
    return {found.name: found.status.value for found in running.which_children(under=under)}


def is_up(running: Supervisor, under: str | None = None) -> bool:
    """Return whether the supervisor runs."""
    try:
        running.which_children(under=under)
    except NoSuchSupervisor:
        return False
    return True


RUNNING, STOPPED, RESTARTING = ChildStatus.RUNNING.value, ChildStatus.STOPPED.value, ChildStatus.RESTARTING.value
FOREVER = math.inf
