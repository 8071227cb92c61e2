"""A fleet of more workers than can be looked at between two keys."""

from __future__ import annotations

import asyncio

import pytest

from asyncwatch.events import Batch, RunFinished, WorkersQueued
from asyncwatch.model import selection
from asyncwatch.ui.pump import Pump
from asyncwatch.ui.slices import PAUSE, SLICE, Slices
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
        await pilot.press("slash", *"w2999", "enter")
        await shows(app, f"11 of {WORKERS:,}", "› w2999")
