"""Notices when something blocks an event loop, and says for how long, whose it was, and where.

The loop beats; a thread of the watchdog looks whether the beat is late and, while it is, samples what the thread of the
loop does. While nothing blocks that is all it costs. The beat that comes late tells of the block, so a block is told
once, when it ends; `blocked` tells of the one that goes on.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from asyncwatch.supervise.blame import Block, Sample, Who, callback, frames_of
from asyncwatch.supervise.pulse import HEARTBEAT, Lags, Pulse, Spent


class Watched(Protocol):
    """What the watchdog has to know of a run: a `Supervisor`."""

    def whose_turn(self, loop: asyncio.AbstractEventLoop) -> Who:
        """Return whose attempt runs on `loop` at this moment. Called from another thread."""

    def call_before_end(self, callback: Callable[[], object]) -> None:
        """Call that on the loop when the end of the run is about to be told: no block can be after it."""

    def record_block(self, block: Block) -> None:
        """Tell of a block that has ended. Called on the loop."""


class Watchdog:
    """Watches the event loop that runs when it is entered: `with Watchdog(supervisor):`.

    `asyncwatch` watches the loop of its runs by itself. A `Supervisor` in one's own loop is watched only so: it costs a
    thread, and 40 times a second a timer of the loop.

    Args:
        watched: the supervisor whose workers are to be named, and whose listeners are told of blocks.
        on_beat: called on the loop with each beat.

    """

    def __init__(self, watched: Watched, on_beat: Callable[[], None] | None = None) -> None:
        self._watched = watched
        self._on_beat = on_beat
        self._pulse: Pulse | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = threading.Event()
        self.collecting = 0.0
        """Seconds that the garbage collector has taken."""
        self.longest_collection = 0.0
        self._collect_began = 0.0

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread_id, self._native_id = threading.get_ident(), threading.get_native_id()
        self._pulse = Pulse(time.monotonic(), self._spent())
        gc.callbacks.append(self._note_collection)
        self._timer = self._loop.call_later(HEARTBEAT, self._beat)
        self._watched.call_before_end(self._catch_up)
        threading.Thread(target=self._watch, args=[self._pulse], name="asyncwatch watchdog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        if self._timer is not None:
            self._timer.cancel()
        gc.callbacks.remove(self._note_collection)

    def lags(self) -> Lags:
        """Return how late the loop is and was. From any thread."""
        if self._pulse is None or self._is_over.is_set():
            return Lags(0.0, 0.0, 0.0, 0.0)
        return self._pulse.lags(time.monotonic())

    def blocked(self) -> Block | None:
        """Return the block that goes on; None if there is none. From any thread."""
        if self._pulse is None or self._is_over.is_set():
            return None
        return self._pulse.block(time.monotonic())

    def _beat(self) -> None:
        assert self._pulse is not None  # noqa: S101  it was entered
        self._timer = self._loop.call_later(HEARTBEAT, self._beat)
        blocks = self._blocks(self._pulse)
        if self._on_beat is not None:
            self._on_beat()
        for block in blocks:
            self._watched.record_block(block)

    def _catch_up(self) -> None:
        """Tell of the block that has just ended: the turn of the loop in which the run ends comes before its beat."""
        if self._pulse is None or self._is_over.is_set() or not self._pulse.is_late(time.monotonic()):
            return
        for block in self._blocks(self._pulse):
            self._watched.record_block(block)

    def _blocks(self, pulse: Pulse) -> list[Block]:
        """Note that the loop gets on; return the blocks that have ended by that."""
        now = time.monotonic()
        delay = run_delay(self._native_id) if pulse.is_late(now) else 0.0
        return pulse.beat(now, self._spent(), delay)

    def _watch(self, pulse: Pulse) -> None:
        wait = HEARTBEAT
        while not self._is_over.wait(wait):
            now, due = time.monotonic(), pulse.due
            if pulse.is_late(now):
                wait = pulse.look(now, self._sample(), due, run_delay(self._native_id))
            else:
                wait = pulse.look(now, None, due, 0.0)

    def _sample(self) -> Sample:
        # This thread has the interpreter for both calls, but for a chance that does not matter among many samples.
        frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001  documented, in spite of its name
        return Sample(self._watched.whose_turn(self._loop), frames_of(frame))

    def _spent(self) -> Spent:
        return Spent(time.thread_time(), time.process_time(), self.collecting)

    @callback
    def _note_collection(self, phase: str, info: dict[str, int]) -> None:
        del info
        if phase == "start":
            self._collect_began = time.perf_counter()
        else:
            seconds = time.perf_counter() - self._collect_began
            self.collecting += seconds
            self.longest_collection = max(self.longest_collection, seconds)


def run_delay(native_id: int) -> float:
    """Return the seconds for which a thread of this process could have run, but got no processor; 0 if unknown.

    Linux tells it in `/proc/<pid>/task/<tid>/schedstat`, in nanoseconds (its `sched-stats` documentation).
    """
    try:
        return int(Path(f"/proc/self/task/{native_id}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
