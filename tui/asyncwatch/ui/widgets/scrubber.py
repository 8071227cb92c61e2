"""The line of a recorded run. A click on its bar shows that moment."""

from __future__ import annotations

from textual import events

from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.render.scrubber import Scrubber, scrubber
from asyncwatch.ui.widgets.lines import Block


class ScrubberLine(Block):
    """Shows how far the recorded run has come. `dashboard` has a player."""

    def __init__(self, dashboard: DashboardState) -> None:
        super().__init__(id="scrubber")
        self._dashboard = dashboard

    def draw(self, width: int = 0) -> None:
        """Show the present moment. Before the widget has a size, `width` is the one that it will get."""
        if made := self._made(width or self.size.width):
            self.show([made.line])

    def _made(self, width: int) -> Scrubber | None:
        player = self._dashboard.player
        return None if player is None else scrubber(player.recording(), self._dashboard.clock_now, width)

    def on_resize(self) -> None:
        """Fit the new width."""
        self.draw()

    def on_click(self, event: events.Click) -> None:
        """Show the moment that was clicked."""
        offset, player, made = event.get_content_offset(self), self._dashboard.player, self._made(self.size.width)
        if offset is None or player is None or made is None:
            return
        moment = made.moment(offset.x, player.recording().end)
        if moment is not None:
            player.seek(moment)
