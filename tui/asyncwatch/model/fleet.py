"""The fold: events in, the picture of the run out. `Fleet.apply` is the only writer of what is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from asyncwatch.events import (
    AttemptStarted,
    Batch,
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
    RestartCounted,
    RestartLimitReached,
    RunCancelRequested,
    RunFinished,
    RunHalted,
    RunStarted,
    RunTimedOut,
    SettingChanged,
    SupervisorStarted,
    SupervisorTerminated,
    WorkersQueued,
    WorkerState,
    WorkerSucceeded,
)
from asyncwatch.model.attempt_folds import ATTEMPT_FOLDS
from asyncwatch.model.incarnation_folds import INCARNATION_FOLDS
from asyncwatch.model.picture import BROKEN_LEFT_KEPT, LEFT_KEPT, LOG_SIZE_KEPT, LOGS_KEPT, LeftBehind, Picture
from asyncwatch.model.row import BLOCK, AttemptRecord, Block, Row
from asyncwatch.model.text import result_line

__all__ = ["LOGS_KEPT", "AttemptRecord", "Fleet", "LeftBehind", "Row"]

# Before Python 3.12 each lookup of an enum's member costs 50 ns, and there are several in every event.
_QUEUED = WorkerState.QUEUED
_RUNNING = WorkerState.RUNNING
_SUCCEEDED = WorkerState.SUCCEEDED


class Fleet(Picture):
    """The picture of one run.

    Events are applied in the order of their `seq`. One whose `seq` is not above the last one's was applied
    already and changes nothing. One of an unknown worker, or of another incarnation than the present one, is
    counted and changes no row.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last_seq = -1

    def apply_batch(self, batch: Batch) -> set[Row]:
        """Fold events in order and return the rows that changed. Workers just queued are not among them."""
        # What every event does is done here, on local names: this is where a million of them pass.
        folds, last_seq, latest, events = self._FOLDS, self._last_seq, self.latest, self.events
        by_name, counts, left_behind = self.by_name, self.counts, self.left_by_incarnation
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
                    and not self.has_branches
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
                    and not self.has_branches
                    and not left_behind
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
                    if self.settled == len(self.rows) + self.replaced:
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

    def _run_halted(self, event: RunHalted) -> None:
        self.halted = event

    def _run_finished(self, event: RunFinished) -> None:
        self.finished = event

    def _loop_blocked(self, event: LoopBlocked) -> Row | None:
        self.loop.apply(event)
        row = self.by_name.get(event.worker)
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
        self.has_branches = self.tree.is_shown

    def _child_removed(self, event: ChildRemoved) -> None:
        self._tree_changed(event)
        branch = self.tree.branches.get(event.supervisor)
        if branch is not None and branch.is_pool:
            row = self.by_name.get(f"{branch.path}/{event.child}".partition("/")[2])
            if row is not None and row.is_settled:
                left = self.left_rows if self.tree.has_left(row) else self.broken_left_rows
                left.pop(row, None)
                left[row] = None

    def _command_refused(self, event: CommandRefused) -> None:
        self.refusals.append(event)
        self.refused += 1

    def _log_recorded(self, event: LogRecorded) -> None:
        logs = self.logs
        logs.append(event)
        self.logged += 1
        self.log_size += len(event.message)
        while len(logs) > 1 and (len(logs) > LOGS_KEPT or self.log_size > LOG_SIZE_KEPT):
            self.log_size -= len(logs.popleft().message)

    def _workers_queued(self, event: WorkersQueued) -> None:
        rows, by_name = self.rows, self.by_name
        before = len(rows)
        names = [name for name in dict.fromkeys(event.workers) if name not in by_name]
        if len(names) == 1 and (place := self._vacate()) is not None:
            block = Block(place, 1, event.group, event.max_attempts)
            rows[place] = row = by_name[names[0]] = Row(names[0], block, 0)
            self.counts[_QUEUED] += 1
            self.settled_at = None
            self.tree.queued(event.group, (row,))
            return
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
            self.has_branches = self.tree.is_shown

    def _vacate(self) -> int | None:
        """Give up the row of a worker that left its pool long ago, and return its place; None if there are few."""
        if len(self.left_rows) > LEFT_KEPT:
            left = self.left_rows
        elif len(self.broken_left_rows) > BROKEN_LEFT_KEPT:
            left = self.broken_left_rows
        else:
            return None
        row = next(iter(left))
        del left[row]
        if row.block.size > 1:
            return None  # its neighbours are still there
        name = row.name
        self.note_replaced(row)
        del self.by_name[name]
        self.stacks.pop(name, None)
        self.cancel_reasons.pop(name, None)
        self.cancel_requested_at.pop(name, None)
        self.attempt_records.forget(name)
        self.restarts.forget(name)
        self.loop.forget(name)
        self.tree.forget(row)
        if self.on_replaced is not None:
            self.on_replaced(row.index)
        return row.index

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
        ChildRemoved: _child_removed,
        CommandRefused: _command_refused,
        LogRecorded: _log_recorded,
        WorkersQueued: _workers_queued,
        **ATTEMPT_FOLDS,
        **INCARNATION_FOLDS,
    }
