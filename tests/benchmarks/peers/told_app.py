"""The real dashboard, told a story at 10,000 events a second from another thread, as the engine would.

With `--frames FILE` it notes what each frame cost: the seconds that its thread spent on drawing the scene and on
painting what had changed, up to the last byte handed to the terminal's own thread.
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
from asyncwatch.ui.display import Scene
from asyncwatch.ui.screens.fleet import FleetScreen
from tests.benchmarks.story import BUSY, NOW, Story

PER_SECOND = 10_000
"""Events."""
_SETTLING = 1.0
"""Seconds at the start that do not count."""


class Teller:
    """A controller without an engine: tells the present of a story, until it is stopped or `seconds` have passed."""

    def __init__(self, story: Story, seconds: float, *, has_past: bool) -> None:
        self._began: float | None = None
        self._batches: Iterable[Batch] = story.present(PER_SECOND, has_past=has_past)
        self._seconds = seconds
        self._listener = Listener()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def clock(self) -> float:
        """Return the seconds since the run started; they stand still up to the present."""
        return NOW if self._began is None else NOW + time.monotonic() - self._began

    def send(self, *commands: Command) -> None:
        """Stop, if that is asked."""
        if any(isinstance(command, StopRun) for command in commands):
            self._stopped.set()

    def events(self) -> asyncio.Queue[Batch]:
        """Return the queue, and begin. What is to be told is made before, if it has an end."""
        if self._seconds < float("inf"):
            self._batches = list(itertools.takewhile(lambda batch: batch[-1].at < NOW + self._seconds, self._batches))
        self._thread.start()
        return self._listener.attach()

    def statistics(self) -> Statistics:
        """Return that of an engine with nothing to say."""
        return Statistics()

    def _tell(self) -> None:
        began = self._began = time.monotonic()
        seq = 0
        for batch in self._batches:
            due = began + batch[-1].at - NOW
            if self._stopped.wait(max(0.0, due - time.monotonic())):
                break
            self._listener.deliver(batch, None)
            seq = batch[-1].seq
        self._listener.deliver((RunFinished(seq + 1, 0.0, {}, 0, 0.0, interrupted=True),), None)


class TimedScreen(FleetScreen):
    """The fleet, which notes of each frame when it was done, its seconds, and the processor's."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.frames: list[tuple[float, float, float]] = []
        self._spent = (0.0, 0.0)

    def draw(self) -> None:
        """Draw the scene."""
        start, worked = time.perf_counter(), time.thread_time()
        super().draw()
        self._spend(start, worked)

    def _on_timer_update(self) -> None:
        start, worked = time.perf_counter(), time.thread_time()
        is_frame = bool(self._dirty_widgets)
        super()._on_timer_update()
        self._spend(start, worked)
        if is_frame:
            self.frames.append((time.perf_counter(), *self._spent))
            self._spent = (0.0, 0.0)

    def _spend(self, start: float, worked: float) -> None:
        seconds, processor = self._spent
        self._spent = (seconds + time.perf_counter() - start, processor + time.thread_time() - worked)


class ToldApp(AsyncwatchApp):
    """The app with a fleet that is timed."""

    CSS_PATH = str(Path(asyncwatch.ui.app.__file__).with_name("asyncwatch.tcss"))

    def get_default_screen(self) -> Screen[None]:
        """Return the fleet."""
        self.timed = TimedScreen(self.scene)
        return self.timed


def main() -> None:
    """Read the arguments and show the story."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--busy", type=int, default=BUSY, help="workers to which something happens all the time")
    parser.add_argument("--past", action="store_true", help="all but the busy workers have ended")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--frames", type=Path)
    given = parser.parse_args()
    story = Story(given.workers, given.busy)
    teller = Teller(story, given.seconds + _SETTLING, has_past=given.past)
    app = ToldApp(teller, clock=teller.clock)
    gc.freeze()  # as run_dashboard does
    for batch in story.beginning(has_past=given.past):
        app.scene.receive(batch)
    told = app.scene.fleet.events
    with infrequent_gc(), short_switch_interval():
        app.run()
    if given.frames is not None:
        frames = app.timed.frames
        counted = [frame[1:] for frame in frames if frame[0] >= frames[0][0] + _SETTLING]
        per_second = (app.scene.fleet.events - told) / (given.seconds + _SETTLING)
        given.frames.write_text(json.dumps({"frames": counted, "events_per_second": per_second}), encoding="ascii")


if __name__ == "__main__":
    main()
