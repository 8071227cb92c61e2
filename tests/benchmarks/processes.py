"""Programs in processes of their own: their output, run time and memory."""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Cost

PEERS = Path(__file__).parent / "peers"
"""Folder of the peers. asyncwatch runs here, so that it finds `jobs`."""
ROOT = Path(__file__).parents[2]
ASYNCWATCH = str(Path(sys.executable).with_name("asyncwatch"))
"""The installed command."""


_state = tempfile.TemporaryDirectory(prefix="asyncwatch-benchmark-")


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a peer: no config or journals of a user, bytecode cached as if installed."""
    folders = {"XDG_CONFIG_HOME": str(PEERS), "XDG_STATE_HOME": _state.name}
    return {**os.environ, **folders, "PYTHONDONTWRITEBYTECODE": "", **more}


def run_json(module: str, *arguments: object) -> Any:
    """Run a module of `peers` and return the JSON that it prints."""
    done = subprocess.run(peer(module, *arguments), cwd=ROOT, env=environment(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return json.loads(done.stdout)


def peer(module: str, *arguments: object) -> list[str]:
    """Return the command that runs a module of `peers`."""
    return [sys.executable, "-m", f"tests.benchmarks.peers.{module}", *map(str, arguments)]


def cost_of(command: Sequence[str], *, status: int = 0, errors: Path | None = None, cwd: Path = PEERS) -> Cost:
    """Return the cost of a whole process, with the processes that it started and waited for.

    It has to end with `status`. Its stderr goes to the file `errors`, else nowhere, as its stdout does.
    """
    with (errors or Path(os.devnull)).open("wb") as stderr:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=cwd, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
        )
        usage = wait_for(process, status)
        return Cost(usage.ru_utime + usage.ru_stime, time.perf_counter() - start)


@contextmanager
def silent(command: Sequence[str], **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command inside the context, discard its output, and kill it on exit. `more` is environment."""
    process = subprocess.Popen(
        command,
        cwd=PEERS,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_until(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Wait until `process` has made `condition()` true."""
    while not condition():
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        time.sleep(0.05)


def processor_time_of(pid: int) -> float:
    """Return the processor seconds of a process and of all that it has started and that still run.

    NaN on systems other than Linux, which do not have a clock for each process.
    """
    if sys.platform != "linux":
        return math.nan
    # The clock of another process, as clock_getcpuclockid(3) makes it.
    return time.clock_gettime(~pid << 3 | 2) + sum(map(processor_time_of, children_of(pid)))


def children_of(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started and that still run. Linux only."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the thread has ended
            yield from map(int, (task / "children").read_text(encoding="ascii").split())


def memory_of(pid: int) -> int:
    """Return the resident set size of a process in bytes."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except FileNotFoundError:
        command = ["/bin/ps", "-o", "rss=", "-p", str(pid)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


def steady_memory_of(pid: int, looks: int) -> int:
    """Return the resident set size of a process in bytes once it has been steady for `looks` quarters of a second."""
    last, steady = memory_of(pid), 0
    while steady < looks:
        time.sleep(0.25)
        now = memory_of(pid)
        steady = steady + 1 if abs(now - last) <= last / 1000 else 0
        last = now
    return last


def wait_for(process: subprocess.Popen[bytes], status: int = 0) -> resource.struct_rusage:
    """Wait for a process that has to end with `status`, and return what it used."""
    _, ended, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(ended)
    if process.returncode != status:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return usage


def wait_for_peak(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process that has to succeed, and return its peak resident set size in bytes."""
    return wait_for(process).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
