"""The thread that serves the runs of one's own program, beside the event loops of that program."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

_T = TypeVar("_T")


class ControlLoop(asyncio.SelectorEventLoop):
    """The event loop of a `ControlThread`."""


class ControlThread:
    """A thread with an event loop, which serves all runs of a process. It ends when the last run has."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self) -> None:
        """Start the thread, unless it runs."""
        with self._lock:
            self._users += 1
            if self._loop is None:
                self._loop = ControlLoop()
                name = "asyncwatch control"
                threading.Thread(target=_run_and_close, args=(self._loop,), name=name, daemon=True).start()

    def leave(self) -> None:
        """Let the thread end if there is no other user."""
        with self._lock:
            self._users -= 1
            if not self._users and self._loop is not None:
                loop, self._loop = self._loop, None
                loop.call_soon_threadsafe(loop.stop)

    def forget_after_fork(self) -> None:
        """Begin anew in a forked process, in which the thread does not run."""
        self._lock = threading.Lock()
        self._users = 0
        self._loop = None

    def submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Run `work` in the thread."""
        assert self._loop is not None  # noqa: S101  it was entered
        return asyncio.run_coroutine_threadsafe(work, self._loop)


def _run_and_close(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


control_thread = ControlThread()
"""Of this process."""
os.register_at_fork(after_in_child=control_thread.forget_after_fork)
