"""The thread of an event loop, and the calls that it makes before."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sqlite3
import threading
import weakref
from collections.abc import AsyncIterator

import pytest

from asyncwatch import Run, WorkerSpec
from asyncwatch.engine import loop_thread
from asyncwatch.engine.loop_thread import LoopThread
from asyncwatch.engine.thread import EngineThread
from asyncwatch.events import RunFinished

LIMIT = 30.0


def end(thread: LoopThread) -> None:
    """End a thread whose event loop has not run."""
    thread.run(lambda: None)
    thread.join()


def test_calls_are_made_in_one_thread_and_return_or_raise() -> None:
    thread = LoopThread()
    first, second = (thread.call(threading.current_thread) for _ in range(2))
    assert first is second is not threading.current_thread()
    assert first.daemon
    assert thread.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        thread.call(divmod, 7, 0)
    with pytest.raises(SystemExit):
        thread.call(exit)
    end(thread)
    assert not thread.is_alive()


def test_event_loop_is_the_current_one_of_the_calls_also_after_asyncio_run() -> None:
    thread = LoopThread()

    async def nothing() -> None:
        pass

    assert thread.call(asyncio.get_event_loop) is thread.call(thread.event_loop)
    thread.call(lambda: asyncio.run(nothing()))
    assert thread.call(asyncio.get_event_loop) is thread.call(thread.event_loop)
    end(thread)


def test_event_loop_that_a_call_has_closed_is_made_anew() -> None:
    thread = LoopThread()
    thread.call(lambda: asyncio.get_event_loop().close())
    assert not thread.call(asyncio.get_event_loop).is_closed()
    end(thread)


def test_thread_ends_with_its_object() -> None:
    thread = LoopThread()
    inner = thread.call(threading.current_thread)
    loop = thread.call(asyncio.get_event_loop)
    gone = weakref.ref(thread)
    del thread
    gc.collect()
    inner.join(LIMIT)
    assert gone() is None
    assert not inner.is_alive()
    assert loop.is_closed()


def test_call_without_descriptors_for_a_loop_is_made_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_thread, "file_limit", lambda: 10.0)
    thread = LoopThread()
    assert thread.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(OSError, match="limit of open files"):
        thread.call(thread.event_loop)
    thread.run(lambda: None)
    thread.join()


def test_what_a_call_opens_is_used_by_the_workers_of_the_run() -> None:
    """A connection of sqlite3 belongs to one thread, and many clients to the current event loop."""
    thread = LoopThread()
    connection = thread.call(sqlite3.connect, ":memory:")
    loop = thread.call(asyncio.get_event_loop)
    results: list[object] = []

    async def query() -> None:
        results.append(asyncio.get_running_loop() is loop)
        results.append(connection.execute("select 5").fetchone())
        connection.close()

    @contextlib.asynccontextmanager
    async def open_run() -> AsyncIterator[Run]:
        yield Run([WorkerSpec("a", query)])

    async def drive(run: Run) -> None:
        await run.gather()

    async def follow() -> None:
        queue = engine.events()
        engine.start()
        while not isinstance((await asyncio.wait_for(queue.get(), LIMIT))[-1], RunFinished):
            pass

    engine = EngineThread(open_run, drive, stays_open=False, loop_thread=thread)
    asyncio.run(follow())
    assert engine.join(LIMIT)
    assert results == [True, (5,)]
