"""Requests that were asked about are for the workers as they are when the answer comes."""

from __future__ import annotations

from asyncwatch.commands import CancelAll, CancelWorker, GiveUp, RestartWorker, RetryNow
from asyncwatch.events import WorkerState
from asyncwatch.model.rows import Row
from asyncwatch.ui.actions import renewed
from tests.rows import a_row


def row(name: str, state: WorkerState) -> Row:
    """Return the row of a worker in its third incarnation."""
    return a_row(name, state=state, incarnation=3)


ROWS = {
    "runs": row("runs", WorkerState.RUNNING),
    "waits": row("waits", WorkerState.BACKING_OFF),
    "failed": row("failed", WorkerState.FAILED),
}


def test_requests_are_for_the_present_incarnation() -> None:
    """A worker that was restarted while the question stood is meant all the same."""
    asked = [CancelWorker("runs", 1), RestartWorker("failed", 1), RetryNow("waits", 2), GiveUp("waits", 2), CancelAll()]
    assert renewed(asked, ROWS.get) == [
        CancelWorker("runs", 3),
        RestartWorker("failed", 3),
        RetryNow("waits", 3),
        GiveUp("waits", 3),
        CancelAll(),
    ]


def test_requests_that_time_has_answered_are_left_out() -> None:
    """Nobody is asked to cancel who has ended, to hurry who does not wait, or to act on who is gone."""
    asked = [CancelWorker("failed", 3), RetryNow("runs", 3), GiveUp("failed", 3), RestartWorker("gone", 1)]
    assert renewed(asked, ROWS.get) == []
