"""The details of a worker, as lines of text."""

from __future__ import annotations

import pytest

from asyncwatch.events import AttemptFailed, AttemptStarted, WorkerFailed, WorkerRestarted
from asyncwatch.model.history import FIRST_KEPT, LAST_KEPT
from asyncwatch.ui.render.details import report
from tests.model.stream import Stream, ended, failed


def attempts_shown(incarnations: int, attempts: int) -> list[str]:
    """Return what the details show of the attempts of a worker that failed in each of them."""
    stream = Stream("a", max_attempts=attempts)
    for incarnation in range(1, incarnations + 1):
        if incarnation > 1:
            stream.add(WorkerRestarted, "a", incarnation)
        for attempt in range(1, attempts + 1):
            stream.add(AttemptStarted, "a", incarnation, attempt=attempt, bad_luck=0.5)
            stream.add(AttemptFailed, "a", incarnation, **failed(attempt=attempt))
        stream.add(WorkerFailed, "a", incarnation, error_type="OSError", error="boom", **ended(attempts))
    fleet = stream.fold()
    lines = ["".join(span.text for span in line) for line in report(fleet, fleet.rows[0], stream.now, 100)]
    start = next(place for place, line in enumerate(lines) if line.startswith("ATTEMPTS"))
    return [
        line if line[:1] in "i…" else line.split(" ")[0]
        for line in lines[start + 1 : lines.index("LAST TRACEBACK") - 1]
    ]


@pytest.mark.parametrize(("number", "gap"), [(1, "… 1 attempt in between"), (1_234, "… 1,234 attempts in between")])
def test_attempts_left_out_of_a_service_are_counted(number: int, gap: str) -> None:
    """They stand where they were made: after the first incarnations."""
    lines = attempts_shown(FIRST_KEPT + number + LAST_KEPT, 1)
    first = [line for incarnation in range(1, FIRST_KEPT + 1) for line in (f"incarnation {incarnation}", "1")]
    assert lines[: len(first) + 2] == [*first, gap, f"incarnation {FIRST_KEPT + number + 1}"]
    assert len(lines) == 2 * (FIRST_KEPT + LAST_KEPT) + 1


def test_attempts_left_out_within_one_incarnation_are_counted() -> None:
    """A worker may retry very often."""
    lines = attempts_shown(1, FIRST_KEPT + 40 + LAST_KEPT)
    assert lines[: FIRST_KEPT + 2] == [*"12345", "… 40 attempts in between", str(FIRST_KEPT + 41)]


def test_attempts_that_are_all_known_have_no_gap() -> None:
    """There is nothing to count."""
    assert not [line for line in attempts_shown(FIRST_KEPT + LAST_KEPT, 1) if "between" in line]
