"""How values look on the screen: the glyph of a state, bars, sparklines. Pure: no colour, no widget."""

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
