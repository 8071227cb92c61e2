"""Journals of runs for tests of the history."""

from __future__ import annotations

from pathlib import Path

from asyncwatch.events import AttemptFailed, AttemptStarted, RunStarted, WorkerFailed, WorkersQueued, WorkerSucceeded
from asyncwatch.journal.store import Launch, RunInfo, RunStore, store_batch

SUMMARY = {"counts": {"succeeded": 8, "failed": 2, "queued": 5}, "attempts": 12, "elapsed": 4.0}

EVENTS = (
    RunStarted(0, 0.0, "jobs:job", 3, "as_completed", 7, 10, None, 100.0),
    WorkersQueued(1, 0.0, "jobs", 3, ("a", "b", "c")),
    AttemptStarted(2, 0.0, "a", 1, 1, 0.5),
    AttemptStarted(3, 0.5, "b", 1, 1, 0.5),
    WorkerSucceeded(4, 1.5, "a", 1, 1, 1.5, "A"),
    AttemptFailed(5, 2.5, "b", 1, 1, "ValueError", "no such row", False, False, 2.0, "Traceback: here", "permanent"),
    WorkerFailed(6, 2.5, "b", 1, 1, 2.0, "ValueError", "no such row"),
)
"""One worker succeeds, one fails, and one is queued."""


def record(
    folder: Path,
    run_id: str,
    *,
    started: float = 100.0,
    status: int | None = 0,
    is_interrupted: bool = False,
    name: str = "jobs:job",
    where: str = "/data",
    is_open: bool = False,
) -> RunStore:
    """Record a run. Without a status it has no end."""
    store = RunStore.create(folder, RunInfo(run_id, run_id, "", name))
    values = {"number": 0, "pid": 7, "host": "", "command": ["jobs:job", "-q"], "seed": 1, "version": "1"}
    settings = {"rate": "5/s"}
    store.begin(Launch(started=started, folder=where, settings=settings, **values))  # type: ignore[arg-type]
    store.write(batches=[store_batch(EVENTS)])
    if status is not None:
        store.end(started + 5.0, status, {**SUMMARY, "is_interrupted": is_interrupted})
    if not is_open:
        store.close()
    return store
