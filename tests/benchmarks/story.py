"""A run as the dashboard is told of it: a few busy workers at the top, and many others, queued or long done.

All that can be sorted by is different for each worker and follows from its index, so that whoever sees a few rows can
say whether they are in order, and how many rows a filter shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from asyncwatch.events import (
    AttemptFailed,
    AttemptStarted,
    Batch,
    Event,
    RetryScheduled,
    RunStarted,
    WorkerFailed,
    WorkersQueued,
    WorkerState,
    WorkerSucceeded,
)

BUSY = 20
"""The first workers, which never end."""
NOW = 100.0
"""When all the others have ended, in seconds since the run started."""
BUSY_LUCK = 0.5
_PRIME = 1_000_003
"""More than there are ever workers: a multiple of an index, modulo a prime, is another number for every index."""
_FACTORS = (387_420, 912_673, 524_287, 130_321, 700_001, 262_139)
_QUEUED_AT_ONCE = 4_000
_BATCH = 500


def _shuffled(index: int, salt: int) -> int:
    return index * _FACTORS[salt] % _PRIME


def name_of(index: int) -> str:
    """Return the name of the worker that was queued as number `index`, from 0."""
    return f"w{_shuffled(index, 0)}"


def index_of(name: str) -> int:
    """Return the number as which a worker was queued."""
    return int(name[1:]) * pow(_FACTORS[0], -1, _PRIME) % _PRIME


class Past(NamedTuple):
    """How a worker ended. `last` and `elapsed` are seconds; `result` is None if it failed."""

    state: WorkerState
    attempts: int
    luck: float
    last: float
    elapsed: float
    result: int | None
    error: str


def past(index: int) -> Past:
    """Return how a worker that is not busy ended: one in three failed, one in two needed another attempt."""
    has_failed = index % 3 == 0
    attempts = 1 + index % 2
    last = _shuffled(index, 2) / _PRIME * 10
    before = (1 + _shuffled(index, 3)) / _PRIME * 10 if attempts > 1 else 0.0
    return Past(
        state=WorkerState.FAILED if has_failed else WorkerState.SUCCEEDED,
        attempts=attempts,
        luck=_shuffled(index, 1) / _PRIME,
        last=last,
        # As the difference of two moments of the run: of those that are all but equal, rounding says which is shorter.
        elapsed=NOW - (NOW - (before + last)),
        result=None if has_failed else _shuffled(index, 4),
        error=f"{_shuffled(index, 5):07}" if has_failed or attempts > 1 else "",
    )


_RANKS = {state: rank for rank, state in enumerate(WorkerState)}

KEYS: dict[str, Callable[[int], Any]] = {
    "queue": lambda index: index,
    "state": lambda index: (_RANKS[past(index).state], index),
    "retries": lambda index: (past(index).attempts, index),
    "luck": lambda index: past(index).luck,
    "result": lambda index: (past(index).result is None, past(index).result or 0, index),
    "last": lambda index: past(index).last,
    "elapsed": lambda index: past(index).elapsed,
    "error": lambda index: (not past(index).error, past(index).error, index),
    "name": lambda index: _shuffled(index, 0),
}
"""What each order of `SORTS` sorts by, of the worker with that index."""


class Story:
    """Events with numbers that have no gap. The first `busy` workers never end."""

    def __init__(self, workers: int, busy: int = BUSY) -> None:
        self._workers = workers
        self._busy = busy
        self._seq = -1

    def _tell(self, kind: type[Event], at: float, **fields: Any) -> Event:
        self._seq += 1
        return kind(seq=self._seq, at=at, **fields)

    def beginning(self, *, has_past: bool) -> Iterator[Batch]:
        """Yield what happened up to `NOW`: all workers were queued; with a past, those that are not busy ended."""
        run = {"run": "story", "workers": self._workers, "runner": "gather", "seed": 1, "concurrency": 100}
        yield (self._tell(RunStarted, 0.0, **run, timeout=None, started_at=0.0),)
        for start in range(0, self._workers, _QUEUED_AT_ONCE):
            names = tuple(name_of(index) for index in range(start, min(start + _QUEUED_AT_ONCE, self._workers)))
            yield (self._tell(WorkersQueued, 0.0, group="story", max_attempts=3, workers=names),)
        if has_past:
            for index in range(self._busy, self._workers):
                yield tuple(self._end(index))

    def _end(self, index: int) -> Iterator[Event]:
        ended = past(index)
        worker = {"worker": name_of(index), "incarnation": 1}
        failure = {"error_type": "TimeoutError", "error": ended.error}
        more = {"transient": True, "injected": False, "stack": ""}
        attempt = {"attempt": 1, "bad_luck": ended.luck}
        if ended.attempts > 1:
            before = ended.elapsed - ended.last
            yield self._tell(AttemptStarted, NOW - ended.elapsed, **worker, **attempt)
            yield self._tell(AttemptFailed, NOW - ended.last, **worker, attempt=1, elapsed=before, **failure, **more)
            attempt["attempt"] = 2
        yield self._tell(AttemptStarted, NOW - ended.last, **worker, **attempt)
        end = {"attempts": ended.attempts, "elapsed": ended.elapsed}
        if ended.result is not None:
            yield self._tell(WorkerSucceeded, NOW, **worker, **end, result=ended.result)
            return
        number = {"attempt": ended.attempts, "elapsed": ended.last}
        yield self._tell(AttemptFailed, NOW, **worker, **number, **failure, **more)
        yield self._tell(WorkerFailed, NOW, **worker, **end, **failure)

    def present(self, per_second: int, *, has_past: bool) -> Iterator[Batch]:
        """Yield batches without an end: attempts that start, fail and are to be repeated.

        Without a past every other one is of a worker that is not busy, as long as there are some; these are of all
        the fleet, so that most are not on the screen. So many events happen `per_second`.
        """
        attempts: dict[int, int] = {}
        batch: list[Event] = []
        turn = 0
        while True:
            turn += 1
            index = turn // 2 % self._busy
            if turn % 2 and not has_past and self._workers > self._busy:
                index = self._busy + _shuffled(turn, 1) % (self._workers - self._busy)
            attempts[index] = attempt = attempts.get(index, 0) + 1
            batch += self._fail(index, attempt, NOW + 3 * turn / per_second)
            if len(batch) >= _BATCH:
                yield tuple(batch)
                batch = []

    def _fail(self, index: int, attempt: int, now: float) -> Iterator[Event]:
        worker = {"worker": name_of(index), "incarnation": 1, "attempt": attempt}
        failure = {"error_type": "ServerDisconnectedError", "error": "bad luck", "stack": ""}
        yield self._tell(AttemptStarted, now, **worker, bad_luck=BUSY_LUCK)
        yield self._tell(AttemptFailed, now, **worker, **failure, transient=True, injected=False, elapsed=0.01)
        yield self._tell(RetryScheduled, now, **(worker | {"attempt": attempt + 1}), delay=0.5)
