"""Writes to a pipe whose reader may be slow, or stopped: nobody waits for it who does not want to."""

from __future__ import annotations

import asyncio
import select
import threading
from queue import SimpleQueue
from typing import BinaryIO


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
