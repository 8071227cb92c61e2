"""What a headless run says on stderr: a progress line, and messages that never mix with it."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import BinaryIO, TextIO

from asyncwatch.events import SETTLED, LogRecorded, WorkerState
from asyncwatch.model.reducer import Fleet
from asyncwatch.model.services import services_of
from asyncwatch.model.summary import counts_text
from asyncwatch.text import clock, printable

_LIVE_INTERVAL = 0.1
_LINE_INTERVAL = 1.0
_CALM_INTERVAL = 10.0
_HEARTBEAT = 300.0
_ERASE = "\r\x1b[K"
_UP = frozenset({WorkerState.RUNNING})


class Narrator:
    """Writes to `stream`, which may be a terminal.

    A terminal shows one live line, written over ten times a second at most; anything else gets at most one line
    a second, and the last one. Of services, which run for ever, it gets one at most every ten seconds, when another
    number of them is up or one was restarted, and every five minutes as a sign of life. A stream that fails gets
    nothing more: narration is not worth a run.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float]) -> None:
        self._stream: TextIO | None = stream
        self._clock = clock
        self.is_live = stream.isatty() and os.environ.get("TERM") != "dumb"
        """Whether the progress is one line that is written over."""
        self.interval = _LIVE_INTERVAL if self.is_live else _LINE_INTERVAL
        """Seconds between two progress lines, and the longest that one may be late."""
        self.stopping: int | None = None
        """How many workers had not ended when the run was stopped; None if it was not."""
        self._run_began: float | None = None
        self._shown = ""
        self._is_on_screen = False
        self._due = clock() + (0.0 if self.is_live else self.interval)
        self._standing: tuple[str, ...] = ()
        self._sign_due = 0.0

    @property
    def columns(self) -> int | None:
        """The width of the stream in cells, None if it is no terminal."""
        return None if self._stream is None else terminal_columns(self._stream)

    def progress(self, fleet: Fleet) -> None:
        """Show how far the run is, unless it is too early since the last time."""
        now = self._clock()
        if self._run_began is None and fleet.run is not None:
            self._run_began = now - fleet.latest
        if fleet.rows and now >= self._due:
            self._due = now + self.interval
            if self.is_live or not self._is_calm(fleet) or self._is_news(fleet, now):
                self._show(progress_line(fleet, self._seconds(fleet, now), self.stopping))

    def _is_calm(self, fleet: Fleet) -> bool:
        """Return whether the run goes on for ever, as far as is known."""
        return fleet.tree.is_supervised and self.stopping is None

    def _is_news(self, fleet: Fleet, now: float) -> bool:
        """Return whether services stand otherwise than when it was told last, or that was long ago."""
        standing = tuple(_standing(fleet, None))
        if standing == self._standing and now < self._sign_due:
            return False
        self._standing = standing
        self._due, self._sign_due = now + _CALM_INTERVAL, now + _HEARTBEAT
        return True

    def _seconds(self, fleet: Fleet, now: float) -> float:
        """Return the time since the run started: a clock of lines that are few or live moves on without an event."""
        if self._run_began is None or not (self.is_live or self._is_calm(fleet)):
            return fleet.latest
        return max(fleet.latest, now - self._run_began)

    def finish(self, fleet: Fleet) -> None:
        """Show the last progress and leave it standing."""
        self._show(progress_line(fleet, fleet.end, self.stopping))
        if self._is_on_screen:
            self._is_on_screen = False
            self._put("\n")

    def say(self, text: str) -> None:
        """Write `text`, which may be several lines, above the live line."""
        self.clear()
        self._put(f"{text}\n")

    def clear(self) -> None:
        """Take the live line away until the next progress."""
        if self._is_on_screen:
            self._is_on_screen = False
            self._put(_ERASE)

    def _show(self, line: str) -> None:
        if self.is_live:
            line = line[: (self.columns or 80) - 1]
            if line != self._shown or not self._is_on_screen:
                self._put(f"{_ERASE}{line}")
                self._is_on_screen = True
        elif line != self._shown:
            self._put(f"{line}\n")
        self._shown = line

    def _put(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None


def terminal_columns(stream: TextIO | BinaryIO) -> int | None:
    """Return how many cells wide the terminal behind `stream` is, 80 if it does not say; None if it is none."""
    try:
        if not stream.isatty():
            return None
        # A terminal that does not know its size says 0.
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def progress_line(fleet: Fleet, now: float, stopping: int | None = None) -> str:
    """Return how far the run is at `now`: `00:03.2  15/20  12 succeeded, 3 failed  38 attempts/s`.

    Services never come to an end: of them it tells how many are up, of how many the polls fail, and the restarts:
    `00:03.2  7/8 up, 1 failing  12 restarts`.
    Of a run that was stopped, when `stopping` workers had not ended, it tells how many of these still have not.
    """
    parts = [clock(now), *_standing(fleet, stopping)]
    if fleet.finished is None:
        parts.append(f"{fleet.rate.per_second(now):.0f} attempts/s")
    return "  ".join(filter(None, parts))


def _standing(fleet: Fleet, stopping: int | None) -> Iterator[str]:
    """Yield how many workers are in which state, and what the start of a tree waits for."""
    if stopping is not None and fleet.finished is None:
        yield f"stopping: {fleet.workers - fleet.settled:,} of {stopping:,} have not ended"
        yield counts_text(fleet.counts)
        return
    services = services_of(fleet)
    batch = dict(Counter(fleet.counts) - services.counts)
    if services.workers and fleet.finished is None:
        told = f"{services.up:,}/{services.wanted:,} up"
        if rest := counts_text({state: count for state, count in services.counts.items() if state not in _UP}):
            told += f", {rest}"
        if failing := len(fleet.polls.failing):
            told += f", {failing:,} failing"
        yield told
        if services.starting is not None:
            yield f"waiting for {printable(services.starting.name)} to be ready"
        yield f"{fleet.restarts.total:,} restart{'' if fleet.restarts.total == 1 else 's'}"
    else:
        batch = fleet.counts
    if number := sum(batch.values()):
        settled = sum(count for state, count in batch.items() if state in SETTLED)
        yield f"{settled:,}/{number:,}"
        yield counts_text(batch)


def is_warning(log: LogRecorded) -> bool:
    """Return whether the record is a warning or worse."""
    number = logging.getLevelNamesMapping().get(log.level)
    if number is None:  # a level without a name of its own is called "Level 35"
        digits = log.level.removeprefix("Level ")
        number = int(digits) if digits.isdecimal() else logging.WARNING
    return number >= logging.WARNING


def log_lines(log: LogRecorded) -> str:
    """Return the record as text for a terminal; further lines of its message are indented."""
    first, *further = log.message.splitlines() or [""]
    worker = f" [{printable(log.worker)}]" if log.worker is not None else ""
    lines = [f"{clock(log.at)} {printable(log.level)}{worker} {printable(first)}"]
    return "\n".join(lines + [f"    {printable(line)}" for line in further])
