"""Command queue: commands for very many workers are carried out in order, a slice in each loop iteration."""

from __future__ import annotations

import asyncio

import pytest

from asyncwatch.commands import (
    CancelWorker,
    ChangeSetting,
    Command,
    HoldKey,
    ReleaseKey,
    ResetKey,
    RestartWorker,
    RetryAllNow,
    StopRun,
)
from asyncwatch.engine import command_queue
from asyncwatch.engine.command_queue import FEW, CommandQueue
from asyncwatch.events import AttemptStarted, CancelRequested, RunCancelRequested, WorkerCancelled
from asyncwatch.slices import SLICE
from tests.clock import run_jumping
from tests.engine.engines import ends, engine_of, watch
from tests.engine.fleets import worker

IN_A_SLICE = 10


class Recorder:
    """Records the commands of a queue whose clock advances by a part of a slice a command."""

    def __init__(self) -> None:
        self.done: list[Command] = []
        self.iterations: list[int] = []
        self.held: list[bool] = []
        self.queue = CommandQueue(self.done.append, self.held.append, lambda: len(self.done) * SLICE / IN_A_SLICE)

    async def until(self, count: int) -> None:
        """Iterate the loop until `count` commands are done."""
        while len(self.done) < count:
            self.iterations.append(len(self.done))
            await asyncio.sleep(0)


def cancels(count: int) -> list[Command]:
    """Return cancel commands for that many workers."""
    return [CancelWorker(str(number), 1) for number in range(count)]


def restarts(count: int) -> list[Command]:
    """Return restart commands for that many workers."""
    return [RestartWorker(str(number), 1) for number in range(count)]


def test_command_queue_many_commands_are_spread_over_loop_iterations_in_order() -> None:
    async def main() -> None:
        recorder = Recorder()
        recorder.queue.add(restarts(95))
        recorder.queue.add(cancels(5))
        recorder.queue.add([RetryAllNow()])
        await recorder.until(101)
        assert recorder.done == [*restarts(95), *cancels(5), RetryAllNow()]
        steps = [after - before for before, after in zip([0, *recorder.iterations], recorder.iterations, strict=False)]
        assert max(steps) <= IN_A_SLICE + 1  # rounding errors of the clock
        assert len(steps) > 5

    run_jumping(main)


def test_command_queue_holds_starts_while_many_are_cancelled_and_not_while_many_are_restarted() -> None:
    async def main() -> None:
        recorder = Recorder()
        recorder.queue.add(cancels(25))
        recorder.queue.add(restarts(20))
        await recorder.until(45)
        assert recorder.held == [True, True, False, False, False]
        assert recorder.held[-1] is False

    run_jumping(main)


@pytest.mark.parametrize("urgent", [ChangeSetting("paused", value=True), HoldKey("k"), ReleaseKey("k"), ResetKey("k")])
def test_command_queue_command_about_no_worker_is_carried_out_at_once(urgent: Command) -> None:
    async def main() -> None:
        recorder = Recorder()
        recorder.queue.add(restarts(100))
        recorder.queue.add([urgent])
        assert recorder.done == [*restarts(100)[:IN_A_SLICE], urgent]
        await recorder.until(101)

    run_jumping(main)


def test_command_queue_stop_drops_pending_commands_and_releases_starts() -> None:
    async def main() -> None:
        recorder = Recorder()
        recorder.queue.add(cancels(100))
        recorder.queue.add([StopRun()])
        recorder.queue.add(restarts(3))
        for _ in range(5):
            await asyncio.sleep(0)
        assert recorder.done == [*cancels(IN_A_SLICE), StopRun(), *restarts(3)]
        assert recorder.held == [True, False]

    run_jumping(main)


async def test_stop_of_the_run_passes_thousands_of_earlier_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_queue, "SLICE", 0.0)
    count = 5 * FEW

    async def request() -> None:
        engine.send(*cancels(count))
        engine.send(StopRun())
        await asyncio.sleep(1e6)

    engine = engine_of(*(worker(str(number), request) for number in range(count)), concurrency=1)
    events = await watch(engine)
    stopped = next(index for index, event in enumerate(events) if isinstance(event, RunCancelRequested))
    before = sum(isinstance(event, CancelRequested | WorkerCancelled) for event in events[:stopped])
    assert before < count / 2
    assert set(ends(events).values()) == {"cancelled"}


async def test_cancel_commands_for_many_workers_are_all_carried_out_and_none_starts() -> None:
    count = 10 * FEW

    async def request() -> None:
        engine.send(*cancels(count))
        await asyncio.sleep(1e6)

    engine = engine_of(*(worker(str(number), request) for number in range(count)), concurrency=1)
    events = await watch(engine)
    assert set(ends(events).values()) == {"cancelled"}
    assert sum(isinstance(event, AttemptStarted) for event in events) == 1


def test_command_queue_commands_put_early_are_carried_out_when_it_is_attached() -> None:
    async def main() -> None:
        recorder = Recorder()
        recorder.queue.put(restarts(2))
        recorder.queue.put([ChangeSetting("paused", value=True)])
        assert recorder.done == []
        recorder.queue.attach()
        recorder.queue.put(cancels(1))
        await recorder.until(4)
        assert recorder.done == [*restarts(2), ChangeSetting("paused", value=True), *cancels(1)]

    run_jumping(main)


def test_command_queue_that_is_closed_drops_commands() -> None:
    async def main() -> None:
        recorder = Recorder()
        recorder.queue.attach()
        recorder.queue.close()
        recorder.queue.put(cancels(1))
        await asyncio.sleep(0)
        assert recorder.done == []

    run_jumping(main)


def test_command_queue_keeps_the_order_of_a_few_mixed_commands() -> None:
    async def main() -> None:
        recorder = Recorder()
        mixed = [*restarts(2), ChangeSetting("paused", value=True), *cancels(2)]
        recorder.queue.add(mixed)
        assert recorder.done == mixed

    run_jumping(main)
