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
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.benchmarks.processes import environment

PATIENCE = 60.0
"""Seconds that a change may take to come."""

_MOVE = re.compile(rb"\x1b\[(\d+);(\d+)H")
_STYLE = re.compile(r"\x1b(?:\[[0-9;?$>]*[A-Za-z]|\]22;[a-z]*\x07)")
_CURSOR = re.compile(r"^.{0,3}›.? *(\S+) ")

Condition = Callable[["Picture"], object]


class Expected:
    """A condition that will hold once something was drawn."""

    def __init__(self, picture: Picture, condition: Condition) -> None:
        self._picture = picture
        self._condition = condition
        self._end = time.perf_counter() + PATIENCE
        self._held_at = 0.0
        self._has_held = threading.Event()

    def is_open(self) -> bool:
        """Return whether it has not held at any time since it was expected.

        Raises:
            TimeoutError: and never will.

        """
        if self._has_held.is_set():
            return False
        if time.perf_counter() > self._end or self._picture.process.poll() is not None:
            raise TimeoutError(f"the picture did not come; this did:\n{self._picture.text}")
        return True

    def wait(self) -> float:
        """Wait until it has held; return when the bytes came that made it hold.

        Raises:
            TimeoutError: it does not.

        """
        while not self._has_held.wait(1.0):
            self.is_open()
        return self._held_at

    def look(self, now: float) -> bool:
        """Return whether it holds, at last."""
        if self._condition(self._picture):
            self._held_at = now
            self._has_held.set()
        return self._has_held.is_set()


class Picture:
    """Runs `command` in a terminal of its own, and ends it on leaving."""

    def __init__(self, command: Sequence[str], *, cwd: Path, columns: int, rows: int, **more: str) -> None:
        self.columns = columns
        self.rows = rows
        self.stretches: dict[tuple[int, int], str] = {}
        """What was last drawn from each line and column, from 1, without its colours; not what was drawn over."""
        self.cursor = ""
        """The name of the worker that the cursor is on; empty if that is not on the screen."""
        self._cursor_line = 0
        self._expected: list[Expected] = []
        self._lock = threading.Lock()
        self._master, slave = pty.openpty()
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        env = environment(TERM="xterm-256color", COLORTERM="truecolor", TEXTUAL_ANIMATIONS="none", **more)
        self.started_at = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            # Its own terminal, so that it hears when that goes.
            preexec_fn=partial(fcntl.ioctl, slave, termios.TIOCSCTTY, 0),  # noqa: PLW1509  no other thread runs yet
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
        now = time.perf_counter()
        os.write(self._master, keys.encode())
        return now

    def expect(self, condition: Condition) -> Expected:
        """Look, from now on, at all that is drawn, until `condition` holds."""
        expected = Expected(self, condition)
        with self._lock:
            if not expected.look(time.perf_counter()):
                self._expected.append(expected)
        return expected

    def wait_for(self, condition: Condition) -> float:
        """Wait until `condition` holds; return when the bytes came that made it hold.

        Raises:
            TimeoutError: it does not.

        """
        return self.expect(condition).wait()

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
                        self._expected = [each for each in self._expected if not each.look(now)]

    def _draw(self, piece: bytes) -> None:
        move = _MOVE.match(piece)
        if move is None or move.end() == len(piece):
            return
        text = _STYLE.sub("", piece[move.end() :].decode("utf-8", "replace")).rstrip("\r\n")
        row, column = int(move[1]), int(move[2])
        for other in [place for place in self.stretches if place[0] == row and 0 < place[1] - column < len(text)]:
            del self.stretches[other]
        self.stretches[row, column] = text
        if (cursor := _CURSOR.match(text)) is not None:
            self.cursor, self._cursor_line = cursor[1], row
        elif row == self._cursor_line and column == 1:
            # A new order may take the worker elsewhere.
            self.cursor = ""


def _pieces(data: bytes) -> list[bytes]:
    """Return `data` cut before each move of the cursor."""
    starts = [0, *(match.start() for match in _MOVE.finditer(data) if match.start())]
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]
