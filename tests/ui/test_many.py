"""A fleet of more workers than can be looked at between two keys."""

from __future__ import annotations

import asyncio

import pytest

from asyncwatch.commands import CancelAll, CancelWorker, Command, GiveUp, RestartWorker, RetryNow
from asyncwatch.events import Batch, RunFinished, WorkersQueued
from asyncwatch.model.view import selection
from asyncwatch.ui import slices
from asyncwatch.ui.outgoing import _STEP, Outgoing
from asyncwatch.ui.pump import Pump
from asyncwatch.ui.slices import HURRY, PAUSE, SHORT, SLICE, TURNS, Slices
from asyncwatch.ui.widgets.fleet_table import FleetTable
from tests.clock import run_at_once
from tests.ui.fakes import FakeController, make_app, shows, until
from tests.ui.test_pump import Recorder

WORKERS = 30_000


def test_work_leaves_room_between_its_slices() -> None:
    """Each slice ends with its time, others have theirs before the next, and the end is told once."""
    told: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        now = 0.0
        left = 5

        def work(is_time_up: object) -> bool:
            nonlocal left, now
            assert callable(is_time_up)
            told.append(f"at {loop.time() - begun:.3f}")
            while left and not is_time_up():
                left -= 1
                now += SLICE / 2
            return left > 0

        begun = loop.time()
        slices = Slices(work, lambda: told.append("done"), clock=lambda: now)
        slices.start()
        slices.start()
        await asyncio.sleep(1)
        slices.stop()

    run_at_once(main)
    assert told == ["at 0.000", f"at {PAUSE:.3f}", f"at {2 * PAUSE:.3f}", "done"]


def test_work_gives_way_to_whoever_waits_for_a_picture() -> None:
    """For a moment slices are short; and before each the others have several turns, however short these are."""
    told: list[tuple[str, bool]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        turns, now = 0, 0.0

        def turn(of_slice: int) -> None:
            nonlocal turns
            turns += 1
            if len(told) == of_slice < 3:
                loop.call_soon(turn, of_slice)

        def work(is_time_up: object) -> bool:
            nonlocal turns, now
            assert callable(is_time_up)
            now += SHORT
            told.append(("short" if is_time_up() else "long", turns >= TURNS))
            if len(told) == 2:
                now += HURRY
            turns = 0
            loop.call_later(PAUSE, turn, len(told))
            return len(told) < 3

        work_in_slices = Slices(work, lambda: None, clock=lambda: now)
        work_in_slices.hurry()
        work_in_slices.start()
        await asyncio.sleep(1)

    run_at_once(main)
    assert told == [("short", False), ("short", True), ("long", True)]


def test_work_can_be_left() -> None:
    """Nothing is called any more when whoever wanted it has gone."""
    slices: list[int] = []

    def work(_is_time_up: object) -> bool:
        slices.append(1)
        return True

    async def main() -> None:
        endless = Slices(work, lambda: None)
        endless.start()
        await asyncio.sleep(PAUSE)
        endless.stop()
        slices.clear()
        await asyncio.sleep(1)

    run_at_once(main)
    assert slices == []


def test_work_that_broke_can_begin_anew() -> None:
    """An error is told to the event loop, and does not count as work that goes on."""
    calls, errors = list[str](), list[object]()

    def work(_is_time_up: object) -> bool:
        calls.append("work")
        if len(calls) == 1:
            raise ValueError("it broke")
        return False

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, told: errors.append(told["exception"]))
        slices = Slices(work, lambda: calls.append("done"))
        for _ in range(2):
            slices.start()
            await asyncio.sleep(PAUSE)

    run_at_once(main)
    assert calls == ["work", "work", "done"]
    assert [str(error) for error in errors] == ["it broke"]


async def test_an_announcement_of_many_is_folded_in_parts() -> None:
    """One batch may name a million workers: keys get their turn between its events; listeners get all of it."""
    turns, passed = list[int](), list[int]()

    class Slow(Recorder):
        """A sink whose clock goes on by a slice with each part."""

        def receive(self, batch: Batch) -> None:
            super().receive(batch)
            self.now += SLICE

    sink = Slow()
    queue: asyncio.Queue[Batch] = asyncio.Queue()
    names = [WorkersQueued(seq=seq, at=0.0, group="", max_attempts=1, workers=(str(seq),)) for seq in range(5)]
    end = RunFinished(seq=5, at=0.0, states={}, attempts=0, elapsed=0.0, interrupted=False)
    queue.put_nowait((*names, end))
    pump = Pump(sink, on_batch=lambda batch: passed.append(len(batch)), clock=sink.clock)
    task = asyncio.create_task(pump.run(queue))
    while not task.done():
        await asyncio.sleep(0)
        turns.append(len(sink.batches))
    assert passed == [6]
    assert [list(batch) for batch in sink.batches] == [*([name] for name in names), [end]]
    assert max(after - before for before, after in zip([0, *turns], turns, strict=False)) == 1


async def test_many_workers_are_sorted_while_keys_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that takes its time is announced, the cursor moves meanwhile, and then the order is shown."""
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
        await until(lambda: not app.scene.view.is_behind)
        await shows(app, "› w1")
        assert app.scene.view.order()[0].name == f"w{WORKERS - 1}"
        assert app.scene.view.position("w1") == WORKERS - 2
        is_free = False
        await pilot.press("slash", "w")
        await shows(app, "filtering…", "› w1")
        await pilot.press(*"2999", "enter")
        await shows(app, "filtering…", "› w1")
        is_free = True
        await shows(app, f"11 of {WORKERS:,}", "› w2999")


async def test_the_worker_that_the_cursor_has_to_move_to_is_shown() -> None:
    """A filter that hides the one under it among many leaves the cursor on a neighbour, which can be seen."""
    controller = FakeController()
    controller.start(*(f"w{number}" for number in range(WORKERS)))
    app = make_app(controller)
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, "› w0")
        table = app.query_one(FleetTable)
        await until(lambda: table.allow_vertical_scroll)  # before it is laid out it stays at the top
        table.select(app.scene.fleet.rows[5000])
        await shows(app, "› w5000")
        await pilot.press("slash", *"w1", "enter")
        await shows(app, f"11,111 of {WORKERS:,}", "› w10000")


def test_requests_for_many_are_made_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys get their turn meanwhile; then all are sent at once, before what was asked for after them."""
    monkeypatch.setattr(slices, "SLICE", 0.0)
    sent: list[tuple[float, int]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        outgoing = Outgoing(lambda commands: sent.append((round((loop.time() - begun) / PAUSE), len(commands))))
        outgoing.add([CancelAll()])
        outgoing.add(CancelWorker(str(number), 1) for number in range(4 * _STEP + 1))
        outgoing.add([CancelAll()])
        await asyncio.sleep(1)

    run_at_once(main)
    assert sent == [(0, 1), (4, 4 * _STEP + 1), (4, 1)]


def test_requests_for_many_can_be_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who quits does not wait for them."""
    monkeypatch.setattr(slices, "SLICE", 0.0)
    sent: list[int] = []

    async def main() -> None:
        outgoing = Outgoing(lambda commands: sent.append(len(commands)))
        outgoing.add(CancelWorker(str(number), 1) for number in range(4 * _STEP))
        await asyncio.sleep(2 * PAUSE)
        outgoing.clear()
        outgoing.add([CancelAll()])
        await asyncio.sleep(1)

    run_at_once(main)
    assert sent == [1]


async def test_what_is_asked_of_many_is_asked_at_once() -> None:
    """A question comes without a look at each of them; the requests are for those whom it is about by then."""
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
        assert len(app.scene.view.marks) == WORKERS
        cancelled = [CancelWorker(f"w{number}", 1) for number in range(1, WORKERS)]
        assert await ask("c", f"Cancel {WORKERS - 1:,} marked workers?") == cancelled
        restarted = [RestartWorker(f"w{number}", 1) for number in range(4)]
        assert await ask("r", "Restart 4 marked workers?") == restarted
        assert await ask("n", "Try 1 marked worker?") == [RetryNow("w1", 1)]
        assert await ask("x", "Give up 1 marked worker?") == [GiveUp("w1", 1)]
        assert await ask("R", "Restart 1 worker that did not succeed?") == [RestartWorker("w0", 1)]
        await pilot.press("j", "space")
        question = f"Cancel those of {WORKERS - 1:,} marked workers that have not ended?"
        assert await ask("c", question) == [CancelWorker("w0", 1), *cancelled][2:]
