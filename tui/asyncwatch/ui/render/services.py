"""How a service is shown: whether it is up, since when, and its crashes. Pure."""

from __future__ import annotations

import time

from asyncwatch import text as units
from asyncwatch.events import WorkerState
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.rows import Row
from asyncwatch.policies.restart import MINUTE, TEN_MINUTES

FLAPPING = "≈"
"""Marks a service that crashes again and again."""


def clock_at(fleet: Fleet, at: float, *, now: float | None = None) -> str:
    """Return the local time of a moment of the run, with its date if that is another day than `now`.

    `at` and `now` are in seconds since the run started.
    """
    started_at = 0.0 if fleet.run is None else fleet.run.started_at
    moment = time.localtime(started_at + at)
    today = moment if now is None else time.localtime(started_at + now)
    return time.strftime("%H:%M:%S" if moment[:3] == today[:3] else "%b %d %H:%M", moment)


def ago(seconds: float) -> str:
    """Return a time span in whole units: `12 s`, `3m 20s`, `4h 10m`."""
    seconds = max(0.0, seconds)
    return f"{seconds:.0f} s" if seconds < 59.5 else units.elapsed(round(seconds))


def flapping_note(fleet: Fleet, row: Row, now: float, width: int = 80) -> str:
    """Return how often a flapping service was restarted of late; empty for any other. A small `width` abbreviates."""
    if not fleet.is_flapping(row, now):
        return ""
    history = fleet.restarts.by_worker.get(row.name)
    times = [] if history is None else [crash.at for crash in history.crashes if crash.delay is not None]
    number, period = sum(at > now - MINUTE for at in times), "the last minute"
    if number <= fleet.flapping.per_minute:
        number, period = sum(at > now - TEN_MINUTES for at in times), "ten minutes"
    choices = (f"flapping: {units.count(number, 'restart')} in {period}", f"flapping, {number:,}×", "flapping")
    return next((choice for choice in choices if len(choice) <= width), choices[-1])


def state_style(fleet: Fleet, row: Row, now: float) -> str:
    """Return another style than that of its state for a service that runs, but cannot be relied on; else empty."""
    return "warning" if row.state is WorkerState.RUNNING and fleet.is_flapping(row, now) else ""
