"""Page of the overhead: the screen, the event loop, the process."""

from __future__ import annotations

import threading
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from asyncwatch.process import memory
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.keys import Key, bindings
from asyncwatch.ui.render.columns import SECOND
from asyncwatch.ui.render.cost import cost_lines
from asyncwatch.ui.render.spans import Span
from asyncwatch.ui.screens.drawable import Drawable
from asyncwatch.ui.widgets.footer import KeyLine
from asyncwatch.ui.widgets.lines import Block, LinesView

KEYS = (
    Key("escape", "dismiss", "close", "back", "esc", footer=1),
    Key("j", "scroll(1)", "scroll", "scroll down, or up", "j k", footer=1),
    Key("k", "scroll(-1)", "up", "scroll up"),
)


class CostScreen(Drawable, Screen[None]):
    """One page of figures, live while it is open."""

    HELP_PAGE = ("what asyncwatch costs itself", KEYS, ())
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS), Binding("d", "dismiss", show=False)]

    def __init__(self, dashboard: DashboardState) -> None:
        super().__init__()
        self._dashboard = dashboard
        self._title = Block(id="title")
        self._report = LinesView(id="report")

    def compose(self) -> ComposeResult:
        """Yield a title, the figures, the keys."""
        yield self._title
        yield self._report
        yield KeyLine(KEYS)

    def on_mount(self) -> None:
        """Focus the figures, so that the arrows scroll."""
        self._report.focus()

    @property
    def period(self) -> float:
        """Seconds between two looks at figures that no event reports."""
        return SECOND

    period_at_rest = period

    def draw(self) -> None:
        """Show the present figures."""
        if width := self._report.scrollable_content_region.width:
            self._title.show([[Span("overhead", "title"), Span("  what asyncwatch itself costs", "muted")]])
            threads = threading.active_count()
            lines = cost_lines(self._dashboard.snapshot(), memory=memory(), threads=threads, width=width)
            self._report.show(lines[1:])

    def action_scroll(self, lines: int) -> None:
        """Scroll down by `lines`."""
        self._report.scroll_lines(lines)
