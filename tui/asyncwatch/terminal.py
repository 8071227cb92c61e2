"""Keeps the terminal to the dashboard, and standard output to the data: nobody else in the process can spoil them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, TextIO

OnLine = Callable[[str], None]

_STANDARD = (0, 1, 2)
_LAST_LINES = 0.2
"""Seconds to wait, at the end, for lines that are still on their way."""


@contextmanager
def exclusive_terminal(on_line: OnLine) -> Iterator[None]:
    """Give the terminal to Textual alone for the time of the context.

    Textual finds it as `sys.__stdin__`, `sys.__stdout__` and `sys.__stderr__`. For everybody else, the processes that
    workers start and extensions in C included, standard input is empty, and each line written to standard output or
    error goes to `on_line`, in a thread of its own. If standard input is no terminal (items came through it), the keys
    are read from the controlling one.

    Raises:
        OSError: there is no terminal to read keys from.

    """
    keys = os.dup(0) if os.isatty(0) else os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    saved = [os.dup(number) for number in _STANDARD]
    originals = sys.__stdin__, sys.__stdout__, sys.__stderr__
    reading, writing = os.pipe()
    nothing = os.open(os.devnull, os.O_RDONLY)
    reader = threading.Thread(target=_read_lines, args=(reading, on_line), name="asyncwatch stray output", daemon=True)
    screen = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
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
            # A process that a worker left behind may hold the pipe open; it is not waited for.
            reader.join(_LAST_LINES)


@contextmanager
def private_stdout() -> Iterator[BinaryIO]:
    """Give standard output to the caller alone: what anybody else writes there goes to standard error.

    That holds for child processes and extensions in C too, if `sys.stdout` is the real standard output. A write may
    take less than it was given.
    """
    if not _is_descriptor(sys.stdout, 1):
        yield sys.stdout.buffer
        return
    sys.stdout.flush()
    # Without a buffer: closing one waits for whoever still writes to it.
    with os.fdopen(os.dup(1), "wb", buffering=0) as data:
        os.dup2(2, 1)
        try:
            yield data
        finally:
            sys.stdout.flush()
            os.dup2(data.fileno(), 1)


def _is_descriptor(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError):
        return False


def _replace(sys_streams: tuple[TextIO | None, ...], descriptors: tuple[int, ...] | list[int]) -> None:
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys_streams  # type: ignore[misc, assignment]  # final names, which Textual reads
    for number, descriptor in zip(_STANDARD, descriptors, strict=True):
        os.dup2(descriptor, number)


def _flush(*streams: TextIO) -> None:
    for stream in streams:
        stream.flush()


def _read_lines(descriptor: int, on_line: OnLine) -> None:
    with os.fdopen(descriptor, encoding="utf-8", errors="replace", newline="\n") as lines:
        for line in lines:
            on_line(line.rstrip("\r\n"))
