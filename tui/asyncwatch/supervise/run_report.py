"""Numbers and dates what happens in a run, and tells what concerns it as a whole: its course, settings and circuits."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from typing import Any

from asyncwatch.blocked_text import MENDABLE, sentence
from asyncwatch.events import (
    Batch,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitIsolated,
    CircuitOpened,
    CircuitProbed,
    CommandRefused,
    LineHeld,
    LogRecorded,
    NestedRetriesFound,
    RunCancelRequested,
    RunFinished,
    RunHalted,
    RunStarted,
    RunTimedOut,
    SettingChanged,
)
from asyncwatch.supervise.blame import Block
from asyncwatch.supervise.circuit import Circuit, CircuitState
from asyncwatch.supervise.describe import clean_text, count
from asyncwatch.supervise.outbox import Outbox
from asyncwatch.supervise.pulse import block_event
from asyncwatch.supervise.safe_log import log_safely

logger = logging.getLogger("asyncwatch.supervisor")


class RunReporter:
    """Numbers and dates the events of one run and puts them into its outbox. Belongs to the loop's thread."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self._emit = self.outbox.emit
        self._next_seq = itertools.count().__next__
        self._loop: asyncio.AbstractEventLoop | None = None
        self.context = Context()
        """A copy of the context in which the run started: attempts run in copies of it."""
        self._clock = time.monotonic
        self._started_at = 0.0
        self.before_end: Callable[[], object] | None = None
        """Called just before the end of the run is told: the last moment to tell of anything."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the run.

        Raises:
            RuntimeError: the run has not started.

        """
        if self._loop is None:
            raise RuntimeError("the run has not started")
        return self._loop

    @property
    def is_started(self) -> bool:
        """Whether the run has started."""
        return self._loop is not None

    def now(self) -> float:
        """Return the seconds since the run started, in whole microseconds."""
        return int((self._clock() - self._started_at) * 1e6) / 1e6

    def run_started(
        self,
        name: str,
        workers: int,
        runner: str,
        seed: int,
        concurrency: int,
        timeout: float | None,
        wall_clock: float,
        settings: Mapping[str, Any],
    ) -> None:
        """Start to count time, on the running loop. `timeout` is in seconds, `wall_clock` in seconds of the epoch.

        `settings` are the fields of `RunStarted` with that name.
        """
        self._loop = self.outbox.loop = asyncio.get_running_loop()
        self.context = copy_context()
        # A loop may have a time of its own, as those of tests do. That of uvloop is no better than the clock: it stands
        # still for a whole turn, and counts milliseconds; and asyncio's own is this very clock.
        if isinstance(self._loop, asyncio.BaseEventLoop) and type(self._loop).time is not asyncio.BaseEventLoop.time:
            self._clock = self._loop.time
        self._started_at = self._clock()
        facts = (name, workers, runner, seed, concurrency, timeout, wall_clock)
        self._emit(RunStarted(self._next_seq(), 0.0, *facts, **settings))

    def run_timed_out(self, timeout: float, pending: int) -> None:
        """Tell that the runner's total timeout ended."""
        self._emit(RunTimedOut(self._next_seq(), self.now(), timeout, pending))

    def run_cancel_requested(self, reason: str) -> None:
        """Tell that the whole fleet is asked to stop."""
        self._emit(RunCancelRequested(self._next_seq(), self.now(), reason))

    def run_halted(self, failures: int, mode: str, stopped: int) -> None:
        """Tell that the batch is not gone on with."""
        self._emit(RunHalted(self._next_seq(), self.now(), failures, mode, stopped))
        text = "halted after %s: %s end by that"
        log_safely(logger, logging.ERROR, text, count(failures, "failure"), count(stopped, "worker"))

    def setting_changed(self, name: str, value: object, previous: object, key: str, *, is_undo: bool) -> None:
        """Tell that a person changed a setting."""
        self._emit(SettingChanged(self._next_seq(), self.now(), name, value, previous, key, is_undo))

    def nested_retries_found(self, target: str, library: str) -> None:
        """Warn of a target that retries on its own."""
        self._emit(NestedRetriesFound(self._next_seq(), self.now(), target, library))
        text = "%s retries by itself with %s: that and asyncwatch's attempts multiply"
        log_safely(logger, logging.WARNING, text, target, library)

    def run_finished(self, states: dict[str, int], attempts: int, *, interrupted: bool) -> None:
        """Tell that the run is over, and deliver all that is left."""
        now = self.now()
        self._emit(RunFinished(self._next_seq(), now, states, attempts, now, interrupted))
        self.outbox.flush()

    def abandon(self, states: dict[str, int], attempts: int, block: Block | None) -> None:
        """Tell that the run is over, from another thread than the loop's; whatever is emitted after it is dropped."""
        now = self.now()

        def last(seq: int) -> Batch:
            blocked = () if block is None else (block_event(seq, now, time.monotonic(), block),)
            return (*blocked, RunFinished(seq + len(blocked), now, states, attempts, now, interrupted=True))

        self.outbox.close(last)

    def loop_blocked(self, block: Block) -> None:
        """Tell what kept the event loop, and for how long."""
        self._emit(event := block_event(self._next_seq(), self.now(), time.monotonic(), block))
        # Many that take turns can go on for long, and nobody is helped by a warning each time.
        is_mendable = event.cause in MENDABLE and event.cause != "many"
        level = logging.WARNING if is_mendable else logging.DEBUG
        log_safely(logger, level, "%s", sentence(event), worker=event.worker or None)

    def command_refused(self, command: str, worker: str, incarnation: int, reason: str) -> None:
        """Tell why a request was not carried out."""
        self._emit(CommandRefused(self._next_seq(), self.now(), command, worker, incarnation, reason))

    def log_recorded(self, worker: str | None, level: str, source: str, message: str) -> None:
        """Tell of a log record or a printed line."""
        self._emit(LogRecorded(self._next_seq(), self.now(), worker, level, source, clean_text(message)))

    def line_held(self, reason: str) -> None:
        """Tell what all that stand in line wait for from now on."""
        self._emit(LineHeld(self._next_seq(), self.now(), reason))

    def circuit_probed(self, key: str, circuit: Circuit) -> None:
        """Tell that a probe began, or ended without deciding."""
        probes = circuit.probes_under_way, circuit.free_probes
        self._emit(CircuitProbed(self._next_seq(), self.now(), key, *probes))

    def circuit_changed(self, key: str, circuit: Circuit) -> None:
        """Tell of the state of a circuit."""
        seq, now = self._next_seq(), self.now()
        match circuit.state:
            case CircuitState.OPEN:
                attempts, failures = circuit.opened_by
                self._emit(CircuitOpened(seq, now, key, attempts, failures, circuit.policy.open_for))
                text = "%s: circuit open after %d of %d attempts failed"
                log_safely(logger, logging.WARNING, text, key, failures, attempts)
            case CircuitState.HALF_OPEN:
                self._emit(CircuitHalfOpened(seq, now, key, circuit.policy.probes))
            case CircuitState.CLOSED:
                self._emit(CircuitClosed(seq, now, key))
            case CircuitState.ISOLATED:
                self._emit(CircuitIsolated(seq, now, key))
