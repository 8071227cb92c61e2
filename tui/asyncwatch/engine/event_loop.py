"""Event loops: `run`, which does not wait for abandoned workers as `asyncio.run` would, and the loop of the engine.

Here is also the rule for Ctrl+C. asyncio's second one raises `KeyboardInterrupt` in whatever code the main thread is
running, which can be a user's function that the engine has called.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class _Abandoned:
    """The abandoned tasks of one event loop that have not ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.tasks: set[asyncio.Task[Any]] = set()
        self._added: asyncio.Future[None] | None = None

    def add(self, task: asyncio.Task[Any]) -> None:
        if task.get_loop() is not self._loop:  # a loop in another thread, in a copy of the program's context
            return
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        if self._added is not None and not self._added.done():
            self._added.set_result(None)

    def next_added(self) -> asyncio.Future[None]:
        """Return a future that is done when another task is added."""
        self._added = self._loop.create_future()
        return self._added


_abandoned: contextvars.ContextVar[_Abandoned | None] = contextvars.ContextVar("asyncwatch_abandoned", default=None)


def note_abandoned(task: asyncio.Task[Any]) -> None:
    """Note that `run` must not wait for a task."""
    abandoned = _abandoned.get()
    if abandoned is not None:
        abandoned.add(task)


def is_interrupt(error: BaseException) -> bool:
    """Return whether `error` is a Ctrl+C, which must end the event loop: a `KeyboardInterrupt` in the main thread."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def pass_on_interrupt(error: BaseException) -> None:
    """Raise a Ctrl+C out of the running event loop in its next iteration; do nothing for any other error.

    So the caller can first settle the worker that it was busy with. Callbacks that it schedules run later.
    """
    if is_interrupt(error):
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # outside any event loop
            raise error from None
        loop.call_soon(_raise, error)


def _raise(error: BaseException) -> None:
    raise error


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a uvloop loop where it is installed and works, else asyncio's own.

    Raises:
        OSError: The system refuses the descriptors that a loop needs.

    """
    try:
        import uvloop  # noqa: PLC0415  not before the first frame

        loop = uvloop.new_event_loop()
        if isinstance(loop, asyncio.AbstractEventLoop):
            return loop
    except BaseException as error:  # not installed; or a broken one, or a file of the user by that name
        pass_on_interrupt(error)
    return asyncio.new_event_loop()


def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> _T:
    """Run a program that uses a `Run` or a `Supervisor`, like `asyncio.run`, and return what `main` returns.

    At its end `asyncio.run` cancels all remaining tasks and waits for them, even for a worker that swallows every
    cancellation. This function does not wait for an abandoned worker (see `WorkerUnresponsive`), which is destroyed
    with the event loop. A thread in which it blocks is not.

    Raises:
        RuntimeError: an event loop runs in this thread already.

    """
    if _is_loop_running():
        main.close()
        raise RuntimeError("asyncwatch.run() cannot be called where an event loop runs")
    runner = asyncio.Runner(debug=debug, loop_factory=loop_factory or asyncio.new_event_loop)
    loop = runner.get_loop()
    abandoned = _Abandoned(loop)
    context = contextvars.copy_context()
    context.run(_abandoned.set, abandoned)
    try:
        return runner.run(main, context=context)
    finally:
        try:
            loop.run_until_complete(_end_tasks(abandoned))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            _mute(loop, abandoned.tasks)
            loop.close()


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _end_tasks(abandoned: _Abandoned) -> None:
    """Cancel every other task, and wait for all that have not been abandoned."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()} - abandoned.tasks
    for task in tasks:
        task.cancel()
    while tasks := {task for task in tasks if not task.done()} - abandoned.tasks:
        await asyncio.wait({*tasks, abandoned.next_added()}, return_when=asyncio.FIRST_COMPLETED)


def _mute(loop: asyncio.AbstractEventLoop, abandoned: set[asyncio.Task[Any]]) -> None:
    """Keep the loop from complaining about the tasks that are destroyed with it: that was reported already."""
    previous = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("task") in abandoned:
            return
        if previous is None:
            loop.default_exception_handler(context)
        else:
            previous(loop, context)

    if abandoned:
        loop.set_exception_handler(handle)
