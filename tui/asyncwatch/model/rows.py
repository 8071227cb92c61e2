"""Rows: what is known of each worker. Pure.

A million rows have to be small. A row holds what every worker has, its block the columns of numbers that would be
objects of their own, and its `extra` whatever is known only of workers that did not just succeed.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence

import msgspec

from asyncwatch.events import SETTLED, TROUBLE, WorkerState
from asyncwatch.text import progress_line

BLOCK = 256
"""Most workers of a block: offsets up to this are integers that Python caches."""
IN_TROUBLE = TROUBLE | {WorkerState.BACKING_OFF}
"""States of which each needs attention."""
IN_FLIGHT = frozenset({WorkerState.RUNNING, WorkerState.CANCELLING})
"""States of a worker whose attempt is in flight."""
_STOPPED_EARLY = frozenset({WorkerState.CANCELLED, WorkerState.TIMED_OUT})
_UNKNOWN = math.nan
THROTTLED_BITS = 20
"""A worker is throttled less than a million times: about once in half a second at most."""
_EMPTY: array[float] = array("d")


class Block:
    """Workers next to each other in queue order, and columns with one number for each of them.

    A column is empty until the first number is known.
    """

    __slots__ = ("ended", "group", "has_extras", "lucks", "max_attempts", "size", "start", "started")

    def __init__(self, start: int, size: int, group: str, max_attempts: int) -> None:
        self.start = start
        """The index of its first worker, from 0."""
        self.size = size
        self.group = group
        self.max_attempts = max_attempts
        self.has_extras = False
        """Whether any row of the block has, or had, an `extra`."""
        self.lucks = self.started = self.ended = _EMPTY

    def column(self) -> array[float]:
        """Return a new column without known numbers."""
        return array("d", (_UNKNOWN,)) * self.size

    def seconds(self, offset: int, now: float = _UNKNOWN) -> float | None:
        """Return how long a worker took, or has taken up to `now`; None if it did not start, or without a `now`."""
        if not self.started:
            return None
        ended = self.ended[offset] if self.ended else _UNKNOWN
        seconds = (ended if ended == ended else now) - self.started[offset]  # noqa: PLR0124  nan differs from itself
        if seconds >= 0:
            return seconds
        return 0.0 if seconds < 0 else None

    def forget(self, offset: int) -> None:
        """Erase the numbers of one worker."""
        for column in (self.lucks, self.started, self.ended):
            if column:
                column[offset] = _UNKNOWN


class Extra(msgspec.Struct, gc=False, eq=True, array_like=True):
    """What is known of a worker that did not just succeed at its first attempt. Fields as the properties of `Row`."""

    attempt_started_at: float | None = None
    last_duration: float | None = None
    incarnation: int = 1
    is_struck: bool = False
    is_recorded: bool = False
    error: str = ""
    retry_at: float | None = None
    is_poller: bool = False
    is_between_polls: bool = False
    is_ready: bool = False
    held: str = ""
    refusal: str = ""
    error_class: str = ""
    latency: float = 0.0
    max_attempts: int = 0
    """By the policy for its class of error; 0 if it is that of the block."""
    calls: int = 0
    failed_polls: int = 0
    throttled: int = 0
    is_throttled: bool = False
    """Whether the last attempt is one of the throttled ones."""
    done: int | float | None = None
    total: int | float | None = None
    unit: str = ""
    status: str = ""
    is_result_lost: bool = False


class Row(msgspec.Struct, gc=False, eq=False):
    """One worker as it is now. Times are in seconds since the run started.

    There is one row for each worker of a Fleet, so rows are compared and hashed by identity. Only the reducer writes
    them.
    """

    name: str
    block: Block
    offset: int
    """Its index within the block."""
    state: WorkerState = WorkerState.QUEUED
    attempt: int = 0
    """The number of the last attempt of this incarnation, 0 before the first."""
    version: int = 0
    """Grows with every change of the row."""
    result: str | None = None
    """A printable line of at most 200 characters; None if there is no result, or it is None."""
    extra: Extra | None = None
    """None stands for the defaults; the two times are then in the block's columns."""

    @property
    def index(self) -> int:
        """Its place in queue order, from 0."""
        return self.block.start + self.offset

    @property
    def group(self) -> str:
        """The name of its group, or the path of its supervisor."""
        return self.block.group

    @property
    def max_attempts(self) -> int:
        """How many attempts an incarnation may make, by the policy for its last error."""
        return (0 if self.extra is None else self.extra.max_attempts) or self.block.max_attempts

    @property
    def incarnation(self) -> int:
        """The number of the present incarnation, from 1."""
        return 1 if self.extra is None else self.extra.incarnation

    @property
    def bad_luck(self) -> float | None:
        """The draw before the last attempt, in [0, 1)."""
        lucks = self.block.lucks
        return value if lucks and (value := lucks[self.offset]) >= 0 else None

    @property
    def is_struck(self) -> bool:
        """Whether bad luck injected a fault. Known once the attempt has failed."""
        return self.extra is not None and self.extra.is_struck

    @property
    def is_recorded(self) -> bool:
        """Whether the last attempt has a record in the history, or there was none. Only the history writes it."""
        return not self.attempt or (self.extra is not None and self.extra.is_recorded)

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
        """When the next attempt, incarnation or poll starts; None if none is scheduled."""
        return None if self.extra is None else self.extra.retry_at

    @property
    def is_poller(self) -> bool:
        """Whether its target is called again and again within one incarnation."""
        return self.extra is not None and self.extra.is_poller

    @property
    def is_between_polls(self) -> bool:
        """Whether it is a poller that waits for its next poll, which is scheduled or held back."""
        return self.extra is not None and self.extra.is_between_polls

    @property
    def failed_polls(self) -> int:
        """How many polls in a row have failed; 0 if the last one succeeded, or it is no poller."""
        return 0 if self.extra is None else self.extra.failed_polls

    @property
    def calls(self) -> int:
        """How many polls of this incarnation succeeded."""
        return 0 if self.extra is None else self.extra.calls

    @property
    def is_ready(self) -> bool:
        """Whether this incarnation is ready. Only workers of a tree report it."""
        return self.extra is not None and self.extra.is_ready

    @property
    def held(self) -> str:
        """What it waits for, as `throttled example.org` or `place`; empty if it does not wait. See `Fleet.held_by`."""
        return "" if self.extra is None else self.extra.held

    @property
    def refusal(self) -> str:
        """Why a retry was refused although attempts were left; empty if none was."""
        return "" if self.extra is None else self.extra.refusal

    @property
    def error_class(self) -> str:
        """The class of the last error: `throttled`, `transient`, `server`, `permanent` or `lost`; empty if none."""
        return "" if self.extra is None else self.extra.error_class

    @property
    def latency(self) -> float:
        """Seconds that bad luck added before the last attempt."""
        return 0.0 if self.extra is None else self.extra.latency

    @property
    def progress(self) -> tuple[float, float | None, str] | None:
        """How much the last attempt said is done, of how much (None if unknown), and the unit; None if it did not."""
        extra = self.extra
        return None if extra is None or extra.done is None else (extra.done, extra.total, extra.unit)

    @property
    def part_done(self) -> float | None:
        """The part, up to 1, of its work that the last attempt said is done; None if it did not, or of unknown work."""
        extra = self.extra
        if extra is None or extra.done is None or not extra.total:
            return None
        return min(1.0, max(0.0, extra.done / extra.total))

    @property
    def status(self) -> str:
        """What the last attempt said that it does; empty if it did not."""
        return "" if self.extra is None else self.extra.status

    @property
    def last_report(self) -> str:
        """Progress and status of the last attempt in one line: `3/10 page: waiting for export`; empty without any."""
        return "" if self.extra is None else progress_line(self.progress, self.status)

    @property
    def report(self) -> str:
        """`last_report` while the attempt is in flight, else empty."""
        return self.last_report if self.extra is not None and self.state in IN_FLIGHT else ""

    @property
    def last_duration(self) -> float | None:
        """How long the last ended attempt took, in seconds."""
        if self.extra is not None:
            return self.extra.last_duration
        seconds = self.block.seconds(self.offset)
        return None if seconds is None or self.state is WorkerState.UNRESPONSIVE else seconds

    @property
    def throttled(self) -> int:
        """How many attempts of this incarnation, or of this poll, were throttled and waited for their key."""
        return 0 if self.extra is None else self.extra.throttled

    @property
    def retries(self) -> int:
        """Attempts of this incarnation that followed a failure. A throttled attempt is no failure."""
        if (extra := self.extra) is None or not extra.throttled:
            return max(0, self.attempt - 1)
        return max(0, self.attempt - extra.throttled - (not extra.is_throttled))

    @property
    def retry_rank(self) -> int:
        """A number that grows with the retries, and with the throttled attempts among rows with equal retries."""
        return (self.retries << THROTTLED_BITS) + self.throttled

    @property
    def is_result_lost(self) -> bool:
        """Whether it succeeded with a result that JSON cannot hold, so that a resume runs it again."""
        return self.extra is not None and self.extra.is_result_lost and self.state is WorkerState.SUCCEEDED

    @property
    def has_never_started(self) -> bool:
        """Whether it was stopped before its first attempt, with the run or by a person: its work is not started."""
        return not self.attempt and self.incarnation == 1 and self.state in _STOPPED_EARLY

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will happen to the worker unless it is restarted."""
        return self.state in SETTLED

    @property
    def is_in_trouble(self) -> bool:
        """Whether the worker needs attention: it did not succeed, is being retried, or its polls fail."""
        state, attempt = self.state, self.attempt - self.throttled
        is_retrying = (state is WorkerState.RUNNING and attempt > 1) or (state is WorkerState.WAITING and attempt > 0)
        return state in IN_TROUBLE or (is_retrying and not self.is_between_polls) or self.failed_polls > 0

    def elapsed(self, now: float) -> float | None:
        """Return the seconds since the first attempt started, backoff included; frozen once settled."""
        return self.block.seconds(self.offset, now)

    def own_extra(self) -> Extra:
        """Return the row's `extra`, a new one if it had none."""
        if self.extra is None:
            self.block.has_extras = True
            self.extra = Extra(self.first_started_at, self.last_duration if self.state in SETTLED else None)
        return self.extra

    def _known(self, column: array[float]) -> float | None:
        if not column:
            return None
        value = column[self.offset]
        return None if value != value else value  # noqa: PLR0124  nan differs from itself


def blocks_of(rows: Sequence[Row]) -> Iterator[tuple[Block, slice]]:
    """Yield each block of a fleet's rows, in queue order, and the slice of `rows` that it covers."""
    start = 0
    while start < len(rows):
        block = rows[start].block
        yield block, slice(start, start + block.size)
        start += block.size
