"""What a worker leaves in the task and the context that it ran in: if nothing, the next one can have them."""

from __future__ import annotations

import asyncio
import sys
from contextvars import Context
from sys import getrefcount
from typing import Any
from weakref import getweakrefcount

if sys.version_info >= (3, 12):

    def _references_to_context(task: asyncio.Task[Any]) -> int:
        return getrefcount(task.get_context())

else:  # nobody can get hold of it

    def _references_to_context(_: asyncio.Task[Any]) -> int:
        return 0


NEW_TASK = (7, 1, 5, 0, 0, 1)
"""What `traces_in` gives at the first step of a new task, at the most, on CPython 3.11 to 3.13."""


def traces_in(task: asyncio.Task[Any]) -> tuple[int, ...]:
    """Return all that can be left in a task: to be compared with what the same caller got of a new one.

    These are references that somebody keeps to it or to its context, a cancellation (also one that was taken back),
    and callbacks. Of a new one each of them is the lowest that there is.
    """
    return (
        getrefcount(task),
        getweakrefcount(task),
        _references_to_context(task),
        task._must_cancel,  # type: ignore[attr-defined]  # noqa: SLF001  what was taken back shows nowhere else
        task.cancelling(),
        len(task._callbacks or ()),  # noqa: SLF001
    )


def are_same(before: Context, now: Context) -> bool:
    """Return whether the same context variables hold the very same objects.

    Those that are equal need not be the same, and may raise when they are compared.
    """
    if len(now) != len(before):
        return False
    for variable, value in now.items():  # noqa: SIM110  a generator takes twice as long, after every worker
        if before.get(variable, before) is not value:
            return False
    return True
