"""The app: it owns the screens, hands requests to the controller, and knows how to stop."""

# ruff: noqa: PLC0415  a screen that a key opens is imported when it is opened

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Protocol, runtime_checkable

from textual import events
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.widgets import Input

from asyncwatch.commands import Command, Controller, StopRun, WatchStack
from asyncwatch.events import Batch, CommandRefused
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.rows import Row
from asyncwatch.process import short_switch_interval
from asyncwatch.text import mask_secrets
from asyncwatch.ui.display import HELD, Scene
from asyncwatch.ui.keys import ACTS, GLOBAL, LOOKS, MOVES, RUN, bindings
from asyncwatch.ui.messages import CommandsRequested, DetailsRequested
from asyncwatch.ui.outgoing import Outgoing
from asyncwatch.ui.pump import FRAME, Pump
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.styles import PAINTS
from asyncwatch.ui.screens.fleet import FleetScreen

STATISTICS_EVERY = 0.25
"""Seconds between two looks at the engine's own figures."""
NEWS_STAY = 15.0
"""Seconds for which a note about the output stands on the screen."""
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_VERBS = {
    "CancelWorker": "cancel",
    "CancelBranch": "stop",
    "RestartWorker": "restart",
    "RestartBranch": "restart",
    "RetryNow": "try now",
    "GiveUp": "give up",
    "ChangeSetting": "change",
    "IsolateCircuit": "isolate",
    "CloseCircuit": "close",
    "ProbeCircuit": "probe",
}


@runtime_checkable
class _Drawn(Protocol):
    """A screen that shows the scene as it is when it is asked to."""

    def draw(self) -> None:
        """Show it."""


class DashboardError(RuntimeError):
    """The dashboard itself broke; its traceback stands on the screen already."""


class AsyncwatchApp(App[None]):
    """Shows a run until it has finished. It ends with `RunFinished`, which `StopRun` brings about."""

    TITLE = "asyncwatch"
    CSS_PATH = "asyncwatch.tcss"
    COMPONENT_CLASSES: ClassVar[set[str]] = set(PAINTS)
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(key for key in GLOBAL if key.action != "command_palette"),
        # Textual's own ctrl+c copies; here it has to stop a run, also while a filter is typed.
        Binding("ctrl+c,ctrl+q", "quit", "quit", show=False, priority=True),
    ]

    def __init__(
        self,
        controller: Controller,
        *,
        on_batch: Callable[[Batch], str | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        processor_clock: Callable[[], float] = time.thread_time,
        is_signalled: bool = False,
        foreseen: Batch = (),
        has_hung_up: Callable[[], bool] | None = None,
    ) -> None:
        super().__init__()
        if self.no_color:
            self._refuse_ansi_themes()
        self.scene = Scene(clock)
        if foreseen:
            self.scene.foresee(foreseen)
        self._clock, self._processor_clock = clock, processor_clock
        self._is_drawing = False
        self._drawn_figures = 0, 0.0  # of the meter
        self._controller = controller
        self._pump = Pump(self, on_batch=on_batch)
        self._is_signalled = is_signalled
        self._has_hung_up = has_hung_up
        self._asked = 0  # how many requests the last action made
        self._refused = 0  # how many of those were refused
        self._refusal: CommandRefused | None = None  # the first of them
        self._outgoing = Outgoing(self._send)
        self._early: list[Command] = []  # asked for before the run began

    async def on_event(self, event: events.Event) -> None:
        """Act on a key before the next one is looked at: what is typed ahead is for what this key opens.

        Textual hands keys to the focused widget, and acts when they come back from there: after the keys behind them
        were handed out as well. So a line that is typed into gets its text here too, between the keys that change it.
        """
        if isinstance(event, events.Key | events.Paste) and not event.is_forwarded:
            field = self.focused if isinstance(self.focused, Input) else None
            bound = self.screen.active_bindings.get(event.key) if isinstance(event, events.Key) else None
            is_text = isinstance(event, events.Paste) or event.is_printable
            if field is not None and is_text and not (bound and bound.binding.priority):
                await field.on_event(event)
                return
            if bound is not None and await self.run_action(bound.binding.action, bound.node):
                return
        await super().on_event(event)

    def get_default_screen(self) -> Screen[None]:
        """Return the fleet."""
        return FleetScreen(self.scene)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Yield every action by name."""
        here = [*ACTS, *RUN, *LOOKS, *MOVES] if isinstance(screen, FleetScreen) else []
        for key in (*here, *GLOBAL):
            if key.action == "command_palette":
                continue
            node = self if key in GLOBAL else screen.focused if key in MOVES else screen
            yield SystemCommand(
                f"{key.label.capitalize()}  ({key.cap})",
                key.explanation,
                lambda action=key.action, node=node: self.run_action(action, default_namespace=node),
            )
        yield SystemCommand("Theme", "choose the colours", self.action_change_theme)

    async def on_mount(self) -> None:
        """Start the clock and the gauge."""
        # The tints of a theme all turn white in 16 colours; the stylesheet has stronger ones for them.
        self.set_class(self.console.color_system in {"standard", "windows"}, "-few-colors")
        if self._is_signalled:
            loop = asyncio.get_running_loop()
            for number in _SIGNALS:
                loop.add_signal_handler(number, self.request_stop)
        self.set_interval(FRAME, self._tick)
        self._read_statistics()
        self.set_interval(STATISTICS_EVERY, self._read_statistics)
        self.set_interval(STATISTICS_EVERY, self._look_for_terminal)

    def on_ready(self) -> None:
        """Let the run begin when the fleet is on the screen: what the engine imports would hold up the picture."""
        self._draw_screens()
        self.screen.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self.run_worker(self._watch(), name="pump", exit_on_error=True)

    async def _watch(self) -> None:
        await self._pump.run(self._controller.events())
        self.exit()

    def receive(self, batch: Batch) -> None:
        """Take a batch from the pump; say so when a freeze ends by that."""
        was_frozen, fleet = self.scene.is_frozen, self.scene.fleet
        self.scene.receive(batch)
        if self.scene.fleet is not fleet:
            self._draw_screens()  # before the next key: it would be for a row that is no more
        if self._early:
            self._controller.send(*self._early)
            self._early.clear()
        if was_frozen and not self.scene.is_frozen and self.scene.fleet.finished is None:
            self._say(f"The picture goes on: no more than {HELD:,} events may wait for it.")

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Say something for a few seconds, in place of what was said before; it covers the keys at the bottom."""
        if severity != "error":
            self.clear_notifications()
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=markup)

    def draw(self) -> None:
        """Show what is new, as soon as the app comes to it."""
        self.call_next(self._draw_screens)

    def tell(self, news: str) -> None:
        """Say what the one who gets the batches has to say; it stays for a while."""
        self.notify(fmt.clean(mask_secrets(news)), severity="error", timeout=NEWS_STAY)

    def refused(self, refusals: list[CommandRefused]) -> None:
        """Say that requests were refused: one note for all of one action, in however many batches they come."""
        first = self._refusal = self._refusal or refusals[0]
        self._refused += len(refusals)
        told = f"{first.worker}: {first.reason}" if first.worker else first.reason
        text = fmt.clean(f"{_VERBS.get(first.command, first.command)} {told}")
        if self._refused > 1:
            of = f" of {self._asked:,}" if self._asked > self._refused else ""
            text = f"{self._refused:,}{of} requests refused. The first: {text}"
        self._say(text)

    def _say(self, text: str) -> None:
        self.notify(text, severity="warning")

    def request_stop(self) -> None:
        """Stop the run without a question; asked again, give nobody any more time to end; asked once more, leave."""
        if self.scene.is_hurried or self.scene.fleet.finished is not None:
            self.exit()
            return
        self.scene.thaw()
        self._outgoing.clear()
        self._controller.send(StopRun(at_once=self.scene.is_stopping))
        self.scene.stop()
        self._draw_screens()

    def on_commands_requested(self, message: CommandsRequested) -> None:
        """Pass requests on to the engine, and show quickly what becomes of them."""
        if self.scene.is_foreseen:
            # Nobody would carry them out.
            self._early.extend(message.commands)
            return
        self._outgoing.add(message.commands)

    def _send(self, commands: Sequence[Command]) -> None:
        self._asked = len(commands)
        self._refused = 0
        self._refusal = None
        self._controller.send(*commands)
        self._pump.hurry()
        self._read_statistics()
        is_looking = all(isinstance(command, WatchStack) for command in commands)
        if self.scene.blocked_for and not is_looking:
            self._say("The event loop is blocked; the request waits for it.")

    async def on_details_requested(self, message: DetailsRequested) -> None:
        """Open a worker; the cursor is on the one that was looked at last when it closes."""
        from asyncwatch.ui.screens.details import DetailsScreen

        self._controller.send(WatchStack(message.row.name))
        await self.push_screen(DetailsScreen(self.scene, message.row), self._select)

    async def action_log(self) -> None:
        """Open the log."""
        from asyncwatch.ui.screens.log import LogScreen

        if not isinstance(self.screen, LogScreen):
            await self.push_screen(LogScreen(self.scene))

    async def action_own_cost(self) -> None:
        """Open the page of what asyncwatch itself takes."""
        from asyncwatch.ui.screens.cost import CostScreen

        if not isinstance(self.screen, CostScreen):
            await self.push_screen(CostScreen(self.scene))

    async def action_help(self) -> None:
        """Open the help."""
        from asyncwatch.ui.screens.help import HelpScreen

        await self.push_screen(HelpScreen())

    def action_freeze(self) -> None:
        """Freeze the picture, or let it go on."""
        if self.scene.is_frozen:
            self.scene.thaw()
        else:
            self.scene.freeze()
        self._draw_screens()

    async def action_quit(self) -> None:
        """Stop the run and leave; ask first if workers are active. Asked while stopping, as `request_stop`."""
        from asyncwatch.ui.screens.confirm import ConfirmScreen

        if isinstance(self.screen, ConfirmScreen):
            await self.screen.action_dismiss("q" in self.screen.again)
            return
        if self.scene.is_stopping or not self.scene.active:
            self.request_stop()
            return
        # Without their number: it changes while the question stands, and is in the header beside it.
        question = ConfirmScreen("Quit while workers are active?", "cancel them and quit", again="q")
        await self.push_screen(question, lambda yes: self.request_stop() if yes else None)

    def _select(self, row: Row | None) -> None:
        self._controller.send(WatchStack(None))
        screen = self.screen_stack[0]
        present = self.scene.fleet.get(row.name) if row is not None else None
        if present is not None and isinstance(screen, FleetScreen):
            screen.table.select(present)

    def _tick(self) -> None:
        if self._pump.is_drawing:
            return
        if self.scene.is_frozen or self.scene.active or self.scene.is_stopping or self.scene.fleet.abandoned:
            self._draw_screens()

    def _draw_screens(self) -> None:
        if self.screen_stack and not self._is_drawing:
            self._is_drawing = True
            self.screen.call_after_refresh(self._drawn, self._processor_clock())
        for screen in self.screen_stack:
            if screen.is_mounted and isinstance(screen, _Drawn):
                screen.draw()

    def _drawn(self, began: float) -> None:
        """Note that what was asked to be drawn is on the screen."""
        self._is_drawing = False
        self.scene.meter.frame(self._processor_clock() - began)

    def _look_for_terminal(self) -> None:
        """Stop the run when there is no terminal any more, as SIGHUP does to those who get it."""
        if self._has_hung_up is None or not self._has_hung_up():
            return
        self._has_hung_up = None
        if self._driver is not None:
            self._driver.disable_input()  # its thread would read the end of the input again and again
        if not self.scene.is_stopping:
            self.request_stop()

    def _refuse_ansi_themes(self) -> None:
        """Leave only themes with colours of their own: Textual 8.2 draws others black on black under NO_COLOR."""
        if self.current_theme.ansi:
            self.theme = "textual-dark"
        for name, theme in self.available_themes.items():
            if theme.ansi:
                self.unregister_theme(name)

    def _read_statistics(self) -> None:
        meter = self.scene.meter
        self.scene.statistics = known = self._controller.statistics()
        meter.look(self._clock(), known.events, self.scene.fleet.events)
        figures = meter.depth, meter.events_per_second
        if figures != self._drawn_figures and not self._pump.is_drawing:
            self._drawn_figures = figures
            self.draw()  # after the last event nothing else would


def run_dashboard(
    controller: Controller,
    *,
    on_batch: Callable[[Batch], str | None] | None = None,
    foreseen: Batch = (),
    has_hung_up: Callable[[], bool] | None = None,
) -> Fleet:
    """Show the run until it has finished, and return all that is known of it. Blocks; main thread only.

    The fleet that the events `foreseen` make is shown until the controller's own come: the same, as far as they go.
    `on_batch` gets every batch as it comes, whether the picture is frozen or not; what it returns is shown. SIGTERM,
    SIGHUP and SIGINT stop the run, without a question; so does a terminal that `has_hung_up`.

    Raises:
        DashboardError: the dashboard itself broke.

    """
    app = AsyncwatchApp(controller, on_batch=on_batch, is_signalled=True, foreseen=foreseen, has_hung_up=has_hung_up)
    # Modules, classes and the lists of a fleet stay to the end: to look through them for garbage takes some 20 ms.
    gc.freeze()
    with short_switch_interval():
        app.run()
    if app.return_code:
        raise DashboardError("the dashboard broke; the traceback stands above")
    return app.scene.leave()
