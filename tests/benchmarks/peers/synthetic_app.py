"""The real dashboard over a synthetic run with 10,000 events a second, made in another thread as the engine does.

`--frames FILE` writes what each frame cost: the seconds that the UI thread spent drawing the scene and painting the
changes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from textual.screen import Screen

import asyncwatch.ui.app
from asyncwatch.commands import Command, Statistics, StopRun
from asyncwatch.engine.outbox import Listener
from asyncwatch.events import Batch, RunFinished
from asyncwatch.process import infrequent_gc, short_switch_interval
from asyncwatch.ui.app import AsyncwatchApp
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.screens.fleet import FleetScreen
from asyncwatch.ui.widgets.fleet_table import FleetTable
from tests.benchmarks.peers.frame_timer import SETTLING, FrameTimer
from tests.benchmarks.synthetic_run import BUSY, NOW, SyntheticRun

PER_SECOND = 10_000
"""Events."""


class SyntheticController:
    """Controller without an engine: emits the live events of a run until it is stopped or `seconds` are over."""

    def __init__(self, run: SyntheticRun, seconds: float, *, has_history: bool) -> None:
        self._started: float | None = None
        self._batches: Iterable[Batch] = run.live_events(PER_SECOND, has_history=has_history)
        self._seconds = seconds
        self._listener = Listener()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._emit, daemon=True)

    def clock(self) -> float:
        """Return the seconds since the run started; `NOW` until the live events start."""
        return NOW if self._started is None else NOW + time.monotonic() - self._started

    def send(self, *commands: Command) -> None:
        """Stop on `StopRun`; ignore other commands."""
        if any(isinstance(command, StopRun) for command in commands):
            self._stopped.set()

    def events(self) -> asyncio.Queue[Batch]:
        """Start and return the queue. If the time is limited, all events are made beforehand."""
        if self._seconds < float("inf"):
            self._batches = list(itertools.takewhile(lambda batch: batch[-1].at < NOW + self._seconds, self._batches))
        self._thread.start()
        return self._listener.attach()

    def statistics(self) -> Statistics:
        """Return the statistics of an idle engine."""
        return Statistics()

    def _emit(self) -> None:
        started = self._started = time.monotonic()
        seq = 0
        for batch in self._batches:
            due = started + batch[-1].at - NOW
            if self._stopped.wait(max(0.0, due - time.monotonic())):
                break
            self._listener.deliver(batch, None)
            seq = batch[-1].seq
        self._listener.deliver((RunFinished(seq + 1, 0.0, {}, 0, 0.0, interrupted=True),), None)


class TimedScreen(FleetScreen):
    """Fleet screen whose frames are timed."""

    def __init__(self, dashboard: DashboardState) -> None:
        super().__init__(dashboard)
        self.timer = FrameTimer()

    def draw(self) -> None:
        """Draw the scene and record the time."""
        with self.timer.drawing():
            super().draw()

    def _on_timer_update(self) -> None:
        with self.timer.painting(is_frame=bool(self._dirty_widgets)):
            super()._on_timer_update()


class SyntheticApp(AsyncwatchApp):
    """The app with a `TimedScreen`."""

    CSS_PATH = str(Path(asyncwatch.ui.app.__file__).with_name("asyncwatch.tcss"))

    def get_default_screen(self) -> Screen[None]:
        """Return the timed screen."""
        self.timed = TimedScreen(self.dashboard)
        return self.timed


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--busy", type=int, default=BUSY, help="workers that change all the time")
    parser.add_argument("--history", action="store_true", help="all workers that are not busy have ended")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--frames", type=Path)
    parser.add_argument("--live", action="store_true", help="start in live order")
    parser.add_argument("--map", action="store_true", help="show the map")
    given = parser.parse_args()
    FleetTable.STARTS_LIVE = given.live
    FleetScreen.SHOWS_MAP = given.map
    run = SyntheticRun(given.workers, given.busy)
    controller = SyntheticController(run, given.seconds + SETTLING, has_history=given.history)
    app = SyntheticApp(controller, clock=controller.clock)
    gc.freeze()  # as run_dashboard does
    for batch in run.history(has_history=given.history):
        app.dashboard.receive(batch)
    events_before = app.dashboard.fleet.events
    with infrequent_gc(), short_switch_interval():
        app.run()
    if given.frames is not None:
        per_second = (app.dashboard.fleet.events - events_before) / (given.seconds + SETTLING)
        written = {"frames": app.timed.timer.costs(), "events_per_second": per_second}
        given.frames.write_text(json.dumps(written), encoding="ascii")


if __name__ == "__main__":
    main()
