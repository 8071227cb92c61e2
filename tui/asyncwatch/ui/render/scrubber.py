"""The line of a recorded run: the shown moment, and when something happened. Pure."""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from asyncwatch import text as units
from asyncwatch.commands import Recording
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.spans import Line, Span, crop, width_of

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
FAILED, THROTTLED, HERE = "!", "~", "●"
_LEAST_BAR = 10
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)", re.ASCII)
_SECONDS = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


class Scrubber(NamedTuple):
    """The line, and where its bar is."""

    line: Line
    left: int
    """The first cell of the bar."""
    cells: int
    """How many cells the bar has."""

    def moment(self, x: int, end: float) -> float | None:
        """Return the moment of the cell `x`, None outside of the bar."""
        cell = x - self.left
        return end * cell / max(1, self.cells - 1) if 0 <= cell < self.cells else None


def scrubber(recording: Recording, at: float, width: int) -> Scrubber:
    """Return the line of a recording of which the moment `at` is shown, in `width` cells."""
    sign = "▶" if recording.is_playing else "‖"
    head = [
        Span(f"{sign} ", "key"),
        Span(units.clock(at), "strong"),
        Span(f" of {units.clock(recording.end)} ", "muted"),
        Span(f"{recording.speed:g}x ", "muted"),
    ]
    tail: Line = []
    if recording.note:
        tail = [Span(f" {crop(fmt.safe(recording.note), 40)}", "warning")]
    elif recording.indexed < 1:
        tail = [Span(f" indexing {recording.indexed:.0%}", "muted")]
    cells = width - width_of([*head, *tail])
    if cells < _LEAST_BAR:
        tail, cells = [], max(0, width - width_of(head))
    return Scrubber([*head, *_bar(recording, at, cells), *tail], width_of(head), cells)


def _bar(recording: Recording, at: float, cells: int) -> Line:
    last = max(1, cells - 1)
    end = recording.end or 1.0
    here = min(cells - 1, round(at / end * last))
    line: list[Span] = []
    for cell in range(cells):
        # The moments that are nearest to this cell.
        low, high = end * (cell - 0.5) / last, end * (cell + 0.5) / last
        glyph, style = ("━", "bar") if cell < here else ("─", "rest")
        if _has_any(recording.throttled, low, high):
            glyph, style = THROTTLED, "waiting"
        if _has_any(recording.failures, low, high):
            glyph, style = FAILED, "error"
        if cell == here:
            glyph, style = HERE, "key"
        if line and line[-1].style == style:
            line[-1] = Span(line[-1].text + glyph, style)
        else:
            line.append(Span(glyph, style))
    return line


def _has_any(times: Sequence[float], low: float, high: float) -> bool:
    return bisect_left(times, low) < bisect_left(times, high)


def failure_beside(recording: Recording, at: float, direction: int) -> float | None:
    """Return the moment of the next failure after `at` (1) or the last one before it (-1); None if there is none."""
    failures = recording.failures
    index = bisect_right(failures, at) if direction > 0 else bisect_left(failures, at) - 1
    return failures[index] if 0 <= index < len(failures) else None


def speed_beside(speed: float, direction: int) -> float:
    """Return the next higher (1) or lower (-1) speed, or the same one if there is none."""
    return SPEEDS[min(len(SPEEDS) - 1, max(0, SPEEDS.index(speed) + direction))]


def parse_moment(text: str, recording: Recording) -> float:
    """Return a moment in seconds since the run started: `90`, `1:30`, `1:02:03`, `14:03:20` (o'clock), or `end`.

    Three numbers are the time of day, if the run was recorded at that time, and else the time since its start.

    Raises:
        ValueError: The text is none of these, or no moment of the recording. The message is for a person.

    """
    text = text.strip().lower()
    if text in {"end", "start"}:
        return recording.end if text == "end" else 0.0
    if _SECONDS.fullmatch(text):
        moment = float(text)
    elif (match := _CLOCK.fullmatch(text)) is not None:
        hours, minutes, seconds = float(match[1] or 0), float(match[2]), float(match[3])  # infinite, if long enough
        moment = hours * 3600 + minutes * 60 + seconds
        if match[1] is not None and (of_day := _time_of_day(hours, minutes, seconds, recording)) is not None:
            moment = of_day
    else:
        raise ValueError("Type a time such as 90, 1:30, 14:03:20, start or end.")
    if not moment <= recording.end + 1e-9:
        raise ValueError(f"The recording ends at {units.clock(math.floor(recording.end * 10) / 10)}.")
    return min(moment, recording.end)


def _time_of_day(hours: float, minutes: float, seconds: float, recording: Recording) -> float | None:
    """Return the first moment of the recording at that local time of day, if there is one."""
    if hours > 23 or minutes > 59 or seconds >= 60:
        return None
    start = datetime.fromtimestamp(recording.started).astimezone()
    day = start.replace(hour=int(hours), minute=int(minutes), second=0, microsecond=0) + timedelta(seconds=seconds)
    passed = (day - start).total_seconds()
    if passed <= -1:  # the start has parts of a second
        passed += 24 * 3600
    return max(0.0, passed) if passed <= recording.end else None
