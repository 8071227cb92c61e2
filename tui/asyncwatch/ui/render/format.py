"""How values read on the screen: durations, counts, bars, the glyph of a state. Pure: no colour, no widget."""

from __future__ import annotations

import math
from collections.abc import Sequence

from asyncwatch.events import WorkerState
from asyncwatch.text import printable

GLYPHS = {
    WorkerState.QUEUED: "○",
    WorkerState.RUNNING: "●",
    WorkerState.BACKING_OFF: "↻",
    WorkerState.RESTARTING: "↺",
    WorkerState.WAITING: "◌",
    WorkerState.CANCELLING: "□",
    WorkerState.UNRESPONSIVE: "▲",
    WorkerState.SUCCEEDED: "✓",
    WorkerState.FAILED: "✗",
    WorkerState.EXHAUSTED: "⊘",
    WorkerState.CANCELLED: "■",
    WorkerState.TIMED_OUT: "◷",
}
"""One glyph a state, each one cell wide in every terminal."""

STRUCK = "↯"
"""Marks bad luck that injected a fault. An emoji flash would be two cells in one terminal and one in the next."""

_BARS = "▁▂▃▄▅▆▇█"
# Joiners and variation selectors only change how neighbours are drawn, and terminals disagree on the width.
_JOINERS = dict.fromkeys(map(ord, "\u200c\u200d\ufe0e\ufe0f"))


def state_label(state: WorkerState) -> str:
    """Return glyph and word: `✓ succeeded`."""
    return f"{GLYPHS[state]} {state}"


def paint_of(state: WorkerState) -> str:
    """Return the name under which the stylesheet knows the state: `backing-off`."""
    return state.replace(" ", "-")


def duration(seconds: float) -> str:
    """Return a time span in at most seven cells, three figures or so: `0.4 ms`, `212 ms`, `1.04 s`, `2m 05s`."""
    milliseconds = seconds * 1000
    if milliseconds < 0.95:
        return f"{max(0.0, milliseconds):.1f} ms"
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    return elapsed(seconds)


def elapsed(seconds: float) -> str:
    """Return a time span in seconds or more, at most seven cells: `0.21 s`, `12.3 s`, `2m 05s`, `1h 02m`, `3d 04h`."""
    seconds = max(0.0, seconds)
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h {whole // 60 % 60:02d}m"
    return f"{whole // 86_400}d {whole // 3600 % 24:02d}h"


def clock(seconds: float) -> str:
    """Return the time since the run started as `mm:ss.t`, with hours in front once there are any."""
    tenths = int(max(0.0, seconds) * 10)
    minutes, tenths = divmod(tenths, 600)
    tail = f"{minutes % 60:02d}:{tenths // 10:02d}.{tenths % 10}"
    return f"{minutes // 60}:{tail}" if minutes >= 60 else tail


def rate(per_second: float) -> str:
    """Return a rate without its unit: one decimal below 10, thousands separated."""
    return f"{per_second:.1f}" if 0 < per_second < 9.95 else f"{per_second:,.0f}"


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: `1 worker`, `4,000 workers`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def percent(part: int, whole: int) -> str:
    """Return `75 %`. It reads 100 only when nothing is missing."""
    return f"{100 * part // whole if whole else 0} %"


def bar(fraction: float, width: int) -> tuple[str, str]:
    """Return the filled and the empty part of a line `width` cells long, in steps of half a cell."""
    halves = round(min(1.0, max(0.0, fraction)) * width * 2)
    filled = "━" * (halves // 2) + "╸" * (halves % 2)
    return filled, "─" * (width - len(filled))


def sparkline(values: Sequence[float]) -> str:
    """Return one block a value, the largest as high as the line. Nothing at all draws the lowest."""
    top = max(values, default=0)
    if top <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(7, math.ceil(value / top * 7))] for value in values)


def clean(text: str) -> str:
    r"""Return `text` on one line with nothing in it that could steer a terminal or tear a row.

    Control and format characters are shown escaped (`\x1b`); what only joins neighbours is left out.
    """
    if text.isascii() and text.isprintable():
        return text
    return printable(text.translate(_JOINERS))
