"""The index of a journal: keyframes of a launch, by which any moment of it is shown without all events before it.

It stands beside the journal, in `<id>.index`, and can be deleted at any time: the next replay builds it anew. A
keyframe is the state after a batch. Of its rows it has the blocks that have changed since the keyframe before, so that
the latest form of each block makes the whole. It also has the times of failures and throttled keys since then.

The state is that of the model of this version of asyncwatch. An index of any other version is replaced.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import asyncwatch
from asyncwatch.commands import SnapshotPart
from asyncwatch.events import (
    Batch,
    KeyThrottled,
    WorkerExhausted,
    WorkerFailed,
    WorkerTimedOut,
    WorkerUnresponsive,
)
from asyncwatch.events.wire import inflate
from asyncwatch.journal.store import JournalError, RunJournal, StoredBatch
from asyncwatch.model import snapshot
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.model.snapshot import Keyframe, KeyframeMaker, Snapshot, SnapshotError, SnapshotReader, keyframe_parts

SUFFIX = ".index"
EVERY = 10_000
"""Events between two keyframes at least: they are folded in 10 to 35 ms."""
BYTES_AN_EVENT = 50
"""Bytes of the index for an event, about, at most: after a large keyframe the next one comes later."""
FAILURES = (WorkerFailed, WorkerExhausted, WorkerTimedOut, WorkerUnresponsive)
"""Events that are marked as failures."""
_VERSION = f"1 {snapshot.FORMAT} {asyncwatch.__version__}"
_LARGEST = 1 << 28
"""Bytes of the largest part of a keyframe."""
_AT_ONCE = 64
"""Batches that are read at once, so that no read of the journal is long."""
_SCHEMA = """
CREATE TABLE version(text TEXT NOT NULL);
CREATE TABLE keyframe(
    launch INTEGER, number INTEGER, at REAL NOT NULL, seq INTEGER NOT NULL, texts INTEGER NOT NULL,
    head BLOB NOT NULL, tail BLOB NOT NULL, failures BLOB NOT NULL, throttled BLOB NOT NULL, PRIMARY KEY(launch, number)
);
CREATE TABLE block(
    id INTEGER PRIMARY KEY, launch INTEGER NOT NULL, first INTEGER NOT NULL, number INTEGER NOT NULL,
    checksum INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE INDEX block_first ON block(launch, first, number);
CREATE TABLE text(launch INTEGER, number INTEGER, data TEXT NOT NULL, PRIMARY KEY(launch, number));
"""


class Marks:
    """When something happened that a person looks for, in order, in seconds since the launch."""

    def __init__(self) -> None:
        self.failures = array("d")
        self.throttled = array("d")

    def add(self, batch: Batch) -> None:
        """Add what happened in a batch."""
        for event in batch:
            if isinstance(event, FAILURES):
                self.failures.append(event.at)
            elif isinstance(event, KeyThrottled):
                self.throttled.append(event.at)


class Frame(NamedTuple):
    """A keyframe in the index."""

    number: int
    """The number of the last batch that it includes."""
    at: float
    """The highest `at` of an event so far."""
    seq: int
    """The `seq` of the last event."""
    texts: int
    """The number of tracebacks so far."""


class Index:
    """The index of a launch. A context manager; not safe for threads.

    Raises:
        OSError: The file cannot be made.
        sqlite3.Error: It cannot be used. The methods raise it as well.

    """

    def __init__(self, journal: Path, launch: int) -> None:
        self.path = journal.with_suffix(SUFFIX)
        self._launch = launch
        try:
            self._connection = self._open()
        except sqlite3.OperationalError:  # it is locked, or the disk is full
            raise
        except sqlite3.DatabaseError:  # of another version, or damaged
            self.path.unlink(missing_ok=True)
            self._connection = self._open()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close the file."""
        self._connection.close()

    def before(self, at: float) -> Frame | None:
        """Return the last keyframe that includes nothing after the moment `at`."""
        query = "SELECT number, at, seq, texts FROM keyframe WHERE launch = ? AND at <= ? ORDER BY number DESC LIMIT 1"
        row = self._connection.execute(query, (self._launch, at)).fetchone()
        return None if row is None else Frame(*row)

    def last(self) -> Frame | None:
        """Return the last keyframe."""
        return self.before(math.inf)

    def parts(self, frame: Frame) -> Iterator[SnapshotPart]:
        """Yield the parts of a snapshot of that moment."""
        key = self._launch, frame.number
        query = "SELECT head, tail FROM keyframe WHERE launch = ? AND number = ?"
        head, tail = (inflate(data, _LARGEST) for data in self._connection.execute(query, key).fetchone())
        query = (
            "SELECT id, checksum, data FROM block WHERE id IN "
            "(SELECT max(id) FROM block WHERE launch = ? AND number <= ? GROUP BY first) ORDER BY first"
        )
        blocks = self._connection.execute(query, key)
        return keyframe_parts(head, self.texts(frame), map(_checked, blocks), tail)

    def texts(self, frame: Frame) -> list[str]:
        """Return the tracebacks up to a keyframe."""
        query = "SELECT data FROM text WHERE launch = ? AND number < ? ORDER BY number"
        return [text for (text,) in self._connection.execute(query, (self._launch, frame.texts))]

    def marks(self) -> Marks:
        """Return what is marked up to the last keyframe."""
        marks = Marks()
        query = "SELECT failures, throttled FROM keyframe WHERE launch = ? ORDER BY number"
        for failures, throttled in self._connection.execute(query, (self._launch,)):
            marks.failures.frombytes(failures)
            marks.throttled.frombytes(throttled)
        return marks

    def add(
        self, before: Frame | None, frame: Frame, state: Keyframe, failures: array[float], throttled: array[float]
    ) -> int:
        """Add a keyframe after the one `before`, with the marks since then; return how many bytes that takes.

        If another process has added keyframes meanwhile, nothing is added, which takes 0.
        """
        blocks = [(self._launch, first, frame.number, zlib.crc32(data), data) for first, data in state.blocks.items()]
        head, tail = zlib.compress(state.head, 1), zlib.compress(state.tail, 1)
        texts = enumerate(state.texts, frame.texts - len(state.texts))
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            is_next = self.last() == before
            if is_next:
                values = (self._launch, *frame, head, tail, failures.tobytes(), throttled.tobytes())
                connection.execute("INSERT INTO keyframe VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
                connection.executemany("INSERT INTO block VALUES(NULL, ?, ?, ?, ?, ?)", blocks)
                connection.executemany("INSERT INTO text VALUES(?, ?, ?)", ((self._launch, *text) for text in texts))
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return len(head) + len(tail) + sum(len(block[-1]) for block in blocks) if is_next else 0

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        connection = sqlite3.connect(self.path, timeout=5.0, isolation_level=None)
        try:
            # A crash may damage the file, which is then made anew.
            connection.execute("PRAGMA journal_mode=MEMORY")
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("BEGIN IMMEDIATE")
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    connection.execute(statement)
                connection.execute("INSERT INTO version VALUES(?)", (_VERSION,))
            version = connection.execute("SELECT text FROM version").fetchone()
            connection.execute("COMMIT")
            if version != (_VERSION,):
                raise sqlite3.DatabaseError("the index is of another version")  # noqa: TRY301  it closes the file, too
        except BaseException:
            connection.close()
            raise
        return connection


def _checked(block: tuple[int, int, bytes]) -> tuple[int, bytes]:
    """Return a block without its checksum. What reads its rows later could only break off."""
    number, checksum, data = block
    if zlib.crc32(data) != checksum:
        raise sqlite3.DatabaseError(f"block {number} of the index is damaged")
    return number, data


def first_parts(journal: RunJournal, launch: int) -> list[SnapshotPart]:
    """Return the state before the first batch of a launch: none, unless older batches were dropped."""
    first, stored = next(journal.batches(launch), None), next(journal.snapshots(launch), None)
    if stored is not None and stored.parts and (first is None or first.first > 0):
        last = len(stored.parts) - 1
        parts = [SnapshotPart(data, not at, at == last) for at, data in enumerate(stored.parts)]
        with contextlib.suppress(SnapshotError):  # of another version: its rows are not shown
            _read(parts)
            return parts
    return list(Snapshot(Fleet()).parts())


def state_at_end(journal: RunJournal, launch: int) -> Fleet:
    """Return the state after all events of a launch that are recorded.

    Raises:
        DamagedError: A batch cannot be read.

    """
    fleet = _read(first_parts(journal, launch))
    for batch in read_on(journal, launch, 0):
        apply(fleet, batch.unpack())
    return fleet


def _read(parts: Iterable[SnapshotPart]) -> Fleet:
    fleet, reader = Fleet(), SnapshotReader()
    for part in parts:
        fleet = reader.read(part)
    return fleet


def read_on(journal: RunJournal, launch: int, after: int) -> Iterator[StoredBatch]:
    """Yield the batches of a launch after the number `after`. The journal is read for a short time at once."""
    while True:
        some = list(islice(journal.batches(launch, after), _AT_ONCE))
        yield from some
        if len(some) < _AT_ONCE:
            return
        after = some[-1].number


def build(journal: RunJournal, launch: int, index: Index, show: Callable[[Marks, float], bool]) -> None:
    """Index a launch up to its last batch that can be read, from the last keyframe on.

    `show` gets the marks, and the moment up to which everything is indexed. If it returns False, building ends.

    Raises:
        sqlite3.Error: The index cannot be written.

    """
    last, marks = index.last(), index.marks()
    if last is None:
        builder = _Builder(index, last, marks, _read(first_parts(journal, launch)), [])
    else:
        builder = _Builder(index, last, marks, _read(index.parts(last)), index.texts(last))
    is_wanted = show(marks, last.at if last is not None else 0.0)
    try:
        for stored in read_on(journal, launch, last.number if last is not None else 0):
            if not is_wanted:
                return
            builder.fold(stored.number, stored.unpack())
            if builder.is_due:
                is_wanted = builder.take() and show(marks, builder.at)
    except JournalError:
        pass  # the replay ends there too, and says so
    if is_wanted and builder.take():
        show(marks, builder.at)


class _Builder:
    """Folds batches, and adds keyframes of the state."""

    def __init__(self, index: Index, last: Frame | None, marks: Marks, fleet: Fleet, texts: list[str]) -> None:
        self._index = index
        self._last = last
        self._marks = marks
        self._marked = len(marks.failures), len(marks.throttled)
        """How many marks the keyframes have."""
        self._fleet = fleet
        self._maker = KeyframeMaker(fleet, texts)
        self._texts = len(texts)
        self._number = last.number if last is not None else 0
        self._due = fleet.events + EVERY

    @property
    def is_due(self) -> bool:
        """Whether it is time for a keyframe."""
        return self._fleet.events >= self._due

    @property
    def at(self) -> float:
        """The last moment so far."""
        return self._fleet.latest

    def fold(self, number: int, batch: Batch) -> None:
        """Apply a batch."""
        self._marks.add(batch)
        self._maker.before(batch)
        apply(self._fleet, batch)
        self._number = number

    def take(self) -> bool:
        """Add a keyframe, if there was a batch since the last one; return whether this builder can go on."""
        before, marks = self._last, self._marks
        if self._number == (before.number if before is not None else 0):
            return True
        state = self._maker.take()
        self._texts += len(state.texts)
        self._last = Frame(self._number, self._fleet.latest, self._fleet.last_seq, self._texts)
        since = marks.failures[self._marked[0] :], marks.throttled[self._marked[1] :]
        self._marked = len(marks.failures), len(marks.throttled)
        size = self._index.add(before, self._last, state, *since)
        self._due = self._fleet.events + max(EVERY, size // BYTES_AN_EVENT)
        return bool(size)
