"""Events of a synthetic run: a few busy workers at the top, and many others that are queued or ended long ago.

Every value that rows can be sorted by is different for each worker and follows from its index. A case
can therefore compute whether the visible rows are in order, and how many rows a filter shows.
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
"""Number of workers at the top that never end."""
NOW = 100.0
"""When all other workers have ended, in seconds since the run started."""
BUSY_LUCK = 0.5
_PRIME = 1_000_003
"""A prime above the number of workers: `index * factor % prime` is different for every index."""
_FACTORS = (387_420, 912_673, 524_287, 130_321, 700_001, 262_139)
_QUEUED_AT_ONCE = 4_000
_BATCH = 500


def _shuffled(index: int, salt: int) -> int:
    return index * _FACTORS[salt] % _PRIME


def name_of(index: int) -> str:
    """Return the name of the worker with that index."""
    return f"w{_shuffled(index, 0)}"


def index_of(name: str) -> int:
    """Return the index of a worker: its position in the queue, from 0."""
    return int(name[1:]) * pow(_FACTORS[0], -1, _PRIME) % _PRIME


class EndOfWorker(NamedTuple):
    """How a worker ended. `last` (attempt) and `elapsed` are in seconds; `result` is None if it failed."""

    state: WorkerState
    attempts: int
    luck: float
    last: float
    elapsed: float
    result: int | None
    error: str


def end_of(index: int) -> EndOfWorker:
    """Return how a worker that is not busy ended: one in three failed, one in two made two attempts."""
    has_failed = index % 3 == 0
    attempts = 1 + index % 2
    last = _shuffled(index, 2) / _PRIME * 10
    before = (1 + _shuffled(index, 3)) / _PRIME * 10 if attempts > 1 else 0.0
    return EndOfWorker(
        state=WorkerState.FAILED if has_failed else WorkerState.SUCCEEDED,
        attempts=attempts,
        luck=_shuffled(index, 1) / _PRIME,
        last=last,
        # The dashboard subtracts two times of the run. Round as it does: some workers differ by less than that.
        elapsed=NOW - (NOW - (before + last)),
        result=None if has_failed else _shuffled(index, 4),
        error=f"{_shuffled(index, 5):07}" if has_failed or attempts > 1 else "",
    )


RANKS = {state: rank for rank, state in enumerate(WorkerState)}

KEYS: dict[str, Callable[[int], Any]] = {
    "queue": lambda index: index,
    "state": lambda index: (RANKS[end_of(index).state], index),
    "retries": lambda index: (end_of(index).attempts, index),
    "luck": lambda index: end_of(index).luck,
    "result": lambda index: (end_of(index).result is None, end_of(index).result or 0, index),
    "last": lambda index: end_of(index).last,
    "elapsed": lambda index: end_of(index).elapsed,
    "error": lambda index: (not end_of(index).error, end_of(index).error, index),
    "name": lambda index: _shuffled(index, 0),
}
"""For each order of `SORTS` with a value in this run, the sort key of the worker with a given index."""


class SyntheticRun:
    """Makes the events of a run with consecutive sequence numbers. The first `busy` workers never end."""

    def __init__(self, workers: int, busy: int = BUSY) -> None:
        self._workers = workers
        self._busy = busy
        self._seq = -1

    def _event(self, kind: type[Event], at: float, **fields: Any) -> Event:
        self._seq += 1
        return kind(seq=self._seq, at=at, **fields)

    def history(self, *, has_history: bool) -> Iterator[Batch]:
        """Yield events up to `NOW`: all workers are queued and, if `has_history`, those that are not busy end."""
        run = {"run": "synthetic", "workers": self._workers, "runner": "gather", "seed": 1, "concurrency": 100}
        yield (self._event(RunStarted, 0.0, **run, timeout=None, started_at=0.0),)
        for start in range(0, self._workers, _QUEUED_AT_ONCE):
            names = tuple(name_of(index) for index in range(start, min(start + _QUEUED_AT_ONCE, self._workers)))
            yield (self._event(WorkersQueued, 0.0, group="synthetic", max_attempts=3, workers=names),)
        if has_history:
            for index in range(self._busy, self._workers):
                yield tuple(self._end(index))

    def _end(self, index: int) -> Iterator[Event]:
        ended = end_of(index)
        worker = {"worker": name_of(index), "incarnation": 1}
        failure = {"error_type": "TimeoutError", "error": ended.error}
        more = {"transient": True, "injected": False, "stack": ""}
        attempt = {"attempt": 1, "bad_luck": ended.luck}
        if ended.attempts > 1:
            before = ended.elapsed - ended.last
            yield self._event(AttemptStarted, NOW - ended.elapsed, **worker, **attempt)
            yield self._event(AttemptFailed, NOW - ended.last, **worker, attempt=1, elapsed=before, **failure, **more)
            attempt["attempt"] = 2
        yield self._event(AttemptStarted, NOW - ended.last, **worker, **attempt)
        end = {"attempts": ended.attempts, "elapsed": ended.elapsed}
        if ended.result is not None:
            yield self._event(WorkerSucceeded, NOW, **worker, **end, result=ended.result)
            return
        number = {"attempt": ended.attempts, "elapsed": ended.last}
        yield self._event(AttemptFailed, NOW, **worker, **number, **failure, **more)
        yield self._event(WorkerFailed, NOW, **worker, **end, **failure)

    def live_events(self, per_second: int, *, has_history: bool) -> Iterator[Batch]:
        """Yield batches for ever: attempts start and fail, and retries are scheduled, at `per_second` events.

        Without a history every other attempt belongs to a worker that is not busy, if there is one. These are spread
        over the whole fleet, so most of them are off screen.
        """
        attempts: dict[int, int] = {}
        batch: list[Event] = []
        turn = 0
        while True:
            turn += 1
            index = turn // 2 % self._busy
            if turn % 2 and not has_history and self._workers > self._busy:
                index = self._busy + _shuffled(turn, 1) % (self._workers - self._busy)
            attempts[index] = attempt = attempts.get(index, 0) + 1
            batch += self._fail(index, attempt, NOW + 3 * turn / per_second)
            if len(batch) >= _BATCH:
                yield tuple(batch)
                batch = []

    def _fail(self, index: int, attempt: int, now: float) -> Iterator[Event]:
        worker = {"worker": name_of(index), "incarnation": 1, "attempt": attempt}
        failure = {"error_type": "ServerDisconnectedError", "error": "bad luck", "stack": ""}
        yield self._event(AttemptStarted, now, **worker, bad_luck=BUSY_LUCK)
        yield self._event(AttemptFailed, now, **worker, **failure, transient=True, injected=False, elapsed=0.01)
        yield self._event(RetryScheduled, now, **(worker | {"attempt": attempt + 1}), delay=0.5)
