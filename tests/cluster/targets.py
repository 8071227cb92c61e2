"""Functions that the tests call on a cluster, by their names."""

from __future__ import annotations

# ruff: noqa: ASYNC240  the tests look at the files that functions write
import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from asyncwatch import current_worker

entered = 0


async def double(item: int) -> int:
    await asyncio.sleep(0)
    return 2 * item


async def where(_item: object) -> int:
    await asyncio.sleep(0.01)
    return os.getpid()


async def sleep(path: str) -> None:
    """Write when it has begun, and how it ends."""
    Path(path).write_text(f"{os.getpid()}", encoding="utf-8")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        Path(path).write_text("cancelled", encoding="utf-8")
        raise


async def clean_up(path: str) -> None:
    """Take a while to end when it is cancelled."""
    Path(path).write_text("begun", encoding="utf-8")
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.5)
        Path(path).write_text("cleaned", encoding="utf-8")


async def refuse_to_end(path: str) -> str:
    Path(path).write_text("begun", encoding="utf-8")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        return "ended by itself"
    return ""


async def die(_item: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def note(item: tuple[str, int, float]) -> int:
    """Append a line to the file of an item, and return after a while; below 0, when there is a file `go`."""
    folder, number, seconds = item
    with (Path(folder) / str(number)).open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    await asyncio.sleep(max(seconds, 0.0))
    while seconds < 0 and not (Path(folder) / "go").exists():  # noqa: ASYNC110  another process makes it
        await asyncio.sleep(0.1)
    return number


def plain(item: int) -> int:
    time.sleep(0.01)
    return item + 1


def plain_until_cancelled(path: str) -> None:
    Path(path).write_text("begun", encoding="utf-8")
    worker = current_worker()
    assert worker is not None
    while True:
        time.sleep(0.01)
        worker.check_cancelled()


async def fail(item: int) -> None:
    raise ConnectionResetError(f"no {item}")


class NotSentError(LookupError):
    """An error that pickle cannot make again."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")
        self.lock = __import__("threading").Lock()


async def fail_unsendable(_item: object) -> None:
    raise NotSentError(1, 2) from ValueError("the cause")


async def report(item: int) -> str:
    worker = current_worker()
    assert worker is not None
    worker.progress(item, 10, "page")
    worker.status("half way")
    print(f"line {item}")  # noqa: T201  prints are captured
    await asyncio.sleep(0.05)
    return f"{worker.name} {worker.incarnation} {worker.attempt} {worker.bad_luck:.6f}"


async def fail_at_first(_item: object) -> int:
    worker = current_worker()
    assert worker is not None
    if worker.attempt < 3:
        raise ConnectionResetError(f"attempt {worker.attempt}")
    return worker.attempt


@asynccontextmanager
async def lifespan() -> AsyncIterator[dict[str, int]]:
    global entered  # noqa: PLW0603  it counts per process
    entered += 1
    yield {"entered": entered, "pid": os.getpid()}


async def use(_item: object, value: dict[str, int]) -> dict[str, int]:
    await asyncio.sleep(0.02)
    return value


async def large(item: int) -> bytes:
    return bytes(item)


async def unsendable(_item: object) -> object:
    return __import__("threading").Lock()
