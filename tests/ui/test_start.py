"""The fleet is shown before the run begins, and commands wait for it."""

from __future__ import annotations

import asyncio
import operator
from collections import Counter
from typing import Any

import msgspec
import pytest
from textual.css.stylesheet import Stylesheet
from textual.dom import DOMNode

from asyncwatch.commands import CancelWorker, Update
from asyncwatch.events import AttemptStarted, Batch, RunFinished, RunStarted, WorkersQueued
from asyncwatch.ui.app import AsyncwatchApp
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.render.styles import STYLE_CLASSES
from asyncwatch.ui.screens.details import DetailsScreen
from asyncwatch.ui.widgets.fleet_table import FleetTable
from tests.ui.fakes import FakeController, hides, make_app, shows, text_of, until

NAMES = ("ada", "bob", "cid")
MANY = tuple(f"n{number}" for number in range(30))
GROUPS = 600


def beginning(*names: str, run: str = "demo", started_at: float = 0.0) -> tuple[RunStarted, WorkersQueued]:
    """Return how a run of these workers begins."""
    started = RunStarted(0, 0.0, run, len(names), "gather", 7, 100, None, started_at)
    return (started, WorkersQueued(1, 0.0, "fetch", 3, names))


def beginning_in_groups(groups: int, *, others: str = "") -> Batch:
    """Return how a run of so many groups of one worker each begins; the last worker may have another name."""
    names = [f"w{number}" for number in range(groups - 1)] + [others or f"w{groups - 1}"]
    started = RunStarted(0, 0.0, "demo", groups, "gather", 7, 100, None, 0.0)
    return (started, *[WorkersQueued(seq, 0.0, f"g{seq}", 3, (name,)) for seq, name in enumerate(names, start=1)])


def put(controller: FakeController, *batches: Batch) -> None:
    """Let the controller pass on these batches."""
    assert controller.queue is not None
    for batch in batches:
        controller.queue.put_nowait(batch)


async def test_foreseen_fleet_is_shown_and_commands_wait() -> None:
    controller = FakeController()
    app = make_app(controller, foreseen=beginning(*NAMES))
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, *NAMES, "queued")
        await until(lambda: controller.queue is not None)
        await pilot.press("j", "c")
        await until(lambda: app._commands.is_waiting)
        assert controller.sent == []
        controller.queue = controller.queue or asyncio.Queue()
        controller.queue.put_nowait(beginning(*NAMES))
        await until(lambda: controller.sent)
        assert controller.sent == [CancelWorker("bob", 1)]
        assert not app.dashboard.is_foreseen
        assert len(app.dashboard.fleet.rows) == len(NAMES)


async def test_run_begins_after_the_first_frame() -> None:
    frames: list[bool] = []
    controller = FakeController()

    class Watched(FakeController):
        def events(self) -> asyncio.Queue[Update]:
            frames.append(app._is_drawing)
            return controller.events()

    app = make_app(Watched(), foreseen=beginning(*NAMES))
    async with app.run_test(size=(120, 30)):
        await until(lambda: frames)
        assert frames == [False]
        assert app.dashboard.frame_statistics.frames == 1


async def test_first_frame_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[str] = []
    paints: Counter[str] = Counter()
    display, apply = AsyncwatchApp._display, Stylesheet.apply

    def note_display(app: AsyncwatchApp, screen: Any, renderable: Any) -> None:
        display(app, screen, renderable)
        if renderable is not None:
            frames.append(text_of(app))

    def note_apply(stylesheet: Stylesheet, node: DOMNode, **options: Any) -> None:
        paints.update(node.classes & STYLE_CLASSES)
        apply(stylesheet, node, **options)

    monkeypatch.setattr(AsyncwatchApp, "_display", note_display)
    monkeypatch.setattr(Stylesheet, "apply", note_apply)
    app = make_app(FakeController(), foreseen=beginning(*NAMES))
    async with app.run_test(size=(120, 30)):
        await until(lambda: len(frames) > 1)
        for text in ("asyncwatch", f"{len(NAMES)} queued", f"› {NAMES[0]} ", "c cancel"):
            assert text in frames[0]
        assert frames[0].splitlines()[4:] == frames[-1].splitlines()[4:]
        assert set(paints) == STYLE_CLASSES
        assert max(paints.values()) <= 3


def test_foreseen_events_that_come_keep_the_fleet() -> None:
    dashboard = DashboardState()
    dashboard.foresee(beginning(*NAMES))
    rows, view = list(dashboard.fleet.rows), dashboard.view
    dashboard.receive(beginning(*NAMES, started_at=5.0))
    assert dashboard.view is view
    assert dashboard.fleet.rows == rows
    assert dashboard.fleet.run == beginning(*NAMES, started_at=5.0)[0]


def test_foreseen_events_that_do_not_come_are_dropped() -> None:
    dashboard = DashboardState()
    dashboard.foresee(beginning(*NAMES))
    dashboard.receive(beginning("dan"))
    assert [row.name for row in dashboard.fleet.rows] == ["dan"]
    dashboard = DashboardState()
    dashboard.foresee(beginning(*NAMES))
    dashboard.receive((RunFinished(0, 0.0, {}, 0, 0.0, interrupted=True),))
    assert dashboard.fleet.rows == []
    assert dashboard.fleet.finished is not None


@pytest.mark.parametrize("keys", [("G",), ("space", "j", "space"), ("space", "s", "j"), ("G", "enter", "l")])
async def test_run_not_as_foreseen_is_shown_anew(keys: tuple[str, ...]) -> None:
    controller = FakeController()
    app = make_app(controller, foreseen=beginning(*MANY))
    async with app.run_test(size=(100, 30)) as pilot:
        await shows(app, "n0")
        await until(lambda: controller.queue is not None)
        await pilot.press(*keys)
        put(controller, beginning("dan", "eve"))
        await until(lambda: len(app.dashboard.fleet.rows) == 2)
        if keys[-1] == "l":
            await pilot.press("escape")
        await shows(app, "dan", "eve")
        await hides(app, "n1")
        await pilot.press("G", "c")
        await until(lambda: controller.sent)
        assert controller.sent == [CancelWorker("eve", 1)]
        assert not app.dashboard.view.marks


@pytest.mark.parametrize("is_opened", [False, True])
async def test_run_not_as_foreseen_keeps_cursor_by_name(*, is_opened: bool) -> None:
    controller = FakeController()
    app = make_app(controller, foreseen=beginning(*MANY))
    started, first = beginning("dan", "eve")
    async with app.run_test(size=(100, 30)) as pilot:
        await shows(app, "n0")
        await until(lambda: controller.queue is not None)
        table = app.screen.focused
        assert isinstance(table, FleetTable)
        await pilot.press("S", "g")
        if is_opened:
            await pilot.press("enter")
            await until(lambda: isinstance(app.screen, DetailsScreen))
        put(controller, (msgspec.structs.replace(started, workers=3), first))
        await until(lambda: table.selected is app.dashboard.fleet.get("eve"))
        put(controller, (WorkersQueued(2, 0.0, "more", 3, ("n29",)),))
        await until(lambda: table.selected and table.selected is app.dashboard.fleet.get("n29"))
        assert app.dashboard.view.reverse
        if is_opened:
            assert isinstance(app.screen, DetailsScreen)
            await pilot.press("escape")
        await pilot.press("c")
        await until(lambda: controller.sent)
        assert controller.sent == [CancelWorker("n29", 1)]


async def test_frozen_foreseen_fleet_stays_until_unfrozen() -> None:
    controller = FakeController()
    app = make_app(controller, foreseen=beginning(*MANY))
    async with app.run_test(size=(100, 30)) as pilot:
        await shows(app, "n0")
        await until(lambda: controller.queue is not None)
        await pilot.press("p", "space")
        put(controller, beginning("dan", "eve"))
        await until(lambda: app.dashboard.frozen_events)
        assert not app.dashboard.is_foreseen
        assert set(app.dashboard.view.marks) == {"n0"}
        await pilot.press("p")
        await shows(app, "dan", "eve")
        await hides(app, "n1")


async def test_foreseen_events_in_many_batches_keep_the_fleet() -> None:
    controller = FakeController()
    events = beginning_in_groups(GROUPS)
    app = make_app(controller, foreseen=events)
    async with app.run_test(size=(100, 30)) as pilot:
        await shows(app, "w0")
        await until(lambda: controller.queue is not None)
        await pilot.press("space", "G")
        rows, marks, selected = (
            list(app.dashboard.fleet.rows),
            set(app.dashboard.view.marks),
            app.screen_stack[0].focused,
        )
        assert isinstance(selected, FleetTable)
        assert selected.selected is rows[-1]
        last = (AttemptStarted(GROUPS + 1, 0.1, "w0", 1, 1, 0.5),)
        put(controller, events[:512], events[512:], last)
        await until(lambda: app.dashboard.fleet.attempts)
        assert all(map(operator.is_, rows, app.dashboard.fleet.rows))
        assert set(app.dashboard.view.marks) == marks == {"w0"}
        assert selected.selected is rows[-1]


def test_foreseen_late_difference_keeps_actual_workers() -> None:
    dashboard = DashboardState()
    dashboard.foresee(beginning_in_groups(4))
    for event in beginning_in_groups(4, others="dan"):
        dashboard.receive((event,))
    assert [row.name for row in dashboard.fleet.rows] == ["w0", "w1", "w2", "dan"]
    assert dashboard.fleet.run is not None
