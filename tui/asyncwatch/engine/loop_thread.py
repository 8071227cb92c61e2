"""The thread of an event loop, in which the modules of targets are imported before the loop runs."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from asyncwatch.engine.event_loop import new_event_loop
from asyncwatch.process import FEWEST_FILES, file_limit

_T = TypeVar("_T")


class LoopThread:
    """A thread that makes calls for other threads one by one, and the last of them runs its event loop.

    What a call opens can be used by the coroutines of the loop, such as a `sqlite3.Connection`, which belongs to the
    thread that has made it. The loop is the current one of the thread, so clients that are made for the current loop
    are made for that of the work. It is a daemon thread, which starts with the first call.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._loops: list[asyncio.AbstractEventLoop] = []
        """The loop is the last one: the code of a module may have closed those before."""
        self._thread = threading.Thread(
            target=_make_calls, args=(self._calls, self._loops), name="asyncwatch engine", daemon=True
        )
        self._end = weakref.finalize(self, self._calls.put, None)
        self._end.atexit = False  # the interpreter does not wait for daemon threads

    def is_alive(self) -> bool:
        """Return whether the thread has started and not ended."""
        return self._thread.is_alive()

    def call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Return what `function` returns in the thread, or raise its error. Ctrl+C ends the wait, and not the call."""
        answers: queue.SimpleQueue[tuple[_T | None, BaseException | None]] = queue.SimpleQueue()

        def answer() -> None:
            try:
                with contextlib.suppress(OSError):  # the system has no descriptors: `event_loop` raises it again
                    asyncio.set_event_loop(self.event_loop())
                answers.put((function(*args), None))
            except BaseException as error:
                answers.put((None, error))

        self._put(answer)
        result, error = answers.get()
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback holds this frame: a cycle
        return result  # type: ignore[return-value]  # None only if it has returned None

    def run(self, function: Callable[[], object]) -> None:
        """Call `function` in the thread without waiting for it, and end the thread then."""
        self._put(function)
        self._end()

    def event_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop of the thread, which calls this.

        Raises:
            OSError: The system refuses the descriptors that a loop needs.

        """
        if not self._loops or self._loops[-1].is_closed():
            if file_limit() < FEWEST_FILES:
                raise OSError("the limit of open files is too low for an event loop")
            self._loops.append(new_event_loop())
        return self._loops[-1]

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of the thread, at most `timeout` seconds."""
        self._thread.join(timeout)

    def _put(self, call: Callable[[], object]) -> None:
        if self._thread.ident is None:
            self._thread.start()
        self._calls.put(call)


def _make_calls(calls: queue.SimpleQueue[Callable[[], object] | None], loops: list[asyncio.AbstractEventLoop]) -> None:
    """Make the calls until there is None, and close the loop. A method would keep the object that ends the thread."""
    while (call := calls.get()) is not None:
        call()
        del call
    for loop in loops:
        loop.close()
