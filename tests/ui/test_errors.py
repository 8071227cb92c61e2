"""The screen of the errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from asyncwatch.commands import CancelWorker, RestartWorker
from asyncwatch.events import AttemptFailed
from tests.ui.fakes import FakeController, hides, make_app, shows, until
from tests.ui.running import Running


def troubled_run(controller: FakeController) -> None:
    """Tell of three workers that failed alike and one that failed otherwise."""
    controller.start("a", "b", "c", "d")
    for name, text in (("a", "row 7"), ("b", "row 8"), ("c", "row 9"), ("d", "column 1")):
        controller.attempt(name, 0.1)
        controller.emit(
            AttemptFailed,
            0.5,
            worker=name,
            incarnation=1,
            attempt=1,
            error_type="ValueError",
            error=text,
            transient=False,
            injected=False,
            elapsed=0.1,
            stack='  File "/srv/jobs.py", line 3, in load\n    raise ValueError\n',
            error_class="permanent",
        )
        if name != "c":
            controller.break_down(name, 0.6, "ValueError", text)


@asynccontextmanager
async def errors_open() -> AsyncIterator[Running]:
    """Run the dashboard over errors of two kinds, with the errors screen open."""
    controller = FakeController()
    troubled_run(controller)
    app = make_app(controller)
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await shows(app, "3 failed")
        await pilot.press("e")
        await shows(
            app, "errors  4 workers in 2 groups", "3  ValueError: row …", "/srv/jobs.py:3 load", "a: ValueError: row 7"
        )
        yield app, controller, pilot


@pytest.fixture(params=["few", "many"])
def _size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take four workers for a few, or for so many that they are not gone through at once."""
    if request.param == "many":
        monkeypatch.setattr("asyncwatch.model.view.groups.STEP", 1)
        monkeypatch.setattr("asyncwatch.slices.SLICE", -1.0)
        monkeypatch.setattr("asyncwatch.ui.actions.AT_ONCE", 0)


@pytest.mark.usefixtures("_size")
async def test_errors_restart_and_cancel_act_on_one_kind() -> None:
    async with errors_open() as (app, controller, pilot):
        await pilot.press("r")
        await shows(app, "Restart 3 workers with this error?")
        await pilot.press("r")
        await until(lambda: len(controller.sent) == 3)
        await pilot.press("c")
        await shows(app, "Cancel 1 worker with this error?")
        await pilot.press("y")
        await until(lambda: len(controller.sent) == 4)
        assert controller.sent == [*(RestartWorker(name, 1) for name in "abc"), CancelWorker("c", 1)]
        await pilot.press("j", "c")
        await shows(app, "All of them have ended.")


async def test_errors_enter_filters_the_fleet() -> None:
    async with errors_open() as (app, _, pilot):
        await pilot.press("j", "enter")
        await shows(app, "errors like ValueError: column … · 1 of 4")
        assert [row.name for row in app.dashboard.view.order()] == ["d"]
        await pilot.press("escape")
        await hides(app, "errors like")
        assert len(app.dashboard.view.order()) == 4


async def test_errors_copy_puts_traceback_on_clipboard() -> None:
    async with errors_open() as (app, _, pilot):
        await pilot.press("y")
        await until(lambda: app.clipboard)
        assert app.clipboard.endswith("in load\n    raise ValueError\nValueError: row 7\n")
        await shows(app, "Copied the traceback of a.")


async def test_errors_none_says_so_and_ignores_keys() -> None:
    controller = FakeController()
    controller.start("a")
    app = make_app(controller)
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, "› a")
        await pilot.press("e")
        await shows(app, "No worker has an error.")
        await pilot.press("r", "c", "y", "enter", "f", "r")
        await shows(app, "No worker has an error.")
        await pilot.press("escape")
        await shows(app, "WORKER")
        assert controller.sent == []
