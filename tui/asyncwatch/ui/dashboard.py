"""State of the dashboard, live or frozen. Pure: no Textual."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from asyncwatch.commands import Moment, Player, SnapshotPart, Statistics
from asyncwatch.events import Batch, Event, RunFinished, RunStarted, WorkersQueued
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply, confirm_start, leave
from asyncwatch.model.snapshot import SnapshotReader
from asyncwatch.model.statistics import Pace, RunTime
from asyncwatch.model.view.selection import View
from asyncwatch.ui.keys import Role
from asyncwatch.ui.render.snapshot import FrameStatistics, Snapshot

MAX_JUMP = 0.5
"""Seconds for which the moment before a jump stays on the screen. Then frames show how far the jump has come."""
MAX_FROZEN_EVENTS = 500_000
"""Events, about 200 bytes each, that may wait for the end of a freeze. One more ends it."""


class DashboardState:
    """The fleet, its view, the latest statistics of the engine, and whether the run is frozen or stopping.

    A batch is applied to the fleet when it is received, or after a freeze. The first part of a snapshot replaces the
    fleet, and the next parts add workers. The filter, order, folds and marks stay.

    Before the run starts, the fleet can be shown from the events that its plan foresees. If the run starts with the
    same events, the fleet, cursor and marks stay. Otherwise the fleet is built anew.

    `clock` is monotonic, in seconds. Its zero does not matter: run time is derived from the events. In a snapshot the
    latest event may be old, so there it is derived from `wall_clock`, in seconds since the epoch. The time of a
    recorded run, which a `player` shows, is set by each `Moment`.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        role: Role = Role.OWNER,
        player: Player | None = None,
    ) -> None:
        self.role = role
        self.player = player
        self._clock = clock
        self._jumped_at: float | None = None
        """When a jump to another moment began, until it has ended."""
        self.fleet = Fleet()
        self.view = View(self.fleet)
        self.statistics = Statistics()
        self.frame_statistics = FrameStatistics()
        self.columns: dict[str, bool] = {}
        """Columns that a person shows or hides. The others are shown when they say something."""
        self.run_id = ""
        """The id of the run; empty while it is unknown."""
        self._pace = Pace()
        self.is_stopping = self.is_stopping_now = False
        self.waits: tuple[tuple[int, str], ...] = ()
        """Where observed tasks wait, and how many in each place, the most first."""
        self.is_foreseen = False
        """Whether no event has come yet and the fleet is the foreseen one."""
        self._foreseen: Batch = ()
        """The foreseen events, until all of them have come."""
        self._confirmed: list[Event] = []
        """Events that have come as foreseen."""
        self._run_time = RunTime(clock)
        self._wall_clock = wall_clock
        self._reader = SnapshotReader(keeps_blocks=player is not None)
        self.is_growing = False
        """Whether more parts of a snapshot are to come."""
        self._next: Fleet | None = None
        """The fleet of a snapshot that came during a freeze."""
        self._marked: AbstractSet[str] = frozenset()
        """Names of workers to mark when they come."""
        self._marked_rows = 0
        """How many rows of the fleet were looked for in `_marked`."""
        self._active_at_stop = 0
        self._frozen_at: float | None = None
        self._frozen_batches: list[Batch] = []
        self._frozen_events = 0

    @property
    def is_frozen(self) -> bool:
        """Whether batches are held back."""
        return self._frozen_at is not None

    @property
    def frozen_events(self) -> int:
        """Number of events held back."""
        return self._frozen_events + (max(0, self._next.events - self.fleet.events) if self._next is not None else 0)

    @property
    def now(self) -> float:
        """Seconds since the run started, as shown: it stops when frozen and when all workers have settled."""
        fleet = self.fleet
        if self._frozen_at is not None:
            return self._frozen_at
        if fleet.finished is not None:
            return fleet.finished.elapsed
        if fleet.is_settled and fleet.settled_at is not None:
            return fleet.settled_at
        return self._run_time.now

    @property
    def is_still(self) -> bool:
        """Whether `now` stands still."""
        return self.is_frozen or self.fleet.finished is not None or self.fleet.is_settled

    @property
    def clock_now(self) -> float:
        """Like `now`, but it goes on after all workers have settled, as abandoned workers do."""
        return self.now if self.is_frozen or self.fleet.finished is not None else self._run_time.now

    @property
    def is_jumping(self) -> bool:
        """Whether another moment is about to be shown, so that a frame would show one on the way to it."""
        return self._jumped_at is not None and self._clock() < self._jumped_at + MAX_JUMP

    @property
    def is_incomplete(self) -> bool:
        """Whether the run has workers that were not announced yet."""
        run = self.fleet.run
        return self.is_growing or self._jumped_at is not None or (run is not None and self.fleet.workers < run.workers)

    @property
    def active(self) -> int:
        """Number of workers that have not settled."""
        return self.fleet.workers - self.fleet.settled

    def snapshot(self) -> Snapshot:
        """Return the data of a frame."""
        return Snapshot(
            self.fleet,
            self.statistics,
            self.frame_statistics,
            self.now,
            self.clock_now,
            self.frozen_events if self.is_frozen else None,
            self._active_at_stop if self.is_stopping else None,
            self.is_stopping_now,
            not self.role.acts,
            self.role.title,
            self.role.is_past,
            self.run_id,
            self._pace,
            self.waits,
        )

    def foresee(self, batch: Batch) -> None:
        """Show the first events of the run before they happen."""
        self._fold(batch)
        self._foreseen, self.is_foreseen = batch, True

    def receive(self, batch: Batch) -> None:
        """Apply a batch, or hold it back. The end of the run, or too many events, end a freeze."""
        self.is_foreseen = False
        self._run_time.note(batch)
        self.frame_statistics.add_received(len(batch))
        if self._frozen_at is None:
            self._fold(batch)
            return
        self._frozen_batches.append(batch)
        self._frozen_events += len(batch)
        if self._frozen_events > MAX_FROZEN_EVENTS or (batch and isinstance(batch[-1], RunFinished)):
            self.unfreeze()

    def read(self, part: SnapshotPart) -> bool:
        """Show a part of a snapshot, or hold it back. Return whether it completes a run that has finished.

        What is known of the whole run comes before the first rows, and may take more than one part.
        """
        self.is_foreseen = False
        self._foreseen, self._confirmed = (), []
        fleet = self._reader.read(part)
        if part.is_first:
            self._next, self._frozen_batches, self._frozen_events = None, [], 0
            self.frame_statistics.received = fleet.events
            started_at = fleet.run.started_at if fleet.run is not None else float("inf")
            if self.player is None:
                self._run_time.reached(max(fleet.latest, self._wall_clock() - started_at))
        self.is_growing = not part.is_last
        if fleet is not self.fleet and not fleet.rows and not part.is_last:
            return False
        if fleet is not self.fleet and self.is_frozen:
            self._next = fleet
        else:
            self._show(fleet)
        return part.is_last and fleet.finished is not None

    def move(self, moment: Moment) -> None:
        """Set the time of a recorded run."""
        self._run_time.set(moment.at, moment.speed)
        if moment.is_reached:
            self._jumped_at = None
        elif self._jumped_at is None:
            self._jumped_at = self._clock()

    def freeze(self) -> None:
        """Hold back batches from now on."""
        self._frozen_at = self.now

    def unfreeze(self) -> None:
        """Apply what was held back, and end the freeze."""
        self._frozen_at = None
        if self._next is not None:
            self._show(self._next)
        batches, self._frozen_batches, self._frozen_events = self._frozen_batches, [], 0
        for batch in batches:
            self._fold(batch)

    def stop(self) -> None:
        """Record a request to stop the run; the second one is without grace."""
        if self.is_stopping:
            self.is_stopping_now = True
        else:
            self.is_stopping, self._active_at_stop = True, self.active

    def close(self) -> Fleet:
        """Return the fleet after all received batches, at the end."""
        self.unfreeze()
        leave(self.fleet, self._run_time.now)
        return self.fleet

    def _show(self, fleet: Fleet) -> None:
        """Show the fleet of a snapshot, or its new rows. Keep the marks, by the names of the workers."""
        if fleet is not self.fleet:
            self._marked, self._marked_rows = frozenset(self.view.marks) | self._marked, 0
            self.fleet, self.view, self._next = fleet, self.view.over(fleet), None
            self._pace = Pace()
        if self._marked:
            self.view.marks.add_named(self._marked, self._marked_rows)
            self._marked_rows = len(fleet.rows)
            if not self.is_growing:
                self._marked = frozenset()

    def _fold(self, batch: Batch) -> None:
        if self._foreseen:
            self._confirm(batch)
        setting = self.fleet.settings.last
        self.view.touched(apply(self.fleet, batch))
        if self.fleet.settings.last is not setting:
            self._pace = Pace()  # the run is faster or slower from now on
        self._pace.note(self.fleet.latest, self.fleet.settled)

    def _confirm(self, batch: Batch) -> None:
        """Keep the foreseen fleet if the batch is as foreseen; else start over with the events that have come.

        The foreseen events may come in many batches.
        """
        start = len(self._confirmed)
        actual = batch[: len(self._foreseen) - start]
        if not all(map(_is_as_foreseen, actual, self._foreseen[start : start + len(actual)])):
            self.fleet = Fleet()
            self.view = self.view.over(self.fleet)
            apply(self.fleet, self._confirmed)
            self._foreseen, self._confirmed = (), []
            return
        if actual and isinstance(actual[0], RunStarted):
            confirm_start(self.fleet, actual[0])
        self._confirmed += actual
        if len(self._confirmed) == len(self._foreseen):
            self._foreseen, self._confirmed = (), []


def _is_as_foreseen(actual: Event, foreseen: Event) -> bool:
    """Return whether both announce the same workers. The run's settings are always taken from the actual event."""
    if actual.seq != foreseen.seq:
        return False
    if isinstance(actual, WorkersQueued) and isinstance(foreseen, WorkersQueued):
        is_same_group = actual.group == foreseen.group and actual.max_attempts == foreseen.max_attempts
        return is_same_group and actual.workers == foreseen.workers
    return isinstance(actual, RunStarted) and isinstance(foreseen, RunStarted)
