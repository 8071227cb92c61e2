"""What the events of attempts do to the picture: they start, fail, and have to wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

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
    PollFailed,
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
from asyncwatch.model.fleet import BROKEN_LEFT_KEPT, LEFT_KEPT, LOG_SIZE_KEPT, LOGS_KEPT, LeftBehind, Picture
from asyncwatch.model.rows import BLOCK, AttemptRecord, Block, Extra, Row
from asyncwatch.text import result_line, share, short_error_line

_NOTHING = Extra()
# Before Python 3.12 each lookup of an enum's member costs 50 ns, and there are several in every event.
_BACKING_OFF = WorkerState.BACKING_OFF
_RUNNING = WorkerState.RUNNING
_WAITING = WorkerState.WAITING


def move(picture: Picture, row: Row, state: WorkerState) -> None:
    """Bring a row into another state, or note that it is in the same one again."""
    counts = picture.counts
    counts[row.state] -= 1
    counts[state] += 1
    if picture.has_branches:
        picture.tree.moved(row, state)
    row.state = state
    row.version += 1


def _attempt_started(picture: Picture, event: AttemptStarted) -> Row | None:
    row = picture.present(event)
    if row is None or row.state in SETTLED:
        return None
    picture.attempts += 1
    block, offset = row.block, row.offset
    if not block.started:
        block.started, block.lucks = block.column(), block.column()
    block.lucks[offset] = event.bad_luck
    if row.attempt or row.extra is not None or event.attempt > 1 or event.latency:
        _another_started(row, event)
    if not row.attempt:
        block.started[offset] = event.at
    row.attempt = event.attempt
    move(picture, row, _RUNNING)
    return row


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


def _attempt_failed(picture: Picture, event: AttemptFailed) -> Row | None:
    row = picture.present(event)
    if (
        row is None
        or row.attempt != event.attempt
        or row.ended_at is not None
        or picture.attempt_records.is_recorded(row)
    ):
        return None
    extra = row.own_extra()
    extra.is_struck = event.injected
    extra.last_duration = event.elapsed
    extra.error_class = event.error_class
    extra.error = short_error_line(event.error_type, event.error)
    row.version += 1
    picture.attempt_records.note_failure(row)
    if event.stack:
        picture.stacks[row.name] = share(event.stack)
    else:
        picture.stacks.pop(row.name, None)
    picture.rate.add(event.at)
    if not event.injected:
        picture.durations.add(event.elapsed)
    return row


def _attempt_held(picture: Picture, event: AttemptHeld) -> Row | None:
    row = picture.present(event)
    if row is None or row.state in SETTLED:
        return None
    extra = row.own_extra()
    extra.retry_at = None
    extra.held = share(f"{event.reason} {event.key}".rstrip())
    picture.waits.append(event)
    picture.circuits.held(event)
    move(picture, row, _WAITING)
    return row


def _retry_refused(picture: Picture, event: RetryRefused) -> Row | None:
    row = picture.present(event)
    if row is None or row.state in SETTLED:
        return None
    row.own_extra().refusal = event.reason
    row.version += 1
    return row


def _retry_scheduled(picture: Picture, event: RetryScheduled) -> Row | None:
    row = picture.present(event)
    if row is None or row.state in SETTLED:
        return None
    extra = row.own_extra()
    extra.retry_at = event.at + event.delay
    extra.max_attempts = event.max_attempts
    # An attempt that was cancelled by its own timeout left its reason behind.
    picture.cancel_reasons.pop(row.name, None)
    picture.cancel_requested_at.pop(row.name, None)
    picture.attempt_records.note_backoff(row, event.delay, is_asked_for=event.is_asked_for)
    move(picture, row, _BACKING_OFF)
    return row


def _poll_finished(picture: Picture, event: PollFinished) -> Row | None:
    row = picture.present(event)
    if row is None or row.state in SETTLED:
        return None
    extra = row.own_extra()
    extra.is_poller = True
    extra.calls += 1
    extra.failed_polls = 0
    extra.error = extra.error_class = ""
    picture.polls.recovered(row.name)
    extra.last_duration = event.elapsed
    extra.retry_at = event.at + event.delay
    row.result = result_line(event.result)
    row.version += 1
    picture.rate.add(event.at)
    picture.durations.add(event.elapsed)
    return row


def _poll_failed(picture: Picture, event: PollFailed) -> Row | None:
    row = picture.present(event)
    if row is None or row.state in SETTLED:
        return None
    extra = row.own_extra()
    extra.is_poller = True
    extra.failed_polls = event.failures
    extra.error = short_error_line(event.error_type, event.error)
    if not picture.attempt_records.is_recorded(row):  # the error could not be classified
        extra.last_duration = event.elapsed
        picture.attempt_records.note_failure(row)
    extra.retry_at = event.at + event.delay
    extra.held = extra.refusal = ""
    picture.polls.apply(event)
    move(picture, row, _RUNNING)
    return row


ATTEMPT_FOLDS: dict[type[Event], Callable[[Picture, Any], Row | None]] = {
    AttemptStarted: _attempt_started,
    AttemptFailed: _attempt_failed,
    AttemptHeld: _attempt_held,
    RetryRefused: _retry_refused,
    RetryScheduled: _retry_scheduled,
    PollFinished: _poll_finished,
    PollFailed: _poll_failed,
}
"""By the type of event: each returns the row that it changed."""


_STOPPED = frozenset({WorkerState.CANCELLED, WorkerState.TIMED_OUT})
# Before Python 3.12 each lookup of an enum's member costs 50 ns, and there are several in every event.
_CANCELLING = WorkerState.CANCELLING
_QUEUED = WorkerState.QUEUED
_RESTARTING = WorkerState.RESTARTING
_SUCCEEDED = WorkerState.SUCCEEDED
_UNRESPONSIVE = WorkerState.UNRESPONSIVE


def _worker_ready(picture: Picture, event: WorkerReady) -> Row | None:
    row = picture.present(event)
    if row is None:
        return None
    row.own_extra().is_ready = True
    row.version += 1
    return row


def _cancel_requested(picture: Picture, event: CancelRequested) -> Row | None:
    row = picture.present(event)
    if row is None or row.state in SETTLED:
        return None
    picture.cancel_reasons[row.name] = share(event.reason)
    picture.cancel_requested_at.setdefault(row.name, event.at)
    if row.extra is not None:
        row.extra.retry_at = None
    move(picture, row, _CANCELLING)
    return row


def _restart_scheduled(picture: Picture, event: RestartScheduled) -> Row | None:
    row = picture.present(event)
    if row is None:
        return None
    picture.attempt_records.close(row)
    picture.restarts.apply(event)
    if row.state in SETTLED:
        picture.settled -= 1
        picture.settled_at = None
    extra = row.own_extra()
    extra.retry_at = event.at + event.delay
    extra.held = ""
    picture.waits.append(event)
    move(picture, row, _RESTARTING)
    return row


def _worker_restarted(picture: Picture, event: WorkerRestarted) -> Row | None:
    row = picture.by_name.get(event.worker)
    if row is None or event.incarnation <= row.incarnation:
        return None
    picture.restarts.began(event)
    picture.attempt_records.close(row)
    picture.left_rows.pop(row, None)
    picture.broken_left_rows.pop(row, None)
    if row.state in SETTLED:
        picture.settled -= 1
        picture.settled_at = None
    picture.cancel_reasons.pop(row.name, None)
    picture.cancel_requested_at.pop(row.name, None)
    row.attempt = 0
    row.result = None
    row.block.forget(row.offset)
    row.extra = None
    row.own_extra().incarnation = event.incarnation
    move(picture, row, _QUEUED)
    if picture.has_branches:
        picture.tree.restarted(row)
    return row


def _worker_succeeded(picture: Picture, event: WorkerSucceeded) -> Row | None:
    row = _settle(picture, event)
    if row is not None:
        row.result = result_line(event.result)
    return row


def _worker_broke(picture: Picture, event: WorkerFailed | WorkerExhausted) -> Row | None:
    row = _settle(picture, event)
    if row is not None:
        row.own_extra().error = short_error_line(event.error_type, event.error)
    return row


def _worker_stopped(picture: Picture, event: WorkerCancelled | WorkerTimedOut) -> Row | None:
    row = _settle(picture, event)
    if row is not None:
        row.result = result_line(event.result)
        # A run that ends can stop a million that are queued, and tells that itself.
        if isinstance(event, WorkerCancelled) and event.reason not in {"", "run"}:
            picture.cancel_reasons.setdefault(row.name, share(event.reason))
        if event.error_type:
            row.own_extra().error = short_error_line(event.error_type, event.error)
    return row


def _worker_unresponsive(picture: Picture, event: WorkerUnresponsive) -> Row | None:
    row = _settle(picture, event)
    if row is not None:
        asked_at = picture.cancel_requested_at.get(row.name, event.at)
        picture.left_by_incarnation[row.name, row.incarnation] = LeftBehind(event, asked_at)
    return row


def _settle(picture: Picture, event: WorkerEnded) -> Row | None:
    """Settle the row that `event` is about, and end its attempt if one was under way."""
    if picture.left_by_incarnation:
        # Also of an incarnation whose place another one took.
        picture.left_by_incarnation.pop((event.worker, event.incarnation), None)
    row = picture.present(event)
    if row is None:
        return None
    at, state, before = event.at, event.state, row.state
    if before is not _UNRESPONSIVE:
        if before in SETTLED:
            return None
        picture.settled += 1
        if picture.settled == picture.workers:
            picture.settled_at = at
    block, extra = row.block, row.extra
    if extra is not None:
        extra.retry_at = None
        extra.held = ""
        if extra.failed_polls:
            extra.failed_polls = 0
            picture.polls.recovered(row.name)
    if state is not _UNRESPONSIVE and row.attempt and (extra is None or not picture.attempt_records.is_recorded(row)):
        if extra is None:
            seconds = at - block.started[row.offset]
        else:
            seconds = at - (extra.attempt_started_at or 0.0)
            extra.last_duration = max(0.0, seconds)
        if state not in _STOPPED:
            picture.rate.add(at)
        if state is _SUCCEEDED:
            picture.durations.add(seconds)
    if not block.ended:
        block.ended = block.column()
    block.ended[row.offset] = at
    move(picture, row, state)
    return row


INCARNATION_FOLDS: dict[type[Event], Callable[[Picture, Any], Row | None]] = {
    CancelRequested: _cancel_requested,
    RestartScheduled: _restart_scheduled,
    WorkerReady: _worker_ready,
    WorkerRestarted: _worker_restarted,
    WorkerSucceeded: _worker_succeeded,
    WorkerFailed: _worker_broke,
    WorkerExhausted: _worker_broke,
    WorkerCancelled: _worker_stopped,
    WorkerTimedOut: _worker_stopped,
    WorkerUnresponsive: _worker_unresponsive,
}
"""By the type of event: each returns the row that it changed."""


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
