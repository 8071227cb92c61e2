"""Requests in the order in which they came: some of them in each turn of the loop, however many there are."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from asyncwatch.commands import CancelWorker, ChangeSetting, CloseCircuit, Command, IsolateCircuit, ProbeCircuit

TURN = 0.01
"""Seconds of requests after which the workers get a turn of the loop."""
_AHEAD = (ChangeSetting, CloseCircuit, IsolateCircuit, ProbeCircuit)
"""Requests about no worker: they need not wait for those that are."""


class Agenda:
    """Carries out requests on the running loop.

    Args:
        carry_out: does what one request asks.
        hold_line: told whether nobody is to take a place for now: workers are being cancelled, and whoever takes the
            place of one may be among those whose turn comes later.

    """

    def __init__(
        self,
        carry_out: Callable[[Command], object],
        hold_line: Callable[[bool], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._carry_out = carry_out
        self._hold_line = hold_line
        self._clock = clock
        self._waiting: deque[Iterator[Command]] = deque()
        self._next: asyncio.Handle | None = None

    def add(self, commands: Sequence[Command]) -> None:
        """Carry out `commands` after those that were added before; at once, as far as time suffices."""
        if all(isinstance(command, _AHEAD) for command in commands):
            for command in commands:
                self._carry_out(command)
            return
        self._waiting.append(iter(commands))
        if self._next is None:
            self._go_on()

    def clear(self) -> None:
        """Forget all that waits."""
        self._waiting.clear()
        if self._next is not None:
            self._next.cancel()
            self._next = None
            self._hold_line(False)

    def _go_on(self) -> None:
        is_continued, self._next = self._next is not None, None
        end = self._clock() + TURN
        while self._waiting:
            for command in self._waiting[0]:
                self._carry_out(command)
                if self._clock() >= end:
                    self._hold_line(isinstance(command, CancelWorker))
                    self._next = asyncio.get_running_loop().call_soon(self._go_on)
                    return
            self._waiting.popleft()
        if is_continued:
            self._hold_line(False)
