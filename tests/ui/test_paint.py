"""What is painted: as few lines as changed, in as few pieces as their colours take."""

from __future__ import annotations

import weakref

from textual.geometry import Region

from asyncwatch.ui.render.spans import Span
from asyncwatch.ui.render.styles import Paint
from asyncwatch.ui.widgets.fleet_table import FleetTable
from tests.ui.fakes import FakeController, make_app, shows


async def test_a_whole_repaint_renders_no_line_anew() -> None:
    """When something else than the run asks for all lines, those that look as they did are the ones that were kept."""
    controller = FakeController()
    controller.start(*(str(number) for number in range(50)))
    controller.attempt("3", 1.0)
    app = make_app(controller)
    async with app.run_test(size=(100, 20)):
        await shows(app, "3       ● running")
        table = app.screen.query_one(FleetTable)
        first = table.render_lines(table.size.region)
        before = app.scene.meter.lines
        table.refresh()
        again = table.render_lines(table.size.region)
        assert app.scene.meter.lines == before
        assert all(one is other for one, other in zip(first, again, strict=True))


async def test_a_part_of_a_line_is_what_the_whole_has_there() -> None:
    """Where something covers the fleet, only what is beside it is asked for."""
    controller = FakeController()
    controller.start(*(f"worker-{number}" for number in range(50)))
    app = make_app(controller)
    async with app.run_test(size=(100, 20)):
        await shows(app, "worker-3")
        table = app.screen.query_one(FleetTable)
        whole = table.render_lines(table.size.region)
        part = table.render_lines(Region(2, 1, 20, 3))
        assert [strip.text for strip in part] == [strip.text[2:22] for strip in whole[1:4]]


async def test_blanks_take_the_style_beside_them() -> None:
    """A gap between two columns is no piece of its own, unless it would look different."""
    controller = FakeController()
    app = make_app(controller)
    async with app.run_test():
        paint = Paint(app.screen.query_one(FleetTable))
        strip = paint.strip([Span("a", "error"), Span("  "), Span("b", "muted"), Span(" ", "notice"), Span("c")], 10)
        assert [segment.text for segment in strip] == ["a  ", "b", " ", "c    "]
        assert strip.cell_length == 10
        assert [segment.text for segment in paint.strip([Span("a")], 3, "cursor", left=1, right=1)] == [" ", "a  ", " "]


async def test_a_painted_line_needs_no_collector() -> None:
    """A line that was drawn is gone with the last reference to it, whether it was cut or not."""
    controller = FakeController()
    app = make_app(controller)
    async with app.run_test():
        paint = Paint(app.screen.query_one(FleetTable))
        for cuts in ([10], [4, 10]):
            strip = paint.strip([Span("abcdef", "error")], 10)
            assert "".join(part.text for part in strip.divide(cuts)) == "abcdef    "
            strip.render(app.console)
            gone = weakref.ref(strip)
            del strip
            assert gone() is None
