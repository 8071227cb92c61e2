"""Throttled keys and attempts, folded from their events."""

from __future__ import annotations

import math

import pytest

from asyncwatch.events import (
    AttemptFailed,
    AttemptHeld,
    AttemptStarted,
    KeyLimitChanged,
    KeyReleased,
    KeyThrottled,
    PollFailed,
    RetryRefused,
    RetryScheduled,
    WorkerExhausted,
    WorkerRestarted,
    WorkerState,
    WorkerSucceeded,
)
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.limits import Keys, hold_ups, learned, waiting_by_key
from asyncwatch.model.rows import Row
from asyncwatch.model.summary import summarize, summary_lines
from asyncwatch.model.view import columns
from asyncwatch.text import cells, short_rate
from tests.model.stream import Stream, ended, failed


def throttled(stream: Stream, worker: str, attempt: int = 1, key: str = "h") -> None:
    """Let an attempt be refused, and the next one wait for the key."""
    stream.add(AttemptStarted, worker, attempt=attempt, bad_luck=0.1)
    stream.add(AttemptFailed, worker, **failed("429", attempt=attempt, error_class="throttled"))
    stream.add(AttemptHeld, worker, attempt=attempt + 1, key=key, reason="throttled")


def test_throttled_attempts_are_no_retries() -> None:
    stream = Stream("a")

    def row() -> Row:
        (only,) = stream.fold().rows
        assert columns.is_in_trouble([only]) == [only.is_in_trouble]
        assert columns.retries([only]) == [only.retries]
        assert columns.retry_rank([only]) == [only.retry_rank]
        return only

    def retries_and_throttled() -> tuple[int, int]:
        return row().retries, row().throttled

    throttled(stream, "a", 1)
    assert retries_and_throttled() == (0, 1)
    assert (row().state, row().held, row().is_in_trouble) == (WorkerState.WAITING, "throttled h", False)
    stream.add(AttemptHeld, "a", attempt=2, key="h", reason="share")
    throttled(stream, "a", 2)
    assert retries_and_throttled() == (0, 2)
    stream.add(AttemptStarted, "a", attempt=3, bad_luck=0.1)
    assert retries_and_throttled() == (0, 2)
    assert not row().is_in_trouble
    stream.add(AttemptFailed, "a", **failed("500", attempt=3, error_class="server"))
    stream.add(RetryScheduled, "a", attempt=4, delay=0.5)
    assert retries_and_throttled() == (0, 2)
    throttled(stream, "a", 4)
    assert retries_and_throttled() == (1, 3)
    assert row().is_in_trouble
    stream.add(AttemptStarted, "a", attempt=5, bad_luck=0.1)
    assert retries_and_throttled() == (1, 3)
    assert row().is_in_trouble
    stream.add(WorkerSucceeded, "a", **ended(attempts=5))
    assert retries_and_throttled() == (1, 3)
    stream.add(WorkerRestarted, "a", 2)
    assert retries_and_throttled() == (0, 0)


def test_throttled_attempt_whose_key_goes_on_is_no_failure() -> None:
    stream = Stream("a")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    stream.add(AttemptFailed, "a", **failed("429", error_class="throttled"))
    stream.add(RetryScheduled, "a", attempt=2, delay=0.5, is_throttled=True)
    stream.add(AttemptStarted, "a", attempt=2, bad_luck=0.1)
    assert [(row.retries, row.throttled) for row in stream.fold().rows] == [(0, 1)]


def test_throttled_attempt_that_backs_off_is_a_failure() -> None:
    """Without throttling by key, or if bad luck injected the refusal."""
    stream = Stream("backs off", "struck")
    stream.add(AttemptStarted, "backs off", attempt=1, bad_luck=0.1)
    stream.add(AttemptFailed, "backs off", **failed("429", error_class="throttled"))
    stream.add(RetryScheduled, "backs off", attempt=2, delay=0.5)
    stream.add(AttemptHeld, "backs off", attempt=2, key="", reason="budget")
    stream.add(AttemptStarted, "struck", attempt=1, bad_luck=0.99)
    stream.add(AttemptFailed, "struck", **failed("429", error_class="throttled", injected=True))
    stream.add(AttemptHeld, "struck", attempt=2, key="h", reason="rate")
    for name in ("backs off", "struck"):
        stream.add(AttemptStarted, name, attempt=2, bad_luck=0.1)
    assert [(row.retries, row.throttled) for row in stream.fold().rows] == [(1, 0), (1, 0)]


def test_poller_held_after_a_throttled_poll_counts_each_poll_alone() -> None:
    stream = Stream("a")
    throttled(stream, "a", 1)
    stream.add(AttemptStarted, "a", attempt=2, bad_luck=0.1)
    stream.add(AttemptFailed, "a", **failed("429", attempt=2, error_class="throttled"))
    stream.add(PollFailed, "a", error_type="OSError", error="429", elapsed=0.2, delay=1.0, failures=1)
    stream.add(AttemptHeld, "a", attempt=1, key="h", reason="throttled")
    (row,) = stream.fold().rows
    assert row.throttled == 1
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    (row,) = stream.fold().rows
    assert row.throttled == 0


def test_worker_that_only_waited_for_its_share_has_a_small_row_again() -> None:
    stream = Stream("a")
    stream.add(AttemptHeld, "a", attempt=1, key="h", reason="share")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    (row,) = stream.fold().rows
    assert row.extra is None


def test_key_is_held_and_released_and_its_limits_are_known() -> None:
    stream = Stream()
    stream.now = 2.0
    stream.add(KeyThrottled, key="h", seconds=1.5, retry_after=1.0, refused=10)
    known = stream.fold().keys.by_key["h"]
    assert (known.is_held, known.held_until, known.retry_after, known.refused) == (True, 3.5, 1.0, 10)
    stream.add(KeyReleased, key="h")
    stream.add(KeyLimitChanged, key="h", limit=7, rate=4.9, in_flight=3, refused=11)
    known = stream.fold().keys.by_key["h"]
    assert (known.is_held, known.is_limiting, known.limit, known.rate, known.in_flight) == (False, True, 7, 4.9, 3)
    stream.add(KeyThrottled, key="h", seconds=None, retry_after=None, refused=11)
    known = stream.fold().keys.by_key["h"]
    assert (known.is_held_by_person, known.held_until, known.refused) == (True, math.inf, 11)
    stream.add(KeyReleased, key="h")
    stream.add(KeyLimitChanged, key="h", limit=None, rate=None, in_flight=0, refused=11, tolerated=0.2)
    assert learned(stream.fold().keys.by_key["h"]) == ["refuses 20% at any rate"]
    stream.add(KeyLimitChanged, key="h", limit=None, rate=None, in_flight=0, refused=11)
    known = stream.fold().keys.by_key["h"]
    assert (known.is_held_by_person, known.is_limiting) == (False, False)


def test_refused_attempts_are_counted_on_if_the_engine_had_dropped_the_key() -> None:
    stream = Stream()
    for refused in (3, 5, 1, 2):
        stream.add(KeyThrottled, key="h", seconds=1.0, retry_after=None, refused=refused)
    keys = stream.fold().keys
    assert (keys.by_key["h"].refused, keys.refused) == (7, 7)


def test_refused_attempts_are_counted_before_the_key_reports_them() -> None:
    stream = Stream(*"abc")
    stream.add(KeyThrottled, key="h", seconds=1.0, retry_after=None, refused=1)
    for name in "abc":
        throttled(stream, name)
    keys = stream.fold().keys
    assert (keys.by_key["h"].refused, keys.refused) == (3, 3)
    stream.add(KeyLimitChanged, key="h", limit=None, rate=None, in_flight=0, refused=4)
    keys = stream.fold().keys
    assert (keys.by_key["h"].refused, keys.refused) == (4, 4)


def test_waiting_workers_are_counted_and_grouped_by_key() -> None:
    stream = Stream("a", "b", "c", "d")
    throttled(stream, "a")
    throttled(stream, "b", key="i")
    stream.add(AttemptHeld, "c", attempt=1, key="h", reason="share")
    stream.add(AttemptHeld, "d", attempt=1, key="", reason="budget")
    fleet = stream.fold()
    assert dict(fleet.keys.waiting("throttled")) == {"h": 1, "i": 1}
    assert [fleet.keys.total(reason) for reason in ("throttled", "share", "budget", "circuit")] == [2, 1, 1, 0]
    assert [fleet.keys.waiting_for(key) for key in "hi"] == [2, 1]
    assert {key: [row.name for row in rows] for key, rows in waiting_by_key(fleet.rows).items()} == {
        "h": ["a", "c"],
        "i": ["b"],
    }
    assert [fleet.held_by(row) for row in fleet.rows] == ["throttled h", "throttled i", "share h", "budget"]
    stream.add(AttemptStarted, "a", attempt=2, bad_luck=0.1)
    stream.add(WorkerExhausted, "b", **ended(error_type="OSError", error="429"))
    stream.add(WorkerRestarted, "c", 2)
    assert (fleet := stream.fold()).keys.total("throttled") == 0
    assert fleet.keys.total("share") == 0
    assert dict(fleet.keys.waiting("throttled")) == {}


@pytest.mark.parametrize("key", ["a b", " a", "a ", " "])
def test_key_may_have_spaces(key: str) -> None:
    stream = Stream("a")
    throttled(stream, "a", key=key)
    stream.add(KeyThrottled, key=key, seconds=1.0, retry_after=1.0, refused=1)
    keys = stream.fold().keys
    assert list(keys.by_key) == [key]
    assert keys.waiting_for(key) == 1


def test_keys_that_nothing_waits_for_are_kept_up_to_a_number() -> None:
    stream = Stream("a")
    stream.add(KeyThrottled, key="by hand", seconds=None, retry_after=None, refused=0)
    throttled(stream, "a", key="waits")
    for number in range(10):
        stream.add(KeyThrottled, key=f"{number}", seconds=1.0, retry_after=1.0, refused=2)
    fleet = Fleet()
    fleet.keys = Keys(kept=5)
    known = stream.fold(fleet).keys.by_key
    assert {"by hand", "waits", "9"} <= known.keys()
    assert len(known) == 5
    assert fleet.keys.refused == 21


def test_hold_ups_say_for_which_keys_workers_wait() -> None:
    stream = Stream("a", "b")
    throttled(stream, "a", key="a.example")
    throttled(stream, "b", key="https://user:secret@host/" + "long" * 20)
    stream.add(KeyThrottled, key="a.example", seconds=2.0, retry_after=2.0, refused=1)
    fleet = stream.fold()
    first, second = ("".join(parts) for parts in hold_ups(fleet.keys, fleet.latest))
    assert first == "a.example asked for 2 s, 2 s left, 1 wait"
    assert second.startswith("https://***@host/long")
    assert second.endswith("…: 0 in flight, 1 wait")
    assert "secret" not in second
    assert cells(second) < 65
    assert hold_ups(Stream("a").fold().keys, 0.0) == []


@pytest.mark.parametrize("asked", [1e9, 1e300, math.inf])
def test_hold_ups_name_a_wait_of_any_length(asked: float) -> None:
    stream = Stream("a")
    throttled(stream, "a")
    stream.add(KeyThrottled, key="h", seconds=1e9, retry_after=asked, refused=1)
    fleet = stream.fold()
    assert hold_ups(fleet.keys, fleet.latest) == [("h asked for over a year, over a year left", ", 1 wait")]


def test_summary_names_the_keys_that_refused_most() -> None:
    stream = Stream("a")
    for key, refused in (("a.example", 300), ("b.example", 40)):
        stream.add(KeyThrottled, key=key, seconds=1.0, retry_after=1.0, refused=refused)
    stream.add(KeyLimitChanged, key="a.example", limit=None, rate=6.96, in_flight=0, refused=1300)
    stream.add(KeyLimitChanged, key="b.example", limit=None, rate=None, in_flight=0, refused=40, tolerated=0.2)
    text = "1,340 attempts were throttled: a.example 1,300 (7/s learned), b.example 40 (refuses 20% at any rate)"
    assert text in summary_lines(summarize(stream.fold()))
    for number in range(6):
        stream.add(KeyThrottled, key=f"{number}.example", seconds=1.0, retry_after=1.0, refused=2)
    summary = summarize(stream.fold())
    assert "1,352 attempts were throttled" in "\n".join(summary_lines(summary))
    assert any(line.endswith("2.example 2, others 6") for line in summary_lines(summary))
    assert all(cells(line) <= 40 for line in summary_lines(summary, 40))


def test_summary_of_a_run_without_throttled_attempts_has_no_such_line() -> None:
    assert not any("throttled" in line for line in summary_lines(summarize(Stream("a").fold())))


def test_summary_says_that_a_key_was_throttled_for_too_long() -> None:
    stream = Stream("a")
    throttled(stream, "a")
    stream.add(RetryRefused, "a", attempt=2, reason="patience")
    stream.add(WorkerExhausted, "a", **ended(error_type="OSError", error="429", refusal="patience"))
    assert any(
        "a retry was refused: throttled for too long" in line for line in summary_lines(summarize(stream.fold()))
    )


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(1234.0, "1,234/s"), (6.96, "7/s"), (1.54, "1.5/s"), (1.0, "1/s"), (1 / 3, "20/min"), (100 / 3600, "1.7/min"),
     (0.01, "36/h"), (0.0002, "0.72/h")],
)  # fmt: skip
def test_short_rate_has_the_unit_that_fits(per_second: float, text: str) -> None:
    assert short_rate(per_second) == text
