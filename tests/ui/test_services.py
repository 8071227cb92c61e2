"""Services on the screen: which are up, which flap, and why they crashed."""

from __future__ import annotations

from asyncwatch.cli.progress import progress_line
from asyncwatch.model.fleet import Fleet
from asyncwatch.ui.render.services import state_style
from asyncwatch.ui.render.spans import Line
from asyncwatch.ui.render.tree import branch_line
from tests.ui.fakes import FakeController, dashboard_of, hides, make_app, shows
from tests.ui.trees import loop_run


def looping() -> Fleet:
    """Return the fleet of `loop_run`."""
    controller = FakeController()
    loop_run(controller)
    return dashboard_of(controller).fleet


def styles(line: Line) -> dict[str, str]:
    """Return the styles of a line, by text."""
    return {span.text.strip(): span.style for span in line}


async def test_service_in_a_loop_is_flapping_wherever_it_is_counted() -> None:
    controller = FakeController()
    loop_run(controller)
    app = make_app(controller)
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, "1 of 2 up, 1 flapping · 4 restarts", "≈ 1 flapping  ● 2 running")
        await shows(app, "flapping: 4 restarts in the last minute · OSError: the queue is gone")
        await pilot.press("f")
        await shows(app, "trouble only", "mail")
        await hides(app, "  web ")
        await pilot.press("e")
        await shows(app, "4 crashes, the last at ", "OSError: the queue is gone")


def test_service_that_flaps_is_never_green() -> None:
    fleet = looping()
    assert state_style(fleet, fleet.by_name["mail"], 10.0) == "warning"
    assert state_style(fleet, fleet.by_name["web"], 10.0) == state_style(fleet, fleet.by_name["mail"], 700.0) == ""
    root = fleet.tree.branches["root"]
    gauge = fleet.tree.gauge(root, 10.0)
    lines = [
        styles(branch_line(root, gauge, 100, is_folded=False, is_selected=False, flapping=flapping))
        for flapping in (1, 2)
    ]
    assert [line["● 2 running"] for line in lines] == ["running", "warning"]


def test_progress_without_a_dashboard_counts_flapping_services() -> None:
    assert "1/2 up, 1 flapping  4 restarts" in progress_line(looping(), 10.0)
    assert "2/2 up  4 restarts" in progress_line(looping(), 700.0)
