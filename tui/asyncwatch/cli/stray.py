"""What other code writes to descriptors 1 and 2 of an engine with a dashboard: C code and child processes above all.

It goes to a temporary file, which is read now and again. A pipe that the process reads itself would block it for ever
when C code fills the pipe while it holds the interpreter.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import threading
from collections.abc import Sequence

from asyncwatch.engine.capture import Record

EVERY, SELDOM = 0.1, 0.5
"""Seconds between two looks at the file, while the run reports events or lines come, and while nothing happens."""
LONGEST_LINE = 10_000
"""Characters of a line without an end that are kept for its end."""
MOST_BEHIND = 8 << 20
"""Bytes that wait to be read. A child process can write faster than its lines can be recorded: more are dropped."""
LINES_A_LOOK = 1_000
"""Lines after which the rest waits for the next look, so that the clients of the run do not wait."""
LINES_AT_END = 10_000
_TRUNCATED_FROM = 1 << 20
"""Bytes from which on the file is emptied."""
_PIECE = 1 << 13


class StrayOutput:
    """Descriptors 1 and 2 lead to a file from now on; `read` makes its lines events. Its methods fit any thread."""

    def __init__(self, descriptors: Sequence[int] = (1, 2)) -> None:
        self._file = tempfile.TemporaryFile(prefix="asyncwatch-", buffering=0)  # noqa: SIM115  stays open to the end
        self._taken = 0
        self._rest = b""
        self._lock = threading.Lock()
        # After it was emptied, the next byte comes first.
        fcntl.fcntl(self._file, fcntl.F_SETFL, os.O_RDWR | os.O_APPEND)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number in descriptors:
            os.dup2(self._file.fileno(), number)

    def read(self, record: Record) -> bool:
        """Record the lines that were written since the last call, up to about `LINES_A_LOOK`, without their ends.

        A line that is rewritten, as by a progress bar, counts once. Return whether anything was written.
        """
        with self._lock:
            before = self._taken
            left = self._read(record, LINES_A_LOOK)
            if left > MOST_BEHIND:
                self._drop(record, left)
            elif not left and self._taken >= _TRUNCATED_FROM:
                self._empty()
            return self._taken != before

    def finish(self, record: Record) -> None:
        """Record all lines, the last one also without an end. Of very many the last ones are dropped."""
        with self._lock:
            if left := self._read(record, LINES_AT_END):
                self._drop(record, left)
            rest, self._rest = self._rest, b""
        _record(rest, record)

    def _read(self, record: Record, most: int) -> int:
        """Record some lines, and return how many bytes are left."""
        number, end = 0, os.fstat(self._file.fileno()).st_size
        while self._taken < end and number < most:
            data = os.pread(self._file.fileno(), min(_PIECE, end - self._taken), self._taken)
            self._taken += len(data)
            *lines, rest = (self._rest + data).split(b"\n")
            for line in lines:
                _record(line, record)
            number += len(lines)
            self._rest = _latest(rest)
            if len(self._rest) > LONGEST_LINE:
                _record(self._rest, record)
                self._rest = b""
        return os.fstat(self._file.fileno()).st_size - self._taken

    def _drop(self, record: Record, left: int) -> None:
        self._empty()
        self._rest = b""
        record(None, "WARNING", "output", f"{left:,} bytes of output dropped: they came faster than they can be shown")

    def _empty(self) -> None:
        self._file.truncate(0)
        self._taken = 0


def _latest(line: bytes) -> bytes:
    r"""Return what was last written over a line, as by a progress bar, with the `\r` at its end if there is one."""
    written = line.rstrip(b"\r")
    return written[written.rfind(b"\r") + 1 :] + line[len(written) : len(written) + 1]


def _record(line: bytes, record: Record) -> None:
    text = _latest(line).rstrip(b"\r").decode("utf-8", "replace")
    if text:
        record(None, "INFO", "output", text)
