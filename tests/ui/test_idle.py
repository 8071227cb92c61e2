"""A dashboard whose run does nothing draws only times that have changed, and nothing once all workers have settled."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from asyncwatch.events import RestartCounted, WorkerState
from asyncwatch.model.rows import Row
from asyncwatch.ui.app import AsyncwatchApp
from asyncwatch.ui.render.columns import SECOND, TENTH, Layout, cells, period
from asyncwatch.ui.screens.log import LogView
from asyncwatch.ui.widgets.fleet_table import FleetTable
from tests.rows import a_row
from tests.ui.fakes import FakeController, frozen_clock, hides, make_app, shows, text_of, until
from tests.ui.running import running
from tests.ui.trees import service_run, supervise


class _Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _elapsed(row: Row, now: float, *, is_service: bool) -> str:
    layout = Layout((("elapsed", 7), ("error", 0)), 1)
    shown = cells(row, now, layout, is_selected=False, is_marked=False, is_service=is_service)
    return "".join(span.text for span in shown).strip()


@pytest.mark.parametrize(
    ("seconds", "worker", "service"),
    [
        (0.04, "0.0 s", "0 s"),
        (9.94, "9.9 s", "10 s"),
        (9.96, "10 s", "10 s"),
        (59.4, "59 s", "59 s"),
        (59.6, "1m 00s", "1m 00s"),
        (75.2, "1m 15s", "1m 15s"),
    ],
)
def test_elapsed_of_running_worker_has_tenths_while_short(seconds: float, worker: str, service: str) -> None:
    row = a_row("w", state=WorkerState.RUNNING, first_started_at=5.0)
    assert _elapsed(row, 5.0 + seconds, is_service=False) == worker
    assert _elapsed(row, 5.0 + seconds, is_service=True) == service


def test_elapsed_of_settled_worker_is_precise() -> None:
    row = a_row("w", state=WorkerState.SUCCEEDED, first_started_at=5.0, ended_at=17.34)
    assert _elapsed(row, 99.0, is_service=True) == "12.3 s"


@pytest.mark.parametrize(
    ("values", "now", "expected"),
    [
        ({"state": WorkerState.SUCCEEDED, "first_started_at": 1.0, "ended_at": 2.0}, 3.0, None),
        ({"state": WorkerState.QUEUED}, 3.0, None),
        ({"state": WorkerState.RUNNING, "first_started_at": 1.0}, 3.0, TENTH),
        ({"state": WorkerState.RUNNING, "first_started_at": 1.0}, 11.0, SECOND),
        ({"state": WorkerState.BACKING_OFF, "first_started_at": 1.0, "retry_at": 30.0}, 12.0, SECOND),
        ({"state": WorkerState.BACKING_OFF, "first_started_at": 1.0, "retry_at": 30.0}, 21.0, TENTH),
        ({"state": WorkerState.BACKING_OFF, "first_started_at": 1.0, "retry_at": 30.0}, 31.0, SECOND),
        ({"state": WorkerState.WAITING, "first_started_at": 1.0, "held": "rate example.org"}, 31.0, SECOND),
    ],
)
def test_period_is_that_of_the_last_shown_digit(values: dict[str, Any], now: float, expected: float | None) -> None:
    assert period(a_row("w", **values), now, is_service=False) == expected


async def test_lines_of_services_are_rendered_once_a_second() -> None:
    controller, clock = FakeController(), _Clock()
    service_run(controller)
    app = AsyncwatchApp(controller, clock=clock, processor_clock=frozen_clock)
    async with app.run_test(size=(130, 20)) as pilot:
        await shows(app, "web   ● running", "(0 s)")
        clock.now += 20.0
        app.draw()
        await shows(app, "00:20 ")
        rendered = app.dashboard.frame_statistics
        for moved, lines in ((0.3, 0), (0.3, 0), (0.4, 2), (0.5, 0)):
            before = rendered.lines
            clock.now += moved
            app.draw()
            await until(lambda: app.dashboard.now == app.screen.query_one(FleetTable)._now)
            await pilot.pause()
            assert rendered.lines - before == lines
        await shows(app, "00:21 ", "(21 s)")


async def test_elapsed_is_exact_when_frozen() -> None:
    controller, clock = FakeController(), _Clock()
    controller.start("w")
    controller.attempt("w", 0.6)
    app = AsyncwatchApp(controller, clock=clock, processor_clock=frozen_clock)
    async with app.run_test(size=(120, 20)) as pilot:
        await shows(app, "w       ● running")
        clock.now += 11.45  # 12.05 s after the start
        app.draw()
        await shows(app, "00:12 ", "  11 s")
        clock.now += 0.4
        app.draw()
        await until(lambda: app.dashboard.now == app.screen.query_one(FleetTable)._now)
        await pilot.pause()
        assert "  11 s" in text_of(app)  # lines change once a second
        await pilot.press("p")
        await shows(app, "00:12.4", "  12 s")


async def test_countdown_of_supervisor_is_exact_when_all_have_settled() -> None:
    controller, clock = FakeController(), _Clock()
    controller.start("a/w", "b/w", runner="serve")
    for path in ("root", "root/a", "root/b"):
        supervise(controller, path)
    for path in ("a", "b"):
        controller.queue_more(f"{path}/w", group=f"root/{path}")
        controller.attempt(f"{path}/w", 0.1)
    limits = {"restarts": 1, "max_restarts": 3, "within": 30.0}
    controller.emit(RestartCounted, 5.2, supervisor="root/a", child="w", **limits)
    controller.succeed("a/w", 6.0)
    app = AsyncwatchApp(controller, clock=clock, processor_clock=frozen_clock)
    async with app.run_test(size=(120, 20)):
        await shows(app, "oldest expires in 29 s")
        clock.now += 6.05  # 12.05 s after the start
        app.draw()
        await shows(app, "oldest expires in 23 s")
        clock.now += 0.75
        controller.succeed("b/w", 12.8)
        await shows(app, "00:12.8", "oldest expires in 22 s")


@pytest.mark.usefixtures("timed")
async def test_next_draw_is_when_shown_times_change() -> None:
    controller, clock = FakeController(), _Clock()
    service_run(controller)
    app = AsyncwatchApp(controller, clock=clock, processor_clock=frozen_clock)

    def wait() -> float | None:
        """Return the seconds from this draw to the next one that needs no event."""
        app._draw_screens()
        return None if app._redraw is None else round(app._redraw.when() - asyncio.get_running_loop().time(), 1)

    async with app.run_test(size=(100, 20), notifications=True) as pilot:
        await shows(app, "web   ● running")
        clock.now += 20.2
        assert wait() == 0.7
        await pilot.press("l")
        assert wait() is None  # a log has no times that go on
        await pilot.press("escape", "q")
        await shows(app, "Quit and stop all active workers (")
        assert wait() == 0.7  # the services are visible behind the question
        await pilot.press("n", "p")
        assert wait() is None
        await pilot.press("p")
        assert wait() == 0.7
        for name in ("web", "mail"):
            controller.cancel(name, 21.0)
        await shows(app, "finished")
        assert wait() is None
        assert "00:21.0" in text_of(app)


@pytest.mark.usefixtures("timed")
async def test_block_warning_of_settled_run_ends() -> None:
    controller, clock = FakeController(), _Clock()
    controller.start("w")
    controller.attempt("w", 0.1)
    controller.blocked("w", 0.8, 0.6)
    controller.succeed("w", 0.9)
    app = AsyncwatchApp(controller, clock=clock, processor_clock=frozen_clock)
    async with app.run_test(size=(120, 20)):
        await shows(app, "✓ finished", "w blocked the event loop")
        assert app._redraw is not None
        clock.now += 9.0
        app._times_changed()  # as the timer does
        await until(lambda: app._redraw is not None)
        await shows(app, "w blocked the event loop")
        clock.now += 2.0
        app._times_changed()
        await hides(app, "w blocked the event loop")
        await until(lambda: app._redraw is None)


async def test_figures_at_rest_are_drawn_when_they_change() -> None:
    controller = FakeController()
    controller.start("w")
    controller.attempt("w", 0.1)
    controller.known = msgspec.structs.replace(controller.known, loop_lag=0.576)
    controller.retry_tokens = 120.0
    controller.succeed("w", 0.9)
    app = make_app(controller)
    async with app.run_test(size=(120, 20)):
        await shows(app, "✓ finished", "lag 576 ms", "120 of 500")
        controller.known = msgspec.structs.replace(controller.known, loop_lag=0.004)
        app._read_statistics()
        await hides(app, "lag")
        controller.retry_tokens = 130.0
        app._read_statistics()
        await shows(app, "130 of 500")


@pytest.mark.usefixtures("timed")
async def test_overhead_page_at_rest_is_drawn_every_second() -> None:
    controller, clock = FakeController(), _Clock()
    controller.start("w")
    controller.succeed("w", 0.9)
    app = AsyncwatchApp(controller, clock=clock, processor_clock=frozen_clock)
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, "✓ finished")
        assert app._redraw is None
        await pilot.press("d")
        await shows(app, "loop lag, last 10 s")
        assert app._redraw is not None
        await pilot.press("escape")
        await until(lambda: app._redraw is None)


async def test_cursor_that_moves_changes_the_keys_of_the_footer() -> None:
    async with running() as (app, _controller, pilot):
        await hides(app, "n retry now")
        await pilot.press("j", "j")
        await shows(app, "› 2", "n retry now")
        await pilot.press("j")
        await hides(app, "n retry now")


async def test_filter_drawn_before_it_has_the_focus_shows_input_and_count() -> None:
    async with running() as (app, _controller, pilot):
        app.screen.action_filter()  # type: ignore[attr-defined]  # the fleet's
        app._draw_screens()
        await shows(app, "/ text or state", "8 of 8")
        await pilot.press("escape")
        await hides(app, "8 of 8")


async def test_log_that_is_scrolled_by_any_key_shows_whether_it_follows() -> None:
    async with running() as (app, controller, pilot):
        for number in range(50):
            controller.log("0", 3.2, f"line {number}")
        await pilot.press("l")
        await until(lambda: app.screen.query_one(LogView).allow_vertical_scroll)
        await pilot.press("up")
        await shows(app, "line 48", "reading")
        await pilot.press("end")
        await shows(app, "line 49", "● following")


async def test_page_that_is_uncovered_is_drawn() -> None:
    async with running(size=(160, 30)) as (app, controller, pilot):
        await pilot.press("d", "l")
        await shows(app, "● following")
        controller.known = msgspec.structs.replace(controller.known, tasks_highest=17)
        app._read_statistics()
        await pilot.press("escape")
        await shows(app, "max 17")
