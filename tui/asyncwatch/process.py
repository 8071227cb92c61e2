"""Tuning and measuring this process: Python's garbage collector and thread switches, and the memory in use."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GC_THRESHOLD = 10_000
"""New objects between two collections of the youngest generation during a run."""
STARTUP_GC_THRESHOLD = 250_000
"""The same until the run begins. Collections during the imports take 5 % of the time to the first frame."""
SWITCH_INTERVAL = 0.001
"""Seconds that a thread keeps the interpreter while another thread waits for it."""


@contextmanager
def infrequent_gc() -> Iterator[None]:
    """Collect garbage less often inside the context, and ignore all objects that exist already.

    A request creates and drops many small objects. Python's threshold of 700 new objects (2,000 from 3.13 on) costs a
    fifth of the processor time when hundreds of requests are in flight, and finds almost no garbage. A higher
    threshold, or a collector that is off, is left alone.
    """
    before = gc.get_threshold()
    gc.freeze()
    if before[0] == STARTUP_GC_THRESHOLD or 0 < before[0] < GC_THRESHOLD:
        gc.set_threshold(GC_THRESHOLD, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def paused_gc() -> Iterator[None]:
    """Collect no garbage inside the context, for code that only builds a large list.

    Otherwise Python would traverse the list again and again while it grows.
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
def short_switch_interval() -> Iterator[None]:
    """Switch between threads every millisecond inside the context, unless that is done more often already.

    A key press passes through three threads before it shows, and each may wait several times. While a worker computes,
    Python's default interval of 5 ms adds up to 60 ms and more.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, SWITCH_INTERVAL))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def memory() -> int | None:
    """Return the resident memory of this process in bytes.

    Where the system does not report it, this is the highest value so far; None if that is unknown too.
    """
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource  # noqa: PLC0415  not on every platform
    except ImportError:
        return None
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024
