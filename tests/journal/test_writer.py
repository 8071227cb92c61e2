"""The writer's thread: it keeps what cannot be written, up to a limit, and never holds the run up."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Iterable
from typing import Any

import pytest

from asyncwatch.events import AttemptStarted, Batch, WorkerSucceeded
from asyncwatch.journal import writer as module
from asyncwatch.journal.store import ItemKeys, StoredBatch
from asyncwatch.journal.writer import JournalWriter, Problem


def batch(number: int) -> Batch:
    """Return two events of one worker."""
    start = AttemptStarted(2 * number, 0.0, f"w{number}", 1, 1, 0.5)
    return start, WorkerSucceeded(2 * number + 1, 0.0, f"w{number}", 1, 1, 0.1, None)


class Store:
    """A file that takes everything while `error` is None."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.opened = 0
        self.items: list[ItemKeys] = []
        self.batches: list[StoredBatch] = []
        self.ended: Any = None
        self.is_closed = False
        self.gate = threading.Event()
        self.gate.set()

    def open(self) -> Any:
        """Open it, or fail."""
        self.opened += 1
        if self.error is not None:
            raise self.error
        return self

    def write(self, items: Iterable[ItemKeys], batches: Iterable[StoredBatch]) -> None:
        """Write all or nothing."""
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        self.items += items
        self.batches += batches

    def end(self, *values: Any) -> None:
        """Note the end."""
        self.ended = values

    def close(self) -> None:
        """Note that it is closed."""
        self.is_closed = True

    @property
    def events(self) -> list[Any]:
        """All events in it."""
        return [event for each in self.batches for event in each.unpack()]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_EVERY", 0.001)


class Writer:
    """A writer, and what it says."""

    def __init__(self, store: Store, items: Iterable[ItemKeys] = ()) -> None:
        self.written: queue.Queue[int] = queue.Queue()
        self.problems: queue.Queue[Problem | None] = queue.Queue()
        self.writer = JournalWriter(store.open, self.written.put, self.problems.put, lambda: items)

    def close(self) -> bool:
        """Close it, and return whether all is written."""
        return self.writer.close(9.0, 0, {}, timeout=30.0)


def test_what_could_not_be_written_is_written_later_in_order() -> None:
    store = Store()
    store.error = sqlite3.OperationalError("database or disk is full")
    watched = Writer(store)
    for number in range(5):
        watched.writer.deliver(batch(number), None)
    problem = watched.problems.get(timeout=30)
    assert problem is not None
    assert problem.reason == "database or disk is full"
    assert watched.written.empty()
    store.error = None
    assert watched.problems.get(timeout=30) is None
    assert watched.close()
    assert [event.seq for event in store.events] == list(range(10))
    assert store.ended == (9.0, 0, {})
    assert store.is_closed


def test_store_is_opened_again_after_it_failed_to_open() -> None:
    store = Store()
    store.error = OSError(30, "Read-only file system")
    watched = Writer(store)
    problem = watched.problems.get(timeout=30)
    assert problem is not None
    assert problem.reason == "Read-only file system"
    store.error = None
    watched.writer.deliver(batch(0), None)
    assert watched.problems.get(timeout=30) is None
    assert watched.close()
    assert len(store.events) == 2


def test_end_of_a_run_that_is_not_recorded_is_not_held_up() -> None:
    store = Store()
    store.error = OSError(28, "No space left on device")
    watched = Writer(store)
    watched.writer.deliver(batch(0), None)
    assert not watched.writer.flush(timeout=30.0)
    assert not watched.close()


def test_disk_that_takes_nothing_is_not_waited_for() -> None:
    store = Store()
    store.gate.clear()
    watched = Writer(store)
    watched.writer.deliver(batch(0), None)
    assert not watched.writer.flush(timeout=0.01)
    assert watched.writer.problem is not None
    assert "in time" in watched.writer.problem.reason
    store.gate.set()
    watched.close()


def test_only_needed_events_are_kept_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KEPT", 5_000)
    store = Store()
    store.error = OSError(28, "No space left on device")
    watched = Writer(store)
    assert watched.problems.get(timeout=30) is not None
    for number in range(40):
        start, end = batch(number)
        starts = [AttemptStarted(start.seq, 0.0, f"w{number}", 1, attempt, attempt / 7) for attempt in range(20)]
        watched.writer.deliver((*starts, end), None)
    watched.writer.flush(timeout=30.0)
    store.error = None
    assert watched.problems.get(timeout=30) is None
    assert watched.close()
    assert [event.worker for event in store.events if isinstance(event, WorkerSucceeded)] == [
        f"w{number}" for number in range(40)
    ]
    assert not [event for event in store.events if isinstance(event, AttemptStarted)]


def test_recording_ends_for_good_beyond_twice_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KEPT", 500)
    store = Store()
    store.error = OSError(28, "No space left on device")
    watched = Writer(store)
    assert watched.problems.get(timeout=30) is not None
    for number in range(200):
        watched.writer.deliver(batch(number), None)
    watched.writer.flush(timeout=30.0)
    store.error = None
    watched.writer.deliver(batch(200), None)
    assert not watched.writer.flush(timeout=30.0)
    assert not watched.close()
    assert store.events == []
    assert watched.problems.empty()  # it was said before, and still holds


def test_events_beyond_the_limit_are_dropped_while_one_write_does_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 100)
    store = Store()
    store.gate.clear()
    watched = Writer(store)
    for number in range(1_000):
        watched.writer.deliver(batch(number), None)
    assert watched.writer._inbox.qsize() < 200
    store.gate.set()
    assert not watched.close()
    problem = watched.problems.get(timeout=30)
    assert problem is not None
    assert "keep up" in problem.reason


def test_items_come_before_the_events() -> None:
    store = Store()
    part = ItemKeys(0, "g", bytes(16), b"")
    watched = Writer(store, [part])
    watched.writer.add(ItemKeys(1, "g", bytes(16), b""))
    watched.writer.deliver(batch(0), None)
    assert watched.close()
    assert [each.first for each in store.items] == [0, 1]


def test_write_that_does_not_return_is_said_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALLED", 0.0)
    store = Store()
    store.gate.clear()
    watched = Writer(store)
    watched.writer.deliver(batch(0), None)
    number = 1
    while watched.problems.empty():
        watched.writer.deliver(batch(number), None)
        number += 1
        time.sleep(0.001)  # the writer is another thread, and what waits for it is bounded
    problem = watched.problems.get()
    assert problem is not None
    assert problem.reason == "the disk does not answer"
    monkeypatch.setattr(module, "STALLED", 30.0)
    store.gate.set()
    assert watched.problems.get(timeout=30) is None
    assert watched.close()
    assert len(store.events) == 2 * number


def test_fault_of_the_writer_itself_is_said() -> None:
    store = Store()
    store.error = ZeroDivisionError("odd")
    watched = Writer(store)
    watched.writer.deliver(batch(0), None)
    problem = watched.problems.get(timeout=30)
    assert problem is not None
    assert problem.reason == "ZeroDivisionError: odd"
    assert not watched.writer.flush(timeout=30.0)
    assert not watched.close()
