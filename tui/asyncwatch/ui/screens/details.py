"""Page of one worker, live while it is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from asyncwatch.commands import WatchStack
from asyncwatch.model.rows import Row
from asyncwatch.ui import actions
from asyncwatch.ui.actions import Action, Selection
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.hints import worker_hints
from asyncwatch.ui.keys import Key, bindings, offered
from asyncwatch.ui.messages import CommandsRequested
from asyncwatch.ui.render.columns import TENTH
from asyncwatch.ui.render.cost import stack_report
from asyncwatch.ui.render.details import facts, report
from asyncwatch.ui.screens.drawable import Drawable
from asyncwatch.ui.screens.request import request
from asyncwatch.ui.widgets.footer import KeyLine
from asyncwatch.ui.widgets.lines import Block, LinesView

KEYS = (
    Key("escape", "close", "back", "back to the fleet", "esc", footer=1),
    Key("c", "cancel", "cancel", "cancel this worker", footer=1),
    Key("r", "restart", "restart", "restart this worker", footer=1),
    Key("n", "retry_now", "retry now", "start its next attempt now, if it waits", footer=3),
    Key("x", "give_up", "give up", "make no further attempt, if it waits", footer=3),
    Key("right,J", "neighbour(1)", "next", "the worker below", "→", footer=2),
    Key("left,K", "neighbour(-1)", "previous", "the worker above", "←", footer=2),
    Key("j", "scroll(1)", "scroll", "scroll down, or up", "j k", footer=3),
    Key("k", "scroll(-1)", "up", "scroll up"),
    Key("g", "edge(-1)", "top", "scroll to the top"),
    Key("G", "edge(1)", "bottom", "scroll to the bottom"),
)


class DetailsScreen(Drawable, Screen[Row]):
    """Facts, every attempt with its luck, times, outcome and backoff, the last traceback, the worker's log.

    Its result is the row that it showed last.
    """

    HELP_PAGE = ("one worker", KEYS, ())
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS), Binding("enter", "close", show=False)]

    def __init__(self, dashboard: DashboardState, row: Row) -> None:
        super().__init__()
        self._dashboard = dashboard
        self._row = row
        self._drawn: tuple[object, ...] = ()
        """Inputs of the shown page."""
        self._facts = Block(id="facts")
        self._report = LinesView(id="report")
        self._keys = KeyLine(offered(KEYS, dashboard.role))

    def compose(self) -> ComposeResult:
        """Yield the facts, the report, and the keys."""
        yield self._facts
        yield self._report
        yield self._keys

    def on_mount(self) -> None:
        """Focus the report."""
        self._report.focus()

    @property
    def period(self) -> float:
        """Seconds between two changes of the worker's times if nothing happens."""
        return TENTH

    def draw(self) -> None:
        """Show the present state of the worker; close if the run has no such worker after all."""
        snapshot = self._dashboard.snapshot()
        fleet, row, now = snapshot.fleet, snapshot.fleet.get(self._row.name), snapshot.clock_now
        if row is None:
            if self.app.screen is self and not self._dashboard.is_incomplete:
                _ = self.dismiss(None)  # not awaited: a screen cannot wait for its own end
            return
        self._row = row
        width = self._report.scrollable_content_region.width
        is_live = not row.is_settled or bool(fleet.abandoned_of(row.name))
        self._keys.hint(worker_hints(fleet, row))
        known = snapshot.statistics
        stack = (known.stack, known.blocked is None, fleet.loop.count)
        # A snapshot brings attempts and lines of the log after the worker, without an event.
        state = (row, row.version, fleet.logged, width, now if is_live else None, stack, self._dashboard.is_growing)
        if width and state != self._drawn:
            self._drawn = state
            self._facts.show(facts(fleet, row, now, width))
            lines = stack_report(snapshot, row.name, width)
            self._report.show([*lines[1:], *lines[:1], *report(fleet, row, now, width)])

    async def action_cancel(self) -> None:
        """Cancel the worker."""
        await self._act(actions.cancel)

    async def action_restart(self) -> None:
        """Restart the worker."""
        await self._act(actions.restart)

    async def action_retry_now(self) -> None:
        """Let the worker go on now, if it waits."""
        await self._act(actions.retry_now)

    async def action_give_up(self) -> None:
        """Let the worker make no further attempt, if it waits."""
        await self._act(actions.give_up)

    async def _act(self, act: Callable[[Selection], Action]) -> None:
        await request(self, act(Selection(self._dashboard.fleet, self._row)), lambda: self._dashboard.fleet)

    def action_neighbour(self, step: int) -> None:
        """Show the worker below (1) or above (-1), in the order of the fleet."""
        neighbour = self._dashboard.view.neighbour(self._row, step)
        if neighbour is not self._row:
            self._row = neighbour
            if self._dashboard.player is None:
                self.post_message(CommandsRequested([WatchStack(neighbour.name)]))
            self._report.scroll_to_edge(-1)
            self.draw()

    def action_scroll(self, lines: int) -> None:
        """Scroll down by `lines`."""
        self._report.scroll_lines(lines)

    def action_edge(self, direction: int) -> None:
        """Scroll to the top (-1) or the bottom (1)."""
        self._report.scroll_to_edge(direction)

    async def action_close(self) -> None:
        """Go back to the fleet."""
        await self.action_dismiss(self._row)
