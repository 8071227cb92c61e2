"""The Textual app: owns the screens, passes commands to the controller, stops the run."""

# ruff: noqa: PLC0415  a screen that a key opens is imported when it is opened

from __future__ import annotations

import asyncio
import enum
import gc
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from textual import events
from textual.actions import ActionParseResult
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.driver import Driver
from textual.notifications import SeverityLevel
from textual.screen import ModalScreen, Screen
from textual.widgets import Input

from asyncwatch.commands import Command, Controller, Moment, Player, SnapshotPart, StopRun, WatchStack
from asyncwatch.events import FAILURES, Batch, CommandRefused
from asyncwatch.model.fleet import Fleet
from asyncwatch.process import short_switch_interval
from asyncwatch.text import error_line
from asyncwatch.ui.command_sender import CommandSender
from asyncwatch.ui.dashboard import MAX_FROZEN_EVENTS, DashboardState
from asyncwatch.ui.keys import ACTS, GLOBAL, LOOKS, MOVES, PLAYS, RUN, Role, bindings, offered, why_refused
from asyncwatch.ui.messages import Answer, CommandsRequested, SettingChangeRequested
from asyncwatch.ui.pump import FRAME, Pump
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.scrubber import failure_beside, speed_beside
from asyncwatch.ui.render.styles import STYLE_CLASSES
from asyncwatch.ui.screens.drawable import Drawable
from asyncwatch.ui.screens.fleet import FleetScreen
from asyncwatch.ui.themes import DARK, LIGHT, default_theme

if TYPE_CHECKING:
    from asyncwatch.ui.past import Past

STATISTICS_EVERY, STATISTICS_EVERY_AT_REST = 0.25, 1.0
"""Seconds between two reads of the engine's statistics, while workers are active and when none is."""
_LAG_DIGITS = 2
"""Decimals of the loop lag, in seconds, whose change is drawn at once: at rest it varies by a few milliseconds."""
_LOAD_DIGITS = 2
"""Decimals of the dashboard's share of a core whose change is drawn at once."""
_AFTER = 0.002
"""Seconds after a change of the shown times at which they are drawn: a timer may be early."""
_PROBLEM_TIME = 15.0
"""Seconds for which a problem of the run beside the work is shown."""
NOT_RECORDED = "This run is not recorded, so it has no past to show. Start it with --journal to rewind it with t."
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
    "ReleaseKey": "release",
    "HoldKey": "hold",
    "ResetKey": "reset",
}


class DashboardError(RuntimeError):
    """The dashboard cannot start, or it broke and its traceback is on the screen."""


class Ending(enum.Enum):
    """How a dashboard ended."""

    FINISHED = "finished"
    """The run has finished, and its end was shown."""
    LEFT = "left"
    """A person left the run, which goes on."""
    DISCONNECTED = "disconnected"
    """The process of the run cannot be reached any more."""
    STOPPED = "stopped"
    """A signal ended the dashboard."""
    QUIT = "quit"
    """A person did not wait for the end of a run that stops."""
    HUNG_UP = "hung up"
    """The terminal has gone."""


_SIGNALS = {signal.SIGTERM: Ending.STOPPED, signal.SIGINT: Ending.STOPPED, signal.SIGHUP: Ending.HUNG_UP}
"""Signals that end the dashboard."""


class Outcome(NamedTuple):
    """The result of `run_dashboard`."""

    ending: Ending
    fleet: Fleet
    """The last state of the run that was received."""
    reason: str = ""
    """Why the run cannot be reached, in a sentence."""


class AsyncwatchApp(App[Ending]):
    """Shows a run until it has finished: `RunFinished`, which `StopRun` brings about, ends the app.

    The result of the app is how it ended.

    The path of a key press: `on_event`, an action of a screen, a function of `ui.actions`, `CommandsRequested`,
    `on_commands_requested`, `CommandSender`, `Controller.send`.

    Args:
        controller: the run's engine, or a connection to it.
        role: what a person at this dashboard may do.
        detach: called when the owner leaves the run, which then goes on.
        clock: monotonic seconds.
        wall_clock: seconds since the epoch.
        processor_clock: processor seconds, to measure frames.
        is_signalled: whether SIGTERM, SIGHUP and SIGINT end the dashboard.
        foreseen: the first events of the run, shown until they come.
        player: the recorded run that is shown, which is then the controller, too.
        open_past: opens the recording of a live run, or returns why there is none, in a sentence.
        run_id: returns the id of the run, or an empty text while it is unknown.
        driver_class: Textual's driver of the terminal; None for its own.

    """

    TITLE = "asyncwatch"
    CSS_PATH = "asyncwatch.tcss"
    COMPONENT_CLASSES: ClassVar[set[str]] = set(STYLE_CLASSES)
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-low"), (16, "-high")]  # noqa: RUF012  as in App
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(key for key in GLOBAL if key.action != "command_palette"),
        # Textual's ctrl+c copies. Here it stops the run, also while a filter is typed.
        Binding("ctrl+c,ctrl+q", "interrupt", "quit", show=False, priority=True),
    ]

    def __init__(
        self,
        controller: Controller,
        *,
        role: Role = Role.OWNER,
        detach: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        processor_clock: Callable[[], float] = time.thread_time,
        is_signalled: bool = False,
        foreseen: Batch = (),
        player: Player | None = None,
        open_past: Callable[[], Player | str] = lambda: NOT_RECORDED,
        run_id: Callable[[], str] = lambda: "",
        driver_class: type[Driver] | None = None,
    ) -> None:
        super().__init__(driver_class=driver_class)
        for theme in (DARK, LIGHT):
            self.register_theme(theme)
        chosen = default_theme(os.environ)
        # Not by an assignment, after which Textual reads all styles a second time: 10 ms before the first frame.
        self.set_reactive(App.theme, chosen if chosen in self.available_themes else DARK.name)
        self.update_classes({"-dark-mode": (dark := self.current_theme.dark), "-light-mode": not dark}, update=False)
        self.stylesheet.set_variables(self.get_css_variables())
        if self.console.color_system in {"standard", "windows"}:
            self.add_class("-few-colors")
            self.css_path.append(Path(__file__).with_name("few_colors.tcss"))
        if self.no_color:
            self._refuse_ansi_themes()
        self.reason = ""
        """Why the run cannot be reached."""
        self._present = DashboardState(clock, wall_clock, role, player)
        self._past: Past | None = None
        self._failed_at: float | None = None
        """The moment of a failure whose worker is selected once that moment is shown."""
        """The past of the run, while it is shown."""
        self._open_past = open_past
        self._run_id = run_id
        if foreseen:
            self._present.foresee(foreseen)
        self._clock, self._processor_clock = clock, processor_clock
        self._controller = controller
        self._leave_run = detach
        self._commands = CommandSender(
            self._send,
            lambda: (self._present.fleet.settings.applied, self._present.fleet.refused),
            is_open=not foreseen,  # commands for workers of a run that has not begun would be refused
        )
        self._pump = Pump(self, is_endless=player is not None)
        self._is_signalled = is_signalled
        self._is_drawing = False
        self._redraw: asyncio.TimerHandle | None = None
        self._drawn_figures: tuple[object, ...] = ()  # of the frame statistics and the engine's
        self._sent = 0  # commands of the last action
        self._refused = 0  # how many of these were refused
        self._refusal: CommandRefused | None = None  # the first of these refusals
        self._notice: Callable[[], object] | None = None  # shows the notice that is shown next

    @property
    def dashboard(self) -> DashboardState:
        """What is shown: the run, or its past."""
        return self._present if self._past is None else self._past.dashboard

    def close(self) -> Fleet:
        """Return the last state of the run that was received, also if its past was shown."""
        return self._present.close()

    async def on_event(self, event: events.Event) -> None:
        """Run a key's action before the next key is handled, so that keys typed ahead reach what this key opens.

        Textual acts on a key only when it bubbles back from the focused widget, after following keys were forwarded.
        For the same reason an input gets its text here.
        """
        if isinstance(event, events.Key | events.Paste) and not event.is_forwarded:
            if not self.screen_stack or self.return_value is not None:
                return  # it ends, which the keys in the queue would hold up: a paste may be sent as thousands
            field = self.focused if isinstance(self.focused, Input) else None
            bound = self.screen.active_bindings.get(event.key) if isinstance(event, events.Key) else None
            is_text = isinstance(event, events.Paste) or event.is_printable
            if field is not None and is_text and not (bound and bound.binding.priority):
                await field.on_event(event)
                return
            if self.dashboard.player is not None and not self.screen.is_modal and isinstance(event, events.Key):
                play = next((key for key in PLAYS if key.keys == event.key), None)
                if play is not None and field is None:
                    await self.run_action(play.action, self)
                    return
            if bound is not None and await self.run_action(bound.binding.action, bound.node):
                return
        await super().on_event(event)

    async def run_action(
        self,
        action: str | ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """Run the action of a key, a click or the palette. Refuse it if it acts on a run that may only be shown."""
        name = action if isinstance(action, str) else action[1]
        reason = why_refused(name, self.dashboard.role, is_observed=self.dashboard.fleet.is_observed)
        if reason is not None:
            self._warn(reason)
            return True
        return await super().run_action(action, default_namespace, namespaces)

    def get_default_screen(self) -> Screen[None]:
        """Return the fleet."""
        return FleetScreen(self._present)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Yield every action by name."""
        here = [*ACTS, *RUN, *LOOKS, *MOVES] if isinstance(screen, FleetScreen) else []
        everywhere = offered(PLAYS if self.dashboard.player is not None else (), self.dashboard.role)
        everywhere += offered(GLOBAL, self.dashboard.role)
        for key in (*offered(here, self.dashboard.role), *everywhere):
            if key.action == "command_palette":
                continue
            node = self if key in everywhere else screen.focused if key in MOVES else screen
            yield SystemCommand(
                f"{key.label.capitalize()}  ({key.cap})",
                key.explanation,
                lambda action=key.action, node=node: self.run_action(action, default_namespace=node),
            )
        yield SystemCommand("Theme", "choose the colours", self.action_change_theme)

    async def on_mount(self) -> None:
        """Listen to signals, and start the periodic work."""
        if self._is_signalled:
            loop = asyncio.get_running_loop()
            for number, ending in _SIGNALS.items():
                loop.add_signal_handler(number, self.exit, ending)
        # A page that was opened or closed shows other times.
        self.screen_change_signal.subscribe(self, lambda _screen: self.draw(), immediate=True)
        self._read_statistics()
        self._look_later()

    def on_ready(self) -> None:
        """Start the run once the fleet is on the screen: the engine's imports would delay the first frame."""
        self._draw_screens()
        self.screen.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self.run_worker(self._watch(), name="pump", exit_on_error=True)

    async def _watch(self) -> None:
        disconnected = await self._pump.run(self._controller.events())
        if disconnected is None:
            self.exit(Ending.FINISHED)
            return
        self.reason = disconnected.reason
        self.exit(Ending.DISCONNECTED)

    def receive(self, batch: Batch) -> None:
        """Apply a batch from the pump."""
        dashboard = self._present
        was_frozen, fleet = dashboard.is_frozen, dashboard.fleet
        dashboard.receive(batch)
        if dashboard.fleet is not fleet:
            self._draw_screens()  # at once: the next key must not act on a row of the fleet that was replaced
        self._commands.open()
        if was_frozen and not dashboard.is_frozen and dashboard.fleet.finished is None:
            self._warn(f"Unfrozen: more than {MAX_FROZEN_EVENTS:,} events were waiting.")

    def read(self, part: SnapshotPart) -> bool:
        """Show a part of a snapshot from the pump. Return whether it completes a run that has finished."""
        fleet = self._present.fleet
        is_over = self._present.read(part)
        if self._present.fleet is not fleet:
            self._draw_screens()  # at once, as in `receive`
        self._commands.open()
        return is_over

    def move(self, moment: Moment) -> None:
        """Set the time of a recorded run."""
        self._present.move(moment)

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Show a notice in place of the keys for a few seconds, and in place of the notice before.

        It is plain text: names of workers may have brackets, and widgets ask for markup by default. Of the notices of
        keys that were typed faster than they are handled, only the last one is shown: each costs a layout.
        """
        del markup
        show = partial(super().notify, message, title=title, severity=severity, timeout=timeout, markup=False)
        if severity == "error":
            self._show_notice()
            show()
        elif self._notice is None:
            self._notice = show
            self.call_later(self._show_notice)
        else:
            self._notice = show

    def _show_notice(self) -> None:
        show, self._notice = self._notice, None
        if show is not None:
            self.clear_notifications()
            show()

    def clear_notifications(self) -> None:
        """Remove all notices. Textual removes only their texts: the empty holders would take a line each."""
        for screen in self.screen_stack:
            _ = screen.query("ToastHolder").remove()  # not awaited: a screen cannot wait for its own message
        super().clear_notifications()

    def draw(self) -> None:
        """Draw a frame, in the next step of the app."""
        self.call_next(self._draw_screens)

    def show_problem(self, problem: str) -> None:
        """Show a problem beside the work for a while."""
        self.notify(fmt.safe(problem), severity="error", timeout=_PROBLEM_TIME)

    def show_refusals(self, refusals: list[CommandRefused]) -> None:
        """Show refused commands, in one notice for each action."""
        first = self._refusal = self._refusal or refusals[0]
        self._refused += len(refusals)
        reason = f"{first.worker}: {first.reason}" if first.worker else first.reason
        text = fmt.safe(f"{_VERBS.get(first.command, first.command)} {reason}")
        if self._refused > 1:
            of = f" of {self._sent:,}" if self._sent > self._refused else ""
            text = f"{self._refused:,}{of} requests refused. The first: {text}"
        self._warn(text)

    def _warn(self, text: str) -> None:
        self.notify(text, severity="warning")

    # -- commands

    def on_commands_requested(self, message: CommandsRequested) -> None:
        """Send commands to the engine."""
        self._commands.add(message.commands)

    def on_setting_change_requested(self, message: SettingChangeRequested) -> None:
        """Send the change of a setting, once earlier changes are answered."""
        self._commands.add_change(message.make)

    def _send(self, commands: Sequence[Command]) -> None:
        self._controller.send(*commands)
        self._pump.hurry()
        self._read_statistics()
        if all(isinstance(command, WatchStack) for command in commands):
            return  # nothing that a person would hear of
        self._sent = len(commands)
        self._refused = 0
        self._refusal = None
        if self.dashboard.snapshot().blocked_for:
            self._warn("The event loop is blocked. The request waits until it is free.")

    def request_stop(self) -> None:
        """Stop the run without a question; the second time, without grace; the third time, just quit."""
        present = self._present
        if present.is_stopping_now or present.fleet.finished is not None:
            self.exit(Ending.QUIT if present.fleet.finished is None else Ending.FINISHED)
            return
        present.unfreeze()
        self._commands.clear()
        self._controller.send(StopRun(at_once=present.is_stopping))
        present.stop()
        self._draw_screens()

    # -- screens

    async def action_log(self) -> None:
        """Open the log."""
        from asyncwatch.ui.screens.log import LogScreen

        if not isinstance(self.screen, LogScreen):
            await self.push_screen(LogScreen(self.dashboard))

    async def action_overhead(self) -> None:
        """Open the page of what asyncwatch itself costs."""
        from asyncwatch.ui.screens.cost import CostScreen

        if not isinstance(self.screen, CostScreen):
            self._read_statistics()
            await self.push_screen(CostScreen(self.dashboard))

    async def action_hosts(self) -> None:
        """Open the page of the processes of a cluster."""
        from asyncwatch.ui.screens.hosts import HostsScreen

        if not isinstance(self.screen, HostsScreen):
            await self.push_screen(HostsScreen(self.dashboard))

    async def action_help(self) -> None:
        """Open the help."""
        from asyncwatch.ui.screens.help import HelpPage, HelpScreen

        if isinstance(self.screen, HelpScreen):
            return
        about = getattr(self.screen, "HELP_PAGE", None)
        await self.push_screen(HelpScreen(self.dashboard.role, about and HelpPage(*about)))

    def action_freeze(self) -> None:
        """Freeze the screen, or unfreeze it."""
        if self.dashboard.is_frozen:
            self.dashboard.unfreeze()
        else:
            self.dashboard.freeze()
        self._draw_screens()

    async def action_quit(self) -> None:
        """Leave the run. Its owner stops it; ask first if workers are active. While stopping, do as `request_stop`."""
        from asyncwatch.ui.screens.confirm import ConfirmScreen

        if self._past is not None:
            await self.action_rewind()
            return
        if isinstance(self.screen, ConfirmScreen):
            await self.screen.action_dismiss(Answer.YES if "q" in self.screen.again else Answer.NO)
            return
        if self.dashboard.role is not Role.OWNER:
            self.exit(Ending.LEFT)
            return
        if self.dashboard.is_stopping or not self.dashboard.active:
            self.request_stop()
            return

        def answered(answer: Answer | None) -> None:
            if answer is Answer.YES:
                self.request_stop()
            elif answer is Answer.LEAVE:
                self.action_detach()

        # The number changes while the question is open.
        question_text = f"Quit and stop all active workers ({self.dashboard.active:,} now)?"
        question = ConfirmScreen(question_text, "stop them", no="stay", leave="leave them running", again="q")
        await self.push_screen(question, answered)

    async def action_interrupt(self) -> None:
        """Do as `action_quit`, or interrupt the program whose run this is."""
        if self.dashboard.role is Role.PROGRAM:
            self.exit(Ending.STOPPED)
        else:
            await self.action_quit()

    def action_detach(self) -> None:
        """Leave the run, which goes on."""
        if self.dashboard.role is Role.OWNER:
            self._leave_run()
        self.exit(Ending.LEFT)

    async def action_command_palette(self) -> None:  # type: ignore[override]  # Textual awaits what an action returns
        """Open the palette of commands."""
        from asyncwatch.ui.screens.palette import Palette

        if not isinstance(self.screen, Palette):
            await self.push_screen(Palette())

    def search_themes(self) -> None:
        """Open the palette of themes."""
        from textual.theme import ThemeProvider

        from asyncwatch.ui.screens.palette import Palette

        _ = self.push_screen(Palette(providers=[ThemeProvider], placeholder="Search for themes…"))

    def action_redraw(self) -> None:
        """Draw the whole screen anew, over what other programs may have written on it."""
        from asyncwatch.ui.driver import TerminalDriver

        if isinstance(self._driver, TerminalDriver):
            self._driver.renew()
        self.refresh()

    # -- a recorded run

    async def action_rewind(self) -> None:
        """Show the past of the run, or let it go."""
        if self._past is not None:
            await self._let_go(self._past)
            return
        from asyncwatch.ui.past import Past

        if isinstance(self.screen, ModalScreen):
            return
        player = self._open_past()
        if isinstance(player, str):
            self._warn(player)
            return
        past = Past(player, DashboardState(self._clock, role=Role.PAST, player=player), self, len(self.screen_stack))
        self._past = past
        await self.push_screen(FleetScreen(past.dashboard))
        past.worker = self.run_worker(past.pump.run(player.events()), name="past", exit_on_error=True)

    async def _let_go(self, past: Past) -> None:
        while len(self.screen_stack) > past.depth:
            await self.pop_screen()
        self._past = None
        past.close()
        self._draw_screens()

    def action_play(self) -> None:
        """Play the recorded run, or stop it."""
        if (player := self.dashboard.player) is not None:
            player.play(is_playing=not player.recording().is_playing)
            self._draw_screens()

    def action_step(self, seconds: int) -> None:
        """Go some seconds on, or back."""
        if (player := self.dashboard.player) is not None:
            player.seek(player.recording().at + seconds)

    def action_speed(self, direction: int) -> None:
        """Play faster (1) or slower (-1)."""
        if (player := self.dashboard.player) is not None:
            player.set_speed(speed_beside(player.recording().speed, direction))
            self._draw_screens()

    def action_failure(self, direction: int) -> None:
        """Go to the next failure (1), or to the one before (-1), and select its worker. At the end, go to the first."""
        if (player := self.dashboard.player) is None:
            return
        recording = player.recording()
        moment = failure_beside(recording, recording.at, direction)
        if moment is None and direction > 0 and recording.at >= recording.end and recording.failures:
            moment = recording.failures[0]  # a recorded run opens at its end
        if moment is not None:
            player.seek(moment)
            self._failed_at = moment
            self._draw_screens()
        elif direction > 0 and recording.indexed < 1:
            self._warn(f"No failure was found so far: {recording.indexed:.0%} is indexed.")
        else:
            self._warn(f"There is no failure {'after' if direction > 0 else 'before'} this moment.")

    async def action_jump(self) -> None:
        """Ask for a time, and go there."""
        from asyncwatch.ui.screens.jump import JumpScreen

        if (player := self.dashboard.player) is None:
            return

        def go(moment: float | None) -> None:
            if moment is not None:
                player.seek(moment)

        await self.push_screen(JumpScreen(player.recording()), go)

    # -- drawing

    @property
    def _shown_screens(self) -> list[Screen[Any]]:
        """The screens of what is shown, from the fleet up."""
        return self.screen_stack[0 if self._past is None else self._past.depth :]

    @property
    def _is_live(self) -> bool:
        """Whether anything of the run goes on."""
        dashboard = self.dashboard
        if dashboard.player is not None:
            return dashboard.player.recording().is_playing
        return bool(dashboard.active or dashboard.is_stopping or dashboard.fleet.abandoned)

    @property
    def _period(self) -> float:
        """Seconds between two changes of the shown times if nothing happens."""
        period = float("inf")
        if not self.dashboard.is_frozen:
            for screen in reversed(self._shown_screens):
                if isinstance(screen, Drawable):
                    period = min(period, screen.period if self._is_live else screen.period_at_rest)
                if not screen.is_modal:
                    break
        return period

    def _draw_when_due(self) -> None:
        """Draw again when the shown times change, if they do."""
        if self._redraw is not None:
            self._redraw.cancel()
            self._redraw = None
        period = self._period
        if period < float("inf"):
            wait = max(FRAME, period - self.dashboard.clock_now % period) + _AFTER
            self._redraw = asyncio.get_running_loop().call_later(wait, self._times_changed)

    def _times_changed(self) -> None:
        self._redraw = None
        if self._pump.is_drawing:
            self._draw_when_due()
        elif self.is_running:
            self.draw()

    def _draw_screens(self) -> None:
        if self.dashboard.is_jumping:
            self._draw_when_due()
            return
        if self.screen_stack and not self._is_drawing:
            self._is_drawing = True
            self.screen.call_after_refresh(self._frame_shown, self._processor_clock())
        self._commands.send_changes()
        if self._failed_at is not None:
            self._select_failed(self._failed_at)
        for screen in self._shown_screens:
            if screen.is_mounted and isinstance(screen, Drawable):
                screen.draw()
        self._draw_when_due()

    def _select_failed(self, at: float) -> None:
        """Select the worker that failed at this moment, if the moment is shown."""
        fleet, screen = self.dashboard.fleet, self._shown_screens[0]
        failed = (row for row in fleet.notable() if row.state in FAILURES and row.ended_at == at)
        if isinstance(screen, FleetScreen) and (row := next(failed, None)) is not None:
            self._failed_at = None
            screen.table.select(row)

    def _frame_shown(self, began: float) -> None:
        self._is_drawing = False
        self.dashboard.frame_statistics.add_frame(self._processor_clock() - began)

    def _look_later(self) -> None:
        """Look again at what no event reports. A timer of Textual costs three times as much."""
        wait = STATISTICS_EVERY if self._is_live else STATISTICS_EVERY_AT_REST
        asyncio.get_running_loop().call_later(wait, self._look_if_new)

    def _look_if_new(self) -> None:
        is_new = True
        with suppress(Exception):  # in a step of the app it happens again, and ends the app
            is_new = self._controller.statistics() is not self.dashboard.statistics
        if is_new or self._pump.is_drawing:
            self.call_next(self._look)
        else:
            self._look_later()  # a step of the app would cost 0.2 ms

    def _look(self) -> None:
        if self.is_running:
            self._look_later()
            self._read_statistics()

    def _read_statistics(self) -> None:
        present = self._present
        frames = present.frame_statistics
        frames.used(self._clock(), self._processor_clock())
        self.dashboard.run_id = present.run_id = self._run_id()
        present.statistics = known = self._controller.statistics()
        frames.sample(self._clock(), known.events, present.fleet.events)
        player = self.dashboard.player
        indexed = None if player is None else player.recording().indexed
        blocked = round(self.dashboard.snapshot().blocked_for)
        lag, tokens = round(known.loop_lag, _LAG_DIGITS), round(known.retry_tokens)
        speed = frames.events_per_second, round(frames.load, _LOAD_DIGITS)
        figures = frames.backlog, *speed, blocked, known.stack, lag, tokens, known.viewers, indexed
        if figures != self._drawn_figures and not self._pump.is_drawing:
            self._drawn_figures = figures
            self.draw()  # nothing else would draw them

    # -- terminal

    def on_hung_up(self) -> None:
        """End the dashboard when the terminal has gone: not every process gets SIGHUP then."""
        self.exit(Ending.HUNG_UP)

    def _refuse_ansi_themes(self) -> None:
        """Unregister ANSI themes: under NO_COLOR Textual 8.2 draws them black on black."""
        if self.current_theme.ansi:
            self.theme = DARK.name
        for name, theme in self.available_themes.items():
            if theme.ansi:
                self.unregister_theme(name)


def run_dashboard(
    controller: Controller,
    *,
    role: Role = Role.OWNER,
    detach: Callable[[], object] = lambda: None,
    foreseen: Batch = (),
    player: Player | None = None,
    open_past: Callable[[], Player | str] = lambda: NOT_RECORDED,
    run_id: Callable[[], str] = lambda: "",
) -> Outcome:
    """Show the run until it has finished, or is left. Blocks; main thread only.

    SIGTERM, SIGHUP and SIGINT end the dashboard without a question, within a second even if the terminal takes no
    output. The arguments are those of `AsyncwatchApp`.

    Raises:
        DashboardError: the dashboard cannot start, or it broke.

    """
    try:
        from asyncwatch.ui.driver import TerminalDriver

        app = AsyncwatchApp(
            controller,
            role=role,
            detach=detach,
            is_signalled=True,
            foreseen=foreseen,
            player=player,
            open_past=open_past,
            run_id=run_id,
            driver_class=TerminalDriver,
        )
        # Modules, classes and fleet stay to the end. Without them a garbage collection is about 20 ms shorter.
        gc.freeze()
        with short_switch_interval():
            ending = app.run()
    except Exception as error:  # Textual shows errors of the app itself; here it cannot, or could not begin
        problem = error_line(type(error).__name__, str(error))
        raise DashboardError(f"the dashboard broke: {problem} (--headless runs without it)") from error
    if app.return_code or ending is None:
        raise DashboardError("the dashboard broke; see the traceback above")
    return Outcome(ending, app.close(), app.reason)
