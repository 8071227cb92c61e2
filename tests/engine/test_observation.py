"""Observation: the tasks that a program makes by itself, on a real event loop, as the rows of a fleet."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from asyncwatch.commands import (
    CancelAll,
    CancelBranch,
    CancelWorker,
    ChangeSetting,
    Command,
    RestartWorker,
    StopRun,
    WatchStack,
)
from asyncwatch.engine import observation as module
from asyncwatch.engine import sampler
from asyncwatch.engine.observation import LoopFinder, Observation
from asyncwatch.events import WorkerState
from asyncwatch.events.run import OBSERVED_ONLY
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.model.rows import Row
from tests.clock import TASK_FACTORIES

PATIENCE = 20.0
HERE = "test_observation.py"


class Watch:
    """An observation of the running event loop, and the fleet of its events."""

    def __init__(self, *, is_looked_at: bool = True) -> None:
        self.observation = Observation("mine")
        self.fleet = Fleet()
        self._queue = self.observation.events()
        self.observation.add_loop(asyncio.get_running_loop())
        self.observation.look(is_looked_at)

    async def until(self, is_reached: Callable[[], object]) -> None:
        """Take events until something holds."""
        async with asyncio.timeout(PATIENCE):
            while not is_reached():
                apply(self.fleet, await self._queue.get())

    async def row(self, name: str, state: WorkerState = WorkerState.RUNNING) -> Row:
        """Return the row of a task once it is in a state; one that runs has said where it waits."""

        def is_there() -> bool:
            row = self.fleet.get(name)
            if row is None or row.state is not state:
                return False
            return state is not WorkerState.RUNNING or (bool(row.status) and not row.status.endswith("ready to run"))

        await self.until(is_there)
        row = self.fleet.get(name)
        assert row is not None
        return row

    async def refusal(self, command: Command) -> str:
        """Send a command, and return why it was refused."""
        before = self.fleet.refused
        self.observation.send(command)
        await self.until(lambda: self.fleet.refused > before)
        return self.fleet.refusals[-1].reason


@contextlib.asynccontextmanager
async def watching(*, is_looked_at: bool = True) -> AsyncIterator[Watch]:
    watch = Watch(is_looked_at=is_looked_at)
    try:
        yield watch
    finally:
        watch.observation.finish()


@contextlib.asynccontextmanager
async def task(work: Coroutine[Any, Any, object], name: str = "it") -> AsyncIterator[asyncio.Task[object]]:
    """A task that is cancelled at the end of the context."""
    started = asyncio.create_task(work, name=name)
    try:
        yield started
    finally:
        started.cancel()
        with contextlib.suppress(BaseException):
            await started


async def naps() -> None:
    await asyncio.sleep(3600)


async def gets() -> None:
    await asyncio.Queue[int]().get()


async def locks() -> None:
    lock = asyncio.Lock()
    async with lock, lock:
        pass


async def awaits_event() -> None:
    await asyncio.Event().wait()


async def awaits_future() -> None:
    future = asyncio.get_running_loop().create_future()
    await future


async def awaits_task() -> None:
    async with task(naps(), "the other") as other:
        await other


async def gathers() -> None:
    await asyncio.gather(naps(), naps())


async def groups() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(naps())


async def reads() -> None:
    await asyncio.StreamReader().readline()


async def receives() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        await asyncio.get_running_loop().sock_recv(here, 1)


async def reads_socket() -> None:
    here, there = socket.socketpair()
    with there:
        reader, writer = await asyncio.open_connection(sock=here)
        try:
            await reader.read(1)
        finally:
            writer.close()


async def ticks() -> AsyncIterator[int]:
    while True:
        await asyncio.sleep(3600)
        yield 1


async def iterates() -> None:
    async for _tick in ticks():
        pass


async def nests() -> None:
    await naps()


class Nap:
    """An object whose `__await__` is a generator."""

    def __await__(self) -> Any:
        yield from naps().__await__()


async def awaits_object() -> None:
    await Nap()


@pytest.mark.parametrize(
    ("function", "waits_at", "callers"),
    [
        (naps, "naps · sleep (1h 00m)", ""),
        (gets, "gets · Queue.get", ""),
        (locks, "locks · Lock.acquire", ""),
        (awaits_event, "awaits_event · Event.wait", ""),
        (awaits_future, "awaits_future · await future", ""),
        (awaits_task, "awaits_task · task the other", ""),
        (gathers, "gathers · gather of 2", ""),
        (groups, "groups · TaskGroup", ""),
        (reads, "reads · StreamReader.readline", ""),
        (receives, "receives · sock_recv", ""),
        (reads_socket, "reads_socket · StreamReader.read", ""),
        (iterates, "ticks · sleep (1h 00m)", "iterates"),
        (nests, "naps · sleep (1h 00m)", "nests"),
        (awaits_object, "naps · sleep (1h 00m)", "Nap.__await__"),
    ],
)
async def test_row_says_where_its_task_waits_and_for_what(
    function: Callable[[], Coroutine[Any, Any, None]], waits_at: str, callers: str
) -> None:
    async with watching() as watch, task(function()):
        place, _, came_from = (await watch.row("it")).status.partition(" · from ")
        file, _, rest = place.partition(":")
        line, _, rest = rest.partition(" ")
        assert (file, line.isdigit()) == (HERE, True)
        assert rest.replace("StreamReader.readuntil", "StreamReader.readline") == waits_at
        assert callers in came_from
        assert bool(callers) == bool(came_from)


async def test_row_follows_its_task() -> None:
    event = asyncio.Event()

    async def steps() -> None:
        await event.wait()
        await asyncio.sleep(3600)

    async with watching() as watch, task(steps()):
        row = await watch.row("it")
        assert "Event.wait" in row.status
        event.set()
        await watch.until(lambda: "sleep" in row.status)
        assert row.state is WorkerState.RUNNING


async def test_ends_are_reported_as_they_were() -> None:
    gate = asyncio.Event()

    async def returns() -> object:
        await gate.wait()
        return {"a": 1}

    async def counts() -> int:
        await gate.wait()
        return 42

    async def raises() -> None:
        await gate.wait()
        raise LookupError("no such thing")

    async with watching() as watch:
        tasks = [asyncio.create_task(work(), name=work.__name__) for work in (returns, counts, raises, naps)]
        for each in tasks:
            await watch.row(each.get_name())
        gate.set()
        tasks[3].cancel()
        await asyncio.wait(tasks)
        await watch.until(lambda: watch.fleet.settled == 4)
        rows = [watch.fleet.by_name[each.get_name()] for each in tasks]
        assert [row.state for row in rows] == ["succeeded", "succeeded", "failed", "cancelled"]
        assert [row.result for row in rows[:2]] == ["<dict>", "42"]
        assert rows[2].error == "LookupError: no such thing"
        assert "in test_ends_are_reported_as_they_were.<locals>.raises" in watch.fleet.stack("raises")
        assert isinstance(tasks[2].exception(), LookupError)


async def test_error_that_the_program_never_retrieves_is_still_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def raises() -> None:
        await asyncio.sleep(0.01)
        raise LookupError("lost")

    async with watching() as watch:
        started: asyncio.Task[None] | None = asyncio.create_task(raises(), name="it")
        await watch.row("it", WorkerState.FAILED)
        assert started is not None
        del started
        gc.collect()
    assert "Task exception was never retrieved" in caplog.text


async def test_task_is_not_kept_alive_and_its_destruction_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def forgotten() -> None:
        await asyncio.get_running_loop().create_future()

    async with watching() as watch:
        reference = weakref.ref(asyncio.create_task(forgotten(), name="it"))
        await watch.row("it")
        gc.collect()
        assert reference() is None
        row = await watch.row("it", WorkerState.FAILED)
        assert row.error.startswith("TaskDestroyed: it was garbage-collected while it was pending")
    assert "Task was destroyed but it is pending" in caplog.text


async def test_cancel_ends_the_task_and_its_row() -> None:
    async with watching() as watch, task(naps()) as started, task(naps(), "other") as other:
        await watch.row("it")
        await watch.row("other")
        watch.observation.send(CancelWorker("it", 1))
        with pytest.raises(asyncio.CancelledError):
            await started
        row = await watch.row("it", WorkerState.CANCELLED)
        assert watch.fleet.cancel_reason(row.name) == "person"
        assert not other.done()
        assert await watch.refusal(CancelWorker("it", 1)) == "it has ended"
        assert await watch.refusal(CancelWorker("nobody", 1)) == "there is no such task"


@pytest.mark.parametrize("command", [CancelBranch("naps"), CancelAll()])
async def test_cancel_of_a_group_or_of_all_cancels_each_task(command: Command) -> None:
    async with watching() as watch, task(naps()) as first, task(naps(), "other") as second:
        await watch.row("it")
        await watch.row("other")
        kept = asyncio.current_task()
        assert kept is not None
        watch.observation.send(command)
        if isinstance(command, CancelAll):  # this test's own task is among them
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(PATIENCE)
            kept.uncancel()
        await asyncio.wait([first, second])
        assert first.cancelled()
        assert second.cancelled()


async def test_what_only_a_supervisor_can_do_is_refused_with_the_reason() -> None:
    async with watching() as watch, task(naps()):
        await watch.row("it")
        assert await watch.refusal(RestartWorker("it", 1)) == OBSERVED_ONLY
        assert "it can cancel them" in await watch.refusal(ChangeSetting("paused", True))


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
async def test_stop_interrupts_the_program_as_ctrl_c_does() -> None:
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, interrupted.set)
    async with watching() as watch:
        watch.observation.send(StopRun())
        await asyncio.wait_for(interrupted.wait(), PATIENCE)
    loop.remove_signal_handler(signal.SIGINT)


async def test_nothing_is_looked_at_while_no_client_looks() -> None:
    async with watching(is_looked_at=False) as watch, task(naps()) as started:
        (sampled,) = watch.observation._samplers.values()
        await asyncio.sleep(0.05)
        assert sampled.spent == 0
        watch.observation.look(True)
        await watch.row("it")
        watch.observation.look(False)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        spent = sampled.spent
        await asyncio.sleep(3 * sampler.ROUND_EVERY)
        assert sampled.spent == spent
        assert sampled.watchdog is None
        started.cancel()  # the end of a task that was seen is reported all the same
        await watch.row("it", WorkerState.CANCELLED)


async def test_request_of_a_client_that_has_just_come_waits_for_the_first_look() -> None:
    async with watching(is_looked_at=False) as watch, task(naps()):
        watch.observation.look(True)
        events: list[int] = []
        watch.observation.send_then([], events.append)
        assert not events
        await watch.until(lambda: events)
        await watch.until(lambda: watch.fleet.events == events[0])
        assert watch.fleet.by_name["it"].state is WorkerState.RUNNING


async def test_round_of_many_tasks_is_made_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "SLICE", 0.0)
    monkeypatch.setattr(sampler, "FIRST_SHARE", 1.0)
    iterations = [0]

    async def ticks() -> None:
        while True:
            iterations[0] += 1
            await asyncio.sleep(0)

    async with watching() as watch, task(ticks(), "ticks"):
        tasks = [asyncio.create_task(naps(), name=f"{number}") for number in range(200)]
        before = iterations[0]
        await watch.until(lambda: len(watch.fleet.rows) >= 202)
        assert iterations[0] - before >= 200 // sampler._STEP
        for each in tasks:
            each.cancel()
        await asyncio.wait(tasks)


async def test_memory_is_bounded_and_all_ended_tasks_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_KEPT", 10)
    async with watching() as watch:
        ended = 0

        def running() -> int:
            return sum(row.name.startswith("same") and not row.state.is_settled for row in watch.fleet.rows)

        for _ in range(6):
            tasks = [asyncio.create_task(naps(), name="same") for _ in range(10)]
            await watch.until(lambda: running() == 10)
            for each in tasks:
                each.cancel()
            await asyncio.wait(tasks)
            ended += len(tasks)
            await watch.until(lambda: watch.fleet.settled == ended)  # noqa: B023  it is called in the loop
        assert len(watch.fleet.rows) <= 25
        assert watch.fleet.counts[WorkerState.CANCELLED] == 60
        assert watch.fleet.departed.replaced >= 35
        assert len(watch.observation._names) <= 31
        assert len(watch.observation._tasks) <= 1
        assert len(watch.fleet.by_name) == len(watch.fleet.rows)


async def test_names_are_unique_and_default_names_say_the_function() -> None:
    async with watching() as watch, task(naps(), "same"), task(naps(), "same"):
        unnamed = asyncio.create_task(naps())
        await watch.row("same")
        await watch.row("same (2)")
        row = await watch.row(f"{unnamed.get_name()} naps")
        assert row.group == "naps"
        unnamed.cancel()
        await asyncio.wait([unnamed])


async def test_stack_of_the_watched_task_is_taken_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STACK_EVERY", 0.01)
    async with watching() as watch, task(nests()):
        await watch.row("it")
        watch.observation.send(WatchStack("it"))
        async with asyncio.timeout(PATIENCE):
            while (stack := watch.observation.statistics().stack) is None:  # noqa: ASYNC110  figures are not awaited
                await asyncio.sleep(0.005)
        assert [frame.function for frame in stack.frames] == ["nests", "naps", "sleep"]
        watch.observation.send(WatchStack(None))
        assert watch.observation.statistics().stack is None


async def test_block_of_the_loop_names_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    async def blocks() -> None:
        while True:
            await asyncio.sleep(0.05)
            time.sleep(0.3)  # noqa: ASYNC251  as bad code does

    async with watching() as watch, task(blocks(), "the blocker"):
        await watch.row("the blocker")
        await watch.until(lambda: watch.fleet.loop.count)
        await watch.until(lambda: any(block.worker == "the blocker" for block in watch.fleet.loop.blocks))


def test_loops_of_other_threads_and_later_loops_are_found() -> None:
    """One loop is run after the other in a thread; the last one is closed with a task that is pending."""
    finder: LoopFinder | None = None
    original = asyncio.events._set_running_loop
    seen = threading.Event()

    def in_thread() -> None:
        for name in ("first", "second"):
            with asyncio.Runner() as runner:
                runner.run(until_seen(name))
        loop = asyncio.new_event_loop()
        left = loop.create_task(until_seen("left"))
        seen.clear()
        loop.call_later(PATIENCE, loop.stop)
        stopper = loop.create_task(stops(loop))
        loop.run_forever()
        loop.close()
        assert stopper.done()
        left._log_destroy_pending = False  # type: ignore[attr-defined]
        left.get_coro().close()

    async def stops(loop: asyncio.AbstractEventLoop) -> None:
        while not seen.is_set():  # noqa: ASYNC110  it is set by another thread
            await asyncio.sleep(0.005)
        loop.stop()

    async def until_seen(name: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name(name)
        if name == "left":
            await asyncio.get_running_loop().create_future()
        while not seen.is_set():  # noqa: ASYNC110  it is set by another thread
            await asyncio.sleep(0.005)
        seen.clear()

    async def main() -> None:
        nonlocal finder
        async with watching() as watch:
            finder = LoopFinder(watch.observation)
            finder.install()
            thread = threading.Thread(target=in_thread)
            thread.start()
            for name in ("first", "second", "left"):
                await watch.row(name)
                seen.set()
                if name != "left":
                    await watch.row(name, WorkerState.SUCCEEDED)
            row = await watch.row("left", WorkerState.FAILED)
            assert row.error == "LoopClosed: its event loop was closed while it was pending"
            await asyncio.to_thread(thread.join)
            assert len(watch.observation._samplers) == 1
            finder.remove()

    asyncio.run(main())
    assert asyncio.events._set_running_loop is original
    assert asyncio._set_running_loop is original


@pytest.mark.parametrize("factory", TASK_FACTORIES)
def test_task_factory_of_the_program_stays(factory: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(TASK_FACTORIES[factory])
        async with watching() as watch, task(naps()):
            await watch.row("it")
            assert loop.get_task_factory() is TASK_FACTORIES[factory]

    asyncio.run(main())


async def test_task_whose_attributes_raise_hides_no_other_task() -> None:
    class Hostile(asyncio.Task[None]):
        def get_name(self) -> str:
            raise RuntimeError("no name")

    async with watching() as watch, task(naps()):
        hostile = Hostile(naps(), loop=asyncio.get_running_loop())
        await watch.row("it")
        second = asyncio.create_task(naps(), name="second")
        await watch.row("second")
        hostile.cancel()
        second.cancel()
        await asyncio.wait([hostile, second])


def test_uvloop_is_observed() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async with watching() as watch, task(gets()):
            assert "Queue.get" in (await watch.row("it")).status

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="tasks are kept in lists of C")
async def test_references_are_those_of_all_tasks() -> None:
    async with task(naps()):
        tasks = {reference() for reference in sampler.references(asyncio.get_running_loop())}
        assert asyncio.all_tasks() <= tasks
