"""What the dashboard shows of its own cost, of blocks of the event loop, and of live stacks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from textual.geometry import Region
from textual.pilot import Pilot

from asyncwatch.commands import StackFrame, Statistics, WorkerStack
from asyncwatch.events import LogRecorded, LoopBlocked
from asyncwatch.ui.app import AsyncwatchApp
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.pump import Pump
from asyncwatch.ui.render.cost import block_line, cost_lines, gauges
from asyncwatch.ui.render.snapshot import FrameStatistics
from asyncwatch.ui.render.spans import Line
from asyncwatch.ui.screens.cost import CostScreen
from asyncwatch.ui.screens.details import DetailsScreen
from asyncwatch.ui.screens.fleet import FleetScreen
from asyncwatch.ui.widgets.fleet_table import FleetTable
from tests.ui.fakes import FakeController, frozen_clock, hides, make_app, shows, small_run, text_of, until


def text(line: Line) -> str:
    """Return what the line says."""
    return "".join(span.text for span in line)


@asynccontextmanager
async def running(
    size: tuple[int, int] = (120, 30),
) -> AsyncIterator[tuple[AsyncwatchApp, FakeController, Pilot[Any]]]:
    """Open the small run."""
    controller = FakeController()
    small_run(controller)
    app = make_app(controller)
    async with app.run_test(size=size) as pilot:
        await until(lambda: app.dashboard.fleet.events == len(controller.early))
        await shows(app, "› 0")
        yield app, controller, pilot


def test_frame_statistics_rate_and_backlog() -> None:
    frames = FrameStatistics()
    assert frames.events_per_second == 0
    for second in range(10):
        frames.sample(float(second), second * 100, max(0, second * 100 - 70))
    assert frames.events_per_second == 100
    frames.sample(10.0, 900, 900)
    assert (frames.backlog, frames.highest_backlog) == (0, 70)


def test_frame_statistics_count_lines_of_a_frame() -> None:
    frames = FrameStatistics()
    for lines in (20, 2, 5):
        for _ in range(lines):
            frames.add_line()
        frames.add_frame(0.001)
    assert (frames.frames, frames.lines, frames.most_lines) == (3, 27, 20)


def test_gauges_are_empty_while_asyncwatch_costs_little() -> None:
    dashboard = DashboardState(frozen_clock)
    for second in range(7):
        dashboard.frame_statistics.used(float(second), second * 0.04)
    assert gauges(dashboard.snapshot(), 80) == []


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (12, "lag 123 ms"),
        (40, "dashboard 30% of a core  lag 123 ms"),
        (80, "dashboard 30% of a core, 9 events behind  loop lag 123 ms"),
    ],
)
def test_gauges_show_a_late_loop_and_a_busy_dashboard(room: int, expected: str) -> None:
    dashboard = DashboardState(frozen_clock)
    dashboard.statistics = Statistics(events=9, loop_lag=0.123)
    dashboard.frame_statistics.sample(0.0, 9, 0)
    for second in range(7):
        dashboard.frame_statistics.used(float(second), second * 0.3)
    assert text(gauges(dashboard.snapshot(), room)) == expected


def test_load_is_unknown_during_the_first_seconds() -> None:
    frames = FrameStatistics()
    for second in range(5):
        frames.used(float(second), 5.0)
    assert frames.load == 0
    frames.used(5.0, 8.0)
    assert frames.load == 1


async def test_header_shows_what_is_late() -> None:
    async with running(size=(160, 30)) as (app, controller, _pilot):
        assert "lag" not in text_of(app)
        controller.known = msgspec.structs.replace(controller.known, loop_lag=0.25)
        app._read_statistics()
        await shows(app, "loop lag 250 ms")


async def test_statistics_during_drawing_cause_no_second_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(size=(160, 30)) as (app, controller, _pilot):
        drawn: list[bool] = []
        monkeypatch.setattr(app, "draw", lambda: drawn.append(app._pump.is_drawing))
        controller.known = msgspec.structs.replace(controller.known, events=app.dashboard.fleet.events + 768)
        for is_drawing in (True, False, False):
            monkeypatch.setattr(Pump, "is_drawing", is_drawing)
            app._read_statistics()
        assert drawn[:1] == [False]


async def test_overhead_page_opens_and_closes() -> None:
    async with running() as (app, controller, pilot):
        controller.known = msgspec.structs.replace(controller.known, tasks=3, tasks_highest=7, lag_highest=0.25)
        await pilot.press("d")
        await shows(app, "overhead", "frames drawn", "3, max 7", "skipped", "250 ms")
        await shows(app, "none: nothing has blocked the event loop for 100 ms")
        controller.blocked("0", 3.3, 0.31)
        await shows(app, "1 in all", "jobs.py:12 fetch: time.sleep(9)")
        await pilot.press("d")
        await until(lambda: isinstance(app.screen, FleetScreen))
        await pilot.press("l", "d")
        await until(lambda: isinstance(app.screen, CostScreen))


async def test_block_in_progress_is_shown() -> None:
    async with running(size=(160, 30)) as (app, controller, pilot):
        controller.block(3.2, "2")
        app._read_statistics()
        await shows(app, "event loop blocked for 3 s by 2 at jobs.py:12 fetch")
        await pilot.press("d")
        await shows(app, "now", "3.20 s  2 ")


@pytest.mark.parametrize("width", [80, 120])
async def test_block_that_is_over_is_shown_for_a_while(width: int) -> None:
    async with running(size=(width, 30)) as (app, controller, pilot):
        controller.blocked("2", 3.2, 0.6)
        await shows(app, "2 blocked the event loop for 0.60 s at jobs.py:12")
        await shows(app, "blocked the loop 600 ms" if width == 120 else "blocked 0.6s")
        await shows(app, "late")
        assert width == 80 or "~3.00 s" in text_of(app)
        controller.log(None, 14.0, "much later")
        await hides(app, "2 blocked the event loop")
        await shows(app, "blocked the loop 600 ms" if width == 120 else "blocked 0.6s")
        await pilot.press("j", "enter")
        await shows(app, "~ loop late 500 ms")


async def test_details_show_blocks_and_stack() -> None:
    async with running() as (app, controller, pilot):
        controller.blocked("0", 0.3, 0.15)
        await pilot.press("enter")
        await shows(app, "BLOCKED THE EVENT LOOP", "150 ms  incarnation 1, attempt 1  jobs.py:12 fetch: time.sleep(9)")
        await shows(app, 'File "/srv/app/fetch.py", line 12, in fetch')


async def test_details_request_and_show_the_live_stack() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("j", "j", "enter")
        await until(lambda: controller.watched == ["2"])
        frames = (StackFrame("/srv/app/jobs.py", 12, "fetch", "await read()"), StackFrame("/srv/app/io.py", 7, "read"))
        controller.known = msgspec.structs.replace(controller.known, stack=WorkerStack("2", 1, 1, frames))
        app._read_statistics()
        await shows(app, "WHERE IT IS  live", "jobs.py:12 fetch  await read()", "io.py:7 read")
        blocking = WorkerStack("2", 1, 1, frames[:1], is_blocking=True)
        controller.known = msgspec.structs.replace(controller.known, stack=blocking)
        app._read_statistics()
        await shows(app, "blocking the event loop, sampled from another thread")
        await hides(app, "io.py:7")
        await pilot.press("right")
        await until(lambda: controller.watched == ["2", "3"])
        await hides(app, "WHERE IT IS")
        await pilot.press("escape")
        await until(lambda: controller.watched == ["2", "3", None])
        assert controller.sent == []


async def test_details_ended_worker_has_no_live_stack() -> None:
    async with running() as (app, controller, pilot):
        stack = WorkerStack("6", 1, 1, (StackFrame("/srv/app/jobs.py", 12, "fetch"),))
        controller.known = msgspec.structs.replace(controller.known, stack=stack)
        await pilot.press("G", "k", "enter")
        await shows(app, "WHERE IT IS  live")
        controller.succeed("6", 3.4)
        await hides(app, "WHERE IT IS")


async def test_details_stack_during_other_block_says_so() -> None:
    async with running() as (app, controller, pilot):
        stack = WorkerStack("6", 1, 1, (StackFrame("/srv/app/jobs.py", 12, "fetch"),))
        controller.known = msgspec.structs.replace(controller.known, stack=stack)
        controller.block(0.3, "1")
        await pilot.press("G", "k", "enter")
        await until(lambda: isinstance(app.screen, DetailsScreen))
        await shows(app, "WHERE IT IS  before 1 blocked the event loop")


async def test_frame_repaints_only_changed_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = FakeController()
    names = [f"w{number:02}" for number in range(12)]
    controller.start(*names)
    controller.log(None, 4.0, "the moment of every frame")
    app = make_app(controller)
    async with app.run_test(size=(100, 20)) as pilot:
        await shows(app, "› w00", "w11")
        await pilot.pause()
        asked_for: list[Region | None] = []
        refresh = FleetTable.refresh

        def asking(table: FleetTable, *regions: Region, **options: Any) -> FleetTable:
            asked_for.extend(regions or [None])
            return refresh(table, *regions, **options)

        monkeypatch.setattr(FleetTable, "refresh", asking)
        for place, name in enumerate(names[:5], start=1):
            rendered = app.dashboard.frame_statistics.lines
            app._pump.hurry()
            controller.attempt(name, 4.0)
            await shows(app, f"{name}     ● running")
            await pilot.pause()
            assert [region and (region.y, region.height) for region in asked_for] == [(place, 1)]
            assert app.dashboard.frame_statistics.lines - rendered == 1
            asked_for.clear()


async def test_flood_loses_no_event() -> None:
    async with running(size=(100, 20)) as (app, controller, _pilot):
        assert controller.queue is not None
        for start in range(0, 10_000, 100):
            controller.queue.put_nowait(
                [LogRecorded(1000 + start + number, 4.0, "0", "INFO", "app", "x") for number in range(100)]
            )
        await until(lambda: app.dashboard.fleet.logged >= 10_000)
        assert app.dashboard.frame_statistics.received == len(controller.early) + 10_000


def test_block_line_without_worker_names_the_cause() -> None:
    assert "another thread of the process" in text(block_line(LoopBlocked(1, 2.0, 1.8, 0.2, "interpreter"), 80))
    assert "many workers in turn" in text(block_line(LoopBlocked(1, 2.0, 1.8, 0.2, "many"), 80))
    page = [
        text(line) for line in cost_lines(DashboardState(frozen_clock).snapshot(), memory=None, threads=3, width=80)
    ]
    assert any(line.startswith("memory") and line.endswith("unknown") for line in page)


@pytest.mark.parametrize(("skipped", "shown"), [(0, "none"), (12_345, "12,345; a snapshot took their place")])
def test_page_counts_the_events_that_a_snapshot_replaced(skipped: int, shown: str) -> None:
    dashboard = DashboardState(frozen_clock)
    dashboard.statistics = Statistics(skipped=skipped)
    page = [text(line) for line in cost_lines(dashboard.snapshot(), memory=1, threads=3, width=80)]
    assert [line.split(maxsplit=1)[1] for line in page if line.startswith("skipped")] == [shown]
