"""This process: its standard streams, the garbage collector, thread switches, and the memory in use."""

from __future__ import annotations

import gc
import io
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

GC_THRESHOLD = 10_000
"""New objects between two collections of the youngest generation during a run."""
STARTUP_GC_THRESHOLD = 250_000
"""The same until the run begins. Collections during the imports take 5 % of the time to the first frame."""
SWITCH_INTERVAL = 0.001
"""Seconds that a thread keeps the interpreter while another thread waits for it."""


def prepare_streams() -> None:
    """Make standard output and error usable, however the process was started.

    A closed descriptor is opened on the null device: otherwise the next file or socket would get its number, and what
    other code prints. Characters that the encoding of standard output cannot hold are escaped, as on standard error.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _open_stream(number))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def kept_streams() -> Iterator[None]:
    """Inside the context, other code may replace, close or detach `sys.stdout` and `sys.stderr`.

    Afterwards both can be written again, by the same objects if those are intact.
    """
    before = [("stdout", 1, sys.stdout), ("stderr", 2, sys.stderr)]
    try:
        yield
    finally:
        for name, number, stream in before:
            replacement = getattr(sys, name)
            if replacement is not stream:
                _replacements.append(replacement)
                with suppress(Exception):  # code of the user
                    replacement.flush()
            setattr(sys, name, stream if _is_intact(stream) else _open_stream(number))


def discard_output(number: int) -> None:
    """Let what is still buffered for the descriptor `number` go nowhere: the interpreter writes it on exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


_replacements: list[object] = []
"""Streams of other code in place of ours. At its end, a `TextIOWrapper` closes the buffer that it shares with ours."""


def _is_intact(stream: TextIO) -> bool:
    try:
        stream.flush()
    except ValueError:  # closed, or its buffer is detached
        return False
    except OSError:  # its reader has gone, or a disk is full, which writing to it will report
        return True
    return True


def _open_stream(number: int) -> TextIO:
    return open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


FEWEST_FILES = 24
"""Open files without which no run can start. libuv ends the process if there are too few for its event loop."""


def raise_file_limit(wanted: int) -> int:
    """Raise the soft limit of open files to `wanted` if the hard limit allows it, and return the soft limit."""
    try:
        import resource  # noqa: PLC0415  not on every platform
    except ImportError:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return wanted if soft == unlimited else soft
    limit = wanted if hard == unlimited else min(wanted, hard)
    with suppress(OSError, ValueError):  # macOS has a lower limit of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def file_limit() -> float:
    """Return the soft limit of open files; inf if there is none."""
    try:
        import resource  # noqa: PLC0415  as above
    except ImportError:
        return math.inf
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return math.inf if soft == resource.RLIM_INFINITY else soft


def children_mark() -> int:
    """Return a number that changes whenever a child process has ended and was waited for: its page faults are added."""
    try:
        import resource  # noqa: PLC0415  as above
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt


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
