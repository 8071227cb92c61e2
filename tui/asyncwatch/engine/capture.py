"""Log records and printed lines: captured as events of the worker that made them, and logging that never raises."""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from asyncwatch.engine.current import current_worker, enclosing, outermost_worker
from asyncwatch.engine.describe import describe_error, safe_repr, safe_str
from asyncwatch.engine.event_loop import pass_on_interrupt
from asyncwatch.text import error_line

Record = Callable[[str | None, str, str, str], None]
"""Takes the name of the worker (None outside any), the level, the source (a logger's name or a stream's) and a text."""

_MAX_LINE = 10_000
_STANDARD = (1, 2)
_FORMATTER = logging.Formatter()
_LINE_END = re.compile(r"\r\n|\r|\n")
printing: list[PrintCapture] = []
"""The streams that capture prints now; empty if prints are not captured."""


class LogCapture(logging.Handler):
    """Passes `logging` records on with the name of the worker that made them."""

    def __init__(self, record: Record, level: int) -> None:
        super().__init__(level)
        self._record = record

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on, whatever it holds."""
        try:
            worker = getattr(record, "asyncwatch_worker", None)
            parts = _message_text(record), _traceback_text(record), safe_str(record.stack_info or "")
            facts = record.levelname, record.name, "\n".join(filter(None, parts))
        except BaseException as error:  # its class and values are user code, which logging must not let fail a worker
            pass_on_interrupt(error)
            worker, facts = None, ("WARNING", "asyncwatch", f"a log record cannot be read: {type(error).__name__}")
        self.pass_on(worker if type(worker) is str else None, *facts)

    def pass_on(self, worker: str | None, level: str, source: str, message: str) -> None:
        """Pass on a message of the logger `source` about `worker`; None for the worker that runs now, if any."""
        outer = enclosing.get()
        if outer is not None:
            worker = outer.name
        elif worker is not None:  # its name is shown before the message anyway
            message = message.removeprefix(f"{worker}: ").removeprefix(f"{worker} ")
        elif (running := current_worker()) is not None:
            worker = running.name
        self._record(worker, safe_str(level), safe_str(source), message)


def _message_text(record: logging.LogRecord) -> str:
    """Return the message of `record`, unformatted if its arguments do not fit."""
    try:
        return safe_str(record.getMessage())
    except BaseException as error:  # logging would print a traceback on the screen
        pass_on_interrupt(error)
        return f"{safe_str(record.msg)} {safe_repr(record.args)}"


def _traceback_text(record: logging.LogRecord) -> str:
    """Return the traceback of `record`, or the last line of it if its parts are not what they should be."""
    info: Any = record.exc_info  # whatever was given to the record
    if not info:
        return safe_str(record.exc_text or "")  # kept by a handler that passes records on from another process
    try:
        return "" if info[0] is None else _FORMATTER.formatException(info)
    except BaseException as raised:  # formatting an exception runs code of the user
        pass_on_interrupt(raised)
        parts = info if isinstance(info, tuple) else (info,)
        return "\n".join(error_line(*describe_error(part)) for part in parts if isinstance(part, BaseException))


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
    """Inside the context, send every `logging` record from `level` up to `record`.

    Handlers of the root logger that write to the terminal are taken off. The others get the records that they got
    before.
    """
    root = logging.getLogger()
    handlers, root_level = root.handlers[:], root.level
    kept = [handler for handler in handlers if not (isinstance(handler, LogCapture) or _writes_to_terminal(handler))]
    as_before = _AsBefore(root, root_level)
    root.handlers[:] = [LogCapture(record, level), *kept]
    root.setLevel(min(level, root_level) if kept else level)
    for handler in kept:
        handler.addFilter(as_before)
    try:
        yield
    finally:
        for handler in kept:
            handler.removeFilter(as_before)
        root.handlers[:] = handlers
        root.setLevel(root_level)


class _AsBefore(logging.Filter):
    """Rejects records that are made only because the level of the root logger was lowered to `log_level`."""

    def __init__(self, root: logging.Logger, root_level: int) -> None:
        super().__init__()
        self._root = root
        self._root_level = root_level

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record reached the root logger's handlers before."""
        if record.levelno >= self._root_level:
            return True
        logger: logging.Logger | None = logging.getLogger(safe_str(record.name))
        while logger is not None and logger is not self._root and logger.level == logging.NOTSET:
            logger = logger.parent
        return logger is not None and logger is not self._root  # the level of its own let it pass


def _writes_to_terminal(handler: logging.Handler) -> bool:
    """Return whether `handler` writes to a terminal, to standard output or to standard error."""
    try:
        stream = getattr(handler, "stream", None)
        if stream is None:  # `rich.logging.RichHandler`
            stream = getattr(getattr(handler, "console", None), "file", None)
        if stream is None:  # `logging.handlers.MemoryHandler`
            target = getattr(handler, "target", None)
            return isinstance(target, logging.Handler) and _writes_to_terminal(target)
        if stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            return True
        return bool(stream.isatty()) or stream.fileno() in _STANDARD
    except Exception:  # a stream without a descriptor, or code of the user
        return False


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
            if type(handler) is logging.NullHandler:
                continue
            if capture is not None or not isinstance(handler, LogCapture) or handler.filters:
                return None
            capture = handler
        above = above.parent if above.propagate else None
    return capture
