"""Writes the events of a launch to its journal, in a thread of its own.

`JournalWriter` is a listener of the engine's outbox: a batch goes from the engine's thread to the writer's, which
commits all that has come in one transaction. `on_written` learns of the events that are on disk.

A journal that cannot be written never holds a run up. While writing fails, batches are kept and tried again, so that a
disk that was full for a while leaves no gap. What is kept has a limit: beyond `MOST_KEPT` only what a resume needs is,
and beyond twice as much nothing is recorded any more.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, NamedTuple
from weakref import WeakSet

from asyncwatch.events import (
    Batch,
    Event,
    ItemsRead,
    RunFinished,
    RunStarted,
    WorkerEnded,
    WorkerRestarted,
    WorkersQueued,
)
from asyncwatch.journal.store import ItemKeys, JournalError, RunStore, StoredBatch, StoredSnapshot, store_batches
from asyncwatch.text import error_line

RETRY_EVERY = 1.0
"""Seconds between two attempts to write after one has failed."""
MOST_AT_ONCE = 256
"""Batches of a transaction."""
GATHER = 0.03
"""Seconds between two transactions, at least. The outbox delivers every 50 ms, and earlier only if there are many
events. With 0 in place of this, 100,000 no-op workers took 117 to 177 transactions, each of which waits for the disk,
instead of 55 to 89. In five pairs of runs the processor time was the same within its noise."""
MOST_KEPT = 32 << 20
"""Bytes of batches that could not be written, beyond which only the ends of workers are kept. Twice as many end the
recording."""
MOST_WAITING = 500_000
"""Events that wait for the writer, some 100 bytes each, while one write does not return."""
STALLED = 5.0
"""Seconds after which a write that does not return is a problem."""
_TOO_SLOW = "the disk does not keep up with the run"
_NEEDED = (RunStarted, WorkersQueued, WorkerEnded, WorkerRestarted, ItemsRead, RunFinished)
"""Events without which a resume does not know what is done."""


class Problem(NamedTuple):
    """Why nothing is recorded."""

    since: float
    """Seconds since the epoch."""
    reason: str


class _End(NamedTuple):
    ended: float
    status: int
    summary: Any


class _Flush(NamedTuple):
    done: threading.Event


_Message = Batch | ItemKeys | StoredSnapshot | _End | _Flush | None
_SNAPSHOTS = 8
"""Snapshots in a journal that drops its oldest batches."""


class JournalWriter:
    """Writes one launch to a store, which is this thread's alone from now on.

    Args:
        open_store: makes or opens the file, and begins the launch. Called in the writer's thread, again after each
            failure.
        items: the items that are known from the start. Called in the writer's thread, once.
        on_written: called in the writer's thread with the `seq` of the last event on disk.
        ring: bytes of batches beyond which the oldest are dropped; None to keep all.
        on_problem: called in the writer's thread when writing begins to fail, and with None when it succeeds again.

    """

    def __init__(
        self,
        open_store: Callable[[], RunStore],
        on_written: Callable[[int], object],
        on_problem: Callable[[Problem | None], object],
        items: Callable[[], Iterable[ItemKeys]] = tuple,
        ring: int | None = None,
    ) -> None:
        self.wants_snapshot = False
        """Whether older batches can be dropped once there is a snapshot."""
        self._ring = ring
        self._since_snapshot = 0
        self.problem: Problem | None = None
        self._open_store = open_store
        self._store: RunStore | None = None
        self._items = items
        self._on_written = on_written
        self._on_problem = on_problem
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._kept_items: list[ItemKeys] = []
        self._kept: list[StoredBatch] = []
        self._kept_size = 0
        self._is_reduced = False
        self._has_given_up = False
        self._taken = self._given = 0
        self._last_tried = float("-inf")
        self._writing_since: float | None = None
        _note_writer(self)
        self._thread = threading.Thread(target=self._work, name="asyncwatch journal", daemon=True)
        self._thread.start()

    def deliver(self, batch: Batch, running: asyncio.AbstractEventLoop | None) -> None:
        """Take a batch of events, from any thread; as a listener of the outbox."""
        del running
        if (since := self._writing_since) is not None and time.monotonic() - since > STALLED:
            self._note_problem("the disk does not answer")
        waiting = self._given - self._taken
        if waiting > MOST_WAITING:
            batch = needed_of(batch)
            if waiting > 2 * MOST_WAITING and not self._has_given_up:
                self._give_up(_TOO_SLOW)
            if self._has_given_up or not batch:
                return
        self._given += len(batch)
        self._inbox.put(batch)

    def add(self, items: ItemKeys) -> None:
        """Take items, before the event that their workers are queued."""
        self._inbox.put(items)

    def add_snapshot(self, snapshot: StoredSnapshot) -> None:
        """Take the state of the run before an event, after the events before it."""
        self.wants_snapshot = False
        self._inbox.put(snapshot)

    def flush(self, timeout: float) -> bool:
        """Return whether all that was given is on disk, after at most `timeout` seconds."""
        done = threading.Event()
        self._inbox.put(_Flush(done))
        self._note_slowness(is_done=self._thread.is_alive() and done.wait(timeout))
        return self.problem is None

    def close(self, ended: float, status: int, summary: Any, timeout: float) -> bool:
        """Write the rest and how the launch ended; return whether that took at most `timeout` seconds."""
        self._inbox.put(_End(ended, status, summary))
        self._inbox.put(None)
        self._thread.join(timeout)
        self._note_slowness(is_done=not self._thread.is_alive())
        return self.problem is None

    def _note_slowness(self, *, is_done: bool) -> None:
        if not is_done and self.problem is None:
            self.problem = Problem(time.time(), "the disk does not take the last events in time")

    def forget(self) -> None:
        """Give up the lock in a forked child."""
        if self._store is not None:
            self._store.forget()

    def _work(self) -> None:
        try:
            self._record()
        except Exception as error:  # a fault here must not go unnoticed
            self._give_up(error_line(type(error).__name__, str(error)))
        finally:
            if self._store is not None:
                self._store.close()

    def _record(self) -> None:
        end: _End | None = None
        is_over = False
        is_first = True
        while not is_over:
            flushes: list[_Flush] = []
            snapshot: StoredSnapshot | None = None
            if is_first:
                self._kept_items.extend(self._items())
                is_first = False
                messages: list[_Message] = []
            else:
                messages = self._next(wait=RETRY_EVERY if self._kept or self._kept_items else None)
            for message in messages:
                match message:
                    case None:
                        is_over = True
                    case _End():
                        end = message
                    case _Flush():
                        flushes.append(message)
                    case ItemKeys():
                        self._kept_items.append(message)
                    case StoredSnapshot():
                        snapshot = message
                    case _:
                        self._keep(message)
            self._write_kept(at_once=is_over or bool(flushes))
            if snapshot is not None:
                self._write_snapshot(snapshot)
            for flush in flushes:
                flush.done.set()
        if end is not None and self.problem is None and self._store is not None:
            store, last = self._store, end
            self._attempt(lambda: store.end(*last))

    def _next(self, wait: float | None) -> list[_Message]:
        """Return what has come: wait for the first message, as long as nothing else is to be done."""
        taken: list[_Message] = []
        try:
            taken.append(self._inbox.get(timeout=wait))
            due = self._last_tried + GATHER
            while len(taken) < MOST_AT_ONCE:
                rest = 0.0 if isinstance(taken[-1], (_Flush, _End, NoneType)) else due - time.monotonic()
                taken.append(self._inbox.get(timeout=rest) if rest > 0 else self._inbox.get_nowait())
        except queue.Empty:
            pass
        return taken

    def _keep(self, batch: Batch) -> None:
        """Keep a batch until it is written, as far as there is room."""
        self._taken += len(batch)
        if self._has_given_up:
            return
        if self._is_reduced and not (batch := needed_of(batch)):
            return
        stored = store_batches(batch)
        self._kept += stored
        self._kept_size += sum(len(each.data) for each in stored)
        if self.problem is None:
            return
        if self._kept_size > MOST_KEPT and not self._is_reduced:
            self._is_reduced = True
            batches = [needed for each in self._kept if (needed := needed_of(each.unpack()))]
            self._kept = [part for each in batches for part in store_batches(each)]
            self._kept_size = sum(len(each.data) for each in self._kept)
        if self._kept_size > 2 * MOST_KEPT:
            self._give_up(_TOO_SLOW)

    def _write_kept(self, *, at_once: bool) -> None:
        """Write what is kept. After a failure, wait for a moment before the next attempt, unless `at_once`."""
        if self._has_given_up:
            self._kept_items, self._kept, self._kept_size = [], [], 0
            return
        is_due = time.monotonic() - self._last_tried >= RETRY_EVERY
        if self.problem is not None and not is_due and not at_once:
            return
        if self._store is not None and not self._kept and not self._kept_items:
            return
        if not self._attempt(self._write):
            return
        last = self._kept[-1] if self._kept else None
        self._since_snapshot += self._kept_size
        if self._ring is not None and self._since_snapshot > self._ring // _SNAPSHOTS:
            self._since_snapshot = 0
            self.wants_snapshot = True
        self._kept_items, self._kept, self._kept_size, self._is_reduced = [], [], 0, False
        if last is not None:
            self._on_written(last.first + last.events - 1)

    def _write(self) -> None:
        if self._store is None:
            self._store = self._open_store()
        if self._kept or self._kept_items:
            self._store.write(self._kept_items, self._kept)

    def _write_snapshot(self, snapshot: StoredSnapshot) -> None:
        """Write a snapshot and drop old batches, unless writing fails: the next one will do."""
        store, ring = self._store, self._ring
        if store is None or ring is None or self.problem is not None:
            return
        if self._attempt(lambda: store.write_snapshot(snapshot)):
            self._attempt(lambda: store.trim(ring))

    def _give_up(self, reason: str) -> None:
        """Record nothing any more."""
        self._has_given_up = True
        self._note_problem(reason)

    def _note_problem(self, reason: str) -> None:
        if self.problem is None:
            self.problem = Problem(time.time(), reason)
            self._on_problem(self.problem)

    def _attempt(self, write: Callable[[], object]) -> bool:
        """Return whether `write` succeeded, and report a change."""
        self._last_tried = self._writing_since = time.monotonic()
        try:
            write()
        except (sqlite3.Error, OSError, JournalError) as error:
            self._note_problem(_reason(error))
            return False
        finally:
            self._writing_since = None
        if self.problem is not None and not self._has_given_up:
            self.problem = None
            self._on_problem(None)
        return True


_writers: WeakSet[JournalWriter] | None = None


def _note_writer(writer: JournalWriter) -> None:
    """Let the writer give up its lock in each child that the process forks from now on."""
    global _writers  # noqa: PLW0603  a process can be told only once what to do in its children
    if _writers is None:
        _writers = WeakSet()
        os.register_at_fork(after_in_child=_forget_all)
    _writers.add(writer)


def _forget_all() -> None:
    for writer in _writers or ():
        writer.forget()


def needed_of(batch: Iterable[Event]) -> Batch:
    """Return the events without which a resume does not know what is done."""
    return tuple(event for event in batch if isinstance(event, _NEEDED))


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
