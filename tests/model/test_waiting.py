"""Held workers, refused retries and cancel reasons."""

from __future__ import annotations

from asyncwatch.events import (
    AttemptFailed,
    AttemptHeld,
    AttemptStarted,
    LineHeld,
    RetryRefused,
    RetryScheduled,
    WorkerCancelled,
    WorkerExhausted,
    WorkerRestarted,
    WorkerState,
)
from tests.model.stream import Stream, ended, failed


def test_worker_held_is_waiting_until_it_starts() -> None:
    stream = Stream("a", "b")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    stream.add(AttemptFailed, "a", **failed())
    stream.add(RetryScheduled, "a", attempt=2, delay=5.0)
    stream.add(AttemptHeld, "a", attempt=2, key="a.example", reason="circuit")
    stream.add(AttemptHeld, "b", attempt=1, key="", reason="rate")
    fleet = stream.fold()
    first, second = fleet.rows
    assert (first.state, first.held, first.retry_at) == (WorkerState.WAITING, "circuit a.example", None)
    assert (second.state, second.held) == (WorkerState.WAITING, "rate")
    stream.add(LineHeld, reason="paused")
    fleet = stream.fold()
    assert [fleet.held_by(row) for row in fleet.rows] == ["circuit a.example", "paused"]
    assert (fleet.counts[WorkerState.WAITING], fleet.is_settled) == (2, False)
    stream.add(AttemptStarted, "a", attempt=2, bad_luck=0.1)
    stream.add(WorkerCancelled, "b", **ended(attempts=0, elapsed=0.0))
    fleet = stream.fold()
    assert [(row.state, row.held) for row in fleet.rows] == [
        (WorkerState.RUNNING, ""),
        (WorkerState.CANCELLED, ""),
    ]


def test_retry_refused_is_on_the_row_until_restart() -> None:
    stream = Stream("a")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    stream.add(AttemptFailed, "a", **failed())
    stream.add(RetryRefused, "a", attempt=2, reason="retry budget")
    stream.add(WorkerExhausted, "a", **ended(error_type="OSError", error="boom"))
    (row,) = stream.fold().rows
    assert (row.state, row.refusal, row.error) == (WorkerState.EXHAUSTED, "retry budget", "OSError: boom")
    stream.add(AttemptHeld, "a", attempt=2, key="", reason="rate")
    stream.add(WorkerRestarted, "a", 2)
    (row,) = stream.fold().rows
    assert (row.state, row.refusal) == (WorkerState.QUEUED, "")


def test_worker_ended_while_queued_has_the_cancel_reason_unless_the_run_ends() -> None:
    stream = Stream("a", "b")
    stream.add(WorkerCancelled, "a", **ended(attempts=0, elapsed=0.0, reason="halt"))
    stream.add(WorkerCancelled, "b", **ended(attempts=0, elapsed=0.0, reason="run"))
    fleet = stream.fold()
    assert [fleet.cancel_reason(name) for name in "ab"] == ["halt", ""]
