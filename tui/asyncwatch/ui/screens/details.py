"""All about one worker, live while it is open."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from asyncwatch.commands import CancelWorker, RestartWorker, WatchStack
from asyncwatch.model.rows import Row
from asyncwatch.ui import actions as asks
from asyncwatch.ui.display import Scene
from asyncwatch.ui.keys import Key, bindings
from asyncwatch.ui.messages import CommandsRequested
from asyncwatch.ui.render.cost import stack_report
from asyncwatch.ui.render.details import facts, report
from asyncwatch.ui.render.hints import hints_of
from asyncwatch.ui.screens.confirm import ConfirmScreen
from asyncwatch.ui.widgets.key_line import KeyLine
from asyncwatch.ui.widgets.lines_widget import Block, LinesView

KEYS = (
    Key("escape", "close", "back", "back to the fleet", "esc", footer=1),
    Key("c", "cancel", "cancel", "cancel this worker", footer=1),
    Key("r", "restart", "restart", "restart this worker", footer=1),
    Key("n", "retry_now", "try now", "make its next attempt now, if it waits", footer=3),
    Key("x", "give_up", "give up", "make no further attempt, if it waits", footer=3),
    Key("right,J", "neighbour(1)", "next", "the worker below", "→", footer=2),
    Key("left,K", "neighbour(-1)", "previous", "the worker above", "←", footer=2),
    Key("j", "scroll(1)", "down", "scroll down", "j k", footer=3),
    Key("k", "scroll(-1)", "up", "scroll up"),
    Key("g", "edge(-1)", "top", "scroll to the top"),
    Key("G", "edge(1)", "bottom", "scroll to the bottom"),
)


class DetailsScreen(Screen[Row]):
    """Every attempt with its luck, times, outcome and backoff; the last traceback; the worker's own log.

    Its result is the row it showed last.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEYS), Binding("enter", "close", show=False)]

    def __init__(self, scene: Scene, row: Row) -> None:
        super().__init__()
        self._scene = scene
        self._row = row
        self._drawn: tuple[object, ...] = ()
        self._facts = Block(id="facts")
        self._report = LinesView(id="report")
        self._keys = KeyLine(KEYS)

    def compose(self) -> ComposeResult:
        """Yield the facts, the report, and the keys."""
        yield self._facts
        yield self._report
        yield self._keys

    def on_mount(self) -> None:
        """Show the worker."""
        self._report.focus()

    def on_resize(self) -> None:
        """Fold the lines to the new width."""
        self.call_after_refresh(self.draw)

    def draw(self) -> None:
        """Show the worker as it is now; close if the run turns out to have no such worker."""
        fleet, row, now = self._scene.fleet, self._scene.fleet.get(self._row.name), self._scene.moment
        if row is None:
            if self.app.screen is self and not self._scene.is_gathering:
                _ = self.dismiss(None)  # not to be waited for by the screen itself
            return
        self._row = row
        width = self._report.scrollable_content_region.width
        is_live = not row.is_settled or bool(fleet.abandoned_of(row.name))
        self._keys.hint(hints_of(self._scene, row))
        known = self._scene.statistics
        seen = (known.stack, known.blocked is None, fleet.loop.count)
        state = (row, row.version, fleet.logged, width, now if is_live else None, seen)
        if width and state != self._drawn:
            self._drawn = state
            self._facts.show(facts(fleet, row, now, width))
            stack = stack_report(self._scene, row.name, width)
            self._report.show([*stack[1:], *stack[:1], *report(fleet, row, now, width)])

    def action_retry_now(self) -> None:
        """Let the worker go on now, if it waits."""
        self._ask_waiting(asks.RETRY_NOW)

    def action_give_up(self) -> None:
        """Let the worker make no further attempt, if it waits."""
        self._ask_waiting(asks.GIVE_UP, asks.given_up([self._row]))

    def _ask_waiting(self, deed: asks.Deed, told: str = "") -> None:
        if commands := [*deed.on([self._row])]:
            self.post_message(CommandsRequested(*commands))
            if told:
                self.notify(told)
        else:
            self.notify(asks.NOBODY_WAITS)

    def action_cancel(self) -> None:
        """Cancel the worker."""
        self.post_message(CommandsRequested(CancelWorker(self._row.name, self._row.incarnation)))

    async def action_restart(self) -> None:
        """Restart the worker; ask first if that takes siblings along."""
        row, tree = self._row, self._scene.fleet.tree
        _rows, refused = asks.restartable([row], tree)
        if refused:
            self.notify(refused)
            return
        command = CommandsRequested(RestartWorker(row.name, row.incarnation))
        taken, branch = tree.restarted_with([row]), tree.branch_of(row)
        if not taken or branch is None:
            self.post_message(command)
            return
        told = asks.siblings_told(taken, [branch.strategy])
        question = ConfirmScreen(f"Restart {asks.named([row])}?", "restart", consequence=told, again="r")

        def answer(is_yes: bool | None) -> None:
            if is_yes:
                self.post_message(command)

        await self.app.push_screen(question, answer)

    def action_neighbour(self, step: int) -> None:
        """Show the worker below or above, in the order of the fleet."""
        neighbour = self._scene.view.neighbour(self._row, step)
        if neighbour is not self._row:
            self._row = neighbour
            self.post_message(CommandsRequested(WatchStack(neighbour.name)))
            self._report.scroll_home(animate=False)
            self.draw()

    def action_scroll(self, lines: int) -> None:
        """Scroll by so many lines."""
        self._report.scroll_relative(y=lines, animate=False)

    def action_edge(self, direction: int) -> None:
        """Scroll to the top (-1) or the bottom (1)."""
        view = self._report
        view.scroll_to(y=0 if direction < 0 else view.max_scroll_y, animate=False)

    async def action_close(self) -> None:
        """Go back to the fleet."""
        await self.action_dismiss(self._row)
