"""From the queue of batches to the Fleet, and from there to at most ten pictures a second. The one bridge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from asyncwatch.events import Batch, CommandRefused, RunFinished

FRAME = 0.1
"""Seconds between two pictures while events pour in."""
SLICE = 0.005
"""Seconds of folding after which keys get their turn."""


class Sink(Protocol):
    """What the pump fills."""

    def receive(self, batch: Batch) -> None:
        """Take a batch in."""

    def draw(self) -> None:
        """Show what was taken in since the last time."""

    def tell(self, news: str) -> None:
        """Say what whoever gets the batches has to say."""

    def refused(self, refusals: list[CommandRefused]) -> None:
        """Say that requests were refused."""


class Pump:
    """Drains a queue of batches into a sink until the run has finished.

    The first batch after a calm time is drawn at once; under a storm a picture is drawn every `FRAME` seconds, and
    at once when `hurry` was called since the last one.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        on_batch: Callable[[Batch], str | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._on_batch = on_batch
        self._clock = clock
        self._drawn_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, queue: asyncio.Queue[Batch]) -> None:
        """Pump until `RunFinished` was taken in; it is drawn before this returns."""
        try:
            is_finished = False
            while not is_finished:
                is_finished = self._drain(await queue.get(), queue)
                self._request_draw()
                if not queue.empty():
                    await asyncio.sleep(0)
        finally:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        self._draw()

    def hurry(self) -> None:
        """Draw the next batch as soon as it comes: a person waits for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._draw()
        self._drawn_at = float("-inf")

    def _drain(self, batch: Batch, queue: asyncio.Queue[Batch]) -> bool:
        deadline = self._clock() + SLICE
        while True:
            if self._on_batch is not None and (news := self._on_batch(batch)):
                self._sink.tell(news)
            self._sink.receive(batch)
            refusals = [event for event in batch if type(event) is CommandRefused]
            if refusals:
                self._sink.refused(refusals)
            if batch and isinstance(batch[-1], RunFinished):
                return True
            if queue.empty() or self._clock() >= deadline:
                return False
            batch = queue.get_nowait()

    def _request_draw(self) -> None:
        if self._timer is not None:
            return
        wait = self._drawn_at + FRAME - self._clock()
        if wait <= 0:
            self._draw()
        else:
            self._timer = asyncio.get_running_loop().call_later(wait, self._draw)

    def _draw(self) -> None:
        self._timer = None
        self._drawn_at = self._clock()
        self._sink.draw()
