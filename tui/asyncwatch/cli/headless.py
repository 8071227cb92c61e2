"""A run without a dashboard: data on stdout, messages and progress on stderr, and signals that stop it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import select
import stat
import tempfile
import threading
import time
from asyncio import FIRST_COMPLETED
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from asyncwatch.cli.progress import Narrator, Stream, log_lines, terminal_columns
from asyncwatch.commands import Controller, Disconnected, Feed, Moment, Problem, SnapshotPart, StopRun, Update
from asyncwatch.events import Batch, LogRecorded, RunTimedOut, encode
from asyncwatch.events.run import block_sentence
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply, leave
from asyncwatch.model.statistics import RunTime
from asyncwatch.model.summary import summarize, summary_lines
from asyncwatch.model.view.log_filter import level_number
from asyncwatch.text import count, printable

if TYPE_CHECKING:
    from asyncwatch.model.snapshot import SnapshotReader

BLOCK_REPORTED_AFTER = 1.0
"""Seconds after which a block of the event loop is reported while it goes on."""
LAST_WRITE_TIMEOUT = 1.0
"""Seconds that stdout gets to take its data once the run is to stop at once."""

SOON = 0.1
"""Seconds in which an ordinary reader takes a batch. The run goes on without a slower one."""
SPOOL_MEMORY = 8_000_000
"""Bytes that wait for the reader of stdout in memory; more wait in a temporary file."""
NARRATION_MEMORY = 4_000_000
"""Characters that wait for the reader of stderr; more are dropped."""
_PIECE = 1 << 20
_STEP = 1 << 14


class StdoutError(Exception):
    """The data on standard output is incomplete: it could not be written. The run was stopped.

    `is_reader_gone` is true if the reader left, as `| head` does. That is no fault.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to stdout: {error.strerror or error}")
        self.is_reader_gone = isinstance(error, BrokenPipeError)


async def run_headless(
    controller: Controller,
    *,
    json: bool,
    stdout: BinaryIO,
    stderr: Stream,
    on_batch: Callable[[Batch], str | None] | None = None,
    stop_signals: Iterable[int] = (),
    encoding: str = "utf-8",
    clock: Callable[[], float] = time.monotonic,
    fleet: Fleet | None = None,
    before_summary: Callable[[], Awaitable[object]] | None = None,
    is_quiet: bool = False,
) -> Fleet:
    """Follow the run of `controller` to its end, and return its last state.

    With `json`, stdout gets every event as a line of JSON and nothing else, and the summary goes to stderr. Without it,
    the summary goes to stdout, in `encoding`. `on_batch` gets every batch first; a message that it returns is shown on
    stderr. The state is kept in `fleet`, if it is given. `before_summary` is awaited after the last batch.
    With `is_quiet` there is no progress, no summary, and no log record below ERROR.

    The first of the `stop_signals` stops the run. The second stops it at once, without a grace period. The third ends
    the wait for its end, so that `Fleet.finished` is None. Signals need the main thread.

    The run is stopped too if stdout cannot be written or its reader leaves. A slow reader does not hold up the run: the
    data waits for it, in a temporary file if there is much, and none is lost before the second signal.

    Raises:
        StdoutError: The data on stdout is incomplete. Everything else was done.

    """
    run = HeadlessRun(
        controller,
        json=json,
        stdout=stdout,
        stderr=stderr,
        on_batch=on_batch,
        encoding=encoding,
        clock=clock,
        fleet=fleet,
        before_summary=before_summary,
        is_quiet=is_quiet,
    )
    loop = asyncio.get_running_loop()
    signals = tuple(stop_signals)
    for number in signals:
        loop.add_signal_handler(number, run.interrupt)
    try:
        return await run.follow()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


class HeadlessRun:
    """Follows one run. `interrupt` may be called while `follow` waits, on the same event loop."""

    def __init__(
        self,
        controller: Controller,
        *,
        json: bool,
        stdout: BinaryIO,
        stderr: Stream,
        on_batch: Callable[[Batch], str | None] | None = None,
        encoding: str = "utf-8",
        clock: Callable[[], float] = time.monotonic,
        fleet: Fleet | None = None,
        before_summary: Callable[[], Awaitable[object]] | None = None,
        is_quiet: bool = False,
    ) -> None:
        self._before_summary = before_summary
        self.fleet = Fleet() if fleet is None else fleet
        self.disconnected: Disconnected | None = None
        """Why a run in another process cannot be followed any more."""
        self._snapshot: SnapshotReader | None = None
        self._controller = controller
        self._json = json
        self._is_quiet = is_quiet
        self._least_level = logging.ERROR if is_quiet else logging.WARNING if json else 0
        """Of the log records that are shown."""
        self._stdout = StdoutWriter(stdout)
        self._stderr = stderr
        self._narrator = Narrator(stderr, clock=clock, is_quiet=is_quiet)
        self._on_batch = on_batch
        self._encoding = encoding
        self._written: asyncio.Future[None] | None = None
        self._time = RunTime(clock)
        self._waiting: asyncio.Timeout | None = None  # for the next update, until the third interrupt
        self._interrupts = 0
        self._is_hurried = asyncio.Event()  # set by the second interrupt
        self._is_left = False  # set by the third
        self._is_block_reported = False
        self._stdout_error: StdoutError | None = None

    async def follow(self) -> Fleet:
        """Follow the events up to the last one, then show the summary. Return the state of the run.

        Raises:
            StdoutError: As in `run_headless`.

        """
        feed = self._controller.events()
        while self.fleet.finished is None and not self._is_left and self.disconnected is None:
            batch = self._read(await self._next(feed))
            await self._process(batch)
            await asyncio.sleep(0)  # signals and clients come between two batches of many
            if self._stdout.is_open and self._stdout.has_lost_reader():
                self._stop_without_stdout(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
            if batch:
                self._is_block_reported = False
            else:
                self._report_block()
        leave(self.fleet, self._time.now)
        if self.disconnected is not None and self.fleet.run is None:
            return self.fleet  # nothing is known of the run
        self._narrator.finish(self.fleet)
        if self._before_summary is not None:
            await self._before_summary()
        if self._stdout.is_terminal and isinstance(self._stderr, LossyWriter):
            await asyncio.to_thread(self._stderr.finish)  # the summary follows on the same terminal
        await self._show_summary()
        await self._until_written()
        if self._stdout_error is not None:
            raise self._stdout_error
        return self.fleet

    def interrupt(self) -> None:
        """Stop the run. The second call stops it at once, and the third ends the wait for its end."""
        self._interrupts += 1
        if self._interrupts == 1:
            self._stop()
            if self.fleet.tree.is_supervised:
                how = "Services stop one after another, in reverse order of their start."
            else:
                how = "Workers have their grace period to exit."
            self._narrator.say(f"asyncwatch: Stopping. {how} Press Ctrl+C again to stop all at once.")
            return
        self._is_hurried.set()
        if self._interrupts == 2:
            self._controller.send(StopRun(at_once=True))
            self._narrator.say(
                "asyncwatch: Stopping now. Workers that do not exit are abandoned. Press Ctrl+C again to quit."
            )
            return
        self._is_left = True
        if self._waiting is not None:
            self._waiting.reschedule(0.0)

    async def _next(self, feed: Feed[Update]) -> Update:
        """Return the next update; none after a while: a progress line can be due, or a block can go on."""
        try:
            async with asyncio.timeout(self._narrator.interval) as self._waiting:
                return await feed.get()
        except TimeoutError:
            return ()
        finally:
            self._waiting = None

    def _read(self, update: Update) -> Batch:
        """Return the batch of an update. A run in another process also sends others, and can get lost."""
        if isinstance(update, Disconnected):
            self.disconnected = update
        elif isinstance(update, SnapshotPart):
            from asyncwatch.model.snapshot import SnapshotReader  # noqa: PLC0415  rarely needed

            self._snapshot = self._snapshot or SnapshotReader()
            self.fleet = self._snapshot.read(update)
        elif isinstance(update, Moment):
            pass  # only recorded runs have it
        elif isinstance(update, Problem):
            self._narrator.say(f"asyncwatch: {printable(update.text)}")
        else:
            return update
        return ()

    def _stop(self) -> None:
        self._narrator.stopping = self.fleet.workers - self.fleet.settled
        self._controller.send(StopRun())

    async def _process(self, batch: Batch) -> None:
        if self._on_batch is not None and (message := self._on_batch(batch)):
            self._narrator.say(f"asyncwatch: {message}")
        self._time.note(batch)
        apply(self.fleet, batch)
        if self._json and batch:
            await self._write(b"".join([encode(event) + b"\n" for event in batch]))
        # One write for all of them: a write each takes as long as everything else that is done for a line.
        if messages := [*self._messages(batch)]:
            self._narrator.say("\n".join(messages))
        self._narrator.progress(self.fleet)

    def _messages(self, batch: Batch) -> Iterator[str]:
        """Yield the text of log records and of a total timeout for stderr. Not all levels are shown there."""
        for event in batch:
            if type(event) is LogRecorded:
                if not self._is_reader_gone and level_number(event) >= self._least_level:
                    yield log_lines(event)
            elif type(event) is RunTimedOut:
                pending = count(event.pending, "worker")
                yield f"asyncwatch: The run timed out after {event.timeout:g} s with {pending} pending."

    def _report_block(self) -> None:
        """Report a present block of the event loop once. Its event comes only at its end."""
        blocked = self._controller.statistics().blocked
        if blocked is not None and blocked.duration >= BLOCK_REPORTED_AFTER and not self._is_block_reported:
            self._is_block_reported = True
            self._narrator.say(f"asyncwatch: {printable(block_sentence(blocked))}, and still does")

    async def _show_summary(self) -> None:
        if self._is_quiet:
            return
        if self._is_reader_gone:
            return  # the workers were cancelled for that reason alone
        summary = summarize(self.fleet)
        if self._json:
            self._narrator.say("\n".join(summary_lines(summary, self._narrator.columns)))
        else:
            lines = summary_lines(summary, self._stdout.columns)
            await self._write("".join(f"{line}\n" for line in lines).encode(self._encoding, "backslashreplace"))

    @property
    def _is_reader_gone(self) -> bool:
        return self._stdout_error is not None and self._stdout_error.is_reader_gone

    async def _write(self, data: bytes) -> None:
        """Write to stdout. If that fails, stop the run and write nothing more."""
        if not self._stdout.is_open:
            return
        if self._stdout.is_terminal:
            self._narrator.clear()
        written = self._stdout.write(data)
        if written is not self._written:  # else the reader is behind, and this data waits with the rest
            self._written = written
            written.add_done_callback(self._note_written)
            await asyncio.wait((written,), timeout=SOON)

    def _note_written(self, written: asyncio.Future[None]) -> None:
        if written.cancelled() or not isinstance(error := written.exception(), OSError):
            return
        self._stop_without_stdout(error)

    def _stop_without_stdout(self, error: OSError) -> None:
        if self._stdout_error is not None:
            return
        self._stdout.discard()
        self._stdout_error = StdoutError(error)
        if not self._is_reader_gone:
            self._narrator.say(f"asyncwatch: {self._stdout_error}")
        if self.fleet.finished is None:
            self._stop()

    async def _until_written(self) -> None:
        """Wait until stdout has taken the data, and show the progress meanwhile. The second interrupt ends the wait."""
        written = self._written
        if written is None:
            return
        hurried = asyncio.ensure_future(self._is_hurried.wait())
        try:
            while not written.done() and not hurried.done():
                await asyncio.wait((written, hurried), timeout=self._narrator.interval, return_when=FIRST_COMPLETED)
                self._narrator.progress(self.fleet)
            if hurried.done():
                await asyncio.wait((written,), timeout=LAST_WRITE_TIMEOUT)
        finally:
            hurried.cancel()
        if not written.done():
            self._stdout.abandon()


class StdoutWriter:
    """Writes to stdout in a thread of its own, so that a slow reader blocks no event loop.

    Writes are made in order and whole, and the data that the stream has not taken waits in a `Spool`. The thread is a
    daemon: a write that never returns does not hold up the exit.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self.is_open = True
        self.is_terminal = stream.isatty()
        self._stream = stream
        self._spool = Spool()
        self._has_data = threading.Condition()
        self._written: asyncio.Future[None] | None = None
        self._thread: threading.Thread | None = None
        self._left = select.poll()
        with contextlib.suppress(OSError, ValueError):  # a stream of memory
            mode = os.fstat(stream.fileno()).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                self._left.register(stream.fileno(), 0)  # an error and a hang-up are reported unasked

    @property
    def columns(self) -> int | None:
        """The width of the terminal in cells; None if stdout is no terminal."""
        return terminal_columns(self._stream)

    def has_lost_reader(self) -> bool:
        """Return whether stdout is a pipe or a socket whose reader has left: a write would fail."""
        return self._left.poll(0) != []

    def write(self, data: bytes) -> asyncio.Future[None]:
        """Return a future that is done when all data is written and flushed. Its exception is an OSError.

        Data that is added before that has the same future.
        """
        with self._has_data:
            if self._written is None:
                self._written = asyncio.get_running_loop().create_future()
            written = self._written
            self._spool.append(data)
            self._has_data.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="stdout", daemon=True)
            self._thread.start()
        return written

    def abandon(self) -> None:
        """Write nothing more, although a write is still in progress."""
        self.is_open = False

    def discard(self) -> None:
        """Write nothing more after an error.

        Data that the stream still buffers goes nowhere: the interpreter flushes it on exit, which would fail again.
        """
        self.is_open = False
        with contextlib.suppress(OSError, ValueError):
            descriptor = self._stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)

    def _work(self) -> None:
        while True:
            with self._has_data:
                self._has_data.wait_for(lambda: self._spool)
                data = self._spool.pop()
            error: OSError | None = None
            try:
                write_whole(self._stream, memoryview(data))
            except ValueError:  # the stream was closed by other code
                error = OSError(errno.EBADF, os.strerror(errno.EBADF))
            except OSError as raised:
                error = raised
            with self._has_data:
                if self._spool and error is None:
                    continue
                self._spool.clear()
                written, self._written = self._written, None
            assert written is not None  # noqa: S101  there is one while there is data
            try:
                written.get_loop().call_soon_threadsafe(_settle, written, error)
            except RuntimeError:  # the loop is closed: the caller has left
                return


def _settle(written: asyncio.Future[None], error: OSError | None) -> None:
    if written.cancelled():
        return
    if error is None:
        written.set_result(None)
    else:
        written.set_exception(error)


class Spool:
    """FIFO queue of bytes: up to `SPOOL_MEMORY` bytes in memory, and the rest in a temporary file.

    If the file takes no more, the rest is kept in memory too.
    """

    def __init__(self) -> None:
        self._first: deque[bytes] = deque()
        self._first_size = 0
        self._file: BinaryIO | None = None
        self._taken = 0  # bytes of the file that were popped
        self._end = 0
        self._last: deque[bytes] = deque()

    def __bool__(self) -> bool:
        return bool(self._first or self._taken < self._end or self._last)

    def append(self, data: bytes) -> None:
        """Add data at the end."""
        is_in_order = not self._last and self._taken == self._end
        if is_in_order and self._first_size + len(data) <= SPOOL_MEMORY:
            self._first.append(data)
            self._first_size += len(data)
        elif self._last or not self._spill(data):
            self._last.append(data)

    def pop(self) -> bytes:
        """Remove and return the first data. The pieces can differ from those that were added."""
        if self._first:
            data = self._first.popleft()
            self._first_size -= len(data)
        elif self._file is not None and self._taken < self._end:
            self._file.seek(self._taken)
            data = self._file.read(min(_PIECE, self._end - self._taken))
            self._taken += len(data)
            if self._taken == self._end:
                self._taken = self._end = 0
                self._file.truncate(0)
        else:
            data = self._last.popleft()
        return data

    def clear(self) -> None:
        """Drop all data."""
        self._first.clear()
        self._last.clear()
        self._first_size = self._taken = self._end = 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def _spill(self, data: bytes) -> bool:
        """Write data to the file, and return whether that was possible."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="asyncwatch-", buffering=0)  # noqa: SIM115  stays open
            self._file.seek(self._end)
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            return False
        self._end += len(data)
        return True


class LossyWriter:
    """Text stream that never blocks: writes to `stream` in a thread of its own, and drops lines while it is not read.

    `NARRATION_MEMORY` characters wait for a reader. Later text is dropped, and the number of its lines is written where
    they are missing.
    """

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._encoding = encoding
        self._waiting: deque[str] = deque()
        self._size = 0
        self._dropped = 0
        self._written = 0
        self._is_writing = False
        self._error: OSError | ValueError | None = None
        self._changed = threading.Condition()
        self.isatty, self.fileno = stream.isatty, stream.fileno
        threading.Thread(target=self._work, name="stderr", daemon=True).start()

    def write(self, text: str) -> int:
        """Write `text` soon, or drop it.

        Raises:
            OSError: An earlier write has failed.
            ValueError: The stream is closed.

        """
        with self._changed:
            if self._error is not None:
                raise self._error
            if self._dropped or (self._waiting and self._size + len(text) > NARRATION_MEMORY):
                self._dropped += text.count("\n")
            else:
                self._add(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: text is written as soon as the stream takes it."""

    def finish(self) -> bool:
        """Wait while the stream takes text, and return whether it took all.

        A stream that takes nothing for `LAST_WRITE_TIMEOUT` seconds is left.
        """
        with self._changed:
            while self._error is None and (self._waiting or self._is_writing):
                written = self._written
                self._changed.wait(LAST_WRITE_TIMEOUT)
                if self._written == written and self._error is None:
                    return False
        return True

    def _add(self, text: str) -> None:
        self._waiting.append(text)
        self._size += len(text)
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                text = self._waiting.popleft()
                self._size -= len(text)
                self._is_writing = True
            try:
                data = memoryview(text.encode(self._encoding, "backslashreplace"))
                for start in range(0, len(data), _STEP):
                    write_whole(self._stream, data[start : start + _STEP])
                    self._written += 1  # shows `finish` that a slow reader reads
            except (OSError, ValueError) as error:
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._is_writing = False
                if self._dropped and self._size <= NARRATION_MEMORY // 2:
                    lines = count(self._dropped, "line")
                    self._dropped = 0
                    self._add(f"asyncwatch: {lines} dropped here: standard error was not read.\n")
                self._changed.notify_all()


def write_whole(stream: BinaryIO, data: memoryview) -> None:
    """Write all of `data` and flush, also to a stream that another process has made non-blocking."""
    while data:
        taken = stream.write(data)
        if taken:
            data = data[taken:]
        else:
            select.select((), (stream,), ())
    stream.flush()
