"""The dashboard over a fake controller: drawn, with the cursor on the first worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from textual.pilot import Pilot

from asyncwatch.ui.app import AsyncwatchApp, Ending
from asyncwatch.ui.screens.fleet import FleetScreen
from asyncwatch.ui.widgets.fleet_table import FleetTable
from tests.ui.fakes import FakeController, make_app, shows, small_run

Running = tuple[AsyncwatchApp, FakeController, Pilot[Ending]]


@asynccontextmanager
async def running(
    *, emit: Callable[[FakeController], None] = small_run, size: tuple[int, int] = (120, 30), **options: Any
) -> AsyncIterator[Running]:
    """Run the dashboard, with `options` of the app, over the events that `emit` makes the controller emit."""
    controller = FakeController()
    emit(controller)
    app = make_app(controller, **options)
    async with app.run_test(size=size, notifications=True) as pilot:
        await shows(app, "› ")
        await pilot.pause()
        yield app, controller, pilot


def table_of(app: AsyncwatchApp) -> FleetTable:
    """Return the table of the workers."""
    screen = app.screen_stack[0]
    assert isinstance(screen, FleetScreen)
    return screen.table


def selected(app: AsyncwatchApp) -> str:
    """Return the name of the worker under the cursor."""
    row = table_of(app).selected
    assert row is not None
    return row.name


def visible(app: AsyncwatchApp) -> list[str]:
    """Return the names of the workers that the filter shows, in order."""
    return [row.name for row in app.dashboard.view.order()]
