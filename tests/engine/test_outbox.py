"""Outbox: batches reach every listener in order, from any thread, and never hold the emitter up."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from asyncwatch import Supervisor, SupervisorSpec, WorkerSpec
from asyncwatch.engine.outbox import BATCH_INTERVAL, BATCH_SIZE, BATCH_TEXT, FAR_BEHIND, MOMENT, Listener, Outbox
from asyncwatch.events import Batch, Event, WorkerFailed, WorkerRestarted
from tests.clock import run_jumping


def numbered(count: int, start: int = 0) -> list[Event]:
    """Return `count` events."""
    return [Event(seq, 0.0) for seq in range(start, start + count)]


def test_outbox_delivers_a_lone_event_at_once_and_a_stream_in_batches() -> None:
    async def main() -> list[tuple[float, int]]:
        loop = asyncio.get_running_loop()
        outbox, listener = Outbox(), Listener()
        outbox.open(loop)
        queue = listener.attach()
        outbox.add(listener)
        start = loop.time()
        arrivals = []
        outbox.emit(Event(0, 0.0))
        arrivals.append((loop.time() - start, len(await queue.get())))
        for event in numbered(10, 1):
            outbox.emit(event)
        arrivals.append((round(loop.time() - start, 6), len(await queue.get())))
        return [*arrivals, (round(loop.time() - start, 6), 0)]

    assert run_jumping(main) == [(0.0, 1), (0.0, 10), (BATCH_INTERVAL, 0)]


def test_outbox_delivers_full_batches_without_loss_in_order() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        outbox, listener = Outbox(), Listener()
        outbox.open(loop)
        queue = listener.attach()
        outbox.add(listener)
        for event in numbered(2 * BATCH_SIZE + 5):
            outbox.emit(event)
        outbox.flush()
        sizes = []
        seen = 0
        while not queue.empty():
            batch = queue.get_nowait()
            assert [event.seq for event in batch] == list(range(seen, seen + len(batch)))
            seen += len(batch)
            sizes.append(len(batch))
        return sizes

    assert run_jumping(main) == [BATCH_SIZE, BATCH_SIZE, 5]


def test_listener_that_attaches_late_gets_earlier_batches_first() -> None:
    listener = Listener()
    first: Batch = tuple(numbered(2))
    listener.deliver(first, None)

    async def main() -> list[Batch]:
        queue = listener.attach()
        second: Batch = tuple(numbered(1, 2))
        listener.deliver(second, asyncio.get_running_loop())
        return [await queue.get(), await queue.get()]

    assert [[event.seq for event in batch] for batch in run_jumping(main)] == [[0, 1], [2]]


async def test_listener_on_another_loop_gets_all_events_in_order() -> None:
    listener = Listener()
    queue = listener.attach()

    def emit() -> None:
        async def main() -> None:
            outbox = Outbox()
            outbox.open(asyncio.get_running_loop())
            outbox.add(listener)
            for event in numbered(3000):
                outbox.emit(event)
            outbox.flush()

        asyncio.run(main())

    thread = threading.Thread(target=emit)
    thread.start()
    seen: list[int] = []
    while len(seen) < 3000:
        seen += [event.seq for event in await asyncio.wait_for(queue.get(), 20)]
    thread.join()
    assert seen == list(range(3000))


async def test_listener_far_behind_on_another_thread_makes_the_loop_yield_the_processor() -> None:
    """After a loop iteration, until the listener has caught up.

    Neither an emit nor a listener on the same loop waits.
    """
    waits: list[float] = []
    listener = Listener(waits.append)
    queue = listener.attach()
    batch: Batch = tuple(numbered(1))
    seen: list[int] = []

    async def deliver(*iterations: int) -> None:
        loop = asyncio.get_running_loop()
        for batches in iterations:
            for _ in range(batches):
                listener.deliver(batch, loop)
            seen.append(len(waits))
            await asyncio.sleep(0)

    def deliver_elsewhere(*iterations: int) -> None:
        thread = threading.Thread(target=lambda: asyncio.run(deliver(*iterations)))
        thread.start()
        thread.join()

    deliver_elsewhere(FAR_BEHIND, 3, 500)
    assert seen == [0, 0, 1]
    assert waits == [MOMENT] * 2
    for _ in range(FAR_BEHIND + 503):
        await queue.get()
    deliver_elsewhere(FAR_BEHIND)
    await deliver(2 * FAR_BEHIND)
    assert len(waits) == 2


async def test_time_that_a_listener_gets_grows_until_it_catches_up() -> None:
    """A reader that needs much longer for a batch than the engine would else fall behind without bound."""
    waits: list[float] = []
    listener = Listener(waits.append)
    listener.attach()
    batch: Batch = tuple(numbered(1))

    async def deliver() -> None:
        for _ in range(4 * FAR_BEHIND):
            listener.deliver(batch, asyncio.get_running_loop())
            await asyncio.sleep(0)

    thread = threading.Thread(target=lambda: asyncio.run(deliver()))
    thread.start()
    thread.join()
    assert waits[0] == MOMENT
    assert waits[-1] == 16 * MOMENT
    assert waits == sorted(waits)


async def test_long_messages_complete_a_batch() -> None:
    outbox, listener = Outbox(), Listener()
    outbox.open(asyncio.get_running_loop())
    outbox.add(listener)
    queue = listener.attach()
    first, second, third = numbered(3)
    outbox.emit_text(first, 10)
    outbox.emit_text(second, BATCH_TEXT - 10)
    assert queue.get_nowait() == (first, second)
    outbox.emit_text(third, BATCH_TEXT - 1)
    assert queue.empty()


def test_listener_whose_loop_is_closed_is_ignored() -> None:
    listener = Listener()

    async def attach() -> Any:
        return listener.attach()

    run_jumping(attach)
    listener.deliver(tuple(numbered(1)), None)


async def test_listener_refuses_a_second_reader() -> None:
    listener = Listener()
    listener.attach()
    with pytest.raises(RuntimeError, match="reader"):
        listener.attach()


@pytest.mark.parametrize("others", [[], [0.013], [0.05]])
def test_batch_does_not_end_between_the_end_of_a_service_and_its_restart(others: list[float]) -> None:
    async def fail(seconds: float) -> None:
        await asyncio.sleep(seconds)
        raise ValueError

    async def main() -> list[Batch]:
        specs = [WorkerSpec(str(wait), fail, (wait,), restart="permanent") for wait in (1.0, *others)]
        below = SupervisorSpec("below", tuple(specs[1:]), max_restarts=9999)
        supervisor = Supervisor([specs[0], below], max_restarts=99)
        queue = supervisor.subscribe()
        async with supervisor:
            await asyncio.sleep(10.52)
        return [queue.get_nowait() for _ in range(queue.qsize())]

    ended, down = 0, 0
    for batch in run_jumping(main):
        failed = [event.worker for event in batch if isinstance(event, WorkerFailed)]
        restarted = [event.worker for event in batch if isinstance(event, WorkerRestarted)]
        ended += len(failed)
        down += failed != restarted
    assert ended >= 10
    assert down == 0
