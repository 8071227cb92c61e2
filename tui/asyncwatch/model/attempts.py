"""The attempts of every worker, at no cost for those that succeeded at once: their row tells it all."""

from __future__ import annotations

import math
import struct

import msgspec

from asyncwatch.events import WorkerState
from asyncwatch.model.row import AttemptRecord, Row

_OUTCOMES = {state: state.value if state.is_settled else "" for state in WorkerState}
_NUMBERS = struct.Struct("=QQ5d??")
"""Of a record: attempt, incarnation, bad luck, start, duration, backoff, latency; and two flags."""
_EMPTY = bytes(_NUMBERS.size)
_UNKNOWN = math.nan
FIRST_KEPT = 5
"""Records of a worker's first attempts that are kept for ever."""
LAST_KEPT = 100
"""Records of its last attempts that are kept: a service makes attempts for as long as it runs."""


class _Records:
    """The first and the last records of one worker, and how many there were in all.

    The last ones are a ring of numbers, 58 bytes a record and two texts that workers share: as objects they take three
    times as much, for each of the thousands of services that there may be.
    """

    __slots__ = ("_error_classes", "_numbers", "_outcomes", "count", "first", "newest_key")

    def __init__(self) -> None:
        self.count = 0
        """Records in all, those that are not kept included."""
        self.newest_key = 0, 0, 0.0
        """Attempt, incarnation and start of the newest record. Each poll of a poller has an attempt 1."""
        self.first: list[AttemptRecord] = []
        self._numbers = bytearray()
        self._outcomes: list[str] = []
        self._error_classes: list[str] = []

    @property
    def newest(self) -> AttemptRecord:
        """The record that was added last."""
        return self.first[-1] if self.count <= FIRST_KEPT else self._unpacked((self.count - FIRST_KEPT - 1) % LAST_KEPT)

    def add(self, record: AttemptRecord) -> None:
        """Add a record, in place of the oldest of the last ones if there are enough of them."""
        self.count += 1
        self.newest_key = record.attempt, record.incarnation, record.started_at
        if self.count <= FIRST_KEPT:
            self.first.append(record)
        else:
            self._put((self.count - FIRST_KEPT - 1) % LAST_KEPT, record)

    def replace_newest(self, record: AttemptRecord) -> None:
        """Put a record in place of the one that was added last."""
        if self.count <= FIRST_KEPT:
            self.first[-1] = record
        else:
            self._put((self.count - FIRST_KEPT - 1) % LAST_KEPT, record)

    def kept(self) -> tuple[AttemptRecord, ...]:
        """Return the records that are kept, oldest first."""
        size = len(self._outcomes)
        oldest = self.count - FIRST_KEPT if size == LAST_KEPT else 0
        return (*self.first, *(self._unpacked((oldest + place) % LAST_KEPT) for place in range(size)))

    def _put(self, place: int, record: AttemptRecord) -> None:
        if place == len(self._outcomes):
            self._numbers += _EMPTY
            self._outcomes.append("")
            self._error_classes.append("")
        self._outcomes[place], self._error_classes[place] = record.outcome, record.error_class
        bad_luck, duration, backoff = record.bad_luck, record.duration, record.backoff
        _NUMBERS.pack_into(
            self._numbers,
            place * _NUMBERS.size,
            record.attempt,
            record.incarnation,
            _UNKNOWN if bad_luck is None else bad_luck,
            record.started_at,
            _UNKNOWN if duration is None else duration,
            _UNKNOWN if backoff is None else backoff,
            record.latency,
            record.is_struck,
            record.is_asked_for,
        )

    def _unpacked(self, place: int) -> AttemptRecord:
        numbers = _NUMBERS.unpack_from(self._numbers, place * _NUMBERS.size)
        attempt, incarnation, bad_luck, started_at, duration, backoff, latency, is_struck, is_asked_for = numbers
        return AttemptRecord(
            attempt=attempt,
            incarnation=incarnation,
            bad_luck=_known(bad_luck),
            is_struck=is_struck,
            started_at=started_at,
            duration=_known(duration),
            outcome=self._outcomes[place],
            backoff=_known(backoff),
            is_asked_for=is_asked_for,
            error_class=self._error_classes[place],
            latency=latency,
        )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


class Attempts:
    """Records of the attempts that failed, and of all those of earlier incarnations.

    Of a worker with many attempts the first `FIRST_KEPT` and the last `LAST_KEPT` records are kept.
    """

    __slots__ = ("_records",)

    def __init__(self) -> None:
        self._records: dict[str, _Records] = {}

    def is_recorded(self, row: Row) -> bool:
        """Return whether the row's last attempt is among the records, or none was made."""
        if not row.attempt:
            return True
        records = self._records.get(row.name)
        return records is not None and records.newest_key == (
            row.attempt,
            row.incarnation,
            row.attempt_started_at or 0.0,
        )

    def note_failure(self, row: Row) -> None:
        """Record the attempt that the row says has failed."""
        self._add(row, _record(row, row.last_duration, row.error))

    def note_backoff(self, row: Row, delay: float, *, is_asked_for: bool = False) -> None:
        """Record the seconds of waiting after the row's last attempt, and whether its error asked for them."""
        if row.attempt and self.is_recorded(row):
            records = self._records[row.name]
            waited = msgspec.structs.replace(records.newest, backoff=delay, is_asked_for=is_asked_for)
            records.replace_newest(waited)

    def close(self, row: Row) -> None:
        """Record what only the row knows, before its next incarnation overwrites it."""
        if not self.is_recorded(row):
            self._add(row, self._last(row))

    def of(self, row: Row) -> tuple[AttemptRecord, ...]:
        """Return the worker's attempts of all incarnations, oldest first, without those `left_out`."""
        records = self._records.get(row.name)
        kept = () if records is None else records.kept()
        return kept if self.is_recorded(row) else (*kept, self._last(row))

    def left_out(self, name: str) -> int:
        """Return how many attempts of a worker have no record: they came after the first `FIRST_KEPT`."""
        records = self._records.get(name)
        return 0 if records is None else max(0, records.count - FIRST_KEPT - LAST_KEPT)

    def forget(self, name: str) -> None:
        """Drop the records of a worker."""
        self._records.pop(name, None)

    def _add(self, row: Row, record: AttemptRecord) -> None:
        records = self._records.get(row.name)
        if records is None:
            records = self._records[row.name] = _Records()
        records.add(record)

    @staticmethod
    def _last(row: Row) -> AttemptRecord:
        if row.is_poller and (row.is_between_polls or row.state is WorkerState.WAITING):
            return _record(row, row.last_duration, WorkerState.SUCCEEDED.value)
        duration = row.last_duration if row.is_settled else None
        if row.state is WorkerState.UNRESPONSIVE and row.attempt_started_at is not None:
            duration = (row.ended_at or 0.0) - row.attempt_started_at
        return _record(row, duration, _OUTCOMES[row.state])


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
