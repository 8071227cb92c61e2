"""What the picture itself costs: frames, the time they take, what they draw, what is behind. Pure."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from asyncwatch.commands import Statistics
from asyncwatch.events import Batch, Event, RunFinished, RunStarted, WorkersQueued, WorkerState
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply, confirm_start, leave
from asyncwatch.model.rows import Row
from asyncwatch.model.run_time import RunTime
from asyncwatch.model.statistics import Histogram
from asyncwatch.model.view.selection import View

_WINDOW = 2.0


class Meter:
    """Counts. Times are in seconds; those of a frame are of the processor, from the wish to draw to the screen."""

    def __init__(self) -> None:
        self.frames = 0
        self.frame_times = Histogram()
        self.last_frame = 0.0
        self.lines = 0
        """Lines of the fleet that were rendered, of all frames."""
        self.most_lines = 0
        """Of any frame."""
        self.received = 0
        """Events that came from the engine."""
        self.depth = 0
        """Events that the engine has emitted and no picture shows yet, at the last look."""
        self.highest_depth = 0
        self._lines_before = 0
        self._history: deque[tuple[float, int]] = deque()

    def receive(self, events: int) -> None:
        """Count events that came."""
        self.received += events

    def render_line(self) -> None:
        """Count a line of the fleet that is rendered."""
        self.lines += 1

    def frame(self, seconds: float) -> None:
        """Note that a frame is on the screen, and what it took."""
        self.frames += 1
        self.last_frame = seconds
        self.frame_times.add(seconds)
        self.most_lines = max(self.most_lines, self.lines - self._lines_before)
        self._lines_before = self.lines

    def look(self, now: float, emitted: int, shown: int) -> None:
        """Note how many events the engine has emitted by `now`, and how many of them are in the picture."""
        self.depth = max(0, emitted - shown)
        self.highest_depth = max(self.highest_depth, self.depth)
        self._history.append((now, emitted))
        while len(self._history) > 2 and self._history[1][0] <= now - _WINDOW:
            self._history.popleft()

    @property
    def events_per_second(self) -> float:
        """The mean rate of the last two seconds."""
        if len(self._history) < 2:
            return 0.0
        (began, before), (now, emitted) = self._history[0], self._history[-1]
        return (emitted - before) / max(now - began, 1e-3)


BLOCKED = 0.5
"""Seconds from which on the title warns of a block that goes on."""


HELD = 500_000
"""Events that may wait for a frozen picture, about 200 bytes each; at more it goes on by itself."""


class Scene:
    """Folds batches into the fleet, or keeps them waiting while the picture is frozen.

    `clock` is monotonic, in seconds; its zero does not matter: run time is read off the events.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.fleet = Fleet()
        self.view = View(self.fleet)
        self.statistics = Statistics()
        self.meter = Meter()
        self.is_stopping = self.is_hurried = False
        self.stopping = 0
        """How many workers had not settled when the run was stopped."""
        self.is_foreseen = False
        """Whether the run has told nothing yet: what is shown was foreseen."""
        self._foreseen: Batch = ()
        """What was foreseen, until all of it was told and taken in."""
        self._told: list[Event] = []
        """What was told and taken in of that."""
        self._time = RunTime(clock)
        self._frozen_at: float | None = None
        self._waiting: list[Batch] = []
        self._waiting_events = 0

    @property
    def is_frozen(self) -> bool:
        """Whether batches wait instead of being shown."""
        return self._frozen_at is not None

    @property
    def waiting(self) -> int:
        """How many events wait for the picture to go on."""
        return self._waiting_events

    @property
    def now(self) -> float:
        """Seconds since the run started, as shown: it stands still when frozen and when all have settled."""
        fleet = self.fleet
        if self._frozen_at is not None:
            return self._frozen_at
        if fleet.finished is not None:
            return fleet.finished.elapsed
        if fleet.is_settled and fleet.settled_at is not None:
            return fleet.settled_at
        return self._time.now

    @property
    def moment(self) -> float:
        """Seconds since the run started, which pass also when all have settled: what was left behind goes on."""
        return self.now if self.is_frozen or self.fleet.finished is not None else self._time.now

    @property
    def is_gathering(self) -> bool:
        """Whether some of the workers with which the run starts are still to come."""
        run = self.fleet.run
        return run is not None and self.fleet.workers < run.workers

    def foresee(self, batch: Batch) -> None:
        """Show the first events of the run before they happen."""
        self._fold(batch)
        self._foreseen, self.is_foreseen = batch, True

    def receive(self, batch: Batch) -> None:
        """Take a batch in. The last batch of a run ends a freeze: there is nothing more to wait for.

        So does one after which more than `HELD` events would wait.
        """
        self.is_foreseen = False
        self._time.note(batch)
        self.meter.receive(len(batch))
        if self._frozen_at is None:
            self._fold(batch)
            return
        self._waiting.append(batch)
        self._waiting_events += len(batch)
        if self._waiting_events > HELD or (batch and isinstance(batch[-1], RunFinished)):
            self.thaw()

    def freeze(self) -> None:
        """Let batches wait from now on."""
        self._frozen_at = self.now

    def thaw(self) -> None:
        """Fold all that waited, and go on."""
        self._frozen_at = None
        waiting, self._waiting, self._waiting_events = self._waiting, [], 0
        for batch in waiting:
            self._fold(batch)

    def stop(self) -> None:
        """Note that the run was asked to stop; the second time, at once."""
        if self.is_stopping:
            self.is_hurried = True
        else:
            self.is_stopping, self.stopping = True, self.active

    def leave(self) -> Fleet:
        """Fold all that waited, and return the fleet as it is at this moment, at which nobody watches it any more."""
        self.thaw()
        leave(self.fleet, self._time.now)
        return self.fleet

    @property
    def blocked_for(self) -> float:
        """Seconds for which the event loop of the run has been blocked, so that nothing moves there; else 0."""
        blocked = self.statistics.blocked
        if blocked is None or blocked.duration < BLOCKED or self.fleet.finished is not None:
            return 0.0
        return blocked.duration

    @property
    def concurrency(self) -> int | None:
        """How many attempts run at a time at the most; None for a tree, whose workers all run."""
        run = self.fleet.run
        if run is None or self.fleet.tree.is_supervised:
            return None
        return int(self.fleet.settings.value("concurrency", run.concurrency))

    def unsuccessful(self) -> list[Row]:
        """Return the settled workers that did not succeed."""
        return [row for row in self.fleet.rows if row.state.is_settled and row.state is not WorkerState.SUCCEEDED]

    @property
    def active(self) -> int:
        """How many workers have not settled."""
        return self.fleet.workers - self.fleet.settled

    def _confirm(self, batch: Batch) -> None:
        """Go on from what was foreseen as long as the run begins like that; else from what it has told.

        What was foreseen may come in many batches.
        """
        begun = len(self._told)
        told = batch[: len(self._foreseen) - begun]
        if not all(map(_is_as_foreseen, told, self._foreseen[begun : begun + len(told)])):
            self.fleet = Fleet()
            self.view = self.view.over(self.fleet)
            apply(self.fleet, self._told)
            self._foreseen, self._told = (), []
            return
        if told and isinstance(told[0], RunStarted):
            confirm_start(self.fleet, told[0])
        self._told += told
        if len(self._told) == len(self._foreseen):
            self._foreseen, self._told = (), []

    def _fold(self, batch: Batch) -> None:
        if self._foreseen:
            self._confirm(batch)
        self.view.touched(apply(self.fleet, batch))


def _is_as_foreseen(told: Event, foreseen: Event) -> bool:
    """Return whether both say the same of the workers; how the run is set up the fleet takes from what is told."""
    if told.seq != foreseen.seq:
        return False
    if isinstance(told, WorkersQueued) and isinstance(foreseen, WorkersQueued):
        is_same_group = told.group == foreseen.group and told.max_attempts == foreseen.max_attempts
        return is_same_group and told.workers == foreseen.workers
    return isinstance(told, RunStarted) and isinstance(foreseen, RunStarted)
