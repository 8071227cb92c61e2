"""From names of paint to the colours of the stylesheet, and from lines of spans to strips."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from asyncwatch.events import WorkerState
from asyncwatch.ui.format import paint_of
from asyncwatch.ui.lines import Line, crop_line, width_of

PAINTS = frozenset(
    {f"paint--{paint_of(state)}" for state in WorkerState}
    | {
        f"paint--{name}"
        for name in (
            *("muted", "faint", "strong", "title", "key", "heading", "cursor", "mark", "struck"),
            *("bar", "rest", "spark", "debug", "info", "warning", "error", "notice", "note", "taken"),
        )
    }
)
"""The component classes of every widget that draws itself; asyncwatch.tcss says what they look like."""


class Paint:
    """The styles of one widget, resolved once and kept until its stylesheet rules change."""

    def __init__(self, widget: Widget) -> None:
        self._widget = widget
        self._styles: dict[tuple[str, ...], Style] = {}

    def style(self, *names: str) -> Style:
        """Return the style of the widget with the named paints over it, the later ones on top."""
        style = self._styles.get(names)
        if style is None:
            components = (f"paint--{name}" for name in names if name)
            style = self._styles[names] = self._widget.get_visual_style(*components).rich_style
        return style

    def strip(self, line: Line, width: int, *under: str) -> Strip:
        """Return the line in exactly `width` cells; `under` are the paints below those of the spans."""
        taken = width_of(line)
        if taken > width:
            line = crop_line(line, width)
            taken = width_of(line)
        style = self.style
        segments = [Segment(text, style(*under, *paint.split())) for text, paint in line if text]
        if taken < width:
            segments.append(Segment(" " * (width - taken), style(*under)))
        return Strip(segments, width)

    def forget(self) -> None:
        """Resolve every style anew."""
        self._styles.clear()
