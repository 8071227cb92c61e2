"""Fleet table: one row per worker. Only visible rows are drawn."""

from __future__ import annotations

import time
from collections import Counter
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
from asyncwatch.model.view.sort import LIVE_ORDER, QUEUE_ORDER
from asyncwatch.slices import background_work, give_way_to_frame
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.keys import MOVES, bindings
from asyncwatch.ui.messages import CursorMoved, DetailsRequested, FoldRequested, LinesReady, SortRequested
from asyncwatch.ui.render import columns, services
from asyncwatch.ui.render import tree as branches
from asyncwatch.ui.render.cost import is_distorted
from asyncwatch.ui.render.spans import Span
from asyncwatch.ui.render.styles import SpanWidget, StripMaker
from asyncwatch.ui.widgets.lines import (
    NO_ROOM_FOR_SELECTION,
    SCROLLED_TO_SELECTION,
    SELECT_FIRST,
    SELECTION_IS_TO_COME,
    is_on_terminal,
)

LIVE_EVERY = 0.25
"""Seconds between two changes of the live order while events come."""
_NAMES = 4096
"""Names that are measured at once, in a few milliseconds."""
_NEAR = 4096
"""Lines that are searched one by one for the nearest to a removed line."""
_NO_LUCK = (None, 1.0)
"""Thresholds of bad luck that strikes no worker."""
_Key = tuple[object, ...]
"""All that the look of a line depends on. Lines with equal keys look the same."""


class FleetTable(SpanWidget, ScrollView, can_focus=True):
    """A heading and the lines of the view: rows and branches.

    The cursor stays on its line in any order, and on screen: the view scrolls to a line that moves, and the cursor
    moves with the edge of a view that a person scrolls.

    A batch that is larger than the screen starts in live order, in which no line is selected until a person moves the
    cursor: then all rows stay where they are.

    `draw` is called when the run may have changed. It repaints the visible lines that look different now.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(MOVES)]
    STARTS_LIVE: ClassVar[bool] = True
    """Whether a batch that is larger than the screen starts in live order."""

    def __init__(self, dashboard: DashboardState) -> None:
        self._strip_maker = StripMaker(self)
        super().__init__()
        self._dashboard = dashboard
        self._is_untouched = True
        """Whether no person has moved the cursor yet."""
        self._sought: Line | None = None
        """The selected line of a fleet that was replaced, until a line of that name comes."""
        self._empty_text = ""
        self._reordered_at = float("-inf")
        """When the live order was last brought up to date."""
        self._columns = columns.arrange(80, 0, 0)
        self._arranged_width = 0
        self._work = background_work(self._measure_and_order, lambda: self.post_message(LinesReady()))
        self._has_idle_luck = False
        self._left_out: set[str] = set()
        self._of_services: set[str] = set()
        self._now = 0.0
        """Run time of the frame in seconds, the same for all lines."""
        self._flapping: Counter[str] = Counter()
        """Services that flap in this frame, by the path of each supervisor above."""
        self.period = float("inf")
        """Seconds between two changes of the visible lines if nothing happens; infinite if they do not change."""
        self._rendered_keys: list[_Key | None] = []
        self._rendered: list[Strip] = []
        """The visible lines by y, and the keys of which they were rendered."""
        self._refreshed_keys: list[_Key] = []
        """The keys with which the visible lines were last refreshed.

        They differ from `_rendered_keys`: Textual renders all lines between two dirty ones, of any widget, but writes
        only the dirty ones to the terminal.
        """
        self._margin = 0
        """Blank cells after every line."""
        self._strips: LRUCache[_Key, Strip] = LRUCache(512)
        self._start_over()

    def _start_over(self) -> None:
        """Reset everything that depends on the fleet."""
        self._fleet = self._dashboard.fleet
        self._selected: Line | None = None
        self._index = 0
        self._order: Sequence[Line] = []
        self._highlighted: frozenset[Row] = frozenset()
        self._measured = 0
        self._is_indented = False
        self._widest_name = 0
        self._widest_result = 0
        self._widest_error = 0
        self._schemes: set[str] = set()
        self._is_luck_seen = self._is_progress_seen = self._is_throttling_seen = False
        self._forget_lines()

    @property
    def selected(self) -> Row | None:
        """The row under the cursor; None if it is on a branch, or there is no line."""
        return self._selected if isinstance(self._selected, Row) else None

    @property
    def columns(self) -> list[str]:
        """The keys of the shown columns, in order."""
        return [key for key, _ in self._columns.columns]

    @property
    def selected_line(self) -> Line | None:
        """The row or branch under the cursor; None if there is no line."""
        return self._selected

    @property
    def selected_branch(self) -> Branch | None:
        """The branch under the cursor; None if it is on a row, or there is no line."""
        return self._selected if isinstance(self._selected, Branch) else None

    def highlight(self, rows: Iterable[Row]) -> None:
        """Highlight these rows and no others."""
        self._highlighted = frozenset(rows)
        self.draw()

    def shows_cursor(self) -> bool:
        """Return whether the selected line is on screen, as keys require. If not, scroll to it with a notice.

        A new layout may have hidden it, or leave no room for any line. When the fleet was replaced, it may still be to
        come. In live order there is none.
        """
        if self._dashboard.view.is_following:
            self.notify(SELECT_FIRST)
            return False
        if self._sought is not None:
            self.notify(SELECTION_IS_TO_COME)
            return False
        if self._selected is None or self._is_on_terminal():
            return True
        self.scroll_to_cursor()
        self.notify(SCROLLED_TO_SELECTION if self._is_on_terminal() else NO_ROOM_FOR_SELECTION)
        return False

    def _is_on_terminal(self) -> bool:
        y = self._index - round(self.scroll_y) + 1
        return self._is_visible(self._index) and is_on_terminal(self, y)

    @property
    def is_cursor_low(self) -> bool:
        """Whether the cursor is in the lower half of the visible lines."""
        return self._index - round(self.scroll_y) > self.size.height // 2

    def draw(self) -> None:
        """Adopt the order of the view, scroll to the cursor, and repaint changed visible lines."""
        line = self._index - round(self.scroll_y)
        if self._dashboard.fleet is not self._fleet:
            self._sought = None if self._is_untouched else self._selected
            self._start_over()
            self.scroll_to(y=0, animate=False, immediate=True)
        if self._is_to_follow():
            self._dashboard.view.follow()
        if self._dashboard.view.is_following and (now := time.monotonic()) >= self._reordered_at + LIVE_EVERY:
            self._reordered_at = now
            self._dashboard.view.resort()
        order = self._dashboard.view.lines()
        if order is not self._order or len(order) != self.virtual_size.height - 1:
            self._follow(order)
        if self._sought is not None:
            self._seek(self._sought)
        self.scroll_to_cursor(line)
        self._dashboard.view.keep(self.selected)
        self._measure()
        if self._dashboard.view.is_busy or self._measured < len(self._dashboard.fleet.rows):
            self._work.start()
        self._now = self._dashboard.now
        self._flapping = self._dashboard.fleet.flapping_by_branch(self._now)
        before, count = self._refreshed_keys, len(self._refreshed_keys)
        width = self.scrollable_content_region.width
        lines = self._lines_at(range(self.size.height))
        periods = [self._period(line) for line in lines]
        self.period = min(filter(None, periods), default=float("inf"))
        self._refreshed_keys = keys = list(map(self._key, range(len(lines)), lines, periods))
        changed = [y for y, key in enumerate(keys) if y >= count or before[y] != key]
        if changed:
            self.refresh(*[Region(0, y, width, 1) for y in changed])

    def _is_to_follow(self) -> bool:
        """Whether the live order begins: more workers than lines, and no person has chosen anything yet."""
        dashboard = self._dashboard
        view, lines = dashboard.view, self.size.height - 1
        if (
            not self.STARTS_LIVE
            or view.is_order_chosen
            or view.sort != QUEUE_ORDER
            or not 0 < lines < len(view.fleet.rows)
        ):
            return False
        is_plain = not (view.reverse or view.is_filtered or view.fleet.tree.is_shown or view.marks)
        return is_plain and self._is_untouched and not dashboard.is_growing

    def follow(self) -> None:
        """Show the live order from now on, without a selected line."""
        self._dashboard.view.follow()
        if self._dashboard.view.is_following:
            self._is_untouched, self._sought = True, None
            self._follow(self._dashboard.view.lines())
            self.draw()
            self.post_message(CursorMoved())

    def _seek(self, sought: Line) -> None:
        """Put the cursor on the worker or branch of this name once it is there. Give up when all workers are."""
        fleet = self._dashboard.fleet
        line = fleet.get(sought.name) if isinstance(sought, Row) else fleet.tree.branches.get(sought.path)
        view = self._dashboard.view
        is_placed = line is not None and view.place(line) is not None
        if is_placed or not (self._dashboard.is_incomplete if line is None else view.is_busy):
            self._sought = None
        if line is not None and is_placed:
            self.select(line)

    def show_if_empty(self, text: str) -> None:
        """Show this text while there is no line."""
        if text != self._empty_text:
            self._empty_text = text
            self.refresh()

    def select(self, line: Line) -> None:
        """Put the cursor on a row or branch of the view, and scroll to it."""
        self._dashboard.view.hold()
        place = self._dashboard.view.place(line)
        if place is None and self._dashboard.view.is_busy:
            self._sought = line  # it is still to be put in its place
        if place is not None:
            self._follow(self._dashboard.view.lines())
            self._move_to(place)

    def action_fold(self) -> None:
        """Fold the branch under the cursor; from a row or a folded branch, go to the branch above."""
        if not self.shows_cursor():
            return
        view, line = self._dashboard.view, self._selected
        if isinstance(line, Branch) and not view.is_folded(line):
            self.post_message(FoldRequested(line, is_folded=True))
            return
        above = line.parent if isinstance(line, Branch) else line and self._dashboard.fleet.tree.branch_of(line)
        if above is not None:
            self.select(above)

    def action_unfold(self) -> None:
        """Unfold the branch under the cursor."""
        if isinstance(self._selected, Branch) and self.shows_cursor():
            self.post_message(FoldRequested(self._selected, is_folded=False))

    def action_move(self, rows: int) -> None:
        """Move the cursor down by `rows`; onto the first line if none is selected."""
        if self._dashboard.view.is_following:
            rows = 0
        self._move_to(self._index + rows)

    def action_page(self, pages: int) -> None:
        """Move the cursor down by `pages` screenfuls."""
        self._move_to(self._index + pages * max(1, self.size.height - 2))

    def action_edge(self, direction: int) -> None:
        """Move the cursor to the first (-1) or the last (1) line; from the first one up, follow the live order."""
        view = self._dashboard.view
        if direction < 0 and view.sort == LIVE_ORDER and (view.is_following or not self._index):
            self.follow()
            return
        self._move_to(0 if direction < 0 else len(self._order) - 1)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Return the strips of these lines; unchanged ones are the same objects as before.

        This replaces Textual's pass over every line for border, tint and opacity, which the widget does not have.
        """
        if self.scrollable_content_region.width != self._arranged_width:
            self._arrange_columns()
        # Lines end before a scroll bar, and go on where there is none.
        margin = 0 if self.show_vertical_scrollbar else self.region.width - self.scrollable_content_region.width
        if margin != self._margin:
            self._margin = margin
            self._forget_lines()
        missing = crop.bottom - len(self._rendered)
        if missing > 0:
            self._rendered_keys += [None] * missing
            self._rendered += [Strip.blank(0)] * missing
        keys, rendered = self._rendered_keys, self._rendered
        for y, line in zip(crop.line_range, self._lines_at(crop.line_range), strict=True):
            if keys[y] != (key := self._key(y, line, self._period(line))):
                rendered[y] = self._line_strip(key, y, line)
                keys[y] = key
        strips = rendered[crop.y : crop.bottom]
        if crop.x or crop.width < self.region.width:
            return [strip.crop(crop.x, crop.right) for strip in strips]
        return strips

    def render_line(self, y: int) -> Strip:
        """Return the heading, or the row that is scrolled to line `y`."""
        (line,) = self._lines_at(range(y, y + 1))
        return self._line_strip(self._key(y, line, self._period(line)), y, line)

    def _line_strip(self, key: _Key, y: int, line: Line | None) -> Strip:
        self._dashboard.frame_statistics.add_line()
        if (strip := self._strips.get(key)) is None:
            strip = self._strip(y, line, self.scrollable_content_region.width)
            # A line that changes with time will not look the same again.
            if self._period(line) is None:
                self._strips[key] = strip
        return strip

    def notify_style_update(self) -> None:
        """Resolve colours anew, after a change of theme or focus."""
        self._strip_maker.forget()
        if self.is_mounted:
            self._forget_lines()
        super().notify_style_update()

    def _forget_lines(self) -> None:
        self._strips.clear()
        self._rendered_keys.clear()
        self._rendered.clear()
        self._refreshed_keys.clear()

    def on_resize(self) -> None:
        """Fit the columns to the new width."""
        self._fit_columns()
        self.scroll_to_cursor()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Move the cursor along when a person scrolls it off the screen."""
        super().watch_scroll_y(old_value, new_value)
        rows, top = self.size.height - 1, round(new_value)
        if rows > 0 and self._order and not self._is_visible(self._index):
            self._select_at(min(max(top, self._index), top + rows - 1))

    def watch_show_vertical_scrollbar(self, is_shown: bool) -> None:
        """Set the position of a new scroll bar: the view may have scrolled before the bar was laid out."""
        if is_shown:
            self.vertical_scrollbar.position = self.scroll_y

    def on_click(self, event: events.Click) -> None:
        """Sort by a heading; select a line, and open it on the second click."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y == 0:
            if (key := self._columns.column_at(offset.x)) is not None:
                self.post_message(SortRequested(key))
        elif (line := self._lines_at(range(offset.y, offset.y + 1))[0]) is not None:
            self._move_to(self._index_at(offset.y))
            if event.chain == 2:
                self.open(line)

    def open(self, line: Line) -> None:
        """Open the details of a row; fold or unfold a branch."""
        if isinstance(line, Row):
            self.post_message(DetailsRequested(line))
        else:
            self.post_message(FoldRequested(line, is_folded=not self._dashboard.view.is_folded(line)))

    def _index_at(self, y: int) -> int:
        return round(self.scroll_y) + y - 1

    def _lines_at(self, ys: range) -> list[Line | None]:
        """Return the lines at these places; None for the heading, and where there is none."""
        above = range(ys.start, max(1, ys.start))
        start = self._index_at(above.stop)
        lines = self._order[start : start + max(0, ys.stop - above.stop)]
        return [*(None for _ in above), *lines, *(None for _ in ys[len(above) + len(lines) :])]

    def _key(self, y: int, line: Line | None, period: float | None) -> _Key:
        view = self._dashboard.view
        layout = self._columns
        if y == 0:
            return (view.sort, view.reverse, layout)
        if line is None:
            return (layout, self._empty_text if y == 1 and not self._order else "")
        is_selected = line is self._selected
        # Times that stand still are exact. Times that go on change together, so that few frames are needed.
        moment = None if period is None else (period, self._now if self._dashboard.is_still else self._now // period)
        look = (line.version, moment, is_selected and self.has_focus, is_selected, layout)
        fleet, tree = self._dashboard.fleet, self._dashboard.fleet.tree
        if isinstance(line, Branch):
            numbers = (view.left[line.path], self._flapping[line.path])
            return ("branch", line.path, *look, view.is_folded(line), *numbers, self.size.width)
        is_sibling = line in self._highlighted
        marks = (line.name in view.marks, is_sibling, is_distorted(fleet, line))
        block = fleet.loop.last_of(line.name)
        notes = (tree.is_at_limit(line), block and block.began, branches.wait_state(fleet, line))
        return ("row", line.name, *look, *marks, tree.is_shown, *notes)

    def _period(self, line: Line | None) -> float | None:
        """Return the seconds between two changes of a line if nothing happens; None if it does not change."""
        if line is None:
            return None
        tree = self._dashboard.fleet.tree
        if isinstance(line, Branch):
            left = tree.gauge(line, self._now).expires_in
            return None if left is None else columns.TENTH if left < columns.SHORT else columns.SECOND
        counts_down = branches.counts_down(self._dashboard.fleet, line, self._now)
        return columns.period(line, self._now, is_service=tree.is_service(line), counts_down=counts_down)

    def _strip(self, y: int, shown: Line | None, width: int) -> Strip:
        view = self._dashboard.view
        layout = self._columns
        if y == 0:
            line = columns.heading(layout, view.sort, is_reversed=view.reverse)
            return self._strip_maker.strip(line, width, "heading", right=self._margin)
        if shown is None:
            text = self._empty_text if y == 1 and not self._order else ""
            return self._strip_maker.strip([Span(" " * columns.PREFIX + text, "muted")], width, right=self._margin)
        fleet, now = self._dashboard.fleet, self._now
        is_selected = shown is self._selected
        base = ["cursor"] if is_selected else []
        if isinstance(shown, Branch):
            gauge, is_folded = fleet.tree.gauge(shown, now), view.is_folded(shown)
            line = branches.branch_line(
                shown,
                gauge,
                width,
                is_folded=is_folded,
                is_selected=is_selected,
                left=view.left[shown.path],
                flapping=self._flapping[shown.path],
            )
        else:
            is_sibling = shown in self._highlighted
            base += ["sibling"] if is_sibling else []
            line = columns.cells(
                shown,
                now,
                layout,
                is_selected=is_selected,
                is_marked=shown.name in view.marks,
                label=branches.label(shown, fleet.tree.branch_of(shown)),
                note=branches.note(fleet, shown, now, layout.columns[-1][1], dict(layout.columns)),
                is_sibling=is_sibling,
                is_late=is_distorted(fleet, shown),
                is_service=fleet.tree.is_service(shown),
                state_style=services.state_style(fleet, shown, now),
                of_service=services.cells_of(fleet, shown, now, layout),
            )
        return self._strip_maker.strip(line, width, *base, right=self._margin)

    def _follow(self, order: Sequence[Line]) -> None:
        """Adopt a new order: find the selected line, or its nearest remaining neighbour."""
        before, self._order = self._order, order
        if len(order) != self.virtual_size.height - 1:
            self.virtual_size = Size(0, len(order) + 1)
        if not order or self._dashboard.view.is_following:
            self._selected = None
            self._index = 0
        elif self._selected is None or (self._is_untouched and isinstance(order[0], Branch)):
            self._selected, self._index = order[0], 0
        elif self._index >= len(order) or order[self._index] is not self._selected:
            self._index = self._find(self._selected, before, order)
            self._selected = order[self._index]

    def _find(self, selected: Line, before: Sequence[Line], order: Sequence[Line]) -> int:
        position = self._dashboard.view.place
        if (place := position(selected)) is not None:
            return place
        above = self._dashboard.fleet.tree.branch_of(selected) if isinstance(selected, Row) else selected.parent
        while above is not None:
            if self._dashboard.view.is_folded(above) and (place := position(above)) is not None:
                return place
            above = above.parent
        if len(before) > _NEAR and isinstance(selected, Row):
            return min(self._dashboard.view.place_near(selected), len(order) - 1)
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
        """Put the cursor on the line with that index, or on the nearest one."""
        self._is_untouched = False
        self._sought = None
        if self._dashboard.view.is_following:
            self._dashboard.view.hold()
            self._follow(self._dashboard.view.lines())
            self.refresh()
        self._index = min(max(0, index), len(self._order) - 1)
        self._selected = self._order[self._index]
        self._dashboard.view.keep(self.selected)
        give_way_to_frame(self._work)
        self.post_message(CursorMoved())

    def _is_visible(self, index: int) -> bool:
        return 0 <= index - round(self.scroll_y) < self.size.height - 1

    def scroll_to_cursor(self, line: int | None = None) -> None:
        """Scroll if the cursor is not on screen: so that it is on screen line `line`, or as little as needed.

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
            # Without `force`, Textual refuses to scroll before the scroll bar is laid out.
            self.scroll_to(y=top, animate=False, immediate=True, force=True)

    def on_unmount(self) -> None:
        """Stop the work in the background."""
        self._work.stop()

    def _measure_and_order(self, is_time_up: Callable[[], bool]) -> bool:
        """Measure names and order lines until time is up; return whether there is more to do."""
        rows = self._dashboard.fleet.rows
        while self._measured < len(rows) and not is_time_up():
            self._measure()
        return self._measured < len(rows) or self._dashboard.view.work(is_time_up)

    def _measure(self) -> None:
        """Find the widest texts: among all names, a part of them a call, and among visible results and errors."""
        fleet = self._dashboard.fleet
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
            # A shared scheme is not shown. Names without one, or with two different ones, share none.
            if len(self._schemes) < 2 and "" not in self._schemes:
                self._schemes.add(columns.scheme_of(row.name))
        self._measured = min(len(rows), self._measured + _NAMES)
        for row_at in self._lines_at(range(1, self.size.height)):
            if not isinstance(row_at, Row):
                continue
            self._is_luck_seen |= row_at.is_struck or row_at.latency > 0
            self._is_progress_seen |= row_at.progress is not None
            self._is_throttling_seen |= row_at.throttled > 0
            if text := (row_at.status if row_at.report else "") or row_at.result:
                widest_result = max(widest_result, cell_len(text))
            if widest_error < columns.ENOUGH_OF_ERROR:
                note = branches.note(fleet, row_at, self._dashboard.now, shown=dict(self._columns.columns))
                needed = cell_len(columns.shown_error(row_at)) + (cell_len(note) + 2 if note else 0)
                widest_error = max(widest_error, needed)
        self._widest_name, self._widest_result, self._widest_error = widest_name, widest_result, widest_error
        has_grown = before != (widest_name, widest_result, widest_error, len(self._schemes))
        is_luck_idle = self._is_luck_idle()
        is_other = self._left_out != self._columns_to_leave_out() or self._of_services != self._columns_of_services()
        if has_grown or is_other or self._has_idle_luck != is_luck_idle:
            self._has_idle_luck = is_luck_idle
            self._fit_columns()

    def _columns_to_leave_out(self) -> set[str]:
        """Return the columns that say nothing in this run, or that a person hides."""
        fleet = self._dashboard.fleet
        is_batch = fleet.tree.has_batch or not fleet.tree.is_supervised
        has_content = {
            "waits": self._is_throttling_seen,
            "progress": self._is_progress_seen,
            "result": self._widest_result > 0,
            "last": is_batch or fleet.polls.pollers > 0,
            # A service shows since when it is up.
            "elapsed": is_batch,
        }
        return {key for key, is_used in (has_content | self._dashboard.columns).items() if not is_used}

    def _columns_of_services(self) -> set[str]:
        """Return the columns that only services have, as far as they say anything."""
        fleet = self._dashboard.fleet
        if not fleet.tree.is_supervised:
            return set()
        always = {"health", "since", "restarts"}
        crash = {"crash"} if fleet.restarts.by_worker else set()
        return always | crash | ({"poll"} if fleet.polls.pollers else set())

    def _is_luck_idle(self) -> bool:
        """Return whether bad luck strikes no worker. What the workers of a tree have is not known beforehand."""
        fleet = self._dashboard.fleet
        none = _NO_LUCK if fleet.tree.is_supervised else _NO_LUCK[1:]
        return not self._is_luck_seen and fleet.settings.value("bad luck") in none

    def _fit_columns(self) -> None:
        if self._arrange_columns():
            self.refresh()

    def _arrange_columns(self) -> bool:
        """Share out the width between the columns; return whether their widths have changed."""
        scheme = next(iter(self._schemes)) if len(self._schemes) == 1 else ""
        widest_name = self._widest_name - len(scheme)
        self._arranged_width = width = self.scrollable_content_region.width
        self._left_out, self._of_services = self._columns_to_leave_out(), self._columns_of_services()
        wanted = widest_name, self._widest_result, self._widest_error, scheme
        before, chosen = self._columns, (self._left_out, self._of_services)
        self._columns = columns.arrange(
            width,
            *wanted,
            *chosen,
            is_luck_idle=self._is_luck_idle(),
            is_observed=self._dashboard.fleet.is_observed,
        )
        return self._columns != before
