"""The main screen: the overview, the fleet, the filter, the keys."""

# ruff: noqa: PLC0415  a screen that a key opens is imported when it is opened

from __future__ import annotations

from itertools import islice
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from asyncwatch.events import WorkerState
from asyncwatch.model.view.filter import parse_query
from asyncwatch.model.view.groups import Cluster
from asyncwatch.model.view.sort_keys import SORTS
from asyncwatch.text import mask_secrets
from asyncwatch.ui.display import Scene
from asyncwatch.ui.keys import ACTS, GLOBAL, LOOKS, RUN, bindings
from asyncwatch.ui.messages import FoldRequested, SortRequested
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.columns import shown_name
from asyncwatch.ui.render.header import overview
from asyncwatch.ui.render.hints import hints
from asyncwatch.ui.render.spans import crop
from asyncwatch.ui.screens.acting import ActingScreen
from asyncwatch.ui.widgets.filter_bar import FilterBar
from asyncwatch.ui.widgets.key_line import KeyLine
from asyncwatch.ui.widgets.lines_widget import Block

_MARGINS = 2
"""Cells left and right of the overview; were it others, the next picture would be right."""
_SOME = 50
RESORT_EVERY = 1.0
"""Seconds after which rows may change places, if they are sorted by what changes."""


class FleetScreen(ActingScreen):
    """Reads the scene; what is looked at is chosen here, what is done is asked for by its base."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(ACTS), *bindings(RUN), *bindings(LOOKS)]
    AUTO_FOCUS = "FleetTable"

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._overview = Block(id="overview")
        self._bar = FilterBar()
        self._keys = KeyLine((*ACTS, *RUN, *LOOKS, *GLOBAL))

    def compose(self) -> ComposeResult:
        """Yield the parts from top to bottom, with all that is known: the first picture is a whole one."""
        width = self.app.size.width
        self._overview.show(overview(self._scene, width - _MARGINS))
        self.table.draw()
        self._keys.hint(hints(self._scene, self._states()), width)
        yield self._overview
        yield self.table
        yield self._bar
        yield self._keys

    def on_mount(self) -> None:
        """Start re-sorting at a calm rate."""
        self.set_interval(RESORT_EVERY, self._resort)

    def on_resize(self) -> None:
        """Lay everything out in the new width, once the parts have theirs; the first time they have."""
        if not self._overview.lines:
            self.draw()
        self.call_after_refresh(self.draw)

    def draw(self) -> None:
        """Show the scene as it is now, and ask for what waited for it."""
        self.send_changes()
        if not (width := self._overview.size.width):
            return
        self._overview.show(overview(self._scene, width))
        self.table.draw()
        self._draw_filter()
        self._keys.hint(hints(self._scene, self._states()))

    def _states(self) -> list[WorkerState]:
        """Return the states of the workers that a key would act on; of the marked ones some will do."""
        fleet, view = self._scene.fleet, self._scene.view
        if view.marks:
            return [row.state for name in islice(view.marks, _SOME) if (row := fleet.get(name)) is not None]
        if (branch := self.table.selected_branch) is not None:
            return [state for state, workers in branch.counts.items() if workers]
        return [self.table.selected.state] if self.table.selected is not None else []

    def _draw_filter(self) -> None:
        view, total = self._scene.view, len(self._scene.fleet.rows)
        shown, stray = len(view.order()), view.stray
        kind = f"errors like {crop(fmt.clean(mask_secrets(view.cluster[0])), 48)}" if view.cluster is not None else ""
        sign = "filtering…" if view.is_filtering else "sorting…" if view.is_behind else ""
        stays = f"{shown_name(stray)} stays while the cursor is on it" if stray is not None else ""
        only = " · ".join(filter(None, [sign, "trouble only" if view.trouble_only else "", kind, stays]))
        self._bar.say(shown - (stray is not None), total, only=only, problem=view.query.problem)
        self.table.show_if_empty(self._why_empty())

    def _why_empty(self) -> str:
        view = self._scene.view
        if not self._scene.fleet.rows:
            return "Waiting for the first worker…"
        if view.cluster is not None:
            return "No worker has such an error any more.  esc shows all of them."
        if view.trouble_only and not view.query.conditions:
            return "No worker is in trouble.  f shows all of them."
        return "No worker matches the filter.  esc clears it."

    def _resort(self) -> None:
        view = self._scene.view
        if not self._scene.is_frozen and (view.resort() or view.is_busy):
            self.table.draw()

    def action_move(self, rows: int) -> None:
        """Move the cursor of the fleet, from wherever the focus is."""
        self.table.action_move(rows)

    def action_mark(self) -> None:
        """Mark the selected worker, or take its mark away, and go on to the next; of a group, all workers."""
        if not self.table.shows_cursor():
            return
        view = self._scene.view
        if (branch := self.table.selected_branch) is not None:
            view.marks.toggle(self._scene.fleet.tree.spans_below(branch))
            self.draw()
        elif (row := self.table.selected) is not None:
            view.marks.toggle_worker(row.name)
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
            view.marks.clear()
        else:
            view.trouble_only = False
            view.cluster = None
            self._bar.input.value = ""
            self._take_filter()
        self.draw()

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
        """Open the selected worker; fold or unfold the selected group."""
        line = self.table.selected or self.table.selected_branch
        if line is not None and self.table.shows_cursor():
            self.table.open(line)

    def on_fold_requested(self, message: FoldRequested) -> None:
        """Show less or more of a group."""
        self._scene.view.fold(message.branch, is_folded=message.is_folded)
        self.draw()

    async def action_errors(self) -> None:
        """Open the errors; the fleet shows the workers of those that were chosen there."""
        from asyncwatch.ui.screens.errors import ErrorsScreen

        await self.app.push_screen(ErrorsScreen(self._scene), self._show_cluster)

    async def action_circuits(self) -> None:
        """Open the circuits."""
        from asyncwatch.ui.screens.circuits import CircuitsScreen

        await self.app.push_screen(CircuitsScreen(self._scene))

    def _show_cluster(self, cluster: Cluster | None) -> None:
        if cluster is not None:
            self._scene.view.cluster = cluster.key
            self.draw()

    def on_lines_ready(self) -> None:
        """Show the order that took its time."""
        self.draw()

    def on_sort_requested(self, message: SortRequested) -> None:
        """Sort by the heading that was clicked; reverse if it is the one already."""
        view = self._scene.view
        self._sort_by(message.key, is_reversed=message.key == view.sort and not view.reverse)

    def on_input_changed(self) -> None:
        """Filter as it is typed."""
        self._take_filter()
        self.draw()

    def action_keep_filter(self) -> None:
        """Keep the filter, go back to the fleet."""
        self._take_filter()
        self.set_focus(self.table)  # at once: the next key is for it
        self.draw()

    def action_clear_filter(self) -> None:
        """Show all workers again, go back to the fleet."""
        self._bar.input.value = ""
        self.action_keep_filter()

    def _take_filter(self) -> None:
        self._scene.view.query = parse_query(self._bar.input.value)

    def _sort_by(self, key: str, *, is_reversed: bool) -> None:
        view = self._scene.view
        view.sort = key
        view.reverse = is_reversed
        self.draw()
