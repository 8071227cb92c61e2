"""The summary of a run and its text."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from asyncwatch.events import (
    AttemptFailed,
    AttemptStarted,
    PollFailed,
    RestartScheduled,
    RetryRefused,
    RunFinished,
    SupervisorStarted,
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
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.summary import summarize, summary_lines
from asyncwatch.text import cells
from tests.model.stream import Stream, ended, failed


def finished_run() -> Fleet:
    """Return a Fleet of three workers: one fast, one slow, one failed with a nasty name."""
    stream = Stream("fast", "slow", "ba\x1bd")
    stream.add(AttemptStarted, "slow", attempt=1, bad_luck=0.1)
    stream.add(AttemptStarted, "fast", attempt=1, bad_luck=0.1)
    stream.add(WorkerSucceeded, "fast", **ended(result=1))
    stream.add(AttemptStarted, "ba\x1bd", attempt=1, bad_luck=0.1)
    stream.add(AttemptFailed, "ba\x1bd", **failed("no such file", transient=False))
    stream.add(WorkerFailed, "ba\x1bd", **ended(error_type="OSError", error="no such file"))
    stream.add(WorkerSucceeded, "slow", **ended(result=2))
    stream.add(RunFinished, states={}, attempts=3, elapsed=1.5, interrupted=True)
    return stream.fold()


def test_summary_has_counts_slowest_workers_and_errors() -> None:
    summary = summarize(finished_run(), slowest=2)
    assert summary.counts == {WorkerState.SUCCEEDED: 2, WorkerState.FAILED: 1}
    assert (summary.workers, summary.attempts, summary.elapsed, summary.is_interrupted) == (3, 3, 0.8, True)
    assert [slow.name for slow in summary.slowest] == ["slow", "ba\x1bd"]
    (group,) = summary.errors
    assert (group.kind, group.workers, group.example_error) == ("OSError: no such file", 1, "OSError: no such file")


def test_what_was_done_before_stands_beside_what_the_run_did() -> None:
    fleet = finished_run()
    assert fleet.run is not None
    fleet.run = msgspec.structs.replace(fleet.run, done_before=81_204)
    assert ", 81,204 done before; " in summary_lines(summarize(fleet))[0]


def test_errors_are_grouped_by_kind_and_by_status() -> None:
    stream = Stream("a", "b", "c")
    for name, status in (("a", 404), ("b", 404), ("c", 503)):
        text = f"{status}, message='Oh', url='http://h/{name}'"
        stream.add(WorkerFailed, name, **ended(error_type="ClientResponseError", error=text))
    assert summary_lines(summarize(stream.fold()))[-2:] == [
        "  2 × ClientResponseError: 404 Oh  (e.g. worker a: ClientResponseError: 404, message='Oh', url='http://h/a')",
        "  1 × ClientResponseError: 503 Oh  (worker c: ClientResponseError: 503, message='Oh', url='http://h/c')",
    ]


LONG = "https://example.com/" + "日本" * 30


def long_run() -> Fleet:
    """Return a Fleet with a long name and long errors."""
    stream = Stream(LONG, "b")
    stream.add(AttemptStarted, LONG, attempt=1, bad_luck=0.1)
    stream.add(AttemptStarted, "b", attempt=1, bad_luck=0.1)
    stream.add(WorkerFailed, LONG, **ended(error_type="OSError", error=f"no {LONG} {'and so on ' * 15}17"))
    stream.add(WorkerSucceeded, "b", **ended())
    return stream.fold()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_lines_fit_the_width_and_show_the_states(width: int) -> None:
    lines = summary_lines(summarize(long_run()), width)
    assert max(map(cells, lines)) <= width
    slowest = lines[lines.index("slowest") + 1 : lines.index("errors") - 1]
    assert [line.split()[-1] for line in slowest] == ["failed", "succeeded"]
    assert len({cells(line.rpartition("  ")[0]) for line in slowest}) == 1


def test_first_line_breaks_between_counts_only() -> None:
    assert summary_lines(summarize(finished_run()), 50)[:2] == [
        "demo (gather, seed 7) interrupted: 2 succeeded,",
        "  1 failed; 3 attempts in 800 ms",
    ]


def test_lines_without_a_width_are_not_cut() -> None:
    text = "\n".join(summary_lines(summarize(long_run())))
    assert f"  {LONG}  failed" in text
    assert f"{'and so on ' * 15}17)" in text


def test_abandoned_incarnations_are_listed_with_their_place() -> None:
    stream = Stream("a", "b")
    for name in "ab":
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.1)
        stuck: dict[str, Any] = {"attempts": 1, "elapsed": 1.0, "stack": f"/srv/{name}.py:7 spin", "cancels": 1}
        stream.add(WorkerUnresponsive, name, **stuck)
    stream.add(WorkerRestarted, "a", 2)
    lines = summary_lines(summarize(stream.fold()))
    start = lines.index("2 abandoned: cancelled, still running")
    assert lines[start + 1 : start + 3] == ["  a: /srv/a.py:7 spin", "  b: /srv/b.py:7 spin"]


def test_timed_out_workers_are_named() -> None:
    stream = Stream(*"abc")
    for name in "abc":
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.1)
    for name in "ca":
        stream.add(WorkerTimedOut, name, **ended())
    lines = summary_lines(summarize(stream.fold()))
    assert lines[lines.index("timed out") + 1 :][:2] == ["  a, c", ""]


def test_workers_that_never_started_are_counted_apart() -> None:
    stream = Stream(*"abcde")
    for name in "ab":
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.1)
    stream.add(WorkerTimedOut, "a", **ended())
    stream.add(WorkerCancelled, "b", **ended())
    stream.add(WorkerTimedOut, "c", **ended(0))
    stream.add(WorkerCancelled, "d", **ended(0))
    summary = summarize(stream.fold())
    assert (summary.not_started, summary.timed_out) == (2, ("a",))
    assert "2 cancelled, 2 timed out (2 not started); " in summary_lines(summary)[0]


def test_timed_out_workers_beyond_fifty_are_counted() -> None:
    names = [f"https://example.org/{n}" for n in range(60)]
    stream = Stream(*names)
    for name in names:
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.1)
        stream.add(WorkerTimedOut, name, **ended())
    lines = summary_lines(summarize(stream.fold()), 80)
    shown = lines[lines.index("timed out") + 1 :]
    assert max(map(len, lines)) <= 80
    assert shown[-1].endswith("and 10 more")
    assert all(line.startswith("  ") for line in shown)


def test_stopped_workers_are_not_among_the_slowest() -> None:
    stream = Stream(*"abcde")
    for name in "abcde":
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.1)
    stream.add(WorkerCancelled, "a", **ended())
    stream.add(WorkerTimedOut, "b", **ended())
    stream.add(WorkerUnresponsive, "c", **ended(stack="", cancels=1))
    stream.add(WorkerSucceeded, "d", **ended())
    assert [slow.name for slow in summarize(stream.fold()).slowest] == ["d", "e"]


def test_lines_escape_control_characters() -> None:
    lines = summary_lines(summarize(finished_run(), slowest=2))
    assert lines == [
        "demo (gather, seed 7) interrupted: 2 succeeded, 1 failed; 3 attempts in 800 ms",
        "",
        "slowest",
        "  600 ms  slow     succeeded",
        r"  200 ms  ba\x1bd  failed",
        "",
        "errors",
        r"  1 × OSError: no such file  (worker ba\x1bd)",
    ]


def test_elapsed_ends_when_the_last_worker_settled() -> None:
    stream = Stream("a")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    stream.add(WorkerSucceeded, "a", **ended(result=1))
    stream.now = 29.0
    stream.add(RunFinished, states={}, attempts=1, elapsed=29.0, interrupted=False)
    assert summarize(stream.fold()).elapsed == 0.3


def test_elapsed_of_run_left_unfinished_ends_when_it_was_left() -> None:
    stream = Stream("a")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    fleet = stream.fold()
    fleet.left_at = 7.2
    summary = summarize(fleet)
    assert (summary.elapsed, summary.slowest[0].elapsed) == (7.2, 7.0)


def test_most_restarted_workers_are_listed_with_their_last_cause() -> None:
    stream = Stream("a", "b", "c")
    for name, times in (("a", 2), ("b", 11), ("c", 1)):
        for number in range(times):
            stream.add(RestartScheduled, name, number + 1, delay=0.0, cause=f"OSError: port {number}")
            stream.add(WorkerRestarted, name, number + 2)
    summary = summarize(stream.fold(), restarted=2)
    assert summary_lines(summary)[2:] == [
        "restarts",
        "  11 × b  queued  last after OSError: port …",
        "   2 × a  queued  last after OSError: port …",
        "  and 1 of other workers",
    ]
    assert "0 attempts, 14 restarts in" in summary_lines(summary)[0]


def test_pollers_with_most_failed_polls_are_listed_with_their_last_error() -> None:
    stream = Stream("a", "b")
    for name, times in (("a", 1), ("b", 2)):
        for number in range(times):
            stream.add(AttemptStarted, name, attempt=1, bad_luck=0.5)
            facts: dict[str, Any] = {"error_type": "OSError", "error": f"port {number}", "elapsed": 0.1, "delay": 1.0}
            stream.add(PollFailed, name, failures=number + 1, **facts)
    stream.add(WorkerCancelled, "a", **ended())
    lines = summary_lines(summarize(stream.fold()))
    assert lines[0].startswith(
        "demo (gather, seed 7) interrupted: 1 running, 1 cancelled; 3 attempts, 3 failed polls in"
    )
    start = lines.index("failed polls")
    assert lines[start + 1 : start + 3] == [
        "  2 × b  running    last with OSError: port …",
        "  1 × a  cancelled  last with OSError: port …",
    ]


def test_restarts_without_a_cause_of_their_own_are_counted_apart() -> None:
    stream = Stream("a", "b")
    stream.add(RestartScheduled, "a", delay=0.0, cause="OSError")
    stream.add(WorkerRestarted, "a", 2)
    stream.add(WorkerRestarted, "b", 2)
    lines = summary_lines(summarize(stream.fold()))
    assert "0 attempts, 2 restarts in" in lines[0]
    assert lines[3:] == [
        "  1 × a  queued  last after OSError",
        "  and 1 by hand, with another worker or with a supervisor",
    ]


def test_workers_that_have_not_started_are_not_among_the_slowest() -> None:
    stream = Stream("queued", "first", "second", "last")
    for name in ("second", "first"):
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.1)
    assert [slow.name for slow in summarize(stream.fold()).slowest] == ["second", "first"]


def test_services_are_not_among_the_slowest() -> None:
    stream = Stream()
    flags: dict[str, Any] = {"max_restarts": 1, "within": 5.0, "auto_shutdown": "never"}
    stream.add(SupervisorStarted, name="root", parent="", strategy="one_for_one", **flags)
    stream.add(WorkersQueued, group="root", max_attempts=1, workers=("service",))
    stream.add(WorkersQueued, group="batch", max_attempts=1, workers=("work",))
    for name in ("service", "work"):
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.1)
        stream.add(WorkerFailed, name, **ended(error_type="OSError", error=""))
    assert [slow.name for slow in summarize(stream.fold()).slowest] == ["work"]


def test_errors_are_listed_with_their_place_and_refused_retries() -> None:
    stream = Stream("a", "b", "c")
    stack = '  File "/srv/shop/jobs.py", line 3, in fetch\n    row["price"]\n'
    for name in ("a", "b", "c"):
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.1)
        stream.add(AttemptFailed, name, **failed("down", stack=stack))
        if name != "c":
            stream.add(RetryRefused, name, attempt=2, reason="retry budget")
        stream.add(WorkerExhausted, name, **ended(error_type="OSError", error="down"))
    assert summary_lines(summarize(stream.fold()))[-1] == (
        "  3 × OSError: down  (e.g. worker a, at jobs.py:3 fetch; a retry was refused to 2: retry budget)"
    )


def test_summary_of_run_without_events() -> None:
    assert summary_lines(summarize(Fleet())) == [
        "run stopped before its first attempt: no workers; 0 attempts in 0.0 ms"
    ]


def test_long_error_is_wrapped_and_not_cut() -> None:
    words = [f"reason{n}" for n in range(25)]
    stream = Stream("a")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.1)
    stream.add(WorkerFailed, "a", **ended(error_type="ValueError", error=" ".join(words)))
    lines = summary_lines(summarize(stream.fold()), 60)
    assert max(map(len, lines)) <= 60
    shown = " ".join(lines[lines.index("errors") :]).split()
    assert set(words) <= {word.strip("():;,") for word in shown}
