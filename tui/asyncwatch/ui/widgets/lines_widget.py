"""Widgets that show lines of spans: a block as high as its lines, and a view that scrolls over many."""

from __future__ import annotations

from collections.abc import Sequence

from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from asyncwatch.ui.render.spans import Line
from asyncwatch.ui.render.styles import InPaints, Paint


class Block(InPaints, Widget):
    """A few lines, all of them visible. `show` repaints those that changed and takes the height they need."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        self._paint = Paint(self)
        self._strips: dict[int, tuple[Line, int, Strip]] = {}
        """By line what is shown there, in which width, and how it looks."""
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
        changed = [y for y, (old, new) in enumerate(zip(before, lines, strict=True)) if old != new]
        if changed:
            self.refresh(*[Region(0, y, self.size.width, 1) for y in changed])

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the lines as the terminal gets them, those that look as they did from where they were kept.

        There is no border, no tint and no opacity: what Textual does for them, to every line, has no effect here.
        """
        width, padding = self.size.width, self.styles.padding
        strips: list[Strip] = []
        for y in crop.line_range:
            line = self._lines[y] if y < len(self._lines) else ()
            kept = self._strips.get(y)
            if kept is None or kept[1] != width or kept[0] != line:
                strip = self._paint.strip(line, width, left=padding.left, right=padding.right)
                self._strips[y] = kept = (line, width, strip)
            strips.append(kept[2])
        if crop.x or crop.width < self.region.width:
            return [strip.crop(crop.x, crop.right) for strip in strips]
        return strips

    def notify_style_update(self) -> None:
        """Resolve colours anew."""
        self._paint.forget()
        self._strips.clear()
        super().notify_style_update()


class LinesView(InPaints, ScrollView, can_focus=True):
    """Many lines, scrolled. `show` keeps the place of the reader."""

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
