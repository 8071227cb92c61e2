"""The live order: what happens now is on top until a person moves the cursor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from asyncwatch.commands import CancelWorker
from asyncwatch.ui.app import AsyncwatchApp
from asyncwatch.ui.screens.fleet import FleetScreen
from tests.ui.fakes import FakeController, hides, make_app, shows, text_of, until
from tests.ui.running import Running, selected, table_of

pytestmark = pytest.mark.usefixtures("live")


@asynccontextmanager
async def batch(workers: int = 100, size: tuple[int, int] = (100, 20)) -> AsyncIterator[Running]:
    """Run the dashboard over a batch of which some workers run, wait, failed and succeeded."""
    controller = FakeController()
    controller.start(*(f"w{number}" for number in range(workers)))
    app = make_app(controller)
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(lambda: app.dashboard.view.is_following)
        for number in range(10):
            controller.attempt(f"w{number}", 0.1 + number / 100)
        controller.succeed("w0", 0.5)
        controller.succeed("w3", 0.6)
        controller.break_down("w1", 0.7)
        controller.break_down("w4", 0.8)
        controller.fail("w5", 0.9)
        controller.back_off("w5", 0.9, delay=9.0)
        await until(lambda: app.dashboard.fleet.latest == 0.9)
        resort(app)
        yield app, controller, pilot


def resort(app: AsyncwatchApp) -> None:
    """Put the rows in order, as the screen does once a second."""
    screen = app.screen_stack[0]
    assert isinstance(screen, FleetScreen)
    screen._resort()


def shown(app: AsyncwatchApp, number: int) -> list[str]:
    """Return the names of the first rows on the screen."""
    rows = [line.split()[0] for line in text_of(app).replace("›", " ").splitlines()[6:-1] if line.strip()]
    return [name for name in rows if name.startswith("w")][:number]


async def test_batch_larger_than_the_screen_starts_in_live_order_without_a_cursor() -> None:
    async with batch() as (app, controller, pilot):
        expected = ["w2", "w6", "w7", "w8", "w9", "w5", "w4", "w1", "w10"]
        await until(lambda: shown(app, 9) == expected)
        assert "›" not in text_of(app)
        assert table_of(app).selected_line is None
        for key in ("c", "r", "space", "enter", "n"):
            await pilot.press(key)
            await shows(app, "Select a worker first")
            app.clear_notifications()
        assert controller.sent == []
        await shows(app, "↓ j select")
        assert "c cancel" not in text_of(app)


async def test_batch_that_fits_starts_in_queue_order() -> None:
    controller = FakeController()
    controller.start("a", "b")
    app = make_app(controller)
    async with app.run_test(size=(100, 20)):
        await shows(app, "› a")


async def test_succeeded_workers_come_last_newest_first() -> None:
    async with batch(13, (100, 16)) as (app, _, pilot):
        await pilot.press("end")
        await until(lambda: shown(app, 20)[-3:] == ["w12", "w3", "w0"])
        assert selected(app) == "w0"


async def test_moved_cursor_holds_the_rows_and_counts_what_comes() -> None:
    async with batch() as (app, controller, pilot):
        await until(lambda: shown(app, 1) == ["w2"])
        await pilot.press("j")
        assert selected(app) == "w2"
        controller.succeed("w2", 1.0)
        controller.attempt("w10", 1.1)
        controller.break_down("w6", 1.2)
        await shows(app, "rows stay: +1 started, +1 succeeded, +1 ended otherwise")
        resort(app)
        assert shown(app, 4) == ["w2", "w6", "w7", "w8"]
        await pilot.press("j", "j", "c")
        await until(lambda: controller.sent == [CancelWorker("w7", 1)])


async def test_home_at_the_top_follows_again() -> None:
    async with batch() as (app, controller, pilot):
        await pilot.press("j", "j")
        controller.succeed("w2", 1.0)
        await until(lambda: app.dashboard.fleet.latest == 1.0)
        await pilot.press("home")
        assert selected(app) == "w2"
        await pilot.press("home")
        await hides(app, "rows stay")
        await until(lambda: shown(app, 2) == ["w6", "w7"])
        assert app.dashboard.view.is_following


async def test_scrolling_holds_the_rows() -> None:
    async with batch() as (app, _, _pilot):
        table = table_of(app)
        await until(lambda: table.allow_vertical_scroll)
        table.scroll_to(y=3, animate=False, immediate=True, force=True)
        await shows(app, "rows stay", "› w8")


async def test_click_selects_a_row() -> None:
    async with batch() as (app, _, pilot):
        await until(lambda: shown(app, 1) == ["w2"])
        await pilot.click("FleetTable", offset=(6, 3))
        assert selected(app) == "w7"


async def test_new_order_ends_the_live_one_and_it_can_be_chosen_again() -> None:
    async with batch() as (app, _, pilot):
        await pilot.press("s")
        await shows(app, "› w0")
        assert app.dashboard.view.sort == "queue"
        await pilot.press(*"sssssssss")
        await until(lambda: app.dashboard.view.sort == "live")
        assert app.dashboard.view.is_following


async def test_filter_in_live_order_selects_a_match_and_esc_holds_the_rows() -> None:
    async with batch() as (app, _, pilot):
        await pilot.press("slash", *"state:failed", "enter")
        await until(lambda: shown(app, 3) == ["w4", "w1"])
        await shows(app, "› w4")
        await pilot.press("escape")
        await until(lambda: shown(app, 3) == ["w2", "w6", "w7"])
        await shows(app, "rows stay")
