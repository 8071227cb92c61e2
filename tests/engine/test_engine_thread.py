"""The engine on its own thread with a real clock: commands in, events out, and an end whatever workers and loop do."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncwatch import Run, Supervisor, SupervisorSpec
from asyncwatch.commands import CancelWorker, RestartBranch, RestartWorker, StopRun
from asyncwatch.engine.capture import capturing_prints
from asyncwatch.engine.run_control import RunControl
from asyncwatch.engine.thread import EngineThread
from asyncwatch.events import (
    AttemptStarted,
    Batch,
    CancelRequested,
    CommandRefused,
    Event,
    LogRecorded,
    RecordingFailed,
    RecordingResumed,
    RunCancelRequested,
    RunFinished,
    RunStarted,
    SupervisorStarted,
    SupervisorTerminated,
    WorkerEnded,
    WorkerReady,
)
from asyncwatch.otp import RestartLimitError, StartError
from tests.engine.engines import ends, engine_of, watch
from tests.engine.fleets import raiser, sleeper, stubborn, worker
from tests.logs import bare_root_logger

FOREVER = 1e6


async def test_engine_delivers_all_events_to_the_loop_of_the_reader() -> None:
    engine = engine_of(*(worker(str(n), sleeper, 0.0, n) for n in range(200)))
    events = await watch(engine)
    assert [event.seq for event in events] == list(range(len(events)))
    assert set(ends(events).values()) == {"succeeded"}
    assert engine.join(10)
    assert engine.error is None


async def test_engine_delivers_the_same_batches_to_another_listener() -> None:
    engine = engine_of(*(worker(str(n), sleeper, 0.0, n) for n in range(200)))
    delivered: list[Event] = []

    class Other:
        def deliver(self, batch: Batch, running: asyncio.AbstractEventLoop | None) -> None:
            delivered.extend(batch)

    engine.add_listener(Other())
    assert await watch(engine) == delivered


async def test_recording_that_fails_and_goes_on_is_an_event() -> None:
    engine = engine_of(worker("a", sleeper, FOREVER), stays_open=True)

    def act(event: Event) -> None:
        match event:
            case AttemptStarted():
                engine.report_recording(5.0, "database or disk is full")
            case RecordingFailed():
                assert (event.since, event.reason) == (5.0, "database or disk is full")
                engine.report_recording(0.0, "")
            case RecordingResumed():
                engine.send(StopRun())

    events = await watch(engine, act)
    assert {RecordingFailed, RecordingResumed} < {type(event) for event in events}


async def test_engine_carries_out_commands_from_another_thread() -> None:
    engine = engine_of(worker("a", sleeper, FOREVER), stays_open=True)

    def act(event: Event) -> None:
        match type(event).__name__, getattr(event, "incarnation", 0):
            case "AttemptStarted", 1:
                engine.send(CancelWorker("a", 1))
            case "WorkerCancelled", 1:
                engine.send(RestartWorker("a", 1))
            case "AttemptStarted", 2:
                engine.send(StopRun())
            case _:
                pass

    events = await watch(engine, act)
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert last.interrupted
    assert [event.incarnation for event in events if isinstance(event, WorkerEnded)] == [1, 2]
    assert engine.join(10)


async def test_engine_carries_out_early_commands_and_drops_late_ones() -> None:
    engine = engine_of(worker("a", sleeper, FOREVER), stays_open=True)
    engine.send(StopRun())
    events = await watch(engine)
    assert ends(events) == {"a": "cancelled"}
    assert engine.join(10)
    engine.send(CancelWorker("a", 1))


async def test_log_record_of_a_worker_and_its_threads_is_an_event_with_its_name() -> None:
    async def talk() -> None:
        logging.getLogger("app").warning("hello %s", "you")
        await asyncio.to_thread(logging.getLogger("app.thread").error, "from below")
        logging.getLogger("app").debug("too low")
        logging.getLogger("app").warning("%d", "no number")

    with bare_root_logger():
        engine = engine_of(worker("a", talk))
        events = await watch(engine)
        engine.join(10)
    recorded = [(e.worker, e.level, e.logger, e.message) for e in events if isinstance(e, LogRecorded)]
    assert recorded == [
        ("a", "WARNING", "app", "hello you"),
        ("a", "ERROR", "app.thread", "from below"),
        ("a", "WARNING", "app", "%d ('no number',)"),
    ]


async def test_printed_line_of_a_worker_is_an_event_and_other_prints_pass(capsys: Any) -> None:
    async def talk() -> None:
        print("one\ntwo", end="")  # noqa: T201  the subject of the test
        print()  # noqa: T201
        print("50%", end="\r")  # noqa: T201
        print("flushed", end="", flush=True)  # noqa: T201
        print("unfinished", end="")  # noqa: T201

    engine = engine_of(worker("a", talk), stays_open=True)

    def act(event: Event) -> None:
        if isinstance(event, WorkerEnded):
            engine.send(StopRun())

    with capturing_prints(engine.record_log):
        print("mine")  # noqa: T201
        events = await watch(engine, act)
    recorded = [(e.worker, e.logger, e.message) for e in events if isinstance(e, LogRecorded)]
    assert recorded == [("a", "stdout", line) for line in ("one", "two", "50%", "flushed", "unfinished")]
    assert [type(event).__name__ for event in events[-2:]] == ["WorkerSucceeded", "RunFinished"]
    assert capsys.readouterr().out == "mine\n"


async def test_engine_ends_although_a_worker_swallows_its_cancellation() -> None:
    engine = engine_of(worker("a", stubborn))

    def act(event: Event) -> None:
        if type(event).__name__ == "AttemptStarted":
            engine.send(StopRun())

    events = await watch(engine, act)
    assert ends(events) == {"a": "unresponsive"}
    assert engine.join(10)


async def test_join_is_false_while_a_thread_of_a_worker_runs() -> None:
    release = threading.Event()

    async def block() -> None:
        await asyncio.to_thread(release.wait)

    engine = engine_of(worker("a", block))

    def act(event: Event) -> None:
        if type(event).__name__ == "AttemptStarted":
            engine.send(StopRun())

    await watch(engine, act)
    assert not engine.join(0.5)
    release.set()
    deadline = time.monotonic() + 10
    while not engine.join(1) and time.monotonic() < deadline:
        pass
    assert engine.join(1)


async def test_engine_with_a_blocked_loop_emits_the_last_event_once_after_the_grace_period(monkeypatch: Any) -> None:
    monkeypatch.setattr("asyncwatch.engine.thread.PATIENCE", 0.1)
    release = threading.Event()

    async def block() -> None:
        release.wait()

    engine = engine_of(worker("a", block))

    def act(event: Event) -> None:
        if type(event).__name__ == "AttemptStarted":
            engine.send(StopRun())

    events = await watch(engine, act)
    # A loaded machine adds blocks of its own.
    kinds = [type(event).__name__ for event in events if getattr(event, "cause", "") != "machine"]
    assert kinds == ["RunStarted", "WorkersQueued", "AttemptStarted", "LoopBlocked", "RunFinished"]
    assert [event.seq for event in events] == list(range(len(events)))
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert (last.states, last.attempts, last.interrupted) == ({"running": 1}, 1, True)
    assert last.elapsed > 0
    began = time.monotonic()
    assert not engine.join(10)
    assert time.monotonic() - began < 5
    release.set()
    engine._thread.join(10)
    assert engine.join()


async def slow_to_end(seconds: float) -> None:
    """Run for ever. After cancellation, take that many seconds to end."""
    try:
        await asyncio.sleep(FOREVER)
    finally:
        await asyncio.sleep(seconds)


def services(name: str, count: int, seconds: float, shutdown: float | None = None) -> SupervisorSpec:
    """Return a supervisor of services named from 1, each of which takes `seconds` to stop."""
    numbers = range(1, count + 1)
    return SupervisorSpec(
        name, tuple(worker(str(n), slow_to_end, seconds, restart="permanent", shutdown=shutdown) for n in numbers)
    )


async def test_engine_with_a_responsive_loop_waits_for_the_shutdown_times_of_its_supervisors(monkeypatch: Any) -> None:
    monkeypatch.setattr("asyncwatch.engine.thread.PATIENCE", 0.1)
    engine = engine_of(services("long", 1, 0.6, math.inf), services("short", 12, 0.05), grace=0.4)

    def act(event: Event) -> None:
        if isinstance(event, WorkerReady) and event.worker == "short/12":
            engine.send(StopRun())

    events = await watch(engine, act)
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert last.states == {"cancelled": 13}
    assert engine.join(10)


async def test_second_stop_abandons_services_that_have_not_ended() -> None:
    engine = engine_of(services("s", 3, FOREVER, math.inf), grace=FOREVER)

    def act(event: Event) -> None:
        if isinstance(event, WorkerReady) and event.worker == "s/3":
            engine.send(StopRun())
        elif isinstance(event, CancelRequested) and event.worker == "s/3":
            engine.send(StopRun(at_once=True))

    events = await watch(engine, act)
    assert ends(events) == {"s/1": "unresponsive", "s/2": "unresponsive", "s/3": "cancelled"}
    assert [event.reason for event in events if isinstance(event, RunCancelRequested)] == ["person", "at once"]
    assert engine.join(10)


async def test_second_stop_ends_a_run_that_is_being_opened() -> None:
    is_opening = threading.Event()

    @asynccontextmanager
    async def open_run() -> AsyncIterator[Run]:
        is_opening.set()
        await asyncio.Event().wait()
        yield Run([])

    async def drive(run: Run) -> None:
        await run.gather()

    engine = EngineThread(open_run, drive, stays_open=False)
    engine.start()
    queue = engine.events()
    assert await asyncio.to_thread(is_opening.wait, 20)
    engine.send(StopRun())
    engine.send(StopRun(at_once=True))
    async with asyncio.timeout(20):
        assert [type(event).__name__ for event in await queue.get()] == ["RunFinished"]
    assert not engine.join()
    loop = engine._loop
    assert loop is not None
    loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
    engine._thread.join(10)
    assert not engine._thread.is_alive()


async def test_run_that_cannot_be_opened_emits_the_last_event_and_keeps_the_error() -> None:
    @asynccontextmanager
    async def open_run() -> AsyncIterator[Supervisor]:
        raise OSError("no port")
        yield

    async def drive(supervisor: Supervisor) -> None:
        raise AssertionError

    engine = EngineThread(open_run, drive, stays_open=True)
    events = await watch(engine)
    assert [type(event).__name__ for event in events] == ["RunFinished"]
    engine.join(10)
    assert isinstance(engine.error, OSError)


async def test_background_task_of_a_worker_is_cancelled_at_the_end_of_the_run() -> None:
    ended = threading.Event()

    async def linger() -> None:
        try:
            await asyncio.sleep(FOREVER)
        finally:
            ended.set()

    kept = []

    async def start() -> None:
        kept.append(asyncio.get_running_loop().create_task(linger()))
        await asyncio.sleep(0)

    engine = engine_of(worker("a", start))
    await watch(engine)
    assert engine.join(10)
    assert ended.is_set()


async def test_statistics_show_the_lag_of_a_blocked_loop() -> None:
    async def block() -> None:
        time.sleep(0.3)  # noqa: ASYNC251  blocking is the subject of the test
        await asyncio.sleep(0.15)

    engine = engine_of(worker("a", block), worker("b", raiser, ValueError()), stays_open=True)
    lags = []

    def act(event: Event) -> None:
        if isinstance(event, WorkerEnded) and event.worker == "a":
            lags.append(engine.statistics().loop_lag)
            engine.send(StopRun())

    await watch(engine, act)
    assert lags[0] > 0.1


async def test_tree_starts_when_its_events_are_requested() -> None:
    began = threading.Event()

    async def begin() -> None:
        began.set()
        await asyncio.Event().wait()

    engine = engine_of(SupervisorSpec("s", (worker("a", begin, restart="permanent"),)))
    engine.start()
    assert not await asyncio.to_thread(began.wait, 0.1)
    queue = engine.events()
    events: list[Event] = []
    async with asyncio.timeout(20):
        while not events or not isinstance(events[-1], RunFinished):
            events += await queue.get()
            if began.is_set():
                engine.send(StopRun())
    assert isinstance(events[0], RunStarted)
    assert [event.seq for event in events] == list(range(len(events)))
    assert ends(events) == {"s/a": "cancelled"}
    assert engine.join(10)
    assert engine.error is None


async def test_tree_whose_workers_have_ended_can_be_stopped() -> None:
    engine = engine_of(SupervisorSpec("s", (worker("a", sleeper, 0.0, restart="transient"),)))

    def act(event: Event) -> None:
        if isinstance(event, WorkerEnded):
            engine.send(StopRun())

    events = await watch(engine, act)
    assert ends(events) == {"s/a": "succeeded"}
    assert engine.join(10)


async def test_tree_that_does_not_start_ends_an_open_run_and_names_the_child() -> None:
    never = worker("a", sleeper, FOREVER, restart="permanent")
    broken = worker("b", raiser, ValueError("no"), restart="permanent", announces_ready=True)
    engine = engine_of(SupervisorSpec("s", (never, broken)), stays_open=True)
    events = await watch(engine)
    assert ends(events) == {"s/a": "cancelled", "s/b": "failed"}
    assert engine.join(10)
    assert isinstance(engine.error, StartError)
    assert "s/b did not start: ValueError: no" in str(engine.error)


async def test_tree_that_gave_up_keeps_an_open_run_open_and_logs_the_error() -> None:
    flapping = worker("a", sleeper, 0.0, restart="permanent")
    engine = engine_of(SupervisorSpec("s", (flapping,)), stays_open=True)
    logged: list[str] = []

    def act(event: Event) -> None:
        if isinstance(event, LogRecorded) and event.logger == "asyncwatch":
            logged.append(event.message)
            engine.send(StopRun())

    events = await watch(engine, act)
    assert logged == ["root gave up: more than 1 restart within 5 s"]
    assert [event.name for event in events if isinstance(event, SupervisorTerminated)][-1] == "root"
    assert engine.join(10)
    assert isinstance(engine.error, RestartLimitError)


async def test_tree_that_gave_up_is_started_again_in_an_open_run() -> None:
    starts = 0

    async def flap() -> None:
        nonlocal starts
        starts += 1
        if starts > 2:
            await asyncio.Event().wait()

    engine = engine_of(SupervisorSpec("s", (worker("a", flap, restart="permanent"),), max_restarts=0), stays_open=True)
    roots: list[str] = []

    def act(event: Event) -> None:
        if isinstance(event, LogRecorded) and event.logger == "asyncwatch":
            roots.append("ended")
            engine.send(RestartBranch("root", 1))
        elif isinstance(event, SupervisorStarted) and event.name == "root":
            roots.append(f"started {event.incarnation}")
        elif isinstance(event, WorkerReady) and event.incarnation > 2:
            engine.send(StopRun())

    events = await watch(engine, act)
    assert roots == ["started 1", "ended", "started 2"]
    assert not [event.reason for event in events if isinstance(event, CommandRefused)]
    assert engine.join(10)
    assert engine.error is None


async def test_stop_command_that_raises_still_ends_an_open_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_control: RunControl, command: object) -> bool:
        raise RuntimeError(command)

    monkeypatch.setattr(RunControl, "carry_out", broken)
    engine = engine_of(worker("a", sleeper, 0.0), stays_open=True)
    events = await watch(engine, lambda event: engine.send(StopRun()) if isinstance(event, WorkerEnded) else None)
    assert ends(events) == {"a": "succeeded"}
    assert engine.join(10)


async def test_event_loop_that_cannot_be_made_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> asyncio.AbstractEventLoop:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("asyncwatch.engine.loop_thread.new_event_loop", fail)
    engine = engine_of(worker("a", sleeper, FOREVER))
    events = await watch(engine)
    assert [type(event) for event in events] == [RunFinished]
    assert isinstance(engine.error, OSError)
    engine.send(StopRun())
    assert engine.join(10)


async def test_loop_that_a_worker_stops_goes_on_and_this_is_logged() -> None:
    async def stop() -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return "later"

    engine = engine_of(worker("a", stop), worker("b", stop), worker("c", sleeper, 0.0, 1))
    events = await watch(engine)
    assert set(ends(events).items()) == {("a", "succeeded"), ("b", "succeeded"), ("c", "succeeded")}
    warnings = [event.message for event in events if isinstance(event, LogRecorded)]
    assert set(warnings) == {"other code called stop() on the event loop, which goes on"}
    assert engine.error is None


async def test_worker_that_cancels_every_task_leaves_no_worker_without_its_end() -> None:
    async def cancel_all() -> None:
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(FOREVER)

    engine = engine_of(worker("b", sleeper, FOREVER), worker("a", cancel_all), worker("c", sleeper, FOREVER))
    events = await watch(engine)
    assert set(ends(events)) == {"a", "b", "c"}
    assert engine.join(10)


async def test_as_many_threads_as_given_run_at_a_time() -> None:
    """The barrier breaks unless all of them wait at it together."""
    barrier = threading.Barrier(40)

    async def meet() -> None:
        await asyncio.to_thread(barrier.wait, 20)

    plain = engine_of(*(worker(str(number), meet) for number in range(40)))
    engine = EngineThread(plain._open_run, plain._drive, stays_open=False, threads=40)
    assert set(ends(await watch(engine)).values()) == {"succeeded"}
    assert engine.join(10)  # its idle threads end, though no one waits for them


async def test_send_then_calls_back_when_the_events_of_the_commands_are_in_the_queue() -> None:
    engine = engine_of(worker("a", sleeper, FOREVER), worker("b", sleeper, FOREVER), stays_open=True)
    queue = engine.events()
    loop, thread = asyncio.get_running_loop(), threading.get_ident()
    calls: asyncio.Queue[tuple[int, list[Event]]] = asyncio.Queue()
    events: list[Event] = []

    def called(count: int) -> None:
        assert asyncio.get_running_loop() is loop
        assert threading.get_ident() == thread
        while not queue.empty():
            events.extend(queue.get_nowait())
        calls.put_nowait((count, [*events]))

    engine.send_then((), called)  # before the run began
    engine.start()
    async with asyncio.timeout(20):
        await calls.get()
        while not any(getattr(event, "worker", "") == "b" for event in events):
            engine.send_then((), called)
            await calls.get()
        engine.send_then((CancelWorker("a", 1), CancelWorker("b", 7)), called)
        engine.send_then((RestartWorker("b", 9),), called)
        counts = [await calls.get() for _ in range(2)]
        for (count, seen), kinds in zip(counts, [(CancelRequested, CommandRefused), (CommandRefused,)], strict=True):
            assert len(seen) >= count
            assert {type(event) for event in seen[:count]} >= {*kinds}
        engine.send_then((StopRun(),), called)
        count, seen = await calls.get()
        assert any(isinstance(event, RunCancelRequested) for event in seen[:count])
    assert engine.join(10)
    engine.send_then((CancelWorker("a", 1),), called)
    await asyncio.sleep(0)
    assert calls.empty()


async def test_send_then_without_a_reader_does_nothing() -> None:
    engine = engine_of(worker("a", sleeper, 0.0))
    engine.send_then((), lambda _count: 1 / 0)
    engine.start()
    engine.send(StopRun())
    assert engine.join(10)
