"""The engine in its own thread, for real: commands in, events out, whatever the workers and the loop do."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncwatch import Run, Supervisor, SupervisorSpec, WorkerSpec
from asyncwatch.commands import CancelWorker, RestartWorker, StopRun
from asyncwatch.engine.capture import capturing_prints
from asyncwatch.engine.run_control import RunControl
from asyncwatch.engine.thread import EngineThread
from asyncwatch.events import (
    CancelRequested,
    Event,
    LogRecorded,
    RunCancelRequested,
    RunFinished,
    RunStarted,
    SupervisorTerminated,
    WorkerEnded,
    WorkerReady,
)
from asyncwatch.otp import RestartLimitError, StartError
from tests.engine.fleets import raiser, sleeper, stubborn, worker

FOREVER = 1e6


def engine_of(*specs: WorkerSpec | SupervisorSpec, stays_open: bool = False, **settings: Any) -> EngineThread[Any]:
    """Return an engine that gathers `specs`, or serves them if one of them is a supervisor."""
    is_tree = any(isinstance(spec, SupervisorSpec) for spec in specs)

    @asynccontextmanager
    async def open_run() -> AsyncIterator[Run | Supervisor]:
        kind: Any = Supervisor if is_tree else Run
        yield kind(specs, **{"grace": 0.05, "seed": 1, **settings})

    async def drive(run: Run | Supervisor) -> None:
        await (run.serve() if isinstance(run, Supervisor) else run.gather())

    return EngineThread(open_run, drive, stays_open=stays_open)


async def watch(engine: EngineThread[Any], on_event: Callable[[Event], None] = lambda _event: None) -> list[Event]:
    """Start `engine`; return all events until the last."""
    engine.start()
    queue = engine.events()
    events: list[Event] = []
    async with asyncio.timeout(20):
        while not events or not isinstance(events[-1], RunFinished):
            for event in await queue.get():
                events.append(event)
                on_event(event)
    return events


def ends(events: list[Event]) -> dict[str, str]:
    """Return how each worker ended last."""
    return {event.worker: event.state.value for event in events if isinstance(event, WorkerEnded)}


async def test_a_run_from_first_to_last_event() -> None:
    """All events arrive on the reader's loop; the thread ends with the run."""
    engine = engine_of(*(worker(str(n), sleeper, 0.0, n) for n in range(200)))
    events = await watch(engine)
    assert [event.seq for event in events] == list(range(len(events)))
    assert set(ends(events).values()) == {"succeeded"}
    assert engine.join(10)
    assert engine.error is None


async def test_commands_from_another_thread() -> None:
    """A running worker is cancelled, then restarted, by commands; StopRun ends the open run as interrupted."""
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


async def test_commands_sent_too_early_or_too_late() -> None:
    """A command sent before the run starts is carried out in it; one sent after its end is dropped."""
    engine = engine_of(worker("a", sleeper, FOREVER), stays_open=True)
    engine.send(StopRun())
    events = await watch(engine)
    assert ends(events) == {"a": "cancelled"}
    assert engine.join(10)
    engine.send(CancelWorker("a", 1))


async def test_what_workers_log_is_told_with_their_name() -> None:
    """Log records made in a worker, in its threads, and outside any worker become events; none is printed."""

    async def talk() -> None:
        logging.getLogger("app").warning("hello %s", "you")
        await asyncio.to_thread(logging.getLogger("app.thread").error, "from below")
        logging.getLogger("app").debug("too low")
        logging.getLogger("app").warning("%d", "no number")

    events = await watch(engine_of(worker("a", talk)))
    told = [(e.worker, e.level, e.logger, e.message) for e in events if isinstance(e, LogRecorded)]
    assert told == [
        ("a", "WARNING", "app", "hello you"),
        ("a", "ERROR", "app.thread", "from below"),
        ("a", "WARNING", "app", "%d ('no number',)"),
    ]


async def test_what_workers_print_is_told_with_their_name(capsys: Any) -> None:
    """Printed lines become events; what others print passes through."""

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
    told = [(e.worker, e.logger, e.message) for e in events if isinstance(e, LogRecorded)]
    assert told == [("a", "stdout", line) for line in ("one", "two", "50%", "flushed", "unfinished")]
    assert [type(event).__name__ for event in events[-2:]] == ["WorkerSucceeded", "RunFinished"]
    assert capsys.readouterr().out == "mine\n"


async def test_a_worker_that_swallows_cancellation_cannot_hold_up_the_end() -> None:
    """The run finishes with the worker unresponsive, and the thread ends."""
    engine = engine_of(worker("a", stubborn))

    def act(event: Event) -> None:
        if type(event).__name__ == "AttemptStarted":
            engine.send(StopRun())

    events = await watch(engine, act)
    assert ends(events) == {"a": "unresponsive"}
    assert engine.join(10)


async def test_a_thread_that_blocks_is_told_apart() -> None:
    """join() is False while a worker's thread still runs, so that the command can leave all the same."""
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


async def test_a_blocked_loop_cannot_hold_up_the_end(monkeypatch: Any) -> None:
    """If a worker blocks the loop, the last event comes soon after the grace period all the same, and only once."""
    monkeypatch.setattr("asyncwatch.engine.thread.PATIENCE", 0.1)
    release = threading.Event()

    async def block() -> None:
        release.wait()

    engine = engine_of(worker("a", block))

    def act(event: Event) -> None:
        if type(event).__name__ == "AttemptStarted":
            engine.send(StopRun())

    events = await watch(engine, act)
    told = [type(event).__name__ for event in events if getattr(event, "cause", "") != "machine"]  # it may be loaded
    assert told == ["RunStarted", "WorkersQueued", "AttemptStarted", "LoopBlocked", "RunFinished"]
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
    """Run for ever; take so many seconds to end."""
    try:
        await asyncio.sleep(FOREVER)
    finally:
        await asyncio.sleep(seconds)


def services(name: str, count: int, seconds: float, shutdown: float | None = None) -> SupervisorSpec:
    """Return a supervisor of services, numbered from 1, each of which takes so long to stop."""
    numbers = range(1, count + 1)
    return SupervisorSpec(
        name, tuple(worker(str(n), slow_to_end, seconds, restart="permanent", shutdown=shutdown) for n in numbers)
    )


async def test_a_loop_that_lives_has_the_time_that_its_supervisors_have(monkeypatch: Any) -> None:
    """Services that stop one after the other, longer together than the grace of each, are all waited for."""
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


async def test_a_second_stop_waits_for_nobody() -> None:
    """Services that may take as long as they like are all cancelled then, once more if they were, or left behind."""
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


async def test_a_second_stop_ends_what_is_being_opened() -> None:
    """A run that is still being opened has no workers: its end is told without it."""
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
    await asyncio.to_thread(is_opening.wait)
    engine.send(StopRun())
    engine.send(StopRun(at_once=True))
    async with asyncio.timeout(20):
        assert [type(event).__name__ for event in await queue.get()] == ["RunFinished"]
    assert not engine.join()
    assert engine._loop is not None
    engine._loop.call_soon_threadsafe(engine._loop.stop)
    engine._thread.join(10)


async def test_a_run_that_cannot_be_opened_still_ends() -> None:
    """If opening the run raises, the last event comes all the same and the error is there."""

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


async def test_background_tasks_of_workers_are_ended() -> None:
    """A task that a worker starts and leaves is cancelled when the run ends."""
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


async def test_loop_lag_is_seen() -> None:
    """A worker that blocks the loop shows in the statistics."""

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


async def test_a_tree_starts_when_somebody_watches_it() -> None:
    """No event of a tree is lost to who asks late: nothing starts before the events are asked for."""
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


async def test_a_tree_without_any_worker_can_be_stopped() -> None:
    """A supervisor that has nothing to supervise any more ends with the run."""
    engine = engine_of(SupervisorSpec("s", (worker("a", sleeper, 0.0, restart="transient"),)))

    def act(event: Event) -> None:
        if isinstance(event, WorkerEnded):
            engine.send(StopRun())

    events = await watch(engine, act)
    assert ends(events) == {"s/a": "succeeded"}
    assert engine.join(10)


async def test_a_tree_that_does_not_start_ends_the_run() -> None:
    """The run finishes although it was to stay open, and the engine knows which child it was and why."""
    never = worker("a", sleeper, FOREVER, restart="permanent")
    broken = worker("b", raiser, ValueError("no"), restart="permanent", announces_ready=True)
    engine = engine_of(SupervisorSpec("s", (never, broken)), stays_open=True)
    events = await watch(engine)
    assert ends(events) == {"s/a": "cancelled", "s/b": "failed"}
    assert engine.join(10)
    assert isinstance(engine.error, StartError)
    assert "s/b did not start: ValueError: no" in str(engine.error)


async def test_a_tree_that_gave_up_can_be_looked_at() -> None:
    """After too many restarts the run stays open for who watches; the error is logged, and known at the end."""
    flapping = worker("a", sleeper, 0.0, restart="permanent")
    engine = engine_of(SupervisorSpec("s", (flapping,)), stays_open=True)
    told: list[str] = []

    def act(event: Event) -> None:
        if isinstance(event, LogRecorded) and event.logger == "asyncwatch":
            told.append(event.message)
            engine.send(StopRun())

    events = await watch(engine, act)
    assert told == ["root gave up: more than 1 restart within 5 s"]
    assert [event.name for event in events if isinstance(event, SupervisorTerminated)][-1] == "root"
    assert engine.join(10)
    assert isinstance(engine.error, RestartLimitError)


async def test_stop_that_raises_ends_an_open_run_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that stays open ends when it is asked to, even if carrying the request out fails."""

    def broken(_control: RunControl, command: object) -> bool:
        raise RuntimeError(command)

    monkeypatch.setattr(RunControl, "carry_out", broken)
    engine = engine_of(worker("a", sleeper, 0.0), stays_open=True)
    events = await watch(engine, lambda event: engine.send(StopRun()) if isinstance(event, WorkerEnded) else None)
    assert ends(events) == {"a": "succeeded"}
    assert engine.join(10)
