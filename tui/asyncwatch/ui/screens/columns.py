"""The columns of the fleet: which are shown."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Label

from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.render.columns import FIXED, HEADINGS, OF_SERVICES
from asyncwatch.ui.render.spans import Line, Span, pad
from asyncwatch.ui.screens.drawable import Drawable
from asyncwatch.ui.widgets.fleet_table import FleetTable
from asyncwatch.ui.widgets.pick_list import Item, PickList

_MEANINGS = {
    "name": "the worker",
    "state": "what it does",
    "health": "whether a service is up, flaps, or starts",
    "since": "since when a service is up",
    "restarts": "restarts of a service, and of the last hour",
    "crash": "when a service crashed last",
    "poll": "when the next poll is due",
    "retries": "retries so far, of how many",
    "waits": "how often it was asked to wait",
    "luck": "the draw before its last attempt",
    "progress": "how far it says it is",
    "result": "its status text, then its result",
    "last": "how long its last attempt took",
    "elapsed": "seconds since its first attempt started",
    "error": "the last error",
}


class ColumnList(PickList):
    """The columns, as high as they are many."""


class ColumnsScreen(Drawable, ModalScreen[None]):
    """A dialog in which each column is shown or hidden. The table behind it follows at once."""

    CSS_PATH = "../dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,enter", "switch", "show or hide", show=False),
        Binding("backspace,delete", "reset", "by need", show=False),
        Binding("escape,h", "dismiss(None)", "close", show=False),
    ]

    def __init__(self, dashboard: DashboardState, table: FleetTable) -> None:
        super().__init__()
        self._dashboard = dashboard
        self._table = table
        self._list = ColumnList()

    def compose(self) -> ComposeResult:
        """Yield the columns."""
        with Vertical(id="question"):
            yield Label("Columns", id="ask", markup=False)
            yield self._list
            yield Label("space shows or hides · backspace: by need · esc closes", id="consequence", markup=False)

    def on_mount(self) -> None:
        """Show the columns."""
        self.set_focus(self._list)  # at once: it gets the next key
        self._show()

    def action_switch(self) -> None:
        """Show the selected column, or hide it."""
        if (key := self._selected) is not None:
            self._dashboard.columns[key] = key not in self._table.columns
            self._show()

    def action_reset(self) -> None:
        """Show the selected column when it says something."""
        if (key := self._selected) is not None:
            self._dashboard.columns.pop(key, None)
            self._show()

    @property
    def _selected(self) -> str | None:
        key = self._list.selected
        return key if isinstance(key, str) and key not in FIXED else None

    def _show(self) -> None:
        self._table.draw()
        has_services = self._dashboard.fleet.tree.is_supervised
        keys = [key for key in HEADINGS if has_services or key not in OF_SERVICES]
        items = [Item(key, [self._line(key)]) for key in keys]
        self._list.show_items(items, gap=0)

    def _line(self, key: str) -> Line:
        is_shown = key in self._table.columns
        chosen = self._dashboard.columns.get(key)
        note = " · no room" if chosen and not is_shown else " · always" if key in FIXED else ""
        style = "muted" if key in FIXED else ""
        return [
            Span(" ✓ " if is_shown else " · ", "succeeded" if is_shown else "muted"),
            Span(pad(HEADINGS[key][0].lower(), 11), style),
            Span(f"{_MEANINGS[key]}{note}", "muted"),
        ]
