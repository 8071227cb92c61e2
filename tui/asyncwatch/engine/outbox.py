"""Carries events to listeners in batches, each listener on an `asyncio.Queue` of its own event loop.

Emitting never waits: queues are unbounded, and a listener that has gone costs workers nothing. For a listener in
another thread that is far behind, the loop pauses for a moment between two of its iterations.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from asyncwatch.engine.capture import log_safely
from asyncwatch.events import Batch, Event

logger = logging.getLogger("asyncwatch.supervisor")

BATCH_SIZE = 1_024
"""Most events in a batch."""
BATCH_TEXT = 1 << 18
"""Characters of log messages that complete a batch. A few batches of long messages must not fill the memory."""
BATCH_INTERVAL = 1 / 20
"""Seconds between two batches while fewer than BATCH_SIZE events happen."""
QUIET_ITERATIONS = 3
"""Loop iterations without an event after which a lingering batch is complete. The restart of a service, which takes its
supervisor an iteration or two and no time, leaves together with its end."""
MOST_ITERATIONS = 8
"""Most loop iterations for which a batch that is due lingers."""
FAR_BEHIND = 100
"""Batches not yet taken by a reader in another thread, from which on it is far behind."""
MOMENT = 0.001
"""Seconds that such a reader is given after each loop iteration with a batch: about half of the time of an engine that
does nothing but emit events, and none of the time of one that waits for a server. A reader that is `n` times as far
behind is given `n * n` times as long, so that it catches up however much longer a batch takes to read than to emit."""


class Receiver(Protocol):
    """What the outbox delivers batches to."""

    def deliver(self, batch: Batch, running: asyncio.AbstractEventLoop | None) -> None:
        """Take `batch`, in the thread of the loop `running`, if any. Must not block."""


class Listener:
    """One reader of the events. Batches that come before it attaches wait for it.

    `give_way` is called between two iterations of the emitting loop, with the seconds for which its thread leaves the
    interpreter to a reader in another thread that is far behind. Two threads that both compute switch too seldom for a
    reader that is woken for every batch.
    """

    def __init__(self, give_way: Callable[[float], None] = time.sleep) -> None:
        self._lock = threading.Lock()
        self._give_way = give_way
        self._is_giving_way = False
        self._in_transit = 0
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
        """Pass `batch` on, from the thread of the loop `running`, if any."""
        behind = 0
        with self._lock:
            if self._loop is None:
                self._backlog.append(batch)
            elif self._loop is running:
                self._queue.put_nowait(batch)
            elif not self._loop.is_closed():
                try:
                    self._loop.call_soon_threadsafe(self._arrive, batch)
                except RuntimeError:  # the reader closed its loop between the check and the call
                    return
                self._in_transit += 1
                behind = self._in_transit + self._queue.qsize()
        if behind > FAR_BEHIND and running is not None and not self._is_giving_way:
            self._is_giving_way = True
            running.call_soon(self._pause, behind // FAR_BEHIND)

    def call(self, callback: Callable[[], object]) -> None:
        """Call `callback` on the reader's loop, once the batches so far are in its queue; never without a reader."""
        with self._lock:
            if self._loop is not None and not self._loop.is_closed():
                with contextlib.suppress(RuntimeError):  # the reader closed its loop between the check and the call
                    self._loop.call_soon_threadsafe(callback)

    def _pause(self, times: int) -> None:
        self._is_giving_way = False
        self._give_way(MOMENT * times * times)

    def _arrive(self, batch: Batch) -> None:
        with self._lock:
            self._in_transit -= 1
        self._queue.put_nowait(batch)


class Outbox:
    """Collects events on one event loop. The first one after a pause leaves at the end of the loop iteration."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        """The loop on which events are emitted."""
        self._delivered = 0
        self._batch: list[Event] = []
        self._text = 0
        self._listeners: list[Receiver] = []
        self._flush: asyncio.Handle | None = None
        self._flushed_at = float("-inf")
        self._lingers = False

    @property
    def emitted(self) -> int:
        """How many events there were."""
        return self._delivered + len(self._batch)

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Emit events on `loop` from now on."""
        self._loop = loop

    def add(self, listener: Receiver) -> None:
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

    def emit_text(self, event: Event, characters: int) -> None:
        """Add an `event` with a message of so many characters."""
        self._text += characters
        self.emit(event)
        if self._text >= BATCH_TEXT:
            self.flush()

    def close(self, last: Callable[[int], Batch]) -> None:
        """Deliver the collected and the last events, made from their first number; drop all later ones.

        For another thread than the loop's, which is blocked: nothing else emits at the same time.
        """
        listeners, self._listeners = self._listeners, []
        batch = (*self._batch, *last(self.emitted))
        for listener in listeners:
            listener.deliver(batch, None)

    def flush(self) -> None:
        """Deliver the collected events at once."""
        assert self._loop is not None  # noqa: S101  something was emitted on it
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        self._flushed_at = self._loop.time()
        if self._batch:
            batch, self._batch, self._text = tuple(self._batch), [], 0
            self._delivered += len(batch)
            for listener in tuple(self._listeners):
                try:
                    listener.deliver(batch, self._loop)
                except Exception:  # for example, its queue was shut down
                    self._listeners.remove(listener)
                    text = "a listener raised an error and gets no more events"
                    log_safely(logger, logging.ERROR, text, has_traceback=True)

    def linger(self) -> None:
        """Let the last events leave together with what follows from them in the next loop iterations."""
        self._lingers = True

    def end_linger(self) -> None:
        """Deliver lingering events: nothing more follows, and the loop may be blocked from now on."""
        if self._lingers and self._batch and self._due_at() <= 0:
            self.flush()
        self._lingers = False

    def _due_at(self) -> float:
        """Return in how many seconds the next batch is due."""
        assert self._loop is not None  # noqa: S101  something was emitted on it
        return self._flushed_at + BATCH_INTERVAL - self._loop.time()

    def _schedule(self) -> None:
        assert self._loop is not None  # noqa: S101  as above
        wait = self._due_at()
        self._flush = self._loop.call_later(wait, self._due) if wait > 0 else self._loop.call_soon(self._due)

    def _due(self, iterations: int = 0, quiet: int = 0, seen: int = 0) -> None:
        """Deliver the collected events, if nothing more follows from them at once."""
        count = len(self._batch)
        quiet = quiet + 1 if count == seen else 0
        if not self._lingers or quiet == QUIET_ITERATIONS or iterations == MOST_ITERATIONS:
            self._lingers = False
            self.flush()
            return
        assert self._loop is not None  # noqa: S101  as above
        self._flush = self._loop.call_soon(self._due, iterations + 1, quiet, count)
