"""How a service is shown: whether it is up, since when, and its crashes. Pure."""

from __future__ import annotations

import time

from asyncwatch import text as units
from asyncwatch.events import WorkerState
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.rows import Row
from asyncwatch.policies.restart import MINUTE, TEN_MINUTES
from asyncwatch.ui.render.columns import Layout
from asyncwatch.ui.render.format import sparkline

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


def health(fleet: Fleet, row: Row, now: float) -> tuple[str, str]:
    """Return in a word how a service is, and the style of that."""
    if row.is_settled:
        if row.state.is_trouble:
            return ("gave up" if fleet.tree.is_at_limit(row) else "down"), "error"
        return ("done" if row.state is WorkerState.SUCCEEDED else "stopped"), "muted"
    if fleet.is_flapping(row, now):
        return f"{FLAPPING} flapping", "warning"
    if row.failed_polls:
        return "failing", "error"
    if row.state is not WorkerState.RUNNING:
        return _NOT_RUNNING.get(row.state, "held back"), "warning"
    if fleet.is_recovering(row, now):
        return "recovering", "warning"
    return ("up", "running") if row.is_ready else ("starting", "muted")


_NOT_RUNNING = {
    WorkerState.QUEUED: "starting",
    WorkerState.BACKING_OFF: "failing",
    WorkerState.RESTARTING: "down",
    WorkerState.CANCELLING: "stopping",
}


def cells_of(fleet: Fleet, row: Row, now: float, layout: Layout) -> dict[str, tuple[str, str]]:
    """Return the text and the style of each column that only services have; none for a worker of a batch."""
    if not fleet.tree.is_service(row):
        return {}
    widths = dict(layout.columns)
    cells: dict[str, tuple[str, str]] = {}
    if "health" in widths:
        cells["health"] = health(fleet, row, now)
    is_there = not row.is_settled and row.state is not WorkerState.RESTARTING
    if (width := widths.get("since")) and row.first_started_at is not None and is_there:
        moment = clock_at(fleet, row.first_started_at, now=now)
        cells["since"] = _fitting(width, f"{moment} ({ago(now - row.first_started_at)})", moment), ""
    history = fleet.restarts.by_worker.get(row.name)
    if (width := widths.get("restarts")) and row.incarnation > 1:
        cells["restarts"] = _restarts(row, [] if history is None else history.last_hour(now), width), ""
    if (width := widths.get("crash")) and history is not None and history.crashes:
        at = history.crashes[-1].at
        moment = clock_at(fleet, at, now=now)
        cells["crash"] = _fitting(width, f"{moment} ({ago(now - at)})", moment), "muted"
    if "poll" in widths and row.is_poller and row.retry_at is not None:
        cells["poll"] = f"in {ago(row.retry_at - now)}" if row.retry_at > now else "now", ""
    return cells


def _restarts(row: Row, last_hour: list[int], width: int) -> str:
    """Return how often a service was restarted, with the last hour in twelve blocks if there is room."""
    number = f"{row.incarnation - 1:,}"
    shown = f"{number:>5} {sparkline(last_hour)}"
    return shown if any(last_hour) and len(shown) <= width else number


def _fitting(width: int, *choices: str) -> str:
    return next((choice for choice in choices if len(choice) <= width), choices[-1])


def state_style(fleet: Fleet, row: Row, now: float) -> str:
    """Return another style than that of its state for a service that runs, but cannot be relied on; else empty."""
    return "warning" if row.state is WorkerState.RUNNING and fleet.is_flapping(row, now) else ""
