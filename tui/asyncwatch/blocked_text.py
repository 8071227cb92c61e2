"""How a block of the event loop reads, in the log, on stderr and on the screen."""

from __future__ import annotations

from pathlib import PurePath

from asyncwatch.events import LoopBlocked

MENDABLE = frozenset({"worker", "code", "many"})
"""Causes that whoever wrote the workers can do something about."""
_OUTSIDE = frozenset({"interpreter", "machine"})
"""Causes that are nothing which runs on the loop."""
_KEEPERS = {
    "code": "code outside any worker",
    "asyncwatch": "asyncwatch itself",
    "many": "many workers by turns",
    "garbage collection": "Python's garbage collector",
    "interpreter": "another thread of the process",
    "machine": "the machine",
}


def keeper(block: LoopBlocked) -> str:
    """Return who or what blocked the loop, in a few words."""
    return block.worker or _KEEPERS.get(block.cause, "something")


def place(block: LoopBlocked) -> str:
    """Return where: `jobs.py:12 fetch: time.sleep(1)`; empty if no code is to blame."""
    if not block.file:
        return ""
    call = f": {block.call}" if block.call else ""
    return f"{PurePath(block.file).name}:{block.line} {block.function}{call}"


def sentence(block: LoopBlocked) -> str:
    """Return all of it: `a blocked the event loop for 0.31 s at jobs.py:12 fetch: time.sleep(1)`."""
    where = place(block)
    if block.cause in _OUTSIDE:
        return f"the event loop was {block.duration:.2f} s late: {keeper(block)} gave it no time"
    return f"{keeper(block)} blocked the event loop for {block.duration:.2f} s" + (f" at {where}" if where else "")
