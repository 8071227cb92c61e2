"""What a worker leaves in the task and the context that it ran in: if nothing, nobody can tell who had them before."""

from __future__ import annotations

import asyncio
from contextvars import Context
from sys import getrefcount
from typing import Any
from weakref import getweakrefcount


def traces_in(task: asyncio.Task[Any]) -> tuple[object, ...]:
    """Return all that can be left in a task: to be compared with what the same caller got before.

    These are a cancellation (also one that was taken back), a callback, a name, and the references that are kept to
    tell one task from another.
    """
    return (
        getrefcount(task),
        getweakrefcount(task),
        task._must_cancel,  # type: ignore[attr-defined]  # noqa: SLF001  what was taken back shows nowhere else
        task.cancelling(),
        len(task._callbacks or ()),  # noqa: SLF001
        task.get_name(),
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
