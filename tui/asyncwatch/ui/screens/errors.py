"""Clusters of workers, by their error or by where they wait, and actions on the workers of a cluster."""

from __future__ import annotations

import time
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen
from textual.timer import Timer

from asyncwatch import text as units
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.services import RETURNED
from asyncwatch.model.view.groups import Cluster, Clustering
from asyncwatch.slices import SlicedWork, background_work
from asyncwatch.text import brief_error, mask_secrets
from asyncwatch.ui import actions
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.keys import Key, bindings, offered
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.columns import shown_name
from asyncwatch.ui.render.log import fold
from asyncwatch.ui.render.services import clock_at
from asyncwatch.ui.render.spans import Line, Span, crop_line, crop_path, join, spread, width_of
from asyncwatch.ui.screens.drawable import Drawable
from asyncwatch.ui.screens.request import request
from asyncwatch.ui.widgets.footer import KeyLine
from asyncwatch.ui.widgets.lines import Block
from asyncwatch.ui.widgets.pick_list import PICKS, Item, PickList

KEYS = (
    Key("escape", "dismiss(None)", "back", "back to the fleet", "esc", footer=1),
    Key("r", "restart", "restart", "restart its workers; asks first", footer=1),
    Key("c", "cancel", "cancel", "cancel its active workers; asks first", footer=2),
    Key("enter,f", "filter", "show", "show only its workers", "enter f", footer=1),
    Key("y", "copy", "copy", "copy one of its tracebacks, or the place", footer=2),
)
_EMPTY = "No worker has an error. Failed workers, and services that crashed, would be here, by their error."
_NO_WAITS = (
    "Nothing is seen to wait. Tasks would be here by the line they wait at, if asyncwatch observe runs the program."
)
_ON_AN_ITEM = ("restart", "cancel", "filter", "copy", "move(1)")
"""Actions that need a group."""
EVERY = 1.0
"""Seconds between two groupings while events come in: each visits all workers with errors."""
SHARE = 20
"""A grouping waits at least this many times as long as the last one took."""


def cluster_item(fleet: Fleet, cluster: Cluster, width: int) -> Item:
    """Return the item of a cluster: how many workers and their error, then its place, then an example."""
    rows, states = cluster.rows, cluster.states
    kind = fmt.safe(cluster.kind)
    counts = join(
        [
            [Span(f"{fmt.GLYPHS[state]} {states[state]:,} {state}", fmt.state_style(state))]
            for state in fmt.GLYPHS
            if state in states
        ]
    )
    place = crop_path(fmt.safe(cluster.place), max(20, width - 10)) or (
        "injected by bad luck" if rows[0].is_struck else "raised outside your code, as by a request that failed"
    )
    example = f"{shown_name(rows[0])}: {fmt.safe(brief_error(cluster.example or rows[0].error))}"
    crashed = ""
    if cluster.last_at is not None:
        if cluster.kind == RETURNED:
            place = "its function ended without an error, and a permanent service should not end"
        crashed = f"{units.count(cluster.crashes, 'crash', 'crashes')}, the last at {clock_at(fleet, cluster.last_at)}"
    indent = Span(" " * 9)
    room = max(20, width - 9)
    first, *others = fold(kind, max(20, width - 9 - width_of(counts) - 2), room)
    head: Line = [Span(f"{len(rows):>7,}  ", "strong"), Span(first, "failed")]
    return Item(
        cluster.key,
        [
            spread(head, counts, width),
            *([indent, Span(other, "failed")] for other in others),
            [indent, Span(place, "muted")],
            *([[indent, Span(crashed, "warning")]] if crashed else []),
            *([indent, Span(line, "muted")] for line in fold(f"for example {example}", room, room)),
        ],
    )


def wait_item(cluster: Cluster, width: int) -> Item:
    """Return the item of a cluster of workers that wait in one place: how many, where, and what led there."""
    rows = cluster.rows
    head: Line = [Span(f"{len(rows):>7,}  ", "strong"), Span(fmt.safe(cluster.kind), "running")]
    lines: list[Line] = [head]
    if cluster.place:
        lines.append([Span(" " * 9), Span(f"from {fmt.safe(cluster.place)}", "muted")])
    lines.append([Span(" " * 9), Span("for example ", "faint"), Span(shown_name(rows[0]), "muted")])
    return Item(cluster.key, [crop_line(line, width) for line in lines])


class ErrorsScreen(Drawable, Screen[Cluster | None]):
    """One item a cluster, the largest first. Its result is the cluster to filter the fleet by.

    The clusters are those of errors, or with `is_of_waits` those of workers that wait in one place.
    """

    HELP_PAGE = ("the errors", (*KEYS, *PICKS), ())
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]

    def __init__(self, dashboard: DashboardState, *, is_of_waits: bool = False) -> None:
        super().__init__()
        self._dashboard = dashboard
        self._is_of_waits = is_of_waits
        self._heading = "waits" if is_of_waits else "errors"
        self._what = "that wait there" if is_of_waits else "with this error"
        self._title = Block(id="title")
        self._list = PickList(id="report")
        keys = [key for key in KEYS if not (dashboard.fleet.is_observed and key.action == "restart")]
        self._keys = KeyLine(offered((*keys, *PICKS), dashboard.role))
        self._clusters: dict[tuple[str, str], Cluster] = {}
        self._grouped: tuple[object, ...] = ()
        """What the last grouping was made of."""
        self._width = 0
        """The width of the last grouping."""
        self._due_at = float("-inf")
        self._grouping: SlicedWork | None = None
        self._later: Timer | None = None

    def compose(self) -> ComposeResult:
        """Yield a title, the list, the keys."""
        yield self._title
        yield self._list
        yield self._keys

    def on_mount(self) -> None:
        """Focus the list."""
        self._list.focus()

    def draw(self) -> None:
        """Group the present errors, unless that was just done."""
        width = self._list.scrollable_content_region.width
        fleet, now = self._dashboard.fleet, time.monotonic()
        # A snapshot brings errors after the workers, without an event.
        state = (self._dashboard.view, self._dashboard.is_growing, fleet.events, width)
        if not width or self._grouping is not None or state == self._grouped:
            return
        if now < self._due_at and width == self._width:
            if self._later is None:
                self._later = self.set_timer(self._due_at - now, self._due)
            return
        self._grouped, self._width = state, width
        stack_of = None if self._is_of_waits else fleet.stack
        clustering = Clustering(fleet.notable(), stack_of, {} if self._is_of_waits else fleet.restarts.by_worker)
        self._grouping = background_work(clustering.work, partial(self._show, clustering, now))
        if self._grouping.start_now() and not self._clusters:
            self._title.show([[Span(self._heading, "title"), Span("  grouping…", "muted")]])

    def _due(self) -> None:
        self._later = None
        self.draw()

    def _show(self, clustering: Clustering, began: float) -> None:
        """Show the result of a grouping that began at `began`."""
        self._grouping = None
        now, width = time.monotonic(), self._list.scrollable_content_region.width
        self._due_at = now + max(EVERY, SHARE * (now - began))
        clusters = clustering.clusters()
        self._clusters = {cluster.key: cluster for cluster in clusters}
        workers = sum(len(cluster.rows) for cluster in clusters)
        summary = f"{units.count(workers, 'worker')} in {units.count(len(clusters), 'group')}" if clusters else ""
        self._title.show([[Span(self._heading, "title"), Span(f"  {summary}", "muted")]])
        if self._is_of_waits:
            items = [wait_item(cluster, width) for cluster in clusters]
        else:
            items = [cluster_item(self._dashboard.fleet, cluster, width) for cluster in clusters]
        self._keys.hint({} if clusters else dict.fromkeys(_ON_AN_ITEM))
        nothing = _NO_WAITS if self._is_of_waits else _EMPTY
        self._list.show_items(items, nothing)

    def on_unmount(self) -> None:
        """Stop a grouping that is in progress."""
        if self._grouping is not None:
            self._grouping.stop()

    @property
    def _selected(self) -> Cluster | None:
        """The cluster under the cursor, if it is on screen."""
        if not self._list.shows_cursor():
            return None
        return self._clusters.get(self._list.selected)  # type: ignore[call-overload,no-any-return]  # keys of clusters

    async def action_restart(self) -> None:
        """Restart the workers of the cluster."""
        if (cluster := self._selected) is not None:
            fleet = self._dashboard.fleet
            await request(self, actions.restart_cluster(fleet.tree, cluster, self._what), lambda: self._dashboard.fleet)

    async def action_cancel(self) -> None:
        """Cancel the active workers of the cluster."""
        if (cluster := self._selected) is not None:
            await request(self, actions.cancel_cluster(cluster, self._what), lambda: self._dashboard.fleet)

    async def action_filter(self) -> None:
        """Show only the workers of the cluster."""
        if (cluster := self._selected) is not None:
            await self.action_dismiss(cluster)

    def action_copy(self) -> None:
        """Copy the traceback of the first worker of the cluster."""
        if (cluster := self._selected) is not None:
            row = cluster.rows[0]
            if self._is_of_waits:
                self.app.copy_to_clipboard(mask_secrets(f"{cluster.kind}\n{cluster.place}\n"))
                self.notify(f"Copied where {units.count(len(cluster.rows), 'worker')} wait.")
                return
            stack = self._dashboard.fleet.stack(row.name)
            self.app.copy_to_clipboard(mask_secrets(f"{stack}{row.error}\n"))
            self.notify(
                f"Copied the traceback of {shown_name(row)}." if stack else "Copied the error. It has no traceback."
            )
