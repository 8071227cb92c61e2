"""`run`: as `asyncio.run`, which would wait for ever for a worker that was left behind."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
_left_behind: contextvars.ContextVar[set[asyncio.Task[Any]] | None] = contextvars.ContextVar(
    "asyncwatch_left_behind", default=None
)


def note_left_behind(task: asyncio.Task[Any]) -> None:
    """Note that nobody waits any more for a task, if it is `run` that would."""
    tasks = _left_behind.get()
    if tasks is not None:
        tasks.add(task)
        task.add_done_callback(tasks.discard)


def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> _T:
    """Run a program that uses a `Supervisor`, as `asyncio.run` would, and return what `main` returns.

    At its end that function cancels all tasks that are left and waits for them: also for a worker that swallows every
    cancellation. This one does not wait for a worker that a supervisor has left behind (see `WorkerUnresponsive`). It
    is destroyed with the event loop; a thread in which it blocks is not.

    Raises:
        RuntimeError: an event loop runs in this thread already.

    """
    if _is_loop_running():
        main.close()
        raise RuntimeError("asyncwatch.run() cannot be called where an event loop runs")
    runner = asyncio.Runner(debug=debug, loop_factory=loop_factory or asyncio.new_event_loop)
    left: set[asyncio.Task[Any]] = set()
    context = contextvars.copy_context()
    context.run(_left_behind.set, left)
    loop = runner.get_loop()
    try:
        return runner.run(main, context=context)
    finally:
        try:
            loop.run_until_complete(_end_tasks(left))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            _mute(loop, left)
            loop.close()


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _end_tasks(left: set[asyncio.Task[Any]]) -> None:
    """Cancel every other task, and wait for those that nobody has left behind, or leaves behind meanwhile."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()} - left
    for task in tasks:
        task.cancel()
    while tasks := {task for task in tasks if not task.done()} - left:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


def _mute(loop: asyncio.AbstractEventLoop, left: set[asyncio.Task[Any]]) -> None:
    """Let the loop not complain of the tasks that are destroyed with it: that they go on was told already."""
    previous = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("task") in left:
            return
        if previous is None:
            loop.default_exception_handler(context)
        else:
            previous(loop, context)

    if left:
        loop.set_exception_handler(handle)
