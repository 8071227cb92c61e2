"""What the states of workers have in common."""

from __future__ import annotations

import pytest

from asyncwatch.events import WorkerState

FLAGS = ("is_settled", "is_failure", "is_trouble", "is_stopped")


@pytest.mark.parametrize(
    ("state", "flags"),
    [
        (WorkerState.QUEUED, ""),
        (WorkerState.RUNNING, ""),
        (WorkerState.BACKING_OFF, ""),
        (WorkerState.RESTARTING, ""),
        (WorkerState.WAITING, ""),
        (WorkerState.CANCELLING, ""),
        (WorkerState.UNRESPONSIVE, "is_settled is_trouble is_stopped"),
        (WorkerState.SUCCEEDED, "is_settled"),
        (WorkerState.FAILED, "is_settled is_failure is_trouble"),
        (WorkerState.EXHAUSTED, "is_settled is_failure is_trouble"),
        (WorkerState.CANCELLED, "is_settled is_stopped"),
        (WorkerState.TIMED_OUT, "is_settled is_trouble is_stopped"),
    ],
)
def test_state_belongs_to_these_groups(state: WorkerState, flags: str) -> None:
    assert " ".join(flag for flag in FLAGS if getattr(state, flag)) == flags
