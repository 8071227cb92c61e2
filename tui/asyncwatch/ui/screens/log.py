"""The log of all workers: filtered, searched, folded, copied and saved."""

from __future__ import annotations

import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, takewhile
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.cache import LRUCache
from textual.geometry import Size
from textual.screen import Screen
from textual.strip import Strip
from textual.widgets import Input

from asyncwatch import text as units
from asyncwatch.events import LogRecorded
from asyncwatch.model.view.log_filter import FILTERS, SYNTAX, LogQuery, completion, level_number, parse_log_query
from asyncwatch.text import mask_secrets, printable
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.keys import Key, bindings
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.columns import scheme_of, shown_name
from asyncwatch.ui.render.log import folded_lines, height_of, log_line, one_line
from asyncwatch.ui.render.spans import Line, Span, crop, spread, width_of
from asyncwatch.ui.screens.drawable import Drawable
from asyncwatch.ui.widgets.footer import FilterBar, KeyLine
from asyncwatch.ui.widgets.lines import Block, LinesView

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_NUMBERS = (0, 20, 30, 40)
"""The lowest number of each of the LEVELS."""
SIDEWAYS = 20
"""Cells by which a key scrolls sideways."""

KEYS = (
    Key("escape", "back", "back", "clear the search, then the filter; then back", "esc", footer=1),
    Key("slash", "filter", "filter", "show only lines that match", "/", footer=1),
    Key("v", "level", "level", "show only lines from a level up: info, warning, error", footer=2),
    Key("f", "find", "find", "search for text, from the lines on the screen on", footer=1),
    Key("n", "found(1)", "next", "the next match", footer=3),
    Key("N", "found(-1)", "previous", "the match before", footer=4),
    Key("w", "wrap", "wrap", "fold long lines, or show each on one line", footer=2),
    Key("left", "sideways(-1)", "left", "scroll to the start of long lines", "←"),
    Key("right", "sideways(1)", "sideways", "scroll long lines sideways", "← →", footer=3),
    Key("y", "copy", "copy", "copy the match, or else the lines on the screen", footer=2),
    Key("S", "save", "save", "save the lines that match the filter to a file here", footer=3),
    Key("end,G", "edge(1)", "follow", "the newest lines, as they come", "G", footer=1),
    Key("home,g", "edge(-1)", "top", "the oldest line", "g", footer=4),
    Key("j", "scroll(1)", "scroll", "scroll down, or up", "j k", footer=5),
    Key("k", "scroll(-1)", "up", "scroll up"),
)


class LogView(LinesView):
    """The log lines that the fleet keeps and that match. It follows the newest line until a person scrolls up."""

    def __init__(self, dashboard: DashboardState) -> None:
        super().__init__(id="log")
        self._dashboard = dashboard
        self._records: list[LogRecorded] = []
        self._heights: list[int] = []
        self._ends: list[int] = []
        """The line below each record, if lines are folded."""
        self._folded: LRUCache[tuple[int, str], list[Line]] = LRUCache(128)
        """Lines of records by `seq` and what is found."""
        self._name_width = 8
        self._drawn: tuple[object, ...] = ()
        self._choice: tuple[object, ...] = ()
        """What the records were chosen and folded by."""
        self._newest = -1
        """The `seq` of the newest line that was looked at."""
        self.level = 0
        self.log_query = LogQuery()
        self.is_wrapped = False
        self.skipped = 0
        """Cells of messages left of the screen."""
        self.found = ""
        """The text that is searched for; empty if none is."""
        self.current: LogRecorded | None = None
        """The match that was gone to."""
        self.is_following = True
        self.read = -1
        """The `seq` of the newest line that has been visible."""

    @property
    def records(self) -> list[LogRecorded]:
        """The records that match, oldest first."""
        return self._records

    @property
    def unread(self) -> int:
        """Number of records newer than all that were visible."""
        return len(self._records) - bisect_left(self._records, self.read + 1, key=lambda record: record.seq)

    @property
    def matches(self) -> int:
        """Number of records in which the text is found."""
        return sum(map(self._has_found, self._records)) if self.found else 0

    def visible_records(self) -> list[LogRecorded]:
        """Return the records of which a line is visible."""
        top = round(self.scroll_y)
        return self._records[self._index_at(top) : self._index_at(top + self.size.height - 1) + 1]

    def draw(self) -> None:
        """Show new records. If it does not follow, the visible lines stay in place."""
        fleet, width = self._dashboard.fleet, self.scrollable_content_region.width
        # A snapshot brings the lines after their number.
        choice = (self.level, self.log_query.text, self.is_wrapped, width if self.is_wrapped else 0, id(fleet))
        state = (fleet.logged, len(fleet.logs), *choice, self.skipped, self.found, self.current)
        if state != self._drawn:
            self._drawn = state
            self._take_over(choice)
        if self.is_following and not self.is_at_end:  # a key may be scrolling up from the end
            self._scroll(self._line_count)
        if self.is_at_end and self._records:
            self.read = self._records[-1].seq

    @property
    def _line_count(self) -> int:
        return (self._ends[-1] if self._ends else 0) if self.is_wrapped else len(self._records)

    @property
    def is_at_end(self) -> bool:
        """Whether the newest line is visible."""
        return round(self.scroll_y) + self.size.height >= self._line_count

    def on_resize(self) -> None:
        """Stay at the newest line: before the layout the end was another one."""
        if self.is_following:
            self._scroll(self._line_count)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow from when the end is reached until it is left."""
        super().watch_scroll_y(old_value, new_value)
        if new_value < old_value or self.is_at_end:
            self.is_following = self.is_at_end

    def render_line(self, y: int) -> Strip:
        """Return the line that is scrolled to `y`."""
        place, width = round(self.scroll_y) + y, self.scrollable_content_region.width
        if place >= self._line_count:
            line: Line = [Span(self._why_empty(), "muted")] if not self._records and not y else ()
            return self._strip_maker.strip(line, width)
        index = self._index_at(place)
        record = self._records[index]
        if self.is_wrapped:
            line = self._lines_of(record)[place - self._start_of(index)]
        else:
            line = log_line(record, self._name_width, self.skipped, self.found)
        return self._strip_maker.strip(line, width, *(["cursor"] if record is self.current else []))

    def find(self, step: int, *, is_new: bool = False) -> bool:
        """Go to the next match (1) or to the one before (-1); return whether there is one.

        A new search goes up from the last visible line, to the newest match that is not below.
        """
        candidates = [index for index, record in enumerate(self._records) if self._has_found(record)]
        if not candidates:
            self.current = None
            return False
        if is_new or self.current is None:
            last = self._index_at(round(self.scroll_y) + self.size.height - 1)
            place = max(0, bisect_right(candidates, last) - 1)
        else:
            here = bisect_left(self._records, self.current.seq, key=lambda record: record.seq)
            place = bisect_right(candidates, here) if step > 0 else bisect_left(candidates, here) - 1
            place %= len(candidates)
        self.current = self._records[candidates[place]]
        self._show(candidates[place])
        return True

    def _show(self, index: int) -> None:
        """Scroll a record into view, and sideways to what was found in it."""
        self.is_following = False
        start, height = self._start_of(index), self.size.height
        if not round(self.scroll_y) <= start < round(self.scroll_y) + height:
            self._scroll(max(0, start - height // 2))
        if not self.is_wrapped and self.current is not None:
            room = self.scrollable_content_region.width - width_of(log_line(self.current, self._name_width)[:3])
            place = one_line(self.current).lower().find(self.found.lower())
            if not self.skipped <= place <= self.skipped + room - len(self.found):
                self.skipped = max(0, place - room // 2)

    def most_skipped(self) -> int:
        """Return the width of the widest visible message."""
        return max((len(one_line(record)) for record in self.visible_records()), default=0)

    def _has_found(self, record: LogRecorded) -> bool:
        text = self.found.lower()
        return bool(text) and (text in record.message.lower() or text in (record.worker or "").lower())

    def _lines_of(self, record: LogRecorded) -> list[Line]:
        key = record.seq, self.found
        lines = self._folded.get(key)
        if lines is None:
            width = self.scrollable_content_region.width
            lines = self._folded[key] = folded_lines(record, self._name_width, width, self.found)
        return lines

    def _index_at(self, place: int) -> int:
        """Return the index of the record with line `place`."""
        return bisect_right(self._ends, place) if self.is_wrapped else max(0, place)

    def _start_of(self, index: int) -> int:
        """Return the first line of a record."""
        return (self._ends[index] - self._heights[index]) if self.is_wrapped else index

    def _why_empty(self) -> str:
        fleet = self._dashboard.fleet
        if not fleet.logged:
            return "Nothing is logged yet. What workers log or print comes here, from log_level up."
        if self.log_query.conditions:
            return "No line matches the filter. Press esc to clear it."
        return "No line of this level or above. Press v for the other levels."

    def _take_over(self, choice: tuple[object, ...]) -> None:
        logs, top = self._dashboard.fleet.logs, self._index_at(round(self.scroll_y))
        first = self._records[top].seq if top < len(self._records) else None
        names = map(shown_name, self._dashboard.fleet.rows[:200])
        widest = max((len(name.removeprefix(scheme_of(name))) for name in names), default=0)
        name_width = min(max(24, self.size.width // 4), max(4, widest))
        if choice != self._choice or name_width != self._name_width or self._dashboard.is_growing:
            self._choice, self._name_width, self._newest = choice, name_width, -1
            self._records, self._heights = [], []
            self._folded.clear()
        new = [*takewhile(lambda log: log.seq > self._newest, reversed(logs))][::-1]
        dropped = bisect_left(self._records, logs[0].seq, key=lambda record: record.seq) if logs else 0
        del self._records[:dropped]
        del self._heights[:dropped]
        matching = [log for log in new if level_number(log) >= _NUMBERS[self.level] and self.log_query.matches(log)]
        self._records += matching
        self._newest = new[-1].seq if new else self._newest
        if self.is_wrapped:
            width = self.scrollable_content_region.width
            self._heights += [height_of(log, name_width, width) for log in matching]
            self._ends = list(accumulate(self._heights))
        self.virtual_size = Size(0, self._line_count)
        if first is not None and not self.is_following and self._records:
            # Old lines are dropped at the top: the first visible record stays where it is.
            place = bisect_left(self._records, first, key=lambda record: record.seq)
            self._scroll(self._start_of(min(place, len(self._records) - 1)))
        self.refresh()


class LogScreen(Drawable, Screen[None]):
    """The log lines of all workers, newest last."""

    HELP_PAGE = ("the log", KEYS, FILTERS)
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]

    def __init__(self, dashboard: DashboardState) -> None:
        super().__init__()
        self._dashboard = dashboard
        self._title = Block(id="title")
        self._view = LogView(dashboard)
        self._filter_bar = FilterBar(SYNTAX, complete=completion)
        self._find_bar = FilterBar("text to find; enter goes to it, then n and N", sign="f")

    def compose(self) -> ComposeResult:
        """Yield a title, the lines, the inputs, the keys."""
        yield self._title
        yield self._view
        yield self._filter_bar
        yield self._find_bar
        yield KeyLine(KEYS)

    def on_mount(self) -> None:
        """Show the newest lines."""
        self._view.focus()
        self.watch(self._view, "scroll_y", lambda: self.call_next(self._draw_title), init=False)

    def draw(self) -> None:
        """Show new lines and the present counts."""
        if self._title.size.width:
            self._view.draw()
            self._draw_title()

    def _draw_title(self) -> None:
        if width := self._title.size.width:
            self._title.show([self._title_line(width)])
            view, kept = self._view, len(self._dashboard.fleet.logs)
            self._filter_bar.show(len(view.records), kept, only="", problem=view.log_query.problem)
            self._find_bar.show(view.matches, len(view.records), only="", problem="", noun="lines have it")

    def _title_line(self, width: int) -> Line:
        view, fleet = self._view, self._dashboard.fleet
        left = [Span("log", "title"), Span(f"  {units.count(fleet.logged, 'line')}", "muted")]
        if view.level:
            left.append(Span(f"  {LEVELS[view.level].lower()} and above", "warning"))
        if len(view.records) < len(fleet.logs):
            left.append(Span(f"  {len(view.records):,} match", "warning"))
        if fleet.logged > len(fleet.logs):
            left.append(Span(f"  the newest {len(fleet.logs):,} are kept", "muted"))
        if view.skipped and not view.is_wrapped:
            left.append(Span(f"  from column {view.skipped + 1:,}", "note"))
        right = [Span("● following", "running")]
        if not view.is_following:
            right = [Span(f" +{view.unread:,} new " if view.unread else " reading ", "notice")]
        return spread(left, right, max(width, width_of(right)))

    async def action_back(self) -> None:
        """Clear the search, then the filter; without either, go back."""
        view = self._view
        if view.found or self._find_bar.input.value:
            self._find_bar.input.value = view.found = ""
            view.current = None
        elif view.log_query.text:
            self._filter_bar.input.value = ""
            view.log_query = LogQuery()
        else:
            await self.action_dismiss()
            return
        self.draw()

    def action_level(self) -> None:
        """Show only lines from the next level up that leaves some out; after the last level, all again."""
        view = self._view
        numbers = [level_number(log) for log in self._dashboard.fleet.logs if view.log_query.matches(log)]
        now = _NUMBERS[view.level]
        others = (level for level in range(view.level + 1, len(LEVELS)) if _differs(numbers, now, _NUMBERS[level]))
        view.level = next(others, 0 if view.level else len(LEVELS) - 1)
        self.draw()

    def action_filter(self) -> None:
        """Type a filter."""
        self._filter_bar.open()

    def action_find(self) -> None:
        """Type a text to find."""
        self._find_bar.open()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter, or highlight, as a person types."""
        if event.input is self._filter_bar.input:
            self._view.log_query = parse_log_query(event.value)
        else:
            self._view.found = event.value.strip()
            self._view.current = None
        self.draw()

    def action_keep_filter(self) -> None:
        """Keep what was typed, and go to the first match of a search."""
        is_search = self.focused is self._find_bar.input
        self.set_focus(self._view)
        if is_search:
            self._view.found = self._find_bar.input.value.strip()
            self._go_to(1, is_new=True)
        else:
            self._view.log_query = parse_log_query(self._filter_bar.input.value)
        self.draw()

    def action_clear_filter(self) -> None:
        """Clear what was typed."""
        bar = self._find_bar if self.focused is self._find_bar.input else self._filter_bar
        bar.input.value = ""
        self.action_keep_filter()

    def action_move(self, lines: int) -> None:
        """Scroll while an input has the focus."""
        self.action_scroll(lines)

    def action_found(self, step: int) -> None:
        """Go to the next match (1), or to the one before (-1)."""
        if not self._view.found:
            self.notify("Press f to search for a text first.")
            return
        self._go_to(step)
        self.draw()

    def _go_to(self, step: int, *, is_new: bool = False) -> None:
        view = self._view
        view.draw()
        if view.found and not view.find(step, is_new=is_new):
            self.notify(f"{crop(fmt.safe(view.found), 40)} is in no line that is shown.")

    def action_wrap(self) -> None:
        """Fold long lines, or show each on one line."""
        view = self._view
        view.is_wrapped, view.skipped = not view.is_wrapped, 0
        self.draw()

    def action_sideways(self, direction: int) -> None:
        """Scroll sideways."""
        view = self._view
        if view.is_wrapped:
            self.notify("Long lines are folded. Press w to scroll sideways instead.")
            return
        most = max(0, view.most_skipped() - SIDEWAYS)
        view.skipped = min(max(0, view.skipped + direction * SIDEWAYS), max(most, view.skipped - SIDEWAYS))
        self.draw()

    def action_copy(self) -> None:
        """Copy the match, or else the lines on the screen."""
        view = self._view
        chosen = [view.current] if view.current is not None else view.visible_records()
        if not chosen:
            self.notify("There is no line to copy.")
            return
        self.app.copy_to_clipboard("".join(map(_as_text, chosen)))
        self.notify(f"Copied {units.count(len(chosen), 'line')}.")

    def action_save(self) -> None:
        """Save the lines that match to a new file in the present folder."""
        view, fleet = self._view, self._dashboard.fleet
        if not view.records:
            self.notify("There is no line to save.")
            return
        run = "" if fleet.run is None else fleet.run.run
        name = "".join(char if char.isalnum() or char in "-_." else "-" for char in run).strip(".") or "run"
        file_name = f"{name[:60]}-{time.strftime('%Y%m%d-%H%M%S')}.log"
        try:
            path = Path.cwd() / file_name
            # The file is of the run's owner alone, from its creation on.
            with open(path, "x", encoding="utf-8", errors="backslashreplace", opener=_private) as file:
                file.writelines(map(_as_text, view.records))
        except OSError as error:
            self.notify(f"The log could not be saved: {error.strerror or error}.", severity="error")
            return
        self.notify(f"Saved {units.count(len(view.records), 'line')} to {fmt.safe(str(path))}.")

    def action_scroll(self, lines: int) -> None:
        """Scroll down by `lines`."""
        self._view.scroll_lines(lines)
        self.draw()

    def action_edge(self, direction: int) -> None:
        """Go to the oldest line (-1), or follow the newest (1)."""
        self._view.is_following = direction > 0
        self._view.scroll_to_edge(direction)
        self.draw()


def _differs(numbers: Sequence[int], low: int, high: int) -> bool:
    """Return whether any line has a level from `low` up and below `high`."""
    return any(low <= number < high for number in numbers)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _as_text(log: LogRecorded) -> str:
    """Return a record as text for a file or the clipboard, without what could control a terminal."""
    first, *others = [printable(mask_secrets(line)) for line in log.message.splitlines() or [""]]
    worker = f" [{printable(log.worker)}]" if log.worker is not None else ""
    return "\n".join([f"{units.clock(log.at)} {log.level}{worker} {first}", *(f"    {line}" for line in others)]) + "\n"
