"""A program in a real pseudo-terminal, and its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyte

PATIENCE = 20.0
"""Seconds within which the expected screen must appear."""


class Terminal:
    """Runs `command` as the foreground process of its own terminal.

    Unless the terminal `is_controlling`, no signal reports that it has gone.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        columns: int = 100,
        rows: int = 30,
        stdin: int | None = None,
        stderr: int | None = None,
        env: Mapping[str, str] | None = None,
        is_controlling: bool = True,
    ) -> None:
        self.raw = bytearray()
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = pty.openpty()
        self.resize(columns, rows)
        self.attributes = termios.tcgetattr(slave)
        environment = {**os.environ, "TERM": "xterm-256color", "TEXTUAL_ANIMATIONS": "none", **(env or {})}
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=slave if stdin is None else stdin,
            stdout=slave,
            stderr=slave if stderr is None else stderr,
            start_new_session=True,
            preexec_fn=_own_terminal(slave) if is_controlling else None,  # noqa: PLW1509  it only makes the terminal the controlling one
        )
        self._slave = slave
        self._has_hung_up = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        if not self._has_hung_up:
            os.close(self._master)

    @property
    def lines(self) -> list[str]:
        """The lines of the screen."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """The whole screen."""
        return "\n".join(self.lines)

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of the window."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen.resize(rows, columns)

    def press(self, keys: str) -> None:
        """Type `keys`."""
        os.write(self._master, keys.encode())

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to the program."""
        self.process.send_signal(number)

    def hang_up(self) -> None:
        """Close the terminal."""
        os.close(self._master)
        self._has_hung_up = True

    def wait_for(self, condition: Callable[[str], object]) -> None:
        """Read what the program draws until `condition` holds for the text of the screen."""
        deadline = time.monotonic() + PATIENCE
        while not condition(self.text):
            self._read(deadline)

    def wait_for_exit(self) -> int:
        """Read to the end and return the exit status."""
        if self._has_hung_up:
            return self.process.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            self._read(deadline, step=0.05)
        while self._read(deadline, step=0.0):
            pass
        return self.process.returncode

    def current_attributes(self) -> list[Any]:
        """Return the current attributes of the terminal."""
        return termios.tcgetattr(self._slave)

    def restore_attributes(self) -> None:
        """Set the attributes that the terminal had at first, as a shell does."""
        termios.tcsetattr(self._slave, termios.TCSANOW, self.attributes)

    def _read(self, deadline: float, step: float | None = None) -> bool:
        left = deadline - time.monotonic()
        assert left > 0, f"the screen did not show it within {PATIENCE:.0f} s, but:\n{self.text}"
        ready, _, _ = select.select([self._master], [], [], left if step is None else step)
        if not ready:
            return False
        data = os.read(self._master, 65536)
        self.raw += data
        self._stream.feed(data)
        return True


def _own_terminal(slave: int) -> Callable[[], None]:
    def own() -> None:
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    return own
