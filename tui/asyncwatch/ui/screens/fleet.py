"""The main screen: the overview, the fleet, the filter, the keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import Input

from asyncwatch.commands import CancelAll, CancelWorker, RestartWorker
from asyncwatch.model.fleet import Row
from asyncwatch.model.selection import SORTS, parse_query
from asyncwatch.ui import format as fmt
from asyncwatch.ui.keys import ACTS, GLOBAL, LOOKS, bindings
from asyncwatch.ui.messages import CommandsRequested, DetailsRequested, SortRequested
from asyncwatch.ui.overview import overview
from asyncwatch.ui.scene import Scene
from asyncwatch.ui.screens.confirm import ConfirmScreen
from asyncwatch.ui.widgets.filter_bar import FilterBar, FilterInput
from asyncwatch.ui.widgets.fleet_table import FleetTable
from asyncwatch.ui.widgets.key_line import KeyLine
from asyncwatch.ui.widgets.lines_widget import Block

RESORT_EVERY = 1.0
"""Seconds after which rows may change places, if they are sorted by what changes."""


MANY = 20
"""Marked workers beyond which it is asked before something is done to them."""


class FleetScreen(Screen[None]):
    """Reads the scene, and turns keys into requests. No key changes a worker's row by itself."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(ACTS), *bindings(LOOKS)]
    AUTO_FOCUS = "FleetTable"

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self._scene = scene
        self.table = FleetTable(scene)
        self._overview = Block(id="overview")
        self._bar = FilterBar()

    def compose(self) -> ComposeResult:
        """Yield the parts from top to bottom."""
        yield self._overview
        yield self.table
        yield self._bar
        yield KeyLine((*ACTS, *LOOKS, *GLOBAL))

    def on_mount(self) -> None:
        """Start re-sorting at a calm rate."""
        self.set_interval(RESORT_EVERY, self._resort)

    def on_resize(self) -> None:
        """Lay everything out in the new width, once the parts have theirs."""
        self.call_after_refresh(self.draw)

    def draw(self) -> None:
        """Show the scene as it is now."""
        if not (width := self._overview.size.width):
            return
        self._overview.show(overview(self._scene, width))
        self.table.draw()
        self._draw_filter()

    def _draw_filter(self) -> None:
        view, total = self._scene.view, len(self._scene.fleet.rows)
        shown = len(view.order())
        self._bar.say(shown, total, is_trouble_only=view.trouble_only, problem=view.query.problem)
        self.table.show_if_empty(self._why_empty())

    def _why_empty(self) -> str:
        view = self._scene.view
        if not self._scene.fleet.rows:
            return "Waiting for the first worker…"
        if view.trouble_only and not view.query.conditions:
            return "No worker is in trouble.  f shows all of them."
        return "No worker matches the filter.  esc clears it."

    def _resort(self) -> None:
        if not self._scene.is_frozen:
            self._scene.view.resort()
            self.table.draw()

    def action_move(self, rows: int) -> None:
        """Move the cursor of the fleet, from wherever the focus is."""
        self.table.action_move(rows)

    async def action_cancel(self) -> None:
        """Cancel the marked workers that have not ended, or the selected one."""
        rows = self._chosen()
        active = [row for row in rows if not row.is_settled]
        await self._request_many([CancelWorker(row.name, row.incarnation) for row in active or rows], "cancel", "c")

    async def action_restart(self) -> None:
        """Restart the marked workers, or the selected one."""
        await self._request_many([RestartWorker(row.name, row.incarnation) for row in self._chosen()], "restart", "r")

    def action_mark(self) -> None:
        """Mark the selected worker, or take its mark away, and go on to the next."""
        if (row := self.table.selected) is not None:
            self._scene.view.toggle_mark(row.name)
            self.table.action_move(1)
            self.draw()

    def action_mark_all(self) -> None:
        """Mark all that the filter shows."""
        self._scene.view.mark_all_visible()
        self.draw()

    def action_clear(self) -> None:
        """Clear the marks; without marks, the filter."""
        view = self._scene.view
        if view.marks:
            view.clear_marks()
        else:
            view.trouble_only = False
            self._bar.input.value = ""
        self.draw()

    async def action_cancel_all(self) -> None:
        """Cancel all workers that have not ended, if the answer is yes."""
        active = self._scene.active
        if not active:
            self.notify("No worker is active.")
            return
        question = ConfirmScreen(f"Cancel {fmt.count(active, 'worker')}?", "cancel all", again="C")
        await self.app.push_screen(question, lambda yes: self._request([CancelAll()]) if yes else None)

    async def action_restart_all(self) -> None:
        """Restart all that have ended without success, if the answer is yes."""
        rows = self._scene.unsuccessful()
        if not rows:
            self.notify("No worker has ended without success.")
            return
        commands = [RestartWorker(row.name, row.incarnation) for row in rows]
        question = ConfirmScreen(
            f"Restart {fmt.count(len(rows), 'worker')} that did not succeed?", "restart", again="R"
        )
        await self.app.push_screen(question, lambda yes: self._request(commands) if yes else None)

    def action_filter(self) -> None:
        """Let a filter be typed."""
        self._bar.open()

    def action_sort(self) -> None:
        """Sort by the next column."""
        keys = [key for key, _heading in SORTS]
        self._sort_by(keys[(keys.index(self._scene.view.sort) + 1) % len(keys)], is_reversed=False)

    def action_reverse(self) -> None:
        """Reverse the order."""
        view = self._scene.view
        self._sort_by(view.sort, is_reversed=not view.reverse)

    def action_trouble(self) -> None:
        """Show only the workers in trouble, or all again."""
        view = self._scene.view
        view.trouble_only = not view.trouble_only
        self.draw()

    def action_details(self) -> None:
        """Open the selected worker."""
        if (row := self.table.selected) is not None:
            self.post_message(DetailsRequested(row))

    def on_sort_requested(self, message: SortRequested) -> None:
        """Sort by the heading that was clicked; reverse if it is the one already."""
        view = self._scene.view
        self._sort_by(message.key, is_reversed=message.key == view.sort and not view.reverse)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as it is typed."""
        self._scene.view.query = parse_query(event.value)
        self.draw()

    def on_input_submitted(self) -> None:
        """Keep the filter, go back to the fleet."""
        self.table.focus()
        self.draw()

    def on_filter_input_clear_requested(self, message: FilterInput.ClearRequested) -> None:
        """Show all workers again."""
        message.stop()
        self._bar.input.value = ""
        self.table.focus()
        self.draw()

    def _sort_by(self, key: str, *, is_reversed: bool) -> None:
        view = self._scene.view
        view.sort = key
        view.reverse = is_reversed
        self.draw()

    def _chosen(self) -> list[Row]:
        """Return the marked rows in queue order, or the selected one."""
        if marked := self._scene.view.marked():
            return marked
        return [self.table.selected] if self.table.selected is not None else []

    async def _request_many(self, commands: Sequence[CancelWorker | RestartWorker], verb: str, key: str) -> None:
        """Send the requests; ask first if they are so many that a slip would hurt."""
        if len(commands) <= MANY:
            self._request(commands)
            return
        question = ConfirmScreen(f"{verb.capitalize()} {len(commands):,} marked workers?", verb, again=key)
        await self.app.push_screen(question, lambda yes: self._request(commands) if yes else None)

    def _request(self, commands: Iterable[CancelWorker | RestartWorker | CancelAll]) -> None:
        if asked := tuple(commands):
            self.post_message(CommandsRequested(*asked))
