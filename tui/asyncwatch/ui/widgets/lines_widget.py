"""Widgets that show lines of spans: a block as high as its lines, and a view that scrolls over many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from asyncwatch.ui.lines import Line
from asyncwatch.ui.paint import PAINTS, Paint


class Block(Widget):
    """A few lines, all of them visible. `show` repaints those that changed and takes the height they need."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(PAINTS)

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        self._paint = Paint(self)
        super().__init__(id=id)
        self._lines: list[Line] = []

    @property
    def lines(self) -> Sequence[Line]:
        """What is shown."""
        return self._lines

    def show(self, lines: Sequence[Line]) -> None:
        """Show these lines from now on."""
        before, self._lines = self._lines, list(lines)
        if len(before) != len(lines):
            self.styles.height = len(lines)
            self.refresh()
            return
        for y, (old, new) in enumerate(zip(before, lines, strict=True)):
            if old != new:
                self.refresh(Region(0, y, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        """Return one line in the width there is."""
        line = self._lines[y] if y < len(self._lines) else ()
        return self._paint.strip(line, self.size.width)

    def notify_style_update(self) -> None:
        """Resolve colours anew."""
        self._paint.forget()
        super().notify_style_update()


class LinesView(ScrollView, can_focus=True):
    """Many lines, scrolled. `show` keeps the place of the reader."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(PAINTS)

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        self._paint = Paint(self)
        super().__init__(id=id)
        self._lines: Sequence[Line] = ()

    @property
    def lines(self) -> Sequence[Line]:
        """What is shown, scrolled out lines included."""
        return self._lines

    def show(self, lines: Sequence[Line]) -> None:
        """Show these lines from now on."""
        if lines == self._lines:
            return
        self._lines = lines
        if len(lines) != self.virtual_size.height:
            self.virtual_size = Size(0, len(lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return the line that is scrolled to `y`."""
        index = round(self.scroll_y) + y
        line = self._lines[index] if index < len(self._lines) else ()
        return self._paint.strip(line, self.scrollable_content_region.width)

    def notify_style_update(self) -> None:
        """Resolve colours anew."""
        self._paint.forget()
        super().notify_style_update()
