"""Driver of a Unix terminal that may stall, go, or send odd bytes.

Textual's own driver decodes its input strictly, so that one byte that is no UTF-8 ends its input thread. It lets the
app wait for a terminal that takes no output, and starts its threads again on every SIGCONT. This driver replaces the
reading, the writing, and the handling of SIGTSTP and SIGCONT. The rest is Textual's.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import select
import selectors
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

from asyncwatch.ui.messages import HungUp

_LATE = 0.1
"""Seconds without input after which an escape sequence is not continued, as in Textual's parser."""
_READ_SIZE = 4096
_MOST_PENDING = 200_000
"""Bytes that wait for the terminal, about two frames of a large one. Further frames are dropped."""
_PATIENCE = 0.3
"""Seconds to wait at the end until the terminal has taken everything, twice."""
_MODES = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?1004h\x1b[?2004h"
"""Alternate screen, no cursor, no line wrap, reports of focus and of pastes: all that has no method in Textual."""
_MARK = re.compile(rb"\x1b\[(?:M|200~|201~)")
_MARK_SIZE = 6
_PASTE_BEGINS, _PASTE_ENDS = b"\x1b[200~", b"\x1b[201~"
_REPORT_SIZE = 3


class InputDecoder:
    """Decodes what a terminal sends. Bytes that are no UTF-8 are dropped; in a paste they are replaced.

    The three bytes of an old mouse report (`ESC [ M`, then a button and two coordinates) can be any bytes. Each of them
    becomes a blank, so that the parser finds the end of the report, which it ignores.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._tail = b""
        """The end of the earlier input, which may be the beginning of a mark."""
        self._report_left = 0
        """Bytes of a mouse report that are still to come."""

    def decode(self, data: bytes) -> str:
        """Return the text of further input."""
        text, position, decode = "", 0, self._decoder.decode
        known = self._tail + data
        before = len(self._tail)
        while position < len(data):
            if self._report_left:
                size = min(self._report_left, len(data) - position)
                self._report_left -= size
                position += size
                text += " " * size
                continue
            mark = self._next_mark(known, before + position)
            if mark is None:
                text += decode(data[position:])
                break
            end = mark.end() - before
            text += decode(data[position:end])
            position = end
            if mark[0] == _PASTE_BEGINS:
                self._decoder.errors = "replace"
            elif mark[0] == _PASTE_ENDS:
                self._decoder.errors = "ignore"
            else:
                self._report_left = _REPORT_SIZE
        self._tail = b"" if self._report_left else known[-_MARK_SIZE + 1 :]
        return text

    def _next_mark(self, known: bytes, position: int) -> re.Match[bytes] | None:
        """Return the first mark that ends after the position. A mouse report cannot begin in a paste."""
        for mark in _MARK.finditer(known, max(0, position - _MARK_SIZE + 1)):
            is_report = mark[0] not in {_PASTE_BEGINS, _PASTE_ENDS}
            if mark.end() > position and not (is_report and self._decoder.errors == "replace"):
                return mark
        return None

    def pause(self) -> None:
        """Note that no input came for a while: what was begun is not continued."""
        self._tail = b""
        self._report_left = 0


class _Output:
    """Writes to the terminal without waiting for it. While the terminal takes nothing, further frames are dropped.

    Only the thread of the loop may call it. `caught_up` is called when the terminal has taken everything after frames
    were dropped.
    """

    def __init__(self, terminal: int, loop: asyncio.AbstractEventLoop, caught_up: Callable[[], object]) -> None:
        self._descriptor = _opened_anew(terminal)
        self._loop = loop
        self._caught_up = caught_up
        self._pending = bytearray()
        self._has_dropped = False
        self._is_waiting = False
        """Whether the loop watches the terminal."""

    def write(self, text: str) -> None:
        """Write `text` as soon as the terminal takes it, or drop it."""
        if len(self._pending) > _MOST_PENDING:
            self._has_dropped = True
        else:
            self._pending += text.encode("utf-8", "replace")

    def send(self) -> None:
        """Write as much as the terminal takes, and the rest when it takes more."""
        try:
            while self._pending:
                del self._pending[: os.write(self._descriptor, self._pending)]
        except BlockingIOError:
            if not self._is_waiting:
                self._is_waiting = True
                self._loop.add_writer(self._descriptor, self.send)
            return
        except OSError:  # the terminal has gone: all further output is dropped
            self._pending.clear()
        self._stop_waiting()
        if self._has_dropped:
            self._has_dropped = False
            self._caught_up()

    def drop(self) -> None:
        """Drop all that the terminal has not taken yet."""
        self._pending.clear()
        self._has_dropped = False

    def close(self) -> None:
        """Wait a moment until the terminal has taken everything, and close it."""
        self._wait()
        if self._pending:
            with suppress(termios.error):  # what it has not read yet makes room for the rest
                termios.tcflush(self._descriptor, termios.TCOFLUSH)
            self._wait()
        self._stop_waiting()
        os.close(self._descriptor)

    def _wait(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        self.send()
        while self._pending and (left := deadline - time.monotonic()) > 0:
            poll.poll(left * 1000)
            self.send()

    def _stop_waiting(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._loop.remove_writer(self._descriptor)


def _opened_anew(terminal: int) -> int:
    """Return a descriptor of the terminal that does not block. The shell shares the flags of the given one.

    Another user's terminal cannot be opened, as after `su`. Then it is a copy, and a terminal that stalls holds up the
    app.
    """
    for path in (os.ttyname, "/proc/self/fd/{}".format):
        with suppress(OSError):
            return os.open(path(terminal), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
    return os.dup(terminal)


class TerminalDriver(LinuxDriver):
    """The driver of the dashboard."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        assert sys.__stdout__ is not None  # noqa: S101  it is a terminal
        self._screen = sys.__stdout__.fileno()
        self._output: _Output | None = None
        self._thread = threading.get_ident()
        self._is_sending = False
        """Whether the loop is to send what was written."""
        self._raw_attributes: list[Any] | None = None
        self._is_suspended = False
        # In place of Textual's handlers. Those of the loop do not interrupt each other, and end with it.
        self._loop.add_signal_handler(signal.SIGTSTP, self._stop)
        self._loop.add_signal_handler(signal.SIGCONT, self._go_on)

    # -- output

    def write(self, data: str) -> None:
        """Write to the terminal, without waiting for it. Parts of a frame are sent together."""
        if threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(self.write, data)
        elif self._output is not None:
            self._output.write(data)
            if not self._is_sending:
                self._is_sending = True
                self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._is_sending = False
        if self._output is not None:
            self._output.send()

    def start_application_mode(self) -> None:
        """Take over the terminal."""
        self._output = _Output(self._screen, self._loop, self._repaint)
        super().start_application_mode()  # type: ignore[no-untyped-call]  # Textual's own
        with suppress(termios.error):
            self._raw_attributes = termios.tcgetattr(self.fileno)

    def stop_application_mode(self) -> None:
        """Give the terminal back as it was. The rest of a frame is dropped: it would only be in the way."""
        if self._output is not None:
            self._output.drop()
        super().stop_application_mode()

    def close(self) -> None:
        """End the writing."""
        if self._output is not None:
            self._output.close()
            self._output = None
        super().close()

    def renew(self) -> None:
        """Set the modes of the terminal anew: another program may have changed them."""
        if self._raw_attributes is not None:
            with suppress(termios.error):
                termios.tcsetattr(self.fileno, termios.TCSANOW, self._raw_attributes)
        self.write(_MODES)
        self._enable_mouse_support()
        if self._mouse_pixels:
            self._enable_mouse_pixels()

    def _repaint(self) -> None:
        self._app.call_later(self._app.refresh)

    # -- stop and go on

    def _stop(self) -> None:
        """Give the terminal back and stop the process."""
        if self._output is not None:
            self.suspend_application_mode()
            self._is_suspended = True
        os.kill(os.getpid(), signal.SIGSTOP)

    def _go_on(self) -> None:
        """Take over the terminal again, unless the process is to go on in the background: then stop again."""
        with suppress(OSError):  # it is not the controlling terminal
            if os.tcgetpgrp(self.fileno) != os.getpgrp():
                os.kill(os.getpid(), signal.SIGSTOP)
                return
        if self._is_suspended:
            self._is_suspended = False
            self.resume_application_mode()
        elif self._output is not None:
            self.renew()  # it was stopped by SIGSTOP
        self._repaint()

    # -- input

    def run_input_thread(self) -> None:
        """Read, decode and parse until the end of the app. Textual calls it in a thread of its own."""
        decoder, parser = InputDecoder(), XTermParser(self._debug)
        with selectors.SelectSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                if not selector.select(_LATE):
                    decoder.pause()
                elif data := _read(self.fileno):
                    for character in decoder.decode(data):
                        try:
                            self._process(parser.feed(character))
                        except (ValueError, ArithmeticError):
                            parser = _successor(parser, debug=self._debug)
                else:
                    self.send_message(HungUp())
                    return
                self._process(parser.tick())

    def _process(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.process_message(message)


def _read(descriptor: int) -> bytes:
    """Return input that is there, empty if the terminal has gone."""
    try:
        return os.read(descriptor, _READ_SIZE)
    except OSError:
        return b""


def _successor(parser: XTermParser, *, debug: bool) -> XTermParser:
    """Return a parser in place of one that a sequence has broken, such as a key with the number 99999999."""
    successor = XTermParser(debug)
    successor.mouse_pixels = parser.mouse_pixels
    successor.terminal_size = parser.terminal_size
    successor.terminal_pixel_size = parser.terminal_pixel_size
    return successor
