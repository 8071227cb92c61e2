"""The pane below the fleet: the log or the details of the selected worker."""

from __future__ import annotations

import pytest

from asyncwatch.ui.screens.fleet import FleetScreen
from asyncwatch.ui.widgets.lines import LinesView
from tests.ui.fakes import FakeController, hides, make_app, shows, text_of, until
from tests.ui.running import running, selected


async def test_pane_shows_the_log_as_it_comes_then_details_then_closes() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("j", "j", "v")
        await shows(app, "log 2  ↻ backing off", "bad luck 0.95 injects", "retry 1 of 2 in 3.50 s", "v changes")
        controller.log("2", 3.3, "a new line\nand its second")
        controller.log("6", 3.3, "of another worker")
        await shows(app, "a new line", "and its second")
        assert "another worker" not in text_of(app)
        await pilot.press("v")
        await shows(app, "details 2  ↻ backing off", "ATTEMPTS", "ServerTimeoutError: bad luck")
        await pilot.press("v")
        await hides(app, "ATTEMPTS")


async def test_pane_follows_the_cursor() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("v")
        await shows(app, "log 0", "logged nothing so far")
        await pilot.press("j", "j")
        await shows(app, "log 2", "bad luck 0.95 injects")
        assert selected(app) == "2"


async def test_pane_follows_the_newest_line_until_it_is_scrolled_up() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("v")
        for number in range(40):
            controller.log("0", 3.2, f"line {number}")
        await shows(app, "line 39")
        view = app.screen.query_one("#pane-lines", LinesView)
        await until(lambda: view.allow_vertical_scroll)
        view.scroll_lines(-20)
        await hides(app, "line 39")
        before = text_of(app)
        controller.log("0", 3.2, "line 40")
        await until(lambda: app.dashboard.fleet.logged == 44)
        await pilot.pause()
        assert "line 40" not in text_of(app)
        assert "line 15" in before
        assert "line 15" in text_of(app)


async def test_pane_is_resized_within_the_screen() -> None:
    async with running(size=(100, 30)) as (app, _, pilot):
        screen = app.screen
        assert isinstance(screen, FleetScreen)
        await pilot.press("v")
        await until(lambda: screen.pane.size.height == 10)
        await pilot.press("right_square_bracket")
        await until(lambda: screen.pane.size.height == 13)
        await pilot.press(*["right_square_bracket"] * 9)
        await until(lambda: screen.pane.size.height == 18)
        await shows(app, "› 0")
        await pilot.press(*["left_square_bracket"] * 9)
        await until(lambda: screen.pane.size.height == 4)
        await pilot.resize_terminal(100, 14)
        await shows(app, "› 0", "log 0")


@pytest.mark.usefixtures("live")
async def test_pane_without_a_selected_worker_says_so() -> None:
    controller = FakeController()
    controller.start(*(f"w{number}" for number in range(60)))
    app = make_app(controller)
    async with app.run_test(size=(100, 24)) as pilot:
        await until(lambda: app.dashboard.view.is_following)
        await pilot.press("v")
        await shows(app, "No worker is selected: ↓ selects one.")
        await pilot.press("j")
        await shows(app, "log w0  ○ queued")
