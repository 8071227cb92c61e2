"""The pump: what it draws, and when."""

from __future__ import annotations

import asyncio

import pytest

from asyncwatch.events import Batch, CommandRefused, LogRecorded, RunFinished
from asyncwatch.ui.pump import FRAME, Pump
from tests.clock import run_jumping
from tests.ui.fakes import until


class Recorder:
    """A sink that keeps what it got, and a clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 50.0
        self.batches: list[Batch] = []
        self.drawn: list[int] = []
        self.refusals: list[CommandRefused] = []

    def clock(self) -> float:
        """Return the present time."""
        return self.now

    def receive(self, batch: Batch) -> None:
        """Keep the batch."""
        self.batches.append(batch)

    def draw(self) -> None:
        """Keep how many batches were known when it was drawn."""
        self.drawn.append(len(self.batches))

    def show_problem(self, problem: str) -> None:
        """Do nothing: no test has a listener with a problem."""

    def show_refusals(self, refusals: list[CommandRefused]) -> None:
        """Keep the refusals."""
        self.refusals += refusals


def _log(seq: int) -> Batch:
    return [LogRecorded(seq=seq, at=0.0, worker=None, level="INFO", logger="", message="")]


def _end(seq: int) -> Batch:
    return [RunFinished(seq=seq, at=0.0, states={}, attempts=0, elapsed=0.0, interrupted=False)]


async def test_pump_many_batches_make_one_frame() -> None:
    sink, passed = Recorder(), list[Batch]()
    queue: asyncio.Queue[Batch] = asyncio.Queue()
    for seq in range(200):
        queue.put_nowait(_log(seq))
    pump = Pump(sink, on_batch=passed.append, clock=sink.clock)
    task = asyncio.create_task(pump.run(queue))
    await until(lambda: sink.drawn)
    assert sink.drawn == [200]
    assert passed == sink.batches
    queue.put_nowait(_end(200))
    await task
    assert sink.drawn[-1] == 201


async def test_pump_hurried_draws_before_the_frame_is_due() -> None:
    sink = Recorder()
    queue: asyncio.Queue[Batch] = asyncio.Queue()
    pump = Pump(sink, clock=sink.clock)
    task = asyncio.create_task(pump.run(queue))
    queue.put_nowait(_log(0))
    await until(lambda: sink.drawn == [1])
    queue.put_nowait(_log(1))
    await until(lambda: len(sink.batches) == 2)
    assert sink.drawn == [1]
    pump.hurry()
    assert sink.drawn == [1, 2]
    queue.put_nowait(_log(2))
    await until(lambda: sink.drawn == [1, 2, 3])
    assert pump.is_drawing
    sink.now += FRAME
    assert not pump.is_drawing
    queue.put_nowait(_log(3))
    await until(lambda: sink.drawn == [1, 2, 3, 4])
    queue.put_nowait(_end(4))
    await task


def test_pump_flood_makes_ten_frames_a_second() -> None:
    sink = Recorder()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Batch] = asyncio.Queue()
        task = asyncio.Task(Pump(sink, clock=loop.time).run(queue), loop=loop)
        for seq in range(1000):
            queue.put_nowait(_log(seq))
            await asyncio.sleep(0.001)
        queue.put_nowait(_end(1000))
        await task

    run_jumping(main)
    assert len(sink.batches) == 1001
    assert 10 <= len(sink.drawn) <= 12


async def test_pump_of_many_batches_lets_the_loop_iterate() -> None:
    sink = Recorder()
    queue: asyncio.Queue[Batch] = asyncio.Queue()
    for seq in range(100):
        queue.put_nowait(_log(seq))
    received: list[int] = []

    def slow(_batch: Batch) -> None:
        sink.now += 0.002

    pump = Pump(sink, on_batch=slow, clock=sink.clock)
    task = asyncio.create_task(pump.run(queue))
    while len(sink.batches) < 100:
        await asyncio.sleep(0)
        received.append(len(sink.batches))
    assert max(after - before for before, after in zip([0, *received], received, strict=False)) <= 4
    queue.put_nowait(_end(100))
    await task


async def test_pump_delivers_refusals_with_their_batch() -> None:
    sink = Recorder()
    queue: asyncio.Queue[Batch] = asyncio.Queue()
    refusal = CommandRefused(seq=0, at=0.0, command="CancelWorker", worker="a", incarnation=1, reason="it has ended")
    queue.put_nowait([refusal])
    queue.put_nowait(_end(1))
    await Pump(sink).run(queue)
    assert sink.refusals == [refusal]


async def test_pump_error_of_the_sink_in_a_later_slice_ends_the_run() -> None:
    class Broken(Recorder):
        def receive(self, batch: Batch) -> None:
            super().receive(batch)
            self.now += 1.0
            if len(self.batches) == 3:
                raise RuntimeError("cannot apply the batch")

    sink = Broken()
    queue: asyncio.Queue[Batch] = asyncio.Queue()
    for seq in range(4):
        queue.put_nowait(_log(seq))
    with pytest.raises(RuntimeError, match="cannot apply the batch"):
        await Pump(sink, clock=sink.clock).run(queue)
    assert len(sink.batches) == 3
