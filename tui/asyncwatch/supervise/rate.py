"""How many attempts may start in a time: `50/s`, and the line of those that wait for their turn."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable

import msgspec
from aiolimiter import AsyncLimiter

from asyncwatch.limits import parse_per_second
from asyncwatch.supervise.worker import Worker

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_FINEST = 0.01
"""Seconds of a limit that may pass at once: timers are not much finer than that."""


class RateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """So many attempts a second, after a burst.

    Raises:
        ValueError: a rate that is not above 0, or a burst below 1.

    """

    per_second: float
    burst: int | None = None
    """Attempts that may start at once after a pause. None: 1, or what comes in 10 ms if that is more."""

    def __post_init__(self) -> None:
        if not 0 < self.per_second < float("inf"):
            raise ValueError(f"a rate must be above 0, not {self.per_second}")
        if self.burst is not None and self.burst < 1:
            raise ValueError(f"burst must be at least 1, not {self.burst}")

    @property
    def at_once(self) -> int:
        """The burst in attempts."""
        return max(1, math.ceil(self.per_second * _FINEST)) if self.burst is None else self.burst

    def __str__(self) -> str:
        unit = next((unit for unit in ("s", "min") if self.per_second * _UNITS[unit] >= 1), "h")
        burst = "" if self.burst is None else f" burst {self.burst}"
        return f"{self.per_second * _UNITS[unit]:.12g}/{unit}{burst}"


def parse_rate(text: str, burst: int | None = None) -> RateLimit:
    """Return the limit that `50/s`, `90/min`, `1000/h`, `3/10s` or `50/s burst 10` asks for.

    Raises:
        ValueError: the text is no rate, or the rate is 0.

    """
    per_second, own_burst = parse_per_second(text)
    return RateLimit(per_second=per_second, burst=burst if own_burst is None else own_burst)


def change_rate(text: str, old: RateLimit | None) -> tuple[RateLimit, str, str | None]:
    """Return the limit that `text` makes of `old`, and both as texts that bring each back in place of the other.

    The burst stays unless the text gives one.

    Raises:
        ValueError: the text is no rate, or the rate is 0.

    """
    given = parse_rate(text)
    if old is None:
        return given, text, None
    if given.burst is None and old.burst is not None:
        return RateLimit(per_second=given.per_second, burst=old.burst), f"{text} burst {old.burst}", str(old)
    is_new_burst = given.burst is not None and old.burst is None
    return given, text, f"{old} burst {old.at_once}" if is_new_burst else str(old)


def _limiter(limit: RateLimit, free: float) -> AsyncLimiter:
    """Return a limiter that lets `free` attempts pass at once now, or its burst if that is less."""
    limiter = AsyncLimiter(limit.at_once, limit.at_once / limit.per_second)
    if free < limit.at_once:
        limiter.has_capacity()  # begins its time
        limiter._level = limit.at_once - free  # noqa: SLF001  it has no other way to begin half full
    return limiter


def _free(limiter: AsyncLimiter) -> float:
    """Return how many attempts a limiter would let pass at once now."""
    limiter.has_capacity()  # takes off what has become free
    return limiter.max_rate - limiter._level  # noqa: SLF001  it has no other way to say so


class Gate:
    """Lets workers pass one by one, no faster than a limit allows.

    A task of its own waits for the turn of the first in line, and ends when there is none. Whoever has passed may
    still have to wait for a place; the next one is let pass when that one has gone, so that no crowd builds up behind
    the gate.

    Args:
        let_in: is called with each worker whose turn has come.

    """

    def __init__(self, limit: RateLimit, let_in: Callable[[Worker], None], loop: asyncio.AbstractEventLoop) -> None:
        self.limit = limit
        self._limiter = _limiter(limit, limit.at_once)
        self._let_in = let_in
        self._loop = loop
        self._begun: OrderedDict[Worker, None] = OrderedDict()
        self._new: OrderedDict[Worker, None] = OrderedDict()
        self._passing: Worker | None = None
        self._has_gone: asyncio.Future[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_letting_in = False

    def __len__(self) -> int:
        return len(self._begun) + len(self._new)

    def is_free(self) -> bool:
        """Return whether the next worker would pass without a wait."""
        return not len(self) and self._passing is None and self._limiter.has_capacity()

    def queue(self, worker: Worker, *, is_first: bool = False) -> None:
        """Put a worker in line: at its front, or behind those that have begun if it has, or else at its end."""
        line = self._begun if is_first or worker.attempt else self._new
        line[worker] = None
        if is_first:
            line.move_to_end(worker, last=False)
        if self._keeper is None:
            self._start_keeper()

    def dismiss(self, worker: Worker) -> None:
        """Forget a worker: it has gone on after it passed, or waits no longer."""
        self._begun.pop(worker, None)
        self._new.pop(worker, None)
        if self._passing is worker:
            self._passing = None
            if self._has_gone is not None and not self._has_gone.done():
                self._has_gone.set_result(None)
        if not len(self) and self._keeper is not None and not self._is_letting_in:
            self._keeper.cancel()
            self._keeper = None

    def put_first(self, worker: Worker) -> None:
        """Let a worker that is in line be the next to pass."""
        self._new.pop(worker, None)
        self.queue(worker, is_first=True)

    def change(self, limit: RateLimit) -> None:
        """Keep another limit from now on, of which as much is free as was of the old one."""
        self.limit = limit
        self._limiter = _limiter(limit, _free(self._limiter))
        if self._keeper is not None:
            self._keeper.cancel()
            self._start_keeper()

    def open(self) -> list[Worker]:
        """Keep no limit any more; return who was in line."""
        waiting = [*self._begun, *self._new]
        for worker in waiting:
            self.dismiss(worker)
        return waiting

    def _start_keeper(self) -> None:
        self._keeper = asyncio.Task(self._keep(), loop=self._loop)

    async def _keep(self) -> None:
        while len(self):
            if self._passing is not None:
                await self._wait_until_gone()
            await self._limiter.acquire()
            worker, _ = (self._begun or self._new).popitem(last=False)
            self._passing = worker
            self._is_letting_in = True
            self._let_in(worker)
            self._is_letting_in = False
        self._keeper = None

    async def _wait_until_gone(self) -> None:
        """Wait until who has passed takes its place, and count from then what the limit allows."""
        passed_at = self._loop.time()
        self._has_gone = self._loop.create_future()
        await self._has_gone
        late = self._loop.time() - passed_at
        await self._limiter.acquire(min(1.0, late * self.limit.per_second))
