"""Reads the items of a pipe in a thread, and lets workers join the run as the items come."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

from asyncwatch.engine.feed import Feed
from asyncwatch.engine.spec import BadItem, WorkerSpec
from asyncwatch.plan.items import Entry, ItemsError, ItemSource

AHEAD = 10_000
"""Workers that have not begun, at most: then the pipe waits."""
_AT_ONCE = 500
"""Workers that join in one loop iteration. They take about 1 ms."""
_LOOK_AGAIN = 0.05
"""Seconds until a reader that is far ahead looks again."""


OnItems = Callable[[str, Sequence[Any], Sequence[str]], object]
"""Gets a group, the items that join it, and the names that they have in their source, empty for none."""


class ItemFeeder:
    """A source of workers: the items of a pipe. Implements `engine.feed.WorkerSource`.

    `say` gets messages for a person. `on_items` gets the items that join a group, just before their workers are queued.
    Both are called on the event loop.
    """

    def __init__(
        self,
        items: ItemSource,
        template: WorkerSpec,
        say: Callable[[str], None],
        on_items: OnItems | None = None,
    ) -> None:
        self.template = template
        self._on_items = on_items
        self._items = items
        self._say = say
        self._is_stopped = threading.Event()
        self._lock = threading.Lock()
        self._read: list[Entry] = []
        self._number = 0
        self._is_at_end = False
        self._is_scheduled = False

    def start(self, feed: Feed) -> None:
        """Begin to read."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._work, args=(feed, loop), name="asyncwatch items", daemon=True).start()

    def stop(self) -> None:
        """Read no more."""
        self._is_stopped.set()
        self._items.stop()

    def _work(self, feed: Feed, loop: asyncio.AbstractEventLoop) -> None:
        try:
            for entry in self._items.entries():
                with self._lock:
                    self._read.append(entry)
                self._deliver_soon(feed, loop)
                while len(self._read) + feed.backlog() >= AHEAD and not self._is_stopped.wait(_LOOK_AGAIN):
                    pass
                if self._is_stopped.is_set():
                    break
        except ItemsError as error:
            with self._lock:
                self._read += [Entry(self._items.shown, None, problem) for problem in error.problems]
        with self._lock:
            self._is_at_end = True
        self._deliver_soon(feed, loop)

    def _deliver_soon(self, feed: Feed, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            if self._is_scheduled:
                return
            self._is_scheduled = True
        try:
            loop.call_soon_threadsafe(self._deliver, feed)
        except RuntimeError:  # the run has ended, and its loop is closed
            self._is_stopped.set()

    def _deliver(self, feed: Feed) -> None:
        with self._lock:
            entries, self._read = self._read[:_AT_ONCE], self._read[_AT_ONCE:]
            is_at_end = self._is_at_end and not self._read
            self._is_scheduled = bool(self._read)
        if self._is_scheduled:
            asyncio.get_running_loop().call_soon(self._deliver, feed)
        self._number += len(entries)
        items: list[Any] = [BadItem(entry.problem) if entry.problem else entry.item for entry in entries]
        if self._on_items is not None and feed.is_open and items:
            self._on_items(self.template.group, items, [entry.given for entry in entries])
        feed.add([entry.name for entry in entries], items)
        if is_at_end and feed.is_open:
            for note in self._items.notes(self._number):
                self._say(note)
            feed.end()
