"""The pump: what it draws, and when."""

from __future__ import annotations

import asyncio

import pytest

from asyncwatch.commands import Disconnected, Moment, Problem, SnapshotPart, Update
from asyncwatch.events import Batch, CommandRefused, LogRecorded, RunFinished
from asyncwatch.slices import SHORT_SLICE
from asyncwatch.ui.pump import FRAME, Pump
from tests.clock import run_jumping
from tests.ui.fakes import until


class Recorder:
    """A sink that keeps what it got, and a clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 50.0
        self.batches: list[Batch] = []
        self.parts: list[SnapshotPart] = []
        self.drawn: list[int] = []
        self.refusals: list[CommandRefused] = []
        self.problems: list[str] = []
        self.moments: list[Moment] = []

    def clock(self) -> float:
        """Return the present time."""
        return self.now

    def receive(self, batch: Batch) -> None:
        """Keep the batch."""
        self.batches.append(batch)

    def read(self, part: SnapshotPart) -> bool:
        """Keep the part; the run goes on unless the part says otherwise."""
        self.parts.append(part)
        return part.data == b"finished"

    def move(self, moment: Moment) -> None:
        """Keep the moment."""
        self.moments.append(moment)

    def draw(self) -> None:
        """Keep how many batches were known when it was drawn."""
        self.drawn.append(len(self.batches))

    def show_problem(self, problem: str) -> None:
        """Keep the problem."""
        self.problems.append(problem)

    def show_refusals(self, refusals: list[CommandRefused]) -> None:
        """Keep the refusals."""
        self.refusals += refusals


def _log(seq: int) -> Batch:
    return [LogRecorded(seq=seq, at=0.0, worker=None, level="INFO", logger="", message="")]


def _end(seq: int) -> Batch:
    return [RunFinished(seq=seq, at=0.0, states={}, attempts=0, elapsed=0.0, interrupted=False)]


async def test_pump_many_batches_make_one_frame() -> None:
    sink = Recorder()
    queue: asyncio.Queue[Batch] = asyncio.Queue()
    for seq in range(200):
        queue.put_nowait(_log(seq))
    pump = Pump(sink, clock=sink.clock)
    task = asyncio.create_task(pump.run(queue))
    await until(lambda: sink.drawn)
    assert sink.drawn == [200]
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
    class Slow(Recorder):
        def receive(self, batch: Batch) -> None:
            super().receive(batch)
            self.now += 0.002

    sink = Slow()
    queue: asyncio.Queue[Batch] = asyncio.Queue()
    for seq in range(100):
        queue.put_nowait(_log(seq))
    received: list[int] = []
    pump = Pump(sink, clock=sink.clock)
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


async def test_pump_delivers_snapshots_and_batches_in_order() -> None:
    sink = Recorder()
    queue: asyncio.Queue[Update] = asyncio.Queue()
    first, last = SnapshotPart(b"1", is_first=True), SnapshotPart(b"2", is_last=True)
    for update in (_log(0), first, last, _log(1), _end(2)):
        queue.put_nowait(update)
    assert await Pump(sink).run(queue) is None
    assert sink.parts == [first, last]
    assert sink.batches == [_log(0), _log(1), _end(2)]


async def test_pump_shows_problems_in_order() -> None:
    sink = Recorder()
    queue: asyncio.Queue[Update] = asyncio.Queue()
    for update in (_log(0), Problem("the disk is full"), _end(1)):
        queue.put_nowait(update)
    await Pump(sink).run(queue)
    assert sink.problems == ["the disk is full"]
    assert sink.batches == [_log(0), _end(1)]


async def test_pump_ends_with_a_snapshot_of_a_finished_run() -> None:
    sink = Recorder()
    queue: asyncio.Queue[Update] = asyncio.Queue()
    queue.put_nowait(SnapshotPart(b"finished", is_first=True, is_last=True))
    assert await Pump(sink).run(queue) is None
    assert sink.drawn


async def test_pump_disconnected_draws_what_came_before_and_returns_why() -> None:
    sink = Recorder()
    queue: asyncio.Queue[Update] = asyncio.Queue()
    for update in (_log(0), Disconnected("The engine has ended.")):
        queue.put_nowait(update)
    assert await Pump(sink).run(queue) == Disconnected("The engine has ended.")
    assert sink.drawn[-1] == len(sink.batches) == 1


async def test_pump_of_many_snapshot_parts_lets_the_loop_iterate() -> None:
    class Slow(Recorder):
        def read(self, part: SnapshotPart) -> bool:
            self.now += SHORT_SLICE
            return super().read(part)

    sink, seen = Slow(), list[int]()
    queue: asyncio.Queue[Update] = asyncio.Queue()
    for number in range(10):
        queue.put_nowait(SnapshotPart(b"", is_first=not number))
    task = asyncio.create_task(Pump(sink, clock=sink.clock).run(queue))
    while len(sink.parts) < 10:
        await asyncio.sleep(0)
        seen.append(len(sink.parts))
    assert seen[-10:] == [*range(1, 11)]
    assert sink.drawn[0] == 0
    queue.put_nowait(_end(0))
    await task


async def test_feed_of_a_recorded_run_goes_on_after_the_end_of_the_run() -> None:
    sink = Recorder()
    queue: asyncio.Queue[Update] = asyncio.Queue()
    for update in (_end(0), SnapshotPart(b"finished"), Moment(2.0), _log(1), Disconnected("gone")):
        queue.put_nowait(update)
    assert await Pump(sink, is_endless=True, clock=sink.clock).run(queue) == Disconnected("gone")
    assert len(sink.batches) == 2
    assert len(sink.parts) == 1
    assert sink.moments == [Moment(2.0)]
