"""How a person quits: after a question, when the run has ended, or at once."""

from __future__ import annotations

import pytest

from asyncwatch.commands import StopRun
from asyncwatch.ui.screens.confirm import ConfirmScreen
from asyncwatch.ui.screens.fleet import FleetScreen
from tests.ui.fakes import shows, until
from tests.ui.running import running


@pytest.mark.parametrize("keys", [["q", "q"], ["q", "y"], ["ctrl+c", "ctrl+c"], ["q", "enter"]])
async def test_quit_confirmed_waits_for_the_end_of_the_run(keys: list[str]) -> None:
    async with running() as (app, controller, pilot):
        await pilot.press(keys[0])
        await shows(app, "Quit and stop all active workers (")
        assert controller.sent == []
        await pilot.press(keys[1])
        await until(lambda: controller.sent)
        assert controller.sent == [StopRun()]
        await shows(app, "stopping… 4 of 4 still running")
        assert app.is_running
        controller.finish(3.5)
        await until(lambda: not app.is_running)
        assert app.return_code == 0


async def test_quit_declined_sends_nothing() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("q")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, FleetScreen))
        assert controller.sent == []


@pytest.mark.parametrize(("width", "is_full"), [(60, True), (80, True), (120, False)])
async def test_question_leaves_no_scraps_beside_it(width: int, *, is_full: bool) -> None:
    async with running(size=(width, 24)) as (app, _, pilot):
        await pilot.press("q")
        await shows(app, "Quit and stop all active workers (")
        await pilot.pause()
        assert (app.screen.query_one("#question").region.width == width) == is_full


@pytest.mark.parametrize("width", [80, 120])
async def test_blocked_loop_is_shown_with_the_way_out(width: int) -> None:
    async with running(size=(width, 30)) as (app, controller, pilot):
        controller.block(7.2)
        app._read_statistics()
        await shows(app, "event loop blocked for 7 s")
        await pilot.press("j", "r")
        await shows(app, "The event loop is blocked. The request waits until it is free.")
        await pilot.press("q", "q")
        await shows(app, "event loop blocked for 7 s", "stopping… · ctrl+c stops them now")
        controller.block(None)
        app._read_statistics()
        await shows(app, "stopping… 4 of 4 still running · ctrl+c stops them now")


async def test_ctrl_c_while_stopping_stops_now_then_quits() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("ctrl+c", "ctrl+c")
        await shows(app, "stopping…")
        await pilot.press("ctrl+c")
        await shows(app, "stopping… 4 of 4 still running · ctrl+c quits")
        assert controller.sent == [StopRun(), StopRun(at_once=True)]
        assert app.is_running
        await pilot.press("ctrl+c")
        await until(lambda: not app.is_running)
        assert controller.sent == [StopRun(), StopRun(at_once=True)]


async def test_ctrl_c_in_filter_asks() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("slash", "x", "ctrl+c")
        await shows(app, "Quit and stop all active workers (")


async def test_request_stop_ends_freeze_without_question() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("p")
        app.request_stop()
        await shows(app, "stopping…")
        assert not app.dashboard.is_frozen
        assert controller.sent == [StopRun()]
