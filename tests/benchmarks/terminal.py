"""A program in a pseudo-terminal, and when it drew what, read as cheaply as possible.

A full emulator (pyte) would take longer for a frame than the program under test. Textual moves the terminal's cursor
before every span of a line that it draws, so cutting its output at these moves finds everything that the cases look
for. The time of a change is when a dedicated thread read its bytes.
"""

from __future__ import annotations

import errno
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

from tests.benchmarks.measure import Cost
from tests.benchmarks.processes import environment, wait_for

PATIENCE = 180.0
"""Seconds to wait for a change before giving up: a busy machine needs a minute for a million rows."""

_MOVE = re.compile(rb"\x1b\[(\d+);(\d+)H")
_STYLE = re.compile(r"\x1b(?:\[[0-9;?$>]*[A-Za-z]|\]22;[a-z]*\x07)")
_CURSOR = re.compile(r"^.{0,3}›.? *(\S+) ")

Condition = Callable[["Terminal"], object]


class Expectation:
    """A condition on what the terminal shows, checked after the spans of each read. `what` names it in messages."""

    def __init__(self, terminal: Terminal, condition: Condition, what: str) -> None:
        self._terminal = terminal
        self._condition = condition
        self._what = what
        self._end = time.perf_counter() + PATIENCE
        self._held_at = 0.0
        self._has_held = threading.Event()

    def is_open(self) -> bool:
        """Return whether the condition has not been met so far.

        Raises:
            TimeoutError: the program has ended, or `PATIENCE` is over.
            RuntimeError: the output could not be read.

        """
        ended = self._terminal.process.poll()
        if ended is not None:
            self._terminal.finish_reading()
        if self._has_held.is_set():
            return False
        if self._terminal.problem is not None:
            raise RuntimeError(f"cannot read the output: {self._terminal.problem!r}") from self._terminal.problem
        if ended is not None or time.perf_counter() > self._end:
            how = f"in {PATIENCE:g} s" if ended is None else f"before the program ended with {ended}"
            raise TimeoutError(f"{self._what} was not drawn {how}; the screen shows:\n{self._terminal.text}")
        return True

    def wait(self) -> float:
        """Wait until the condition is met, and return when the bytes that met it were read.

        Raises:
            TimeoutError: the program has ended, or `PATIENCE` is over.
            RuntimeError: the output could not be read.

        """
        while not self._has_held.wait(1.0):
            self.is_open()
        return self._held_at

    def look(self, now: float) -> bool:
        """Check the condition, unless it has been met, and return whether it has been."""
        if not self._has_held.is_set() and self._condition(self._terminal):
            self._held_at = now
            self._has_held.set()
        return self._has_held.is_set()


class Terminal:
    """Run `command` in a terminal of its own, and kill it on exit. `more` is environment."""

    def __init__(self, command: Sequence[str], *, cwd: Path, columns: int, rows: int, **more: str) -> None:
        self.columns = columns
        self.rows = rows
        self.spans: dict[tuple[int, int], str] = {}
        """Text that was last drawn at each (line, column), from 1, without styles and what was overwritten."""
        self.cursor = ""
        """Name of the worker under the dashboard's cursor; empty while it is off screen."""
        self.problem: Exception | None = None
        """Error that ended the reading of the output."""
        self._cursor_line = 0
        self._expected: list[Expectation] = []
        self._lock = threading.RLock()  # a condition may read `text`
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
            # Make it the controlling terminal, so that the program gets SIGHUP when it is closed.
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
        self.finish_reading()
        os.close(self._master)

    @property
    def text(self) -> str:
        """All spans, from top to bottom."""
        with self._lock:
            return "\n".join(text for _, text in sorted(self.spans.items()))

    def finish_reading(self) -> None:
        """Read the rest of the output of a program that has ended."""
        self._reader.join(1.0)

    def press(self, keys: str) -> float:
        """Type `keys` and return when."""
        now = time.perf_counter()
        os.write(self._master, keys.encode())
        return now

    def expect(self, condition: Condition, what: str = "the expected output") -> Expectation:
        """Check `condition` now and whenever something was drawn, until it is met."""
        expected = Expectation(self, condition, what)
        with self._lock:
            if not expected.look(time.perf_counter()):
                self._expected.append(expected)
        return expected

    def wait_for(self, condition: Condition, what: str = "the expected output") -> float:
        """Wait until `condition` is met, and return when the bytes that met it were read.

        Raises:
            TimeoutError: the program has ended, or `PATIENCE` is over.
            RuntimeError: the output could not be read.

        """
        return self.expect(condition, what).wait()

    def wait_for_end(self) -> Cost:
        """Wait for the end of the program, which has to succeed, and return the cost of its process."""
        usage = wait_for(self.process)
        return Cost(usage.ru_utime + usage.ru_stime, time.perf_counter() - self.started_at)

    def wait_for_text(self, text: str) -> float:
        """Wait until `text` is on the screen, and return when it was drawn."""
        return self.wait_for(lambda terminal: any(text in span for span in terminal.spans.values()), repr(text))

    def _read(self) -> None:
        pending = b""
        try:
            while data := os.read(self._master, 65536):
                now = time.perf_counter()
                # A span is complete when the next move follows; every frame ends with one.
                *pieces, pending = _pieces(pending + data)
                if pieces:
                    with self._lock:
                        for piece in pieces:
                            self._draw(piece)
                        self._expected = [each for each in self._expected if not each.look(now)]
        except OSError as error:
            if error.errno != errno.EIO:  # this is how a pseudo-terminal reports the end of its program
                self.problem = error
        except Exception as error:
            self.problem = error

    def _draw(self, piece: bytes) -> None:
        move = _MOVE.match(piece)
        if move is None or move.end() == len(piece):
            return
        text = _STYLE.sub("", piece[move.end() :].decode("utf-8", "replace")).rstrip("\r\n")
        row, column = int(move[1]), int(move[2])
        for other in [place for place in self.spans if place[0] == row and 0 < place[1] - column < len(text)]:
            del self.spans[other]
        self.spans[row, column] = text
        if (cursor := _CURSOR.match(text)) is not None:
            self.cursor, self._cursor_line = cursor[1], row
        elif row == self._cursor_line and column == 1:
            # The row was drawn over, so another order may have moved the worker.
            self.cursor = ""


def _pieces(data: bytes) -> list[bytes]:
    """Cut `data` before each cursor move."""
    starts = [0, *(match.start() for match in _MOVE.finditer(data) if match.start())]
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]
