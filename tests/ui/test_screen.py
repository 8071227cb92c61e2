"""The screen with hostile names, many workers, a resize, a theme and no colour."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len
from textual.geometry import Region

from asyncwatch.events import RunStarted, WorkersQueued, WorkerSucceeded
from asyncwatch.ui.app import AsyncwatchApp
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.render.styles import STYLE_CLASSES
from asyncwatch.ui.screens.fleet import FleetScreen
from asyncwatch.ui.widgets.fleet_table import FleetTable
from tests.ui.fakes import FakeController, make_app, shows, small_run, text_of, until

HOSTILE = (
    "日本語のとても長い名前のワーカー",
    "👩\u200d👩\u200d👧 family \ufe0f🎉🎉🎉🎉🎉🎉🎉🎉",
    "\x1b[31mred\x1b[0m",
    "two\nlines\tand a tab",
    "\u202ereversed",
    "[bold]markup[/bold] [/]",
    "\ud800surrogate",
    "e\u0301\u0301\u0302combined",
    "https://user:secret@example.com/",
    "",
)


def _table(app: AsyncwatchApp) -> FleetTable:
    screen = app.screen_stack[0]
    assert isinstance(screen, FleetScreen)
    return screen.table


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (200, 60), (44, 12)])
async def test_hostile_texts_keep_every_line_intact(size: tuple[int, int]) -> None:
    controller = FakeController()
    controller.start(*HOSTILE)
    for number, name in enumerate(HOSTILE):
        controller.attempt(name, 0.1, luck=0.95)
        controller.log(name, 0.2, name * 3)
        if number % 2:
            controller.break_down(name, 0.3, text=name * 5)
        else:
            controller.succeed(name, 0.3, result=name)
    app = make_app(controller)
    async with app.run_test(size=size) as pilot:
        await shows(app, "finished")
        for keys in ([], ["l"], ["escape", "j", "enter"], ["right"]):
            await pilot.press(*keys)
            await pilot.pause()
            text = text_of(app)
            assert text.replace("\n", "").isprintable()
            assert "secret" not in text
            assert {strip.cell_length for strip in app.screen._compositor.render_strips()} == {size[0]}
            assert all(cell_len(line) <= size[0] for line in text.splitlines())


async def test_resize_keeps_the_cursor_visible() -> None:
    controller = FakeController()
    controller.start(*(str(number) for number in range(100)))
    app = make_app(controller)
    async with app.run_test(size=(120, 40)) as pilot:
        await shows(app, "› 0")
        await pilot.press(*"j" * 30)
        await shows(app, "› 30", "BAD LUCK")
        await pilot.resize_terminal(80, 24)
        await shows(app, "› 30", " LUCK", "q quit")


async def test_table_renders_only_visible_lines() -> None:
    controller = FakeController()
    controller.start(*(str(number) for number in range(100_000)))
    app = make_app(controller)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(app, "› 0", "0 of 100,000 done")
        await pilot.press("G")
        await shows(app, "› 99999")
        assert len(_table(app)._strips) < 100


async def test_table_change_off_screen_repaints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = FakeController()
    controller.start(*(str(number) for number in range(1000)))
    app = make_app(controller)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(app, "› 0")
        await pilot.pause()
        drawn: list[int] = []
        line_strip = FleetTable._line_strip

        def counting(table: FleetTable, key: tuple[object, ...], y: int, line: Any) -> object:
            drawn.append(y)
            return line_strip(table, key, y, line)

        monkeypatch.setattr(FleetTable, "_line_strip", counting)
        controller.attempt("900", 1.0)
        await shows(app, "1 running")
        assert drawn == []
        controller.attempt("3", 1.1)
        await shows(app, "3      ● running")
        assert set(drawn) == {4}


async def test_table_row_rendered_but_not_written_is_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = FakeController()
    controller.start(*"abc")
    app = make_app(controller)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(app, "› a")
        await pilot.pause()
        table = _table(app)
        table.draw()
        app.receive([WorkerSucceeded(9, 1.0, "b", 1, 1, 0.2)])
        compositor = app.screen._compositor
        compositor._dirty_regions = {Region(0, 0, 80, 1), Region(0, 23, 80, 1)}
        compositor.render_partial_update()
        asked: list[Region] = []
        monkeypatch.setattr(table, "refresh", lambda *regions: asked.extend(regions))
        table.draw()
        assert [region.y for region in asked] == [2]
        table.draw()
        assert len(asked) == 1


@pytest.mark.parametrize("width", [80, 100, 120])
async def test_table_urls_and_statuses_are_readable(width: int) -> None:
    controller = FakeController()
    names = [f"http://127.0.0.1:8081/{page}" for page in ("drip", "ok", "404")]
    controller.start(*names)
    controller.succeed(names[1], 0.3)
    app = make_app(controller)
    async with app.run_test(size=(width, 24)):
        await shows(app, "› 127.0.0.1:8081/drip ", "127.0.0.1:8081/ok ")
        text = "404, message='Not Found', url='http://127.0.0.1:8081/404'"
        controller.break_down(names[2], 0.4, error="ClientResponseError", text=text)
        await shows(app, " 404 Not Found", "› 127.0.0.1:8081/drip ")


async def test_table_different_schemes_are_shown() -> None:
    controller = FakeController()
    controller.start("http://a.example/", "https://a.example/")
    app = make_app(controller)
    async with app.run_test(size=(80, 24)):
        await shows(app, "› http://a.example/ ", "  https://a.example/ ")


async def test_table_new_order_keeps_the_selection() -> None:
    controller = FakeController()
    controller.start(*(str(number) for number in range(100)))
    app = make_app(controller)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(app, "› 0")
        await pilot.press("j", "j")
        app.dashboard.view.sort = "luck"
        controller.attempt("99", 1.0, luck=0.01)
        await until(lambda: app.dashboard.fleet.attempts == 1)
        app.dashboard.view.resort()
        _table(app).draw()
        await shows(app, "99     ● running")
        selected = _table(app).selected
        assert selected is not None
        assert selected.name == "2"
        assert _table(app).scroll_y == 0


async def test_every_style_has_a_rule() -> None:
    app = make_app(FakeController())
    async with app.run_test():
        table = _table(app)
        for paint in STYLE_CLASSES:
            table.get_component_styles(paint)


def test_close_folds_frozen_batches_and_notes_the_time() -> None:
    times = iter([100.0, 100.5, 107.0])
    dashboard = DashboardState(lambda: next(times))
    dashboard.receive([RunStarted(0, 0.0, "demo", 1, "gather", 7, 5, None, 0.0)])
    dashboard.freeze()
    dashboard._frozen_batches.append([WorkersQueued(1, 0.0, "", 1, ("a",))])
    fleet = dashboard.close()
    assert (fleet.end, len(fleet.rows)) == (7.0, 1)


async def test_keys_before_first_event_do_nothing() -> None:
    app = make_app(FakeController())
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(app, "starting…", "Waiting for the first worker…")
        await pilot.press("j", "c", "r", "space", "a", "enter", "s", "G", "f", "f")
        await shows(app, "starting…")


async def test_no_color_replaces_ansi_theme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TEXTUAL_THEME", "ansi-dark")
    controller = FakeController()
    small_run(controller)
    app = make_app(controller)
    async with app.run_test():
        assert app.no_color
        assert app.theme == "asyncwatch-dark"
        assert not any(theme.ansi for theme in app.available_themes.values())


async def test_run_finished_ends_the_app() -> None:
    controller = FakeController()
    small_run(controller)
    app = make_app(controller)
    async with app.run_test() as pilot:
        await shows(app, "running")
        await pilot.press("p")
        controller.succeed("6", 4.0)
        controller.finish(4.1)
        await until(lambda: not app.is_running)
    assert app.dashboard.fleet.finished is not None
    assert app.dashboard.frozen_events == 0
