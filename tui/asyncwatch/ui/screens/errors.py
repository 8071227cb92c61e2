"""The errors of the run, grouped by kind and place, and what to do about those of one group."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen

from asyncwatch import text as units
from asyncwatch.commands import Command
from asyncwatch.model.view.groups import Cluster, Clustering
from asyncwatch.model.view.selection import AT_ONCE
from asyncwatch.text import mask_secrets
from asyncwatch.ui import actions as asks
from asyncwatch.ui.display import Scene
from asyncwatch.ui.keys import Key, bindings
from asyncwatch.ui.messages import CommandsRequested
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.columns import shown_error, shown_name
from asyncwatch.ui.render.spans import Line, Span, crop_line, crop_path, join, spread
from asyncwatch.ui.screens.confirm import ConfirmScreen
from asyncwatch.ui.slices import SLICE, Slices
from asyncwatch.ui.widgets.key_line import KeyLine
from asyncwatch.ui.widgets.lines_widget import Block
from asyncwatch.ui.widgets.pick_list import PICKS, Item, PickList

KEYS = (
    Key("escape", "dismiss(None)", "back", "back to the fleet", "esc", footer=1),
    Key("r", "restart", "restart", "restart its workers; asks first", footer=1),
    Key("c", "cancel", "cancel", "cancel those of its workers that have not ended; asks first", footer=2),
    Key("enter,f", "filter", "show", "show only its workers", "enter f", footer=1),
    Key("y", "copy", "copy", "copy one of its tracebacks", footer=2),
)
EVERY = 1.0
"""Seconds between two groupings while events come in: they look at every worker."""
SHARE = 20
"""How many times as long as it takes a grouping is made to wait for the next one."""


def cluster_item(cluster: Cluster, width: int) -> Item:
    """Return how a cluster reads: how many workers, and what they raised; then where, and one of them."""
    rows, states = cluster.rows, cluster.states
    head: Line = [Span(f"{len(rows):>7,}  ", "strong"), Span(_shown(cluster.kind), "failed")]
    counts = join(
        [
            [Span(f"{fmt.GLYPHS[state]} {states[state]:,} {state}", fmt.paint_of(state))]
            for state in fmt.GLYPHS
            if state in states
        ]
    )
    place = crop_path(_shown(cluster.place), max(20, width - 10)) or "no line of yours: the request failed, or bad luck"
    example = f"{shown_name(rows[0])}: {shown_error(rows[0])}"
    return Item(
        cluster.key,
        [
            spread(head, counts, width),
            [Span(" " * 9), Span(place, "muted")],
            crop_line([Span(" " * 9), Span("for example ", "faint"), Span(example, "muted")], width),
        ],
    )


def _shown(text: str) -> str:
    return fmt.clean(mask_secrets(text))


class ErrorsScreen(Screen[Cluster | None]):
    """One item a cluster, the largest first. Its result is the cluster whose workers are to be shown."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS)]

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self._scene = scene
        self._title = Block(id="title")
        self._list = PickList(id="report")
        self._clusters: dict[tuple[str, str], Cluster] = {}
        self._grouped: tuple[object, ...] = ()
        self._due_at = float("-inf")
        self._slices: Slices | None = None

    def compose(self) -> ComposeResult:
        """Yield a title, the list, the keys."""
        yield self._title
        yield self._list
        yield KeyLine((*KEYS, *PICKS))

    def on_mount(self) -> None:
        """Let the list have the keys."""
        self._list.focus()

    def on_resize(self) -> None:
        """Fit the lines to the new width."""
        self._due_at = float("-inf")
        self.call_after_refresh(self.draw)

    def draw(self) -> None:
        """Group the errors as they are now, if that was not just done."""
        width = self._list.scrollable_content_region.width
        fleet, now = self._scene.fleet, time.monotonic()
        state = (fleet.events, width)
        if not width or self._slices is not None or state == self._grouped or now < self._due_at:
            return
        self._grouped = state
        clustering = Clustering(fleet.notable(), fleet.stack)
        if clustering.work(lambda: time.monotonic() >= now + SLICE):
            self._slices = Slices(clustering.work, partial(self._show, clustering, now))
            self._slices.start()
            if not self._clusters:
                self._title.show([[Span("errors", "title"), Span("  grouping…", "muted")]])
        else:
            self._show(clustering, now)

    def _show(self, clustering: Clustering, began: float) -> None:
        """Show what a grouping that began then has found."""
        self._slices = None
        now, width = time.monotonic(), self._list.scrollable_content_region.width
        self._due_at = now + max(EVERY, SHARE * (now - began))
        clusters = clustering.clusters()
        self._clusters = {cluster.key: cluster for cluster in clusters}
        workers = sum(len(cluster.rows) for cluster in clusters)
        told = f"{units.count(workers, 'worker')} in {units.count(len(clusters), 'group')}" if clusters else ""
        self._title.show([[Span("errors", "title"), Span(f"  {told}", "muted")]])
        items = [cluster_item(cluster, width) for cluster in clusters]
        self._list.show_items(items, [Span("No worker has an error.", "muted")])

    def on_unmount(self) -> None:
        """Leave a grouping that is under way."""
        if self._slices is not None:
            self._slices.stop()

    @property
    def _selected(self) -> Cluster | None:
        """The cluster that a key is for: the one under the cursor, if that is on screen."""
        if not self._list.shows_cursor():
            return None
        return self._clusters.get(self._list.selected)  # type: ignore[call-overload,no-any-return]  # keys of clusters

    async def action_restart(self) -> None:
        """Restart the workers of the cluster, if the answer is yes."""
        if (cluster := self._selected) is not None:
            tree = self._scene.fleet.tree
            if len(cluster.rows) > AT_ONCE and not tree.is_supervised:
                await self._ask("Restart", len(cluster.rows), "r", many=asks.RESTART.on(cluster.rows))
                return
            rows = tree.to_request(cluster.rows)
            taken = set(tree.restarted_with(rows)) - set(cluster.rows)
            more = f"{units.count(len(taken), 'sibling')} restarted with them." if taken else ""
            await self._ask("Restart", len(cluster.rows), "r", [*asks.restart(rows)], more)

    async def action_cancel(self) -> None:
        """Cancel the workers of the cluster that have not ended, if the answer is yes."""
        if (cluster := self._selected) is None:
            return
        if len(cluster.rows) > AT_ONCE and (active := asks.CANCEL.number(cluster.states)):
            await self._ask("Cancel", active, "c", many=asks.CANCEL.on(cluster.rows))
        elif len(cluster.rows) <= AT_ONCE and (rows := [row for row in cluster.rows if not row.is_settled]):
            await self._ask("Cancel", len(rows), "c", [*asks.cancel(rows)])
        else:
            self.notify("All its workers have ended.")

    async def action_filter(self) -> None:
        """Show only the workers of the cluster."""
        if (cluster := self._selected) is not None:
            await self.action_dismiss(cluster)

    def action_copy(self) -> None:
        """Copy the traceback of the first worker of the cluster."""
        if (cluster := self._selected) is not None:
            row = cluster.rows[0]
            stack = self._scene.fleet.stack(row.name)
            self.app.copy_to_clipboard(mask_secrets(f"{stack}{row.error}\n"))
            self.notify(
                f"Copied the traceback of {shown_name(row)}." if stack else "Copied the error: it has no traceback."
            )

    async def _ask(
        self,
        verb: str,
        workers: int,
        key: str,
        commands: Sequence[Command] = (),
        more: str = "",
        many: Iterator[Command] | None = None,
    ) -> None:
        """Send the requests, or those for very many that are made only then, if the answer is yes."""
        question = f"{verb} {units.count(workers, 'worker')} with this error?"

        def answer(is_yes: bool | None) -> None:
            if is_yes:
                self.post_message(CommandsRequested(*asks.renewed(commands, self._scene.fleet.get), many=many))

        await self.app.push_screen(ConfirmScreen(question, verb.lower(), consequence=more, again=key), answer)
