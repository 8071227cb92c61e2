"""How a person leaves: after a question, once the run has ended, or at once."""

from __future__ import annotations

import pytest

from asyncwatch.commands import StopRun
from asyncwatch.ui.screens.confirm import ConfirmScreen
from asyncwatch.ui.screens.fleet import FleetScreen
from tests.ui.fakes import shows, until
from tests.ui.running import running


@pytest.mark.parametrize("keys", [["q", "q"], ["q", "y"], ["ctrl+c", "ctrl+c"], ["q", "enter"]])
async def test_quits_after_a_question_and_waits_for_the_end(keys: list[str]) -> None:
    """With workers active it asks; a yes stops the run, and the app leaves when the run has finished."""
    async with running() as (app, controller, pilot):
        await pilot.press(keys[0])
        await shows(app, "Quit while workers are active?")
        assert controller.sent == []
        await pilot.press(keys[1])
        await until(lambda: controller.sent)
        assert controller.sent == [StopRun()]
        await shows(app, "stopping… 4 of 4 still running")
        assert app.is_running
        controller.finish(3.5)
        await until(lambda: not app.is_running)
        assert app.return_code == 0


async def test_a_no_keeps_it_running() -> None:
    """Escape at the question sends nothing."""
    async with running() as (app, controller, pilot):
        await pilot.press("q")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, FleetScreen))
        assert controller.sent == []


@pytest.mark.parametrize("width", [80, 120])
async def test_a_blocked_event_loop_is_told(width: int) -> None:
    """The header says for how long, a request that has to wait for it gets a note, and the way out is named."""
    async with running(size=(width, 30)) as (app, controller, pilot):
        controller.block(7.2)
        app._read_statistics()
        await shows(app, "event loop blocked for 7 s")
        await pilot.press("j", "r")
        await shows(app, "The event loop is blocked; the request waits for it.")
        await pilot.press("q", "q")
        await shows(app, "event loop blocked for 7 s", "stopping… · ctrl+c ends them at once")
        controller.block(None)
        app._read_statistics()
        await shows(app, "stopping… 4 of 4 still running · ctrl+c ends them at once")


async def test_a_further_ctrl_c_ends_all_at_once() -> None:
    """Who asks again while the run is stopping leaves the workers no more time; who asks once more leaves."""
    async with running() as (app, controller, pilot):
        await pilot.press("ctrl+c", "ctrl+c")
        await shows(app, "stopping…")
        await pilot.press("ctrl+c")
        await shows(app, "stopping… 4 of 4 still running · ctrl+c leaves")
        assert controller.sent == [StopRun(), StopRun(at_once=True)]
        assert app.is_running
        await pilot.press("ctrl+c")
        await until(lambda: not app.is_running)
        assert controller.sent == [StopRun(), StopRun(at_once=True)]


async def test_ctrl_c_asks_also_while_a_filter_is_typed() -> None:
    """The filter's line does not keep ctrl+c for copying."""
    async with running() as (app, _, pilot):
        await pilot.press("slash", "x", "ctrl+c")
        await shows(app, "Quit while workers are active?")


async def test_a_signal_stops_without_a_question() -> None:
    """`request_stop` sends the request at once, and ends a freeze."""
    async with running() as (app, controller, pilot):
        await pilot.press("p")
        app.request_stop()
        await shows(app, "stopping…")
        assert not app.scene.is_frozen
        assert controller.sent == [StopRun()]
