"""A page of figures: a title, lines that scroll, and keys."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen

from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.keys import Key, bindings
from asyncwatch.ui.render.columns import SECOND
from asyncwatch.ui.render.spans import Line, Span
from asyncwatch.ui.screens.drawable import Drawable
from asyncwatch.ui.widgets.footer import KeyLine
from asyncwatch.ui.widgets.lines import Block, LinesView

KEYS = (
    Key("escape", "dismiss", "close", "back", "esc", footer=1),
    Key("j", "scroll(1)", "scroll", "scroll down, or up", "j k", footer=1),
    Key("k", "scroll(-1)", "up", "scroll up"),
)


class FiguresScreen(Drawable, Screen[None]):
    """Shows figures, live while it is open. A page has a name and a subtitle, and makes the lines."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]
    NAME: ClassVar[str]
    ABOUT: ClassVar[str]

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
            self._title.show([[Span(self.NAME, "title"), Span(f"  {self.ABOUT}", "muted")]])
            self._report.show(self.figures(width))

    @abstractmethod
    def figures(self, width: int) -> list[Line]:
        """Return the present figures as lines of at most `width` cells."""

    def action_scroll(self, lines: int) -> None:
        """Scroll down by `lines`."""
        self._report.scroll_lines(lines)
