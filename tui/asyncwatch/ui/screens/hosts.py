"""Page of the processes of a cluster."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from asyncwatch.ui.render.hosts import host_lines
from asyncwatch.ui.render.spans import Line
from asyncwatch.ui.screens.figures import KEYS, FiguresScreen


class HostsScreen(FiguresScreen):
    """One line for each process."""

    HELP_PAGE = ("the processes of the cluster", KEYS, ())
    BINDINGS: ClassVar[list[BindingType]] = [Binding("H", "dismiss", show=False)]
    NAME, ABOUT = "hosts", "the processes in which attempts run"

    def figures(self, width: int) -> list[Line]:
        """Return a line for each process."""
        return host_lines(self._dashboard.snapshot(), width)
