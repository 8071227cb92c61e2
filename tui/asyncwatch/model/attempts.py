"""The attempts of every worker, at no cost for those that succeeded at once: their row tells it all."""

from __future__ import annotations

import math
from array import array

import msgspec

from asyncwatch.events import WorkerState
from asyncwatch.model.row import AttemptRecord, Row

_OUTCOMES = {state: state.value if state.is_settled else "" for state in WorkerState}
_WIDTH = 9
"""Numbers of a record."""
_NO_NUMBERS: array[float] = array("d")
FIRST_KEPT = 5
"""Records of a worker's first attempts that are kept for ever."""
LAST_KEPT = 100
"""Records of its last attempts that are kept: a service makes attempts for as long as it runs."""


class _Records:
    """The first and the last records of one worker, and how many there were in all.

    The last ones are a ring of numbers, 72 bytes a record and two texts that workers share: as objects they take three
    times as much, for each of the thousands of services that there may be.
    """

    __slots__ = ("_error_classes", "_numbers", "_outcomes", "count", "first")

    def __init__(self) -> None:
        self.count = 0
        """Records in all, those that are not kept included."""
        self.first: list[AttemptRecord] = []
        self._numbers = _NO_NUMBERS
        self._outcomes: list[str] = []
        self._error_classes: list[str] = []

    @property
    def newest(self) -> AttemptRecord:
        """The record that was added last."""
        return self.first[-1] if self.count <= FIRST_KEPT else self._unpacked((self.count - FIRST_KEPT - 1) % LAST_KEPT)

    def is_newest(self, attempt: int, incarnation: int, started_at: float) -> bool:
        """Return whether the newest record is of that attempt. Each poll of a poller has an attempt 1."""
        if self.count <= FIRST_KEPT:
            newest = self.first[-1]
            return (newest.attempt, newest.incarnation, newest.started_at) == (attempt, incarnation, started_at)
        start = (self.count - FIRST_KEPT - 1) % LAST_KEPT * _WIDTH
        numbers = self._numbers
        return numbers[start] == attempt and numbers[start + 1] == incarnation and numbers[start + 4] == started_at

    def add(self, record: AttemptRecord) -> None:
        """Add a record, in place of the oldest of the last ones if there are enough of them."""
        self.count += 1
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
        numbers = array("d", _packed(record))
        if place == len(self._outcomes):
            if not place:
                self._numbers = array("d")
            self._numbers.extend(numbers)
            self._outcomes.append(record.outcome)
            self._error_classes.append(record.error_class)
        else:
            self._numbers[place * _WIDTH : (place + 1) * _WIDTH] = numbers
            self._outcomes[place], self._error_classes[place] = record.outcome, record.error_class

    def _unpacked(self, place: int) -> AttemptRecord:
        start = place * _WIDTH
        attempt, incarnation, bad_luck, is_struck, started_at, duration, backoff, is_asked_for, latency = self._numbers[
            start : start + _WIDTH
        ]
        return AttemptRecord(
            attempt=int(attempt),
            incarnation=int(incarnation),
            bad_luck=_known(bad_luck),
            is_struck=bool(is_struck),
            started_at=started_at,
            duration=_known(duration),
            outcome=self._outcomes[place],
            backoff=_known(backoff),
            is_asked_for=bool(is_asked_for),
            error_class=self._error_classes[place],
            latency=latency,
        )


def _packed(record: AttemptRecord) -> tuple[float, ...]:
    bad_luck, duration, backoff = (
        math.nan if value is None else value for value in (record.bad_luck, record.duration, record.backoff)
    )
    head = record.attempt, record.incarnation, bad_luck, record.is_struck, record.started_at
    return (*head, duration, backoff, record.is_asked_for, record.latency)


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
        started_at = row.attempt_started_at or 0.0
        return records is not None and records.is_newest(row.attempt, row.incarnation, started_at)

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
