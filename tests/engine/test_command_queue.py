"""Requests for very many workers: in order, some in each turn of the loop, with others and the end ahead of them."""

from __future__ import annotations

import asyncio

import pytest

from asyncwatch.commands import CancelWorker, ChangeSetting, Command, RestartWorker, RetryAllNow, StopRun
from asyncwatch.engine import command_queue
from asyncwatch.engine.command_queue import FEW, CommandQueue
from asyncwatch.events import AttemptStarted, CancelRequested, RunCancelRequested, WorkerCancelled
from asyncwatch.slices import SLICE
from tests.clock import run_jumping
from tests.engine.fleets import worker
from tests.engine.test_engine import ends, engine_of, watch

IN_A_SLICE = 10


class Log:
    """What was done, at whose speed: each request takes a part of a turn."""

    def __init__(self) -> None:
        self.done: list[Command] = []
        self.turns: list[int] = []
        self.held: list[bool] = []
        self.queue = CommandQueue(self.done.append, self.held.append, lambda: len(self.done) * SLICE / IN_A_SLICE)

    async def until(self, count: int) -> None:
        """Let the loop turn until so many were done."""
        while len(self.done) < count:
            self.turns.append(len(self.done))
            await asyncio.sleep(0)


def cancels(count: int) -> list[Command]:
    """Return so many requests."""
    return [CancelWorker(str(number), 1) for number in range(count)]


def restarts(count: int) -> list[Command]:
    """Return so many other requests."""
    return [RestartWorker(str(number), 1) for number in range(count)]


def test_many_requests_leave_turns_to_others() -> None:
    """A few are done in each turn of the loop, all of them in the order in which they came."""

    async def main() -> None:
        log = Log()
        log.queue.add(restarts(95))
        log.queue.add(cancels(5))
        log.queue.add([RetryAllNow()])
        await log.until(101)
        assert log.done == [*restarts(95), *cancels(5), RetryAllNow()]
        steps = [after - before for before, after in zip([0, *log.turns], log.turns, strict=False)]
        assert max(steps) <= IN_A_SLICE + 1  # rounding
        assert len(steps) > 5

    run_jumping(main)


def test_nobody_takes_a_place_while_many_are_cancelled() -> None:
    """Whoever would may be cancelled in one of the next turns; restarts do not keep others from starting."""

    async def main() -> None:
        log = Log()
        log.queue.add(cancels(25))
        log.queue.add(restarts(20))
        await log.until(45)
        assert log.held == [True, True, False, False, False]
        assert log.held[-1] is False

    run_jumping(main)


def test_what_is_about_no_worker_need_not_wait() -> None:
    """A person who restarts very many can still pause the run at once."""

    async def main() -> None:
        log = Log()
        log.queue.add(restarts(100))
        log.queue.add([ChangeSetting("paused", value=True)])
        assert log.done == [*restarts(100)[:IN_A_SLICE], ChangeSetting("paused", value=True)]
        await log.until(101)

    run_jumping(main)


def test_what_was_cleared_is_not_done() -> None:
    """Neither is the line held any more; what is added then is done at once, and once."""

    async def main() -> None:
        log = Log()
        log.queue.add(cancels(100))
        log.queue.add([StopRun()])
        log.queue.add(restarts(3))
        for _ in range(5):
            await asyncio.sleep(0)
        assert log.done == [*cancels(IN_A_SLICE), StopRun(), *restarts(3)]
        assert log.held == [True, False]

    run_jumping(main)


async def test_a_stop_of_the_run_passes_all_other_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends at once, though thousands of requests were sent before, each of which takes a loop iteration."""
    monkeypatch.setattr(command_queue, "SLICE", 0.0)
    count = 5 * FEW

    async def ask() -> None:
        engine.send(*cancels(count))
        engine.send(StopRun())
        await asyncio.sleep(1e6)

    engine = engine_of(*(worker(str(number), ask) for number in range(count)), concurrency=1)
    events = await watch(engine)
    stopped = next(place for place, event in enumerate(events) if isinstance(event, RunCancelRequested))
    before = sum(isinstance(event, CancelRequested | WorkerCancelled) for event in events[:stopped])
    assert before < count / 2
    assert set(ends(events).values()) == {"cancelled"}


async def test_requests_for_many_are_all_carried_out() -> None:
    """None of those that are cancelled starts meanwhile, and the ones after them are cancelled as well."""
    count = 10 * FEW

    async def ask() -> None:
        engine.send(*cancels(count))
        await asyncio.sleep(1e6)

    engine = engine_of(*(worker(str(number), ask) for number in range(count)), concurrency=1)
    events = await watch(engine)
    assert set(ends(events).values()) == {"cancelled"}
    assert sum(isinstance(event, AttemptStarted) for event in events) == 1


def test_command_queue_commands_put_early_are_carried_out_when_it_is_attached() -> None:
    async def main() -> None:
        log = Log()
        log.queue.put(restarts(2))
        log.queue.put([ChangeSetting("paused", value=True)])
        assert log.done == []
        log.queue.attach()
        log.queue.put(cancels(1))
        await log.until(4)
        assert log.done == [*restarts(2), ChangeSetting("paused", value=True), *cancels(1)]

    run_jumping(main)


def test_command_queue_that_is_closed_drops_commands() -> None:
    async def main() -> None:
        log = Log()
        log.queue.attach()
        log.queue.close()
        log.queue.put(cancels(1))
        await asyncio.sleep(0)
        assert log.done == []

    run_jumping(main)


def test_command_queue_keeps_the_order_of_a_few_mixed_commands() -> None:
    async def main() -> None:
        log = Log()
        mixed = [*restarts(2), ChangeSetting("paused", value=True), *cancels(2)]
        log.queue.add(mixed)
        assert log.done == mixed

    run_jumping(main)
