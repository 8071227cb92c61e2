"""The output file: one line for each end of a worker, as JSON lines or CSV. A full disk neither drops nor cuts a line.

A restarted worker ends more than once, and so does an abandoned worker that ends late. Each end has its line, in
chronological order. The last line of a name is its final state.

A spreadsheet runs a CSV cell that begins with `=`, `+`, `-` or `@` as a formula, also behind blanks or in their wide
forms, and names, results and errors come from outside. An apostrophe marks such a cell as text, except a plain number.
JSON lines hold every value unchanged. Both formats mask the credentials of URLs.
"""

from __future__ import annotations

import csv
import errno
import io
import itertools
import json
import os
import re
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from asyncwatch.events import Batch, WorkerEnded, WorkerExhausted, WorkerUnresponsive
from asyncwatch.text import count, error_line, mask_secrets, mask_urls, mask_values, value_text

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

FIELDS = ("name", "state", "result", "attempts", "error", "elapsed")
"""The fields of a line. `result` is what the target returned, `error` is `Type: message`, `elapsed` is in seconds."""

_LINES_A_WRITE = 1_000
_BYTES_A_WRITE = 1 << 18
"""Of the lines of a run that is resumed, which may be many and large."""
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The last four are the wide forms, which Excel reads as the first four where they are usual."""
_IGNORED = re.compile(r"[\s\x00-\x1f\x7f\u200b-\u200f\u2060\ufeff]*")
"""What a spreadsheet may drop at the beginning of a cell."""


class RawFile(Protocol):
    """The methods of an unbuffered binary file that `OutputFile` uses."""

    def write(self, data: bytes, /) -> int | None: ...  # noqa: D102  as in `io.RawIOBase`
    def seek(self, offset: int, whence: int = ..., /) -> int: ...  # noqa: D102
    def truncate(self, size: int | None = ..., /) -> int: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


def _open(path: Path) -> RawFile:
    if (number := _descriptor(path)) is not None:
        return os.fdopen(os.dup(number), "wb", buffering=0)  # by its name, a file would be opened at its beginning
    path = path.absolute()  # a worker may change the current folder before the first line is written
    try:
        status = path.lstat()
    except FileNotFoundError:
        return _Replacement(path, None)
    if stat.S_ISREG(status.st_mode):
        path.open("ab").close()  # a file that may not be written may not be replaced
        if status.st_nlink == 1 and status.st_uid == os.geteuid() and os.access(path.parent, os.W_OK | os.X_OK):
            return _Replacement(path, stat.S_IMODE(status.st_mode))
    if path.is_file():
        return _InPlace(path)
    return path.open("wb", buffering=0)  # a device or a pipe


def _is_stream(path: Path) -> bool:
    """Return whether `path` is a pipe, a device, or a descriptor of this process."""
    if _descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def _descriptor(path: Path) -> int | None:
    """Return the number of the descriptor that `path` names, such as `/dev/stdout`; None for any other path."""
    match = re.fullmatch(r"/dev/(?:(stdout)|(stderr)|fd/([0-9]{1,9}))", str(path))
    if match is None:
        return None
    return 1 if match[1] else 2 if match[2] else int(match[3])


class _InPlace(io.FileIO):
    """A file whose old content is dropped by the first write."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "ab")
        self._is_old = True

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, and return the number of bytes written."""
        if self._is_old:
            self.truncate(0)
            self._is_old = False
        _check_linked(self)
        return super().write(data)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            try:
                _check_linked(self)
            finally:
                super().close()


class _Replacement:
    """A file that is written under a temporary name, and that replaces `path` after its first write.

    `mode` are the permissions of the file at `path`; None if there is none.

    Raises:
        OSError: The folder cannot be written.

    """

    def __init__(self, path: Path, mode: int | None) -> None:
        self._path = path
        self._mode = mode
        self._file: io.FileIO | None = None
        temporary, file = self._create()
        file.close()
        temporary.unlink()

    def write(self, data: bytes, /) -> int:
        """Write, the first time all or nothing."""
        if self._file is None:
            self.begin((data,))
            return len(data)
        _check_linked(self._file)
        return self._file.write(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Change the position, and return it."""
        return 0 if self._file is None else self._file.seek(offset, whence)

    def truncate(self, size: int | None = None, /) -> int:
        """Cut the file, and return its size."""
        return 0 if self._file is None else self._file.truncate(size)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with self._file:
                _check_linked(self._file)

    def begin(self, chunks: Iterable[bytes]) -> None:
        """Write the first data, all or nothing."""
        self._file = self._begin(chunks)

    def _create(self) -> tuple[Path, io.FileIO]:
        temporary = self._path.with_name(f".asyncwatch-{os.getpid()}-{time.time_ns()}")
        return temporary, io.FileIO(temporary, "xb")

    def _begin(self, chunks: Iterable[bytes]) -> io.FileIO:
        temporary, file = self._create()
        try:
            if self._mode is not None:
                os.fchmod(file.fileno(), self._mode)
            for data in chunks:
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
            temporary.replace(self._path)
        except BaseException:
            file.close()
            with suppress(OSError):
                temporary.unlink()
            raise
        return file


def _check_linked(file: io.FileIO) -> None:
    """Raise an error if the file was deleted or replaced: the system would go on writing to it."""
    if not os.fstat(file.fileno()).st_nlink:
        raise FileNotFoundError(errno.ENOENT, "it was deleted or replaced during the run")


class OpenedFile:
    """A file that is to be written once, as a whole. Opened as the output file is.

    Raises:
        OSError: It cannot be opened.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open(path)

    def write_whole(self, chunks: Iterable[bytes]) -> None:
        """Write the file and close it. A file that cannot be written to its end is left as it was.

        Raises:
            OSError: It cannot be written.

        """
        try:
            if isinstance(self._file, _Replacement):
                self._file.begin(chunks)
            else:
                for data in chunks:
                    rest = memoryview(data)
                    while rest:
                        rest = rest[self._file.write(bytes(rest)) or 0 :]
        finally:
            self._file.close()


class OutputFile:
    """Writes a line for each end of a worker. An existing file is replaced when the first line is written.

    Lines that cannot be written are kept in memory, and written with the next batch or at the end. A line that was
    written in part is taken back.

    `before` returns the ends whose lines come before all others, in a run that is resumed. It may raise an OSError.

    Raises:
        ValueError: The name of the file ends in none of `.jsonl`, `.ndjson` and `.csv`. A pipe or a device, such as
            `/dev/stdout`, may have any name, and gets JSON lines.
        OSError: The file cannot be opened. The message has its name and the reason.

    """

    def __init__(
        self,
        path: Path | str,
        open_file: Callable[[Path], RawFile] = _open,
        before: Callable[[], Iterable[WorkerEnded]] | None = None,
    ) -> None:
        self.path = Path(path)
        formats = {".jsonl": _json_line, ".ndjson": _json_line, ".csv": _csv_line}
        line = formats.get(self.path.suffix.lower())
        if line is None and _is_stream(self.path):
            line = _json_line
        if line is None:
            raise ValueError(f"output file {str(path)!r} must end in .jsonl, .ndjson or .csv")
        self._line = line
        self._header = _csv_row(FIELDS) if line is _csv_line else b""  # written together with the first line
        self._before = before
        self._pending: deque[bytes] = deque()
        self._reason = ""  # why the last write failed
        self._is_failure_reported = False
        self._is_closed = False
        try:
            self._file = open_file(self.path)
        except OSError as error:
            raise OSError(self._message(error.strerror or str(error))) from error

    @property
    def unwritten(self) -> int:
        """The number of lines that are not written yet."""
        return len(self._pending)

    @property
    def problem(self) -> str | None:
        """Why lines cannot be written, in one sentence; None if all are written."""
        if not self._reason:
            return None
        unwritten = f" ({count(self.unwritten, 'line')} not written)" if self.unwritten else ""
        return self._message(self._reason) + unwritten

    def begin(self) -> None:
        """Write the lines that come before all others, if they are not written yet. Never raises an OSError."""
        if self._before is None:
            return
        try:
            if isinstance(self._file, _Replacement):
                self._file.begin(self._chunks(self._before()))
            else:
                self._pending.extendleft(reversed(list(self._chunks(self._before()))))
        except OSError as error:
            self._reason = error.strerror or str(error)
            return
        self._before, self._header = None, b""

    def _chunks(self, ends: Iterable[WorkerEnded]) -> Iterator[bytes]:
        gathered = bytearray(self._header)
        for event in ends:
            gathered += self._line(_values(event))
            if len(gathered) >= _BYTES_A_WRITE:
                yield bytes(gathered)
                gathered.clear()
        yield bytes(gathered)

    def write(self, batch: Batch) -> str | None:
        """Write a line for each end of a worker in `batch`, after the lines that are still pending.

        Return a message when writing begins to fail or succeeds again, else None. Never raises an OSError.
        """
        self._pending.extend(self._line(_values(event)) for event in batch if isinstance(event, WorkerEnded))
        if self._pending:
            if self._header and self._before is None:
                self._pending[0] = self._header + self._pending[0]
                self._header = b""
            self._flush()
        if bool(self._reason) is self._is_failure_reported:
            return None
        self._is_failure_reported = bool(self._reason)
        return self.problem or f"output file {str(self.path)!r} is being written again; no line is missing"

    def close(self) -> None:
        """Try once more to write the pending lines, then close the file. See `problem` and `unwritten`."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._pending or self._before is not None:
            self._flush()
        try:
            self._file.close()
        except OSError as error:
            # A network file system may report only here that it could not store the data.
            self._reason = self._reason or error.strerror or str(error)

    def _message(self, reason: str) -> str:
        return f"cannot write output file {str(self.path)!r}: {reason}"

    def _flush(self) -> None:
        self.begin()
        if self._before is not None:
            return
        while self._pending:
            lines = list(itertools.islice(self._pending, _LINES_A_WRITE))
            data = b"".join(lines)
            written = 0
            try:
                while written < len(data):
                    taken = self._file.write(data[written:])
                    if not taken:
                        raise BlockingIOError("the file takes no more")
                    written += taken
            except OSError as error:
                self._reason = error.strerror or str(error)
                self._drop_written(lines, written)
                return
            for _ in lines:
                self._pending.popleft()
        self._reason = ""

    def _drop_written(self, lines: list[bytes], written: int) -> None:
        """Drop the lines within the first `written` bytes of `lines`, and remove a partly written line."""
        for line in lines:
            if written < len(line):
                break
            written -= len(line)
            self._pending.popleft()
        if not written:
            return
        try:
            self._file.truncate(self._file.seek(0, os.SEEK_END) - written)
            self._file.seek(0, os.SEEK_END)
        except OSError:
            # A pipe takes nothing back: the rest of the line follows.
            self._pending[0] = self._pending[0][written:]


def _values(event: WorkerEnded) -> tuple[Any, ...]:
    error_type: str = getattr(event, "error_type", "")
    error: str = getattr(event, "error", "")
    if isinstance(event, WorkerUnresponsive):
        error = f"stuck at {event.stack}, cancelled {event.cancels} times"
    elif error_type:
        error = error_line(error_type, error)
        if isinstance(event, WorkerExhausted) and event.refusal:
            error += f" (no retry: {event.refusal})"
    result = getattr(event, "result", None)
    return event.worker, event.state.value, result, event.attempts, error, round(event.elapsed, 6)


def _masked(values: tuple[Any, ...]) -> Iterator[Any]:
    """Yield the values without secrets. Of a result, which is the work of a user, only URLs are masked."""
    for name, value in zip(FIELDS, values, strict=True):
        yield mask_values(value, mask_urls if name == "result" else mask_secrets)


def _json_line(values: tuple[Any, ...]) -> bytes:
    # Values are masked, not the line: an escaped line end does not end a URL.
    record = dict(zip(FIELDS, _masked(values), strict=True))
    record["error"] = record["error"] or None
    try:
        line = msgspec.json.encode(record)
    except (TypeError, ValueError, OverflowError):
        # Lone surrogates, which UTF-8 cannot hold but an escape can, and values that only Python has.
        line = json.dumps(record, default=repr).encode("ascii")
    return line + b"\n"


def _csv_line(values: tuple[Any, ...]) -> bytes:
    name, state, result, attempts, error, elapsed = _masked(values)
    if result is not None and type(result) not in {int, float}:
        result = _inert(value_text(result))
    return _csv_row((_inert(name), state, result, attempts, _inert(error), elapsed))


def _inert(text: str) -> str:
    """Return `text`, behind an apostrophe if a spreadsheet would run it as a formula."""
    blanks = _IGNORED.match(text)
    at = 0 if blanks is None else blanks.end()
    if not text.startswith(_FORMULA, at) and not text.startswith(("\t", "\r", "\n")):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _csv_row(values: tuple[Any, ...]) -> bytes:
    # All text is quoted: before Python 3.13, `csv` does not quote a lone carriage return.
    row = io.StringIO(newline="")
    csv.writer(row, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerow(values)
    return row.getvalue().encode("utf-8", "backslashreplace")
