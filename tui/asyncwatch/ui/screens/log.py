"""The log of all workers."""

from __future__ import annotations

from bisect import bisect_left
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.geometry import Size
from textual.screen import Screen
from textual.strip import Strip

from asyncwatch import text as units
from asyncwatch.events import LogRecorded
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.keys import Key, bindings
from asyncwatch.ui.render.columns import scheme_of, shown_name
from asyncwatch.ui.render.details import log_line
from asyncwatch.ui.render.spans import Line, Span, spread, width_of
from asyncwatch.ui.screens.drawable import Drawable
from asyncwatch.ui.widgets.footer import KeyLine
from asyncwatch.ui.widgets.lines import Block, LinesView

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_RANKS = {"DEBUG": 0, "INFO": 1, "WARNING": 2, "ERROR": 3, "CRITICAL": 3}

KEYS = (
    Key("escape", "dismiss", "back", "back", "esc", footer=1),
    Key("v", "level", "level", "show only lines from the next level up", footer=1),
    Key("G", "edge(1)", "follow", "the newest lines, as they come", "G", footer=1),
    Key("g", "edge(-1)", "top", "the oldest line", footer=2),
    Key("j", "scroll(1)", "down", "scroll down", "j k", footer=3),
    Key("k", "scroll(-1)", "up", "scroll up"),
)


class LogView(LinesView):
    """The log lines that the fleet keeps, from a level up. It follows the newest line until a person scrolls up."""

    def __init__(self, dashboard: DashboardState) -> None:
        super().__init__(id="log")
        self._dashboard = dashboard
        self._records: list[LogRecorded] = []
        self._name_width = 8
        self._drawn = (-1, -1, -1)
        self.level = 0
        self.is_following = True
        self.read = -1
        """The `seq` of the newest line that has been visible."""

    @property
    def unread(self) -> int:
        """Number of lines newer than all that were visible."""
        return len(self._records) - bisect_left(self._records, self.read + 1, key=lambda record: record.seq)

    def draw(self) -> None:
        """Show new records. If it does not follow, the visible lines stay in place."""
        # A snapshot brings the lines after their number.
        state = (self._dashboard.fleet.logged, len(self._dashboard.fleet.logs), self.level)
        if state != self._drawn:
            self._drawn = state
            self._take_over()
        if self.is_following and not self.is_at_end:  # a key may be scrolling up from the end
            self._scroll(len(self._records))
        if self.is_at_end and self._records:
            self.read = self._records[-1].seq

    @property
    def is_at_end(self) -> bool:
        """Whether the newest line is visible."""
        return round(self.scroll_y) + self.size.height >= len(self._records)

    def on_resize(self) -> None:
        """Stay at the newest line: before the layout the end was another one."""
        if self.is_following:
            self._scroll(len(self._records))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow from when the end is reached until it is left."""
        super().watch_scroll_y(old_value, new_value)
        if new_value < old_value or self.is_at_end:
            self.is_following = self.is_at_end

    def render_line(self, y: int) -> Strip:
        """Return the record that is scrolled to `y`."""
        index = round(self.scroll_y) + y
        line: Line = log_line(self._records[index], self._name_width) if index < len(self._records) else ()
        if not self._records and not y:
            line = [
                Span(
                    "No line of this level or above."
                    if self._dashboard.fleet.logged
                    else "Nothing has been logged yet.",
                    "muted",
                )
            ]
        return self._strip_maker.strip(line, self.scrollable_content_region.width)

    def _take_over(self) -> None:
        top = round(self.scroll_y)
        first = self._records[top].seq if top < len(self._records) else None
        self._records = [log for log in self._dashboard.fleet.logs if _RANKS.get(log.level, 1) >= self.level]
        names = map(shown_name, self._dashboard.fleet.rows[:200])
        widest = max((len(name.removeprefix(scheme_of(name))) for name in names), default=0)
        self._name_width = min(max(24, self.size.width // 4), max(4, widest))
        self.virtual_size = Size(0, len(self._records))
        if first is not None and not self.is_following:
            # Old lines are dropped at the top: the first visible line stays where it is.
            place = bisect_left(self._records, first, key=lambda record: record.seq)
            self._scroll(place)
        self.refresh()


class LogScreen(Drawable, Screen[None]):
    """The log lines of all workers, newest last."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]

    def __init__(self, dashboard: DashboardState) -> None:
        super().__init__()
        self._dashboard = dashboard
        self._title = Block(id="title")
        self._view = LogView(dashboard)

    def compose(self) -> ComposeResult:
        """Yield a title, the lines, the keys."""
        yield self._title
        yield self._view
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

    def _title_line(self, width: int) -> Line:
        view, fleet = self._view, self._dashboard.fleet
        left = [Span("log", "title"), Span(f"  {units.count(fleet.logged, 'line')}", "muted")]
        if view.level:
            left.append(Span(f"  {LEVELS[view.level].lower()} and above", "warning"))
        if fleet.logged > len(fleet.logs):
            left.append(Span(f"  the newest {len(fleet.logs):,} are kept", "muted"))
        right = [Span("● following", "running")]
        if not view.is_following:
            right = [Span(f" +{view.unread:,} new " if view.unread else " reading ", "notice")]
        return spread(left, right, max(width, width_of(right)))

    def action_level(self) -> None:
        """Show only lines from the next level up; after the last level, all again."""
        view = self._view
        view.level = (view.level + 1) % len(LEVELS)
        self.draw()

    def action_scroll(self, lines: int) -> None:
        """Scroll down by `lines`."""
        self._view.scroll_lines(lines)
        self.draw()

    def action_edge(self, direction: int) -> None:
        """Go to the oldest line (-1), or follow the newest (1)."""
        self._view.is_following = direction > 0
        self._view.scroll_to_edge(direction)
        self.draw()
