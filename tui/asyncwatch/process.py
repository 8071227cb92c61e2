"""What this process takes of the machine."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COLLECT_AFTER = 10_000
"""How many more objects than before there are to be, for a search for garbage among the young ones."""
COLLECT_AT_START = 250_000
"""The same until the run begins: a twentieth of the time to the first picture went into looking through imports."""
TURN = 0.001
"""Seconds that a thread keeps the interpreter while another one waits for it."""


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Search for garbage less often than Python does by itself for the time of the context, and never in what is old.

    A request makes and drops many small objects. Python looks through the young ones after 700 (2,000 from 3.13 on)
    have been added, which takes a fifth of the processor's time when hundreds are under way and all but none of it is
    garbage. Whoever chose to collect seldomer still, or never, is left alone.
    """
    before = gc.get_threshold()
    gc.freeze()
    if before[0] == COLLECT_AT_START or 0 < before[0] < COLLECT_AFTER:
        gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def collecting_nothing() -> Iterator[None]:
    """Search for no garbage for the time of the context, in which nothing but a large list comes to be.

    Python would look through the list again and again while it grows.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def short_turns() -> Iterator[None]:
    """Let no thread of the process wait long for another one that computes, for the time of the context.

    A key passes three threads until it shows, and each of them may have to wait several times. Python's own turns of
    5 ms add up to 60 ms and more then, while a worker computes.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, TURN))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def memory() -> int | None:
    """Return the bytes of memory that the process occupies now; where the system does not tell, the most it ever did.

    None if nothing is known.
    """
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource  # noqa: PLC0415  it is not there on every platform
    except ImportError:
        return None
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024
