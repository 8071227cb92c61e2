"""Writes the events of a launch to its journal, in a thread of its own.

`JournalWriter` is a listener of the engine's outbox: a batch goes from the engine's thread to the writer's, which
commits all that has come in one transaction. `on_written` learns of the events that are on disk.

A journal that cannot be written never holds a run up. While writing fails, batches are kept and tried again, so that a
disk that was full for a while leaves no gap. `problem` says why nothing is recorded, and since when.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from asyncwatch.events import Batch
from asyncwatch.journal.store import ItemKeys, RunStore, StoredBatch, store_batch

RETRY_EVERY = 1.0
"""Seconds between two attempts to write after one has failed."""
MOST_AT_ONCE = 256
"""Batches of a transaction."""


class Problem(NamedTuple):
    """Why nothing is recorded."""

    since: float
    """Seconds since the epoch."""
    reason: str


class _End(NamedTuple):
    ended: float
    status: int
    summary: Any


class JournalWriter:
    """Writes one launch to `store`, which is this thread's alone from now on.

    Args:
        store: the file. Its launch has begun.
        on_written: called in the writer's thread with the `seq` of the last event on disk.
        on_problem: called in the writer's thread when writing begins to fail, and with None when it succeeds again.

    """

    def __init__(
        self,
        store: RunStore,
        on_written: Callable[[int], object],
        on_problem: Callable[[Problem | None], object],
    ) -> None:
        self.problem: Problem | None = None
        self._store = store
        self._on_written = on_written
        self._on_problem = on_problem
        self._inbox: queue.SimpleQueue[Batch | ItemKeys | _End | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="asyncwatch journal", daemon=True)
        self._thread.start()

    def deliver(self, batch: Batch, running: asyncio.AbstractEventLoop | None) -> None:
        """Take a batch of events, from any thread; as a listener of the outbox."""
        del running
        self._inbox.put(batch)

    def add(self, items: ItemKeys) -> None:
        """Take items, before the event that their workers are queued."""
        self._inbox.put(items)

    def close(self, ended: float, status: int, summary: Any, timeout: float) -> bool:
        """Write the rest and how the launch ended; return whether that took at most `timeout` seconds."""
        self._inbox.put(_End(ended, status, summary))
        self._inbox.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        items: list[ItemKeys] = []
        batches: list[StoredBatch] = []
        end: _End | None = None
        is_over = False
        while not is_over:
            for message in self._taken(wait=RETRY_EVERY if batches or items else None):
                match message:
                    case None:
                        is_over = True
                    case _End():
                        end = message
                    case ItemKeys():
                        items.append(message)
                    case _:
                        batches.append(store_batch(message))
            if not self._write(items, batches):
                continue
            if batches:
                self._on_written(batches[-1].first + batches[-1].events - 1)
            items, batches = [], []
        if end is not None and self.problem is None:
            self._attempt(lambda: self._store.end(*end))
        self._store.close()

    def _taken(self, wait: float | None) -> list[Batch | ItemKeys | _End | None]:
        """Return what has come: wait for the first message, as long as nothing else is to be done."""
        taken: list[Batch | ItemKeys | _End | None] = []
        try:
            taken.append(self._inbox.get(timeout=wait))
            while len(taken) < MOST_AT_ONCE:
                taken.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return taken

    def _write(self, items: list[ItemKeys], batches: list[StoredBatch]) -> bool:
        return not (items or batches) or self._attempt(lambda: self._store.write(items, batches))

    def _attempt(self, write: Callable[[], object]) -> bool:
        """Return whether `write` succeeded, and report a change."""
        try:
            write()
        except (sqlite3.Error, OSError) as error:
            if self.problem is None:
                self.problem = Problem(time.time(), str(error))
                self._on_problem(self.problem)
            return False
        if self.problem is not None:
            self.problem = None
            self._on_problem(None)
        return True
