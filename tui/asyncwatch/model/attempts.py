"""The attempts of every worker, at no cost for those that succeeded at once: their row tells it all."""

from __future__ import annotations

import msgspec

from asyncwatch.events import WorkerState
from asyncwatch.model.row import AttemptRecord, Row

POLLS_KEPT = 100
"""Failed attempts that are kept of a poller, which may fail for ever."""
_OUTCOMES = {state: state.value if state.is_settled else "" for state in WorkerState}


class Attempts:
    """Records of the attempts that failed, and of all those of earlier incarnations."""

    __slots__ = ("_records",)

    def __init__(self) -> None:
        self._records: dict[str, list[AttemptRecord]] = {}

    def is_recorded(self, row: Row) -> bool:
        """Return whether the row's last attempt is among the records, or none was made."""
        if not row.attempt:
            return True
        records = self._records.get(row.name)
        if not records:
            return False
        last = records[-1]
        if last.attempt != row.attempt or last.incarnation != row.incarnation:
            return False
        return last.started_at == (row.attempt_started_at or 0.0)  # each poll of a poller has an attempt 1

    def note_failure(self, row: Row) -> None:
        """Record the attempt that the row says has failed."""
        records = self._records.setdefault(row.name, [])
        records.append(_record(row, row.last_duration, row.error))
        if row.is_poller and len(records) > POLLS_KEPT:
            del records[0]

    def note_backoff(self, row: Row, delay: float, *, is_asked_for: bool = False) -> None:
        """Record the seconds of waiting after the row's last attempt, and whether its error asked for them."""
        if row.attempt and self.is_recorded(row):
            records = self._records[row.name]
            records[-1] = msgspec.structs.replace(records[-1], backoff=delay, is_asked_for=is_asked_for)

    def close(self, row: Row) -> None:
        """Record what only the row knows, before its next incarnation overwrites it."""
        if not self.is_recorded(row):
            self._records.setdefault(row.name, []).append(self._last(row))

    def of(self, row: Row) -> tuple[AttemptRecord, ...]:
        """Return the worker's attempts, of all incarnations, oldest first."""
        records = self._records.get(row.name, ())
        return tuple(records) if self.is_recorded(row) else (*records, self._last(row))

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
