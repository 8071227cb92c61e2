"""Page of the processes of a cluster."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.keys import Key, bindings
from asyncwatch.ui.render.columns import SECOND
from asyncwatch.ui.render.hosts import host_lines
from asyncwatch.ui.render.spans import Span
from asyncwatch.ui.screens.drawable import Drawable
from asyncwatch.ui.widgets.footer import KeyLine
from asyncwatch.ui.widgets.lines import Block, LinesView

KEYS = (
    Key("escape", "dismiss", "close", "back", "esc", footer=1),
    Key("j", "scroll(1)", "scroll", "scroll down, or up", "j k", footer=1),
    Key("k", "scroll(-1)", "up", "scroll up"),
)


class HostsScreen(Drawable, Screen[None]):
    """One line for each process, live while it is open."""

    HELP_PAGE = ("the processes of the cluster", KEYS, ())
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS), Binding("H", "dismiss", show=False)]

    def __init__(self, dashboard: DashboardState) -> None:
        super().__init__()
        self._dashboard = dashboard
        self._title = Block(id="title")
        self._report = LinesView(id="report")

    def compose(self) -> ComposeResult:
        """Yield a title, the processes, the keys."""
        yield self._title
        yield self._report
        yield KeyLine(KEYS)

    def on_mount(self) -> None:
        """Focus the processes, so that the arrows scroll."""
        self._report.focus()

    @property
    def period(self) -> float:
        """Seconds between two frames: the time since a process was heard goes on."""
        return SECOND

    period_at_rest = period

    def draw(self) -> None:
        """Show the present figures."""
        if width := self._report.scrollable_content_region.width:
            self._title.show([[Span("hosts", "title"), Span("  the processes in which attempts run", "muted")]])
            self._report.show(host_lines(self._dashboard.snapshot(), width))

    def action_scroll(self, lines: int) -> None:
        """Scroll down by `lines`."""
        self._report.scroll_lines(lines)
