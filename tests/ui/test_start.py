"""The fleet is on the screen before the run begins, and what is done to it until then is not lost."""

from __future__ import annotations

import asyncio

from asyncwatch.commands import CancelWorker
from asyncwatch.events import Batch, RunFinished, RunStarted, WorkersQueued
from asyncwatch.ui.scene import Scene
from tests.ui.fakes import FakeController, make_app, shows, until

NAMES = ("ada", "bob", "cid")


def beginning(*names: str, run: str = "demo", started_at: float = 0.0) -> Batch:
    """Return how a run of these workers begins."""
    started = RunStarted(0, 0.0, run, len(names), "gather", 7, 100, None, started_at)
    return (started, WorkersQueued(1, 0.0, "fetch", 3, names))


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
