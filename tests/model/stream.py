"""Builds lists of events with their numbers and times, as a run would emit them."""

from __future__ import annotations

from typing import Any

from asyncwatch.events import Event, RunStarted, WorkersQueued
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply


class Stream:
    """Events in the order in which they are added, a tenth of a second apart."""

    def __init__(self, *workers: str, group: str = "", max_attempts: int = 3) -> None:
        self.events: list[Event] = []
        self.now = 0.0
        self.add(
            RunStarted,
            run="demo",
            workers=len(workers),
            runner="gather",
            seed=7,
            concurrency=10,
            timeout=None,
            started_at=0.0,
        )
        self.add(WorkersQueued, group=group, max_attempts=max_attempts, workers=workers)

    def add(self, kind: type[Event], worker: str | None = None, incarnation: int = 1, **fields: Any) -> None:
        """Append an event of `kind`; one about a worker takes its name and incarnation."""
        if worker is not None:
            fields |= {"worker": worker, "incarnation": incarnation}
        self.events.append(kind(seq=len(self.events), at=self.now, **fields))
        self.now = round(self.now + 0.1, 6)

    def fold(self, fleet: Fleet | None = None) -> Fleet:
        """Apply all events so far to `fleet`, which ignores those it knows, or to a new one; return it."""
        if fleet is None:
            fleet = Fleet()
        apply(fleet, self.events)
        return fleet


def failed(error: str = "boom", *, attempt: int = 1, elapsed: float = 0.1, **fields: Any) -> dict[str, Any]:
    """Return the fields of an `AttemptFailed`: a transient `OSError` unless `fields` say otherwise."""
    defaults = {"error_type": "OSError", "transient": True, "injected": False, "stack": "  File x"}
    return defaults | {"attempt": attempt, "error": error, "elapsed": elapsed} | fields


def ended(attempts: int = 1, elapsed: float = 0.1, **fields: Any) -> dict[str, Any]:
    """Return the fields that every `WorkerEnded` has, and `fields`."""
    return {"attempts": attempts, "elapsed": elapsed} | fields
