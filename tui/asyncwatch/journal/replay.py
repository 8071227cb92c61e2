"""A recorded run that is shown again: a feed of updates from its journal, and a clock that a person moves.

`Tape` reads one launch of a journal and yields what leads from one moment to another: events if it is a little later,
otherwise a snapshot from the index (`journal.index`) and the events after it. Without an index it begins with the first
event. `Replay` does that in a thread for a dashboard, while another thread builds the index.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path

from asyncwatch.commands import Command, Disconnected, Moment, Problem, Recording, SnapshotPart, Statistics, Update
from asyncwatch.events import Batch
from asyncwatch.journal.index import Index, Marks, build, first_parts, read_on
from asyncwatch.journal.store import JournalError, Launch, RunJournal, StoredBatch

ENOUGH = 8
"""Updates that wait for the dashboard, at most."""
TICK = 0.05
"""Seconds between two batches while it plays."""
LATE = 0.25
"""Seconds by which the events may be later than the clock, which is then set back."""
FAR = 30_000
"""Events from which a later moment is shown by a snapshot, if there is one."""
_LOOK_EVERY = 1.0
"""Seconds between two looks for the end of a recording that goes on."""


class UnknownLaunchError(JournalError):
    """The run has no launch of that number."""


class Tape:
    """Reads a launch. `index` is used if there is one. Not safe for threads."""

    def __init__(self, journal: RunJournal, launch: int, index: Index | None = None) -> None:
        self.damage = ""
        """Why the journal cannot be read any further, if it cannot."""
        self._journal = journal
        self._launch = launch
        self._index = index
        self._at = math.inf  # nothing was yielded
        self._seq = -1
        self._number = 0
        self._stored: Iterator[StoredBatch] = iter(())
        self._rest: Batch = ()
        """Events of a batch, the first ones of which were yielded."""

    def jump(self, at: float) -> Iterator[SnapshotPart | Batch]:
        """Yield what leads to the state after all events up to the moment `at`.

        It is that of the events before the first one that is later, if the times of the journal are in disorder.
        """
        is_back = at < self._at
        frame = None
        if self._index is not None:
            try:
                frame = self._index.before(at)
                if frame is not None and (is_back or frame.seq - self._seq > FAR):
                    is_back = True
                    yield from self._index.parts(frame)
                    self._go_to(frame.number, frame.at, frame.seq)
                    is_back = False
            except (sqlite3.Error, zlib.error):
                self._index = None  # from the first event it takes only longer
        if is_back:
            yield from first_parts(self._journal, self._launch)
            self._go_to(0, 0.0, -1)
        yield from self.forward(at)

    def forward(self, at: float) -> Iterator[Batch]:
        """Yield the events that follow, up to the moment `at`."""
        while self._rest or self._read():
            rest = self._rest
            latest = max(event.at for event in rest)
            ready = rest if latest <= at else tuple(takewhile(lambda event: event.at <= at, rest))
            if ready:
                self._rest = rest[len(ready) :]
                self._seq = ready[-1].seq
                self._at = max(self._at, min(latest, at))
                yield ready
            if self._rest:
                return

    def _go_to(self, number: int, at: float, seq: int) -> None:
        self._number, self._at, self._seq = number, at, seq
        self._stored, self._rest, self.damage = iter(()), (), ""

    def _read(self) -> bool:
        """Read the next batch; return whether there is one."""
        if self.damage:
            return False
        try:
            stored = next(self._stored, None)
            if stored is None:
                self._stored = read_on(self._journal, self._launch, self._number)
                stored = next(self._stored, None)
            if stored is None:
                return False
            self._rest = stored.unpack()
        except JournalError as error:
            self.damage = str(error)
            return False
        self._number = stored.number
        return bool(self._rest)


class Replay:
    """A launch of a recorded run, for the dashboard. Implements `commands.Player`.

    It begins at the end of the recording. A run that is still being recorded can be shown too.

    Args:
        path: the journal.
        launch: the number of the launch, from 1; the last one if it is None.
        clock: monotonic seconds.

    Raises:
        FileNotFoundError: There is no journal.
        JournalError: It cannot be used, or has no such launch.

    """

    def __init__(self, path: Path, launch: int | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.run_id = path.stem
        self._path = path
        self._clock = clock
        with RunJournal(path) as journal:
            self.launch = _launch(journal, launch)
            self._start, self._end = _moments(journal, self.launch.number)
        self._changed = threading.Condition()
        self._wanted: float | None = self._end
        """The moment that was requested last, until it is reached."""
        self._base = self._end, clock()
        """A moment, and when it was shown."""
        self._speed = 1.0
        self._is_playing = False
        self._is_restarted = False
        """Whether the dashboard does not know yet how the time passes."""
        self._is_closed = False
        self._marks = Marks()
        self._indexed = 0.0
        self._note = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._room = threading.Semaphore(ENOUGH)
        self._updates = _Updates(self._room.release)
        self._threads: list[threading.Thread] = []

    # -- the controller

    def send(self, *commands: Command) -> None:
        """Refuse commands: what is past cannot be changed. The dashboard says so before."""

    def statistics(self) -> Statistics:
        """Return no figures: they are not recorded."""
        return Statistics()

    def events(self) -> asyncio.Queue[Update]:
        """Return the queue of all updates, for the running event loop; once."""
        self._loop = asyncio.get_running_loop()
        self._threads = [
            threading.Thread(target=work, name=f"asyncwatch {name}", daemon=True)
            for name, work in (("replay", self._show), ("index", self._build))
        ]
        for thread in self._threads:
            thread.start()
        return self._updates

    # -- the player

    def recording(self) -> Recording:
        """Return what is known of the recording at the moment."""
        with self._changed:
            at, end = self._now(), self._end
            return Recording(
                at,
                end,
                self.launch.started,
                self._is_playing,
                self._speed,
                self._marks.failures,
                self._marks.throttled,
                min(1.0, self._indexed / end) if end else 1.0,
                self._note,
            )

    def seek(self, at: float) -> None:
        """Show the moment `at`."""
        with self._changed:
            self._wanted = min(max(self._start, at), self._end)
            self._changed.notify()

    def play(self, *, is_playing: bool) -> None:
        """Play, or stop; from the start if the end is shown."""
        with self._changed:
            at = self._now()
            if is_playing and at >= self._end:
                self._wanted = at = self._start
            self._is_playing = is_playing
            self._restart(at)

    def set_speed(self, speed: float) -> None:
        """Let the time pass at another speed."""
        with self._changed:
            at = self._now()
            self._speed = speed
            self._restart(at)

    def close(self) -> None:
        """End the threads."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._room.release()
        for thread in self._threads:
            thread.join()

    # -- its own

    def _now(self) -> float:
        """Return the moment that is shown, or was requested. With the lock."""
        if self._wanted is not None:
            return self._wanted
        at, since = self._base
        return min(self._end, at + (self._clock() - since) * self._speed) if self._is_playing else at

    def _restart(self, at: float) -> None:
        """Let the time pass as it does from now on. With the lock."""
        self._base, self._is_restarted = (at, self._clock()), True
        self._changed.notify()

    def _show(self) -> None:
        """Send updates. Runs in a thread of its own."""
        try:
            self._send_updates()
        except Exception as error:  # whatever bytes can lead to
            self._put(Disconnected(f"The recording cannot be read: {error}."))

    def _send_updates(self) -> None:
        with contextlib.ExitStack() as files:
            journal = files.enter_context(RunJournal(self._path))
            try:
                index = files.enter_context(Index(self._path, self.launch.number))
            except (OSError, sqlite3.Error):
                index = None  # the other thread says why
            tape = Tape(journal, self.launch.number, index)
            said = ""
            while True:
                wanted = self._await_request()
                if self._is_closed:
                    return
                if self.launch.ended is None:
                    self._look_for_the_end(journal)
                if wanted is not None:
                    self._jump(tape, wanted)
                elif self._is_playing:
                    self._advance(tape)
                if tape.damage and not said:
                    said = f"The recording cannot be read any further: {tape.damage}"
                    self._put(Problem(said))

    def _await_request(self) -> float | None:
        """Return the requested moment, or None when it is time for something else."""
        with self._changed:
            if self._wanted is None and not self._is_closed and not self._is_restarted:
                self._changed.wait(TICK if self._is_playing else _LOOK_EVERY if self.launch.ended is None else None)
            is_restarted, self._is_restarted = self._is_restarted, False
            wanted, moment = self._wanted, self._moment()
        if is_restarted and wanted is None:
            self._put(moment)
        return wanted

    def _jump(self, tape: Tape, wanted: float) -> None:
        if not self._put(Moment(wanted, 0.0, is_reached=False)):
            return
        for update in tape.jump(wanted):
            if not self._put(update):
                return
            if self._wanted != wanted and not isinstance(update, SnapshotPart):
                return  # to another moment, from here
        with self._changed:
            if self._wanted != wanted:
                return
            self._wanted, self._base = None, (wanted, self._clock())
            moment = self._moment()
        self._put(moment)

    def _advance(self, tape: Tape) -> None:
        with self._changed:
            now = self._now()
        for batch in tape.forward(now):
            if not self._put(batch) or self._wanted is not None:
                return
        with self._changed:
            if self._wanted is not None or not self._is_playing:
                return
            is_late = self._now() - now > LATE * self._speed
            if now < self._end and not is_late:
                return
            self._is_playing = now < self._end
            self._base = now, self._clock()
            moment = self._moment()
        self._put(moment)

    def _moment(self) -> Moment:
        return Moment(self._now(), self._speed if self._is_playing else 0.0)

    def _look_for_the_end(self, journal: RunJournal) -> None:
        """Look how far a run that goes on is recorded."""
        with contextlib.suppress(JournalError):
            start, end = _moments(journal, self.launch.number)
            with self._changed:
                self._start, self._end = start, max(self._end, end)

    def _put(self, update: Update) -> bool:
        """Send an update when there is room for it; return whether the dashboard is there."""
        if not self._is_closed:  # `close` makes room for one that waits, not for those after it
            self._room.acquire()
        if self._is_closed or self._loop is None:
            return False
        try:
            self._loop.call_soon_threadsafe(self._updates.put_nowait, update)
        except RuntimeError:  # the loop is closed
            self._is_closed = True
        return not self._is_closed

    def _build(self) -> None:
        """Build the index. Runs in a thread of its own."""
        try:
            with RunJournal(self._path) as journal, Index(self._path, self.launch.number) as index:
                build(journal, self.launch.number, index, self._note_progress)
            self._indexed = math.inf  # all that can be read, if a part is damaged
        except Exception as error:  # as above
            self._note = f"no index: {error}"

    def _note_progress(self, marks: Marks, at: float) -> bool:
        self._marks, self._indexed = marks, at
        return not self._is_closed


class _Updates(asyncio.Queue[Update]):
    """A queue that says when an update was taken."""

    def __init__(self, on_room: Callable[[], None]) -> None:
        super().__init__()
        self._on_room = on_room

    def _get(self) -> Update:
        update: Update = super()._get()
        self._on_room()
        return update


def _moments(journal: RunJournal, launch: int) -> tuple[float, float]:
    """Return the first and the last moment that can be shown."""
    return journal.first_moment(launch), journal.last_moment(launch)


def _launch(journal: RunJournal, number: int | None) -> Launch:
    launches = journal.launches()
    found = [launch for launch in launches if number in {None, launch.number}]
    if not found:
        few = f"it has {len(launches)}" if launches else "nothing was recorded"
        raise UnknownLaunchError(f"run {journal.info.id} has no launch {1 if number is None else number}: {few}")
    return found[-1]
