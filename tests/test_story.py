"""The story of one worker, out of the events of a run."""

from __future__ import annotations

from asyncwatch.events import AttemptStarted, CommandRefused, RunFinished, WorkersQueued, WorkerSucceeded
from asyncwatch.events.story import story

QUEUED = WorkersQueued(0, 0.0, "", 3, ("a", "b"))
FIRST = AttemptStarted(1, 0.0, "a", 1, 1, 0.5, 0.0)
OTHER = AttemptStarted(2, 0.0, "b", 1, 1, 0.5, 0.0)
REFUSED = CommandRefused(3, 0.1, "RestartWorker", "a", 2, "why not")
ENDED = WorkerSucceeded(4, 0.2, "a", 2, 1, 0.1, None)
OVER = RunFinished(5, 0.2, {}, 2, 0.2, interrupted=False)


def test_story_of_a_worker_names_its_events_in_order() -> None:
    events = [QUEUED, FIRST, OTHER, REFUSED, ENDED, OVER]
    assert story(events, "a") == ["AttemptStarted", "CommandRefused", "WorkerSucceeded"]
    assert story(events, "b") == ["AttemptStarted"]
    assert story(events, "c") == []
