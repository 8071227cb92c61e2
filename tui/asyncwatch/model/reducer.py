"""The pure fold of events into a Fleet: one function for each type of event, and the only writer of a Fleet.

Events are applied in the order of their `seq`. An event whose `seq` is not above the last one's was applied already and
changes nothing. An event about an unknown worker, or about another incarnation than the present one, is counted and
changes no row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from asyncwatch.events import (
    SETTLED,
    STOPPED,
    AttemptFailed,
    AttemptHeld,
    AttemptPlaced,
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
    HostJoined,
    HostLost,
    HostsReported,
    ItemsRead,
    KeyEvent,
    KeyLimitChanged,
    KeyReleased,
    KeyThrottled,
    LineHeld,
    LogRecorded,
    LoopBlocked,
    NestedRetriesFound,
    PollFailed,
    PollFinished,
    ProgressReported,
    RecordingFailed,
    RecordingResumed,
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
from asyncwatch.model.fleet import LOG_SIZE_KEPT, LOGS_KEPT, Abandoned, Fleet
from asyncwatch.model.rows import BLOCK, Block, Extra, Row
from asyncwatch.model.services import Crash
from asyncwatch.text import code_place, result_line, share, short_error_line

# On Python 3.11 reading a member of its class takes 52 ns, and a constant 6 ns: 0.25 us less for an attempt.
_QUEUED = WorkerState.QUEUED
_RUNNING = WorkerState.RUNNING
_WAITING = WorkerState.WAITING
_BACKING_OFF = WorkerState.BACKING_OFF
_RESTARTING = WorkerState.RESTARTING
_UNRESPONSIVE = WorkerState.UNRESPONSIVE
_SUCCEEDED = WorkerState.SUCCEEDED
_NOTHING = Extra()


def apply(fleet: Fleet, batch: Batch) -> set[Row]:
    """Fold events in order and return the rows that changed. Workers that were just queued are not among them."""
    changed: set[Row] = set()
    last_seq, latest = fleet.last_seq, fleet.latest
    by_name, tree, abandoned, forgets = fleet.by_name, fleet.tree, fleet.abandoned_incarnations, fleet.forgets
    started = known = 0
    durations: list[float] = []
    ends: list[float] = []
    # Whether the first attempts of workers and their successes change no more than a row and the counts.
    is_plain = not (tree.is_shown or abandoned or forgets)
    for event in batch:
        seq = event.seq
        if seq <= last_seq:
            known += 1
            continue
        last_seq = seq
        at = event.at
        if at > latest:  # noqa: PLR1730  max() takes twice as long, for every event
            latest = at
        # These two cases copy `_attempt_started` and `_worker_succeeded` for workers that succeed at their first
        # attempt, as most of a large batch do. An event takes half the time, because what all of them have in common
        # is looked up and counted once for a batch.
        if type(event) is AttemptStarted:
            row = by_name.get(event.worker)
            if (
                row is not None
                and row.state is _QUEUED
                and row.extra is None
                and event.attempt == 1
                and event.incarnation == 1
                and not event.latency
                and is_plain
            ):
                block, offset = row.block, row.offset
                try:
                    block.started[offset] = at
                except IndexError:  # it is the first of its block
                    block.started, block.lucks = block.column(), block.column()
                    block.started[offset] = at
                block.lucks[offset] = event.bad_luck
                row.attempt = 1
                row.state = _RUNNING
                row.version += 1
                started += 1
                changed.add(row)
                continue
        elif type(event) is WorkerSucceeded:
            row = by_name.get(event.worker)
            if (
                row is not None
                and row.state is _RUNNING
                and row.extra is None
                and event.incarnation == 1
                and event.is_repr is UNSET
                and is_plain
            ):
                block, offset = row.block, row.offset
                try:
                    block.ended[offset] = at
                except IndexError:
                    block.ended = block.column()
                    block.ended[offset] = at
                result = event.result
                row.result = None if result is None else result_line(result)
                row.state = _SUCCEEDED
                row.version += 1
                fleet.last_settled_at = at
                ends.append(at)
                durations.append(at - block.started[offset])
                changed.add(row)
                continue
        fold = FOLDS.get(type(event))
        if fold is not None and (row := fold(fleet, event)) is not None:
            changed.add(row)
        if type(event) is RunStarted:
            forgets = fleet.forgets
        is_plain = not (tree.is_shown or abandoned or forgets)
    tree.count_moves()
    fleet.last_seq, fleet.latest = last_seq, latest
    fleet.events += len(batch) - known
    if ends:
        fleet.rate.add_all(ends)
        fleet.durations.add_all(durations)
    succeeded = len(ends)
    fleet.attempts += started
    fleet.settled += succeeded
    fleet.counts[_QUEUED] -= started
    fleet.counts[_RUNNING] += started - succeeded
    fleet.counts[_SUCCEEDED] += succeeded
    return changed


def confirm_start(fleet: Fleet, event: RunStarted) -> None:
    """Replace the start of the run that was predicted and applied by the real one."""
    _run_started(fleet, event)


def leave(fleet: Fleet, at: float) -> None:
    """Note that the client leaves the run at `at`, in seconds since the run started."""
    fleet.left_at = at


# -- the run


def _run_started(fleet: Fleet, event: RunStarted) -> None:
    fleet.run = event
    if event.rows_kept is not None:
        fleet.departed.keep(event.rows_kept)
    fleet.settings.started(event)


def _items_read(fleet: Fleet, event: ItemsRead) -> None:
    fleet.items_read = event


def _run_timed_out(fleet: Fleet, event: RunTimedOut) -> None:
    fleet.timed_out = event


def _run_cancel_requested(fleet: Fleet, event: RunCancelRequested) -> None:
    fleet.cancel_requested = event
    if event.reason != "at once":
        fleet.stop_requested_at = event.at


def _run_halted(fleet: Fleet, event: RunHalted) -> None:
    fleet.halted = event


def _recording_failed(fleet: Fleet, event: RecordingFailed) -> None:
    fleet.not_recorded = event


def _recording_resumed(fleet: Fleet, _event: RecordingResumed) -> None:
    fleet.not_recorded = None


def _run_finished(fleet: Fleet, event: RunFinished) -> None:
    fleet.finished = event


def _loop_blocked(fleet: Fleet, event: LoopBlocked) -> Row | None:
    fleet.loop.blocked(event)
    row = fleet.by_name.get(event.worker)
    if row is not None:
        row.version += 1
    return row


def _queue_held(fleet: Fleet, event: LineHeld) -> None:
    fleet.queue_held_by = event.reason


def _setting_changed(fleet: Fleet, event: SettingChanged) -> None:
    fleet.settings.changed_by(event)


def _nested_retries_found(fleet: Fleet, event: NestedRetriesFound) -> None:
    fleet.nested_retries.append(event)


def _circuit_changed(fleet: Fleet, event: CircuitEvent) -> None:
    fleet.circuits.changed(event)


def _host_joined(fleet: Fleet, event: HostJoined) -> None:
    fleet.hosts.joined(event)


def _host_lost(fleet: Fleet, event: HostLost) -> None:
    fleet.hosts.left(event)


def _hosts_reported(fleet: Fleet, event: HostsReported) -> None:
    fleet.hosts.reported(event)


def _attempt_placed(fleet: Fleet, event: AttemptPlaced) -> Row | None:
    row = _active(fleet, event)
    if row is None or row.attempt != event.attempt:
        return None
    fleet.hosts.placed(event)
    row.version += 1
    return row


def _key_changed(fleet: Fleet, event: KeyEvent) -> None:
    fleet.keys.changed(event)


def _command_refused(fleet: Fleet, event: CommandRefused) -> None:
    fleet.refusals.append(event)
    fleet.refused += 1


def _log_recorded(fleet: Fleet, event: LogRecorded) -> None:
    logs = fleet.logs
    logs.append(event)
    fleet.logged += 1
    fleet.log_size += len(event.message)
    while len(logs) > 1 and (len(logs) > LOGS_KEPT or fleet.log_size > LOG_SIZE_KEPT):
        fleet.log_size -= len(logs.popleft().message)


# -- the tree


def _supervisor_started(fleet: Fleet, event: SupervisorStarted) -> None:
    fleet.tree.supervisor_started(event)


def _supervisor_terminated(fleet: Fleet, event: SupervisorTerminated) -> None:
    fleet.tree.supervisor_terminated(event)


def _restart_counted(fleet: Fleet, event: RestartCounted) -> None:
    fleet.tree.restart_counted(event)


def _restart_limit_reached(fleet: Fleet, event: RestartLimitReached) -> None:
    fleet.tree.limit_reached(event)


def _child_removed(fleet: Fleet, event: ChildRemoved) -> None:
    for path in fleet.tree.child_removed(event):
        row = fleet.by_name.get(path.partition("/")[2])
        if row is not None:
            fleet.tree.worker_removed(path)
            if row.is_settled:
                fleet.departed.add(row)


# -- workers


def _workers_queued(fleet: Fleet, event: WorkersQueued) -> None:
    index: int | None
    departed = fleet.departed.named(event.workers[0], fleet.by_name) if len(event.workers) == 1 else None
    if departed is not None:
        # The engine counts the incarnations of a child from 1 again if it has forgotten the name.
        names, index = [departed.name], _vacate(fleet, departed)
    else:
        names = [name for name in dict.fromkeys(event.workers) if name not in fleet.by_name]
        if not names:
            return
        oldest = fleet.departed.oldest() if len(names) == 1 else None
        index = None if oldest is None else _vacate(fleet, oldest)
    if index is not None:
        new = [Row(names[0], Block(index, 1, event.group, event.max_attempts), 0)]
        fleet.rows[index] = new[0]
    else:
        new = []
        for start in range(0, len(names), BLOCK):
            part = names[start : start + BLOCK]
            block = Block(len(fleet.rows) + start, len(part), event.group, event.max_attempts)
            new += [Row(name, block, offset) for offset, name in enumerate(part)]
        fleet.rows += new
    fleet.by_name.update(zip(names, new, strict=True))
    fleet.counts[_QUEUED] += len(new)
    fleet.tree.queued(event.group, new)


def _vacate(fleet: Fleet, row: Row) -> int:
    """Give up the row of a departed child and return its index."""
    name = row.name
    fleet.departed.replace(row, fleet.cancel_reason(name))
    del fleet.by_name[name]
    fleet.stacks.pop(name, None)
    fleet.cancel_reasons.pop(name, None)
    fleet.hosts.by_worker.pop(name, None)
    fleet.cancel_requested_at.pop(name, None)
    fleet.attempt_history.forget(name)
    fleet.restarts.forget(name)
    fleet.polls.forget(name)
    fleet.loop.forget(name)
    fleet.tree.forget(row)
    return row.index


def _present(fleet: Fleet, event: WorkerEvent) -> Row | None:
    """Return the row that `event` is about, None if it is not about the present incarnation of a known worker."""
    row = fleet.by_name.get(event.worker)
    if row is None:
        return None
    extra = row.extra
    return row if event.incarnation == (1 if extra is None else extra.incarnation) else None


def _active(fleet: Fleet, event: WorkerEvent) -> Row | None:
    """Return the row that `event` is about, None also if that has settled."""
    row = fleet.by_name.get(event.worker)
    if row is None or row.state in SETTLED:
        return None
    extra = row.extra
    return row if event.incarnation == (1 if extra is None else extra.incarnation) else None


def _move(fleet: Fleet, row: Row, state: WorkerState) -> None:
    """Change the state of a row, or note that it entered the same state again."""
    fleet.counts[row.state] -= 1
    fleet.counts[state] += 1
    if fleet.tree.is_shown:
        fleet.tree.leaves(row)
    row.state = state
    row.version += 1


def _worker_ready(fleet: Fleet, event: WorkerReady) -> Row | None:
    row = _present(fleet, event)
    if row is not None:
        row.own_extra().is_ready = True
        row.version += 1
    return row


def _attempt_started(fleet: Fleet, event: AttemptStarted) -> Row | None:
    row = _active(fleet, event)
    if row is None:
        return None
    fleet.attempts += 1
    block, offset = row.block, row.offset
    if not block.started:
        block.started, block.lucks = block.column(), block.column()
    block.lucks[offset] = event.bad_luck
    if row.attempt or row.extra is not None or event.attempt > 1 or event.latency:
        _another_attempt_started(fleet, row, event)
    if not row.attempt:
        block.started[offset] = event.at
    row.attempt = event.attempt
    _move(fleet, row, _RUNNING)
    return row


def _another_attempt_started(fleet: Fleet, row: Row, event: AttemptStarted) -> None:
    """Note the start of an attempt unlike the first one of most workers."""
    extra = row.extra or row.own_extra()
    extra.is_struck = extra.is_recorded = False
    if event.latency or event.attempt > 1:
        extra.latency = event.latency
        extra.error_class = ""
    if extra.throttled:
        extra.is_throttled = False
        if event.attempt == 1:
            extra.throttled = 0
    extra.retry_at = None
    if extra.held:
        _hold(fleet, extra, "")
    extra.is_between_polls = False
    _forget_progress(extra)
    extra.attempt_started_at = None
    if not row.attempt and extra == _NOTHING:
        # The worker only had to wait: its row is small again.
        row.extra = None
    else:
        extra.attempt_started_at = event.at


def _forget_progress(extra: Extra) -> None:
    extra.done = extra.total = None
    extra.unit = extra.status = ""


def _progress_reported(fleet: Fleet, event: ProgressReported) -> Row | None:
    row = _active(fleet, event)
    if row is None or row.attempt != event.attempt:
        return None
    extra = row.extra or row.own_extra()
    extra.done, extra.total = event.done, event.total
    extra.unit, extra.status = share(event.unit), share(event.status)
    row.version += 1
    return row


def _attempt_failed(fleet: Fleet, event: AttemptFailed) -> Row | None:
    row = _active(fleet, event)
    if row is None or row.attempt != event.attempt or row.is_recorded:
        return None
    extra = row.extra or row.own_extra()
    extra.is_struck = event.injected
    extra.last_duration = event.elapsed
    extra.error_class = event.error_class
    extra.error = short_error_line(event.error_type, event.error)
    row.version += 1
    fleet.attempt_history.failed(row, extra)
    if event.stack:
        fleet.stacks[row.name] = share(event.stack)
    else:
        fleet.stacks.pop(row.name, None)
    fleet.rate.add(event.at)
    if not event.injected:
        fleet.durations.add(event.elapsed)
    return row


def _attempt_held(fleet: Fleet, event: AttemptHeld) -> Row | None:
    row = _active(fleet, event)
    if row is None:
        return None
    extra = row.extra or row.own_extra()
    if row.state is _RUNNING and extra.error_class == "throttled" and not (extra.is_struck or extra.is_between_polls):
        # No backoff follows: the attempt that was throttled waits for its key.
        extra.throttled += 1
        extra.is_throttled = True
        if event.key:
            fleet.keys.parked(event.key)
    extra.retry_at = None
    _hold(fleet, extra, share(f"{event.reason} {event.key}" if event.key else event.reason))
    fleet.waits.append(event)
    if event.reason == "circuit":
        fleet.circuits.add(event.key)
    _move(fleet, row, _WAITING)
    return row


def _hold(fleet: Fleet, extra: Extra, held: str) -> None:
    """Let a worker wait for `held`, or for nothing."""
    if extra.held != held:
        fleet.keys.move(extra.held, held)
        extra.held = held


def _retry_refused(fleet: Fleet, event: RetryRefused) -> Row | None:
    row = _active(fleet, event)
    if row is not None:
        row.own_extra().refusal = event.reason
        row.version += 1
    return row


def _retry_scheduled(fleet: Fleet, event: RetryScheduled) -> Row | None:
    row = _active(fleet, event)
    if row is None:
        return None
    extra = row.extra or row.own_extra()
    if event.is_throttled:
        extra.throttled += 1
        extra.is_throttled = True
    extra.retry_at = event.at + event.delay
    extra.max_attempts = event.max_attempts
    if fleet.cancel_reasons:  # an attempt that its timeout cancelled has left its reason
        fleet.cancel_reasons.pop(row.name, None)
        fleet.cancel_requested_at.pop(row.name, None)
    fleet.attempt_history.backed_off(row, event.delay, is_asked_for=event.is_asked_for)
    _move(fleet, row, _BACKING_OFF)
    return row


def _poll_finished(fleet: Fleet, event: PollFinished) -> Row | None:
    row = _active(fleet, event)
    if row is None:
        return None
    extra = row.own_extra()
    fleet.polls.pollers += not extra.is_poller
    extra.is_poller = extra.is_between_polls = True
    extra.calls += 1
    extra.failed_polls = 0
    extra.error = extra.error_class = ""
    fleet.polls.recovered(row.name)
    extra.last_duration = event.elapsed
    extra.retry_at = event.at + event.delay
    row.result = result_line(event.result)
    row.version += 1
    fleet.rate.add(event.at)
    fleet.durations.add(event.elapsed)
    return row


def _poll_failed(fleet: Fleet, event: PollFailed) -> Row | None:
    row = _active(fleet, event)
    if row is None:
        return None
    extra = row.own_extra()
    fleet.polls.pollers += not extra.is_poller
    extra.is_poller = extra.is_between_polls = True
    extra.failed_polls = event.failures
    extra.error = short_error_line(event.error_type, event.error)
    if not row.is_recorded:
        # No `AttemptFailed` came before it: the error could not be classified.
        extra.last_duration = event.elapsed
        fleet.attempt_history.failed(row, extra)
    extra.retry_at = event.at + event.delay
    _hold(fleet, extra, "")
    extra.refusal = ""
    fleet.polls.poll_failed(event)
    _move(fleet, row, _RUNNING)
    return row


def _cancel_requested(fleet: Fleet, event: CancelRequested) -> Row | None:
    row = _active(fleet, event)
    if row is None:
        return None
    fleet.cancel_reasons[row.name] = share(event.reason)
    fleet.cancel_requested_at.setdefault(row.name, event.at)
    if row.extra is not None:
        row.extra.retry_at = None
    _move(fleet, row, WorkerState.CANCELLING)
    return row


def _restart_scheduled(fleet: Fleet, event: RestartScheduled) -> Row | None:
    row = _present(fleet, event)
    if row is None:
        return None
    fleet.attempt_history.close(row)
    place = code_place(fleet.stack(row.name)) if row.error else ""
    fleet.restarts.scheduled(event, place, fleet.flapping)
    _unsettle(fleet, row)
    extra = row.own_extra()
    extra.retry_at = event.at + event.delay
    _hold(fleet, extra, "")
    fleet.waits.append(event)
    _move(fleet, row, _RESTARTING)
    return row


def _worker_restarted(fleet: Fleet, event: WorkerRestarted) -> Row | None:
    row = fleet.by_name.get(event.worker)
    if row is None or event.incarnation <= row.incarnation:
        return None
    fleet.restarts.began(event)
    fleet.attempt_history.close(row)
    fleet.departed.discard(row)
    _unsettle(fleet, row)
    fleet.cancel_reasons.pop(row.name, None)
    fleet.cancel_requested_at.pop(row.name, None)
    row.attempt = 0
    row.result = None
    row.block.forget(row.offset)
    if row.extra is not None:
        _hold(fleet, row.extra, "")
    row.block.has_extras = True
    row.extra = Extra(incarnation=event.incarnation)
    _move(fleet, row, _QUEUED)
    if fleet.tree.is_shown:
        fleet.tree.restarted(row)
    return row


def _unsettle(fleet: Fleet, row: Row) -> None:
    if row.state in SETTLED:
        fleet.settled -= 1


def _worker_succeeded(fleet: Fleet, event: WorkerSucceeded) -> Row | None:
    row = _settle(fleet, event)
    if row is not None:
        row.result = result_line(event.result)
        if event.is_repr:
            row.result = f"{row.result} (no JSON: a resume runs it again)"
            row.own_extra().is_result_lost = True
    return row


def _worker_failed(fleet: Fleet, event: WorkerFailed | WorkerExhausted) -> Row | None:
    row = _settle(fleet, event)
    if row is not None:
        error = row.own_extra().error = short_error_line(event.error_type, event.error)
        if fleet.tree.is_service(row):
            place = share(code_place(fleet.stack(row.name)))
            fleet.restarts.crashed(row.name, Crash(event.at, row.incarnation, error, place))
    return row


def _worker_stopped(fleet: Fleet, event: WorkerCancelled | WorkerTimedOut) -> Row | None:
    row = _settle(fleet, event)
    if row is not None:
        row.result = result_line(event.result)
        # The end of a run may cancel a million queued workers; that reason is in the Fleet already.
        if isinstance(event, WorkerCancelled) and event.reason not in {"", "run"}:
            fleet.cancel_reasons.setdefault(row.name, share(event.reason))
        if event.error_type:
            row.own_extra().error = short_error_line(event.error_type, event.error)
    return row


def _worker_unresponsive(fleet: Fleet, event: WorkerUnresponsive) -> Row | None:
    row = _settle(fleet, event)
    if row is not None:
        asked_at = fleet.cancel_requested_at.get(row.name, event.at)
        fleet.abandoned_incarnations[row.name, row.incarnation] = Abandoned(event, asked_at)
    return row


def _settle(fleet: Fleet, event: WorkerEnded) -> Row | None:
    """Settle the row that `event` is about, and end its attempt if one was in flight."""
    if fleet.abandoned_incarnations:
        # It may be an earlier incarnation, which ends after all.
        fleet.abandoned_incarnations.pop((event.worker, event.incarnation), None)
    row = _present(fleet, event)
    if row is None:
        return None
    at, state, before = event.at, event.state, row.state
    if before is not _UNRESPONSIVE:
        if before in SETTLED:
            return None
        fleet.settled += 1
        fleet.last_settled_at = at
    block, extra = row.block, row.extra
    if extra is not None:
        extra.retry_at = None
        if extra.held:
            _hold(fleet, extra, "")
        extra.is_between_polls = False
        if extra.failed_polls:
            extra.failed_polls = 0
            fleet.polls.recovered(row.name)
    if row.attempt and state is not _UNRESPONSIVE and (extra is None or not extra.is_recorded):
        if extra is None:
            seconds = at - block.started[row.offset]
        else:
            seconds = at - (extra.attempt_started_at or 0.0)
            extra.last_duration = max(0.0, seconds)
        if state not in STOPPED:
            fleet.rate.add(at)
        if state is _SUCCEEDED:
            fleet.durations.add(seconds)
    if not block.ended:
        block.ended = block.column()
    block.ended[row.offset] = at
    _move(fleet, row, state)
    if fleet.forgets:
        fleet.departed.add(row)
    return row


FOLDS: dict[type[Event], Callable[[Fleet, Any], Row | None]] = {
    RunStarted: _run_started,
    ItemsRead: _items_read,
    RunTimedOut: _run_timed_out,
    RunCancelRequested: _run_cancel_requested,
    RunHalted: _run_halted,
    RecordingFailed: _recording_failed,
    RecordingResumed: _recording_resumed,
    RunFinished: _run_finished,
    LoopBlocked: _loop_blocked,
    LineHeld: _queue_held,
    SettingChanged: _setting_changed,
    NestedRetriesFound: _nested_retries_found,
    CircuitOpened: _circuit_changed,
    CircuitHalfOpened: _circuit_changed,
    CircuitProbed: _circuit_changed,
    CircuitClosed: _circuit_changed,
    CircuitIsolated: _circuit_changed,
    HostJoined: _host_joined,
    HostLost: _host_lost,
    HostsReported: _hosts_reported,
    AttemptPlaced: _attempt_placed,
    KeyThrottled: _key_changed,
    KeyReleased: _key_changed,
    KeyLimitChanged: _key_changed,
    CommandRefused: _command_refused,
    LogRecorded: _log_recorded,
    SupervisorStarted: _supervisor_started,
    SupervisorTerminated: _supervisor_terminated,
    RestartCounted: _restart_counted,
    RestartLimitReached: _restart_limit_reached,
    ChildRemoved: _child_removed,
    WorkersQueued: _workers_queued,
    WorkerReady: _worker_ready,
    AttemptStarted: _attempt_started,
    ProgressReported: _progress_reported,
    AttemptFailed: _attempt_failed,
    AttemptHeld: _attempt_held,
    RetryRefused: _retry_refused,
    RetryScheduled: _retry_scheduled,
    PollFinished: _poll_finished,
    PollFailed: _poll_failed,
    CancelRequested: _cancel_requested,
    RestartScheduled: _restart_scheduled,
    WorkerRestarted: _worker_restarted,
    WorkerSucceeded: _worker_succeeded,
    WorkerFailed: _worker_failed,
    WorkerExhausted: _worker_failed,
    WorkerCancelled: _worker_stopped,
    WorkerTimedOut: _worker_stopped,
    WorkerUnresponsive: _worker_unresponsive,
}
"""The fold of each type of event; it returns the row that it changed, if any."""
