"""A cluster of processes on this machine: a Dask scheduler and workers, under TLS with certificates of their own.

Each process ends when its lifeline does, which is a pipe from this process: nothing is left behind, however this
process ends. A worker process that ends before is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
from distributed.security import Security

from asyncwatch.cluster.errors import ClusterError
from asyncwatch.cluster.node import Role

START_PATIENCE: Final = 60.0
"""Seconds that a process gets to start."""
END_PATIENCE: Final = 6.0
"""Seconds that processes get to end, before they are killed."""
_MOST_FAILED_STARTS: Final = 3
"""Worker processes that may end in a row before they have started."""
OnLine = Callable[[str, str], object]
"""Gets the name of a process and a line that it has written to standard error."""


class _Process:
    """One process of the cluster. Its ends are reported on the event loop."""

    def __init__(self, role: Role, on_line: OnLine, on_end: Callable[[_Process], object]) -> None:
        self.role = role
        self.address = asyncio.get_running_loop().create_future()
        self.last_lines: deque[str] = deque(maxlen=5)
        self._loop = asyncio.get_running_loop()
        self._on_line, self._on_end = on_line, on_end
        environment = os.environ | {"DASK_LOGGING__DISTRIBUTED": "error", "OMP_NUM_THREADS": "1"}
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "asyncwatch.cluster.node"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self.send(msgspec.json.encode(role))
        for target in (self._read_answers, self._read_lines):
            threading.Thread(target=target, name=f"asyncwatch {role.name}", daemon=True).start()

    def send(self, line: bytes) -> None:
        """Write a line to the lifeline."""
        assert self._popen.stdin is not None  # noqa: S101  it is a pipe
        with contextlib.suppress(OSError):  # it has ended, which is reported
            self._popen.stdin.write(line + b"\n")
            self._popen.stdin.flush()

    def end(self) -> None:
        """End the lifeline."""
        assert self._popen.stdin is not None  # noqa: S101  it is a pipe
        with contextlib.suppress(OSError):
            self._popen.stdin.close()

    def kill(self) -> None:
        """End the process at once."""
        self._popen.kill()

    def wait(self, seconds: float) -> None:
        """Wait for the end of the process, and kill it when the time is over."""
        try:
            self._popen.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def _read_answers(self) -> None:
        assert self._popen.stdout is not None  # noqa: S101  it is a pipe
        with self._popen.stdout as answers:
            line = answers.readline().decode().strip()
            if line:
                self._call(self._started, line)
                answers.read()
        self._popen.wait()
        self.end()
        self._call(self._on_end, self)

    def _started(self, address: str) -> None:
        if not self.address.done():
            self.address.set_result(address)

    def _read_lines(self) -> None:
        assert self._popen.stderr is not None  # noqa: S101  it is a pipe
        with self._popen.stderr as lines:
            for line in lines:
                text = line.decode(errors="backslashreplace").rstrip()
                self.last_lines.append(text)
                self._call(self._on_line, self.role.name, text)

    def _call(self, function: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *args)


class LocalCluster:
    """A scheduler and so many workers, each in a process.

    Args:
        processes: workers.
        ttl: seconds without a sign of a worker after which it is taken for lost.
        on_line: gets what the processes write to standard error.
        on_scheduler_end: called when the scheduler has ended, which ends the cluster.

    """

    def __init__(self, processes: int, *, ttl: float, on_line: OnLine, on_scheduler_end: Callable[[], object]) -> None:
        self.security = Security.temporary()
        self.address = ""
        """Of the scheduler."""
        self._processes = processes
        self._ttl = ttl
        self._on_line = on_line
        self._on_scheduler_end = on_scheduler_end
        self._folder = ""
        self._all: set[_Process] = set()
        self._number = 0
        self._failed_starts = 0
        self._is_closing = False

    @property
    def running(self) -> int:
        """How many workers have started and not ended."""
        return sum(process.address.done() and not process.role.is_scheduler for process in self._all)

    async def start(self) -> None:
        """Start all processes.

        Raises:
            ClusterError: one of them has not started.

        """
        self._folder = tempfile.mkdtemp(prefix="asyncwatch-cluster-")
        try:
            scheduler = self._spawn("scheduler", self._scheduler_ended)
            workers = [self._spawn_worker() for _ in range(self._processes)]
            self.address = await self._started(scheduler)
            for worker in workers:
                worker.send(self.address.encode())
            await asyncio.gather(*map(self._started, workers))
        except BaseException:
            await self.close()
            raise

    def _spawn(self, name: str, on_end: Callable[[_Process], object]) -> _Process:
        security = {
            key: getattr(self.security, key)
            for key in (
                "tls_ca_file",
                "tls_client_key",
                "tls_client_cert",
                "tls_scheduler_key",
                "tls_scheduler_cert",
                "tls_worker_key",
                "tls_worker_cert",
            )
        }
        role = Role(
            name=name,
            is_scheduler=name == "scheduler",
            security=security | {"require_encryption": True},
            folder=self._folder,
            path=[each or os.getcwd() for each in sys.path],  # noqa: PTH109  a text
            ttl=self._ttl,
        )
        process = _Process(role, self._on_line, on_end)
        self._all.add(process)
        return process

    def _spawn_worker(self) -> _Process:
        self._number += 1
        return self._spawn(f"process {self._number}", self._worker_ended)

    async def _started(self, process: _Process) -> str:
        try:
            async with asyncio.timeout(START_PATIENCE):
                address: str = await process.address
        except TimeoutError:
            raise ClusterError(f"the {process.role.name} of the cluster has not started in time") from None
        return address

    def _worker_ended(self, process: _Process) -> None:
        self._all.discard(process)
        if self._is_closing:
            return
        if not process.address.done():
            self._failed_starts += 1
            process.address.set_exception(ClusterError(_why("a process of the cluster", process)))
            process.address.exception()  # it may be awaited by no one
        else:
            self._failed_starts = 0
        if self._failed_starts < _MOST_FAILED_STARTS and self.address:
            self._spawn_worker().send(self.address.encode())

    def _scheduler_ended(self, process: _Process) -> None:
        self._all.discard(process)
        if not process.address.done():
            process.address.set_exception(ClusterError(_why("the scheduler of the cluster", process)))
        elif not self._is_closing:
            self._is_closing = True  # no worker can be started without it
            self._on_scheduler_end()

    async def close(self) -> None:
        """End all processes and remove their folder."""
        self._is_closing = True
        processes = list(self._all)
        for process in processes:
            process.end()
        ending = asyncio.get_running_loop().run_in_executor(None, partial(_wait_for, processes))
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            for process in processes:
                process.kill()
            await ending
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def _wait_for(processes: list[_Process]) -> None:
    ends_at = time.monotonic() + END_PATIENCE
    for process in processes:
        process.wait(ends_at - time.monotonic())


def _why(what: str, process: _Process) -> str:
    last = f": {process.last_lines[-1]}" if process.last_lines else ""
    return f"{what} has not started{last}"
