"""The terminal: whether it can show screens, its exclusive use by the dashboard, and of standard output for data.

Other code in the process, child processes and C extensions included, writes to the same descriptors. So the descriptors
themselves are replaced, not only `sys.stdout`.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

OnLine = Callable[[str], None]

WITHOUT_CURSOR = frozenset({"dumb", "unknown"})
"""Values of TERM for terminals that understand no escape sequences."""
_STANDARD = (0, 1, 2)
_LAST_LINES = 0.2
"""Seconds to wait at the end for lines that are still in the pipe."""


class _Screen(io.FileIO):
    """A terminal to write to. Once it has gone, all data is dropped.

    An error would end the thread in which Textual writes, and then the other threads would wait for it forever.
    """

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, and return the number of bytes written or dropped."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def can_show_screens() -> bool:
    """Return whether stdout is a terminal that can be drawn on, and there is a terminal to read keys from."""
    return sys.stdout.isatty() and why_no_screens() is None


def why_no_screens() -> str | None:
    """Return why the terminal that stdout is cannot show a dashboard, as part of a sentence; None if it can.

    Keys come from standard input, or from the controlling terminal.
    """
    if os.name != "posix":
        return "it needs a Unix system, such as Linux, macOS, or Linux on Windows (WSL)"
    kind = os.environ.get("TERM", "")
    if kind in WITHOUT_CURSOR:
        return f"a terminal of the kind TERM={kind} shows no screens"
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return "the size of the terminal is unknown"
    if not size.columns or not size.lines:
        return f"the terminal has {size.columns} columns and {size.lines} lines"
    if os.isatty(0):
        return None
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return "there is no terminal to read keys from"
    return None


@contextmanager
def exclusive_terminal(on_line: OnLine) -> Iterator[None]:
    """Give the terminal to Textual alone inside the context.

    Textual finds it as `sys.__stdin__`, `sys.__stdout__` and `sys.__stderr__`. For all other code, standard input is
    empty, and each line written to standard output or error goes to `on_line` in a thread of its own. If standard input
    is no terminal, because items are piped in, keys are read from the controlling terminal.

    Raises:
        OSError: There is no terminal to read keys from.

    """
    keys = os.dup(0) if os.isatty(0) else os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    saved = [os.dup(number) for number in _STANDARD]
    originals = sys.__stdin__, sys.__stdout__, sys.__stderr__
    reading, writing = os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    reader = threading.Thread(target=_read_lines, args=(reading, on_line), name="asyncwatch stray output", daemon=True)
    screen = io.TextIOWrapper(io.BufferedWriter(_Screen(os.dup(1), "w")), encoding="utf-8", errors="replace")
    with screen, os.fdopen(keys, encoding="utf-8") as keyboard:
        _flush(sys.stdout, sys.stderr)
        try:
            _replace(sys_streams=(keyboard, screen, screen), descriptors=(nothing, writing, writing))
            os.close(nothing)
            os.close(writing)
            reader.start()
            yield
        finally:
            _flush(sys.stdout, sys.stderr)
            _replace(sys_streams=originals, descriptors=saved)
            for number in saved:
                os.close(number)
            # A process that a worker started may keep the pipe open: do not wait for it.
            reader.join(_LAST_LINES)


@contextmanager
def private_stdout(*, is_alone: bool) -> Iterator[BinaryIO]:
    """Give a stdout of its own to the caller inside the context, which other code cannot close.

    If the caller is to write to it alone, other output to it goes to standard error, up to the end of the process. If
    `sys.stdout` is not the real standard output, nothing is replaced. A write may take only a part of the data.
    """
    if not _is_descriptor(sys.stdout, 1):
        yield sys.stdout.buffer
        return
    sys.stdout.flush()
    # Unbuffered: closing a buffer waits for a thread that still writes to it.
    with os.fdopen(os.dup(1), "wb", buffering=0) as data:
        if is_alone:
            os.dup2(2, 1)
        try:
            yield data
        finally:
            if not is_alone:  # after an error the copy leads to the null device, and what is still buffered follows
                os.dup2(data.fileno(), 1)


@contextmanager
def private_stderr() -> Iterator[BinaryIO | None]:
    """Yield a stderr which other code cannot close; None if `sys.stderr` is not the real standard error."""
    if not _is_descriptor(sys.stderr, 2):
        yield None
        return
    sys.stderr.flush()
    # Not closed: a thread may still write to it, unread.
    yield os.fdopen(os.dup(2), "wb", buffering=0, closefd=False)


def _is_descriptor(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError):
        return False


def _replace(sys_streams: tuple[TextIO | None, ...], descriptors: tuple[int, ...] | list[int]) -> None:
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys_streams  # type: ignore[misc, assignment]  # final names, but Textual reads them
    for number, descriptor in zip(_STANDARD, descriptors, strict=True):
        os.dup2(descriptor, number)


def _flush(*streams: TextIO) -> None:
    for stream in streams:
        with suppress(OSError, ValueError):  # its reader has gone, or other code has closed it
            stream.flush()


def _read_lines(descriptor: int, on_line: OnLine) -> None:
    with os.fdopen(descriptor, encoding="utf-8", errors="replace", newline="\n") as lines:
        for line in lines:
            on_line(line.rstrip("\r\n"))
