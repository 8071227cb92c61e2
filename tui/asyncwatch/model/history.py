"""What is kept of the past, in bounded memory: attempts of each worker, and removed children. Pure."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Mapping
from copy import copy
from typing import Protocol
from weakref import WeakSet

import msgspec

from asyncwatch.events import WorkerState
from asyncwatch.model.rows import Extra, Row
from asyncwatch.text import error_kind

FIRST_KEPT = 5
"""How many records of a worker's first attempts are kept."""
LAST_KEPT = 100
"""How many records of its last attempts are kept. A service makes attempts for as long as it runs."""


class AttemptRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One attempt of one incarnation. Times are in seconds, `started_at` since the run started."""

    attempt: int
    incarnation: int
    bad_luck: float | None
    is_struck: bool
    started_at: float
    duration: float | None
    """None while it is running. For an unresponsive worker, up to when it was abandoned."""
    outcome: str
    """Empty while it is running, else `succeeded`, `cancelled`, `timed out`, `unresponsive`, or the error."""
    backoff: float | None = None
    """The wait after it."""
    is_asked_for: bool = False
    """Whether the error asked for that wait (`Retry-After`)."""
    error_class: str = ""
    """Empty if it had no error."""
    latency: float = 0.0
    """Seconds that bad luck added before the call."""


class AttemptHistory:
    """The attempts of all workers and incarnations.

    Recorded are failed attempts, and the last attempts of earlier incarnations. The present attempt is read from the
    row, so that a worker that succeeds at once needs no record. Of many attempts the first `FIRST_KEPT` and the last
    `LAST_KEPT` are kept.
    """

    __slots__ = ("_records",)

    def __init__(self) -> None:
        self._records: dict[str, Records] = {}

    def __len__(self) -> int:
        """Return how many workers have records."""
        return len(self._records)

    def failed(self, row: Row, extra: Extra) -> None:
        """Record the row's last attempt, which has failed; `extra` is the row's own."""
        record = AttemptRecord(
            row.attempt,
            extra.incarnation,
            row.bad_luck,
            extra.is_struck,
            extra.attempt_started_at or 0.0,
            extra.last_duration,
            extra.error,
            error_class=extra.error_class,
            latency=extra.latency,
        )
        self._add(row, extra, record)

    def backed_off(self, row: Row, delay: float, *, is_asked_for: bool) -> None:
        """Record the wait in seconds after the row's last attempt, and whether its error asked for it."""
        if row.attempt and row.is_recorded:
            records = self._records[row.name]
            waited = msgspec.structs.replace(records.newest, backoff=delay, is_asked_for=is_asked_for)
            records.replace_newest(waited)

    def close(self, row: Row) -> None:
        """Record the row's last attempt before the next incarnation overwrites it."""
        if not row.is_recorded:
            record = _last(row)
            self._add(row, row.own_extra(), record)

    def forget(self, name: str) -> None:
        """Drop the records of a worker."""
        self._records.pop(name, None)

    def of(self, row: Row) -> tuple[AttemptRecord, ...]:
        """Return the worker's attempts of all incarnations, oldest first, except those `left_out`."""
        records = self._records.get(row.name)
        kept = () if records is None else records.kept()
        return kept if row.is_recorded else (*kept, _last(row))

    def left_out(self, name: str) -> int:
        """Return how many attempts of a worker are not kept; they came after the first `FIRST_KEPT`."""
        records = self._records.get(name)
        return 0 if records is None else max(0, records.count - FIRST_KEPT - LAST_KEPT)

    def _add(self, row: Row, extra: Extra, record: AttemptRecord) -> None:
        records = self._records.get(row.name)
        if records is None:
            records = self._records[row.name] = Records()
        records.add(record)
        extra.is_recorded = True


class Records(msgspec.Struct, gc=False, array_like=True):
    """The first and the last records of one worker."""

    count: int = 0
    """Records added, including those that are not kept."""
    first: tuple[AttemptRecord, ...] = ()
    last: RecordRing | None = None

    def __copy__(self) -> Records:
        return Records(self.count, self.first, copy(self.last))

    @property
    def is_whole(self) -> bool:
        """Whether it has as many records as it says: it may come from another process."""
        first, last = len(self.first), self.last
        if last is None:
            return first == self.count <= FIRST_KEPT
        return first == FIRST_KEPT < self.count and last.is_of_size(min(self.count - FIRST_KEPT, LAST_KEPT))

    @property
    def newest(self) -> AttemptRecord:
        """The last record."""
        return self.first[-1] if self.last is None else self.last.read(self._newest_slot)

    def add(self, record: AttemptRecord) -> None:
        """Add a record; drop one in the middle if there are too many."""
        self.count += 1
        if self.count <= FIRST_KEPT:
            self.first += (record,)
            return
        if self.last is None:
            self.last = RecordRing()
        self.last.write(self._newest_slot, record)

    def replace_newest(self, record: AttemptRecord) -> None:
        """Replace the last record."""
        if self.last is None:
            self.first = (*self.first[:-1], record)
        else:
            self.last.write(self._newest_slot, record)

    def kept(self) -> tuple[AttemptRecord, ...]:
        """Return the kept records, oldest first."""
        if self.last is None:
            return self.first
        size = len(self.last)
        oldest = self.count - FIRST_KEPT if size == LAST_KEPT else 0
        return (*self.first, *(self.last.read((oldest + slot) % LAST_KEPT) for slot in range(size)))

    @property
    def _newest_slot(self) -> int:
        return (self.count - FIRST_KEPT - 1) % LAST_KEPT


_NUMBERS = struct.Struct("<QQ5d??")
"""Attempt, incarnation, bad luck, start, duration, backoff, latency; and two flags."""
_NO_RECORD = bytes(_NUMBERS.size)


class RecordRing(msgspec.Struct, gc=False, array_like=True):
    """Records in 58 bytes each and two texts that workers share.

    Objects take three times as much, and there may be thousands of services.
    """

    numbers: bytearray = msgspec.field(default_factory=bytearray)
    outcomes: list[str] = msgspec.field(default_factory=list)
    error_classes: list[str] = msgspec.field(default_factory=list)

    def __copy__(self) -> RecordRing:
        return RecordRing(self.numbers[:], self.outcomes[:], self.error_classes[:])

    def __len__(self) -> int:
        return len(self.outcomes)

    def is_of_size(self, size: int) -> bool:
        """Return whether all columns have as many records."""
        return size * _NUMBERS.size == len(self.numbers) and size == len(self.outcomes) == len(self.error_classes)

    def write(self, slot: int, record: AttemptRecord) -> None:
        """Write a record to a slot that exists, or to the next one."""
        if slot == len(self.outcomes):
            self.numbers += _NO_RECORD
            self.outcomes.append("")
            self.error_classes.append("")
        self.outcomes[slot], self.error_classes[slot] = record.outcome, record.error_class
        _NUMBERS.pack_into(
            self.numbers,
            slot * _NUMBERS.size,
            record.attempt,
            record.incarnation,
            _nan_for_none(record.bad_luck),
            record.started_at,
            _nan_for_none(record.duration),
            _nan_for_none(record.backoff),
            record.latency,
            record.is_struck,
            record.is_asked_for,
        )

    def read(self, slot: int) -> AttemptRecord:
        """Return the record of a slot."""
        numbers = _NUMBERS.unpack_from(self.numbers, slot * _NUMBERS.size)
        attempt, incarnation, bad_luck, started_at, duration, backoff, latency, is_struck, is_asked_for = numbers
        return AttemptRecord(
            attempt=attempt,
            incarnation=incarnation,
            bad_luck=_none_for_nan(bad_luck),
            is_struck=is_struck,
            started_at=started_at,
            duration=_none_for_nan(duration),
            outcome=self.outcomes[slot],
            backoff=_none_for_nan(backoff),
            is_asked_for=is_asked_for,
            error_class=self.error_classes[slot],
            latency=latency,
        )


def _nan_for_none(value: float | None) -> float:
    return math.nan if value is None else value


def _none_for_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


def _last(row: Row) -> AttemptRecord:
    """Return the row's last attempt, which has no record, as far as the row shows it."""
    if row.is_between_polls:
        return _record(row, row.last_duration, WorkerState.SUCCEEDED.value)
    duration = row.last_duration if row.is_settled else None
    if row.state is WorkerState.UNRESPONSIVE and row.attempt_started_at is not None:
        duration = (row.ended_at or 0.0) - row.attempt_started_at
    return _record(row, duration, row.state.value if row.is_settled else "")


def _record(row: Row, duration: float | None, outcome: str) -> AttemptRecord:
    return AttemptRecord(
        attempt=row.attempt,
        incarnation=row.incarnation,
        bad_luck=row.bad_luck,
        is_struck=row.is_struck,
        started_at=row.attempt_started_at or 0.0,
        duration=duration,
        outcome=outcome,
        error_class=row.error_class,
        latency=row.latency,
    )


KEPT = 2_000
"""How many rows of children that ended well are kept.

It is more than the names whose incarnations the engine keeps counting, so that a restart it reports finds its row.
"""
TROUBLED_KEPT = 10_000
"""How many rows of the others are kept: they need attention."""
_KINDS_KEPT = 1_000


class FailedWorkers(msgspec.Struct):
    """Failed workers whose last errors were of one kind."""

    example: Row
    """The row of the first of them."""
    refusals: Counter[str]
    """How often a retry was refused, by the reason."""
    workers: int = 0


class RowKeeper(Protocol):
    """Copies a row and what is known of its worker before that is lost."""

    def replacing(self, row: Row) -> None:
        """Note that a new worker is about to take over the row."""


class DepartedChildren:
    """Rows of children that ended and were removed, and what remains of those whose row a new worker took over.

    So are the settled workers of a batch that forgets them.
    """

    def __init__(self, kept: int, troubled_kept: int) -> None:
        self.replaced = 0
        """Workers that have no row any more."""
        self.cancelled: Counter[str] = Counter()
        """How many of these were cancelled, by the reason."""
        self.errors: dict[str, FailedWorkers] = {}
        """The errors of these, by kind; no more than a thousand kinds."""
        self.replaced_at: dict[int, int] = {}
        """Index of each row that was replaced -> the value of `replaced` after the last time; the latest one last."""
        self.keepers: WeakSet[RowKeeper] = WeakSet()
        """These learn of each row before it is replaced."""
        self._kept = kept
        self._troubled_kept = troubled_kept
        self._well: dict[Row, None] = {}
        self._troubled: dict[Row, None] = {}

    def keep(self, rows: int) -> None:
        """Keep so many rows of workers that ended well from now on."""
        self._kept = rows

    def __len__(self) -> int:
        """Return how many rows are kept."""
        return len(self._well) + len(self._troubled)

    def add(self, row: Row) -> None:
        """Add the row of a settled child that its supervisor has just removed, or of a settled worker of the batch.

        A row in a block of several workers cannot be given up alone. No supervisor queues its workers like that.
        """
        if row.block.size > 1:
            return
        kept = self._troubled if row.state.is_trouble else self._well
        kept.pop(row, None)
        kept[row] = None

    def discard(self, row: Row) -> None:
        """Drop the row of a child that is started again."""
        self._well.pop(row, None)
        self._troubled.pop(row, None)

    def oldest(self) -> Row | None:
        """Return the oldest row beyond those that are kept; None if there is none."""
        if len(self._well) > self._kept:
            return next(iter(self._well))
        return next(iter(self._troubled)) if len(self._troubled) > self._troubled_kept else None

    def named(self, name: str, by_name: Mapping[str, Row]) -> Row | None:
        """Return the row of a departed child by its name; None if there is none."""
        row = by_name.get(name)
        return row if row is not None and (row in self._well or row in self._troubled) else None

    def replace(self, row: Row, cancel_reason: str) -> None:
        """Remove a row that a new worker takes over, and count it."""
        if self.keepers:
            for keeper in self.keepers:
                keeper.replacing(row)
        self.discard(row)
        self.replaced += 1
        self.replaced_at.pop(row.index, None)
        self.replaced_at[row.index] = self.replaced
        if row.state is WorkerState.CANCELLED:
            self.cancelled[cancel_reason] += 1
        if not row.state.is_failure:
            return
        kind = error_kind(row.error)
        known = self.errors.get(kind)
        if known is None:
            if len(self.errors) == _KINDS_KEPT:
                return
            known = self.errors[kind] = FailedWorkers(row, Counter())
        known.workers += 1
        if row.refusal:
            known.refusals[row.refusal] += 1
