"""Processes that publish, list and end runs at the same time, while some are killed, or while their folder is removed.

Run it as `python -m tests.control.crowd SEED`, with `remove` as a second argument to remove the folder.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from asyncwatch.control.discovery import Publication, alive, ended, publish, select

PROCESSES = 30
KILLED = 40
_STEPS = 5


def kill_some(seed: int) -> int:
    """Keep processes at work until enough of them have been killed. Return the number of those that failed."""
    rng = random.Random(seed)
    reading, writing = os.pipe()
    children = [_start(step, rng.random(), writing) for _ in range(PROCESSES)]
    killed = 0
    failed = 0
    while children:
        if killed < KILLED:
            os.read(reading, rng.randint(1, 20))  # a byte is a step of some process
            os.kill(rng.choice(children), signal.SIGKILL)
            killed += 1
        while children:
            pid, status = os.waitpid(-1, 0 if killed == KILLED else os.WNOHANG)
            if not pid:
                break
            children.remove(pid)
            failed += status not in {0, signal.SIGKILL}
            if killed < KILLED:
                children.append(_start(step, rng.random(), writing))
    return failed


def remove_folder(seed: int) -> int:
    """Remove the folder of sockets while processes are at work. Return the number of those that failed."""
    rng = random.Random(seed)
    reading, writing = os.pipe()
    children = [_start(step_without_folder, rng.random(), writing) for _ in range(PROCESSES)]
    os.close(writing)
    while os.read(reading, rng.randint(1, 20)):
        shutil.rmtree(Path(os.environ["XDG_RUNTIME_DIR"]) / "asyncwatch", ignore_errors=True)
    return sum(os.waitpid(pid, 0)[1] != 0 for pid in children)


def _start(work: Callable[[random.Random, int], None], seed: float, progress: int) -> int:
    pid = os.fork()
    if not pid:
        rng = random.Random(seed)
        try:
            for _ in range(_STEPS):
                work(rng, progress)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def step(rng: random.Random, progress: int) -> None:
    """Publish a run and end it, while nothing else touches its files."""
    publication = publish(f"run of {os.getpid()}", ["asyncwatch"], protocol=1)
    _check(publication)
    if rng.random() < 0.3:
        Path(publication.socket_path).unlink()
        publication.socket.close()
        assert publication.refresh() is publication.socket
        _check(publication)
    os.write(progress, b".")
    run_id = publication.record.id
    if rng.random() < 0.5:
        publication.end(0, {"by": os.getpid()})
        assert select(run_id).id in {record.id for record in ended()}
    else:
        publication.withdraw()
    publication.socket.close()
    assert run_id not in {record.id for record in alive()}
    os.write(progress, b".")


def step_without_folder(rng: random.Random, progress: int) -> None:
    """Publish a run, refresh it until it is found, and end it, while others remove the folder."""
    publication = publish(f"run of {os.getpid()}", ["asyncwatch"], protocol=1)
    os.write(progress, b".")
    for tries in itertools.count(1):
        before = publication.socket
        if publication.refresh() is not None:
            before.close()
        if publication.record in alive():
            break
        assert tries < 100
    os.write(progress, b".")
    publication.end(0)
    publication.socket.close()
    assert publication.record.id not in {record.id for record in alive()}


def _check(publication: Publication) -> None:
    """Check that others find the run and can connect to it."""
    record = publication.record
    assert select(record.id) == record
    assert record in alive()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(record.socket_path)


if __name__ == "__main__":
    _, given, *mode = sys.argv
    sys.exit((remove_folder if mode else kill_some)(int(given)))
