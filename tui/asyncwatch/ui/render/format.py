"""How values look in a cell: state glyphs, bars, sparklines, text that is safe to show. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from asyncwatch.events import WorkerState
from asyncwatch.text import mask_secrets, printable

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
"""One glyph per state, each one cell wide in every terminal."""

STRUCK = "↯"
"""Marks bad luck that injected a fault. The flash emoji is one cell wide in some terminals and two in others."""

_BARS = "▁▂▃▄▅▆▇█"
# Joiners and variation selectors only change how neighbours are drawn, and terminals disagree on the width.
_JOINERS = dict.fromkeys(map(ord, "\u200c\u200d\ufe0e\ufe0f"))


def state_label(state: WorkerState) -> str:
    """Return glyph and word: `✓ succeeded`."""
    return f"{GLYPHS[state]} {state}"


def state_style(state: WorkerState) -> str:
    """Return the name of the state's style in the stylesheet: `backing-off`."""
    return state.replace(" ", "-")


def bar(fraction: float, width: int) -> tuple[str, str]:
    """Return the filled and the empty part of a line `width` cells long, in steps of half a cell."""
    halves = round(min(1.0, max(0.0, fraction)) * width * 2)
    filled = "━" * (halves // 2) + "╸" * (halves % 2)
    return filled, "─" * (width - len(filled))


def shares(parts: Sequence[int], width: int) -> list[int]:
    """Return how many of `width` cells each part gets: in proportion, and at least one for a part that is not empty."""
    whole = sum(parts)
    if whole <= 0 or width <= 0:
        return [0 for _ in parts[:-1]] + [max(0, width)]
    cells = [max(1, part * width // whole) if part else 0 for part in parts]
    # What is left over, or missing, is the largest part's: no other one changes its length by much for it.
    cells[max(range(len(parts)), key=cells.__getitem__)] += width - sum(cells)
    return [max(0, number) for number in cells]


def sparkline(values: Sequence[float]) -> str:
    """Return one block per value, scaled to the largest. Zeros draw the lowest block."""
    top = max(values, default=0)
    if top <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(7, math.ceil(value / top * 7))] for value in values)


def safe(text: str) -> str:
    r"""Return `text` on one line, without credentials and without anything that could control a terminal.

    Control and format characters are escaped (`\x1b`). Joiners are dropped.
    """
    text = mask_secrets(text)
    if text.isascii() and text.isprintable():
        return text
    return printable(text.translate(_JOINERS))


def setting_value(value: object) -> str:
    """Return the value of a setting as people read it; None is `none`."""
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else safe(str(value))
