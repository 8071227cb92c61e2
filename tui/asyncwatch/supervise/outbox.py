"""Carries events to listeners in batches, each listener on an `asyncio.Queue` of its own event loop.

Nobody who emits ever waits: queues are unbounded, and a listener that is slow or gone costs the workers nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from asyncwatch.events import Batch, Event

BATCH_SIZE = 512
"""Events in a batch at the most."""
BATCH_INTERVAL = 1 / 20
"""Seconds between two batches while fewer than BATCH_SIZE events happen."""
QUIET_TURNS = 3
"""Turns of the loop without an event after which a batch is whole: what follows at once from an event, as the restart
from the end of a service, is to leave with it. A request to a supervisor takes a turn or two, and no time."""
MOST_TURNS = 8
"""Turns for which a batch that is due waits for that at the most."""


class Listener:
    """One reader of the events. Batches that come before it attaches wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._backlog: list[Batch] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: asyncio.Queue[Batch] = asyncio.Queue()

    def attach(self) -> asyncio.Queue[Batch]:
        """Return the queue on which all batches arrive from now on, those that waited first.

        Raises:
            RuntimeError: there is no running event loop, or a reader is attached already.

        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._loop is not None:
                raise RuntimeError("the events have a reader already")
            self._loop = loop
            for batch in self._backlog:
                self._queue.put_nowait(batch)
            self._backlog.clear()
        return self._queue

    def deliver(self, batch: Batch, running: asyncio.AbstractEventLoop | None) -> None:
        """Pass `batch` on, from the thread in which the loop `running` runs, if any."""
        with self._lock:
            if self._loop is None:
                self._backlog.append(batch)
            elif self._loop is running:
                self._queue.put_nowait(batch)
            elif not self._loop.is_closed():
                try:
                    self._loop.call_soon_threadsafe(self._queue.put_nowait, batch)
                except RuntimeError:  # the reader closed its loop between the question and the call
                    return


class Outbox:
    """Collects events on one event loop. The first one after a pause leaves within a few turns of the loop."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        """The loop on which events are emitted."""
        self._delivered = 0
        self._batch: list[Event] = []
        self._listeners: list[Listener] = []
        self._flush: asyncio.Handle | None = None
        self._flushed_at = float("-inf")

    @property
    def emitted(self) -> int:
        """How many events there were."""
        return self._delivered + len(self._batch)

    def add(self, listener: Listener) -> None:
        """Deliver to `listener` what is emitted from now on."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Add `event` to the batch. Must be called in the thread of the loop."""
        batch = self._batch
        batch.append(event)
        if self._flush is None:
            self._schedule()
        elif len(batch) >= BATCH_SIZE:
            self.flush()

    def close(self, last: Callable[[int], Batch]) -> None:
        """Deliver what was collected and the last events, made from their first number; drop all that comes later.

        For another thread than the loop's, which is blocked: nothing else emits at the same time.
        """
        listeners, self._listeners = self._listeners, []
        batch = (*self._batch, *last(self.emitted))
        for listener in listeners:
            listener.deliver(batch, None)

    def flush(self) -> None:
        """Deliver what was collected, at once."""
        assert self.loop is not None  # noqa: S101  something was emitted on it
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        self._flushed_at = self.loop.time()
        if self._batch:
            batch, self._batch = tuple(self._batch), []
            self._delivered += len(batch)
            for listener in self._listeners:
                listener.deliver(batch, self.loop)

    def _schedule(self) -> None:
        assert self.loop is not None  # noqa: S101  as above
        wait = self._flushed_at + BATCH_INTERVAL - self.loop.time()
        if wait > 0:
            self._flush = self.loop.call_later(wait, self._let_follow)
        else:
            self._let_follow()

    def _let_follow(self, turns: int = 0, quiet: int = 0, seen: int = 0) -> None:
        """Deliver what was collected when nothing more follows from it at once."""
        count = len(self._batch)
        quiet = quiet + 1 if count == seen else 0
        if quiet == QUIET_TURNS or turns == MOST_TURNS:
            self.flush()
            return
        assert self.loop is not None  # noqa: S101  as above
        self._flush = self.loop.call_soon(self._let_follow, turns + 1, quiet, count)
