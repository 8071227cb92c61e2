"""The command's part in a run with a dashboard: it keeps the terminal, and waits for the engine and the dashboard.

The command forks both before it has threads or has imported much: the dashboard even before it reads its arguments,
since importing Textual takes longest. Whatever becomes of the two, the command sets the terminal as it was, and its
exit status is that of the run.
"""

# ruff: noqa: PLC0415  the command is small: it imports what it needs when it needs it

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Self

RESET = (
    "\x1b[?1049l\x1b[?25h"  # the ordinary screen, with a cursor
    "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?1016l"  # no reports of the mouse
    "\x1b[?1004l\x1b[?2004l\x1b[?2026l\x1b[?2048l"  # nor of focus, pastes, sizes; no held output
    "\x1b[<u\x1b[?7l\x1b[?7h\x1b[0m"  # ordinary keys, line wrap, colours
)
"""Ends what a dashboard asks of a terminal (xterm's and kitty's control sequences)."""
_STANDARD = (0, 1, 2)
_GROUP_GRACE = 0.2
"""Seconds that processes get to end by themselves."""
_WITHOUT_DASHBOARD = frozenset({"-h", "--help", "--version", "--headless", "--json", "-q", "--quiet", "-d", "--detach"})
"""Options of a command that shows no dashboard."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class TerminalSettings:
    """The settings of the terminal when the command started."""

    def __init__(self) -> None:
        import termios

        self._termios = termios
        self._descriptor = next((number for number in _STANDARD if os.isatty(number)), None)
        if self._descriptor is None:
            with contextlib.suppress(OSError):
                self._descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
        self._settings = None
        if self._descriptor is not None:
            with contextlib.suppress(termios.error):
                self._settings = termios.tcgetattr(self._descriptor)

    def restore(self, *, is_screen_open: bool) -> None:
        """Set the terminal as it was; with `is_screen_open`, end what a dashboard that was killed has asked of it.

        A terminal that takes no output does not hold this up.
        """
        if self._descriptor is None:
            return
        if is_screen_open and os.isatty(1):
            _write_without_waiting(1, RESET.encode())
        if self._settings is not None:
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTTOU,))  # of a command in the background
            try:
                with contextlib.suppress(self._termios.error):
                    self._termios.tcsetattr(self._descriptor, self._termios.TCSANOW, self._settings)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _write_without_waiting(descriptor: int, data: bytes) -> None:
    was_blocking = os.get_blocking(descriptor)
    try:
        os.set_blocking(descriptor, False)
        os.write(descriptor, data)
    except OSError:  # it takes no output, or has gone
        pass
    finally:
        with contextlib.suppress(OSError):
            os.set_blocking(descriptor, was_blocking)


class Child:
    """A process that was forked by this one. `status` is None until it has ended, then as `os.waitpid` gives it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None

    def look(self) -> bool:
        """Note the end of the process, and return whether it was stopped, as Ctrl+Z does, since the last call."""
        if self.status is not None:
            return False
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:  # something else has waited for it
            self.status = 0
            return False
        if pid and os.WIFSTOPPED(status):
            return True
        if pid:
            self.status = status
        return False

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, as far as `look` knows."""
        return self.status is not None

    @property
    def exit_status(self) -> int | None:
        """The status with which it has ended by itself; None if it has not, or a signal ended it."""
        return None if self.status is None or not os.WIFEXITED(self.status) else os.WEXITSTATUS(self.status)

    @property
    def killed_by(self) -> signal.Signals | None:
        """The signal that ended it, if one did."""
        if self.status is None or not os.WIFSIGNALED(self.status):
            return None
        return signal.Signals(os.WTERMSIG(self.status))

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, unless it has ended."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end_group(self) -> None:
        """End the processes that it has left behind in its process group, if it was the leader of one."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.pid, number)
            except OSError:  # there is none
                return
            time.sleep(_GROUP_GRACE)

    def kill(self) -> None:
        """End the process at once, and wait for that."""
        self.send_signal(signal.SIGKILL)
        if self.status is None:
            with contextlib.suppress(ChildProcessError):
                self.status = os.waitpid(self.pid, 0)[1]


class DashboardProcess:
    """The dashboard's process, which imports Textual and then waits for the plan of the run.

    `connection` is the other end of its connection to the run, for the engine's process. It ends when `lifeline` is
    closed.
    """

    def __init__(self) -> None:
        self.connection, connection = socket.socketpair()
        self.lifeline, lifeline = socket.socketpair()

        def main() -> int:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # left to the command, which gets Ctrl+C too
            from asyncwatch.cli.dashboard import run_dashboard

            return run_dashboard(connection, lifeline)

        self._owner = os.getpid()
        self.process = fork(main, self.connection, self.lifeline)
        connection.close()
        lifeline.close()

    def discard(self) -> None:
        """End the process, which is not needed. Nothing if it has ended, or in the engine's process."""
        if os.getpid() != self._owner:
            return
        self.connection.close()
        self.lifeline.close()
        self.process.kill()


def is_for_dashboard(arguments: Sequence[str]) -> bool:
    """Return whether a command with these arguments is likely to show a run in this terminal.

    A first argument of letters alone is the name of another command: targets are URLs and functions.
    """
    is_likely = not arguments[:1] or not arguments[0].isalpha()
    return os.name == "posix" and os.isatty(1) and is_likely and _WITHOUT_DASHBOARD.isdisjoint(arguments)


class Wakeups:
    """Signals and other news, as bytes on a socket that `select` can wait for."""

    def __init__(self) -> None:
        self._reading, self._writing = socket.socketpair()
        for end in (self._reading, self._writing):
            end.setblocking(False)
        self._received: list[signal.Signals] = []

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in (*STOP_SIGNALS, signal.SIGCHLD)}
        for number, handler in self._before.items():
            # `nohup` and the background jobs of a shell ignore some signals on purpose.
            if handler is not signal.SIG_IGN or number == signal.SIGCHLD:
                signal.signal(number, self._note)
        signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_error: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._reading.close()
        self._writing.close()

    def _note(self, number: int, _frame: object) -> None:
        self._received.append(signal.Signals(number))

    def wait(self, others: list[socket.socket], timeout: float | None) -> list[socket.socket]:
        """Wait until a signal comes or one of the `others` can be read; return those that can."""
        readable, _, _ = select.select([self._reading, *others], [], [], timeout)
        if self._reading in readable:
            self.clear()
        return [each for each in readable if each is not self._reading]

    def fileno(self) -> int:
        """Return the descriptor that can be read when a signal has come, for an event loop."""
        return self._reading.fileno()

    def clear(self) -> None:
        """Make the descriptor wait for the next signal."""
        with contextlib.suppress(BlockingIOError):
            self._reading.recv(4096)

    def signals(self) -> Iterator[signal.Signals]:
        """Yield the signals since the last call."""
        received, self._received = self._received, []
        yield from received


def fork(main: Callable[[], int], *unused: socket.socket) -> Child:
    """Run `main` in a new process, which then ends with the exit status that it returns.

    The new process closes the `unused` sockets: it must not keep an end open that the other side waits for. At its end
    the stack of this process unwinds in it as well, up to the interpreter, which calls the functions of `atexit`. So
    the caller must be in no context that is not to be left twice.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid)
    for each in unused:
        each.close()
    sys.exit(main())
