"""Writes to a pipe whose reader may be slow, or stopped: nobody waits for it who does not want to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import threading
import time
from asyncio import FIRST_COMPLETED
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import BinaryIO, TextIO

from asyncwatch.cli.progress import Narrator, is_warning, log_lines, terminal_columns
from asyncwatch.commands import Controller, StopRun
from asyncwatch.events import Batch, LogRecorded, RunTimedOut, encode
from asyncwatch.events.run import block_sentence
from asyncwatch.model.fleet import RunTime
from asyncwatch.model.reducer import Fleet
from asyncwatch.model.summary import summarize, summary_lines
from asyncwatch.text import printable


class PatientWriter:
    """Writes in a thread of its own, in order and whole. The thread ends with the process, whatever it waits for."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._jobs: SimpleQueue[tuple[bytes, asyncio.Future[None]]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def write(self, data: bytes) -> asyncio.Future[None]:
        """Return a future of the running loop that is done when `data` is written and flushed.

        Its exception is an OSError if that was not possible.
        """
        done = asyncio.get_running_loop().create_future()
        self._jobs.put((data, done))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="stdout", daemon=True)
            self._thread.start()
        return done

    def _work(self) -> None:
        while True:
            data, done = self._jobs.get()
            error: OSError | None = None
            try:
                self._put(memoryview(data))
            except OSError as raised:
                error = raised
            try:
                done.get_loop().call_soon_threadsafe(_settle, done, error)
            except RuntimeError:  # the loop has been closed: nobody waits for it any more
                return

    def _put(self, data: memoryview) -> None:
        while data:
            count = self._stream.write(data)
            if count:
                data = data[count:]
            else:  # the pipe is full, and was made not to block by somebody else who holds it
                select.select((), (self._stream,), ())
        self._stream.flush()


def _settle(done: asyncio.Future[None], error: OSError | None) -> None:
    if done.cancelled():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


_LAST_WORDS = 1.0
"""Seconds that stdout gets to take what it is given once the run is to end at once."""
TOLD_AFTER = 1.0
"""Seconds after which a block of the event loop that goes on is told."""


class StdoutError(Exception):
    """Standard output could not be written, and the run was stopped for it if it had not ended.

    `is_reader_gone` says that whoever read it wanted no more (`| head`), which is no fault.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to stdout: {error.strerror or error}")
        self.is_reader_gone = isinstance(error, BrokenPipeError)


async def run_headless(
    controller: Controller,
    *,
    json: bool,
    stdout: BinaryIO,
    stderr: TextIO,
    on_batch: Callable[[Batch], str | None] | None = None,
    stop_signals: Iterable[int] = (),
    clock: Callable[[], float] = time.monotonic,
) -> Fleet:
    """Follow the run of `controller` to its end and return what became of it.

    With `json`, stdout gets every event as one JSON object a line and nothing else, and the summary goes to
    stderr; without it, stdout gets the summary. `on_batch` sees every batch first, and what it returns is said on
    stderr. The first of `stop_signals` stops the run, the second leaves the workers no more time to end, the third ends
    the wait at once: then `Fleet.finished` is None. Signals need the main thread. A stdout that cannot be written, or
    that nobody reads any more, stops the run too. One that is read slowly does not: the events wait in memory, and none
    is lost before the second signal.

    Raises:
        StdoutError: some of what belongs on stdout is not there. All else was done as ever.

    """
    follower = Follower(controller, json=json, stdout=stdout, stderr=stderr, on_batch=on_batch, clock=clock)
    loop = asyncio.get_running_loop()
    signals = tuple(stop_signals)
    for number in signals:
        loop.add_signal_handler(number, follower.interrupt)
    try:
        return await follower.follow()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


class Follower:
    """Follows one run; `interrupt` may be called while `follow` waits, on the same event loop."""

    def __init__(
        self,
        controller: Controller,
        *,
        json: bool,
        stdout: BinaryIO,
        stderr: TextIO,
        on_batch: Callable[[Batch], str | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fleet = Fleet()
        self._controller = controller
        self._json = json
        self._stdout: BinaryIO | None = stdout
        self._writer = PatientWriter(stdout)
        self._shares_terminal = stdout.isatty()
        self._time = RunTime(clock)
        self._narrator = Narrator(stderr, clock=clock)
        self._on_batch = on_batch
        self._queue: asyncio.Queue[Batch] | None = None
        self._interrupts = 0
        self._is_block_told = False
        self._hurried = asyncio.Event()  # set by the second interrupt
        self._is_left = False  # by the third
        self._stdout_error: StdoutError | None = None

    def interrupt(self) -> None:
        """Stop the run and wait for its end; at the second call, let it end at once; at the third, do not wait."""
        self._interrupts += 1
        if self._interrupts == 1:
            self._stop()
            what = "workers have their time to end"
            if self.fleet.tree.is_supervised:
                what = "the last started first, and until its turn a service goes on"
            self._narrator.say(f"asyncwatch: stopping: {what}; once more to end all at once")
            return
        self._hurried.set()
        if self._interrupts == 2:
            self._controller.send(StopRun(at_once=True))
            self._narrator.say("asyncwatch: stopping at once: who does not end is left behind; once more to leave")
            return
        self._is_left = True
        if self._queue is not None:
            self._queue.put_nowait(())  # wakes `follow`

    def _stop(self) -> None:
        self._narrator.stopping = self.fleet.workers - self.fleet.settled
        self._controller.send(StopRun())

    async def follow(self) -> Fleet:
        """Consume the events up to the last one, then give the summary. Return the Fleet.

        Raises:
            StdoutError: as in `run_headless`.

        """
        self._queue = self._controller.events()
        while self.fleet.finished is None and not self._is_left:
            batch: Batch = ()
            with contextlib.suppress(TimeoutError):
                # Progress that came too early for a line of its own is due although nothing else happens.
                async with asyncio.timeout(self._narrator.interval):
                    batch = await self._queue.get()
            await self._take(batch)
            if batch:
                self._is_block_told = False
            else:
                self._warn_of_block()
        self.fleet.left_at = self._time.now
        self._narrator.finish(self.fleet)
        await self._summarize()
        if self._stdout_error is not None:
            raise self._stdout_error
        return self.fleet

    def _warn_of_block(self) -> None:
        """Say, once, that something blocks the event loop of the run: no event can tell that before it ends."""
        blocked = self._controller.statistics().blocked
        if blocked is not None and blocked.duration >= TOLD_AFTER and not self._is_block_told:
            self._is_block_told = True
            self._narrator.say(f"asyncwatch: {printable(block_sentence(blocked))}, and still does")

    async def _summarize(self) -> None:
        if self._is_left_alone:
            return  # whoever wanted no more wants no list of what was cancelled for it
        summary = summarize(self.fleet)
        if self._json:
            self._narrator.say("\n".join(summary_lines(summary, self._narrator.columns)))
        elif self._stdout is not None:
            lines = summary_lines(summary, terminal_columns(self._stdout))
            await self._write("".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))

    async def _take(self, batch: Batch) -> None:
        if self._on_batch is not None and (news := self._on_batch(batch)):
            self._narrator.say(f"asyncwatch: {news}")
        self._time.note(batch)
        self.fleet.apply_batch(batch)
        if self._json and batch:
            await self._write(b"".join([encode(event) + b"\n" for event in batch]))
        for event in batch:
            if isinstance(event, LogRecorded) and self._is_told(event):
                self._narrator.say(log_lines(event))
            elif isinstance(event, RunTimedOut):
                workers = "worker" if event.pending == 1 else "workers"
                self._narrator.say(
                    f"asyncwatch: timed out after {event.timeout:g} s with {event.pending:,} {workers} pending"
                )
        self._narrator.progress(self.fleet)

    def _is_told(self, log: LogRecorded) -> bool:
        """Return whether a record is said on stderr: all are but those that are on stdout and no warnings."""
        return not self._is_left_alone and (not self._json or is_warning(log))

    @property
    def _is_left_alone(self) -> bool:
        """Whether the reader of stdout is gone: what happens to the workers then interests nobody."""
        return self._stdout_error is not None and self._stdout_error.is_reader_gone

    async def _write(self, data: bytes) -> None:
        """Write and flush; a stdout that fails stops the run and gets nothing more, nor does one that was left."""
        if self._stdout is None:
            return
        if self._shares_terminal:
            self._narrator.clear()
        try:
            await self._until_written(self._writer.write(data))
        except OSError as error:
            self._stdout_error = StdoutError(error)
            if not self._stdout_error.is_reader_gone:
                self._narrator.say(f"asyncwatch: {self._stdout_error}")
            _discard(self._stdout)
            self._stdout = None
            if self.fleet.finished is None:
                self._stop()

    async def _until_written(self, written: asyncio.Future[None]) -> None:
        """Wait until stdout has taken what was written; show the progress meanwhile, and let a person end the wait."""
        hurried = asyncio.ensure_future(self._hurried.wait())
        try:
            while not written.done() and not hurried.done():
                await asyncio.wait((written, hurried), timeout=self._narrator.interval, return_when=FIRST_COMPLETED)
                self._narrator.progress(self.fleet)
            if hurried.done():
                await asyncio.wait((written,), timeout=_LAST_WORDS)
        finally:
            hurried.cancel()
        if written.done():
            written.result()
        else:
            self._stdout = None


def _discard(stream: BinaryIO) -> None:
    """Send what `stream` still buffers to nowhere, or the interpreter complains when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
