"""The dashboard of a run that goes on in one's own program: its process, and the terminal that it has meanwhile."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from asyncwatch.cli import dashboard
from asyncwatch.cli.keeper import TerminalSettings
from asyncwatch.cli.stray import EVERY, StrayOutput
from asyncwatch.engine.capture import Record, capturing_logs, capturing_prints
from asyncwatch.text import printable

LINES_KEPT = 10_000
"""Lines, the latest, that a program writes before or after the run while the dashboard has the terminal."""
PATIENCE = 2.0
"""Seconds that a dashboard gets to leave the terminal."""
_CHILD = "import sys; sys.path.append(sys.argv[3]); from asyncwatch.cli.dashboard import main; main()"
_STANDARD = (0, 1, 2)
screen = threading.Lock()
"""Held by the run whose dashboard has the terminal."""


class Recorder:
    """Makes what the program prints and logs lines of the run's log, and keeps what is to be printed afterwards.

    Args:
        record: makes one line an event of the run, from any thread.
        is_running: returns whether the run goes on: lines that come before or after it are kept.
        keeps_all: whether all lines are kept, and all log records from WARNING up.

    """

    def __init__(self, record: Record, is_running: Callable[[], bool], *, keeps_all: bool = False) -> None:
        self._record = record
        self._is_running = is_running
        self._keeps_all = keeps_all
        self._kept: deque[str] = deque(maxlen=LINES_KEPT)

    def __call__(self, worker: str | None, level: str, source: str, message: str) -> None:
        """Record one line or log record, from any thread."""
        if is_running := self._is_running():
            self._record(worker, level, source, message)
        is_printed = source in {"output", "stdout", "stderr"}
        if not is_running or (self._keeps_all and (is_printed or logging.getLevelName(level) >= logging.WARNING)):
            self._kept.append(message if is_printed else f"{level}:{source}:{message}")

    def print(self) -> None:
        """Write what was kept to standard output, which is the terminal again."""
        while self._kept:
            sys.stdout.write(printable(self._kept.popleft()) + "\n")


def has_screen() -> bool:
    """Return whether standard input and output are a terminal that can show a dashboard."""
    kind = os.environ.get("TERM", "")
    try:
        size = os.get_terminal_size(1)
    except OSError:
        return False
    return os.isatty(0) and os.isatty(1) and kind not in {"dumb", "unknown"} and bool(size.columns and size.lines)


class Dashboard:
    """The dashboard's process, and what this one does without its terminal meanwhile.

    `connection` is the dashboard's end of a connection to the run. A thread waits for the end of the
    process, and calls `on_end` when the terminal is the program's again.
    """

    def __init__(
        self, connection: socket.socket, record: Recorder, log_level: int, on_end: Callable[[], object]
    ) -> None:
        self._record = record
        self._on_end = on_end
        self._is_over = threading.Event()
        self._deadline: float | None = None
        self._terminal = TerminalSettings()
        self._lifeline, lifeline = socket.socketpair()
        arguments = [str(connection.fileno()), str(lifeline.fileno()), str(Path(__file__).parents[2])]
        with connection, lifeline:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", "-c", _CHILD, *arguments], pass_fds=(connection.fileno(), lifeline.fileno())
            )
        self._borrowed = contextlib.ExitStack()
        self._stray = self._borrowed.enter_context(_terminal_replaced(record))
        self._borrowed.enter_context(capturing_logs(record, log_level))
        self._borrowed.enter_context(capturing_prints(record))
        for target in (self._wait, self._read):
            threading.Thread(target=target, name="asyncwatch dashboard", daemon=True).start()

    def has_ended(self) -> bool:
        """Return whether the program has the terminal back. To be called again and again once the run has ended.

        A dashboard that does not leave it within PATIENCE is killed.
        """
        if self._deadline is None:
            self._deadline = time.monotonic() + PATIENCE
        if time.monotonic() > self._deadline:
            self._process.kill()
        return self._is_over.is_set()

    def _wait(self) -> None:
        """Wait for the end of the process. If it is stopped, as by Ctrl+Z, stop the program too."""
        while True:
            try:
                _pid, status = os.waitpid(self._process.pid, os.WUNTRACED)
            except ChildProcessError:  # other code of the program has waited for it
                status = 0
            if not os.WIFSTOPPED(status):
                break
            os.kill(os.getpid(), signal.SIGSTOP)  # the shell is to see that its job was stopped
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self._borrowed.close()
        self._terminal.restore(
            is_screen_open=self._process.returncode not in {dashboard.LEFT, dashboard.STOPPED, dashboard.OVER}
        )
        self._record.print()
        self._lifeline.close()
        self._on_end()
        self._is_over.set()
        if self._process.returncode == dashboard.STOPPED:
            os.kill(os.getpid(), signal.SIGINT)

    def _read(self) -> None:
        while not self._is_over.wait(EVERY):
            self._stray.read(self._record)


@contextlib.contextmanager
def _terminal_replaced(record: Record) -> Iterator[StrayOutput]:
    """Inside the context, standard input is empty, and output to the terminal goes to a file, which becomes lines."""
    numbers = [number for number in _STANDARD[1:] if os.isatty(number)]
    saved = {number: os.dup(number) for number in (0, *numbers)}
    stray = StrayOutput(numbers)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    try:
        yield stray
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        stray.finish(record)
        for number, copy in saved.items():
            os.dup2(copy, number)
            os.close(copy)
