"""The settings of a run that can be changed while it goes on, and what undoes the last change. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from asyncwatch.events import (
    AttemptHeld,
    Batch,
    CommandRefused,
    LogRecorded,
    NestedRetriesFound,
    RestartScheduled,
    RunCancelRequested,
    RunFinished,
    RunHalted,
    RunStarted,
    RunTimedOut,
    SettingChanged,
    WorkerEvent,
    WorkerState,
    WorkerUnresponsive,
)
from asyncwatch.model.circuits import Circuits
from asyncwatch.model.rows import AttemptRecord, Attempts, Row
from asyncwatch.model.services import Polls, Restarts
from asyncwatch.model.statistics import Histogram, LoopWatch, Rate
from asyncwatch.model.tree import Tree
from asyncwatch.model.view.groups import error_kind

CHANGES_KEPT = 1_000


class Settings:
    """What the events tell of `events.SETTINGS`."""

    def __init__(self) -> None:
        self.history: deque[SettingChanged] = deque(maxlen=CHANGES_KEPT)
        """The last changes that can be undone, oldest first."""
        self.applied = 0
        """Changes in all."""
        self._values: dict[tuple[str, str], Any] = {}
        self._initial: dict[tuple[str, str], Any] = {}

    def start(self, event: RunStarted) -> None:
        """Fold what the settings are at the start."""
        told = {
            "concurrency": event.concurrency,
            "rate": event.rate,
            "rate per key": event.rate_per_key,
            "bad luck": event.bad_luck,
            "paused": event.paused,
        }
        self._initial = {(name, ""): value for name, value in told.items()}
        self._values = dict(self._initial)

    def apply(self, event: SettingChanged) -> None:
        """Fold one change."""
        self.applied += 1
        at = event.name, event.key
        self._initial.setdefault(at, event.previous)
        self._values[at] = self.meant(event, event.value)
        last = self.last
        # A pause that is over leaves nothing to be undone: nobody wants it back.
        is_undone = event.is_undo or event.name == "paused"
        if is_undone and last is not None and (last.name, last.key, last.previous) == (*at, event.value):
            self.history.pop()
        else:
            self.history.append(event)

    def meant(self, event: SettingChanged, value: Any) -> Any:
        """Return what a value of that setting stands for: no bad luck is that of the workers, as at first."""
        is_own = event.name == "bad luck" and value is None
        return self._initial.get((event.name, event.key)) if is_own else value

    @property
    def last(self) -> SettingChanged | None:
        """The change that is to be undone next."""
        return self.history[-1] if self.history else None

    def value(self, name: str, default: Any = None, key: str = "") -> Any:
        """Return the present value, `default` for what nobody has told."""
        return self._values.get((name, key), default)

    @property
    def is_paused(self) -> bool:
        """Whether no new attempts start."""
        return self.value("paused") is True

    @property
    def changed(self) -> list[tuple[str, str, Any, Any]]:
        """Every setting that is not what it was at first: (name, key, value, value at first)."""
        return [(*at, value, self._initial[at]) for at, value in self._values.items() if value != self._initial[at]]


class RunTime:
    """Reads off the events when the run started, by a monotonic `clock` in seconds whose zero does not matter."""

    __slots__ = ("_began", "_clock")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began: float | None = None

    def note(self, batch: Batch) -> None:
        """Learn from a batch that came just now."""
        if batch:
            # The smallest difference is that of the batch that was least late.
            began = self._clock() - batch[-1].at
            self._began = began if self._began is None else min(began, self._began)

    @property
    def now(self) -> float:
        """Seconds since the run started; 0 before its first event."""
        return 0.0 if self._began is None else max(0.0, self._clock() - self._began)


LEFT_KEPT = 2_000
"""Workers that have left their pools whose rows are kept: the places of others are given to new workers.

The engine goes on counting the incarnations of the last 1,000 names: a worker of which it reports a restart has a row.
"""
BROKEN_LEFT_KEPT = 10_000
"""The same for those that failed: they are worth a look."""
_KINDS_KEPT = 1_000
LOGS_KEPT = 10_000
"""The newest log lines that are held, at most."""
LOG_SIZE_KEPT = 20_000_000
"""Characters of all log lines that are held, at most, but for the newest line: some programs log whole documents."""
_BROKEN = frozenset({WorkerState.FAILED, WorkerState.EXHAUSTED})
_REFUSALS_KEPT = 1_000
_WAITS_KEPT = 10_000


class LeftBehind(NamedTuple):
    """A coroutine that goes on although it was asked to stop at `asked_at` (seconds since the run started)."""

    event: WorkerUnresponsive
    asked_at: float


class ReplacedErrors(msgspec.Struct):
    """Workers without a row whose last error was of one kind."""

    example: Row
    """The row that the first of them had."""
    refusals: Counter[str]
    workers: int = 0


class Picture:
    """The state of one run as its events tell it. Only the folds of the Fleet write it."""

    def __init__(self) -> None:
        self.run: RunStarted | None = None
        self.timed_out: RunTimedOut | None = None
        self.cancel_requested: RunCancelRequested | None = None
        self.halted: RunHalted | None = None
        self.finished: RunFinished | None = None
        self.rows: list[Row] = []
        """Every worker, in the order in which they were queued; but see `replaced`."""
        self.replaced = 0
        """How many workers have ended, left their pool, and were given up for a new one in their place in `rows`."""
        self.replaced_cancelled: Counter[str] = Counter()
        """How many of those were cancelled, by what asked for that."""
        self.left_rows: dict[Row, None] = {}
        """The rows of workers that ended well and have left their pool, the first one first."""
        self.broken_left_rows: dict[Row, None] = {}
        """The rows of those that failed."""
        self.replaced_errors: dict[str, ReplacedErrors] = {}
        """The errors of workers that were replaced, by their kind, up to a number of kinds."""
        self.on_replaced: Callable[[int], object] | None = None
        """Called with the index of a row that was replaced."""
        self.counts: dict[WorkerState, int] = dict.fromkeys(WorkerState, 0)
        self.attempts = 0
        """Attempts started, of all incarnations."""
        self.events = 0
        self.latest = 0.0
        """The highest `at` of any event, in seconds since the run started."""
        self.left_at: float | None = None
        """When those who watched the run left it, if they say so: no event tells that."""
        self.settled = 0
        self.settled_at: float | None = None
        """When the last active worker settled; None while one is active."""
        self.durations = Histogram()
        """Seconds of the attempts that ended by themselves; an injected fault measures nothing."""
        self.rate = Rate()
        """Attempts that ended by themselves, not by a cancel."""
        self.logs: deque[LogRecorded] = deque()
        self.log_size = 0
        """Characters of the log lines that are held."""
        self.logged = 0
        """Log lines in all, those no longer held included."""
        self.refusals: deque[CommandRefused] = deque(maxlen=_REFUSALS_KEPT)
        self.refused = 0
        """Refused commands in all."""
        self.nested_retries: list[NestedRetriesFound] = []
        """Functions that retry by themselves, so that their retries multiply with ours."""
        self.waits: deque[AttemptHeld | RestartScheduled] = deque(maxlen=_WAITS_KEPT)
        """The last attempts that were held, and restarts that were to come."""
        self.loop = LoopWatch()
        self.tree = Tree(self.rows)
        self.restarts = Restarts()
        self.polls = Polls()
        self.line_held_by = "place"
        """What workers that stand in line to start wait for: `place`, `rate` or `paused`."""
        self.circuits = Circuits()
        self.settings = Settings()
        self.has_branches = False
        """The tree's own `is_shown`, which would take twice as long to look up."""
        self.by_name: dict[str, Row] = {}
        self.attempt_records = Attempts()
        self.stacks: dict[str, str] = {}
        """The last traceback of each worker that had one."""
        self.cancel_reasons: dict[str, str] = {}
        """Why the present incarnation of each worker was asked to stop, of those that were."""
        self.cancel_requested_at: dict[str, float] = {}
        self.left_by_incarnation: dict[tuple[str, int], LeftBehind] = {}
        """Those that swallowed their cancellation and have not ended since, oldest first."""

    def get(self, name: str) -> Row | None:
        """Return the row of the worker, None if there is no such worker."""
        return self.by_name.get(name)

    @property
    def end(self) -> float:
        """When the picture ends, in seconds: when the last worker settled, else when the run finished or was left."""
        if self.is_settled and self.settled_at is not None:
            return self.settled_at
        if self.finished is not None:
            return self.finished.elapsed
        return max(self.latest, self.left_at or 0.0)

    def note_replaced(self, row: Row) -> None:
        """Count a row that is given up."""
        self.replaced += 1
        if row.state is WorkerState.CANCELLED:
            self.replaced_cancelled[self.cancel_reason(row.name)] += 1
        if row.state not in _BROKEN:
            return
        kind = error_kind(row.error)
        known = self.replaced_errors.get(kind)
        if known is None:
            if len(self.replaced_errors) == _KINDS_KEPT:
                return
            known = self.replaced_errors[kind] = ReplacedErrors(row, Counter())
        known.workers += 1
        if row.refusal:
            known.refusals[row.refusal] += 1

    @property
    def workers(self) -> int:
        """How many workers there have been: those whose rows were `replaced`, too."""
        return len(self.rows) + self.replaced

    @property
    def is_settled(self) -> bool:
        """Whether there are workers and none of them is active."""
        return bool(self.rows) and self.settled == self.workers

    def history(self, name: str) -> tuple[AttemptRecord, ...]:
        """Return the worker's attempts of all incarnations, oldest first, without the `attempts_left_out`."""
        row = self.by_name.get(name)
        return self.attempt_records.of(row) if row is not None else ()

    def attempts_left_out(self, name: str) -> int:
        """Return how many attempts are missing in the worker's `history`, after the first `FIRST_KEPT` of them."""
        return self.attempt_records.left_out(name)

    def stack(self, name: str) -> str:
        """Return the worker's last traceback without its closing error line, empty if there is none."""
        return self.stacks.get(name, "")

    def cancel_reason(self, name: str) -> str:
        """Return why the present incarnation was asked to stop, empty if it was not."""
        return self.cancel_reasons.get(name, "")

    def notable(self) -> Iterator[Row]:
        """Yield rows in queue order, all those among them that have an error, wait, or have another attempt to come.

        Whole blocks of workers that just succeed are passed over: of a million rows that leaves few to look at.
        """
        rows, start = self.rows, 0
        while start < len(rows):
            block = rows[start].block
            end = start + block.size
            if block.has_extras:
                yield from rows[start:end]
            start = end

    @property
    def left_behind(self) -> int:
        """How many coroutines swallowed their cancellation and have not ended since, of whatever incarnation."""
        return len(self.left_by_incarnation)

    def all_left_behind(self) -> tuple[LeftBehind, ...]:
        """Return all incarnations that were left behind and have not ended since, oldest first."""
        return tuple(self.left_by_incarnation.values())

    def left_behind_of(self, name: str) -> tuple[LeftBehind, ...]:
        """Return the worker's incarnations that were left behind and have not ended since, oldest first."""
        # They are few, as each is a mistake in somebody's code.
        return tuple(left for left in self.left_by_incarnation.values() if left.event.worker == name)

    def held_by(self, row: Row) -> str:
        """Return what a worker that waits is held by now: `place`, `rate`, `paused`, or `circuit` or `rate` and a key.

        Empty for one that does not wait. Those that stand in line wait for what the line does.
        """
        return row.held if " " in row.held else row.held and self.line_held_by

    def logs_of(self, name: str) -> tuple[LogRecorded, ...]:
        """Return the worker's own log lines among those held, oldest first."""
        return tuple(log for log in self.logs if log.worker == name)

    def waits_of(self, name: str) -> tuple[AttemptHeld | RestartScheduled, ...]:
        """Return when and why the worker had to wait, or was to be restarted, as far as that is held; oldest first."""
        return tuple(wait for wait in self.waits if wait.worker == name)

    def present(self, event: WorkerEvent) -> Row | None:
        """Return the row that `event` is about, None if it is about no present incarnation of a known worker."""
        row = self.by_name.get(event.worker)
        if row is None:
            return None
        extra = row.extra
        return row if event.incarnation == (1 if extra is None else extra.incarnation) else None
