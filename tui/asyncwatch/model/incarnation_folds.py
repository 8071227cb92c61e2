"""What the events of incarnations do to the picture: they become ready, are asked to stop, end, and begin anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asyncwatch.events import (
    SETTLED,
    CancelRequested,
    Event,
    RestartScheduled,
    WorkerCancelled,
    WorkerEnded,
    WorkerExhausted,
    WorkerFailed,
    WorkerReady,
    WorkerRestarted,
    WorkerState,
    WorkerSucceeded,
    WorkerTimedOut,
    WorkerUnresponsive,
)
from asyncwatch.model.attempt_folds import move
from asyncwatch.model.picture import LeftBehind, Picture
from asyncwatch.model.row import Row
from asyncwatch.model.text import error_line, result_line, share

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
        row.own_extra().error = error_line(event.error_type, event.error)
    return row


def _worker_stopped(picture: Picture, event: WorkerCancelled | WorkerTimedOut) -> Row | None:
    row = _settle(picture, event)
    if row is not None:
        row.result = result_line(event.result)
        # A run that ends can stop a million that are queued, and tells that itself.
        if isinstance(event, WorkerCancelled) and event.reason not in {"", "run"}:
            picture.cancel_reasons.setdefault(row.name, share(event.reason))
        if event.error_type:
            row.own_extra().error = error_line(event.error_type, event.error)
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
