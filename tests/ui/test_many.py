"""A fleet of more workers than can be sorted and filtered between two keys."""

from __future__ import annotations

import asyncio

import pytest

from asyncwatch.commands import CancelWorker, Command, GiveUp, RestartWorker, RetryNow
from asyncwatch.events import Batch, RunFinished, WorkersQueued
from asyncwatch.model.view import selection
from asyncwatch.slices import SHORT_SLICE
from asyncwatch.ui.pump import Pump
from asyncwatch.ui.widgets.fleet_table import FleetTable
from tests.ui.fakes import FakeController, make_app, shows, until
from tests.ui.test_pump import Recorder

WORKERS = 30_000


async def test_pump_large_announcement_is_folded_in_parts() -> None:
    turns: list[int] = []

    class Slow(Recorder):
        """A sink whose clock goes on by a slice with each part."""

        def receive(self, batch: Batch) -> None:
            super().receive(batch)
            self.now += SHORT_SLICE

    sink = Slow()
    queue: asyncio.Queue[Batch] = asyncio.Queue()
    names = [WorkersQueued(seq=seq, at=0.0, group="", max_attempts=1, workers=(str(seq),)) for seq in range(5)]
    end = RunFinished(seq=5, at=0.0, states={}, attempts=0, elapsed=0.0, interrupted=False)
    queue.put_nowait((*names, end))
    pump = Pump(sink, clock=sink.clock)
    task = asyncio.create_task(pump.run(queue))
    while not task.done():
        await asyncio.sleep(0)
        turns.append(len(sink.batches))
    assert [list(batch) for batch in sink.batches] == [*([name] for name in names), [end]]
    assert max(after - before for before, after in zip([0, *turns], turns, strict=False)) == 1


async def test_sort_many_workers_leaves_keys_working(monkeypatch: pytest.MonkeyPatch) -> None:
    assert WORKERS > selection.AT_ONCE
    controller = FakeController()
    controller.start(*(f"w{number}" for number in range(WORKERS)))
    is_free = False
    work = selection.View.work

    def held(view: selection.View, is_time_up: object) -> bool:
        return work(view, lambda: False) if is_free else True

    monkeypatch.setattr(selection.View, "work", held)
    app = make_app(controller)
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, "› w0")
        await pilot.press("S")
        await shows(app, "sorting…", "› w0")
        await pilot.press("j")
        await shows(app, "› w1")
        is_free = True
        await until(lambda: not app.dashboard.view.is_behind)
        await shows(app, "› w1")
        assert app.dashboard.view.order()[0].name == f"w{WORKERS - 1}"
        assert app.dashboard.view.position("w1") == WORKERS - 2
        is_free = False
        await pilot.press("slash", "w")
        await shows(app, "filtering…", "› w1")
        await pilot.press(*"2999", "enter")
        await shows(app, "filtering…", "› w1")
        is_free = True
        await shows(app, f"11 of {WORKERS:,}", "› w2999")


async def test_filter_many_workers_shows_cursor_neighbour() -> None:
    controller = FakeController()
    controller.start(*(f"w{number}" for number in range(WORKERS)))
    app = make_app(controller)
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, "› w0")
        table = app.query_one(FleetTable)
        await until(lambda: table.allow_vertical_scroll)  # before it is laid out it stays at the top
        table.select(app.dashboard.fleet.rows[5000])
        await shows(app, "› w5000")
        await pilot.press("slash", *"w1", "enter")
        await shows(app, f"11,111 of {WORKERS:,}", "› w10000")


async def test_action_on_many_workers_asks_at_once() -> None:
    controller = FakeController()
    controller.start(*(f"w{number}" for number in range(WORKERS)))
    for number in range(4):
        controller.attempt(f"w{number}", 0.1)
    controller.break_down("w0", 0.2)
    controller.fail("w1", 0.2)
    controller.back_off("w1", 0.2, delay=9.0)
    app = make_app(controller)

    async def ask(key: str, question: str) -> list[Command]:
        controller.sent.clear()
        await pilot.press(key)
        await shows(app, question)
        await pilot.press("y")
        await until(lambda: controller.sent)
        return controller.sent.copy()

    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, "1 failed", "1 backing off")
        await pilot.press("a")
        assert len(app.dashboard.view.marks) == WORKERS
        cancelled = [CancelWorker(f"w{number}", 1) for number in range(1, WORKERS)]
        assert await ask("c", f"Cancel {WORKERS - 1:,} marked workers?") == cancelled
        restarted = [RestartWorker(f"w{number}", 1) for number in range(4)]
        assert await ask("r", "Restart 4 marked workers?") == restarted
        assert await ask("n", "Retry 1 marked worker now?") == [RetryNow("w1", 1)]
        assert await ask("x", "Give up 1 marked worker?") == [GiveUp("w1", 1)]
        assert await ask("R", "Restart 1 worker that did not succeed?") == [RestartWorker("w0", 1)]
        await pilot.press("j", "space")
        question = f"Cancel those of {WORKERS - 1:,} marked workers that are active?"
        assert await ask("c", question) == [CancelWorker("w0", 1), *cancelled][2:]


async def test_action_on_all_that_match_among_many_says_how_many_match() -> None:
    controller = FakeController()
    controller.start(*(f"w{number}" for number in range(WORKERS)))
    controller.attempt("w1", 0.1)
    controller.break_down("w1", 0.2)
    app = make_app(controller)
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, "1 failed")
        await pilot.press("slash", *"w1", "enter")
        await shows(app, f"11,111 of {WORKERS:,}")
        await pilot.press("C")
        question = "Cancel those of 11,111 matching workers that are active?"
        await shows(app, question, f"The filter matches 11,111 of {WORKERS:,} workers.")
        await pilot.press("C")
        await until(lambda: len(controller.sent) >= 11_110)
        assert {command.worker for command in controller.sent if isinstance(command, CancelWorker)} == {
            name for number in range(WORKERS) if (name := f"w{number}").startswith("w1") and number != 1
        }
