"""A list of things to act on, a few lines each. The cursor stays on its thing when the list changes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import ClassVar, NamedTuple

from textual import events
from textual.binding import BindingType
from textual.strip import Strip

from asyncwatch.ui.keys import Key, bindings
from asyncwatch.ui.lines import Line
from asyncwatch.ui.widgets.lines_widget import LinesView

PICKS = (
    Key("down,j", "move(1)", "down", "the one below", "j k", footer=4),
    Key("up,k", "move(-1)", "up", "the one above", "↑ k"),
    Key("home,g", "edge(-1)", "first", "the first", "Home g"),
    Key("end,G", "edge(1)", "last", "the last", "End G"),
)


class Item(NamedTuple):
    """A thing in the list: what it is known by, and its lines."""

    key: Hashable
    lines: Sequence[Line]


class PickList(LinesView):
    """Shows items one below the other, each with a blank line after it."""

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

    def show_items(self, items: Sequence[Item], empty: Line = ()) -> None:
        """Show these items from now on, or one line if there is none."""
        before = self.selected
        offset = self._selected_lines().start - round(self.scroll_y) if self._items else 0
        self._items = items
        keys = [item.key for item in items]
        self._index = keys.index(before) if before in keys else max(0, min(self._index, len(items) - 1))
        lines: list[Line] = []
        self._starts = []
        for item in items:
            self._starts.append(len(lines))
            lines += [*item.lines, ()]
        self.show(lines or [empty])
        if before in keys and 0 <= offset < self.size.height:
            # What comes and goes above it does not move it.
            self.scroll_to(y=self._selected_lines().start - offset, animate=False, immediate=True)

    def render_line(self, y: int) -> Strip:
        """Return the line that is scrolled to `y`, under the cursor if it is one of the selected item."""
        index = round(self.scroll_y) + y
        line = self._lines[index] if index < len(self._lines) else ()
        under = ["cursor"] if self._items and index in self._selected_lines() else []
        return self._paint.strip(line, self.scrollable_content_region.width, *under)

    def action_move(self, items: int) -> None:
        """Move the cursor by so many items."""
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
        shown = self._selected_lines()
        top, height = round(self.scroll_y), self.size.height
        if shown.start < top:
            self.scroll_to(y=shown.start, animate=False, immediate=True)
        elif shown.stop > top + height:
            self.scroll_to(y=shown.stop - height, animate=False, immediate=True)
