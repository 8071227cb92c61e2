"""The command queue: filled from any thread, carried out on the loop of the run, in order and in time slices.

Imports neither the scheduler nor policies: the engine's thread queues commands before those are needed.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from asyncwatch.commands import (
    CancelWorker,
    ChangeSetting,
    CloseCircuit,
    Command,
    HoldKey,
    IsolateCircuit,
    ProbeCircuit,
    ReleaseKey,
    ResetKey,
    StopRun,
    WatchStack,
)
from asyncwatch.slices import SLICE, SlicedWork

_OF_KEYS = (CloseCircuit, IsolateCircuit, ProbeCircuit, HoldKey, ReleaseKey, ResetKey)
_URGENT = (ChangeSetting, *_OF_KEYS, StopRun, WatchStack)
"""Commands about no worker: they do not wait for those that are."""
FEW = 1_000
"""Commands among which urgent ones are looked for. More at a time are all about workers."""


class CommandQueue:
    """Carries commands out in order, in time slices, on the loop that it is attached to.

    Urgent commands (the end of the run, settings, circuits, keys) do not wait for others. Commands that come before a
    loop is attached wait for it; after `close` they are dropped.

    Args:
        execute: does what one command requests; called on the loop.
        hold_slots: called with whether no worker may get a slot for now: workers are being cancelled, and the next
            one to get a slot may be cancelled later in the list.
        clock: monotonic seconds.

    """

    def __init__(
        self,
        execute: Callable[[Command], object],
        hold_slots: Callable[[bool], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._execute = execute
        self._hold_slots = hold_slots
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._early: list[Sequence[Command]] = []
        self._waiting: deque[Iterator[Command]] = deque()
        self._has_held = False
        self._slices = SlicedWork(self._work, self._release_slots, seconds=SLICE, clock=clock)

    def put(self, commands: Sequence[Command]) -> None:
        """Add commands, from any thread."""
        with self._lock:
            if self._is_closed:
                return
            if self._loop is None:
                self._early.append(commands)
            else:
                self._loop.call_soon_threadsafe(self.add, commands)

    def close(self) -> None:
        """Drop all commands from now on: call it before the loop is closed, from any thread."""
        with self._lock:
            self._is_closed = True

    def attach(self) -> None:
        """Carry commands out on the running loop from now on, those that came early first."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
            early, self._early = self._early, []
        for commands in early:
            self.add(commands)

    def add(self, commands: Sequence[Command]) -> None:
        """Carry commands out on the running loop, after earlier ones: at once, as far as one slice suffices."""
        if len(commands) > FEW:
            self._enqueue(commands)
            return
        ordinary: list[Command] = []
        for command in commands:
            if not isinstance(command, _URGENT):
                ordinary.append(command)
                continue
            self._enqueue(ordinary)
            ordinary = []
            if isinstance(command, StopRun):
                self._clear()  # the run ends: no earlier command matters any more
            self._execute(command)
        self._enqueue(ordinary)

    def _enqueue(self, commands: Sequence[Command]) -> None:
        if commands:
            self._waiting.append(iter(commands))
            self._slices.start_now()

    def _clear(self) -> None:
        self._waiting.clear()
        self._slices.stop()
        self._release_slots()

    def _release_slots(self) -> None:
        if self._has_held:
            self._has_held = False
            self._hold_slots(False)

    def _work(self, is_time_up: Callable[[], bool]) -> bool:
        while self._waiting:
            for command in self._waiting[0]:
                self._execute(command)
                if is_time_up():
                    self._has_held = True
                    self._hold_slots(isinstance(command, CancelWorker))
                    return True
            self._waiting.popleft()
        return False
