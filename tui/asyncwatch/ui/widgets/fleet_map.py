"""Map of the fleet: one cell a worker, or a bucket of workers with its worst state."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import groupby
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType

from asyncwatch import text as units
from asyncwatch.events import WorkerState
from asyncwatch.model.view.map import SEVERITY
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.spans import Line, Span
from asyncwatch.ui.widgets.fleet_table import FleetTable
from asyncwatch.ui.widgets.lines import Block

DRAWN_EVERY = 0.25
"""Seconds between two pictures of the map while events come."""
LEAST_HEIGHT = 34
"""Lines of a terminal from which the map is shown by itself."""
_MOST_LINES = 10
_LOOKS = [
    ("·", "muted") if state is WorkerState.QUEUED else (fmt.GLYPHS[state], fmt.state_style(state)) for state in SEVERITY
]
"""Glyph and style of each state: those of its rows, except the many that are only queued."""


class FleetMap(Block, can_focus=True):
    """A title and lines of cells. The cell of the selected worker is marked; arrows and the mouse select another.

    It is drawn a few times a second, in time that depends on its cells and on what has changed.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "left", show=False),
        Binding("right", "step(1)", "right", show=False),
        Binding("up,k", "line(-1)", "up", show=False),
        Binding("down,j", "line(1)", "down", show=False),
        Binding("enter", "screen.details", "details", show=False),
        Binding("escape", "screen.leave_map", "back", show=False),
    ]

    def __init__(
        self, dashboard: DashboardState, table: FleetTable, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(id="map")
        self._dashboard = dashboard
        self._table = table
        self._clock = clock
        self._drawn_at = float("-inf")
        self._drawn: tuple[object, ...] = ()
        """What the picture was made of, apart from the states."""
        self._cells = b""

    def draw(self) -> None:
        """Draw the map anew if it is time to, or if another worker is selected."""
        width, lines = self.size.width, self.room(self.app.size.height)
        if not self.display or not width:
            return
        selected, state_map = self._table.selected, self._dashboard.view.state_map
        picture = (width, lines, state_map, state_map.is_behind, selected and selected.index, self.has_focus)
        is_due = state_map.is_outdated and self._clock() >= self._drawn_at + DRAWN_EVERY
        if picture == self._drawn and not is_due:
            return
        if picture[:4] != self._drawn[:4] or is_due:
            self._drawn_at = self._clock()
            self._cells = state_map.cells(width * lines)
        self._drawn = picture
        self.show(self._picture(width))

    @staticmethod
    def room(height: int) -> int:
        """Return the most lines of cells in a terminal of that height."""
        return max(2, min(_MOST_LINES, (height - 26) // 3))

    def _picture(self, width: int) -> list[Line]:
        size, selected = self._dashboard.view.state_map.size, self._table.selected
        at = -1 if selected is None else selected.index // size
        each = "a worker" if size == 1 else f"{units.count(size, 'worker')}, worst state"
        title = [Span("MAP", "strong" if self.has_focus else "heading"), Span(f"  a cell: {each}", "muted")]
        keys = " · arrows select · enter opens · m closes" if self.has_focus else ""
        starts = range(0, len(self._cells), width)
        return [
            [*title, Span(keys, "muted")],
            *(_line(self._cells[start : start + width], at - start) for start in starts),
        ]

    def action_step(self, cells: int) -> None:
        """Select the worst worker some cells on."""
        self._select(self._at + cells)

    def action_line(self, lines: int) -> None:
        """Select the worst worker some lines down."""
        self._select(self._at + lines * max(1, self.size.width))

    def on_click(self, event: events.Click) -> None:
        """Select the worst worker of the clicked cell; a second click opens it."""
        offset = event.get_content_offset(self)
        if offset is None or not offset.y:
            return
        self._select(offset.x + (offset.y - 1) * self.size.width)
        if event.chain == 2 and (row := self._table.selected) is not None:
            self._table.open(row)

    def on_focus(self) -> None:
        """Show which keys select."""
        self.draw()

    def on_blur(self) -> None:
        """Hide them."""
        self.draw()

    def on_resize(self) -> None:
        """Fit the new width."""
        self.draw()

    @property
    def _at(self) -> int:
        """The cell of the selected worker; the one before the first if none is selected."""
        selected = self._table.selected
        return -1 if selected is None else selected.index // self._dashboard.view.state_map.size

    def _select(self, cell: int) -> None:
        row = self._dashboard.view.state_map.row_at(min(max(0, cell), len(self._cells) - 1))
        if row is not None:
            self._table.select(row)
            self._table.draw()
            self.draw()


def _line(cells: bytes, at: int) -> Line:
    """Return cells as spans; `at` is the place of the selected one."""
    spans: list[Span] = []
    for code, run in groupby(cells):
        glyph, style = _LOOKS[code]
        spans.append(Span(glyph * len([*run]), style))
    if not 0 <= at < len(cells):
        return spans
    marked: list[Span] = []
    for span in spans:
        if 0 <= at < len(span.text):
            marked += [
                Span(span.text[:at], span.style),
                Span(span.text[at], f"{span.style} chosen"),
                Span(span.text[at + 1 :], span.style),
            ]
        else:
            marked.append(span)
        at -= len(span.text)
    return [span for span in marked if span.text]
