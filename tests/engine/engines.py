"""An engine on its own thread for tests, and its events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from asyncwatch import Run, Supervisor, SupervisorSpec, WorkerSpec
from asyncwatch.engine.thread import EngineThread
from asyncwatch.events import Event, RunFinished, WorkerEnded


def engine_of(*specs: WorkerSpec | SupervisorSpec, stays_open: bool = False, **settings: Any) -> EngineThread[Any]:
    """Return an engine that serves `specs` as a tree if one of them is a supervisor, and else gathers them."""
    is_tree = any(isinstance(spec, SupervisorSpec) for spec in specs)

    @asynccontextmanager
    async def open_run() -> AsyncIterator[Run | Supervisor]:
        kind: Any = Supervisor if is_tree else Run
        yield kind(specs, **{"grace": 0.05, "seed": 1, **settings})

    async def drive(run: Run | Supervisor) -> None:
        await (run.serve() if isinstance(run, Supervisor) else run.gather())

    return EngineThread(open_run, drive, stays_open=stays_open)


async def watch(engine: EngineThread[Any], on_event: Callable[[Event], None] = lambda _event: None) -> list[Event]:
    """Start `engine` and return all events up to the last."""
    engine.start()
    queue = engine.events()
    events: list[Event] = []
    try:
        async with asyncio.timeout(20):
            while not events or not isinstance(events[-1], RunFinished):
                for event in await queue.get():
                    events.append(event)
                    on_event(event)
    except TimeoutError:
        raise AssertionError(f"the run did not finish within 20 s; its last events: {events[-3:]}") from None
    return events


def ends(events: list[Event]) -> dict[str, str]:
    """Return the state in which each worker ended last."""
    return {event.worker: event.state.value for event in events if isinstance(event, WorkerEnded)}
