"""The messages of a headless run on stderr: a progress line, and other messages that never mix with it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

from asyncwatch.cli.terminal import WITHOUT_CURSOR
from asyncwatch.events import SETTLED, LogRecorded, WorkerState
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.limits import hold_ups
from asyncwatch.model.summary import counts_text
from asyncwatch.text import clock, count, printable

# Seconds between two progress lines:
_LIVE_INTERVAL = 0.1
_LOG_INTERVAL = 1.0
_SERVICES_INTERVAL = 10.0
_HEARTBEAT = 300.0

_ERASE = "\r\x1b[K"


class Stream(Protocol):
    """The methods of a text stream that a `Narrator` uses."""

    def write(self, text: str, /) -> int: ...  # noqa: D102  as in `TextIO`
    def flush(self) -> None: ...  # noqa: D102
    def isatty(self) -> bool: ...  # noqa: D102
    def fileno(self) -> int: ...  # noqa: D102


class Narrator:
    """Writes progress and messages to `stream`.

    A terminal shows one live line, which is redrawn up to ten times a second. Any other stream gets up to one line a
    second, and the last one. Services run forever: such a stream gets a line up to every ten seconds if their counts
    changed, and every five minutes otherwise. With `is_quiet` there is no progress. A stream that fails gets nothing
    more, and the run goes on.
    """

    def __init__(self, stream: Stream, *, clock: Callable[[], float], is_quiet: bool = False) -> None:
        self._is_quiet = is_quiet
        self.is_live = stream.isatty() and os.environ.get("TERM") not in WITHOUT_CURSOR
        """Whether the progress is one line that is redrawn."""
        self.interval = _LIVE_INTERVAL if self.is_live else _LOG_INTERVAL
        """Seconds between two progress lines. `progress` has to be called that often."""
        self.stopping: int | None = None
        """Number of workers that had not ended when the run was stopped; None if it was not."""
        self._stream: Stream | None = stream
        self._clock = clock
        self._run_began: float | None = None
        self._due = clock() + (0.0 if self.is_live else self.interval)
        self._heartbeat_due = 0.0
        self._shown = ""
        self._shown_counts: tuple[str, ...] = ()
        self._is_on_screen = False

    @property
    def columns(self) -> int | None:
        """The width of the terminal in cells; None if the stream is no terminal."""
        return None if self._stream is None else terminal_columns(self._stream)

    def progress(self, fleet: Fleet) -> None:
        """Show the progress of the run if it is due."""
        now = self._clock()
        if self._run_began is None and fleet.run is not None:
            self._run_began = now - fleet.latest
        if self._is_quiet or not fleet.rows or now < self._due:
            return
        self._due = now + self.interval
        if self.is_live or not self._is_endless(fleet) or self._has_news(fleet, now):
            self._show(progress_line(fleet, self._seconds(fleet, now), self.stopping))

    def finish(self, fleet: Fleet) -> None:
        """Show the final progress, and leave it on the screen."""
        if self._is_quiet:
            return
        self._show(progress_line(fleet, fleet.end, self.stopping))
        if self._is_on_screen:
            self._is_on_screen = False
            self._write("\n")

    def say(self, text: str) -> None:
        """Write a message of one or more lines above the live line."""
        self.clear()
        self._write(f"{text}\n")

    def clear(self) -> None:
        """Erase the live line until the next progress."""
        if self._is_on_screen:
            self._is_on_screen = False
            self._write(_ERASE)

    def _is_endless(self, fleet: Fleet) -> bool:
        return fleet.tree.is_supervised and self.stopping is None

    def _has_news(self, fleet: Fleet, now: float) -> bool:
        """Return whether the counts of services changed, or the heartbeat is due."""
        counts = tuple(_counts(fleet, self._seconds(fleet, now), None))
        if counts == self._shown_counts and now < self._heartbeat_due:
            return False
        self._shown_counts = counts
        self._due, self._heartbeat_due = now + _SERVICES_INTERVAL, now + _HEARTBEAT
        return True

    def _seconds(self, fleet: Fleet, now: float) -> float:
        """Return the seconds since the run started: on a live or a rare line, time goes on without events."""
        if self._run_began is None or not (self.is_live or self._is_endless(fleet)):
            return fleet.latest
        return max(fleet.latest, now - self._run_began)

    def _show(self, line: str) -> None:
        if self.is_live:
            line = line[: (self.columns or 80) - 1]
            if line != self._shown or not self._is_on_screen:
                self._write(f"{_ERASE}{line}")
                self._is_on_screen = True
        elif line != self._shown:
            self._write(f"{line}\n")
        self._shown = line

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None


def terminal_columns(stream: Stream | BinaryIO) -> int | None:
    """Return the width in cells of the terminal that `stream` writes to; 80 if it is unknown, None for no terminal."""
    try:
        if not stream.isatty():
            return None
        return os.get_terminal_size(stream.fileno()).columns or 80  # some terminals report 0
    except (OSError, ValueError):
        return 80


def progress_line(fleet: Fleet, now: float, stopping: int | None = None) -> str:
    """Return the progress at `now`, in seconds since the run started.

    - A batch: `00:03.2  15/20  12 succeeded, 3 failed  38 attempts/s`, where 15 of 20 workers have ended. `15/20+`
      while items are read: more workers may follow.
    - Services: `00:03.2  6/8 up, 1 flapping, 1 failing  12 restarts  2 attempts/s`.
    - While keys are throttled, what holds workers up: `a.example: 7/s learned, 12 in flight, 340 wait`.
    - While the retry budget is empty: `retry budget: 340 retries wait`.
    - A run that was stopped while `stopping` workers had not ended: how many of them still have not.
    """
    parts = [clock(now), *_counts(fleet, now, stopping)]
    if fleet.finished is None:
        parts.append(f"{fleet.rate.per_second(now):.0f} attempts/s")
        parts += map("".join, hold_ups(fleet.keys, now))
        if number := fleet.keys.total("budget"):
            parts.append(f"retry budget: {count(number, 'retry waits', 'retries wait')}")
    return "  ".join(filter(None, parts))


def _counts(fleet: Fleet, now: float, stopping: int | None) -> Iterator[str]:
    """Yield the number of workers in each state, and the worker whose readiness a tree waits for."""
    if stopping is not None and fleet.finished is None:
        yield f"stopping: {fleet.workers - fleet.settled:,} of {stopping:,} have not ended"
        yield counts_text(fleet.counts)
        return
    services = fleet.services(now)
    batch = dict(Counter(fleet.counts) - services.counts)
    if services.workers and fleet.finished is None:
        up = f"{services.up:,}/{services.wanted:,} up"
        others: dict[WorkerState, int] = dict(services.counts)
        others.pop(WorkerState.RUNNING, None)
        if text := counts_text(others):
            up += f", {text}"
        if services.recovering:
            up += f", {services.recovering:,} recovering"
        if services.flapping:
            up += f", {services.flapping:,} flapping"
        if failing := len(fleet.polls.failing):
            up += f", {failing:,} failing"
        yield up
        if services.starting is not None:
            yield f"waiting for {printable(services.starting.name)} to be ready"
        yield count(fleet.restarts.total, "restart")
    else:
        batch = fleet.counts
    if workers := sum(batch.values()):
        settled = sum(number for state, number in batch.items() if state in SETTLED)
        yield f"{settled:,}/{workers:,}{'+' if fleet.is_reading else ''}"
        yield counts_text(batch)


def log_lines(log: LogRecorded) -> str:
    """Return the record as text for a terminal. All lines of its message but the first are indented."""
    worker = f" [{log.worker}]" if log.worker is not None else ""
    head, message = f"{clock(log.at)} {log.level}{worker} ", log.message
    line = head + message
    if line.isprintable():
        return line
    first, *others = [message] if message.isprintable() else message.splitlines()
    return "\n".join([printable(head) + printable(first), *(f"    {printable(other)}" for other in others)])
