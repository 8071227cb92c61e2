"""List of items of a few lines each. The cursor stays on its item, and on screen, when the list changes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from typing import ClassVar, NamedTuple

from textual import events
from textual.binding import BindingType
from textual.strip import Strip

from asyncwatch.ui.keys import Key, bindings
from asyncwatch.ui.render.spans import Line, Span, wrap
from asyncwatch.ui.widgets.lines import NO_ROOM_FOR_SELECTION, SCROLLED_TO_SELECTION, LinesView, is_on_terminal

PICKS = (
    Key("down,j", "move(1)", "move", "the next one, or the one before", "j k", footer=4),
    Key("up,k", "move(-1)", "up", "the previous one", "↑ k"),
    Key("home,g", "edge(-1)", "first", "the first", "Home g"),
    Key("end,G", "edge(1)", "last", "the last", "End G"),
)


class Item(NamedTuple):
    """An item of the list: its key and its lines."""

    key: Hashable
    lines: Sequence[Line]


class PickList(LinesView):
    """Items one below the other, each with a blank line after it.

    The cursor is always on screen: the view scrolls to it, and it moves along when a person scrolls the view.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(PICKS)]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._items: Sequence[Item] = ()
        self._starts: list[int] = []
        self._index = 0

    @property
    def selected(self) -> Hashable | None:
        """The key of the item under the cursor, None if there is no item."""
        return self._items[self._index].key if self._items else None

    def shows_cursor(self) -> bool:
        """Return whether the selected item is on screen, as keys require. If not, scroll to it with a notice.

        Its first line, with its name, is enough.
        """
        if not self._items or self._is_on_terminal():
            return True
        self.scroll_to_cursor()
        self.notify(SCROLLED_TO_SELECTION if self._is_on_terminal() else NO_ROOM_FOR_SELECTION)
        return False

    def _is_on_terminal(self) -> bool:
        y = self._starts[self._index] - round(self.scroll_y)
        return self._is_visible(self._index) and is_on_terminal(self, y)

    def show_items(self, items: Sequence[Item], empty: str = "", *, gap: int = 1) -> None:
        """Show these items from now on, `gap` blank lines after each, or the text `empty` if there are none."""
        before = self.selected
        offset = self._selected_lines().start - round(self.scroll_y) if self._items else 0
        self._items = items
        keys = [item.key for item in items]
        self._index = keys.index(before) if before in keys else max(0, min(self._index, len(items) - 1))
        lines: list[Line] = []
        self._starts = []
        for item in items:
            self._starts.append(len(lines))
            lines += [*item.lines, *(((),) * gap)]
        width = self.scrollable_content_region.width or self.app.size.width
        self.show(lines or wrap([[Span(word, "muted")] for word in empty.split()], width, gap=1))
        if before in keys and 0 <= offset < self.size.height:
            # Items that come and go above it do not move it.
            self._scroll(self._selected_lines().start - offset)
        self.scroll_to_cursor()

    def on_resize(self) -> None:
        """Keep the cursor on screen."""
        self.scroll_to_cursor()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Move the cursor along when a person scrolls it off the screen."""
        super().watch_scroll_y(old_value, new_value)
        if self._items and self.size.height and not self._is_visible(self._index):
            top = round(new_value)
            if self._starts[self._index] < top:
                index = bisect_left(self._starts, top)
            else:
                index = bisect_left(self._starts, top + self.size.height) - 1
            self._index = min(max(0, index), len(self._items) - 1)

    def render_line(self, y: int) -> Strip:
        """Return the line that is scrolled to `y`, with the cursor if it belongs to the selected item."""
        index = round(self.scroll_y) + y
        line = self._lines[index] if index < len(self._lines) else ()
        base = ["cursor"] if self._items and index in self._selected_lines() else []
        return self._strip_maker.strip(line, self.scrollable_content_region.width, *base)

    def action_move(self, items: int) -> None:
        """Move the cursor down by `items`."""
        self._select(self._index + items)

    def action_edge(self, direction: int) -> None:
        """Move the cursor to the first (-1) or last (1) item."""
        self._select(0 if direction < 0 else len(self._items) - 1)

    def on_click(self, event: events.Click) -> None:
        """Select an item."""
        offset = event.get_content_offset(self)
        if offset is not None and self._items:
            line = round(self.scroll_y) + offset.y
            self._select(max((place for place, start in enumerate(self._starts) if start <= line), default=0))

    def _selected_lines(self) -> range:
        start = self._starts[self._index]
        return range(start, start + len(self._items[self._index].lines))

    def _select(self, index: int) -> None:
        if not self._items:
            return
        self._index = min(max(0, index), len(self._items) - 1)
        self.refresh()
        self.scroll_to_cursor(is_whole=True)

    def _is_visible(self, index: int) -> bool:
        return 0 <= self._starts[index] - round(self.scroll_y) < self.size.height

    def scroll_to_cursor(self, *, is_whole: bool = False) -> None:
        """Scroll as little as needed to show the first line of the selected item, or all of it if `is_whole`."""
        height = self.size.height
        if not height:
            return
        top = min(round(self.scroll_y), max(0, len(self._lines) - height))
        if self._items:
            shown = self._selected_lines()
            if is_whole or not top <= shown.start < top + height:
                top = min(max(top, shown.stop - height), shown.start)
        self._scroll(top)
