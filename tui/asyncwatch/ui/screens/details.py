"""All about one worker, live while it is open."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from asyncwatch.commands import CancelWorker, RestartWorker
from asyncwatch.model.fleet import Row
from asyncwatch.ui.keys import Key, bindings
from asyncwatch.ui.messages import CommandsRequested
from asyncwatch.ui.report import facts, report
from asyncwatch.ui.scene import Scene
from asyncwatch.ui.widgets.key_line import KeyLine
from asyncwatch.ui.widgets.lines_widget import Block, LinesView

KEYS = (
    Key("escape", "close", "close", "back to the fleet", "esc", footer=1),
    Key("c", "cancel", "cancel", "cancel this worker", footer=1),
    Key("r", "restart", "restart", "restart this worker", footer=1),
    Key("n", "neighbour(1)", "next", "the worker below", footer=2),
    Key("N", "neighbour(-1)", "previous", "the worker above", footer=2),
    Key("j", "scroll(1)", "down", "scroll down", "j k", footer=3),
    Key("k", "scroll(-1)", "up", "scroll up"),
    Key("g", "edge(-1)", "top", "scroll to the top"),
    Key("G", "edge(1)", "bottom", "scroll to the bottom"),
)


class DetailsScreen(Screen[Row]):
    """Every attempt with its luck, times, outcome and backoff; the last traceback; the worker's own log.

    Its result is the row it showed last.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS), Binding("enter", "close", show=False)]

    def __init__(self, scene: Scene, row: Row) -> None:
        super().__init__()
        self._scene = scene
        self._row = row
        self._drawn: tuple[object, ...] = ()
        self._facts = Block(id="facts")
        self._report = LinesView(id="report")

    def compose(self) -> ComposeResult:
        """Yield the facts, the report, and the keys."""
        yield self._facts
        yield self._report
        yield KeyLine(KEYS)

    def on_mount(self) -> None:
        """Show the worker."""
        self._report.focus()

    def on_resize(self) -> None:
        """Fold the lines to the new width."""
        self.call_after_refresh(self.draw)

    def draw(self) -> None:
        """Show the worker as it is now."""
        fleet, row, now = self._scene.fleet, self._row, self._scene.moment
        width = self._report.scrollable_content_region.width
        is_live = not row.is_settled or bool(fleet.left_behind_of(row.name))
        state = (row, row.version, fleet.logged, width, now if is_live else None)
        if width and state != self._drawn:
            self._drawn = state
            self._facts.show(facts(fleet, row, now, width))
            self._report.show(report(fleet, row, now, width))

    def action_cancel(self) -> None:
        """Cancel the worker."""
        self.post_message(CommandsRequested(CancelWorker(self._row.name, self._row.incarnation)))

    def action_restart(self) -> None:
        """Restart the worker."""
        self.post_message(CommandsRequested(RestartWorker(self._row.name, self._row.incarnation)))

    def action_neighbour(self, step: int) -> None:
        """Show the worker below or above, in the order of the fleet."""
        view = self._scene.view
        order, place = view.order(), view.position(self._row.name)
        if order and place is not None:
            self._row = order[min(max(0, place + step), len(order) - 1)]
            self._report.scroll_home(animate=False)
            self.draw()

    def action_scroll(self, lines: int) -> None:
        """Scroll by so many lines."""
        self._report.scroll_relative(y=lines, animate=False)

    def action_edge(self, direction: int) -> None:
        """Scroll to the top (-1) or the bottom (1)."""
        view = self._report
        view.scroll_to(y=0 if direction < 0 else view.max_scroll_y, animate=False)

    async def action_close(self) -> None:
        """Go back to the fleet."""
        await self.action_dismiss(self._row)
