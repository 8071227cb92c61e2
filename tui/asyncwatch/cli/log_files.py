"""The log of each service in a file of its own, which is rotated: `log_file` of the config."""

from __future__ import annotations

import errno
import os
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from asyncwatch.events import (
    Batch,
    ChildRemoved,
    LogRecorded,
    RunStarted,
    SupervisorStarted,
    WorkersQueued,
)
from asyncwatch.events.tree import shown_path
from asyncwatch.text import mask_secrets, printable

PLACEHOLDER = "{name}"
"""Stands for the name of a service in the path."""
MOST_OPEN = 32
"""Files that are open at a time; there may be thousands of services."""
_POOL = "simple_one_for_one"
_LONGEST = 100
"""Characters of a name in a path."""


class LogFiles:
    """Appends the lines of the log to files.

    With `{name}` in the path there is one file for each service; a pool has one for all its workers, and all other
    lines go to the file of the run's name. A file that would grow beyond `size` bytes is renamed to `FILE.1`, and the
    `keep` newest of those are kept. Lines have the local time, the level and the message, without secrets.
    """

    def __init__(self, path: str, *, size: int, keep: int) -> None:
        self._path = path
        self._size, self._keep = size, keep
        self._files: OrderedDict[str, _Rotated] = OrderedDict()
        """Open files by name, the one that was written last at the end."""
        self._paths: dict[str, Path] = {}
        self._used: dict[Path, str] = {}
        self._names: dict[str, str] = {}
        """Name in the path by worker."""
        self._pools: set[str] = set()
        self._supervisors: set[str] = set()
        self._run = "run"
        self._started_at = 0.0
        self._has_failed = False

    def write(self, batch: Batch) -> str | None:
        """Write the log lines among the events. Return a message for a person when that fails for the first time."""
        message: str | None = None
        for event in batch:
            match event:
                case LogRecorded():
                    message = self._write(event) or message
                case SupervisorStarted():
                    self._supervisors.add(event.name)
                    if event.strategy == _POOL:
                        self._pools.add(event.name)
                case WorkersQueued() if event.group in self._supervisors:
                    is_pool = event.group in self._pools
                    self._names |= {name: shown_path(event.group) if is_pool else name for name in event.workers}
                case ChildRemoved():
                    self._names.pop(shown_path(f"{event.supervisor}/{event.child}"), None)
                case RunStarted():
                    self._run, self._started_at = event.run or "run", event.started_at
        with suppress(OSError):  # reported at the next write
            for file in self._files.values():
                file.flush()
        return message

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _write(self, log: LogRecorded) -> str | None:
        name = self._run if log.worker is None else self._names.get(log.worker, self._run)
        try:
            self._file_of(name).write(self._line(log))
        except OSError as error:
            self._files.pop(name, None)
            if self._has_failed:
                return None
            self._has_failed = True
            reason = os.strerror(error.errno) if error.errno else str(error)
            return f"the log of {printable(name)} cannot be written to {printable(str(self._path))}: {reason}"
        self._has_failed = False
        return None

    def _line(self, log: LogRecorded) -> bytes:
        at = self._started_at + log.at
        moment = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))}.{int(at % 1 * 1_000):03d}"
        worker = "" if log.worker is None or PLACEHOLDER in self._path else f" [{printable(log.worker)}]"
        first, *others = [printable(mask_secrets(line)) for line in log.message.splitlines() or [""]]
        lines = [f"{moment} {log.level}{worker} {first}", *(f"    {line}" for line in others)]
        return ("\n".join(lines) + "\n").encode(errors="backslashreplace")

    def _file_of(self, name: str) -> _Rotated:
        key = name if PLACEHOLDER in self._path else ""
        file = self._files.get(key)
        if file is None:
            while len(self._files) >= MOST_OPEN:
                self._files.popitem(last=False)[1].close()
            file = self._files[key] = _Rotated(self._path_of(key), self._size, self._keep)
        self._files.move_to_end(key)
        return file

    def _path_of(self, name: str) -> Path:
        """Return the path for a name. Two names never share one."""
        if (path := self._paths.get(name)) is not None:
            return path
        # A worker that is alone in its group is named like that: `web/web`.
        start, _, end = name.rpartition("/")
        plain = end if start == end else name
        safe = "".join(char if char.isalnum() or char in "-_." else "-" for char in plain)[:_LONGEST].lstrip(".") or "-"
        number, path = 1, Path(self._path.replace(PLACEHOLDER, safe))
        while path in self._used:
            number += 1
            path = Path(self._path.replace(PLACEHOLDER, f"{safe}-{number}"))
        self._paths[name] = path
        self._used[path] = name
        return path


class _Rotated:
    """A file that is appended to, and renamed when it is full."""

    def __init__(self, path: Path, size: int, keep: int) -> None:
        self._path, self._most, self._keep = path, size, keep
        self._file = self._open()

    def write(self, line: bytes) -> None:
        """Append a line. A line that is longer than a whole file has one of its own."""
        if self._size and self._size + len(line) > self._most:
            self._rotate()
        self._file.write(line)
        self._size += len(line)

    def flush(self) -> None:
        """Hand the written lines to the system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file, whatever that says."""
        with suppress(OSError):
            self._file.close()

    def _open(self) -> BinaryIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # A log may hold what is nobody else's business.
        file = open(self._path, "ab", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK, 0o600))  # noqa: SIM115
        if not self._path.is_file():
            file.close()
            raise OSError(errno.EINVAL, "it is no regular file")
        self._size = file.tell()
        return file

    def _rotate(self) -> None:
        self.close()
        for number in range(self._keep, 0, -1):
            before = self._numbered(number - 1)
            with suppress(FileNotFoundError):
                before.replace(self._numbered(number))
        if not self._keep:
            self._path.unlink(missing_ok=True)
        self._file = self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path
