"""Who is at the dashboard: the owner of the run, a viewer, or a reader who may only look."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from asyncwatch.commands import StopRun
from asyncwatch.ui.app import Ending
from asyncwatch.ui.keys import ACTING, ACTS, GLOBAL, LOOKS, RUN, Key, Role, is_acting
from asyncwatch.ui.render.header import overview
from asyncwatch.ui.screens import details, errors, limits
from asyncwatch.ui.screens.confirm import ConfirmScreen
from asyncwatch.ui.screens.fleet import FleetScreen
from tests.ui.fakes import FakeController, dashboard_of, hides, overview_text, shows, small_run, text_of, until
from tests.ui.running import running
from tests.ui.trees import tree_run

TABLES = (ACTS, RUN, LOOKS, GLOBAL, details.KEYS, errors.KEYS, limits.KEYS)


def test_every_acting_action_has_a_key() -> None:
    named = {key.action.partition("(")[0] for table in TABLES for key in table}
    assert named >= ACTING


# -- leaving


@pytest.mark.parametrize("keys", [["D"], ["q", "D"], ["ctrl+c", "tab", "enter"], ["q", "right", "enter"]])
async def test_owner_detaches_and_the_run_goes_on(keys: list[str]) -> None:
    detached: list[bool] = []
    async with running(detach=lambda: detached.append(True)) as (app, controller, pilot):
        pressing = asyncio.create_task(pilot.press(*keys))
        await until(lambda: not app.is_running)
        pressing.cancel()  # it may wait for widgets that are gone
        await asyncio.wait([pressing])
        assert app.return_value is Ending.LEFT
        assert controller.sent == []
        assert detached == [True]


@pytest.mark.parametrize("keys", [["n"], ["escape"], ["left", "enter"]])
async def test_owner_stays(keys: list[str]) -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("q")
        await shows(app, "stop them", "leave them running", "stay")
        await pilot.press(*keys)
        await until(lambda: isinstance(app.screen, FleetScreen))
        assert app.is_running
        assert controller.sent == []


@pytest.mark.parametrize("keys", [["q", "q"], ["q", "y"], ["q", "enter"], ["ctrl+c", "ctrl+c"]])
async def test_owner_stops_the_run(keys: list[str]) -> None:
    async with running() as (app, controller, pilot):
        await pilot.press(*keys)
        await until(lambda: controller.sent)
        assert controller.sent == [StopRun()]
        controller.finish(4.0)
        await until(lambda: not app.is_running)
        assert app.return_value is Ending.FINISHED


async def test_owner_who_does_not_wait_for_the_end_stops_the_dashboard() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("q", "q", "ctrl+c", "ctrl+c")
        await until(lambda: not app.is_running)
        assert app.return_value is Ending.QUIT
        assert controller.sent == [StopRun(), StopRun(at_once=True)]


async def test_owner_can_leave_a_run_that_is_stopping() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("q", "q")
        await shows(app, "stopping…")
        await pilot.press("D")
        await until(lambda: not app.is_running)
        assert app.return_value is Ending.LEFT


@pytest.mark.parametrize("size", [(80, 24), (60, 12), (40, 10), (30, 10)])
async def test_question_fits_small_terminals(size: tuple[int, int]) -> None:
    async with running(size=size) as (app, _, pilot):
        await pilot.press("q")
        await shows(app, "Quit and stop", "y  stop them", "D  leave them running", "n  stay")


@pytest.mark.parametrize("role", [Role.VIEWER, Role.READER])
@pytest.mark.parametrize("key", ["q", "D", "ctrl+c"])
async def test_viewer_leaves_without_a_question(role: Role, key: str) -> None:
    async with running(role=role, detach=lambda: pytest.fail("only the owner detaches")) as (app, controller, pilot):
        await pilot.press(key)
        await until(lambda: not app.is_running)
        assert app.return_value is Ending.LEFT
        assert controller.sent == []


async def test_viewer_acts_on_the_run() -> None:
    async with running(role=Role.VIEWER) as (app, controller, pilot):
        await pilot.press("j", "j", "c")
        await until(lambda: controller.sent)
        assert "read-only" not in text_of(app)


# -- read-only


@pytest.mark.parametrize(
    ("page", "table"),
    [("", (*ACTS, *RUN, *LOOKS)), ("enter", details.KEYS), ("e", errors.KEYS), ("b", limits.KEYS)],
    ids=["fleet", "details", "errors", "limits"],
)
async def test_no_key_of_a_reader_acts(page: str, table: tuple[Key, ...]) -> None:
    async with running(role=Role.READER, emit=tree_run, size=(100, 30)) as (app, controller, pilot):
        await pilot.press("j", "j", *filter(None, [page]))
        await pilot.pause()
        footer = text_of(app).splitlines()[-1]
        refused = 0
        for key in filter(lambda key: is_acting(key.action), table):
            assert f"{key.cap} {key.label}" not in footer
            for name in key.keys.split(","):
                await pilot.press(name)
                await shows(app, "This dashboard is read-only. It cannot act on the run.")
                assert not isinstance(app.screen, ConfirmScreen)
                refused += 1
                app.clear_notifications()
                await hides(app, "It cannot act")
        assert refused
        assert controller.sent == []


async def test_palette_help_and_footer_of_a_reader_have_no_acting_key() -> None:
    async with running(role=Role.READER, size=(200, 50)) as (app, controller, pilot):
        assert "c cancel" not in text_of(app)
        assert "q leave" in text_of(app)
        names = [command.title for command in app.get_system_commands(app.screen)]
        assert any(name.startswith("Filter") for name in names)
        assert not any(name.startswith(("Cancel", "Restart", "Pause", "Options")) for name in names)
        assert not await app.run_action("retry_all_now") or controller.sent == []
        await pilot.press("question_mark")
        await shows(app, "leave the run, which goes on")
        assert "mark the selected worker" not in text_of(app)
        assert "cancel all active workers" not in text_of(app)


async def test_help_of_a_viewer_says_that_quitting_leaves() -> None:
    async with running(role=Role.VIEWER, size=(120, 50)) as (app, _, pilot):
        await pilot.press("question_mark")
        await shows(app, "leave the run, which goes on; also ctrl+c", "cancel all active workers")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_header_says_read_only_and_how_many_look_on(width: int) -> None:
    controller = FakeController()
    small_run(controller)
    dashboard = dashboard_of(controller)
    assert "viewer" not in overview_text(dashboard, width)
    assert "read-only" not in overview_text(dashboard, width)
    dashboard.role = Role.READER
    dashboard.statistics = msgspec.structs.replace(controller.statistics(), viewers=3)
    assert " read-only " in overview_text(dashboard, width)
    if width > 60:
        assert "3 viewers" in overview_text(dashboard, width)
    assert all(len("".join(span.text for span in line)) <= width for line in overview(dashboard.snapshot(), width))


def test_header_offers_a_reader_no_key_that_acts() -> None:
    controller = FakeController()
    controller.start("0")
    controller.attempt("0", 0.1)
    controller.break_down("0", 0.2)
    dashboard = dashboard_of(controller)
    assert "R restarts them" in overview_text(dashboard, 120)
    dashboard.role = Role.READER
    assert "restarts" not in overview_text(dashboard, 120)


async def test_header_shows_another_viewer_at_the_next_look() -> None:
    async with running() as (app, controller, _):
        controller.known = msgspec.structs.replace(controller.known, viewers=2)
        await shows(app, "2 viewers")
