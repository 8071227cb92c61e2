"""What the events of attempts do to the picture: they start, fail, and have to wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asyncwatch.events import (
    SETTLED,
    AttemptFailed,
    AttemptHeld,
    AttemptStarted,
    Event,
    PollFailed,
    PollFinished,
    RetryRefused,
    RetryScheduled,
    WorkerState,
)
from asyncwatch.model.picture import Picture
from asyncwatch.model.row import Extra, Row
from asyncwatch.model.text import error_line, result_line, share

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
    extra.error = error_line(event.error_type, event.error)
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
    extra.error = error_line(event.error_type, event.error)
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
