"""Widgets that show lines of spans: a block as high as its lines, and a view that scrolls over many."""

from __future__ import annotations

from collections.abc import Sequence

from textual.errors import NoWidget
from textual.geometry import Offset, Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from asyncwatch.ui.render.spans import Line
from asyncwatch.ui.render.styles import SpanWidget, StripMaker

SCROLLED_TO_SELECTION = "The selection was off screen. Press the key again."
SELECTION_IS_TO_COME = "The selected worker is still to come. Move the cursor, or try again in a moment."
SELECT_FIRST = "Select a worker first: ↓ holds the rows where they are. Home at the top follows again."
NO_ROOM_FOR_SELECTION = "The selection is off screen. Enlarge the terminal."


def is_on_terminal(widget: Widget, y: int) -> bool:
    """Return whether line `y` of the widget is visible: inside the terminal, with no notice or dialog on it."""
    x, y = widget.region.offset + Offset(0, y)
    try:
        # A new size of the terminal is known before the layout follows it.
        return y < widget.app.size.height and widget.screen.get_widget_at(x, y)[0] is widget
    except NoWidget:
        return False


class Block(SpanWidget, Widget):
    """A few lines, all visible. `show` repaints the changed ones and adapts the height."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        self._strip_maker = StripMaker(self)
        self._strips: dict[int, tuple[Line, int, Strip]] = {}
        """By y: the line, its width, and its strip."""
        super().__init__(id=id)
        self._lines: list[Line] = []

    @property
    def lines(self) -> Sequence[Line]:
        """The shown lines."""
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
        """Return the strips of these lines; unchanged ones are the same objects as before.

        This replaces Textual's pass over every line for border, tint and opacity, which the widget does not have.
        """
        width, padding = self.size.width, self.styles.padding
        strips: list[Strip] = []
        for y in crop.line_range:
            line = self._lines[y] if y < len(self._lines) else ()
            known = self._strips.get(y)
            if known is None or known[1] != width or known[0] != line:
                strip = self._strip_maker.strip(line, width, left=padding.left, right=padding.right)
                self._strips[y] = known = (line, width, strip)
            strips.append(known[2])
        if crop.x or crop.width < self.region.width:
            return [strip.crop(crop.x, crop.right) for strip in strips]
        return strips

    def notify_style_update(self) -> None:
        """Resolve colours anew."""
        self._strip_maker.forget()
        self._strips.clear()
        super().notify_style_update()


class LinesView(SpanWidget, ScrollView, can_focus=True):
    """Many lines, scrolled. `show` keeps the scroll position."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        self._strip_maker = StripMaker(self)
        super().__init__(id=id)
        self._lines: Sequence[Line] = ()

    @property
    def lines(self) -> Sequence[Line]:
        """All lines, visible or not."""
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
        return self._strip_maker.strip(line, self.scrollable_content_region.width)

    def watch_show_vertical_scrollbar(self, is_shown: bool) -> None:
        """Set the position of a new scroll bar: the view may have scrolled before the bar was laid out."""
        if is_shown:
            self.vertical_scrollbar.position = self.scroll_y

    def notify_style_update(self) -> None:
        """Resolve colours anew."""
        self._strip_maker.forget()
        super().notify_style_update()

    def scroll_lines(self, lines: int) -> None:
        """Scroll down by `lines`."""
        self._scroll(round(self.scroll_y) + lines)

    def scroll_to_edge(self, direction: int) -> None:
        """Scroll to the top (-1) or the bottom (1)."""
        self._scroll(0 if direction < 0 else self.max_scroll_y)

    def _scroll(self, top: int) -> None:
        if top != round(self.scroll_y):
            # Without `force` Textual refuses to scroll before the scroll bar is laid out.
            self.scroll_to(y=top, animate=False, immediate=True, force=True)
