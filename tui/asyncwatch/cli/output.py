"""The output file: a line for every end of a worker, as JSON lines or CSV, whole even when a disk fills up.

A worker that is restarted ends more than once, and so does one that was left behind as unresponsive and ended
after all: each end has its line, in the order of time, and the last line of a name is the one that holds.

A spreadsheet runs a CSV cell that begins with `=`, `+`, `-` or `@` as a formula, and names, results and errors
come from others. Such a cell is therefore written behind an apostrophe, which spreadsheets take for "this is
text"; plain numbers are left alone. JSON lines hold every value exactly as it is.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from asyncwatch.events import Batch, WorkerEnded, WorkerExhausted, WorkerUnresponsive
from asyncwatch.text import mask_secrets, value_text

FIELDS = ("name", "state", "result", "attempts", "error", "elapsed")
"""What a line tells: `result` is what the target returned, `error` is `Type: message`, `elapsed` in seconds."""

_LINES_A_WRITE = 1_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class _RawFile(Protocol):
    """The part of an unbuffered binary file that is used."""

    def write(self, data: bytes, /) -> int | None: ...
    def seek(self, offset: int, whence: int = ..., /) -> int: ...
    def truncate(self, size: int | None = ..., /) -> int: ...
    def close(self) -> None: ...


class OutputFile:
    """A file that receives the ends of workers. An existing one is replaced.

    Nothing is lost while the disk is full: lines that could not be written are kept and tried again with the
    next batch and at the end, and a line that was torn is taken back.

    Raises:
        ValueError: the name of the file ends in neither `.jsonl` nor `.csv`.
        OSError: it cannot be opened or written; the message says why, and names it.

    """

    def __init__(self, path: Path | str, open_file: Callable[[Path], _RawFile] | None = None) -> None:
        self.path = Path(path)
        formats = {".jsonl": _json_line, ".csv": _csv_line}
        line_of = formats.get(self.path.suffix.lower())
        if line_of is None:
            raise ValueError(f"output file {str(path)!r} must end in .jsonl or .csv")
        self._line = line_of
        self._waiting: deque[bytes] = deque()
        self._reason = ""
        self._is_closed = False
        self._is_failing = False
        try:
            self._file = (open_file or _open)(self.path)
            if line_of is _csv_line:
                self._waiting.append(_csv_row(FIELDS))
                self._flush()
        except OSError as error:
            raise OSError(f"cannot write output file {str(path)!r}: {error.strerror or error}") from error
        if self._reason:
            self._file.close()
            raise OSError(f"cannot write output file {str(path)!r}: {self._reason}")

    @property
    def unwritten(self) -> int:
        """How many lines wait to be written."""
        return len(self._waiting)

    @property
    def problem(self) -> str | None:
        """What keeps lines from being written, in one sentence; None if nothing does."""
        if not self._reason:
            return None
        lines = f"{self.unwritten:,} line{' is' if self.unwritten == 1 else 's are'}"
        return f"cannot write output file {str(self.path)!r}: {self._reason} ({lines} not written)"

    def write(self, batch: Batch) -> str | None:
        """Write a line for every end of a worker in `batch`, and whatever waits. Never raises an OSError.

        Return what somebody has to know now: that lines cannot be written any more, or can again.
        """
        self._waiting.extend(self._line(_fields(event)) for event in batch if isinstance(event, WorkerEnded))
        if self._waiting:
            self._flush()
        if bool(self._reason) is self._is_failing:
            return None
        self._is_failing = bool(self._reason)
        return self.problem or f"output file {str(self.path)!r} is being written again; no line is missing"

    def close(self) -> None:
        """Try once more to write what waits, then close the file. `problem` and `unwritten` say how it went."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._waiting:
            self._flush()
        try:
            self._file.close()
        except OSError as error:
            # Network file systems report here that what they took cannot be stored.
            self._reason = self._reason or error.strerror or str(error)

    def _flush(self) -> None:
        while self._waiting:
            lines = list(itertools.islice(self._waiting, _LINES_A_WRITE))
            data = b"".join(lines)
            written = 0
            try:
                while written < len(data):
                    count = self._file.write(data[written:])
                    if not count:
                        raise BlockingIOError("the file takes no more")
                    written += count
            except OSError as error:
                self._reason = error.strerror or str(error)
                self._forget(lines, written)
                return
            for _ in lines:
                self._waiting.popleft()
        self._reason = ""

    def _forget(self, lines: list[bytes], written: int) -> None:
        """Drop the lines that are in the file after `written` bytes of `lines`, and take a torn one back."""
        for line in lines:
            if written < len(line):
                break
            written -= len(line)
            self._waiting.popleft()
        if not written:
            return
        try:
            self._file.truncate(self._file.seek(0, os.SEEK_END) - written)
            self._file.seek(0, os.SEEK_END)
        except OSError:
            # A pipe takes nothing back: the rest of the line follows where it broke off.
            self._waiting[0] = self._waiting[0][written:]


def _open(path: Path) -> _RawFile:
    return path.open("wb", buffering=0)


def _fields(event: WorkerEnded) -> tuple[Any, ...]:
    error_type = getattr(event, "error_type", "")
    error: str = getattr(event, "error", "")
    if isinstance(event, WorkerUnresponsive):
        error = f"stuck at {event.stack}, cancelled {event.cancels} times"
    elif error_type:
        error = f"{error_type}: {error}" if error else error_type
        if isinstance(event, WorkerExhausted) and event.refusal:
            error += f" (no retry: {event.refusal})"
    result = getattr(event, "result", None)
    return event.worker, event.state.value, result, event.attempts, error, round(event.elapsed, 6)


def _json_line(fields: tuple[Any, ...]) -> bytes:
    record = dict(zip(FIELDS, fields, strict=True))
    record["error"] = record["error"] or None
    try:
        line = msgspec.json.encode(record)
    except (TypeError, ValueError, OverflowError):
        # Lone surrogates, which UTF-8 cannot hold but an escape can, or what only Python knows as data.
        line = json.dumps(record, default=repr).encode("ascii")
    if b"@" in line:
        line = mask_secrets(line.decode()).encode()
    return line + b"\n"


def _csv_line(fields: tuple[Any, ...]) -> bytes:
    name, state, result, attempts, error, elapsed = fields
    if result is not None and type(result) not in {int, float}:
        result = _inert(value_text(result))
    return _csv_row((_inert(name), state, result, attempts, _inert(error), elapsed))


def _inert(text: str) -> str:
    """Return `text` without credentials, and behind an apostrophe if a spreadsheet would calculate it."""
    text = mask_secrets(text)
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _csv_row(cells: tuple[Any, ...]) -> bytes:
    # Every text is quoted: before Python 3.13 the module leaves a lone carriage return bare.
    row = io.StringIO(newline="")
    csv.writer(row, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerow(cells)
    return row.getvalue().encode("utf-8", "backslashreplace")
