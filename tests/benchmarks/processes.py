"""Programs in processes of their own: what they print, how long they take, how much memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PEERS = Path(__file__).parent / "peers"
"""Where the peers are; asyncwatch runs there, so that it finds `jobs`."""
ROOT = Path(__file__).parents[2]
ASYNCWATCH = str(Path(sys.executable).with_name("asyncwatch"))
"""The installed command."""


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a peer: nobody's own settings of asyncwatch, and its code compiled as if installed."""
    return {**os.environ, "XDG_CONFIG_HOME": str(PEERS), "PYTHONDONTWRITEBYTECODE": "", **more}


def run_json(module: str, *arguments: object) -> Any:
    """Run a module of the benchmarks and return the JSON that it prints."""
    command = [sys.executable, "-m", f"tests.benchmarks.peers.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def run_process(command: Sequence[str], **more: str) -> None:
    """Run a command to its end, which has to be a success; what it says is thrown away. `more` is environment."""
    subprocess.run(
        command,
        cwd=PEERS,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )


@contextmanager
def silent(command: Sequence[str], **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command that nobody listens to, and end it if it has not ended by then."""
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
    """Wait until `condition()` holds, as `process` sees to."""
    while not condition():
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        time.sleep(0.05)


def memory_of(pid: int) -> int:
    """Return the bytes of memory that a process has in use now."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except FileNotFoundError:
        command = ["/bin/ps", "-o", "rss=", "-p", str(pid)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


def steady_memory_of(pid: int, looks: int) -> int:
    """Return the bytes of memory that a process has in use once they are the same for so many quarters of a second."""
    last, steady = memory_of(pid), 0
    while steady < looks:
        time.sleep(0.25)
        now = memory_of(pid)
        steady = steady + 1 if abs(now - last) <= last / 1000 else 0
        last = now
    return last


def wait_for_peak(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a process, which has to be a success, and return the most bytes it ever had in use."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
