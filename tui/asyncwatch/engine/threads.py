"""Plain functions as targets: each call has a thread for itself, and the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from queue import Empty, SimpleQueue
from types import CodeType
from typing import Any, Final, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from asyncwatch.engine.current import current_worker
from asyncwatch.engine.stacks import ThreadFuture, boundary

_P = ParamSpec("_P")
_R = TypeVar("_R")

GOES_ON: Final = "its thread cannot be cancelled"
"""The status of a worker whose function goes on after the cancellation."""


def in_thread(function: Callable[_P, _R]) -> Callable[_P, Coroutine[Any, Any, _R]]:
    """Return a coroutine function that calls `function`, a plain one, in a thread.

    Pass it where a coroutine function is needed: `amap(in_thread(parse), paths)`. The thread runs in a copy of the
    caller's context, so `current_worker` works there. There are as many threads as calls in flight: no pool limits
    them. One that is free is used again, or ends after a second. An awaitable that `function` returns is awaited in the
    event loop.

    A thread cannot be interrupted. A cancellation waits until the function ends, and the worker's status says so. The
    result or error of the function is then that of the call. A function that runs for long can call
    `current_worker().check_cancelled()` now and then. The worker is abandoned after its grace period as any other, and
    the thread goes on. The program can exit before the thread ends: it is a daemon thread, which ends with the process,
    in the middle of whatever it does.
    """

    @functools.wraps(function)
    async def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        running = _Call(partial(function, *args, **kwargs))
        await running.end()
        result, error = running.take()
        if error is not None:
            try:
                raise error
            except KeyboardInterrupt:  # no Ctrl+C, which is raised in the main thread only
                raise RuntimeError("the function raised KeyboardInterrupt") from error
            finally:
                del error  # its traceback holds this frame: a cycle
        return await result if inspect.isawaitable(result) else result  # type: ignore[no-any-return]

    return boundary(call)


_CODE: Final[CodeType] = in_thread(int).__code__  # a function has it


def runs_in_thread(target: object) -> bool:
    """Return whether `target` is what `in_thread` has returned."""
    return getattr(target, "__code__", None) is _CODE


IDLE_FOR = 1.0
"""Seconds that a thread waits for another call of its loop."""


class CallThread(threading.Thread):
    """A thread that makes one call after another for an event loop. It ends when none has come for `IDLE_FOR`."""

    def __init__(self) -> None:
        super().__init__(name="asyncwatch call", daemon=True)
        self.loop: asyncio.AbstractEventLoop | None = None
        """The loop of the call in progress; None while there is none."""
        self._calls: SimpleQueue[Callable[[], bool]] = SimpleQueue()
        self._lock = threading.Lock()
        self._is_over = False

    def give(self, call: Callable[[], bool], name: str, loop: asyncio.AbstractEventLoop) -> bool:
        """Let the thread make a call, which returns whether another may follow; return False if it is about to end."""
        with self._lock:
            if self._is_over:
                return False
            self.name, self.loop = name, loop
            self._calls.put(call)
            return True

    def run(self) -> None:
        """Make calls."""
        while (call := self._next()) is not None:
            if not call():
                return
            del call

    def _next(self) -> Callable[[], bool] | None:
        try:
            return self._calls.get(timeout=IDLE_FOR)
        except Empty:
            pass
        with self._lock:
            self._is_over = self._calls.empty()
            return None if self._is_over else self._calls.get()


_free: WeakKeyDictionary[asyncio.AbstractEventLoop, list[CallThread]] = WeakKeyDictionary()
"""The threads without a call, of each loop, whose thread alone changes the list. Some may have ended."""


def _thread_for(call: Callable[[], bool], name: str, loop: asyncio.AbstractEventLoop) -> CallThread:
    """Return the thread that makes a call."""
    free = _free.get(loop, [])
    while free:
        if (thread := free.pop()).give(call, name, loop):
            return thread
    thread = CallThread()
    thread.give(call, name, loop)
    thread.start()
    return thread


class _Call:
    """One call in a thread. It is made in the event loop, and starts at once."""

    def __init__(self, function: Callable[[], Any]) -> None:
        worker = current_worker()
        name = getattr(function, "__name__", "call") if worker is None else worker.name
        self._function: Callable[[], Any] | None = function
        self._result: Any = None
        self._error: BaseException | None = None
        self._is_over = False
        self._waiter: ThreadFuture | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = _thread_for(
            partial(contextvars.copy_context().run, self._run), f"asyncwatch call {name}", self._loop
        )

    async def end(self) -> None:
        """Wait for the end of the function, however often the caller is cancelled."""
        while not self._is_over:
            self._waiter = ThreadFuture(self._thread.ident, loop=self._loop)
            try:
                await self._waiter
            except asyncio.CancelledError:
                self._note_cancelled()
        self._waiter = None

    def _note_cancelled(self) -> None:
        if not self._is_over and (worker := current_worker()) is not None:
            worker.status(GOES_ON)

    def take(self) -> tuple[Any, BaseException | None]:
        """Return the result and the error, and forget them: the traceback of the error holds this object."""
        result, error, self._result, self._error = self._result, self._error, None, None
        return result, error

    def _end(self, thread: CallThread) -> None:
        self._is_over = True
        _free.setdefault(self._loop, []).append(thread)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # In the thread.

    def _run(self) -> bool:
        """Call the function; return whether the thread can be used again."""
        function, self._function = self._function, None
        assert function is not None  # noqa: S101  it is called once
        try:
            self._result = function()
        except BaseException as error:  # in a future, a SystemExit would end the loop, and a StopIteration be lost
            self._error = error.with_traceback(getattr(error.__traceback__, "tb_next", None))  # without this frame
        del function
        thread = threading.current_thread()
        assert isinstance(thread, CallThread)  # noqa: S101  this is called by `CallThread.run`
        thread.loop = None
        try:
            self._loop.call_soon_threadsafe(self._end, thread)
        except RuntimeError:  # the loop is closed
            return False
        return True
