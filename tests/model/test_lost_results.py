"""Results that JSON cannot hold."""

from __future__ import annotations

import pytest

from asyncwatch.events import AttemptStarted, Event, WorkerRestarted, WorkersQueued, WorkerSucceeded
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.model.summary import summarize


@pytest.mark.parametrize("incarnation", [1, 2])
def test_row_says_that_a_result_is_no_json(incarnation: int) -> None:
    fleet = Fleet()
    started: list[Event] = [AttemptStarted(1, 0.1, "a", 1, 1, 0.5)]
    if incarnation == 2:
        started += [WorkerSucceeded(2, 0.2, "a", 1, 1, 0.1, 7), WorkerRestarted(3, 0.3, "a", 2)]
    apply(fleet, [WorkersQueued(0, 0.0, "", 3, ("a",)), *started])
    apply(fleet, [WorkerSucceeded(9, 0.5, "a", incarnation, 1, 0.4, "<object>", is_repr=True)])
    assert fleet.by_name["a"].result == "<object> (no JSON: a resume runs it again)"
    assert (fleet.lost_results, summarize(fleet).lost_results) == (1, 1)


def test_result_that_a_restart_makes_anew_is_not_lost() -> None:
    fleet = Fleet()
    lost = WorkerSucceeded(2, 0.2, "a", 1, 1, 0.1, "<object>", is_repr=True)
    apply(fleet, [WorkersQueued(0, 0.0, "", 3, ("a",)), AttemptStarted(1, 0.1, "a", 1, 1, 0.5), lost])
    apply(fleet, [WorkerRestarted(3, 0.3, "a", 2)])
    assert fleet.lost_results == 0
    apply(fleet, [AttemptStarted(4, 0.4, "a", 2, 1, 0.5), WorkerSucceeded(5, 0.5, "a", 2, 1, 0.1, 7)])
    assert fleet.lost_results == 0
