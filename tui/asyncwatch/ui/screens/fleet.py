"""The main screen: the overview, the fleet, the filter, the keys."""

# ruff: noqa: PLC0415  a screen that a key opens is imported when it is opened

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen

from asyncwatch.commands import Command, WatchStack
from asyncwatch.events import WorkerState
from asyncwatch.model.rows import Row
from asyncwatch.model.view.filter import completion, parse_query
from asyncwatch.model.view.groups import Cluster, Clustering, WaitKey
from asyncwatch.model.view.sort import LIVE_ORDER, QUEUE_ORDER, SORTS
from asyncwatch.slices import SlicedWork, background_work
from asyncwatch.ui import actions
from asyncwatch.ui.actions import Action, Selection
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.hints import fleet_hints
from asyncwatch.ui.keys import ACTS, GLOBAL, LOOKS, MOVES, PLAYS, RUN, Role, bindings, offered
from asyncwatch.ui.messages import (
    CommandsRequested,
    DetailsRequested,
    FoldRequested,
    SettingChangeRequested,
    SortRequested,
)
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.columns import SECOND, shown_name
from asyncwatch.ui.render.cost import recent_block
from asyncwatch.ui.render.header import overview
from asyncwatch.ui.render.spans import crop
from asyncwatch.ui.screens.drawable import Drawable
from asyncwatch.ui.screens.request import request
from asyncwatch.ui.widgets.fleet_map import LEAST_HEIGHT, FleetMap
from asyncwatch.ui.widgets.fleet_table import FleetTable
from asyncwatch.ui.widgets.footer import FilterBar, KeyLine
from asyncwatch.ui.widgets.lines import Block
from asyncwatch.ui.widgets.worker_pane import WorkerPane

if TYPE_CHECKING:
    from asyncwatch.ui.widgets.scrubber import ScrubberLine

RESORT_EVERY = 1.0
"""Seconds between two re-sorts by values that change, so that rows do not move all the time."""
_WAITS = 8
"""Most places where tasks wait in the overview."""
_SHARE = 20
"""A grouping waits at least this many times as long as the last one took."""
_PADDING = 2
"""Cells left and right of the overview together, for the first frame; later ones measure it."""
_NEED_SELECTION = ("cancel", "restart", "mark", "details")
"""Actions without effect while no worker is selected."""
_GROUPS = 100
"""Groups that a filter is completed with, at most."""
_SAMPLE = 50
"""Marked workers whose states decide which keys are hinted."""


class FleetScreen(Drawable, Screen[None]):
    """Shows the run, and turns keys into commands. No key changes a row: the engine's events do."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(ACTS), *bindings(RUN), *bindings(LOOKS)]
    AUTO_FOCUS = "FleetTable"
    SHOWS_MAP: ClassVar[bool | None] = None
    """Whether the map is shown, until a person decides; None if it is shown when there is room and need."""

    def __init__(self, dashboard: DashboardState) -> None:
        super().__init__()
        self.table = FleetTable(dashboard)
        self.map = FleetMap(dashboard, self.table)
        self.map.display = False
        self._shows_map = self.SHOWS_MAP
        self.pane = WorkerPane(dashboard, self.table)
        self._dashboard = dashboard
        self._overview = Block(id="overview")
        self._filter_bar = FilterBar(complete=lambda text: completion(text, self._groups))
        plays = PLAYS if dashboard.player is not None else ()
        self._grouping: SlicedWork | None = None
        self._group_again = 0.0
        select = [key for key in MOVES if key.action == "move(1)"]
        self._keys = KeyLine(offered((*plays, *select, *ACTS, *RUN, *LOOKS, *GLOBAL), dashboard.role))
        self._scrubber: ScrubberLine | None = None
        if dashboard.player is not None:
            from asyncwatch.ui.widgets.scrubber import ScrubberLine

            self._scrubber = ScrubberLine(dashboard)

    def compose(self) -> ComposeResult:
        """Yield the parts from top to bottom, already filled: the first frame is complete."""
        width = self.app.size.width
        self._overview.show(overview(self._dashboard.snapshot(), width - _PADDING))
        self.table.draw()
        self._hint_keys(width)
        yield self._overview
        yield self.map
        yield self.table
        yield self.pane
        yield self._filter_bar
        if self._scrubber is not None:
            self._scrubber.draw(width - _PADDING)
            yield self._scrubber
        yield self._keys

    def on_mount(self) -> None:
        """Start to re-sort."""
        self.set_interval(RESORT_EVERY, self._resort)

    # -- drawing

    @property
    def period(self) -> float:
        """Seconds between two changes of the clock or of the visible lines if nothing happens."""
        return min(SECOND, self.table.period)

    @property
    def period_at_rest(self) -> float:
        """A second while a block of the loop that is over is shown, so that the warning ends."""
        return SECOND if recent_block(self._dashboard.snapshot()) else float("inf")

    def draw(self) -> None:
        """Show the present state of the run."""
        if not (width := self._overview.size.width):
            return
        self._group_waits()
        self._overview.show(overview(self._dashboard.snapshot(), width))
        self._show_map()
        self.map.draw()  # before the table, which starts the work that it needs
        self.table.draw()
        self.pane.draw()
        self._draw_filter()
        if self._scrubber is not None:
            self._scrubber.draw()
        self._hint_keys()

    def _show_map(self) -> None:
        fleet, height = self._dashboard.fleet, self.app.size.height
        is_needed = LEAST_HEIGHT <= height < len(fleet.rows) and not fleet.tree.is_shown
        is_shown = is_needed if self._shows_map is None else self._shows_map
        if self.map.display != is_shown:
            self.map.display = is_shown

    def _hint_keys(self, width: int = 0) -> None:
        dashboard = self._dashboard
        has_marks = bool(dashboard.view.marks)
        hints = fleet_hints(dashboard.fleet, self._selected_states(), has_marks=has_marks)
        if dashboard.view.is_following and not has_marks:
            hints = {**hints, **dict.fromkeys(_NEED_SELECTION), "move(1)": "select"}
        elif (branch := self.table.selected_branch) is not None:
            hints = {**hints, "details": "unfold" if dashboard.view.is_folded(branch) else "fold"}
        elif self.table.selected is None and not has_marks:
            hints = {**hints, **dict.fromkeys(_NEED_SELECTION)}
        self._keys.hint(hints, width)

    def _selected_states(self) -> list[WorkerState]:
        """Return the states of the selected workers, or of a sample of many."""
        fleet, view = self._dashboard.fleet, self._dashboard.view
        if view.marks:
            return [row.state for name in islice(view.marks, _SAMPLE) if (row := fleet.get(name)) is not None]
        if (branch := self.table.selected_branch) is not None:
            return [state for state, workers in branch.counts.items() if workers]
        return [self.table.selected.state] if self.table.selected is not None else []

    def _draw_filter(self) -> None:
        view, total = self._dashboard.view, len(self._dashboard.fleet.rows)
        shown, stray = len(view.order()), view.stray
        kind = ""
        if view.cluster is not None:
            like = "those at" if isinstance(view.cluster, WaitKey) else "errors like"
            kind = f"{like} {crop(fmt.safe(view.cluster[0]), 48)}"
        progress = "filtering…" if view.is_filtering else "sorting…" if view.is_behind else ""
        stays = f"{shown_name(stray)} stays while the cursor is on it" if stray is not None else ""
        only = " · ".join(
            filter(None, [progress, "trouble only" if view.trouble_only else "", kind, stays, self._news()])
        )
        self._filter_bar.show(shown - (stray is not None), total, only=only, problem=view.query.problem)
        self.table.show_if_empty(self._why_empty())

    def _groups(self) -> list[str]:
        """Return the names of the groups, for the completion of a filter."""
        rows = self._dashboard.fleet.rows
        names: dict[str, None] = {}
        place = 0
        while place < len(rows) and len(names) < _GROUPS:
            block = rows[place].block
            names[block.group] = None
            place = block.start + block.size
        return [*names]

    def _news(self) -> str:
        """Return what came since the rows of the live order are held where they are."""
        news = self._dashboard.view.held_back
        if news is None:
            return ""
        words = zip(news, ("started", "succeeded", "ended otherwise"), strict=True)
        came = ", ".join(f"+{number:,} {what}" for number, what in words if number)
        return f"rows stay{f': {came}' if came else ''} · home follows"

    def _why_empty(self) -> str:
        view = self._dashboard.view
        if not self._dashboard.fleet.rows:
            return "Waiting for the first worker…"
        if view.cluster is not None:
            what = "waits there" if isinstance(view.cluster, WaitKey) else "has this error"
            return f"No worker {what} any more. Press esc to show all workers."
        if view.trouble_only and not view.query.conditions:
            return "No worker is in trouble. Press f to show all workers."
        return "No worker matches the filter. Press esc to clear it."

    def _resort(self) -> None:
        view = self._dashboard.view
        view.pass_time(self._dashboard.now)
        if not self._dashboard.is_frozen and (view.resort() or view.is_busy):
            self.draw()
        else:
            self.map.draw()

    def _group_waits(self) -> None:
        """Group observed tasks by where they wait, for the overview: in slices, at most a twentieth of the time."""
        dashboard, now = self._dashboard, time.monotonic()
        fleet = dashboard.fleet
        if not fleet.is_observed or dashboard.is_frozen or self._grouping is not None or now < self._group_again:
            return
        clustering = Clustering(fleet.notable(), None)

        def show() -> None:
            self._grouping = None
            self._group_again = now + max(RESORT_EVERY, _SHARE * (time.monotonic() - now))
            dashboard.waits = tuple((len(cluster.rows), cluster.kind) for cluster in clustering.clusters()[:_WAITS])
            self.draw()

        self._grouping = background_work(clustering.work, show)
        self._grouping.start()

    def on_unmount(self) -> None:
        """Stop a grouping that is in progress."""
        if self._grouping is not None:
            self._grouping.stop()

    def on_cursor_moved(self) -> None:
        """Show what can be done with the selected line."""
        self.map.draw()
        self.pane.draw()
        self._draw_filter()
        self._hint_keys()

    def on_lines_ready(self) -> None:
        """Show an order that took some time."""
        self.draw()

    # -- acting on workers

    async def action_cancel(self) -> None:
        """Cancel the marked workers, the selected group, or the selected worker."""
        await self._act(actions.cancel)

    async def action_restart(self) -> None:
        """Restart the marked workers, the selected group, or the selected worker."""
        await self._act(actions.restart)

    async def action_retry_now(self) -> None:
        """Let the selected workers that wait go on now."""
        await self._act(actions.retry_now)

    async def action_give_up(self) -> None:
        """Let the selected workers that wait make no further attempt."""
        await self._act(actions.give_up)

    async def action_cancel_all(self) -> None:
        """Cancel all active workers, or those that the filter matches."""
        await self._request(actions.cancel_all(self._dashboard.view))

    async def action_restart_all(self) -> None:
        """Restart all workers that have ended without success, or those that the filter matches."""
        await self._request(actions.restart_all(self._dashboard.view))

    async def action_retry_all_now(self) -> None:
        """Let all workers that wait go on now, or those that the filter matches."""
        await self._request(actions.retry_all_now(self._dashboard.view))

    async def action_give_up_all(self) -> None:
        """Let all workers that wait make no further attempt, or those that the filter matches."""
        await self._request(actions.give_up_all(self._dashboard.view))

    async def _act(self, act: Callable[[Selection], Action]) -> None:
        dashboard = self._dashboard
        if dashboard.view.marks or self.table.shows_cursor():
            await self._request(act(Selection(dashboard.fleet, self.table.selected_line, dashboard.view)))

    async def _request(self, action: Action) -> None:
        """Request the commands of an action. While its question is open, its workers are highlighted beside it."""
        table = self.table
        if action.question and action.highlighted:
            table.highlight(action.highlighted)
        await request(
            self,
            action,
            lambda: self._dashboard.fleet,
            side="" if not action.consequence else "high" if table.is_cursor_low else "low",
            closed=lambda: table.highlight(()),
        )

    # -- changing settings

    def action_pause(self) -> None:
        """Start no new attempts, or start them again."""
        self._change(lambda: actions.pause(self._dashboard.fleet.settings))

    def action_concurrency(self, direction: int) -> None:
        """Let more (1) or fewer (-1) attempts run at a time."""
        self._change(lambda: actions.change_concurrency(self._dashboard.fleet, direction))

    def action_undo(self) -> None:
        """Undo the last change of a setting."""
        self._change(lambda: actions.undo(self._dashboard.fleet.settings))

    def _change(self, change: Callable[[], Action]) -> None:
        """Request the change of a setting. It is computed when earlier changes are answered."""

        def make() -> Sequence[Command]:
            action = change()
            if action.notice:
                self.notify(action.notice)
            return [*action.commands]

        self.post_message(SettingChangeRequested(make))

    async def action_options(self) -> None:
        """Open the settings."""
        if self._dashboard.fleet.run is None:
            self.notify("The run has not started yet. Try again in a moment.")
            return
        from asyncwatch.ui.screens.options import OptionsScreen

        def apply(commands: Sequence[Command] | None) -> None:
            if commands:
                self.post_message(CommandsRequested(commands))

        await self.app.push_screen(OptionsScreen(self._dashboard.fleet), apply)

    # -- looking

    def action_map(self) -> None:
        """Show the map and select there; hide it if that was so."""
        if self.map.display and self.map.has_focus:
            self._shows_map = False
            self.set_focus(self.table)
        else:
            self._shows_map = True
            self.map.display = True
            self.set_focus(self.map)  # at once: it gets the next key
        self.draw()

    def action_pane(self) -> None:
        """Show the log of the selected worker below, then its details, then neither."""
        self.pane.turn()
        self.call_after_refresh(self.draw)  # its width is known then

    def action_resize_pane(self, direction: int) -> None:
        """Make the pane higher (1) or lower (-1)."""
        if self.pane.display:
            self.pane.resize(direction)

    def action_leave_map(self) -> None:
        """Go back from the map to the fleet."""
        self.set_focus(self.table)

    def action_move(self, rows: int) -> None:
        """Move the cursor of the fleet while the filter has the focus."""
        self.table.action_move(rows)

    def action_mark(self) -> None:
        """Mark the selected worker, or unmark it, and go to the next one; mark or unmark all workers of a group."""
        if not self.table.shows_cursor():
            return
        view = self._dashboard.view
        if (branch := self.table.selected_branch) is not None:
            view.marks.toggle(self._dashboard.fleet.tree.spans_below(branch))
            self.draw()
        elif (row := self.table.selected) is not None:
            view.marks.toggle_worker(row.name)
            self.table.action_move(1)
            self.draw()

    def action_mark_all(self) -> None:
        """Mark all workers that the filter shows."""
        self._dashboard.view.mark_all_visible()
        self.draw()

    def action_clear(self) -> None:
        """Clear the marks; without marks, the filter. Without either, let the past of the run go."""
        view = self._dashboard.view
        is_clear = not (view.marks or view.trouble_only or view.cluster or self._filter_bar.input.value)
        if is_clear and self._dashboard.role is Role.PAST:
            self.app.call_next(self.app.run_action, "app.rewind")
            return
        if view.marks:
            view.marks.clear()
        else:
            view.trouble_only = False
            view.cluster = None
            self._filter_bar.input.value = ""
            self._apply_filter()
        self.draw()

    def action_filter(self) -> None:
        """Focus the filter."""
        self._filter_bar.open()

    def action_keep_filter(self) -> None:
        """Apply the filter and go back to the fleet."""
        self._apply_filter()
        self.set_focus(self.table)  # at once: it gets the next key
        self.draw()

    def action_clear_filter(self) -> None:
        """Clear the filter and go back to the fleet."""
        self._filter_bar.input.value = ""
        self.action_keep_filter()

    def on_input_changed(self) -> None:
        """Filter as a person types."""
        self._apply_filter()
        self.draw()

    def _apply_filter(self) -> None:
        self._dashboard.view.query = parse_query(self._filter_bar.input.value, lambda: self._dashboard.now)

    def action_sort(self) -> None:
        """Sort by the next column."""
        present, shown = self._dashboard.view.sort, self.table.columns
        keys = [key for key, _heading in SORTS if key in {QUEUE_ORDER, LIVE_ORDER, present, *shown}]
        self._sort_by(keys[(keys.index(present) + 1) % len(keys)], is_reversed=False)

    def action_reverse(self) -> None:
        """Reverse the order."""
        view = self._dashboard.view
        self._sort_by(view.sort, is_reversed=not view.reverse)

    def on_sort_requested(self, message: SortRequested) -> None:
        """Sort by the clicked heading, or reverse the order if it is sorted by that already."""
        view = self._dashboard.view
        self._sort_by(message.key, is_reversed=message.key == view.sort and not view.reverse)

    def _sort_by(self, key: str, *, is_reversed: bool) -> None:
        view = self._dashboard.view
        view.is_order_chosen = True
        if key == LIVE_ORDER and not is_reversed and not view.is_filtered:
            self.table.follow()
        view.sort = key
        view.reverse = is_reversed
        self.draw()

    def action_trouble(self) -> None:
        """Show only the workers in trouble, or all again."""
        view = self._dashboard.view
        view.trouble_only = not view.trouble_only
        self.draw()

    async def action_details(self) -> None:
        """Open the selected worker; fold or unfold the selected group."""
        if not self.table.shows_cursor() or (line := self.table.selected_line) is None:
            return
        if isinstance(line, Row):
            await self._open_details(line)  # not by a message: the next key is for the page
        else:
            self.table.open(line)

    async def on_details_requested(self, message: DetailsRequested) -> None:
        """Open a worker, unless another screen was opened since the click."""
        if self.app.screen is self:
            await self._open_details(message.row)

    async def _open_details(self, row: Row) -> None:
        """Open a worker. When its page closes, the cursor is on the worker that it showed last."""
        from asyncwatch.ui.screens.details import DetailsScreen

        def closed(row: Row | None) -> None:
            self._watch_stack(None)
            present = self._dashboard.fleet.get(row.name) if row is not None else None
            if present is not None:
                self.table.select(present)

        self._watch_stack(row.name)
        await self.app.push_screen(DetailsScreen(self._dashboard, row), closed)

    def _watch_stack(self, worker: str | None) -> None:
        if self._dashboard.player is None:
            self.post_message(CommandsRequested([WatchStack(worker)]))

    def on_fold_requested(self, message: FoldRequested) -> None:
        """Fold or unfold a group."""
        self._dashboard.view.fold(message.branch, is_folded=message.is_folded)
        self.draw()

    async def action_errors(self) -> None:
        """Open the errors. The fleet then shows only the workers of the group that is chosen there."""
        await self._open_clusters(is_of_waits=False)

    async def action_waits(self) -> None:
        """Open the places where workers wait. The fleet then shows only the workers of the one that is chosen."""
        await self._open_clusters(is_of_waits=True)

    async def _open_clusters(self, *, is_of_waits: bool) -> None:
        from asyncwatch.ui.screens.errors import ErrorsScreen

        def show_only(cluster: Cluster | None) -> None:
            if cluster is not None:
                self._dashboard.view.cluster = WaitKey(*cluster.key) if is_of_waits else cluster.key
                self.draw()

        await self.app.push_screen(ErrorsScreen(self._dashboard, is_of_waits=is_of_waits), show_only)

    async def action_columns(self) -> None:
        """Open the list of columns, to show or hide some."""
        from asyncwatch.ui.screens.columns import ColumnsScreen

        await self.app.push_screen(ColumnsScreen(self._dashboard, self.table), lambda _: self.draw())

    async def action_limits(self) -> None:
        """Open the limits of each key."""
        from asyncwatch.ui.screens.limits import LimitsScreen

        await self.app.push_screen(LimitsScreen(self._dashboard))
