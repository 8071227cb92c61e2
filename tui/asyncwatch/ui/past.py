"""The past of a live run, in the place of its dashboard until it is let go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from textual.worker import Worker

from asyncwatch.commands import Disconnected, Moment, Player, SnapshotPart
from asyncwatch.events import Batch, CommandRefused
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.pump import Pump


class _Screens(Protocol):
    """The app, which shows the past."""

    def draw(self) -> None:
        """Draw a frame."""

    def show_problem(self, problem: str) -> None:
        """Show a problem."""


class Past:
    """A recording beside the live run: its state, and the pump that fills it. The live run goes on as before.

    Args:
        player: the recording.
        dashboard: its state.
        screens: shows it.
        depth: how many screens are below those of the past.

    """

    def __init__(self, player: Player, dashboard: DashboardState, screens: _Screens, depth: int) -> None:
        self.player = player
        self.dashboard = dashboard
        self.depth = depth
        self.pump = Pump(self, is_endless=True)
        self.worker: Worker[Disconnected | None] | None = None
        """Runs the pump."""
        self._screens = screens
        self.receive: Callable[[Batch], None] = dashboard.receive
        self.read: Callable[[SnapshotPart], bool] = dashboard.read
        self.move: Callable[[Moment], None] = dashboard.move
        self.draw = screens.draw
        self.show_problem = screens.show_problem

    def show_refusals(self, refusals: list[CommandRefused]) -> None:
        """Show nothing: they are in the log of that time."""

    def close(self) -> None:
        """End the pump and the player."""
        if self.worker is not None:
            self.worker.cancel()
        self.player.close()
