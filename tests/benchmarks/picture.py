"""A program in a pseudo-terminal, read as cheaply as possible: what was drawn where, and when.

A full emulator (pyte) takes so long for a picture that it would measure itself. Textual begins every stretch of a line
that it draws by moving the cursor there; cutting its output at these moves gives all that the cases look for. The time
of a change is that at which its bytes were read, by a thread that does nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.benchmarks.processes import environment

PATIENCE = 120.0
"""Seconds that a change may take to come."""

_MOVE = re.compile(rb"\x1b\[(\d+);(\d+)H")
_STYLE = re.compile(r"\x1b(?:\[[0-9;?$>]*[A-Za-z]|\]22;[a-z]*\x07)")
_CURSOR = re.compile(r"^.{0,3}›.? *(\S+) ")

Condition = Callable[["Picture"], object]


class Picture:
    """Runs `command` in a terminal of its own, and ends it on leaving."""

    def __init__(self, command: Sequence[str], *, cwd: Path, columns: int, rows: int, **more: str) -> None:
        self.columns = columns
        self.rows = rows
        self.stretches: dict[tuple[int, int], str] = {}
        """What was last drawn from each line and column, from 1, without its colours."""
        self.cursor = ""
        """The name of the worker that the cursor is on."""
        self._condition: Condition | None = None
        self._held_at = 0.0
        self._has_held = threading.Event()
        self._lock = threading.Lock()
        self._master, slave = pty.openpty()
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        env = environment(TERM="xterm-256color", COLORTERM="truecolor", TEXTUAL_ANIMATIONS="none", **more)
        self.started_at = time.perf_counter()
        self.process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(1.0)
        os.close(self._master)

    @property
    def text(self) -> str:
        """All that was drawn last, from top to bottom."""
        return "\n".join(text for _, text in sorted(self.stretches.items()))

    def press(self, keys: str) -> float:
        """Type `keys`; return when."""
        os.write(self._master, keys.encode())
        return time.perf_counter()

    def wait_for(self, condition: Condition, keys: str = "") -> float:
        """Type `keys` if there are any, and wait until `condition` holds; return when the bytes came that made it hold.

        Raises:
            TimeoutError: it does not.

        """
        with self._lock:
            self._has_held.clear()
            self._condition = condition
            self._look(time.perf_counter())
        if keys:
            self.press(keys)
        if not self._has_held.wait(PATIENCE):
            raise TimeoutError(f"the picture did not come; this did:\n{self.text}")
        return self._held_at

    def wait_for_text(self, text: str) -> float:
        """Wait until `text` is drawn; return when."""
        return self.wait_for(lambda picture: any(text in stretch for stretch in picture.stretches.values()))

    def _read(self) -> None:
        pending = b""
        with contextlib.suppress(OSError):  # that is how a pseudo-terminal ends
            while data := os.read(self._master, 65536):
                now = time.perf_counter()
                # A stretch is whole when the next move follows; there is one at the end of every picture.
                *pieces, pending = _pieces(pending + data)
                if pieces:
                    with self._lock:
                        for piece in pieces:
                            self._draw(piece)
                        self._look(now)

    def _draw(self, piece: bytes) -> None:
        move = _MOVE.match(piece)
        if move is None or move.end() == len(piece):
            return
        text = _STYLE.sub("", piece[move.end() :].decode("utf-8", "replace")).rstrip("\r\n")
        self.stretches[int(move[1]), int(move[2])] = text
        if (cursor := _CURSOR.match(text)) is not None:
            self.cursor = cursor[1]

    def _look(self, now: float) -> None:
        if self._condition is not None and self._condition(self):
            self._condition = None
            self._held_at = now
            self._has_held.set()


def _pieces(data: bytes) -> list[bytes]:
    """Return `data` cut before each move of the cursor."""
    starts = [0, *(match.start() for match in _MOVE.finditer(data) if match.start())]
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]
