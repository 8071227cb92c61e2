"""The fold: events in, the picture of the run out. `Fleet.apply` is the only writer of what is shown."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple

from asyncwatch.events import (
    SETTLED,
    AttemptFailed,
    AttemptHeld,
    AttemptStarted,
    Batch,
    CancelRequested,
    ChildRemoved,
    CircuitClosed,
    CircuitEvent,
    CircuitHalfOpened,
    CircuitIsolated,
    CircuitOpened,
    CircuitProbed,
    CommandRefused,
    Event,
    LineHeld,
    LogRecorded,
    LoopBlocked,
    NestedRetriesFound,
    PollFinished,
    RestartCounted,
    RestartLimitReached,
    RestartScheduled,
    RetryRefused,
    RetryScheduled,
    RunCancelRequested,
    RunFinished,
    RunHalted,
    RunStarted,
    RunTimedOut,
    SettingChanged,
    SupervisorStarted,
    SupervisorTerminated,
    WorkerCancelled,
    WorkerEnded,
    WorkerEvent,
    WorkerExhausted,
    WorkerFailed,
    WorkerReady,
    WorkerRestarted,
    WorkersQueued,
    WorkerState,
    WorkerSucceeded,
    WorkerTimedOut,
    WorkerUnresponsive,
)
from asyncwatch.model.attempts import Attempts
from asyncwatch.model.circuits import Circuits
from asyncwatch.model.histogram import Histogram
from asyncwatch.model.loop_watch import LoopWatch
from asyncwatch.model.rate import Rate
from asyncwatch.model.row import BLOCK, AttemptRecord, Block, Extra, Row
from asyncwatch.model.services import Restarts
from asyncwatch.model.settings import Settings
from asyncwatch.model.text import error_line, result_line
from asyncwatch.model.tree import Tree

__all__ = ["LOGS_KEPT", "AttemptRecord", "Fleet", "LeftBehind", "Row"]

LOGS_KEPT = 10_000
"""The newest log lines that a Fleet holds."""
_REFUSALS_KEPT = 1_000
_WAITS_KEPT = 10_000
_NOTHING = Extra()
_STOPPED = frozenset({WorkerState.CANCELLED, WorkerState.TIMED_OUT})
# Before Python 3.12 each lookup of an enum's member costs 50 ns, and there are several in every event.
_BACKING_OFF = WorkerState.BACKING_OFF
_CANCELLING = WorkerState.CANCELLING
_QUEUED = WorkerState.QUEUED
_RESTARTING = WorkerState.RESTARTING
_RUNNING = WorkerState.RUNNING
_SUCCEEDED = WorkerState.SUCCEEDED
_UNRESPONSIVE = WorkerState.UNRESPONSIVE
_WAITING = WorkerState.WAITING


class LeftBehind(NamedTuple):
    """A coroutine that goes on although it was asked to stop at `asked_at` (seconds since the run started)."""

    event: WorkerUnresponsive
    asked_at: float


class Fleet:
    """The picture of one run.

    Events are applied in the order of their `seq`. One whose `seq` is not above the last one's was applied
    already and changes nothing. One of an unknown worker, or of another incarnation than the present one, is
    counted and changes no row.
    """

    def __init__(self) -> None:
        self.run: RunStarted | None = None
        self.timed_out: RunTimedOut | None = None
        self.cancel_requested: RunCancelRequested | None = None
        self.halted: RunHalted | None = None
        self.finished: RunFinished | None = None
        self.rows: list[Row] = []
        """Every worker, in the order in which they were queued."""
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
        self.logs: deque[LogRecorded] = deque(maxlen=LOGS_KEPT)
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
        self.line_held_by = "place"
        """What workers that stand in line to start wait for: `place`, `rate` or `paused`."""
        self.circuits = Circuits()
        self.settings = Settings()
        self._has_branches = False  # the tree's own `is_shown`, which would take twice as long to look up
        self._by_name: dict[str, Row] = {}
        self._last_seq = -1
        self._attempts = Attempts()
        self._stacks: dict[str, str] = {}
        self._cancel_reasons: dict[str, str] = {}
        self._cancel_requested_at: dict[str, float] = {}
        self._left_behind: dict[tuple[str, int], LeftBehind] = {}

    def get(self, name: str) -> Row | None:
        """Return the row of the worker, None if there is no such worker."""
        return self._by_name.get(name)

    @property
    def end(self) -> float:
        """When the picture ends, in seconds: when the last worker settled, else when the run finished or was left."""
        if self.is_settled and self.settled_at is not None:
            return self.settled_at
        if self.finished is not None:
            return self.finished.elapsed
        return max(self.latest, self.left_at or 0.0)

    @property
    def is_settled(self) -> bool:
        """Whether there are workers and none of them is active."""
        return bool(self.rows) and self.settled == len(self.rows)

    def history(self, name: str) -> tuple[AttemptRecord, ...]:
        """Return the worker's attempts, of all incarnations, oldest first."""
        row = self._by_name.get(name)
        return self._attempts.of(row) if row is not None else ()

    def stack(self, name: str) -> str:
        """Return the worker's last traceback without its closing error line, empty if there is none."""
        return self._stacks.get(name, "")

    def cancel_reason(self, name: str) -> str:
        """Return why the present incarnation was asked to stop, empty if it was not."""
        return self._cancel_reasons.get(name, "")

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
        return len(self._left_behind)

    def all_left_behind(self) -> tuple[LeftBehind, ...]:
        """Return all incarnations that were left behind and have not ended since, oldest first."""
        return tuple(self._left_behind.values())

    def left_behind_of(self, name: str) -> tuple[LeftBehind, ...]:
        """Return the worker's incarnations that were left behind and have not ended since, oldest first."""
        # They are few, as each is a mistake in somebody's code.
        return tuple(left for left in self._left_behind.values() if left.event.worker == name)

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

    def apply_batch(self, batch: Batch) -> set[Row]:
        """Fold events in order and return the rows that changed. Workers just queued are not among them."""
        # What every event does is done here, on local names: this is where a million of them pass.
        folds, last_seq, latest, events = self._FOLDS, self._last_seq, self.latest, self.events
        by_name, counts = self._by_name, self.counts
        touched: set[Row] = set()
        touch = touched.add
        begun = 0
        ended: list[float] = []
        taken: list[float] = []
        for event in batch:
            if event.seq <= last_seq:
                continue
            last_seq = event.seq
            events += 1
            at = event.at
            if at > latest:  # noqa: PLR1730  max() takes twice as long, for every event
                latest = at
            # Of a large batch nearly all that happens is that a worker starts, and succeeds at its first attempt: what
            # follows does as `_attempt_started` and `_worker_succeeded` do, in half the time.
            if type(event) is AttemptStarted:
                row = by_name.get(event.worker)
                if (
                    row is not None
                    and row.extra is None
                    and row.state is _QUEUED
                    and event.attempt == 1
                    and event.incarnation == 1
                    and not event.latency
                    and not self._has_branches
                ):
                    block, offset = row.block, row.offset
                    if not block.started:
                        block.started, block.lucks = block.column(), block.column()
                    block.lucks[offset] = event.bad_luck
                    block.started[offset] = at
                    row.attempt = 1
                    row.state = _RUNNING
                    row.version += 1
                    begun += 1
                    touch(row)
                    continue
            elif type(event) is WorkerSucceeded:
                row = by_name.get(event.worker)
                if (
                    row is not None
                    and row.extra is None
                    and row.state is _RUNNING
                    and event.incarnation == 1
                    and not self._has_branches
                    and not self._left_behind
                ):
                    block, offset = row.block, row.offset
                    if not block.ended:
                        block.ended = block.column()
                    block.ended[offset] = at
                    row.state = _SUCCEEDED
                    row.version += 1
                    result = event.result
                    row.result = None if result is None else result_line(result)
                    self.settled += 1
                    if self.settled == len(self.rows):
                        self.settled_at = at
                    taken.append(at - block.started[offset])
                    ended.append(at)
                    touch(row)
                    continue
            fold = folds.get(type(event))
            if fold is not None and (row := fold(self, event)) is not None:
                touch(row)
        self._last_seq, self.latest, self.events = last_seq, latest, events
        self.attempts += begun
        counts[_QUEUED] -= begun
        counts[_RUNNING] += begun - len(ended)
        counts[_SUCCEEDED] += len(ended)
        self.rate.add_all(ended)
        self.durations.add_all(taken)
        return touched

    def apply(self, event: Event) -> Row | None:
        """Fold one event and return the row that it changed, if it is about one."""
        return next(iter(self.apply_batch((event,))), None)

    def confirm(self, event: RunStarted) -> None:
        """Take the first event of the run in place of the one that was foreseen and applied."""
        self._run_started(event)

    def _run_started(self, event: RunStarted) -> None:
        self.run = event
        self.settings.start(event)

    def _run_timed_out(self, event: RunTimedOut) -> None:
        self.timed_out = event

    def _run_cancel_requested(self, event: RunCancelRequested) -> None:
        self.cancel_requested = event

    def _run_finished(self, event: RunFinished) -> None:
        self.finished = event

    def _run_halted(self, event: RunHalted) -> None:
        self.halted = event

    def _loop_blocked(self, event: LoopBlocked) -> Row | None:
        self.loop.apply(event)
        row = self._by_name.get(event.worker)
        if row is not None:
            row.version += 1
        return row

    def _line_held(self, event: LineHeld) -> None:
        self.line_held_by = event.reason

    def _setting_changed(self, event: SettingChanged) -> None:
        self.settings.apply(event)

    def _nested_retries_found(self, event: NestedRetriesFound) -> None:
        self.nested_retries.append(event)

    def _circuit_changed(self, event: CircuitEvent) -> None:
        self.circuits.apply(event)

    def _tree_changed(self, event: Event) -> None:
        self.tree.apply(event)
        self._has_branches = self.tree.is_shown

    def _command_refused(self, event: CommandRefused) -> None:
        self.refusals.append(event)
        self.refused += 1

    def _log_recorded(self, event: LogRecorded) -> None:
        self.logs.append(event)
        self.logged += 1

    def _workers_queued(self, event: WorkersQueued) -> None:
        rows, by_name = self.rows, self._by_name
        before = len(rows)
        names = [name for name in dict.fromkeys(event.workers) if name not in by_name]
        for start in range(0, len(names), BLOCK):
            part = names[start : start + BLOCK]
            block = Block(before + start, len(part), event.group, event.max_attempts)
            some = [Row(name, block, offset) for offset, name in enumerate(part)]
            rows += some
            by_name.update(zip(part, some, strict=True))
        if names:
            self.counts[_QUEUED] += len(rows) - before
            self.settled_at = None
            self.tree.queued(event.group, rows[before:])
            self._has_branches = self.tree.is_shown

    def _present(self, event: WorkerEvent) -> Row | None:
        """Return the row that `event` is about, None if it is about no present incarnation."""
        row = self._by_name.get(event.worker)
        if row is None:
            return None
        extra = row.extra
        return row if event.incarnation == (1 if extra is None else extra.incarnation) else None

    def _move(self, row: Row, state: WorkerState) -> None:
        counts = self.counts
        counts[row.state] -= 1
        counts[state] += 1
        if self._has_branches:
            self.tree.moved(row, state)
        row.state = state
        row.version += 1

    def _attempt_started(self, event: AttemptStarted) -> Row | None:
        row = self._present(event)
        if row is None or row.state in SETTLED:
            return None
        self.attempts += 1
        block, offset = row.block, row.offset
        if not block.started:
            block.started, block.lucks = block.column(), block.column()
        block.lucks[offset] = event.bad_luck
        if row.attempt or row.extra is not None or event.attempt > 1 or event.latency:
            self._another_started(row, event)
        if not row.attempt:
            block.started[offset] = event.at
        row.attempt = event.attempt
        self._move(row, _RUNNING)
        return row

    @staticmethod
    def _another_started(row: Row, event: AttemptStarted) -> None:
        """Note the start of an attempt that is not like the first one of most workers."""
        extra = row.own_extra()
        extra.is_struck = False
        if event.latency or event.attempt > 1:
            extra.latency = event.latency
            extra.error_class = ""
        extra.retry_at = None
        extra.held = ""
        extra.attempt_started_at = None
        if not row.attempt and extra == _NOTHING:
            # It only had to wait.
            row.extra = None
        else:
            extra.attempt_started_at = event.at

    def _attempt_failed(self, event: AttemptFailed) -> Row | None:
        row = self._present(event)
        if row is None or row.attempt != event.attempt or row.ended_at is not None or self._attempts.is_recorded(row):
            return None
        extra = row.own_extra()
        extra.is_struck = event.injected
        extra.last_duration = event.elapsed
        extra.error_class = event.error_class
        extra.error = error_line(event.error_type, event.error)
        row.version += 1
        self._attempts.note_failure(row)
        if event.stack:
            self._stacks[row.name] = sys.intern(event.stack)
        else:
            self._stacks.pop(row.name, None)
        self.rate.add(event.at)
        if not event.injected:
            self.durations.add(event.elapsed)
        return row

    def _attempt_held(self, event: AttemptHeld) -> Row | None:
        row = self._present(event)
        if row is None or row.state in SETTLED:
            return None
        extra = row.own_extra()
        extra.retry_at = None
        extra.held = sys.intern(f"{event.reason} {event.key}".rstrip())
        self.waits.append(event)
        self.circuits.held(event)
        self._move(row, _WAITING)
        return row

    def _retry_refused(self, event: RetryRefused) -> Row | None:
        row = self._present(event)
        if row is None or row.state in SETTLED:
            return None
        row.own_extra().refusal = event.reason
        row.version += 1
        return row

    def _retry_scheduled(self, event: RetryScheduled) -> Row | None:
        row = self._present(event)
        if row is None or row.state in SETTLED:
            return None
        extra = row.own_extra()
        extra.retry_at = event.at + event.delay
        extra.max_attempts = event.max_attempts
        # An attempt that was cancelled by its own timeout left its reason behind.
        self._cancel_reasons.pop(row.name, None)
        self._cancel_requested_at.pop(row.name, None)
        self._attempts.note_backoff(row, event.delay, is_asked_for=event.is_asked_for)
        self._move(row, _BACKING_OFF)
        return row

    def _cancel_requested(self, event: CancelRequested) -> Row | None:
        row = self._present(event)
        if row is None or row.state in SETTLED:
            return None
        self._cancel_reasons[row.name] = sys.intern(event.reason)
        self._cancel_requested_at.setdefault(row.name, event.at)
        if row.extra is not None:
            row.extra.retry_at = None
        self._move(row, _CANCELLING)
        return row

    def _restart_scheduled(self, event: RestartScheduled) -> Row | None:
        row = self._present(event)
        if row is None:
            return None
        self._attempts.close(row)
        self.restarts.apply(event)
        if row.state in SETTLED:
            self.settled -= 1
            self.settled_at = None
        extra = row.own_extra()
        extra.retry_at = event.at + event.delay
        extra.held = ""
        self.waits.append(event)
        self._move(row, _RESTARTING)
        return row

    def _worker_ready(self, event: WorkerReady) -> Row | None:
        row = self._present(event)
        if row is None:
            return None
        row.own_extra().is_ready = True
        row.version += 1
        return row

    def _poll_finished(self, event: PollFinished) -> Row | None:
        row = self._present(event)
        if row is None or row.state in SETTLED:
            return None
        extra = row.own_extra()
        extra.is_poller = True
        extra.calls += 1
        extra.last_duration = event.elapsed
        extra.retry_at = event.at + event.delay
        row.result = result_line(event.result)
        row.version += 1
        self.rate.add(event.at)
        self.durations.add(event.elapsed)
        return row

    def _worker_restarted(self, event: WorkerRestarted) -> Row | None:
        row = self._by_name.get(event.worker)
        if row is None or event.incarnation <= row.incarnation:
            return None
        self.restarts.began(event)
        self._attempts.close(row)
        if row.state in SETTLED:
            self.settled -= 1
            self.settled_at = None
        self._cancel_reasons.pop(row.name, None)
        self._cancel_requested_at.pop(row.name, None)
        row.attempt = 0
        row.result = None
        row.block.forget(row.offset)
        row.extra = None
        row.own_extra().incarnation = event.incarnation
        self._move(row, _QUEUED)
        if self._has_branches:
            self.tree.restarted(row)
        return row

    def _worker_succeeded(self, event: WorkerSucceeded) -> Row | None:
        row = self._settle(event)
        if row is not None:
            row.result = result_line(event.result)
        return row

    def _worker_broke(self, event: WorkerFailed | WorkerExhausted) -> Row | None:
        row = self._settle(event)
        if row is not None:
            row.own_extra().error = error_line(event.error_type, event.error)
        return row

    def _worker_stopped(self, event: WorkerCancelled | WorkerTimedOut) -> Row | None:
        row = self._settle(event)
        if row is not None:
            row.result = result_line(event.result)
            # A run that ends can stop a million that are queued, and tells that itself.
            if isinstance(event, WorkerCancelled) and event.reason not in {"", "run"}:
                self._cancel_reasons.setdefault(row.name, sys.intern(event.reason))
            if event.error_type:
                row.own_extra().error = error_line(event.error_type, event.error)
        return row

    def _worker_unresponsive(self, event: WorkerUnresponsive) -> Row | None:
        row = self._settle(event)
        if row is not None:
            asked_at = self._cancel_requested_at.get(row.name, event.at)
            self._left_behind[row.name, row.incarnation] = LeftBehind(event, asked_at)
        return row

    def _settle(self, event: WorkerEnded) -> Row | None:
        """Settle the row that `event` is about, and end its attempt if one was under way."""
        if self._left_behind:
            # Also of an incarnation whose place another one took.
            self._left_behind.pop((event.worker, event.incarnation), None)
        row = self._present(event)
        if row is None:
            return None
        at, state, before = event.at, event.state, row.state
        if before is not _UNRESPONSIVE:
            if before in SETTLED:
                return None
            self.settled += 1
            if self.settled == len(self.rows):
                self.settled_at = at
        block, extra = row.block, row.extra
        if extra is not None:
            extra.retry_at = None
            extra.held = ""
        if state is not _UNRESPONSIVE and row.attempt and (extra is None or not self._attempts.is_recorded(row)):
            if extra is None:
                seconds = at - block.started[row.offset]
            else:
                seconds = at - (extra.attempt_started_at or 0.0)
                extra.last_duration = max(0.0, seconds)
            if state not in _STOPPED:
                self.rate.add(at)
            if state is _SUCCEEDED:
                self.durations.add(seconds)
        if not block.ended:
            block.ended = block.column()
        block.ended[row.offset] = at
        self._move(row, state)
        return row

    _FOLDS: ClassVar[dict[type[Event], Callable[[Fleet, Any], Row | None]]] = {
        RunStarted: _run_started,
        RunTimedOut: _run_timed_out,
        RunCancelRequested: _run_cancel_requested,
        RunHalted: _run_halted,
        LineHeld: _line_held,
        RunFinished: _run_finished,
        LoopBlocked: _loop_blocked,
        SettingChanged: _setting_changed,
        NestedRetriesFound: _nested_retries_found,
        CircuitOpened: _circuit_changed,
        CircuitHalfOpened: _circuit_changed,
        CircuitProbed: _circuit_changed,
        CircuitClosed: _circuit_changed,
        CircuitIsolated: _circuit_changed,
        SupervisorStarted: _tree_changed,
        SupervisorTerminated: _tree_changed,
        RestartCounted: _tree_changed,
        RestartLimitReached: _tree_changed,
        ChildRemoved: _tree_changed,
        CommandRefused: _command_refused,
        LogRecorded: _log_recorded,
        WorkersQueued: _workers_queued,
        AttemptStarted: _attempt_started,
        AttemptFailed: _attempt_failed,
        AttemptHeld: _attempt_held,
        RetryRefused: _retry_refused,
        RetryScheduled: _retry_scheduled,
        CancelRequested: _cancel_requested,
        RestartScheduled: _restart_scheduled,
        WorkerReady: _worker_ready,
        PollFinished: _poll_finished,
        WorkerRestarted: _worker_restarted,
        WorkerSucceeded: _worker_succeeded,
        WorkerFailed: _worker_broke,
        WorkerExhausted: _worker_broke,
        WorkerCancelled: _worker_stopped,
        WorkerTimedOut: _worker_stopped,
        WorkerUnresponsive: _worker_unresponsive,
    }
