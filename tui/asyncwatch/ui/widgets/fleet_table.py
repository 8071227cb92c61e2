"""The fleet, one row a worker. What it costs to draw is what is visible, however many workers there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import BindingType
from textual.cache import LRUCache
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from asyncwatch.model.rows import Row
from asyncwatch.model.tree import Branch
from asyncwatch.model.view.outline import Line
from asyncwatch.ui import actions as asks
from asyncwatch.ui.display import Scene
from asyncwatch.ui.keys import MOVES, bindings
from asyncwatch.ui.messages import DetailsRequested, FoldRequested, LinesReady, SortRequested
from asyncwatch.ui.render import columns
from asyncwatch.ui.render import tree as branches
from asyncwatch.ui.render.cost import is_distorted
from asyncwatch.ui.render.spans import Span
from asyncwatch.ui.render.styles import InPaints, Paint
from asyncwatch.ui.slices import Slices

_NAMES = 4096
"""Names that are measured at once: a few milliseconds."""
_NEAR = 4096
"""Lines among which the nearest one is looked for by going through them."""
_ROOM_FOR_LUCK = 120
"""Columns from which on bad luck is shown as if it could strike."""
_Key = tuple[object, ...]
_NO_LUCK = (None, 1.0)
"""Thresholds of bad luck that let it strike nobody, as far as is known."""


class FleetTable(InPaints, ScrollView, can_focus=True):
    """A heading and the lines of the view. The selection is one of these, not a place: it stays on it in any order.

    The cursor is always on screen. When the selected line moves, the view scrolls to it. When a person scrolls the
    view, the cursor moves along with its edge.

    `draw` is called when the scene may have changed; it repaints the visible lines that look different now.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(MOVES)]

    def __init__(self, scene: Scene) -> None:
        self._paint = Paint(self)
        super().__init__()
        self._scene = scene
        self._is_untouched = True
        self._sought: Line | None = None
        """What the cursor was on in the fleet before this one, until a line of that name comes."""
        self._empty_text = ""
        self._layout_of_columns = columns.arrange(80, 0, 0)
        self._slices = Slices(self._work, lambda: self.post_message(LinesReady()))
        self._shared_width = 0
        self._has_idle_luck = False
        self._left_out: set[str] = set()
        self._moment = 0.0
        """The run time of the picture, in seconds: all lines are of the same one."""
        self._drawn: list[_Key | None] = []
        self._shown: list[Strip] = []
        """The visible lines, each with what it depended on in `_drawn`."""
        self._asked: list[_Key] = []
        """What each visible line depended on when it was last asked for.

        Textual gets more lines than it paints: all between two that were asked for, of this widget or any other. So
        that a line is in `_drawn` as it is now does not say that the terminal has it so.
        """
        self._margin = 0
        """Blank cells behind every line."""
        self._strips: LRUCache[_Key, Strip] = LRUCache(512)
        self._begin()

    def _begin(self) -> None:
        """Know nothing yet of the fleet of the scene."""
        self._fleet = self._scene.fleet
        self._selected: Line | None = None
        self._index = 0
        self._order: Sequence[Line] = []
        self._taken: frozenset[Row] = frozenset()
        self._measured = 0
        self._is_indented = False
        self._widest_name = 0
        self._widest_result = 0
        self._widest_error = 0
        self._schemes: set[str] = set()
        self._is_luck_seen = False
        self._forget_lines()

    @property
    def selected(self) -> Row | None:
        """The row under the cursor; None if a branch is there, or nothing is shown."""
        return self._selected if isinstance(self._selected, Row) else None

    @property
    def selected_branch(self) -> Branch | None:
        """The branch under the cursor, if it is one."""
        return self._selected if isinstance(self._selected, Branch) else None

    def highlight(self, rows: Iterable[Row]) -> None:
        """Let these rows, and no others, stand out."""
        self._taken = frozenset(rows)
        self.draw()

    def shows_cursor(self) -> bool:
        """Return whether the selected line is on screen: only then may a key act on it. Else scroll to it and say so.

        A layout may have hidden it a moment ago, or leave no room for any line.
        """
        if self._selected is None or self._is_visible(self._index):
            return True
        self.scroll_to_cursor()
        self.notify(asks.CAME_ON_SCREEN if self._is_visible(self._index) else asks.NO_ROOM)
        return False

    @property
    def is_cursor_low(self) -> bool:
        """Whether the cursor is in the lower half of what is visible."""
        return self._index - round(self.scroll_y) > self.size.height // 2

    def draw(self) -> None:
        """Take over the order of the view, scroll to the cursor and repaint the visible lines that changed."""
        line = self._index - round(self.scroll_y)
        if self._scene.fleet is not self._fleet:
            self._sought = None if self._is_untouched else self._selected
            self._begin()
            self.scroll_to(y=0, animate=False, immediate=True)
        order = self._scene.view.lines()
        if order is not self._order or len(order) != self.virtual_size.height - 1:
            self._follow(order)
        if self._sought is not None:
            self._seek(self._sought)
        self.scroll_to_cursor(line)
        self._scene.view.keep(self.selected)
        self._measure()
        if self._scene.view.is_busy or self._measured < len(self._scene.fleet.rows):
            self._slices.start()
        self._moment = self._scene.now
        asked, count = self._asked, len(self._asked)
        width = self.scrollable_content_region.width
        self._asked = keys = [self._key(y) for y in range(self.size.height)]
        changed = [y for y, key in enumerate(keys) if y >= count or asked[y] != key]
        if changed:
            self.refresh(*[Region(0, y, width, 1) for y in changed])

    def _seek(self, sought: Line) -> None:
        """Put the cursor on the worker or branch of this name, if it has come; look no longer when all have."""
        fleet = self._scene.fleet
        line = fleet.get(sought.name) if isinstance(sought, Row) else fleet.tree.branches.get(sought.path)
        if line is not None or not self._scene.is_gathering:
            self._sought = None
        if line is not None:
            self.select(line)

    def show_if_empty(self, text: str) -> None:
        """Say why no row is visible, when none is."""
        if text != self._empty_text:
            self._empty_text = text
            self.refresh()

    def select(self, line: Line) -> None:
        """Put the cursor on a visible row or branch and scroll it into view."""
        if (place := self._scene.view.place(line)) is not None:
            self._follow(self._scene.view.lines())
            self._move_to(place)

    def action_fold(self) -> None:
        """Fold the branch under the cursor; from a row, or a folded branch, go to the branch above."""
        if not self.shows_cursor():
            return
        view, line = self._scene.view, self._selected
        if isinstance(line, Branch) and not view.is_folded(line):
            self.post_message(FoldRequested(line, is_folded=True))
            return
        above = line.parent if isinstance(line, Branch) else line and self._scene.fleet.tree.branch_of(line)
        if above is not None:
            self.select(above)

    def action_unfold(self) -> None:
        """Unfold the branch under the cursor."""
        if isinstance(self._selected, Branch) and self.shows_cursor():
            self.post_message(FoldRequested(self._selected, is_folded=False))

    def action_move(self, rows: int) -> None:
        """Move the cursor by so many rows."""
        self._move_to(self._index + rows)

    def action_page(self, pages: int) -> None:
        """Move the cursor by so many screenfuls."""
        self._move_to(self._index + pages * max(1, self.size.height - 2))

    def action_edge(self, direction: int) -> None:
        """Move the cursor to the first (-1) or the last (1) row."""
        self._move_to(0 if direction < 0 else len(self._order) - 1)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the lines as the terminal gets them, those that look as they did from where they were kept.

        There is no border, no tint and no opacity: what Textual does for them, to every line, has no effect here.
        """
        if self.scrollable_content_region.width != self._shared_width:
            self._share_out()
        # Where the scroll bar stands no line reaches; where it may stand later, they do.
        margin = 0 if self.show_vertical_scrollbar else self.region.width - self.scrollable_content_region.width
        if margin != self._margin:
            self._margin = margin
            self._forget_lines()
        missing = crop.bottom - len(self._drawn)
        if missing > 0:
            self._drawn += [None] * missing
            self._shown += [Strip.blank(0)] * missing
        drawn, shown = self._drawn, self._shown
        for y in crop.line_range:
            if drawn[y] != (key := self._key(y)):
                shown[y] = self.render_line(y)
                drawn[y] = key
        strips = shown[crop.y : crop.bottom]
        if crop.x or crop.width < self.region.width:
            return [strip.crop(crop.x, crop.right) for strip in strips]
        return strips

    def render_line(self, y: int) -> Strip:
        """Return the heading, or the row that is scrolled to line `y`."""
        self._scene.meter.render_line()
        key = self._key(y)
        if (strip := self._strips.get(key)) is None:
            strip = self._strip(y, self.scrollable_content_region.width)
            # A line that changes with time will not look like this again.
            if y == 0 or not self._is_timed(self._line_at(y)):
                self._strips[key] = strip
        return strip

    def notify_style_update(self) -> None:
        """Resolve colours anew, after a change of theme or focus."""
        self._paint.forget()
        if self.is_mounted:
            self._forget_lines()
        super().notify_style_update()

    def _forget_lines(self) -> None:
        self._strips.clear()
        self._drawn.clear()
        self._shown.clear()
        self._asked.clear()

    def on_resize(self) -> None:
        """Share out the new width."""
        self._arrange()
        self.scroll_to_cursor()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Move the cursor along when a person scrolls it off the screen."""
        super().watch_scroll_y(old_value, new_value)
        rows, top = self.size.height - 1, round(new_value)
        if rows > 0 and self._order and not self._is_visible(self._index):
            self._select_at(min(max(top, self._index), top + rows - 1))

    def watch_show_vertical_scrollbar(self, is_shown: bool) -> None:
        """Put a new scroll bar where the view is: it may have scrolled before the bar was laid out."""
        if is_shown:
            self.vertical_scrollbar.position = self.scroll_y

    def on_click(self, event: events.Click) -> None:
        """Sort by a heading, select a row, open it on the second click."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y == 0:
            if (key := self._layout_of_columns.column_at(offset.x)) is not None:
                self.post_message(SortRequested(key))
        elif (line := self._line_at(offset.y)) is not None:
            self._move_to(self._index_at(offset.y))
            if event.chain == 2:
                self.open(line)

    def open(self, line: Line) -> None:
        """Ask for the details of a row; fold or unfold a branch."""
        if isinstance(line, Row):
            self.post_message(DetailsRequested(line))
        else:
            self.post_message(FoldRequested(line, is_folded=not self._scene.view.is_folded(line)))

    def _index_at(self, y: int) -> int:
        return round(self.scroll_y) + y - 1

    def _line_at(self, y: int) -> Line | None:
        index = self._index_at(y)
        return self._order[index] if 0 <= index < len(self._order) else None

    def _key(self, y: int) -> _Key:
        """Return all that line `y` depends on."""
        view = self._scene.view
        layout = self._layout_of_columns
        if y == 0:
            return (view.sort, view.reverse, layout)
        line = self._line_at(y)
        if line is None:
            return (layout, self._empty_text if y == 1 and not self._order else "")
        is_selected = line is self._selected
        moment = self._moment if self._is_timed(line) else None
        look = (line.version, moment, is_selected and self.has_focus, is_selected, layout)
        if isinstance(line, Branch):
            return ("branch", line.path, *look, view.is_folded(line), view.left[line.path], self.size.width)
        tree = self._scene.fleet.tree
        is_taken = line in self._taken
        marks = (line.name in view.marks, is_taken, is_distorted(self._scene.fleet, line))
        return ("row", line.name, *look, *marks, tree.is_shown, tree.is_at_limit(line))

    def _is_timed(self, line: Line | None) -> bool:
        """Return whether the line changes with time alone."""
        if isinstance(line, Branch):
            return self._scene.fleet.tree.gauge(line, self._moment).expires_in is not None
        return line is not None and line.state in columns.TIMED

    def _strip(self, y: int, width: int) -> Strip:
        view = self._scene.view
        layout = self._layout_of_columns
        if y == 0:
            line = columns.heading(layout, view.sort, is_reversed=view.reverse)
            return self._paint.strip(line, width, "heading", right=self._margin)
        shown = self._line_at(y)
        if shown is None:
            text = self._empty_text if y == 1 and not self._order else ""
            return self._paint.strip([Span(" " * columns.PREFIX + text, "muted")], width, right=self._margin)
        fleet, now = self._scene.fleet, self._moment
        is_selected = shown is self._selected
        under = ["cursor"] if is_selected else []
        if isinstance(shown, Branch):
            gauge, is_folded = fleet.tree.gauge(shown, now), view.is_folded(shown)
            line = branches.branch_line(
                shown, gauge, width, is_folded=is_folded, is_selected=is_selected, left=view.left[shown.path]
            )
        else:
            under += ["taken"] if shown in self._taken else []
            line = columns.cells(
                shown,
                now,
                layout,
                is_selected=is_selected,
                is_marked=shown.name in view.marks,
                label=branches.label(shown, fleet.tree.branch_of(shown)),
                note=branches.note(fleet, shown, now, layout.columns[-1][1]),
                is_taken=shown in self._taken,
                is_late=is_distorted(fleet, shown),
            )
        return self._paint.strip(line, width, *under, right=self._margin)

    def _follow(self, order: Sequence[Line]) -> None:
        """Take over a new order: find the selected worker in it, or its nearest neighbour that is still there."""
        before, self._order = self._order, order
        if len(order) != self.virtual_size.height - 1:
            self.virtual_size = Size(0, len(order) + 1)
        if not order:
            self._selected = None
            self._index = 0
        elif self._selected is None or (self._is_untouched and isinstance(order[0], Branch)):
            self._selected, self._index = order[0], 0
        elif self._index >= len(order) or order[self._index] is not self._selected:
            self._index = self._find(self._selected, before, order)
            self._selected = order[self._index]

    def _find(self, selected: Line, before: Sequence[Line], order: Sequence[Line]) -> int:
        position = self._scene.view.place
        if (place := position(selected)) is not None:
            return place
        above = self._scene.fleet.tree.branch_of(selected) if isinstance(selected, Row) else selected.parent
        while above is not None:
            if self._scene.view.is_folded(above) and (place := position(above)) is not None:
                return place
            above = above.parent
        if len(before) > _NEAR and isinstance(selected, Row):
            return min(self._scene.view.place_near(selected), len(order) - 1)
        for distance in range(1, len(before)):
            for index in (self._index + distance, self._index - distance):
                if 0 <= index < len(before) and (place := position(before[index])) is not None:
                    return place
        return min(self._index, len(order) - 1)

    def _move_to(self, index: int) -> None:
        if not self._order:
            return
        before = self._index
        self._select_at(index)
        for changed in (before, self._index):
            self.refresh(Region(0, changed - round(self.scroll_y) + 1, self.scrollable_content_region.width, 1))
        self.scroll_to_cursor()

    def _select_at(self, index: int) -> None:
        """Put the cursor on the line of that index, or on the nearest one."""
        self._is_untouched = False
        self._sought = None
        self._index = min(max(0, index), len(self._order) - 1)
        self._selected = self._order[self._index]
        self._scene.view.keep(self.selected)
        self._slices.hurry()

    def _is_visible(self, index: int) -> bool:
        return 0 <= index - round(self.scroll_y) < self.size.height - 1

    def scroll_to_cursor(self, line: int | None = None) -> None:
        """Scroll if the cursor is not on screen: to where it stands on line `line`, or as little as will do.

        The line below the heading is 0.
        """
        rows = self.size.height - 1
        if rows < 1:
            return
        last_top = max(0, len(self._order) - rows)
        top = min(round(self.scroll_y), last_top)
        if not top <= self._index < top + rows:
            if line is None or not 0 <= line < rows:
                line = 0 if self._index < top else rows - 1
            top = min(max(0, self._index - line), last_top)
        if top != round(self.scroll_y):
            # The scroll bar may not be laid out yet: without `force` Textual would refuse to scroll.
            self.scroll_to(y=top, animate=False, immediate=True, force=True)

    def on_unmount(self) -> None:
        """Leave what is not done."""
        self._slices.stop()

    def _work(self, is_time_up: Callable[[], bool]) -> bool:
        """Measure names and order lines until time is up; return whether there is more to do."""
        rows = self._scene.fleet.rows
        while self._measured < len(rows) and not is_time_up():
            self._measure()
        return self._measured < len(rows) or self._scene.view.work(is_time_up)

    def _measure(self) -> None:
        """Learn how wide texts are: each worker's name once, the visible results and errors as they come."""
        fleet = self._scene.fleet
        rows, tree = fleet.rows, fleet.tree
        if tree.is_shown and not self._is_indented:
            self._is_indented = True
            self._measured = 0
        widest_indent = branches.WIDEST_INDENT if tree.is_shown else 0
        before = (self._widest_name, self._widest_result, self._widest_error, len(self._schemes))
        widest_name, widest_result, widest_error = before[:3]
        for row in rows[self._measured : self._measured + _NAMES]:
            # Only a longer name, or one whose characters may be wide, can be wider than the widest.
            if len(row.name) + widest_indent > widest_name or not row.name.isascii():
                widest_name = max(widest_name, cell_len(branches.label(row, tree.branch_of(row))))
            # With one that has none, or two of them, none is left out.
            if len(self._schemes) < 2 and "" not in self._schemes:
                self._schemes.add(columns.scheme_of(row.name))
        self._measured = min(len(rows), self._measured + _NAMES)
        for y in range(1, self.size.height):
            row_at = self._line_at(y)
            if row_at is None:
                break
            if isinstance(row_at, Branch):
                continue
            self._is_luck_seen |= row_at.is_struck or row_at.latency > 0
            if row_at.result is not None:
                widest_result = max(widest_result, cell_len(row_at.result))
            if widest_error < columns.ENOUGH_OF_ERROR:
                note = branches.note(fleet, row_at, self._scene.now)
                needed = cell_len(columns.shown_error(row_at)) + (cell_len(note) + 2 if note else 0)
                widest_error = max(widest_error, needed)
        self._widest_name, self._widest_result, self._widest_error = widest_name, widest_result, widest_error
        has_grown = before != (widest_name, widest_result, widest_error, len(self._schemes))
        is_luck_idle = self._is_luck_idle()
        if has_grown or self._left_out != self._without() or self._has_idle_luck != is_luck_idle:
            self._has_idle_luck = is_luck_idle
            self._arrange()

    def _without(self) -> set[str]:
        """Return the columns in which a tree has nothing to say: no retries, no luck that strikes, no result."""
        fleet = self._scene.fleet
        if not fleet.tree.is_supervised:
            return set()
        is_said = {
            "retries": fleet.tree.most_attempts > 1,
            "luck": self._is_luck_seen or fleet.settings.value("bad luck") not in _NO_LUCK,
            "result": fleet.tree.has_batch or self._widest_result > 0,
        }
        return {key for key, said in is_said.items() if not said}

    def _is_luck_idle(self) -> bool:
        """Return whether the terminal is narrow and bad luck strikes nobody, and was not asked to."""
        is_idle = not self._is_luck_seen and self._scene.fleet.settings.value("bad luck") == 1.0
        return is_idle and self.outer_size.width < _ROOM_FOR_LUCK

    def _arrange(self) -> None:
        """Share out the width between the columns."""
        if self._share_out():
            self.refresh()

    def _share_out(self) -> bool:
        """Find the widths of the columns; return whether they have changed."""
        scheme = next(iter(self._schemes)) if len(self._schemes) == 1 else ""
        widest_name = self._widest_name - len(scheme)
        self._shared_width = width = self.scrollable_content_region.width
        self._left_out = self._without()
        wanted = widest_name, self._widest_result, self._widest_error
        layout = columns.arrange(width, *wanted, scheme, self._left_out, is_luck_idle=self._is_luck_idle())
        has_changed = layout != self._layout_of_columns
        self._layout_of_columns = layout
        return has_changed
