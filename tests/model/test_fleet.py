"""The reducer: events to rows and totals."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest

from asyncwatch import text
from asyncwatch.events import (
    AttemptFailed,
    AttemptHeld,
    AttemptStarted,
    CancelRequested,
    CommandRefused,
    LogRecorded,
    RestartScheduled,
    RetryScheduled,
    RunCancelRequested,
    RunFinished,
    RunTimedOut,
    WorkerCancelled,
    WorkerExhausted,
    WorkerFailed,
    WorkerRestarted,
    WorkersQueued,
    WorkerState,
    WorkerSucceeded,
    WorkerTimedOut,
    WorkerUnresponsive,
)
from asyncwatch.model.fleet import LOG_SIZE_KEPT, LOGS_KEPT, Fleet
from asyncwatch.model.history import FIRST_KEPT, LAST_KEPT, AttemptRecord
from asyncwatch.model.reducer import apply
from asyncwatch.model.rows import BLOCK, Row
from asyncwatch.text import share
from tests.model.stream import Stream, ended, failed


def row_of(fleet: Fleet, name: str = "a") -> Row:
    """Return the row of a worker that has one."""
    row = fleet.get(name)
    assert row is not None
    return row


def test_queued_workers_rows_are_in_queue_order() -> None:
    stream = Stream("b", "a", group="g", max_attempts=5)
    fleet = stream.fold()
    assert [(row.name, row.index, row.group, row.max_attempts) for row in fleet.rows] == [
        ("b", 0, "g", 5),
        ("a", 1, "g", 5),
    ]
    assert fleet.counts[WorkerState.QUEUED] == 2
    assert not fleet.is_settled


def test_worker_queued_again_keeps_its_row() -> None:
    stream = Stream("a")
    stream.add(WorkersQueued, group="", max_attempts=3, workers=("a", "b"))
    fleet = stream.fold()
    assert [row.name for row in fleet.rows] == ["a", "b"]
    assert fleet.counts[WorkerState.QUEUED] == 2


def test_success_at_first_attempt_is_in_history_without_a_record() -> None:
    stream = Stream("a")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.25)
    stream.add(WorkerSucceeded, "a", **ended(result=200))
    fleet = stream.fold()
    row = row_of(fleet)
    assert (row.state, row.result, row.bad_luck, row.retries) == (WorkerState.SUCCEEDED, "200", 0.25, 0)
    assert row.last_duration is not None
    assert abs(row.last_duration - 0.1) < 1e-9
    assert row.elapsed(99) == row.last_duration
    assert (fleet.is_settled, fleet.settled_at, fleet.attempts) == (True, 0.3, 1)
    assert fleet.history("a") == (
        AttemptRecord(1, 1, 0.25, is_struck=False, started_at=0.2, duration=row.last_duration, outcome="succeeded"),
    )
    assert len(fleet.attempt_history) == 0


@pytest.mark.parametrize("attempts", [1, 2])
def test_success_without_result_clears_the_result(attempts: int) -> None:
    stream = Stream("a")
    for number in range(1, attempts + 1):
        stream.add(AttemptStarted, "a", attempt=number, bad_luck=0.5)
    fleet = stream.fold()
    row_of(fleet).result = "before"
    stream.add(WorkerSucceeded, "a", **ended(attempts=attempts, result=None))
    apply(fleet, stream.events)
    assert row_of(fleet).result is None


def test_attempt_running_has_no_outcome() -> None:
    stream = Stream("a")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.25)
    fleet = stream.fold()
    (record,) = fleet.history("a")
    assert (record.outcome, record.duration) == ("", None)
    assert row_of(fleet).elapsed(1.2) == 1.0


def test_max_attempts_of_error_class_hold_until_restart() -> None:
    stream = Stream("a", max_attempts=3)
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.5)
    stream.add(AttemptFailed, "a", **failed("429"))
    stream.add(RetryScheduled, "a", attempt=2, delay=0.5, max_attempts=8)
    stream.add(AttemptStarted, "a", attempt=2, bad_luck=0.1)
    assert row_of(stream.fold()).max_attempts == 8
    stream.add(WorkerRestarted, "a", incarnation=2)
    assert row_of(stream.fold()).max_attempts == 3


def test_attempt_failed_is_recorded_with_its_backoff() -> None:
    stream = Stream("a")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.95)
    stream.add(AttemptFailed, "a", **failed("reset\nby peer", elapsed=0.08, injected=True))
    stream.add(RetryScheduled, "a", attempt=2, delay=0.5)
    fleet = stream.fold()
    row = row_of(fleet)
    assert (row.state, row.is_struck, row.error) == (WorkerState.BACKING_OFF, True, "OSError: reset by peer")
    assert (row.retry_at, row.last_duration) == (0.4 + 0.5, 0.08)
    assert fleet.stack("a") == "  File x"
    assert [(r.outcome, r.backoff, r.is_struck) for r in fleet.history("a")] == [(row.error, 0.5, True)]

    stream.add(AttemptStarted, "a", attempt=2, bad_luck=0.1)
    fleet = stream.fold()
    row = row_of(fleet)
    assert (row.state, row.retries, row.is_struck, row.retry_at) == (WorkerState.RUNNING, 1, False, None)
    assert row.is_in_trouble
    assert [(record.attempt, record.outcome) for record in fleet.history("a")] == [(1, row.error), (2, "")]


def test_durations_injected_faults_are_not_counted() -> None:
    stream = Stream("a", "b")
    for name, injected in (("a", True), ("b", False)):
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.95)
        stream.add(AttemptFailed, name, **failed(elapsed=0.5, injected=injected))
    assert stream.fold().durations.count == 1


def test_worker_failed_counts_its_attempt_once() -> None:
    stream = Stream("a")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    stream.add(AttemptFailed, "a", **failed(transient=False))
    stream.add(WorkerFailed, "a", **ended(error_type="OSError", error="boom"))
    fleet = stream.fold()
    assert fleet.rate.series(fleet.latest, 1) == [1]
    assert len(fleet.history("a")) == 1


def test_restart_clears_the_row_and_keeps_the_history() -> None:
    stream = Stream("a")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    stream.add(AttemptFailed, "a", **failed(transient=False))
    stream.add(WorkerFailed, "a", **ended(error_type="OSError", error="boom"))
    stream.add(WorkerRestarted, "a", 2)
    fleet = stream.fold()
    row = row_of(fleet)
    assert (row.state, row.incarnation, row.attempt, row.error, row.result) == (WorkerState.QUEUED, 2, 0, "", None)
    assert (row.elapsed(9), row.bad_luck, row.last_duration) == (None, None, None)
    assert (fleet.settled, fleet.is_settled, fleet.settled_at) == (0, False, None)

    stream.add(AttemptStarted, "a", 2, attempt=1, bad_luck=0.3)
    stream.add(WorkerSucceeded, "a", 2, **ended(result="ok"))
    stream.add(WorkerRestarted, "a", 3)
    fleet = stream.fold()
    assert [(record.incarnation, record.outcome) for record in fleet.history("a")] == [
        (1, "OSError: boom"),
        (2, "succeeded"),
    ]


def test_events_of_other_incarnation_are_counted_and_change_no_row() -> None:
    stream = Stream("a")
    stream.add(WorkerRestarted, "a", 2)
    fleet = stream.fold()
    before = (row_of(fleet).version, fleet.events)
    stream.add(AttemptStarted, "a", 1, attempt=1, bad_luck=0.1)
    stream.add(WorkerSucceeded, "a", 1, **ended(result=1))
    stream.add(WorkerRestarted, "a", 2)
    assert apply(fleet, stream.events) == set()
    assert (row_of(fleet).version, fleet.events) == (before[0], before[1] + 3)


def test_events_of_unknown_worker_change_no_row() -> None:
    stream = Stream("a")
    stream.add(AttemptStarted, "x", attempt=1, bad_luck=0.1)
    stream.add(AttemptFailed, "x", **failed())
    stream.add(RetryScheduled, "x", attempt=2, delay=1.0)
    stream.add(CancelRequested, "x", reason="person")
    stream.add(WorkerCancelled, "x", **ended())
    stream.add(WorkerRestarted, "x", 2)
    fleet = stream.fold()
    assert len(fleet.rows) == 1
    assert (fleet.get("x"), fleet.history("x"), fleet.attempts) == (None, (), 0)


def test_worker_settled_ignores_later_events() -> None:
    stream = Stream("a")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    stream.add(WorkerSucceeded, "a", **ended(result=1))
    fleet = stream.fold()
    stream.add(AttemptStarted, "a", attempt=2, bad_luck=0.1)
    stream.add(AttemptFailed, "a", **failed())
    stream.add(RetryScheduled, "a", attempt=2, delay=1.0)
    stream.add(CancelRequested, "a", reason="person")
    stream.add(WorkerFailed, "a", **ended(error_type="E", error=""))
    assert apply(fleet, stream.events) == set()
    assert row_of(fleet).state is WorkerState.SUCCEEDED


def test_worker_unresponsive_that_ends_late_settles_once() -> None:
    stream = Stream("a")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    stream.add(CancelRequested, "a", reason="person")
    stream.add(WorkerUnresponsive, "a", **ended(stack="x.py:3 f", cancels=2))
    fleet = stream.fold()
    (left,) = fleet.abandoned_of("a")
    assert (left.event.stack, left.asked_at, fleet.abandoned) == ("x.py:3 f", 0.3, 1)
    assert (fleet.cancel_reason("a"), fleet.settled, fleet.settled_at) == ("person", 1, 0.4)
    assert [(record.outcome, record.duration) for record in fleet.history("a")] == [("unresponsive", 0.2)]

    stream.add(WorkerCancelled, "a", **ended(result="late"))
    apply(fleet, stream.events)
    row = row_of(fleet)
    assert (row.state, row.ended_at, row.result) == (WorkerState.CANCELLED, 0.5, "late")
    assert (fleet.abandoned, fleet.abandoned_of("a")) == (0, ())
    assert (fleet.settled, fleet.settled_at, fleet.counts[WorkerState.UNRESPONSIVE]) == (1, 0.4, 0)
    assert fleet.rate.series(fleet.latest, 1) == [0]


def test_incarnation_abandoned_is_known_until_its_own_end() -> None:
    stream = Stream("a", "b")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    stream.add(CancelRequested, "a", reason="restart")
    stream.add(WorkerUnresponsive, "a", **ended(stack="x.py:3 f", cancels=2))
    stream.add(WorkerRestarted, "a", 2)
    stream.add(AttemptStarted, "a", 2, attempt=1, bad_luck=0.1)
    fleet = stream.fold()
    assert (fleet.abandoned, len(fleet.abandoned_of("a")), fleet.abandoned_of("b")) == (1, 1, ())
    stream.add(WorkerCancelled, "a", 1, **ended())
    apply(fleet, stream.events)
    assert (fleet.abandoned, row_of(fleet).state) == (0, WorkerState.RUNNING)


def test_worker_cancelled_while_queued_has_no_history() -> None:
    stream = Stream("a")
    stream.add(WorkerCancelled, "a", **ended(attempts=0, elapsed=0.0))
    fleet = stream.fold()
    row = row_of(fleet)
    assert (row.state, row.elapsed(5), row.last_duration, fleet.history("a")) == (
        WorkerState.CANCELLED,
        None,
        None,
        (),
    )
    assert fleet.rate.series(fleet.latest, 1) == [0]


def test_worker_timed_out_shows_cleanup_error_and_counts_for_no_rate() -> None:
    stream = Stream("a")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    stream.add(CancelRequested, "a", reason="timeout")
    stream.add(WorkerTimedOut, "a", **ended(error_type="ValueError", error="in finally"))
    fleet = stream.fold()
    assert row_of(fleet).error == "ValueError: in finally"
    assert (fleet.durations.count, fleet.rate.series(fleet.latest, 1)) == (0, [0])
    assert fleet.history("a")[0].outcome == "timed out"


def test_retry_scheduled_clears_the_cancel_reason() -> None:
    stream = Stream("a")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    stream.add(CancelRequested, "a", reason="attempt timeout")
    assert row_of(stream.fold()).state is WorkerState.CANCELLING
    stream.add(AttemptFailed, "a", **failed())
    stream.add(RetryScheduled, "a", attempt=2, delay=1.0)
    fleet = stream.fold()
    assert (row_of(fleet).state, fleet.cancel_reason("a")) == (WorkerState.BACKING_OFF, "")


def test_stack_after_injected_fault_is_empty() -> None:
    stream = Stream("a")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    stream.add(AttemptFailed, "a", **failed(stack="  File y"))
    stream.add(AttemptStarted, "a", attempt=2, bad_luck=0.1)
    assert stream.fold().stack("a") == "  File y"
    stream.add(AttemptFailed, "a", **failed(attempt=2, stack="", injected=True))
    assert stream.fold().stack("a") == ""


def test_events_of_the_run_are_kept_and_change_no_row() -> None:
    stream = Stream("a")
    stream.add(RunTimedOut, timeout=1.0, pending=1)
    stream.add(RunCancelRequested, reason="person")
    stream.add(RunFinished, states={}, attempts=0, elapsed=1.0, interrupted=True)
    fleet = Fleet()
    assert apply(fleet, stream.events) == set()
    assert fleet.run is not None
    assert fleet.timed_out is not None
    assert fleet.cancel_requested is not None
    assert fleet.finished is not None
    assert fleet.latest == 0.4


def test_logs_beyond_the_limit_are_dropped_and_counted() -> None:
    stream = Stream("a")
    for number in range(LOGS_KEPT + 5):
        worker = "a" if number == LOGS_KEPT else None
        fields = {"level": "INFO", "logger": "l", "message": f"line {number}"}
        stream.events.append(LogRecorded(seq=len(stream.events), at=0.0, worker=worker, **fields))
    fleet = stream.fold()
    assert (len(fleet.logs), fleet.logged) == (LOGS_KEPT, LOGS_KEPT + 5)
    assert [log.message for log in fleet.logs_of("a")] == [f"line {LOGS_KEPT}"]


def test_commands_refused_are_kept_and_counted() -> None:
    stream = Stream("a")
    stream.add(CommandRefused, "a", command="CancelWorker", reason="it has ended")
    fleet = stream.fold()
    assert (fleet.refused, fleet.refusals[0].reason) == (1, "it has ended")


def test_texts_equal_in_many_workers_are_one_object() -> None:
    stream = Stream("a", "b", "c", "d")
    for name in "ab":
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.1)
        stream.add(AttemptFailed, name, **failed(f"no {name[:0]}file", stack=f"  File {name[:0]}x"))
    for name in "cd":
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.1)
        stream.add(WorkerSucceeded, name, **ended(result=1000))
    fleet = stream.fold()
    assert fleet.stack("a") is fleet.stack("b")
    assert row_of(fleet, "a").error is row_of(fleet, "b").error
    assert row_of(fleet, "c").result is row_of(fleet, "d").result


def bytes_of(rows: Sequence[Row]) -> int:
    """Return the size of rows in bytes, without their names and the list and index of the Fleet."""
    blocks = {id(row.block): row.block for row in rows}.values()
    columns = [column for block in blocks for column in (block.lucks, block.started, block.ended) if column]
    extras = [row.extra for row in rows if row.extra is not None]
    return sum(map(sys.getsizeof, (*rows, *blocks, *columns, *extras)))


@pytest.mark.parametrize("is_done", [False, True])
def test_row_takes_about_a_hundred_bytes(is_done: bool) -> None:
    stream = Stream(*map(str, range(1000)))
    for name in map(str, range(1000 if is_done else 0)):
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.1)
        stream.add(WorkerSucceeded, name, **ended(result=200))
    fleet = stream.fold()
    assert bytes_of(fleet.rows) <= (110_000 if is_done else 85_000)
    assert all(row.extra is None for row in fleet.rows)


def test_row_of_worker_started_after_a_wait_drops_its_extra() -> None:
    stream = Stream("a", "b")
    for name in "ab":
        stream.add(AttemptHeld, name, attempt=1, key="", reason="rate")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    fleet = stream.fold()
    assert [row.extra is None for row in fleet.rows] == [True, False]


def test_notable_skips_blocks_of_plain_successes() -> None:
    names = [str(index) for index in range(3 * BLOCK)]
    stream = Stream(*names)
    stream.add(AttemptStarted, names[-1], attempt=1, bad_luck=0.1)
    stream.add(AttemptFailed, names[-1], **failed())
    stream.add(WorkersQueued, group="more", max_attempts=1, workers=("late",))
    stream.add(WorkerRestarted, "late", 2)
    fleet = stream.fold()
    assert list(fleet.notable()) == fleet.rows[2 * BLOCK :]


def test_logs_that_are_long_are_dropped_by_size_except_the_newest() -> None:
    stream = Stream("a")
    for message in [*("x" * (LOG_SIZE_KEPT // 4) for _ in range(9)), "last"]:
        fact: dict[str, Any] = {"worker": "a", "level": "INFO", "logger": "x", "message": message}
        stream.events.append(LogRecorded(seq=len(stream.events), at=0.0, **fact))
    fleet = stream.fold()
    assert ([len(log.message) for log in fleet.logs], fleet.logged) == ([LOG_SIZE_KEPT // 4] * 3 + [4], 10)
    fact["message"] = "x" * (2 * LOG_SIZE_KEPT)
    apply(fleet, [LogRecorded(seq=len(stream.events), at=0.0, **fact)])
    assert (len(fleet.logs), fleet.log_size) == (1, 2 * LOG_SIZE_KEPT)


def attempts_of(fleet: Fleet) -> list[tuple[int, int, str]]:
    """Return incarnation, number and outcome of each attempt in the history of worker `a`."""
    return [(record.incarnation, record.attempt, record.outcome) for record in fleet.history("a")]


def restarted(times: int) -> Stream:
    """Return the events of a service that fails two attempts in each incarnation."""
    stream = Stream("a")
    for incarnation in range(1, times + 1):
        for attempt in (1, 2):
            stream.add(AttemptStarted, "a", incarnation, attempt=attempt, bad_luck=0.25)
            stream.add(AttemptFailed, "a", incarnation, **failed("boom", attempt=attempt))
            if attempt == 1:
                stream.add(RetryScheduled, "a", incarnation, attempt=2, delay=0.5, max_attempts=2, is_asked_for=True)
        fact = {"error_type": "OSError", "error": "boom"}
        stream.add(WorkerExhausted, "a", incarnation, **ended(2), **fact)
        stream.add(RestartScheduled, "a", incarnation, delay=0.0, cause="OSError")
        stream.add(WorkerRestarted, "a", incarnation + 1)
    return stream


@pytest.mark.parametrize("times", [2, 3, 52, 53, 120])
def test_history_of_many_attempts_keeps_the_first_and_the_last(times: int) -> None:
    stream = restarted(times)
    stream.add(AttemptStarted, "a", times + 1, attempt=1, bad_luck=0.25)
    fleet = stream.fold()
    every = [(number, attempt, "OSError: boom") for number in range(1, times + 1) for attempt in (1, 2)]
    left_out = max(0, len(every) - FIRST_KEPT - LAST_KEPT)
    assert fleet.attempts_left_out("a") == left_out
    assert attempts_of(fleet) == [*every[:FIRST_KEPT], *every[FIRST_KEPT + left_out :], (times + 1, 1, "")]
    assert (fleet.attempts, fleet.restarts.total) == (2 * times + 1, times)
    for record in fleet.history("a")[:-1]:
        is_first = record.attempt == 1
        assert (record.backoff, record.is_asked_for) == ((0.5, True) if is_first else (None, False))
        assert (record.bad_luck, record.duration, record.is_struck) == (0.25, 0.1, False)


def test_memory_of_service_restarted_forever_is_bounded() -> None:
    events = restarted(4_000).events
    half = len(events) // 2
    fleet = Fleet()
    apply(fleet, events[:half])
    tracemalloc.start()
    try:
        apply(fleet, events[half:])
        grown = tracemalloc.get_traced_memory()[0] - sum(map(sys.getsizeof, fleet.waits))
    finally:
        tracemalloc.stop()
    assert len(fleet.history("a")) == FIRST_KEPT + LAST_KEPT
    assert grown < 100_000


def test_shared_texts_beyond_the_limit_are_forgotten() -> None:
    for number in range(20_000):
        share(f"error {number}")
    assert len(text._texts) <= 4_096
    first = share(f"error {len(text._texts)}")
    assert share(str(first.encode(), "ascii")) is first
