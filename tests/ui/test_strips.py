"""Strips are rendered only for changed lines, in as few segments as their styles need."""

from __future__ import annotations

import weakref

from textual.geometry import Region

from asyncwatch.ui.render.spans import Span
from asyncwatch.ui.render.styles import StripMaker
from asyncwatch.ui.widgets.fleet_table import FleetTable
from tests.ui.fakes import FakeController, make_app, shows


async def test_render_lines_full_repaint_reuses_strips() -> None:
    controller = FakeController()
    controller.start(*(str(number) for number in range(50)))
    controller.attempt("3", 1.0)
    app = make_app(controller)
    async with app.run_test(size=(100, 20)):
        await shows(app, "3       ● running")
        table = app.screen.query_one(FleetTable)
        first = table.render_lines(table.size.region)
        before = app.dashboard.frame_statistics.lines
        table.refresh()
        again = table.render_lines(table.size.region)
        assert app.dashboard.frame_statistics.lines == before
        assert all(one is other for one, other in zip(first, again, strict=True))


async def test_render_lines_crop_equals_part_of_whole() -> None:
    controller = FakeController()
    controller.start(*(f"worker-{number}" for number in range(50)))
    app = make_app(controller)
    async with app.run_test(size=(100, 20)):
        await shows(app, "worker-3")
        table = app.screen.query_one(FleetTable)
        whole = table.render_lines(table.size.region)
        part = table.render_lines(Region(2, 1, 20, 3))
        assert [strip.text for strip in part] == [strip.text[2:22] for strip in whole[1:4]]


async def test_strip_blanks_take_the_style_beside_them() -> None:
    controller = FakeController()
    app = make_app(controller)
    async with app.run_test():
        paint = StripMaker(app.screen.query_one(FleetTable))
        strip = paint.strip([Span("a", "error"), Span("  "), Span("b", "muted"), Span(" ", "notice"), Span("c")], 10)
        assert [segment.text for segment in strip] == ["a  ", "b", " ", "c    "]
        assert strip.cell_length == 10
        assert [segment.text for segment in paint.strip([Span("a")], 3, "cursor", left=1, right=1)] == [" ", "a  ", " "]


async def test_strip_is_freed_without_collector() -> None:
    controller = FakeController()
    app = make_app(controller)
    async with app.run_test():
        paint = StripMaker(app.screen.query_one(FleetTable))
        for cuts in ([10], [4, 10]):
            strip = paint.strip([Span("abcdef", "error")], 10)
            assert "".join(part.text for part in strip.divide(cuts)) == "abcdef    "
            strip.render(app.console)
            gone = weakref.ref(strip)
            del strip
            assert gone() is None
