"""Log records and printed lines: captured as events of the worker that made them, and logging that never raises."""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from asyncwatch.engine.current import current_worker, enclosing, outermost_worker
from asyncwatch.engine.describe import safe_repr
from asyncwatch.engine.event_loop import pass_on_interrupt

Record = Callable[[str | None, str, str, str], None]
"""Takes the name of the worker (None outside any), the level, the source (a logger's name or a stream's) and a text."""

_MAX_LINE = 10_000
_LINE_END = re.compile(r"\r\n|\r|\n")
printing: list[PrintCapture] = []
"""The streams that capture prints now; empty if prints are not captured."""


class LogCapture(logging.Handler):
    """Passes `logging` records on with the name of the worker that made them."""

    def __init__(self, record: Record, level: int) -> None:
        super().__init__(level)
        self._record = record

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on; unformatted if it cannot be formatted."""
        try:
            message = record.getMessage()
        except Exception:  # arguments that do not fit their format; logging would print a traceback on the screen
            message = f"{record.msg if type(record.msg) is str else safe_repr(record.msg)} {safe_repr(record.args)}"
        if record.exc_info and record.exc_info[0] is not None:
            formatter = self.formatter or logging.Formatter()
            message = f"{message}\n{formatter.formatException(record.exc_info)}"
        self.pass_on(getattr(record, "asyncwatch_worker", None), record.levelname, record.name, message)

    def pass_on(self, worker: str | None, level: str, source: str, message: str) -> None:
        """Pass on a message of the logger `source` about `worker`; None for the worker that runs now, if any."""
        outer = enclosing.get()
        if outer is not None:
            worker = outer.name
        elif worker is not None:  # its name is shown before the message anyway
            message = message.removeprefix(f"{worker}: ").removeprefix(f"{worker} ")
        elif (running := current_worker()) is not None:
            worker = running.name
        self._record(worker, level, source, message)


class PrintCapture:
    """Stands in for `sys.stdout` or `sys.stderr`: lines that workers print become records, all else passes through."""

    def __init__(self, stream: TextIO, name: str, record: Record) -> None:
        self._stream = stream
        self._name = name
        self._record = record
        self._lock = threading.Lock()
        self.unfinished: dict[str, str] = {}
        """Text without its line end yet, by worker. To be read only."""

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write `text`, which may hold any part of a line or many lines. A carriage return ends a line too."""
        worker = outermost_worker()
        if worker is None:
            return self._stream.write(text)
        with self._lock:
            *lines, rest = _LINE_END.split(self.unfinished.pop(worker.name, "") + text)
            if len(rest) >= _MAX_LINE:
                lines.append(rest)
            elif rest:
                self.unfinished[worker.name] = rest
        for line in lines:
            self._record(worker.name, "INFO", self._name, line)
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Pass on a worker's unfinished line; outside workers, flush the real stream."""
        worker = outermost_worker()
        if worker is None:
            self._stream.flush()
        else:
            self.finish(worker.name)

    def isatty(self) -> bool:
        """Return False to a worker: what it prints goes to no terminal."""
        return current_worker() is None and self._stream.isatty()

    def finish(self, worker: str) -> None:
        """Pass on the unfinished line of `worker`, if there is one."""
        with self._lock:
            line = self.unfinished.pop(worker, "")
        if line:
            self._record(worker, "INFO", self._name, line)


def finish_lines(worker: str) -> None:
    """Pass on what `worker`, whose attempt has ended, has printed without a line end."""
    if enclosing.get() is not None:
        return
    for capture in printing:
        if worker in capture.unfinished:  # every attempt ends with this call, and few have printed anything
            capture.finish(worker)


@contextmanager
def capturing_logs(record: Record, level: int) -> Iterator[None]:
    """Inside the context, send every `logging` record from `level` up to `record` only."""
    root = logging.getLogger()
    handlers, root_level = root.handlers[:], root.level
    root.handlers[:] = [LogCapture(record, level)]
    root.setLevel(level)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(root_level)


@contextmanager
def capturing_prints(record: Record) -> Iterator[Callable[[], None]]:
    """Inside the context, send every line that a worker prints to `record`.

    The value is a function that does so again, after other code has replaced `sys.stdout` and `sys.stderr`.
    """
    streams = sys.stdout, sys.stderr
    out = PrintCapture(sys.stdout, "stdout", record)
    err = PrintCapture(sys.stderr, "stderr", record)

    def capture() -> None:
        sys.stdout, sys.stderr = out, err

    capture()
    printing[:] = out, err
    try:
        yield capture
    finally:
        printing.clear()
        sys.stdout, sys.stderr = streams


def log_safely(
    logger: logging.Logger,
    level: int,
    text: str,
    *args: object,
    worker: str | None = None,
    has_traceback: bool = False,
) -> None:
    """Log `text % args`, about `worker` if given, with the current exception's traceback if asked for."""
    try:
        if not logger.isEnabledFor(level):
            return
        capture = None if has_traceback else _sole_capture(logger)
        if capture is None:
            extra = {"asyncwatch_worker": worker}
            logger.log(level, text, *args, extra=extra, exc_info=has_traceback, stacklevel=2)
        elif level >= capture.level:  # a `LogRecord` takes 6 us, a fifth of all that a failed attempt takes
            capture.pass_on(worker, logging.getLevelName(level), logger.name, text % args)
    except BaseException as error:  # a log handler is user code; even its sys.exit() must not end the engine
        pass_on_interrupt(error)


def _sole_capture(logger: logging.Logger) -> LogCapture | None:
    """Return the handler of all records of `logger` if it is a `LogCapture` and nothing else sees them."""
    if logger.filters or logging.getLogRecordFactory() is not logging.LogRecord:
        return None
    capture: LogCapture | None = None
    above: logging.Logger | None = logger
    while above is not None:
        for handler in above.handlers:
            if capture is not None or not isinstance(handler, LogCapture) or handler.filters:
                return None
            capture = handler
        above = above.parent if above.propagate else None
    return capture
