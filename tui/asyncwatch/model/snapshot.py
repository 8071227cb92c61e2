r"""Snapshots: the state of a Fleet at one moment as bytes, for another process or a file. Pure.

A `Snapshot` encodes the state in parts while events are still folded into the Fleet; a `SnapshotReader` makes an equal
Fleet of them. What a person sees first comes first: all totals, settings, keys, circuits and the tree, then the rows in
queue order, then what is known of single workers, logs included.

Consistency. Small state is copied when the snapshot is taken. Rows, and what is kept by worker (`_BY_WORKER`), may be
millions: they are encoded in place, and copied before an event changes them (`Snapshot.before`).

Format. The data of all parts are one stream of records, cut anywhere:

    part     checksum (4 bytes), a piece of the stream
    stream   `_MAGIC`, FORMAT (2 bytes), records
    record   kind (1 byte), length of the payload (4 bytes), payload (MessagePack)

Numbers are little-endian. The checksum is the CRC-32 of the piece, continued from the part before, so that parts of
different snapshots do not fit together. The kinds of records, in the order of the stream:

    0        the last record: the number of rows
    1        the first record: the number of rows, then the values of `_VALUES`, in their order
    2        rows, as columns (`_Columns`)
    3        tracebacks, numbered from 0 through the whole snapshot
    4        by worker: the index of a first row, then for each of `_BY_WORKER` offsets from that row, and their values
    5        in keyframes: the number of a block, and the records of its rows and workers, compressed by zlib
    16 to n  items of a collection: those of `_COLLECTIONS` before the rows, the `_LATE_COLLECTIONS` after them

MessagePack holds no lone surrogates, so they are written as the text of their escape, `\udcff`. Whoever changes any
type or order of these raises FORMAT.
"""

from __future__ import annotations

import functools
import itertools
import math
import struct
import sys
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSet
from copy import copy
from operator import attrgetter
from typing import Any, NamedTuple, get_type_hints

import msgspec
from msgspec.structs import force_setattr

from asyncwatch.commands import SnapshotPart
from asyncwatch.events import (
    AttemptHeld,
    Batch,
    CommandRefused,
    Event,
    ItemsRead,
    LogRecorded,
    LoopBlocked,
    NestedRetriesFound,
    RecordingFailed,
    RestartScheduled,
    RunCancelRequested,
    RunFinished,
    RunHalted,
    RunStarted,
    RunTimedOut,
    SettingChanged,
    WorkerEvent,
    WorkerState,
)
from asyncwatch.events.wire import event_types, inflate, without_surrogates
from asyncwatch.model.fleet import Abandoned, Fleet
from asyncwatch.model.history import FailedWorkers, Records
from asyncwatch.model.hosts import KnownHost
from asyncwatch.model.limits import KnownCircuit, KnownKey
from asyncwatch.model.rows import BLOCK, Block, Extra, Row
from asyncwatch.model.services import FailedPolls, ServiceHistory
from asyncwatch.model.tree import Branch, RestartWindow
from asyncwatch.text import share

FORMAT = 5
"""The number of the format. A reader refuses every other one."""
PART_SIZE = 64 * 1024
"""Bytes of most parts: about 1 ms of work."""
MAX_PART_SIZE = 256 * 1024
"""No part is longer. A longer record, for example of a huge log line, is cut."""
_MAGIC = b"asyncwatch\0"
_START = struct.Struct(f"<{len(_MAGIC)}sH")
_CHECKSUM = struct.Struct("<I")
_RECORD = struct.Struct("<BI")
_END, _HEAD, _ROWS, _TEXTS, _DETAILS, _BLOCK = range(6)
_FIRST_COLLECTION = 16

_LARGEST_BLOCK = 1 << 28
"""Bytes of the rows of a block, at most."""
_ITEMS = 256
"""Rows and other items of a record, about."""
_ITEMS_WITH_RINGS = 16
"""The same for workers with long histories."""
_STEPS = 64
"""Records of a part: an empty one takes time too."""
_STATES = tuple(WorkerState)
_CODES = {state: code for code, state in enumerate(_STATES)}
_FLOATS = ("lucks", "started", "ended")
"""The columns of a block."""
_NAN = math.nan
_UNKNOWN = array("d", (_NAN,)) * BLOCK


class SnapshotError(Exception):
    """A part of a snapshot that cannot be read: damaged, of another format, or not the next one."""


# -- what is taken

_VALUES: dict[str, Any] = {
    "run": RunStarted | None,
    "timed_out": RunTimedOut | None,
    "cancel_requested": RunCancelRequested | None,
    "stop_requested_at": float | None,
    "items_read": ItemsRead | None,
    "halted": RunHalted | None,
    "finished": RunFinished | None,
    "not_recorded": RecordingFailed | None,
    "last_seq": int,
    "events": int,
    "latest": float,
    "left_at": float | None,
    "counts": dict[WorkerState, int],
    "settled": int,
    "last_settled_at": float | None,
    "attempts": int,
    "queue_held_by": str,
    "refused": int,
    "log_size": int,
    "logged": int,
    "departed.replaced": int,
    "departed._kept": int,
    "departed._troubled_kept": int,
    "durations._buckets": list[int],
    "durations.count": int,
    "durations.lowest": float,
    "durations.highest": float,
    "rate._ring": list[int],
    "rate._newest": int,
    "tree.is_shown": bool,
    "tree.shape": int,
    "tree.has_batch": bool,
    "tree.most_attempts": int,
    "tree.left": int,
    "restarts.asked_for": int,
    "restarts._own": int,
    "polls.failed": int,
    "polls.pollers": int,
    "circuits._closed_kept": int,
    "circuits._opened_kept": int,
    "hosts.lost": int,
    "keys.refused": int,
    "keys._kept": int,
    "settings.applied": int,
    "loop.count": int,
    "loop.seconds": float,
    "loop.longest": LoopBlocked | None,
}
"""Values of a Fleet, by the path of the attribute, and their types."""

_HISTORIES = "attempt_history._records"
_BY_WORKER: dict[str, Any] = {
    "stacks": int,  # the number of the traceback, since thousands of workers may share one
    "cancel_reasons": str,
    "cancel_requested_at": float,
    "hosts.by_worker": str,
    _HISTORIES: Records,
}
"""Mappings of a Fleet by worker that may be as many as there are rows, and the types of their values."""

_KEYFRAME_PART_SIZE = 32 * 1024
"""Bytes of a part of a keyframe, which is compressed."""
_KEPT = 4
"""How many times as many rows a reader keeps as the last snapshot has."""
_NO_DETAILS: list[Any] = [None] * len(_BY_WORKER)

_BRANCH = {
    name: kind
    for name, kind in get_type_hints(Branch).items()
    if name in Branch.__struct_fields__ and name not in {"parent", "children", "depth"}
}
"""The fields of a branch, without the links to others."""


class _Columns(msgspec.Struct, array_like=True, gc=False):
    """Rows next to each other in queue order, by whole blocks. A column of floats is empty if all of it is unknown."""

    start: int
    """The index of the first one."""
    sizes: list[int]
    """Rows of each block; the next two are by block too."""
    groups: list[str]
    max_attempts: list[int]
    names: list[str]
    states: bytes
    attempts: list[int]
    results: list[str | None]
    lucks: bytes
    started: bytes
    ended: bytes
    extra_at: list[int]
    """The rows, by offset from the first one, that have the `extras`."""
    extras: list[Extra]


def _taken(collection: Any) -> Iterable[Any]:
    """Return a copy of a collection, as pairs if it is a mapping. Of values that can change only copies are used."""
    if not isinstance(collection, MutableMapping):
        return collection[:] if isinstance(collection, (list, array)) else list(collection)
    values = list(collection.values())
    if values and isinstance(values[0], msgspec.Struct) and not values[0].__struct_config__.frozen:
        values = [value.__copy__() for value in values]
    return zip(list(collection), values, strict=True)


def _put(collection: Any, items: list[Any], _: Fleet) -> None:
    if isinstance(collection, MutableMapping):
        # Not `update`, which adds in a Counter.
        for key, value in items:
            collection[key] = value
    elif isinstance(collection, MutableSet):
        collection |= set(items)
    else:
        collection.extend(items)


def _text_size(event: LogRecorded | LoopBlocked) -> int:
    return len(event.message if isinstance(event, LogRecorded) else event.stack)


def _take_waiting(waiting: dict[str, dict[str, int]]) -> Iterable[Any]:
    copies = [(reason, keys.copy()) for reason, keys in waiting.items()]
    return ((reason, key, number) for reason, keys in copies for key, number in keys.items())


def _put_waiting(waiting: dict[str, dict[str, int]], items: list[Any], _: Fleet) -> None:
    for reason, key, number in items:
        waiting.setdefault(reason, {})[key] = number


def _put_held_by_person(held: dict[str, KnownKey], items: list[Any], fleet: Fleet) -> None:
    held |= {key: fleet.keys.by_key[key] for key in items}


def _take_branches(branches: dict[str, Branch]) -> Iterable[Any]:
    copies = [copy(branch) for branch in branches.values()]
    for branch in copies:
        branch.counts = branch.counts.copy()
    fields = attrgetter(*_BRANCH)
    return ((branch.parent and branch.parent.path, *fields(branch)) for branch in copies)


def _put_branches(branches: dict[str, Branch], items: list[Any], _: Fleet) -> None:
    for parent, *values in items:
        known = dict(zip(_BRANCH, values, strict=True))
        branches[known["path"]] = Branch(parent=branches.get(parent), **known)


def _take_children(branches: dict[str, Branch]) -> Iterable[Any]:
    copies = [(branch.path, list(branch.children)) for branch in branches.values()]
    return ((path, child) for path, children in copies for child in children)


def _put_children(branches: dict[str, Branch], items: list[Any], _: Fleet) -> None:
    for path, child in items:
        branches[path].children[child] = None


def _take_newest(newest: Row | None) -> Iterable[Any]:
    return () if newest is None else (newest.index,)


def _put_newest(_: None, items: list[Any], fleet: Fleet) -> None:
    (index,) = items
    fleet.tree.newest = fleet.rows[index]


def _take_indexes(rows: dict[Row, None]) -> Iterable[Any]:
    return (row.index for row in list(rows))


def _put_indexes(rows: dict[Row, None], items: list[Any], fleet: Fleet) -> None:
    rows |= {fleet.rows[index]: None for index in items}


def _take_errors(errors: dict[str, FailedWorkers]) -> Iterable[Any]:
    # No event changes the row of a worker that was replaced.
    copies = [(kind, failed.example, dict(failed.refusals), failed.workers) for kind, failed in errors.items()]
    return ((kind, _columns([example], {}), refusals, workers) for kind, example, refusals, workers in copies)


def _put_errors(errors: dict[str, FailedWorkers], items: list[Any], _: Fleet) -> None:
    for kind, columns, refusals, workers in items:
        (example,) = _rows(columns)
        errors[kind] = FailedWorkers(example, Counter(refusals), workers)


class _Collection(NamedTuple):
    """A collection of a Fleet, and how it is taken."""

    path: str
    """The path of the attribute."""
    item: Any
    """The type of an item. The items of a mapping are pairs."""
    take: Callable[[Any], Iterable[Any]] = _taken
    """Returns the items of the collection as they are now, however late they are read."""
    put: Callable[[Any, list[Any], Fleet], None] = _put
    """Adds items to the collection, which belongs to the Fleet."""
    size: Callable[[Any], int] = lambda _: 0
    """Returns about the bytes of an item that may be large, or the work that goes with as many."""


_COLLECTIONS = (
    _Collection("abandoned_incarnations", tuple[tuple[str, int], Abandoned]),
    _Collection("nested_retries", NestedRetriesFound),
    _Collection("departed.cancelled", tuple[str, int]),
    _Collection("restarts.by_worker", tuple[str, ServiceHistory]),
    _Collection("restarts.latest", tuple[str, float]),
    _Collection("restarts.flaps_until", tuple[str, float]),
    _Collection("restarts._scheduled", str),
    _Collection("polls.by_worker", tuple[str, FailedPolls]),
    _Collection("polls.failing", str),
    _Collection("circuits.by_key", tuple[str, KnownCircuit]),
    _Collection("circuits._closed", tuple[str, None]),
    _Collection("circuits._opened", tuple[str, None]),
    _Collection("hosts.by_address", tuple[str, KnownHost]),
    _Collection("keys.by_key", tuple[str, KnownKey]),
    _Collection("keys.held_by_person", str, list, _put_held_by_person),
    _Collection("keys._waiting", tuple[str, str, int], _take_waiting, _put_waiting),
    _Collection("keys._totals", tuple[str, int]),
    _Collection("settings.history", SettingChanged),
    _Collection("settings._values", tuple[tuple[str, str], Any]),
    _Collection("settings._initial", tuple[tuple[str, str], Any]),
    _Collection(
        "tree.branches",
        tuple[(str | None, *_BRANCH.values())],  # type: ignore[misc]
        _take_branches,
        _put_branches,
    ),
    _Collection("tree._windows", tuple[str, RestartWindow]),
    _Collection("tree._limited", str),
    _Collection("tree._removed", str),
    _Collection("tree.replaced", tuple[str, int]),
    _Collection("loop._starts", float),
    _Collection("loop._ends", float),
    _Collection("loop._before", float),
)
_LATE_COLLECTIONS = (
    _Collection("tree.branches", tuple[str, str], _take_children, _put_children),
    _Collection("tree.newest", int, _take_newest, _put_newest),
    _Collection("departed._well", int, _take_indexes, _put_indexes),
    _Collection("departed._troubled", int, _take_indexes, _put_indexes),
    _Collection("departed.replaced_at", tuple[int, int]),
    _Collection(
        "departed.errors", tuple[str, _Columns, dict[str, int], int], _take_errors, _put_errors, size=lambda _: 1_000
    ),
    _Collection("refusals", CommandRefused),
    _Collection("waits", AttemptHeld | RestartScheduled),
    _Collection("loop.blocks", LoopBlocked, size=_text_size),
    _Collection("loop._last_by_worker", tuple[str, LoopBlocked], size=lambda pair: _text_size(pair[1])),
    _Collection("logs", LogRecorded, size=_text_size),
)


# A tuple is made twice as fast as a structure.
_Kept = tuple[WorkerState, int, str | None, Extra | None, tuple[float, ...], list[Any]]
"""The state of a row before it changed: state, attempt, result, extra, the floats of its columns, and `_BY_WORKER`."""


class Snapshot:
    """The state of a Fleet at the moment of construction, encoded in parts while the Fleet goes on.

    Apply a batch only after a call of `before`, until all parts were taken. Construction copies all but rows, which
    takes a millisecond or two; 15 ms with 10,000 supervisors, and 45 ms while workers wait for 100,000 keys. Each row
    that changes before it is encoded takes 300 bytes until then, so drop the snapshot if its parts are not wanted.
    """

    def __init__(self, fleet: Fleet, texts: dict[str, int] | None = None) -> None:
        self.last_seq = fleet.last_seq
        """The `seq` of the last event that the snapshot includes."""
        self.is_complete = False
        """Whether all parts were taken."""
        self._fleet = fleet
        self._size = len(fleet.rows)
        self._done = 0
        """Rows before this index are encoded, with what is known of their workers."""
        self._kept: dict[Row, _Kept] = {}
        self._replaced: dict[int, Row] = {}
        """Rows that a new worker has taken over, by index."""
        self._by_worker: list[dict[str, Any]] = [attrgetter(path)(fleet) for path in _BY_WORKER]
        self._has_details = any(self._by_worker)
        self._head = [self._size, *(copy(attrgetter(path)(fleet)) for path in _VALUES)]
        self._early, self._late = (
            [each.take(attrgetter(each.path)(fleet)) for each in collections]
            for collections in (_COLLECTIONS, _LATE_COLLECTIONS)
        )
        self._texts: dict[str, int] = {} if texts is None else texts
        """The numbers of tracebacks."""
        self._numbered = len(self._texts)
        """How many of them were sent."""
        fleet.departed.keepers.add(self)

    def before(self, batch: Batch) -> None:
        """Copy what `batch` is about to change. Call it before each `apply` until the snapshot `is_complete`."""
        if self.is_complete:
            return
        row_of, kept, keep, worker_events = self._fleet.by_name.get, self._kept, self._keep, _worker_events()
        for event in batch:
            if type(event) in worker_events:
                row = row_of(event.worker)  # type: ignore[attr-defined]
                if row is not None and row not in kept:
                    keep(row)

    def parts(self) -> Iterator[SnapshotPart]:
        """Return the parts. Call it once. A part takes about a millisecond, and batches may come between two parts."""
        # The snapshot does not hold its parts: without a cycle it goes when they are dropped, and needs no collection.
        return self._cut(self._records())

    def around(self) -> tuple[bytes, bytes]:
        """Return the records before the rows, and those after them. For a `KeyframeMaker`, in place of `parts`."""
        head = [_START.pack(_MAGIC, FORMAT), _record(_HEAD, self._head)]
        for kind, items in enumerate(self._early, _FIRST_COLLECTION):
            head += _items(kind, items, _COLLECTIONS[kind - _FIRST_COLLECTION].size)
        tail: list[bytes] = []
        for kind, items in enumerate(self._late, _FIRST_COLLECTION + len(_COLLECTIONS)):
            tail += _items(kind, items, _LATE_COLLECTIONS[kind - _FIRST_COLLECTION - len(_COLLECTIONS)].size)
        return b"".join(head), b"".join(tail) + _record(_END, self._size)

    def block(self, start: int) -> tuple[bytes, list[str]]:
        """Return the records of the block of rows that begins at index `start`, and the tracebacks that are new."""
        rows = self._fleet.rows[start : start + self._fleet.rows[start].block.size]
        columns, texts = self._details(rows) if self._has_details else ([], [])
        details = _record(_DETAILS, (start, *columns)) if any(columns) else b""
        return _record(_ROWS, _columns(rows, {})) + details, texts

    def replacing(self, row: Row) -> None:
        """Copy a row that a new worker is about to take over, and what is known of the old one."""
        if row.index < self._size:
            self._replaced.setdefault(row.index, row)
            if row not in self._kept:
                self._keep(row)

    def _keep(self, row: Row) -> None:
        block, offset, extra = row.block, row.offset, row.extra
        if not self._done <= block.start + offset < self._size:
            return
        details: list[Any] = _NO_DETAILS
        if self._has_details:
            name = row.name
            details = [known.get(name) for known in self._by_worker]
            if details[-1] is not None:
                details[-1] = copy(details[-1])
        self._kept[row] = (
            row.state,
            row.attempt,
            row.result,
            None if extra is None else extra.__copy__(),  # type: ignore[attr-defined]  # half the time of copy()
            # Nothing ended before it started.
            (block.lucks[offset], block.started[offset], block.ended[offset] if block.ended else _NAN)
            if block.started
            else (_NAN, _NAN, block.ended[offset] if block.ended else _NAN),
            details,
        )

    def _rows_at(self, start: int, stop: int) -> list[Row]:
        """Return the rows from `start` up to, not including, `stop`, as they were when the snapshot was taken."""
        rows = self._fleet.rows[start:stop]
        if self._replaced:
            rows = [self._replaced.get(index, row) for index, row in enumerate(rows, start)]
        return rows

    def _cut(self, records: Iterator[bytes]) -> Iterator[SnapshotPart]:
        """Cut the stream of the records into parts."""
        checksum = 0
        stream = bytearray(_START.pack(_MAGIC, FORMAT))
        is_first, steps = True, 0
        for record in itertools.chain(records, (None,)):
            self.is_complete = record is None
            stream += _record(_END, self._size) if record is None else record
            steps += 1
            if not self.is_complete and len(stream) < PART_SIZE and steps < _STEPS:
                continue
            while True:
                piece = bytes(stream[: MAX_PART_SIZE - _CHECKSUM.size])
                del stream[: len(piece)]
                checksum = zlib.crc32(piece, checksum)
                yield SnapshotPart(_CHECKSUM.pack(checksum) + piece, is_first, self.is_complete)
                is_first, steps = False, 0
                if not stream:
                    break

    def _records(self) -> Iterator[bytes]:
        yield _record(_HEAD, self._head)
        for kind, items in enumerate(self._early, _FIRST_COLLECTION):
            yield from _items(kind, items, _COLLECTIONS[kind - _FIRST_COLLECTION].size)
        yield from self._row_records()
        for number, (collection, items) in enumerate(zip(_LATE_COLLECTIONS[:-1], self._late[:-1], strict=True)):
            yield from _items(_FIRST_COLLECTION + len(_COLLECTIONS) + number, items, collection.size)
        if self._has_details:
            yield from self._detail_records()
        self._done = self._size
        self._kept.clear()
        self._replaced.clear()
        self._fleet.departed.keepers.discard(self)
        last = len(_COLLECTIONS) + len(_LATE_COLLECTIONS) - 1
        yield from _items(_FIRST_COLLECTION + last, self._late[-1], _LATE_COLLECTIONS[-1].size)

    def _row_records(self) -> Iterator[bytes]:
        start = 0
        while start < self._size:
            stop = start
            while stop < self._size and stop - start < _ITEMS:
                stop += (self._replaced.get(stop) or self._fleet.rows[stop]).block.size
            rows = self._rows_at(start, stop)
            record = _record(_ROWS, _columns(rows, self._kept))
            start = stop
            if not self._has_details:
                self._done = stop
                for row in rows if self._kept else ():
                    self._kept.pop(row, None)
            yield record

    def _detail_records(self) -> Iterator[bytes]:
        histories = self._by_worker[-1]
        start = 0
        while start < self._size:
            rows = self._rows_at(start, min(start + _ITEMS, self._size))
            known = [histories.get(row.name) for row in rows] if histories else ()
            if any(records is not None and records.last is not None for records in known):
                rows = rows[:_ITEMS_WITH_RINGS]
            columns, texts = self._details(rows)
            record = _record(_DETAILS, (start, *columns)) if any(columns) else b""
            start = self._done = start + len(rows)
            yield from _items(_TEXTS, texts, len)
            yield record

    def _details(self, rows: list[Row]) -> tuple[list[list[Any]], list[str]]:
        """Return for each of `_BY_WORKER` the offsets of the workers that are in it and their values; and new texts."""
        kept = (
            {offset: self._kept.pop(row) for offset, row in enumerate(rows) if row in self._kept} if self._kept else {}
        )
        names = [row.name for row in rows]
        columns: list[list[Any]] = []
        texts: list[str] = []
        for number, known in enumerate(self._by_worker):
            found = {offset: known[name] for offset, name in enumerate(names) if name in known} if known else {}
            for offset, before in kept.items():
                found[offset] = before[-1][number]
            values = {offset: value for offset, value in found.items() if value is not None}
            if known is self._fleet.stacks:
                for offset, text in values.items():
                    values[offset] = self._texts.setdefault(text, len(self._texts))
                    if values[offset] == self._numbered:
                        texts.append(text)
                        self._numbered += 1
            columns += [list(values), list(values.values())]
        return columns, texts


class Keyframe(NamedTuple):
    """The state of a Fleet as bytes. `blocks` are those rows that changed since the keyframe before it."""

    head: bytes
    """The records before the rows."""
    blocks: dict[int, bytes]
    """By the index of its first row: the records of a block of rows and its workers, compressed."""
    tail: bytes
    """The records after the rows."""
    texts: list[str]
    """The tracebacks that no keyframe before it had."""


class KeyframeMaker:
    """Encodes the state of a Fleet time and again, of its rows only those that have changed.

    Apply a batch only after a call of `before`. A moment is restored by `keyframe_parts`, from the latest form of each
    block and all tracebacks up to then.

    Args:
        fleet: the state.
        texts: the tracebacks of the keyframes so far, if `fleet` was restored from the last one.

    """

    def __init__(self, fleet: Fleet, texts: Iterable[str] = ()) -> None:
        self._fleet = fleet
        self._texts = {text: number for number, text in enumerate(texts)}
        self._rows = len(fleet.rows)
        """Rows that earlier keyframes have."""
        self._changed: set[int] = set()
        """The first indexes of blocks with changed rows."""
        fleet.departed.keepers.add(self)

    def before(self, batch: Batch) -> None:
        """Note what `batch` is about to change. Call it before each `apply`."""
        row_of, changed, worker_events = self._fleet.by_name.get, self._changed, _worker_events()
        for event in batch:
            if type(event) in worker_events and (row := row_of(event.worker)) is not None:  # type: ignore[attr-defined]
                changed.add(row.block.start)

    def replacing(self, row: Row) -> None:
        """Note that a new worker is about to take over a row."""
        self._changed.add(row.block.start)

    def take(self) -> Keyframe:
        """Return the state as it is now."""
        snapshot = Snapshot(self._fleet, self._texts)
        head, tail = snapshot.around()
        blocks: dict[int, bytes] = {}
        new: list[str] = []
        while self._rows < len(self._fleet.rows):
            self._changed.add(self._rows)
            self._rows += self._fleet.rows[self._rows].block.size
        for start in sorted(self._changed):
            records, texts = snapshot.block(start)
            blocks[start] = zlib.compress(records, 1)
            new += texts
        self._changed.clear()
        self._fleet.departed.keepers.discard(snapshot)
        return Keyframe(head, blocks, tail, new)


def keyframe_parts(
    head: bytes, texts: list[str], blocks: Iterable[tuple[int, bytes]], tail: bytes
) -> Iterator[SnapshotPart]:
    """Yield the parts of a snapshot that restores a keyframe. The blocks are in the order of their rows.

    Blocks with the same number are the same, in whatever keyframe, so that a reader can keep their rows.
    """
    checksum = 0
    stream = bytearray(head)
    for texts_record in _items(_TEXTS, texts, len):
        stream += texts_record
    is_first = True
    for block in itertools.chain(blocks, (None,)):
        stream += tail if block is None else _record(_BLOCK, block)
        while len(stream) >= _KEYFRAME_PART_SIZE or block is None:
            piece = bytes(stream[: _KEYFRAME_PART_SIZE - _CHECKSUM.size])
            del stream[: len(piece)]
            checksum = zlib.crc32(piece, checksum)
            is_last = block is None and not stream
            yield SnapshotPart(_CHECKSUM.pack(checksum) + piece, is_first, is_last)
            is_first = False
            if is_last:
                break


@functools.cache
def _worker_events() -> frozenset[type[Event]]:
    """Return the types of events that change rows. `isinstance` takes twice as long."""
    return frozenset(kind for kind in event_types() if issubclass(kind, WorkerEvent))


def _items(kind: int, items: Iterable[Any], size: Callable[[Any], int]) -> Iterator[bytes]:
    """Yield records of these items."""
    some: list[Any] = []
    total = 0
    for item in items:
        some.append(item)
        total += size(item)
        if len(some) == _ITEMS or total >= PART_SIZE:
            yield _record(kind, some)
            some, total = [], 0
    if some:
        yield _record(kind, some)


_encoder = msgspec.msgpack.Encoder()


def _record(kind: int, value: Any) -> bytes:
    try:
        payload = _encoder.encode(value)
    except UnicodeEncodeError:
        builtin = msgspec.to_builtins(value, builtin_types=(bytes, bytearray))
        payload = _encoder.encode(without_surrogates(builtin))
    return _RECORD.pack(kind, len(payload)) + payload


def _columns(rows: list[Row], kept: dict[Row, _Kept]) -> _Columns:
    """Return rows as columns, with the state of those that were `kept`."""
    blocks: list[Block] = []
    at = 0
    while at < len(rows):
        blocks.append(rows[at].block)
        at += blocks[-1].size
    states = bytearray([_CODES[row.state] for row in rows])
    attempts = [row.attempt for row in rows]
    results = [row.result for row in rows]
    extras = [row.extra for row in rows]
    floats: dict[str, bytes] = {}
    before = [(offset, kept[row]) for offset, row in enumerate(rows) if row in kept] if kept else []
    for offset, (state, attempts[offset], results[offset], extras[offset], _, _) in before:
        states[offset] = _CODES[state]
    for number, name in enumerate(_FLOATS):
        columns = [getattr(block, name) for block in blocks]
        column = array("d")
        if any(columns):
            for block, known in zip(blocks, columns, strict=True):
                column += known or block.column()
            for offset, each in before:
                column[offset] = each[4][number]
        floats[name] = _little_endian(column).tobytes()
    extra_at = [offset for offset, extra in enumerate(extras) if extra is not None]
    return _Columns(
        start=blocks[0].start,
        sizes=[block.size for block in blocks],
        groups=[block.group for block in blocks],
        max_attempts=[block.max_attempts for block in blocks],
        names=[row.name for row in rows],
        states=bytes(states),
        attempts=attempts,
        results=results,
        **floats,
        extra_at=extra_at,
        extras=[extra for extra in extras if extra is not None],
    )


def _little_endian(column: array[float]) -> array[float]:
    """Return the column with the bytes of each number in the order of the format, or back."""
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column


# -- reading


_version = attrgetter("version")


def _records_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(data):
        kind, length = _RECORD.unpack_from(data, start)
        start += _RECORD.size + length
        yield kind, data[start - length : start]


class _KeptBlock(NamedTuple):
    """Rows that were read, and the values of `_BY_WORKER`."""

    rows: list[Row]
    names: list[str]
    details: list[dict[str, Any]]


class SnapshotReader:
    """Makes a Fleet of the parts of a snapshot.

    With `keeps_blocks` the rows of a keyframe are kept, and used again in the next one with the same block, if no event
    has changed them. The Fleet before is then not to be used any more. That takes 70 ms for 320,000 rows. To decode
    them takes 200 to 450 ms.
    """

    def __init__(self, *, keeps_blocks: bool = False) -> None:
        self._keeps_blocks = keeps_blocks
        self._kept: dict[int, _KeptBlock] = {}
        """Blocks by number, the one that was used last at the end."""
        self._kept_rows = 0
        self._block: _KeptBlock | None = None
        """The block that is being read."""
        self._blocks: dict[int, _KeptBlock] = {}
        """By the index of its first row: the kept blocks of the snapshot that is being read."""
        self._last: dict[int, _KeptBlock] = {}
        """The same of the snapshot before, whose `by_name` is used again."""
        self._last_names: dict[str, Row] = {}
        self._fleet: Fleet | None = None
        self._checksum = 0
        self._rest = bytearray()
        """The beginning of a record that is not whole yet."""
        self._texts: list[str] = []
        self._is_ended = False

    def read(self, part: SnapshotPart) -> Fleet:
        """Add a part to the Fleet, a new one if the part is the first, and return it.

        The Fleet can be shown from the first part on: its totals are whole, and its rows grow. Events after the
        snapshot can be applied after the last part.

        Raises:
            SnapshotError: The part cannot be read. Only a first part can be read next.

        """
        fleet, self._fleet = self._fleet, None
        if part.is_first:
            fleet, self._checksum, self._rest, self._texts, self._is_ended = Fleet(), 0, bytearray(), [], False
            fleet.by_name, self._blocks = self._last_names, {}
            self._last_names = {}
        elif fleet is None or self._is_ended:
            raise SnapshotError("The part is not the next one of a snapshot.")
        try:
            self._add(fleet, part)
        except SnapshotError:
            raise
        except Exception as error:  # whatever bytes can lead to
            raise SnapshotError(f"The part of a snapshot is damaged: {type(error).__name__}: {error}") from error
        self._fleet = fleet
        return fleet

    def _add(self, fleet: Fleet, part: SnapshotPart) -> None:
        (checksum,) = _CHECKSUM.unpack_from(part.data)
        piece = memoryview(part.data)[_CHECKSUM.size :]
        if part.is_first:
            magic, number = _START.unpack_from(piece)
            if magic != _MAGIC:
                raise SnapshotError("This is not a snapshot.")
            if number != FORMAT:
                raise SnapshotError(f"The snapshot has format {number}, and this version reads format {FORMAT}.")
        self._checksum = zlib.crc32(piece, self._checksum)
        if checksum != self._checksum:
            raise SnapshotError("The part of a snapshot is damaged, or not the next one.")
        self._rest += piece[_START.size if part.is_first else 0 :]
        start = 0
        while not self._is_ended and len(self._rest) >= start + _RECORD.size:
            kind, length = _RECORD.unpack_from(self._rest, start)
            stop = start + _RECORD.size + length
            if stop > len(self._rest):
                break
            self._add_record(fleet, kind, bytes(self._rest[start + _RECORD.size : stop]))
            start = stop
        del self._rest[:start]
        if part.is_last != self._is_ended or (self._is_ended and self._rest):
            raise SnapshotError("The snapshot is not whole.")

    def _add_record(self, fleet: Fleet, kind: int, payload: bytes) -> None:
        value = _decoders()[kind].decode(payload)
        if kind == _HEAD:
            _put_head(fleet, value)
        elif kind == _ROWS:
            if value.start != len(fleet.rows):
                raise SnapshotError("Rows of a snapshot are missing.")
            rows = _rows(value)
            fleet.rows_to_come -= len(rows)
            fleet.rows += rows
            fleet.by_name.update(zip(value.names, rows, strict=True))
            if self._block is not None:
                self._block.rows.extend(rows)
                self._block.names.extend(value.names)
        elif kind == _BLOCK:
            self._add_block(fleet, *value)
        elif kind == _TEXTS:
            self._texts += value
        elif kind == _DETAILS:
            self._put_details(fleet, value)
        elif kind == _END:
            if fleet.rows_to_come or value != len(fleet.rows):
                raise SnapshotError("Rows of a snapshot are missing.")
            self._is_ended = True
            self._texts = []
            if self._keeps_blocks:
                self._end(fleet)
        else:
            collection = (*_COLLECTIONS, *_LATE_COLLECTIONS)[kind - _FIRST_COLLECTION]
            collection.put(attrgetter(collection.path)(fleet), value, fleet)

    def _add_block(self, fleet: Fleet, number: int, data: bytes) -> None:
        """Add the rows of a block: those that were kept, if no event has changed them."""
        index = len(fleet.rows)
        kept = self._kept.get(number)
        if kept is None or any(map(_version, kept.rows)):
            if kept is not None:
                self._forget_block(number)
            self._block = _KeptBlock([], [], [{} for _ in _BY_WORKER])
            for kind, payload in _records_of(inflate(data, _LARGEST_BLOCK)):
                self._add_record(fleet, kind, payload)
            if self._keeps_blocks:
                self._kept[number] = self._block
                self._kept_rows += len(self._block.rows)
            self._block = None
        else:
            self._kept[number] = self._kept.pop(number)
            fleet.rows_to_come -= len(kept.rows)
            fleet.rows += kept.rows
            if self._last.get(index) is not kept:
                fleet.by_name.update(zip(kept.names, kept.rows, strict=True))
            for path, known in zip(_BY_WORKER, kept.details, strict=True):
                if known:
                    attrgetter(path)(fleet).update(known)
        if self._keeps_blocks:
            self._blocks[index] = self._kept[number]

    def _end(self, fleet: Fleet) -> None:
        """Check that the rows are whole, and forget the blocks that were not used for long."""
        if len(fleet.by_name) != len(fleet.rows):  # some are of workers that the Fleet before had
            fleet.by_name.clear()
            fleet.by_name.update((row.name, row) for row in fleet.rows)
        while self._kept_rows > _KEPT * len(fleet.rows) + BLOCK:
            self._forget_block(next(iter(self._kept)))
        self._last, self._last_names = self._blocks, fleet.by_name

    def _forget_block(self, number: int) -> None:
        self._kept_rows -= len(self._kept.pop(number).rows)

    def _put_details(self, fleet: Fleet, value: tuple[Any, ...]) -> None:
        start, *columns = value
        for index, (path, offsets, values) in enumerate(zip(_BY_WORKER, columns[::2], columns[1::2], strict=True)):
            rows = [fleet.rows[start + offset] for offset in offsets]
            found = [self._texts[number] for number in values] if path == "stacks" else values
            by_name = dict(zip([row.name for row in rows], found, strict=True))
            attrgetter(path)(fleet).update(by_name)
            if self._block is not None:
                self._block.details[index].update(by_name)
            if path == _HISTORIES:
                if not all(records.is_whole for records in values):
                    raise SnapshotError("Attempts of a snapshot are missing.")
                for row, records in zip(rows, values, strict=True):
                    _share_texts(records, row.error, row.error_class)


def _share_texts(records: Records, error: str, error_class: str) -> None:
    """Let the records hold one of each text, which may be the row's own, as when they were made: it saves a third."""
    for record in records.first:
        force_setattr(record, "outcome", error if record.outcome == error else share(record.outcome))
        known = record.error_class
        force_setattr(record, "error_class", error_class if known == error_class else share(known))
    if records.last is not None:
        records.last.outcomes = [*map(share, records.last.outcomes)]
        records.last.error_classes = [*map(share, records.last.error_classes)]


@functools.cache
def _decoders() -> dict[int, msgspec.msgpack.Decoder[Any]]:
    """Return the decoder of each kind of record. They are made on first use: most processes read no snapshot."""
    details: list[Any] = [int]
    for each in _BY_WORKER.values():
        details += [list[int], list[each]]  # type: ignore[valid-type]
    types: dict[int, Any] = {
        _END: int,
        _HEAD: tuple[(int, *_VALUES.values())],  # type: ignore[misc]
        _ROWS: _Columns,
        _TEXTS: list[str],
        _DETAILS: tuple[tuple(details)],  # type: ignore[misc]
        _BLOCK: tuple[int, bytes],
    }
    for kind, collection in enumerate((*_COLLECTIONS, *_LATE_COLLECTIONS), _FIRST_COLLECTION):
        types[kind] = list[collection.item]  # type: ignore[name-defined]
    return {kind: msgspec.msgpack.Decoder(each) for kind, each in types.items()}


def _put_head(fleet: Fleet, value: tuple[Any, ...]) -> None:
    fleet.rows_to_come, *values = value
    for path, each in zip(_VALUES, values, strict=True):
        above, _, name = path.rpartition(".")
        holder = attrgetter(above)(fleet) if above else fleet
        if isinstance(each, list) and len(each) != len(getattr(holder, name)):
            raise SnapshotError("Numbers of a snapshot are missing.")
        setattr(holder, name, each)


def _rows(columns: _Columns) -> list[Row]:
    """Return the rows, in new blocks."""
    number = len(columns.names)
    if min(columns.sizes, default=0) < 1 or sum(columns.sizes) != number:
        raise SnapshotError("Rows of a snapshot are missing.")
    floats = []
    for floats_bytes in (columns.lucks, columns.started, columns.ended):
        column = array("d")
        column.frombytes(floats_bytes)
        if len(column) not in {0, number}:
            raise SnapshotError("Numbers of a snapshot are missing.")
        floats.append(_little_endian(column))
    rows: list[Row] = []
    start = 0
    states = [_STATES[code] for code in columns.states]
    for size, group, max_attempts in zip(columns.sizes, columns.groups, columns.max_attempts, strict=True):
        block = Block(columns.start + start, size, group, max_attempts)
        span = slice(start, start + size)
        own = [column[span] for column in floats]
        known = [bool(column) and column.tobytes() != _UNKNOWN[: len(column)].tobytes() for column in own]
        if known[0] or known[1]:
            # A block has both or none.
            block.lucks, block.started = (column or block.column() for column in own[:2])
        if known[2]:
            block.ended = own[2]
        rows += map(
            Row,
            columns.names[span],
            itertools.repeat(block),
            range(size),
            states[span],
            columns.attempts[span],
            itertools.repeat(0),
            map(_shared, columns.results[span]),
        )
        start += size
    if not number == len(rows) == len(columns.states) == len(columns.attempts) == len(columns.results):
        raise SnapshotError("Rows of a snapshot are missing.")
    for offset, extra in zip(columns.extra_at, columns.extras, strict=True):
        row = rows[offset]
        row.extra, row.block.has_extras = extra, True
        extra.error, extra.error_class = share(extra.error), share(extra.error_class)
        if extra.held:
            extra.held = share(extra.held)
    return rows


def _shared(text: str | None) -> str | None:
    return None if text is None else share(text)
