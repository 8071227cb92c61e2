"""What other code writes to descriptors 1 and 2 of an engine with a dashboard: C code and child processes above all.

It goes to a temporary file, which is read now and again. A pipe that the process reads itself would block it for ever
when C code fills the pipe while it holds the interpreter.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys
import tempfile
import threading

from asyncwatch.engine.capture import Record

EVERY = 0.1
"""Seconds between two looks at the file."""
LONGEST_LINE = 10_000
"""Characters of a line without an end that are kept for its end."""
_TRUNCATED_FROM = 1 << 20
"""Bytes from which on the file is emptied."""
_PIECE = 1 << 18
_REWRITTEN = re.compile(rb"[^\n]*\r(?!\n)")
"""The part of a line that the rest of it overwrites, as a progress bar does."""


class StrayOutput:
    """Descriptors 1 and 2 lead to a file from now on; `read` makes its lines events. Its methods fit any thread."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="asyncwatch-", buffering=0)  # noqa: SIM115  stays open to the end
        self._taken = 0
        self._rest = b""
        self._lock = threading.Lock()
        # After it was emptied, the next byte comes first.
        fcntl.fcntl(self._file, fcntl.F_SETFL, os.O_RDWR | os.O_APPEND)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number in (1, 2):
            os.dup2(self._file.fileno(), number)

    def read(self, record: Record) -> None:
        """Record each line that was written since the last call, without its end.

        A line that is rewritten, as by a progress bar, counts once.
        """
        with self._lock:
            while data := os.pread(self._file.fileno(), _PIECE, self._taken):
                self._taken += len(data)
                *lines, rest = (self._rest + data).split(b"\n")
                for line in lines:
                    _record(line, record)
                self._rest = _REWRITTEN.sub(b"", rest)
                if len(self._rest) > LONGEST_LINE:
                    _record(self._rest, record)
                    self._rest = b""
            if self._taken >= _TRUNCATED_FROM and os.fstat(self._file.fileno()).st_size == self._taken:
                self._file.truncate(0)
                self._taken = 0

    def finish(self, record: Record) -> None:
        """Record all lines, the last one also without an end."""
        self.read(record)
        with self._lock:
            rest, self._rest = self._rest, b""
        _record(rest, record)


def _record(line: bytes, record: Record) -> None:
    text = _REWRITTEN.sub(b"", line.rstrip(b"\r")).decode("utf-8", "replace")
    if text:
        record(None, "INFO", "output", text)
