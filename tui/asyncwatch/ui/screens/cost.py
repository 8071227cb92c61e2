"""Page of the overhead: the screen, the event loop, the process."""

from __future__ import annotations

import threading
from typing import ClassVar

from textual.binding import Binding, BindingType

from asyncwatch.process import memory
from asyncwatch.ui.render.cost import cost_lines
from asyncwatch.ui.render.spans import Line
from asyncwatch.ui.screens.figures import KEYS, FiguresScreen


class CostScreen(FiguresScreen):
    """What asyncwatch itself costs."""

    HELP_PAGE = ("what asyncwatch costs itself", KEYS, ())
    BINDINGS: ClassVar[list[BindingType]] = [Binding("d", "dismiss", show=False)]
    NAME, ABOUT = "overhead", "what asyncwatch itself costs"

    def figures(self, width: int) -> list[Line]:
        """Return the figures of screen, loop and process."""
        threads = threading.active_count()
        return cost_lines(self._dashboard.snapshot(), memory=memory(), threads=threads, width=width)[1:]
