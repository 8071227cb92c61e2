"""What asyncwatch says of itself: the gauges in the header, the page behind `d`, blocks of the loop, live stacks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from textual.geometry import Region
from textual.pilot import Pilot

from asyncwatch.commands import StackFrame, WorkerStack
from asyncwatch.events import LogRecorded, LoopBlocked
from asyncwatch.ui.app import AsyncwatchApp
from asyncwatch.ui.display import Meter, Scene
from asyncwatch.ui.pump import Pump
from asyncwatch.ui.render.cost import block_line, cost_lines, gauges
from asyncwatch.ui.render.spans import Line, width_of
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
        await until(lambda: app.scene.fleet.events == len(controller.early))
        await shows(app, "› 0")
        yield app, controller, pilot


def test_events_a_second_and_on_the_way() -> None:
    """The rate is that of the last two seconds; what is emitted and not shown is on the way."""
    meter = Meter()
    assert meter.events_per_second == 0
    for second in range(10):
        meter.look(float(second), second * 100, max(0, second * 100 - 70))
    assert meter.events_per_second == 100
    meter.look(10.0, 900, 900)
    assert (meter.depth, meter.highest_depth) == (0, 70)


def test_lines_of_a_frame() -> None:
    """Each frame has the lines that were rendered since the one before."""
    meter = Meter()
    for lines in (20, 2, 5):
        for _ in range(lines):
            meter.render_line()
        meter.frame(0.001)
    assert (meter.frames, meter.lines, meter.most_lines) == (3, 27, 20)


@pytest.mark.parametrize("room", [10, 13, 20, 30, 50, 80])
def test_the_gauges_that_fit(room: int) -> None:
    """The lag is told in any case, the others where there is room for them."""
    scene = Scene(frozen_clock)
    line = gauges(scene, room)
    assert "lag" in text(line)
    assert width_of(line) <= room
    assert ("frame" in text(line)) == (room >= 50)


async def test_the_header_tells_its_own_cost() -> None:
    """Frame time, queue depth, events a second and the lag of the loop stand at the end of the third line."""
    async with running(size=(160, 30)) as (app, _controller, _pilot):
        await shows(app, "frame ", "queue 0", "events/s", "loop lag 0.4 ms")


async def test_a_busy_header_has_all_its_gauges(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal of 120 columns all four fit beside the speed also in a flood, after the loop was blocked."""
    monkeypatch.setattr(Meter, "events_per_second", 12_345.0)
    async with running(size=(120, 30)) as (app, controller, _pilot):
        monkeypatch.setattr(type(app.scene.fleet.rate), "per_second", lambda _rate, _now: 9_876.0)
        controller.known = msgspec.structs.replace(
            controller.known, events=app.scene.fleet.events + 9_999, loop_lag=0.123
        )
        app._read_statistics()
        controller.blocked("2", 3.2, 0.6)
        await shows(app, "9,876 attempts/s", "late", "frame ", "queue 9,999", "12,345 ev", "lag 123 ms")


async def test_a_queue_that_is_empty_is_told_when_nothing_happens_any_more() -> None:
    """The figures in the header follow also after the last event, whose picture was drawn before they were read."""
    async with running(size=(160, 30)) as (app, controller, _pilot):
        controller.known = msgspec.structs.replace(controller.known, events=app.scene.fleet.events + 768)
        app._read_statistics()
        await shows(app, "queue 768")
        for name in "24567":
            controller.cancel(name, 3.4)
        await shows(app, "finished")
        controller.known = msgspec.structs.replace(controller.known, events=app.scene.fleet.events)
        await shows(app, "queue 0")


async def test_the_figures_are_no_second_picture_while_events_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are drawn with the events; what these did not show is drawn when there are no more."""
    async with running(size=(160, 30)) as (app, controller, _pilot):
        drawn: list[bool] = []
        monkeypatch.setattr(app, "draw", lambda: drawn.append(app._pump.is_drawing))
        controller.known = msgspec.structs.replace(controller.known, events=app.scene.fleet.events + 768)
        for is_drawing in (True, False, False):
            monkeypatch.setattr(Pump, "is_drawing", is_drawing)
            app._read_statistics()
        assert drawn[:1] == [False]


async def test_the_page_of_its_own_cost() -> None:
    """`d` opens it from any screen, `d` or escape closes it."""
    async with running() as (app, controller, pilot):
        controller.known = msgspec.structs.replace(controller.known, tasks=3, tasks_highest=7, lag_highest=0.25)
        await pilot.press("d")
        await shows(app, "own cost", "frames drawn", "3, seen at most 7", "none, they never are", "250 ms")
        await shows(app, "none so far: nothing kept the event loop for 100 ms")
        controller.blocked("0", 3.3, 0.31)
        await shows(app, "1 in all", "jobs.py:12 fetch: time.sleep(9)")
        await pilot.press("d")
        await until(lambda: isinstance(app.screen, FleetScreen))
        await pilot.press("l", "d")
        await until(lambda: isinstance(app.screen, CostScreen))


async def test_the_block_that_goes_on_is_told() -> None:
    """The title names the worker while it blocks, and the page the place."""
    async with running(size=(160, 30)) as (app, controller, pilot):
        controller.block(3.2, "2")
        app._read_statistics()
        await shows(app, "event loop blocked for 3 s by 2 at jobs.py:12 fetch")
        await pilot.press("d")
        await shows(app, "now", "3.20 s  2 ")


@pytest.mark.parametrize("width", [80, 120])
async def test_a_block_that_is_over(width: int) -> None:
    """The header warns of it for a while, its row is marked, and times that were measured meanwhile are, too."""
    async with running(size=(width, 30)) as (app, controller, pilot):
        controller.blocked("2", 3.2, 0.6)
        await shows(app, "2 blocked the event loop for 0.60 s at jobs.py:12")
        await shows(app, "blocked the loop 600 ms" if width == 120 else "blocked 0.6s")
        await shows(app, "late")
        assert "~3.00 s" in text_of(app)
        controller.log(None, 14.0, "much later")
        await hides(app, "2 blocked the event loop")
        await shows(app, "blocked the loop 600 ms" if width == 120 else "blocked 0.6s")
        await pilot.press("j", "enter")
        await shows(app, "~ loop late 500 ms")


async def test_the_details_tell_of_blocks() -> None:
    """The worker that blocked has its blocks and the stack of the last on its page."""
    async with running() as (app, controller, pilot):
        controller.blocked("0", 0.3, 0.15)
        await pilot.press("enter")
        await shows(app, "BLOCKED THE EVENT LOOP", "150 ms  incarnation 1, attempt 1  jobs.py:12 fetch: time.sleep(9)")
        await shows(app, 'File "/srv/app/fetch.py", line 12, in fetch')


async def test_the_stack_of_the_worker_that_is_looked_at() -> None:
    """It is asked for when the page opens, follows to the neighbour, is shown as it changes, and asked for no more."""
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
        await shows(app, "it blocks the event loop, as seen from outside")
        await hides(app, "io.py:7")
        await pilot.press("right")
        await until(lambda: controller.watched == ["2", "3"])
        await hides(app, "WHERE IT IS")
        await pilot.press("escape")
        await until(lambda: controller.watched == ["2", "3", None])
        assert controller.sent == []


async def test_a_worker_that_has_ended_is_nowhere() -> None:
    """The stack goes with the news of the end, whatever the engine saw last."""
    async with running() as (app, controller, pilot):
        stack = WorkerStack("6", 1, 1, (StackFrame("/srv/app/jobs.py", 12, "fetch"),))
        controller.known = msgspec.structs.replace(controller.known, stack=stack)
        await pilot.press("G", "k", "enter")
        await shows(app, "WHERE IT IS  live")
        controller.succeed("6", 3.4)
        await hides(app, "WHERE IT IS")


async def test_a_stack_before_somebody_else_blocked() -> None:
    """The stack of one worker while another blocks the loop is told to be from before."""
    async with running() as (app, controller, pilot):
        stack = WorkerStack("6", 1, 1, (StackFrame("/srv/app/jobs.py", 12, "fetch"),))
        controller.known = msgspec.structs.replace(controller.known, stack=stack)
        controller.block(0.3, "1")
        await pilot.press("G", "k", "enter")
        await until(lambda: isinstance(app.screen, DetailsScreen))
        await shows(app, "WHERE IT IS  before 1 blocked the event loop")


async def test_a_frame_repaints_the_rows_that_changed_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of twelve visible workers one changes in each frame: one line is asked for, and one is rendered."""
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
            rendered = app.scene.meter.lines
            app._pump.hurry()
            controller.attempt(name, 4.0)
            await shows(app, f"{name}     ● running")
            await pilot.pause()
            assert [region and (region.y, region.height) for region in asked_for] == [(place, 1)]
            assert app.scene.meter.lines - rendered == 1
            asked_for.clear()


async def test_every_event_of_a_flood_is_taken_in() -> None:
    """Frames leave out pictures, not events."""
    async with running(size=(100, 20)) as (app, controller, _pilot):
        assert controller.queue is not None
        for start in range(0, 10_000, 100):
            controller.queue.put_nowait(
                [LogRecorded(1000 + start + number, 4.0, "0", "INFO", "app", "x") for number in range(100)]
            )
        await until(lambda: app.scene.fleet.logged >= 10_000)
        assert app.scene.meter.received == len(controller.early) + 10_000


def test_who_is_to_blame_reads_well() -> None:
    """A block without a worker says what kept the loop; figures of an unknown memory say so."""
    assert "another thread of the process" in text(block_line(LoopBlocked(1, 2.0, 1.8, 0.2, "interpreter"), 80))
    assert "many workers in turn" in text(block_line(LoopBlocked(1, 2.0, 1.8, 0.2, "many"), 80))
    page = [text(line) for line in cost_lines(Scene(frozen_clock), memory=None, threads=3, width=80)]
    assert any(line.startswith("memory") and line.endswith("unknown") for line in page)
