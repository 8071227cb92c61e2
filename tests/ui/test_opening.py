"""Keys that open something: details, log, help, palette, freeze."""

from __future__ import annotations

from typing import Any

import pytest
from rich.style import Style
from textual import events
from textual.command import CommandList, CommandPalette
from textual.widgets import Button, Input
from textual.widgets._toast import Toast

from asyncwatch.commands import CancelWorker, RestartWorker
from asyncwatch.ui.app import AsyncwatchApp, Ending
from asyncwatch.ui.keys import Role
from asyncwatch.ui.messages import DetailsRequested
from asyncwatch.ui.screens.confirm import ConfirmScreen
from asyncwatch.ui.screens.details import DetailsScreen
from asyncwatch.ui.screens.help import HelpScreen
from tests.ui.fakes import FakeController, hides, shows, small_run, text_of, until
from tests.ui.running import running, selected, table_of


async def test_details_show_one_worker() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("j", "j", "enter")
        await shows(app, "worker 2", "↻ 3.50 s", "ServerTimeoutError: bad luck", "line 12, in fetch", "retry 1 of 2")
        controller.attempt("2", 4.0, number=2, luck=0.5)
        await shows(app, "● running", "attempt 2 of 3")
        await pilot.press("c", "r")
        await until(lambda: len(controller.sent) == 2)
        assert controller.sent == [CancelWorker("2", 1), RestartWorker("2", 1)]
        await pilot.press("right")
        await shows(app, "worker 3", "✗ failed")
        await pilot.press("escape")
        await shows(app, "WORKER")
        assert selected(app) == "3"


async def test_details_unresponsive_worker_shows_where_it_is_stuck() -> None:
    async with running() as (app, controller, pilot):
        controller.abandon("5", 8.0)
        await shows(app, "▲ 1 unresponsive")
        await pilot.press(*"jjjjj", "enter")
        await shows(app, "STUCK AT", "/srv/app/stuck.py:7 spin", "cancelled 5.00 s ago, 2 cancels ignored")
        await shows(app, "7.90 s  ▲ unresponsive")
        controller.restart("5", 9.0)
        controller.attempt("5", 10.0, incarnation=2)
        await shows(app, "ABANDONED INCARNATION 1, STUCK AT", "cancelled 7.00 s ago", "7.90 s  ▲ unresponsive")
        await pilot.press("escape")
        await shows(app, "1 abandoned")
        assert "unresponsive" not in text_of(app)


async def test_details_many_attempts_share_one_axis() -> None:
    async with running() as (app, controller, pilot):
        controller.restart("3", 4.0)
        controller.attempt("3", 4.1, luck=0.33, incarnation=2)
        controller.succeed("3", 4.3, incarnation=2)
        await pilot.press("j", "j", "j", "enter")
        await shows(app, "incarnation 2", "incarnation 1", "0.97 ↯", "✗ RuntimeError: bad luck", "0.33")


async def test_log_scrolled_up_keeps_its_position() -> None:
    def emit(controller: FakeController) -> None:
        small_run(controller)
        for number in range(100):
            controller.log("0", 3.2, f"line {number}", level="DEBUG")

    async with running(emit=emit) as (app, controller, pilot):
        await pilot.press("l")
        await shows(app, "line 99", "● following", "103 lines")
        await pilot.press("k", "k")
        await shows(app, "reading")
        await until(lambda: "line" in text_of(app).splitlines()[2])  # the title has its height
        top = text_of(app).splitlines()[2]
        for number in range(100, 107):
            controller.log("1", 3.3, f"line {number}")
        await shows(app, "+7 new")
        assert text_of(app).splitlines()[2] == top
        await pilot.press("G")
        await shows(app, "line 106", "● following")
        await pilot.press("v", "v")
        await shows(app, "warning and above", "bad luck 0.95 injects a fault")
        await hides(app, "debug")
        await pilot.press("escape")
        await shows(app, "WORKER")


async def test_freeze_stops_drawing_not_work() -> None:
    async with running() as (app, controller, pilot):
        await shows(app, "2 succeeded")
        await pilot.press("p")
        controller.succeed("6", 4.0)
        controller.attempt("7", 4.1)
        await shows(app, "frozen · 2 events wait", "2 succeeded")
        await pilot.press("p")
        await shows(app, "3 succeeded")
        await hides(app, "frozen")


async def test_help_lists_keys_and_states() -> None:
    async with running(size=(120, 46)) as (app, _, pilot):
        await pilot.press("question_mark")
        await shows(app, "restart all without success that match", "▲ unresponsive", "retries>0", "ctrl+p")
        await pilot.press("escape")
        await shows(app, "WORKER")


@pytest.mark.parametrize(
    ("key", "name", "text"),
    [
        ("l", "the log", "a regular expression in the message"),
        ("e", "the errors", "copy one of its tracebacks"),
        ("b", "the limits", "forget the limits that were learned"),
        ("enter", "one worker", "restart this worker"),
        ("d", "what asyncwatch costs itself", "scroll down, or up"),
    ],
)
async def test_help_on_another_screen_is_about_that_screen(key: str, name: str, text: str) -> None:
    async with running(size=(80, 30)) as (app, _, pilot):
        await pilot.press(key)
        await hides(app, "WORKER ")
        await pilot.press("question_mark")
        await shows(app, f"help  {name}", "KEYS HERE", text, "? main screen")
        await pilot.press("question_mark")
        await shows(app, "help  the main screen", "STATES")
        await pilot.press("question_mark")
        await hides(app, "STATES")


async def test_palette_has_every_action() -> None:
    async with running() as (app, _, pilot):
        names = [command.title for command in app.get_system_commands(app.screen)]
        for label in ("Cancel", "Restart", "Mark all", "Filter", "Sort", "Trouble", "Log", "Freeze", "Quit", "Theme"):
            assert any(name.startswith(label) for name in names), label
        await pilot.press("ctrl+p")
        await until(lambda: len(app.screen_stack) == 2)
        await pilot.press(*"trouble")
        await until(lambda: "Trouble" in text_of(app) and "Cancel all" not in text_of(app))
        await pilot.press("enter")
        await until(lambda: app.dashboard.view.trouble_only)


async def test_palette_withstands_keys_that_come_too_late_and_too_early() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("ctrl+p")
        await until(lambda: isinstance(app.screen, CommandPalette))
        palette = app.screen
        assert isinstance(palette, CommandPalette)
        palette.query_one(CommandList).display = False
        await until(lambda: not palette.query_one(CommandList).size.height)
        await pilot.press("pagedown", "pageup")
        for _ in range(2):
            await palette.dismiss()
            await pilot.pause()
        await shows(app, "WORKER")
        assert len(app.screen_stack) == 1


async def test_footer_click_presses_the_key() -> None:
    async with running() as (app, _, pilot):
        line = text_of(app).splitlines()[-1]
        await pilot.click(offset=(line.index("errors") + 2, 29))
        await shows(app, "2 workers in 2 groups")
        await pilot.press("escape")
        await shows(app, "? help")
        await pilot.click(offset=(line.index("? help"), 29))
        await shows(app, "STATES")


@pytest.mark.parametrize("key", ["C", "o", "slash", "question_mark"])
@pytest.mark.parametrize(("pressed", "action"), [("ctrl+l", "redraw"), ("ctrl+z", "suspend_process")])
async def test_keys_of_the_terminal_work_in_dialogs_and_fields(
    key: str, pressed: str, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(AsyncwatchApp, f"action_{action}", lambda _app: done.append(action))
    async with running() as (_, _, pilot):
        await pilot.press(key)
        await pilot.press(pressed)
        await until(lambda: done)
        assert done == [action]


async def test_page_that_a_key_opens_gets_the_next_key() -> None:
    async with running() as (app, controller, pilot):
        app.post_message(events.Key("enter", None))
        app.post_message(events.Key("right", None))
        await shows(app, "worker 1", "esc back")
        await until(lambda: controller.watched == ["0", "1"])
        await pilot.press("escape")
        await shows(app, "WORKER")
        assert selected(app) == "1"
        await until(lambda: controller.watched == ["0", "1", None])


async def test_click_that_comes_late_opens_no_page_over_another_one() -> None:
    async with running() as (app, _, pilot):
        row = table_of(app).selected
        assert row is not None
        await pilot.press("question_mark")
        for _ in range(2):
            table_of(app).post_message(DetailsRequested(row))
        await pilot.pause()
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("escape")
        await shows(app, "WORKER")
        for _ in range(2):
            table_of(app).post_message(DetailsRequested(row))
        await until(lambda: isinstance(app.screen, DetailsScreen))
        await pilot.pause()
        assert len(app.screen_stack) == 2


@pytest.mark.parametrize("opened", ["app.command_palette", "app.change_theme"])
async def test_palette_that_another_screen_covers_does_not_close_that_one(opened: str) -> None:
    async with running() as (app, _, pilot):
        await app.run_action(opened)
        await until(lambda: isinstance(app.screen, CommandPalette))
        palette = app.screen
        assert isinstance(palette, CommandPalette)
        await app.push_screen(HelpScreen(Role.OWNER))
        for _ in range(2):
            await palette.dismiss()
            await pilot.pause()
        assert isinstance(app.screen, HelpScreen)
        await app.pop_screen()
        await palette.dismiss()
        await pilot.pause()
        await palette.dismiss()
        await shows(app, "WORKER")
        assert len(app.screen_stack) == 1


async def test_keys_typed_ahead_reach_the_palette() -> None:
    async with running() as (app, _, pilot):
        for key in ("ctrl+p", "pagedown", "down", "pageup", "escape", "ctrl+p"):
            app.post_message(events.Key(key, None))
        for letter in "overhead":
            app.post_message(events.Key(letter, letter))
        await until(lambda: [field.value for field in app.screen.query(Input).results(Input)] == ["overhead"])
        await pilot.press("escape")
        await shows(app, "WORKER")


async def test_palette_withstands_a_click_that_comes_late_and_a_search_that_fails() -> None:
    async with running() as (app, _, pilot):
        await app.action_command_palette()
        palette = app.screen
        commands = palette.query_one(CommandList)
        await until(lambda: commands.option_count)
        here = Style(meta={"option": commands.option_count})
        commands.post_message(events.Click(commands, 1, 1, 0, 0, 1, False, False, False, style=here))

        async def search() -> None:
            palette.query_one("#closed")

        palette.run_worker(search())
        await pilot.pause()
        _ = palette.dismiss()
        await app.action_command_palette()
        if len(app.screen_stack) > 1:  # unless the late click has closed it
            _ = app.screen.dismiss()
        app.search_themes()
        await app.run_action("cursor_down", app.screen)
        await app.run_action("command_list('page_down')", app.screen)
        themes = app.screen
        _ = themes.dismiss()
        for _ in range(3):
            themes.call_later(search)
            await pilot.pause()
        await shows(app, "WORKER")


async def test_page_that_is_closed_at_once_is_opened_and_closed() -> None:
    async with running() as (app, _, pilot):
        for _ in range(2):
            await app.action_help()
        assert len(app.screen_stack) == 2
        for screen in (HelpScreen(Role.OWNER), ConfirmScreen("Really?", "do it")):
            _ = app.push_screen(screen)
            _ = screen.dismiss()
            _ = screen.dismiss()
            await pilot.pause()
            assert len(app.screen_stack) == 2
        await pilot.press("escape")
        await shows(app, "WORKER")


async def test_second_click_on_an_answer_does_nothing() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("question_mark")
        question = ConfirmScreen("Really?", "do it")
        await app.push_screen(question)
        for _ in range(2):
            button = question.query_one("#yes", Button)
            question.post_message(Button.Pressed(button))
        await until(lambda: app.screen is not question)
        await pilot.pause()
        assert isinstance(app.screen, HelpScreen)
        assert not controller.sent


async def test_notices_of_keys_typed_ahead_are_one() -> None:
    async with running(role=Role.READER) as (app, _, pilot):
        for _ in range(50):
            app.post_message(events.Key("c", "c"))
            app.post_message(events.Key("t", "t"))
        most = 0
        for _ in range(20):
            await pilot.pause()
            most = max(most, len(app.screen.query(Toast)))
        assert most <= 2
        await shows(app, "This run is not recorded")
        assert len(app.screen.query(Toast)) == 1


async def test_end_does_not_wait_for_the_keys_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as (app, _, _pilot):
        actions: list[object] = []
        run_action = app.run_action

        async def counted(*args: Any) -> bool:
            actions.append(args)
            if len(actions) == 3:
                app.exit(Ending.STOPPED)
            return await run_action(*args)

        monkeypatch.setattr(app, "run_action", counted)
        for _ in range(50):
            app.post_message(events.Key("j", "j"))
        await until(lambda: not app.is_running)
        assert len(actions) == 3


async def test_key_that_comes_while_the_dashboard_ends_does_nothing() -> None:
    async with running() as (app, _, _pilot):
        pass
    assert not app.screen_stack
    await app.on_event(events.Key("j", "j"))
