"""The fleet is on the screen before the run begins, and what is done to it until then is not lost."""

from __future__ import annotations

import asyncio
import operator
from collections import Counter
from typing import Any

import msgspec
import pytest
from textual.css.stylesheet import Stylesheet
from textual.dom import DOMNode

from asyncwatch.commands import CancelWorker
from asyncwatch.events import AttemptStarted, Batch, RunFinished, RunStarted, WorkersQueued
from asyncwatch.ui.app import AsyncwatchApp
from asyncwatch.ui.display import Scene
from asyncwatch.ui.render.styles import PAINTS
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


async def test_shows_the_fleet_before_the_run_begins() -> None:
    """The foreseen workers are there although no event has come; a request waits for the run, and is sent once."""
    controller = FakeController()
    app = make_app(controller, foreseen=beginning(*NAMES))
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, *NAMES, "queued")
        await until(lambda: controller.queue is not None)
        await pilot.press("j", "c")
        await until(lambda: app._early)
        assert controller.sent == []
        controller.queue = controller.queue or asyncio.Queue()
        controller.queue.put_nowait(beginning(*NAMES))
        await until(lambda: controller.sent)
        assert controller.sent == [CancelWorker("bob", 1)]
        assert not app.scene.is_foreseen
        assert len(app.scene.fleet.rows) == len(NAMES)


async def test_the_run_begins_once_it_is_drawn() -> None:
    """When the events are asked for, the foreseen fleet is on the screen."""
    pictures: list[bool] = []
    controller = FakeController()

    class Watched(FakeController):
        def events(self) -> asyncio.Queue[Batch]:
            pictures.append(app._is_drawing)
            return controller.events()

    app = make_app(Watched(), foreseen=beginning(*NAMES))
    async with app.run_test(size=(120, 30)):
        await until(lambda: pictures)
        assert pictures == [False]
        assert app.scene.meter.frames == 1


async def test_the_first_picture_is_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The overview, the rows and the keys come together, in the layout of the second picture; the paints come once."""
    pictures: list[str] = []
    paints: Counter[str] = Counter()
    display, apply = AsyncwatchApp._display, Stylesheet.apply

    def note_display(app: AsyncwatchApp, screen: Any, renderable: Any) -> None:
        display(app, screen, renderable)
        if renderable is not None:
            pictures.append(text_of(app))

    def note_apply(stylesheet: Stylesheet, node: DOMNode, **options: Any) -> None:
        paints.update(node.classes & PAINTS)
        apply(stylesheet, node, **options)

    monkeypatch.setattr(AsyncwatchApp, "_display", note_display)
    monkeypatch.setattr(Stylesheet, "apply", note_apply)
    app = make_app(FakeController(), foreseen=beginning(*NAMES))
    async with app.run_test(size=(120, 30)):
        await until(lambda: len(pictures) > 1)
        for text in ("asyncwatch", f"{len(NAMES)} queued", f"› {NAMES[0]} ", "c cancel"):
            assert text in pictures[0]
        assert pictures[0].splitlines()[4:] == pictures[-1].splitlines()[4:]
        assert set(paints) == PAINTS
        assert max(paints.values()) <= 3


def test_goes_on_from_what_was_foreseen() -> None:
    """The rows, and what a person has done to them, stay; the start is the one that was told."""
    scene = Scene()
    scene.foresee(beginning(*NAMES))
    rows, view = list(scene.fleet.rows), scene.view
    scene.receive(beginning(*NAMES, started_at=5.0))
    assert scene.view is view
    assert scene.fleet.rows == rows
    assert scene.fleet.run == beginning(*NAMES, started_at=5.0)[0]


def test_drops_what_was_foreseen_if_it_does_not_come() -> None:
    """A run that begins otherwise, or ends before it began, is shown as it is."""
    scene = Scene()
    scene.foresee(beginning(*NAMES))
    scene.receive(beginning("dan"))
    assert [row.name for row in scene.fleet.rows] == ["dan"]
    scene = Scene()
    scene.foresee(beginning(*NAMES))
    scene.receive((RunFinished(0, 0.0, {}, 0, 0.0, interrupted=True),))
    assert scene.fleet.rows == []
    assert scene.fleet.finished is not None


@pytest.mark.parametrize("keys", [("G",), ("space", "j", "space"), ("space", "s", "j"), ("G", "enter", "l")])
async def test_a_run_that_begins_otherwise_is_shown_anew(keys: tuple[str, ...]) -> None:
    """Whatever was selected, marked or opened before, the screen is of the workers that the run has."""
    controller = FakeController()
    app = make_app(controller, foreseen=beginning(*MANY))
    async with app.run_test(size=(100, 30)) as pilot:
        await shows(app, "n0")
        await until(lambda: controller.queue is not None)
        await pilot.press(*keys)
        put(controller, beginning("dan", "eve"))
        await until(lambda: len(app.scene.fleet.rows) == 2)
        if keys[-1] == "l":
            await pilot.press("escape")
        await shows(app, "dan", "eve")
        await hides(app, "n1")
        await pilot.press("G", "c")
        await until(lambda: controller.sent)
        assert controller.sent == [CancelWorker("eve", 1)]
        assert not app.scene.view.marks


@pytest.mark.parametrize("is_opened", [False, True])
async def test_keeps_the_cursor_on_a_worker_that_the_run_has(*, is_opened: bool) -> None:
    """The cursor, and what is open, stay with the worker of that name, also if its group comes last."""
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
        await until(lambda: table.selected is app.scene.fleet.get("eve"))
        put(controller, (WorkersQueued(2, 0.0, "more", 3, ("n29",)),))
        await until(lambda: table.selected and table.selected is app.scene.fleet.get("n29"))
        assert app.scene.view.reverse
        if is_opened:
            assert isinstance(app.screen, DetailsScreen)
            await pilot.press("escape")
        await pilot.press("c")
        await until(lambda: controller.sent)
        assert controller.sent == [CancelWorker("n29", 1)]


async def test_a_frozen_picture_stays_as_it_was_foreseen() -> None:
    """What was foreseen is dropped when the picture goes on, not before; requests are sent once the run began."""
    controller = FakeController()
    app = make_app(controller, foreseen=beginning(*MANY))
    async with app.run_test(size=(100, 30)) as pilot:
        await shows(app, "n0")
        await until(lambda: controller.queue is not None)
        await pilot.press("p", "space")
        put(controller, beginning("dan", "eve"))
        await until(lambda: app.scene.waiting)
        assert not app.scene.is_foreseen
        assert set(app.scene.view.marks) == {"n0"}
        await pilot.press("p")
        await shows(app, "dan", "eve")
        await hides(app, "n1")


async def test_what_comes_in_many_batches_is_what_was_foreseen() -> None:
    """The pump passes each group on by itself: the marks and the cursor stay all the same."""
    controller = FakeController()
    told = beginning_in_groups(GROUPS)
    app = make_app(controller, foreseen=told)
    async with app.run_test(size=(100, 30)) as pilot:
        await shows(app, "w0")
        await until(lambda: controller.queue is not None)
        await pilot.press("space", "G")
        rows, marks, selected = list(app.scene.fleet.rows), set(app.scene.view.marks), app.screen_stack[0].focused
        assert isinstance(selected, FleetTable)
        assert selected.selected is rows[-1]
        last = (AttemptStarted(GROUPS + 1, 0.1, "w0", 1, 1, 0.5),)
        put(controller, told[:512], told[512:], last)
        await until(lambda: app.scene.fleet.attempts)
        assert all(map(operator.is_, rows, app.scene.fleet.rows))
        assert set(app.scene.view.marks) == marks == {"w0"}
        assert selected.selected is rows[-1]


def test_keeps_what_was_told_when_a_late_batch_is_otherwise() -> None:
    """Of a run that begins as foreseen, but does not go on so, every worker is there: those told before as well."""
    scene = Scene()
    scene.foresee(beginning_in_groups(4))
    for event in beginning_in_groups(4, others="dan"):
        scene.receive((event,))
    assert [row.name for row in scene.fleet.rows] == ["w0", "w1", "w2", "dan"]
    assert scene.fleet.run is not None
