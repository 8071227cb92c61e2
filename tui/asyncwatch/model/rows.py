"""What is known of one worker."""

from __future__ import annotations

import math
import struct
from array import array

import msgspec

from asyncwatch.events import SETTLED, WorkerState

_TROUBLE = frozenset(
    {
        WorkerState.FAILED,
        WorkerState.EXHAUSTED,
        WorkerState.TIMED_OUT,
        WorkerState.UNRESPONSIVE,
        WorkerState.BACKING_OFF,
    }
)


BLOCK = 256
"""Workers in a block at the most: their places in it are integers that Python has made already."""
_UNKNOWN = math.nan
# Before Python 3.12 each lookup of an enum's member costs 50 ns.
_UNRESPONSIVE = WorkerState.UNRESPONSIVE
_EMPTY: array[float] = array("d")


class Block:
    """Neighbours in the queue, and of each the columns that would take an object of its own. Only the Fleet writes it.

    A column is empty until the first of them has something to write there: workers that are queued need none.
    """

    __slots__ = ("ended", "group", "has_extras", "lucks", "max_attempts", "size", "start", "started")

    def __init__(self, start: int, size: int, group: str, max_attempts: int) -> None:
        self.start = start
        """The place of the first of them in the queue, from 0."""
        self.size = size
        self.group = group
        self.max_attempts = max_attempts
        self.has_extras = False
        """Whether any of them has, or had, something extra."""
        self.lucks = self.started = self.ended = _EMPTY

    def column(self) -> array[float]:
        """Return a new column, in which no value is known."""
        return array("d", (_UNKNOWN,)) * self.size

    def seconds(self, offset: int, now: float = _UNKNOWN) -> float | None:
        """Return how long one of them took, or has taken up to `now`; None if it did not start, or without a `now`."""
        if not self.started:
            return None
        ended = self.ended[offset] if self.ended else _UNKNOWN
        seconds = (ended if ended == ended else now) - self.started[offset]  # noqa: PLR0124  not a number differs
        if seconds >= 0:
            return seconds
        return 0.0 if seconds < 0 else None

    def forget(self, offset: int) -> None:
        """Take away what the columns say of one of them."""
        for column in (self.lucks, self.started, self.ended):
            if column:
                column[offset] = _UNKNOWN


class Extra(msgspec.Struct, gc=False, eq=True):
    """What is known of a worker that did not just succeed at its first attempt. Times as in `Row`."""

    attempt_started_at: float | None = None
    last_duration: float | None = None
    incarnation: int = 1
    is_struck: bool = False
    error: str = ""
    retry_at: float | None = None
    is_poller: bool = False
    is_ready: bool = False
    held: str = ""
    refusal: str = ""
    error_class: str = ""
    latency: float = 0.0
    max_attempts: int = 0
    """By the policy of the class of its errors; 0 if that is the one of its block."""
    calls: int = 0
    failed_polls: int = 0


class Row(msgspec.Struct, gc=False, eq=False):
    """One worker as it is now. Only the Fleet writes it. Times are in seconds since the run started.

    Rows are compared and hashed by identity: there is one of each worker in a Fleet. A million of them have to be
    small: they hold what every worker has, their block what would be objects of their own, and `extra` the rest.
    """

    name: str
    block: Block
    offset: int
    """Its place in the block."""
    state: WorkerState = WorkerState.QUEUED
    attempt: int = 0
    """The number of the last attempt of this incarnation, 0 before the first."""
    version: int = 0
    """Grows with every change of this row."""
    result: str | None = None
    """A printable line of at most 200 characters; None if there is none, or it is None."""
    extra: Extra | None = None
    """None means that all of it is as by default, but for the two times, which the columns tell."""

    @property
    def index(self) -> int:
        """Its place in the order in which workers were queued, from 0."""
        return self.block.start + self.offset

    @property
    def group(self) -> str:
        """The name of its group, or the path of its supervisor."""
        return self.block.group

    @property
    def max_attempts(self) -> int:
        """How many attempts an incarnation may make, with errors such as the last one."""
        return (0 if self.extra is None else self.extra.max_attempts) or self.block.max_attempts

    @property
    def incarnation(self) -> int:
        """The number of the present incarnation, from 1."""
        return 1 if self.extra is None else self.extra.incarnation

    @property
    def bad_luck(self) -> float | None:
        """The draw of the last attempt, in [0, 1)."""
        lucks = self.block.lucks
        return value if lucks and (value := lucks[self.offset]) >= 0 else None

    @property
    def is_struck(self) -> bool:
        """Whether that draw injected a fault. Known only when the attempt has failed."""
        return self.extra is not None and self.extra.is_struck

    @property
    def error(self) -> str:
        """The last error, `Type: message`, a printable line of at most 300 characters; empty if there is none."""
        return "" if self.extra is None else self.extra.error

    @property
    def first_started_at(self) -> float | None:
        """When the first attempt of this incarnation started."""
        return self._known(self.block.started)

    @property
    def attempt_started_at(self) -> float | None:
        """When the last attempt started."""
        return self.first_started_at if self.extra is None else self.extra.attempt_started_at

    @property
    def ended_at(self) -> float | None:
        """When this incarnation settled; None while it is active."""
        return self._known(self.block.ended)

    @property
    def retry_at(self) -> float | None:
        """When the next attempt or incarnation starts, or a poller is called again; None if nothing is to come."""
        return None if self.extra is None else self.extra.retry_at

    @property
    def is_poller(self) -> bool:
        """Whether it was called, and will be again, without an end between."""
        return self.extra is not None and self.extra.is_poller

    @property
    def is_between_polls(self) -> bool:
        """Whether it is a poller whose next poll starts at a known time."""
        return self.state is WorkerState.RUNNING and self.is_poller and self.retry_at is not None

    @property
    def failed_polls(self) -> int:
        """How many polls of a poller have failed in a row; 0 if the last one succeeded, or it is no poller."""
        return 0 if self.extra is None else self.extra.failed_polls

    @property
    def calls(self) -> int:
        """How many calls of a poller succeeded in this incarnation."""
        return 0 if self.extra is None else self.extra.calls

    @property
    def is_ready(self) -> bool:
        """Whether this incarnation is ready. Only workers of a tree are told so."""
        return self.extra is not None and self.extra.is_ready

    @property
    def held(self) -> str:
        """What it was held by, as `circuit example.org` or `place`; empty unless waiting. See `Fleet.held_by`."""
        return "" if self.extra is None else self.extra.held

    @property
    def refusal(self) -> str:
        """Why it got no further attempt although some were left; empty unless that is how it ended."""
        return "" if self.extra is None else self.extra.refusal

    @property
    def error_class(self) -> str:
        """The class of the last error: `throttled`, `transient`, `server` or `permanent`; empty if there was none."""
        return "" if self.extra is None else self.extra.error_class

    @property
    def latency(self) -> float:
        """Seconds that bad luck added before the call of the last attempt."""
        return 0.0 if self.extra is None else self.extra.latency

    @property
    def last_duration(self) -> float | None:
        """How long the last attempt that ended took, in seconds."""
        if self.extra is not None:
            return self.extra.last_duration
        seconds = self.block.seconds(self.offset)
        return None if seconds is None or self.state is _UNRESPONSIVE else seconds

    @property
    def retries(self) -> int:
        """How many attempts of this incarnation came after the first."""
        return max(0, self.attempt - 1)

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will happen to the worker unless somebody restarts it."""
        return self.state in SETTLED

    @property
    def is_in_trouble(self) -> bool:
        """Whether the worker deserves a look: it did not make it, it needs another try, or its polls fail."""
        is_retrying = self.state is WorkerState.RUNNING and self.attempt > 1
        return self.state in _TROUBLE or is_retrying or self.failed_polls > 0

    def elapsed(self, now: float) -> float | None:
        """Return the seconds since the first attempt started, backoff included; frozen once settled."""
        return self.block.seconds(self.offset, now)

    def own_extra(self) -> Extra:
        """Return the row's `extra`, made if it had none."""
        if self.extra is None:
            self.block.has_extras = True
            self.extra = Extra(self.attempt_started_at, self.last_duration)
        return self.extra

    def _known(self, column: array[float]) -> float | None:
        if not column:
            return None
        value = column[self.offset]
        return None if value != value else value  # noqa: PLR0124  only what is not a number differs from itself


class AttemptRecord(msgspec.Struct, frozen=True, gc=False):
    """One attempt of one incarnation. Times are in seconds, `started_at` since the run started."""

    attempt: int
    incarnation: int
    bad_luck: float | None
    is_struck: bool
    started_at: float
    duration: float | None
    """None while it is running. An unresponsive one counts up to when it was left behind."""
    outcome: str
    """Empty while it is running, else `succeeded`, `cancelled`, `timed out`, `unresponsive`, or the error."""
    backoff: float | None = None
    """The wait that followed it."""
    is_asked_for: bool = False
    """Whether that wait is what the error asked for (`Retry-After`)."""
    error_class: str = ""
    """Of which class its error was; empty if it had none."""
    latency: float = 0.0
    """Seconds of it that bad luck added before the call."""


_OUTCOMES = {state: state.value if state.is_settled else "" for state in WorkerState}
_NUMBERS = struct.Struct("=QQ5d??")
"""Of a record: attempt, incarnation, bad luck, start, duration, backoff, latency; and two flags."""
_NO_RECORD = bytes(_NUMBERS.size)
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
            self._numbers += _NO_RECORD
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
