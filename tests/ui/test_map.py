"""The map: by itself when there is room, and its keys and clicks."""

from __future__ import annotations

import pytest

from asyncwatch.ui.app import AsyncwatchApp
from asyncwatch.ui.screens.fleet import FleetScreen
from tests.ui.fakes import FakeController, hides, make_app, shows, text_of, until
from tests.ui.running import running, selected, table_of


def batch(controller: FakeController, workers: int = 100) -> None:
    """Emit a batch in which two workers failed."""
    controller.start(*(f"w{number}" for number in range(workers)))
    for number in range(30):
        controller.attempt(f"w{number}", 0.1)
    for number in range(20):
        controller.succeed(f"w{number}", 0.5)
    controller.break_down("w22", 0.6)
    controller.break_down("w25", 0.6)


def draw(app: AsyncwatchApp) -> None:
    """Draw the map as it is now, however short ago it was drawn."""
    screen = app.screen_stack[0]
    assert isinstance(screen, FleetScreen)
    screen.map._drawn_at = float("-inf")
    app.draw()


async def test_map_is_shown_by_itself_when_there_is_room_and_need() -> None:
    async with running(emit=batch, size=(70, 40)) as (app, controller, _):
        await shows(app, "MAP  a cell: a worker", 20 * "✓" + "●●✗●●✗●●●●····")
        controller.break_down("w29", 0.7)
        await until(lambda: app.dashboard.fleet.latest == 0.7)
        draw(app)
        await shows(app, "✗●●●✗····")


@pytest.mark.parametrize(("workers", "height"), [(100, 24), (20, 40)])
async def test_map_is_not_shown_without_room_or_need(workers: int, height: int) -> None:
    async with running(emit=lambda controller: batch(controller, max(workers, 30)), size=(70, height)) as (
        app,
        _,
        pilot,
    ):
        await pilot.pause()
        assert "MAP" not in text_of(app)


async def test_map_of_many_shows_buckets_and_selects_the_worst_worker() -> None:
    async with running(emit=lambda controller: batch(controller, 500), size=(60, 24)) as (app, _, pilot):
        await pilot.press("m")
        await shows(app, "a cell: 5 workers, worst state · arrows select", "✓✓✓✓✗✗····")
        await pilot.press("right", "right", "right", "right")
        await until(lambda: selected(app) == "w22")
        await shows(app, "› w22")
        await pilot.press("down")
        await until(lambda: selected(app) == "w310")
        await pilot.press("k", "j", "up", "left", "right", "enter")
        await shows(app, "worker w22")


async def test_map_closes_and_gives_the_focus_back() -> None:
    async with running(emit=batch, size=(70, 24)) as (app, _, pilot):
        await pilot.press("m")
        await shows(app, "MAP", "arrows select · enter")
        await pilot.press("escape", "j")
        await until(lambda: selected(app) == "w1")
        await shows(app, "MAP")
        await pilot.press("m", "m")
        await hides(app, "MAP")
        await pilot.press("j")
        assert selected(app) == "w2"


async def test_map_click_selects() -> None:
    async with running(emit=batch, size=(70, 40)) as (app, _, pilot):
        await shows(app, "MAP")
        await pilot.click("#map", offset=(23, 1))
        await until(lambda: selected(app) == "w22")
        assert table_of(app).selected is not None


@pytest.mark.usefixtures("live")
async def test_map_selects_in_live_order_and_holds_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncwatch.model.view.selection.AT_ONCE", 50)
    controller = FakeController()
    batch(controller, 3_000)
    app = make_app(controller)
    async with app.run_test(size=(100, 40)) as pilot:
        await shows(app, "MAP")
        assert table_of(app).selected_line is None
        await pilot.press("m", "down", "down")
        await until(lambda: table_of(app).selected is not None)
        await shows(app, "rows stay", f"› {selected(app)} ")
